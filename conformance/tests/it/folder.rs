//! Folders.

use std::sync::Arc;

use mill_conformance::{Keep, StoreLimits, StoreSubject};
use mill_local::OsClock;
use mill_local::folder::{FolderSettings, FolderStore, Layout};
use mill_model::{AccountId, StoreAddress, StoreId};
use mill_testkit::MemoryTable;

async fn store() -> StoreSubject {
    let directory = tempfile::tempdir().unwrap();
    let store = FolderStore::open(FolderSettings {
        address: StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() },
        root: directory.path().to_owned(),
        layout: Layout::Spaces,
        sidecars: Some(Arc::new(MemoryTable::new("sidecars"))),
        clock: Arc::new(OsClock),
    });
    StoreSubject { store: Arc::new(store), limits: StoreLimits::NONE, keep: Keep::this(directory) }
}

mill_conformance::store_suite!(stores, crate::folder::store, versions_in_listings: yes);
mill_simulation::audited_change_suite!(audited, crate::folder::store, copies_by_itself: no);
