//! What is particular to a store in memory; what it shares with others is proven in `conformance`.

use futures::TryStreamExt as _;

use super::*;
use crate::ManualClock;

fn store(behavior: StoreBehavior) -> (MemoryStore, Arc<ManualClock>) {
    let address = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
    let clock = Arc::new(ManualClock::new());
    (MemoryStore::new(address, behavior, clock.clone()), clock)
}

fn item(id: &str) -> ItemAddress {
    ItemAddress { space: SpaceId::new("space").unwrap(), id: ContentId::new(id).unwrap() }
}

async fn read(store: &MemoryStore, item: &ItemAddress) -> Result<Vec<u8>, StoreError> {
    let reading = store.open(item, None, None).await.unwrap().present().unwrap();
    reading.body.map_ok(|piece| piece.to_vec()).try_concat().await
}

#[tokio::test]
async fn planting_is_no_write_and_every_call_that_could_write_is_one() {
    let (store, _) = store(StoreBehavior::default());
    store.insert(&item("a"), "bytes", Properties::default());
    store.head(&item("a")).await.unwrap();
    read(&store, &item("a")).await.unwrap();
    assert_eq!(store.writes(), 0);
    store.delete(&item("b"), &Precondition::Always).await.unwrap();
    store.put_properties(&item("b"), &Properties::default(), &Precondition::Always).await.unwrap_err();
    assert_eq!(store.writes(), 2);
}

#[tokio::test]
async fn rot_changes_the_bytes_and_nothing_that_is_told_of_them() {
    let (store, _) = store(StoreBehavior::default());
    store.insert(&item("a"), "bytes", Properties::default());
    let before = store.head(&item("a")).await.unwrap().present().unwrap();
    store.rot(&item("a"), |bytes| bytes[0] ^= 1);
    let after = store.head(&item("a")).await.unwrap().present().unwrap();
    assert_eq!((before.version, before.checksums, before.size), (after.version, after.checksums, after.size));
    assert_eq!(read(&store, &item("a")).await.unwrap(), b"cytes");
    store.rot(&item("a"), |bytes| bytes.truncate(2));
    assert_eq!(read(&store, &item("a")).await.unwrap_err().kind, StoreErrorKind::Unexpected);
}

#[tokio::test]
async fn a_version_settles_with_age() {
    let (store, clock) = store(StoreBehavior { settles_after: Duration::from_secs(2), ..StoreBehavior::default() });
    store.insert(&item("a"), "bytes", Properties::default());
    let settled = async || store.head(&item("a")).await.unwrap().present().unwrap().version.settled();
    assert!(!settled().await);
    clock.step(Duration::from_secs(2));
    assert!(settled().await);
}

#[tokio::test]
async fn what_cannot_be_an_item_is_refused_by_name() {
    let (store, _) = store(StoreBehavior { unholdable: Some(|id| id.as_str() == "no"), ..StoreBehavior::default() });
    store.insert_refused(&item("link"), RefusalReason::SymbolicLink);
    let pages: Vec<_> = store.list(&item("link").space, None).try_collect().await.unwrap();
    assert!(
        matches!(&pages[0].entries[..], [mill_ports::ListEntry::Refused { shown, reason: RefusalReason::SymbolicLink }] if shown == "link")
    );
    let error = store.head(&item("link")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused(RefusalReason::SymbolicLink));
    let content = PutRequest::new(0, Properties::default());
    let body = futures::stream::empty().boxed();
    let error = store.put(&item("no"), &content, &Precondition::Always, body).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_))), "{error:?}");
}

#[tokio::test]
async fn an_item_that_changes_while_it_is_read_ends_in_an_error_unless_reads_are_snapshots() {
    for (reads_are_snapshots, whole) in [(false, false), (true, true)] {
        let (store, _) = store(StoreBehavior { piece_bytes_max: 2, reads_are_snapshots, ..StoreBehavior::default() });
        store.insert(&item("a"), "bytes", Properties::default());
        let mut body = store.open(&item("a"), None, None).await.unwrap().present().unwrap().body;
        body.try_next().await.unwrap().unwrap();
        store.insert(&item("a"), "other", Properties::default());
        let rest = body.try_collect::<Vec<Bytes>>().await;
        assert_eq!(rest.is_ok(), whole);
        assert!(whole || rest.is_err_and(|error| error.kind == StoreErrorKind::Changed));
    }
}

/// Asks for another spelling, on the proof of an item in the state in which it stands now.
async fn respell(store: &MemoryStore, from: &str, to: &str, compared: &str) -> Result<bool, StoreErrorKind> {
    let found = store.head(&item(compared)).await.unwrap().present();
    let version = found.map_or_else(|| Version::unsettled("none"), |found| found.version);
    let [from, to] = [from, to].map(String::from);
    let respelling = Respelling { from, to, compared: item(compared).id, version };
    store.respell(&item("x").space, &respelling).await.map_err(|error| error.kind)
}

