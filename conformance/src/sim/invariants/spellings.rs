//! A destination's item is given another spelling of its name only if nothing at the source has the old one, and only if it
//! is a copy of what the source has under the new one.

use mill_model::{ItemAddress, StoreAddress};

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::truth::{Truth, back};

pub(super) struct OwnNames;

impl Invariant for OwnNames {
    fn name(&self) -> &'static str {
        "names are their items' own"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Respelled { by, store, item, from, path, holds, called } = event else { return Ok(()) };
        let before = ItemAddress { space: item.space.clone(), id: (*from).clone() };
        let sources: std::collections::BTreeSet<_> = truth
            .wishes
            .iter()
            .flat_map(|(_, wishes)| wishes.arriving_in(store, &item.space))
            .map(|copying| StoreAddress { account: store.account.clone(), store: copying.source.clone() })
            .collect();
        let mut why = String::from("no policy has a source for it");
        for source in sources.iter().filter_map(|address| truth.shelves.get(address)) {
            let has = source.live_since(&before).is_some_and(|since| since < back(*called, truth.terms.tries_age));
            // With a directory all that lies in it goes along, the item of its own name too; one of them proved it.
            let whole = item.id.as_str() == *path && !path.ends_with('/');
            let held = |life: &crate::sim::truth::Life| life.holds.is_some_and(|print| print.bytes == holds.bytes);
            if has {
                why = String::from("its source has it under that name");
            } else if whole && !source.lives(item).iter().any(held) {
                why = format!("its source never had {holds} under the new name");
            } else {
                return Ok(());
            }
        }
        Err(format!("{by} gave {before} in {store} the name {item}: {why}"))
    }
}
