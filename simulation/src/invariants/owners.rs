//! A destination space has one source until the table of owners names another.

use std::collections::BTreeMap;

use mill_model::{SpaceId, StoreAddress, StoreId};

use super::Invariant;
use crate::event::{Event, USERS};
use crate::model::WorldModel;

#[derive(Default)]
pub(super) struct OneOwner {
    /// The rows of the table: the source that owns a space.
    owners: BTreeMap<(String, String), String>,
}

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "a destination space has one source"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        match event {
            Event::Row { table: "owners", partition, sort, value, .. } => {
                let key = ((*partition).to_owned(), (*sort).to_owned());
                match value {
                    Some(owner) => self.owners.insert(key, String::from_utf8_lossy(owner).into_owned()),
                    None => self.owners.remove(&key),
                };
                Ok(())
            }
            Event::Item { by, store, item, holds: Some(fingerprint), damaged: false, .. } if *by != USERS => {
                let Some(owner) = self.owner(store, &item.space) else {
                    return Err(format!("{by} wrote {item} into {store}, whose space belongs to nobody"));
                };
                let held = model.stores.get(&owner).is_some_and(|store_model| {
                    store_model
                        .snapshots(item)
                        .iter()
                        .any(|snapshot| snapshot.holds.is_some_and(|holds| holds.bytes == fingerprint.bytes))
                });
                if held {
                    Ok(())
                } else {
                    Err(format!("{by} wrote {item} into {store} from another source than {owner}"))
                }
            }
            _ => Ok(()),
        }
    }
}

impl OneOwner {
    fn owner(&self, store: &StoreAddress, space: &SpaceId) -> Option<StoreAddress> {
        let partition = format!("{}/{}", store.account.as_str(), store.store.as_str());
        let owner = self.owners.get(&(partition, space.as_str().to_owned()))?;
        let (_, source) = owner.split_once('/')?;
        Some(StoreAddress { account: store.account.clone(), store: StoreId::new(source).ok()? })
    }
}
