//! What is particular to a store in memory; what it shares with others is proven in `conformance`.

use futures::TryStreamExt as _;

use super::*;
use crate::HandClock;

fn store(habits: StoreHabits) -> (MemoryStore, Arc<HandClock>) {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let clock = Arc::new(HandClock::new());
    (MemoryStore::new(address, habits, clock.clone()), clock)
}

fn item(id: &str) -> ItemAddress {
    ItemAddress { space: SpaceId::new("space").unwrap(), id: ContentId::new(id).unwrap() }
}

async fn read(store: &MemoryStore, item: &ItemAddress) -> Result<Vec<u8>, StoreError> {
    let reading = store.open(item, None, None).await.unwrap().here().unwrap();
    reading.body.map_ok(|piece| piece.to_vec()).try_concat().await
}

#[tokio::test]
async fn planting_is_no_write_and_every_call_that_could_write_is_one() {
    let (store, _) = store(StoreHabits::default());
    store.plant(&item("a"), "bytes", Properties::default());
    store.head(&item("a")).await.unwrap();
    read(&store, &item("a")).await.unwrap();
    assert_eq!(store.writes(), 0);
    store.delete(&item("b"), &When::Always).await.unwrap();
    store.put_properties(&item("b"), &Properties::default(), &When::Always).await.unwrap_err();
    assert_eq!(store.writes(), 2);
}

#[tokio::test]
async fn rot_changes_the_bytes_and_nothing_that_is_told_of_them() {
    let (store, _) = store(StoreHabits::default());
    store.plant(&item("a"), "bytes", Properties::default());
    let before = store.head(&item("a")).await.unwrap().here().unwrap();
    store.rot(&item("a"), |bytes| bytes[0] ^= 1);
    let after = store.head(&item("a")).await.unwrap().here().unwrap();
    assert_eq!((before.version, before.checksums, before.size), (after.version, after.checksums, after.size));
    assert_eq!(read(&store, &item("a")).await.unwrap(), b"cytes");
    store.rot(&item("a"), |bytes| bytes.truncate(2));
    assert_eq!(read(&store, &item("a")).await.unwrap_err().kind, StoreErrorKind::Unexpected);
}

#[tokio::test]
async fn a_version_settles_with_age() {
    let (store, clock) = store(StoreHabits { settles_after: Duration::from_secs(2), ..StoreHabits::default() });
    store.plant(&item("a"), "bytes", Properties::default());
    let settled = async || store.head(&item("a")).await.unwrap().here().unwrap().version.settled();
    assert!(!settled().await);
    clock.step(Duration::from_secs(2));
    assert!(settled().await);
}

#[tokio::test]
async fn what_cannot_be_an_item_is_refused_by_name() {
    let (store, _) = store(StoreHabits { unholdable: Some(|id| id.as_str() == "no"), ..StoreHabits::default() });
    store.plant_refused(&item("link"), Refusal::SymbolicLink);
    let pages: Vec<_> = store.list(&item("link").space, None).try_collect().await.unwrap();
    assert!(
        matches!(&pages[0].entries[..], [mill_ports::Listed::Refused { shown, reason: Refusal::SymbolicLink }] if shown == "link")
    );
    let error = store.head(&item("link")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused(Refusal::SymbolicLink));
    let content = Content { size: 0, properties: Properties::default() };
    let body = futures::stream::empty().boxed();
    let error = store.put(&item("no"), &content, &When::Always, body).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Refused(Refusal::Unholdable(_))), "{error:?}");
}

#[tokio::test]
async fn an_item_that_changes_while_it_is_read_ends_in_an_error_unless_reads_are_snapshots() {
    for (reads_are_snapshots, whole) in [(false, false), (true, true)] {
        let (store, _) = store(StoreHabits { piece_bytes_max: 2, reads_are_snapshots, ..StoreHabits::default() });
        store.plant(&item("a"), "bytes", Properties::default());
        let mut body = store.open(&item("a"), None, None).await.unwrap().here().unwrap().body;
        body.try_next().await.unwrap().unwrap();
        store.plant(&item("a"), "other", Properties::default());
        let rest = body.try_collect::<Vec<Bytes>>().await;
        assert_eq!(rest.is_ok(), whole);
        assert!(whole || rest.is_err_and(|error| error.kind == StoreErrorKind::Changed));
    }
}