#[tokio::test]
async fn a_store_that_folds_names_keeps_twins_out_and_spells_them_otherwise_when_asked() {
    let (store, _) = store(StoreBehavior { folds_names: true, ..StoreBehavior::default() });
    let space = item("x").space;
    store.insert(&item("Photos/a"), "bytes", Properties::default());
    let content = PutRequest::new(0, Properties::default());
    for (id, there) in
        [("photos/a", "Photos"), ("photos/new", "Photos"), ("PHOTOS/", "Photos"), ("Photos/A", "Photos/a")]
    {
        assert!(store.head(&item(id)).await.unwrap().present().is_none());
        let error =
            store.put(&item(id), &content, &Precondition::Always, futures::stream::empty().boxed()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refused(RefusalReason::Twin(there.into())), "{id}");
        assert_eq!(store.delete(&item(id), &Precondition::Always).await.unwrap(), Presence::Absent);
    }
    assert!(store.folds_names(&space).await.unwrap());
    assert_eq!(respell(&store, "other", "OTHER", "other").await, Ok(false));
    assert_eq!(respell(&store, "Photos/", "photos/", "Photos/a").await, Ok(true));
    assert_eq!(read(&store, &item("photos/a")).await.unwrap(), b"bytes");
    for (from, to) in [("photos/", "albums/"), ("photos/", "Photos")] {
        assert_eq!(respell(&store, from, to, "photos/a").await, Err(StoreErrorKind::Unexpected), "{from} {to}");
    }
}

#[tokio::test]
async fn what_was_written_anew_since_it_was_compared_keeps_its_name() {
    let (store, _) = store(StoreBehavior { folds_names: true, ..StoreBehavior::default() });
    store.insert(&item("Photos/a"), "compared", Properties::default());
    let version = store.head(&item("Photos/a")).await.unwrap().present().unwrap().version;
    store.insert(&item("Photos/a"), "another", Properties::default());
    let respelling =
        Respelling { from: "Photos/".into(), to: "photos/".into(), compared: item("Photos/a").id, version };
    for compared in ["Photos/a", "Photos/gone", "other"] {
        let respelling = Respelling { compared: item(compared).id, ..respelling.clone() };
        let error = store.respell(&item("x").space, &respelling).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Precondition, "{compared}");
    }
    assert_eq!(read(&store, &item("Photos/a")).await.unwrap(), b"another");
}

#[tokio::test]
async fn an_item_beside_a_directory_of_its_name_is_spelled_otherwise_alone_and_so_is_the_directory() {
    let (store, _) = store(StoreBehavior { folds_names: true, ..StoreBehavior::default() });
    let space = item("x").space;
    for id in ["a", "a/b", "c", "c/"] {
        store.insert(&item(id), id.to_owned(), Properties::default());
    }
    let ids = || {
        let contents = store.contents(&space).unwrap();
        contents.keys().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
    };
    for (from, to, there) in [
        ("a", "A", ["A", "a/b", "c", "c/"]),
        ("a", "A", ["A", "a/b", "c", "c/"]),
        ("c/", "C/", ["A", "C/", "a/b", "c"]),
        ("a/", "A/", ["A", "A/b", "C/", "c"]),
        ("A", "a", ["A/b", "C/", "a", "c"]),
    ] {
        let first = ids() != there;
        let compared = ids().into_iter().find(|id| id == from || from.ends_with('/') && id.starts_with(from));
        let compared = compared.unwrap_or_else(|| to.to_owned());
        assert_eq!(respell(&store, from, to, &compared).await, Ok(first), "{from}");
        assert_eq!(ids(), there, "{from}");
    }
    let content = PutRequest::new(0, Properties::default());
    let put =
        async |id: &str| store.put(&item(id), &content, &Precondition::Always, futures::stream::empty().boxed()).await;
    // What has its name keeps it, whatever stands beside it. A new one is taken for that of its own sort first.
    for id in ["a", "A/b", "A/new", "C/", "c"] {
        put(id).await.unwrap();
    }
    for (id, there) in [("A", "a"), ("a/b", "A"), ("C", "c"), ("c/x", "C"), ("C/X", "c")] {
        let refused = put(id).await.map(|_| ()).map_err(|error| error.kind);
        let expected =
            if id == "C/X" { Ok(()) } else { Err(StoreErrorKind::Refused(RefusalReason::Twin(there.into()))) };
        assert_eq!(refused, expected, "{id}");
    }
    assert_eq!(respell(&store, "c", "a", "c").await, Err(StoreErrorKind::Unexpected));
    store.insert(&item("C"), "C", Properties::default());
    assert_eq!(respell(&store, "c", "C", "c").await, Err(StoreErrorKind::Refused(RefusalReason::Twin("c".into()))));
}
