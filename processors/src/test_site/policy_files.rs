//! Policy files that a test changes, and the book that reads them.

use std::sync::Arc;
use std::time::Duration;

use mill_engine::{MemoryStore, StoreBehavior};
use mill_model::{AccountId, ContentId, ItemAddress, Properties, SpaceId, StoreAddress, StoreId};
use mill_records::policies::PolicyRepository;

use super::Site;

/// A folder of policy files, and the book that reads them.
#[derive(Debug)]
pub(crate) struct PolicyFiles {
    store: MemoryStore,
    space: SpaceId,
}

impl PolicyFiles {
    pub(crate) fn of(site: &Site) -> Self {
        let address =
            StoreAddress { account: AccountId::new("mill").unwrap(), store: StoreId::new("policies").unwrap() };
        let files = Self {
            store: MemoryStore::new(address, StoreBehavior::default(), site.clock.clone()),
            space: SpaceId::new("policies").unwrap(),
        };
        files.write("duplication-accounts.json", r#"["a"]"#);
        files.write(
            "a-stores.json",
            r#"{"stores": [
                {"id": "s", "type": "folder", "root": "s", "primary": true},
                {"id": "d", "type": "folder", "root": "d"}
            ]}"#,
        );
        files.removes(true);
        files
    }

    pub(crate) fn write(&self, file: &str, text: &'static str) {
        let item = ItemAddress { space: self.space.clone(), id: ContentId::new(file).unwrap() };
        self.store.insert(&item, text, Properties::default());
    }

    pub(crate) fn removes(&self, removes: bool) {
        const REMOVES: &str =
            r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "s", "destStoreId": "d"}]}"#;
        const KEEPS: &str =
            r#"{"removeVanished": false, "defaultPolicies": [{"srcStoreId": "s", "destStoreId": "d"}]}"#;
        self.write("a-duplication-policy.json", if removes { REMOVES } else { KEEPS });
    }

    /// Takes all files away.
    pub(crate) fn remove(&self) {
        self.store.remove_space(&self.space);
    }

    pub(crate) fn book(&self, site: &Site) -> PolicyRepository {
        PolicyRepository::of_store(
            Arc::new(self.store.clone()),
            self.space.clone(),
            site.clock.clone(),
            Duration::from_secs(1),
        )
    }
}
