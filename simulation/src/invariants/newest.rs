//! While an item exists at a destination, no older state of its source ever replaces a newer one.

use mill_model::{StoreAddress, StoreId};

use super::Invariant;
use crate::event::{Event, USERS};
use crate::model::WorldModel;

pub(super) struct NeverBack;

impl Invariant for NeverBack {
    fn name(&self) -> &'static str {
        "newer is never overwritten by older"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Item { by, store, item, holds: Some(fingerprint), .. } = event else { return Ok(()) };
        if *by == USERS {
            return Ok(());
        }
        let [.., before, _] = model.stores.get(*store).map_or(&[][..], |store_model| store_model.snapshots(item))
        else {
            return Ok(());
        };
        let Some(stood) = before.holds else { return Ok(()) };
        let mut sources: Vec<&StoreId> = model
            .policy_history
            .iter()
            .flat_map(|(_, desired_policies)| desired_policies.copies_into(store, &item.space))
            .map(|desired_copy| &desired_copy.source)
            .collect();
        sources.sort();
        sources.dedup();
        // With several sources over time, states have no single order.
        let [source] = sources[..] else { return Ok(()) };
        let address = StoreAddress::of(&store.account, source);
        let snapshots = model.stores.get(&address).map_or(&[][..], |store_model| store_model.snapshots(item));
        let newest = snapshots.iter().rposition(|snapshot| snapshot.holds == Some(*fingerprint));
        let oldest = snapshots.iter().position(|snapshot| snapshot.holds == Some(stood));
        match (newest, oldest) {
            (Some(newest), Some(oldest)) if newest < oldest => Err(format!(
                "{by} wrote state {newest} of {item} in {store} over state {oldest} of its source {source}"
            )),
            _ => Ok(()),
        }
    }
}
