//! An item of a destination is respelled only if the source has no item under the old spelling, and only if it is a copy of the
//! source's item under the new spelling.

use mill_model::{ItemAddress, StoreAddress};

use super::Invariant;
use crate::event::Event;
use crate::model::{WorldModel, back};

pub(super) struct OwnNames;

impl Invariant for OwnNames {
    fn name(&self) -> &'static str {
        "names are their items' own"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Respelled { by, store, item, from, path, holds, called } = event else { return Ok(()) };
        let before = ItemAddress { space: item.space.clone(), id: (*from).clone() };
        let sources: std::collections::BTreeSet<_> = model
            .policy_history
            .iter()
            .flat_map(|(_, desired_policies)| desired_policies.copies_into(store, &item.space))
            .map(|desired_copy| StoreAddress::of(&store.account, &desired_copy.source))
            .collect();
        let mut why = String::from("no policy has a source for it");
        for source in sources.iter().filter_map(|address| model.stores.get(address)) {
            let has =
                source.present_since(&before).is_some_and(|since| since < back(*called, model.tolerances.tries_age));
            // With a directory all its items are respelled, also an item of its own name; one of them was the proof.
            let whole = item.id.as_str() == *path && !path.ends_with('/');
            let held = |snapshot: &crate::model::ItemSnapshot| {
                snapshot.holds.is_some_and(|fingerprint| fingerprint.bytes == holds.bytes)
            };
            if has {
                why = String::from("its source has it under that name");
            } else if whole && !source.snapshots(item).iter().any(held) {
                why = format!("its source never had {holds} under the new name");
            } else {
                return Ok(());
            }
        }
        Err(format!("{by} gave {before} in {store} the name {item}: {why}"))
    }
}
