use std::time::Duration;

use futures::channel::mpsc;
use futures::stream;
use mill_model::Monotonic;
use mill_testkit::{ManualClock, MemoryStore, StoreBehavior};

use super::*;
use crate::LimitedStore;

/// One write waits for its source and makes the other one wait at the store.
#[tokio::test]
async fn of_a_write_it_is_known_since_when_its_store_is_waited_for() {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let (clock, statistics) = (Arc::new(ManualClock::new()), Arc::<Statistics>::default());
    let memory = MemoryStore::new(address.clone(), StoreBehavior::default(), clock.clone());
    let space = SpaceId::new("s").unwrap();
    memory.create_space(&space).await.unwrap();
    let one_at_once = Arc::new(LimitedStore::new(Arc::new(memory), 1));
    let store = TrackedStore::new(one_at_once, address.clone(), statistics.clone(), clock.clone());
    let item = |id: &str| ItemAddress { space: space.clone(), id: ContentId::new(id).unwrap() };
    let (track_body, waiting) = (item("fed"), item("waiting"));
    let content = |size| PutRequest::new(size, Properties::default());
    let (one_byte, nothing) = (content(1), content(0));
    let (pieces, body) = mpsc::unbounded();
    let mut first = store.put(&track_body, &one_byte, &Precondition::Always, body.boxed());
    assert!(futures::poll!(&mut first).is_pending());
    assert!(statistics.pending_writes().is_empty());
    clock.step(Duration::from_secs(5));
    let began: Monotonic = clock.monotonic();
    let mut second = store.put(&waiting, &nothing, &Precondition::Always, stream::empty().boxed());
    assert!(futures::poll!(&mut second).is_pending());
    clock.step(Duration::from_secs(45));
    assert_eq!(statistics.pending_writes(), [(address, began)].into());
    pieces.unbounded_send(Ok("x".into())).unwrap();
    drop(pieces);
    first.await.unwrap();
    second.await.unwrap();
    assert!(statistics.pending_writes().is_empty());
    assert!(statistics.pending_calls().is_empty());
}
