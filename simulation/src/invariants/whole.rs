//! An item of a destination equals a state that its source really had, in bytes and properties.

use std::collections::BTreeSet;

use mill_model::{StoreAddress, StoreId};

use super::Invariant;
use crate::event::{ContentFingerprint, Event, USERS};
use crate::model::{StoreModel, WorldModel};

pub(super) struct WholeItems;

impl Invariant for WholeItems {
    fn name(&self) -> &'static str {
        "items are whole"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Item { by, store, item, holds: Some(fingerprint), damaged: false, .. } = event else {
            return Ok(());
        };
        if *by == USERS {
            return Ok(());
        }
        let desired_policies = model
            .policy_history
            .iter()
            .flat_map(|(_, desired_policies)| desired_policies.copies_into(store, &item.space));
        let sources: BTreeSet<&StoreId> = desired_policies.map(|desired_copy| &desired_copy.source).collect();
        let known = |source: &StoreId| {
            let address = StoreAddress::of(&store.account, source);
            model.stores.get(&address).is_some_and(|store_model| once_held(store_model, item, fingerprint))
        };
        if sources.iter().any(|source| known(source)) {
            return Ok(());
        }
        Err(format!("{by} left {fingerprint} as {item} in {store}; no source of it ({sources:?}) ever held that"))
    }
}

fn once_held(store_model: &StoreModel, item: &mill_model::ItemAddress, fingerprint: &ContentFingerprint) -> bool {
    // A change of properties alone may meet bytes of an earlier state that equal the current ones.
    store_model.snapshots(item).iter().any(|snapshot| snapshot.holds.as_ref() == Some(fingerprint))
}
