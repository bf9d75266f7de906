use std::sync::Arc;

use mill_model::Properties;
use mill_testkit::{
    FaultKind, FaultPlan, FaultyStore, InjectedFault, ManualClock, MemoryStore, PortCall, SeededRng, StoreBehavior,
};

use super::*;

const LARGE: &str = "a-duplication-policy.json";

/// Files of a bucket in which reading the bytes of the first object fails.
fn bucket() -> PolicyFiles {
    let clock = Arc::new(ManualClock::new());
    let address = StoreAddress { account: "mill".parse().unwrap(), store: "policies".parse().unwrap() };
    let space: SpaceId = "policies".parse().unwrap();
    let objects = MemoryStore::new(address.clone(), StoreBehavior::default(), clock.clone());
    let stores = r#"{"stores": [{"id": "1", "type": "folder", "root": "/a", "primary": true}]}"#;
    let large = " ".repeat(FILE_BYTES_MAX + 1);
    for (name, text) in [(LARGE, &*large), ("a-stores.json", stores), ("duplication-accounts.json", "[\"a\"]")] {
        let item = ItemAddress { space: space.clone(), id: ContentId::new(name).unwrap() };
        objects.insert(&item, text.to_owned(), Properties::default());
    }
    let plan = FaultPlan::new(clock, Arc::new(SeededRng::new(1)));
    plan.fail(PortCall::Open, 1, InjectedFault::Mid(FaultKind::Unavailable));
    let store = Arc::new(FaultyStore::new(Arc::new(objects), address, plan));
    let place = PolicyLocation::Bucket { shown: "s3://policies".into(), store, space };
    PolicyFiles { place, base: PathBuf::from("/") }
}

fn is_of_large_file(diagnostic: &PolicyDiagnostic) -> bool {
    diagnostic.file == LARGE && diagnostic.message.contains("1048577 bytes")
}

#[tokio::test]
async fn a_check_refuses_an_object_too_large_by_name_and_does_not_read_it() {
    let checked = bucket().check().await.unwrap();
    assert_eq!(checked.files, 3);
    assert!(checked.diagnostics.len() == 1 && is_of_large_file(&checked.diagnostics[0]), "{checked:?}");
}

#[tokio::test]
async fn an_account_with_an_object_too_large_has_no_policy() {
    let error = bucket().account("a").await.unwrap_err();
    let unreadable = error.downcast_ref::<PolicyUnreadable>().unwrap();
    assert!(unreadable.diagnostics.iter().all(is_of_large_file), "{unreadable:?}");
}

#[tokio::test]
async fn a_file_too_large_in_a_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(LARGE), " ".repeat(FILE_BYTES_MAX + 1)).unwrap();
    std::fs::write(folder.path().join("duplication-accounts.json"), "[]").unwrap();
    let checked = PolicyFiles::in_folder(folder.path(), folder.path()).check().await.unwrap();
    assert!(checked.diagnostics.iter().any(is_of_large_file), "{checked:?}");
}
