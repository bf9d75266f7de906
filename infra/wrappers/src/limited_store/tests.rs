use mill_model::{AccountId, StoreAddress, StoreId};
use mill_testkit::{ManualClock, MemoryStore, StoreBehavior};

use super::*;

fn store() -> (LimitedStore<MemoryStore>, ItemAddress) {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let memory = MemoryStore::new(address, StoreBehavior::default(), Arc::new(ManualClock::new()));
    let item = ItemAddress { space: SpaceId::new("s").unwrap(), id: ContentId::new("a").unwrap() };
    memory.insert(&item, "bytes", Properties::default());
    (LimitedStore::new(Arc::new(memory), 1), item)
}

#[tokio::test]
async fn an_open_item_counts_until_its_body_is_dropped() {
    let (store, item) = store();
    let reading = store.open(&item, None, None).await.unwrap();
    let mut second = store.open(&item, None, None);
    assert!(futures::poll!(&mut second).is_pending());
    drop(reading);
    assert!(second.await.unwrap().present().is_some());
}

#[tokio::test]
async fn a_write_waits_for_writes_and_not_for_reads() {
    let (store, item) = store();
    let _reading = store.open(&item, None, None).await.unwrap();
    let content = PutRequest::new(0, Properties::default());
    let mut first = store.put(&item, &content, &Precondition::Always, stream::pending().boxed());
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = store.put(&item, &content, &Precondition::Always, stream::empty().boxed());
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    second.await.unwrap();
}

#[tokio::test]
async fn an_absent_item_holds_nothing() {
    let (store, item) = store();
    let absent = ItemAddress { id: ContentId::new("b").unwrap(), ..item };
    for _ in 0..3 {
        assert!(store.open(&absent, None, None).await.unwrap().present().is_none());
    }
    assert_eq!(store.capabilities().transfers_max, Some(1));
}
