use std::os::unix::fs::PermissionsExt;

use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, TableError};
use parking_lot::Mutex;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_put_is_read_again_with_all_its_properties() {
    let scratch = Scratch::new();
    for (n, pairs) in [
        vec![],
        vec![("file-mode", "0640"), ("file-mtime", "1234567890.000000007")],
        vec![("file-mode", "0444"), ("file-mtime", "-7.500000000"), ("content-type", "text/plain"), ("é \"", "日\n本")],
        vec![("content-type", "x/y")],
        vec![("file-mode", "4755"), ("file-mtime", "yesterday")],
    ]
    .into_iter()
    .enumerate()
    {
        for id in [format!("d{n}/x"), format!("e{n}/")] {
            let bytes: &[u8] = if id.ends_with('/') { b"" } else { b"bytes" };
            let written = put(&scratch.store, &id, bytes, properties(&pairs), &Precondition::Absent).await.unwrap();
            let facts = head(&scratch.store, &id).await.unwrap();
            assert_eq!(facts.properties, Some(properties(&pairs)), "{id}");
            assert_eq!(facts.version, written.version);
            assert_eq!(read(&scratch.store, &id).await.unwrap(), bytes);
        }
    }
    assert_eq!(mode(&scratch.path("d1/x")), 0o640);
    assert_eq!(mode(&scratch.path("d4/x")) & 0o7000, 0, "nobody becomes another by a copy");
}

#[tokio::test]
async fn a_copy_with_an_old_time_is_settled_at_once_and_one_without_is_not() {
    let scratch = Scratch::new();
    let old = properties(&[("file-mtime", "1000000000.000000000")]);
    assert!(put(&scratch.store, "old", b"x", old, &Precondition::Always).await.unwrap().version.settled());
    assert!(!scratch.put("new", b"x", &Precondition::Always).await.unwrap().version.settled());
}

#[tokio::test]
async fn properties_are_replaced_in_place() {
    let scratch = Scratch::new();
    let before =
        put(&scratch.store, "x", b"bytes", properties(&[("a", "1"), ("file-mode", "0400")]), &Precondition::Always);
    let before = before.await.unwrap().version;
    for pairs in [vec![("b", "2")], vec![("file-mode", "0600"), ("file-mtime", "5.000000000")], vec![]] {
        let written = scratch.store.put_properties(&at("x"), &properties(&pairs), &Precondition::Always).await.unwrap();
        let facts = head(&scratch.store, "x").await.unwrap();
        assert_eq!((facts.properties, facts.version), (Some(properties(&pairs)), written.version));
        assert_eq!(read(&scratch.store, "x").await.unwrap(), b"bytes");
    }
    let stale = scratch.store.put_properties(&at("x"), &properties(&[]), &Precondition::VersionIs(before)).await;
    assert_eq!(kind(stale), StoreErrorKind::Precondition);
    let none = scratch.store.put_properties(&at("none"), &properties(&[]), &Precondition::Always).await;
    assert_eq!(kind(none), StoreErrorKind::Precondition);
}

#[tokio::test]
async fn properties_of_a_file_with_other_names_go_to_a_file_of_its_own() {
    let scratch = Scratch::new();
    let old = properties(&[("file-mode", "0640"), ("file-mtime", "1000000000.000000000"), ("a", "1")]);
    let before = put(&scratch.store, "x", &vec![7; 700_000], old.clone(), &Precondition::Always).await.unwrap().version;
    // Like a snapshot by `cp -al`, or a copy that shares its files with the source.
    let snapshot = scratch.root().join("snapshot");
    std::fs::hard_link(scratch.path("x"), &snapshot).unwrap();
    let linked = head(&scratch.store, "x").await.unwrap().version;
    let new = properties(&[("file-mode", "0600"), ("file-mtime", "1200000000.000000000"), ("b", "2")]);
    let stale = scratch.store.put_properties(&at("x"), &new, &Precondition::VersionIs(before)).await;
    assert_eq!(kind(stale), StoreErrorKind::Precondition);
    let written = scratch.store.put_properties(&at("x"), &new, &Precondition::VersionIs(linked)).await.unwrap();
    let facts = head(&scratch.store, "x").await.unwrap();
    assert_eq!((facts.properties, facts.version), (Some(new), written.version));
    assert_eq!(read(&scratch.store, "x").await.unwrap(), vec![7; 700_000]);
    std::fs::rename(snapshot, scratch.path("y")).unwrap();
    assert_eq!(head(&scratch.store, "y").await.unwrap().properties, Some(old), "the other name has what it had");
    assert_eq!(left_in_progress(scratch.root()), 0);
}

#[tokio::test]
async fn a_time_that_was_set_in_place_proves_nothing_of_the_bytes() {
    let scratch = Scratch::new();
    let at_time = |time, pairs: &[(&str, &str)]| properties(&[&[("file-mtime", time)], pairs].concat());
    put(&scratch.store, "x", b"bytes", at_time("1.000000000", &[]), &Precondition::Always).await.unwrap();
    let settled = async |properties| {
        scratch.store.put_properties(&at("x"), &properties, &Precondition::Always).await.unwrap().version.settled()
    };
    assert!(settled(at_time("1.000000000", &[("a", "b"), ("file-mode", "0600")])).await, "its time is as it was");
    assert!(!settled(at_time("2.000000000", &[])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_others_while_properties_are_set_is_never_hidden() {
    let scratch = Scratch::new();
    for round in 0..400_u64 {
        let time = |seconds| [("file-mtime", seconds), ("a", "b")];
        let first = properties(&time("1000000000.000000000")[..1]);
        let before = put(&scratch.store, "x", b"bytes", first, &Precondition::Always).await.unwrap().version;
        let path = scratch.path("x");
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round % 40 * 5));
            std::os::unix::fs::FileExt::write_all_at(
                &std::fs::File::options().write(true).open(path).unwrap(),
                b"other",
                0,
            )
        });
        let to = if round % 2 == 0 { "1000000000.000000000" } else { "1100000000.000000000" };
        let set =
            scratch.store.put_properties(&at("x"), &properties(&time(to)), &Precondition::VersionIs(before)).await;
        writer.join().unwrap().unwrap();
        let Ok(written) = set else { continue };
        let now = head(&scratch.store, "x").await.unwrap().version;
        assert!(!written.version.settled() || now != written.version, "round {round}");
    }
}

#[tokio::test]
async fn a_body_of_another_size_or_with_an_error_leaves_nothing() {
    let scratch = Scratch::new();
    for (size, sent) in [(5, 4), (5, 6), (0, 1), (300_000, 299_999), (300_000, 300_001)] {
        let content = PutRequest::new(size, properties(&[]));
        let put = scratch.store.put(&at("x/y"), &content, &Precondition::Always, body(&vec![1; sent])).await;
        assert_eq!(kind(put), StoreErrorKind::Unexpected, "{size} {sent}");
    }
    let store = StoreAddress { account: AccountId::new("other").unwrap(), store: StoreId::new("9").unwrap() };
    let damaged = StoreError { kind: StoreErrorKind::Damaged, op: "read", store, subject: "y".into(), source: None };
    let chunks = stream::iter([Ok(Bytes::from(vec![1; 300_000])), Err(damaged)]).boxed();
    let content = PutRequest::new(400_000, properties(&[]));
    let error = scratch.store.put(&at("x/y"), &content, &Precondition::Always, chunks).await.unwrap_err();
    assert_eq!((error.kind, error.op, error.subject.as_str()), (StoreErrorKind::Damaged, "read", "y"));
    assert!(ids(&scratch.store).await.is_empty());
    assert_eq!(left_in_progress(scratch.root()), 0);
}

fn left_in_progress(root: &Path) -> usize {
    let Ok(all) = std::fs::read_dir(root.join(".mill-in-progress")) else { return 0 };
    all.map(|own| std::fs::read_dir(own.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn each_condition_of_a_write_is_kept() {
    let scratch = Scratch::new();
    let one = scratch.put("x", b"1", &Precondition::Absent).await.unwrap().version;
    assert_eq!(kind(scratch.put("x", b"2", &Precondition::Absent).await), StoreErrorKind::Precondition);
    let two = scratch.put("x", b"22", &Precondition::VersionIs(one.clone())).await.unwrap().version;
    assert_eq!(kind(scratch.put("x", b"3", &Precondition::VersionIs(one.clone())).await), StoreErrorKind::Precondition);
    assert_eq!(
        kind(scratch.put("y/z", b"3", &Precondition::VersionIs(one.clone())).await),
        StoreErrorKind::Precondition
    );
    assert_eq!(kind(scratch.put("y/", b"", &Precondition::VersionIs(one.clone())).await), StoreErrorKind::Precondition);
    assert_eq!(kind(scratch.store.delete(&at("x"), &Precondition::VersionIs(one)).await), StoreErrorKind::Precondition);
    assert_eq!(read(&scratch.store, "x").await.unwrap(), b"22");
    assert!(!scratch.path("y").exists(), "a write refused leaves no directories");
    assert_eq!(scratch.store.delete(&at("x"), &Precondition::VersionIs(two)).await.unwrap(), Presence::Present(()));
    assert_eq!(scratch.store.delete(&at("x"), &Precondition::Always).await.unwrap(), Presence::Absent);
}

#[tokio::test]
async fn ids_that_stand_in_each_others_way_are_refused() {
    let scratch = Scratch::new();
    scratch.put("a", b"x", &Precondition::Always).await.unwrap();
    scratch.put("b/c", b"x", &Precondition::Always).await.unwrap();
    for id in ["a/b", "a/", "b", "a/b/c"] {
        for when in [Precondition::Always, Precondition::Absent] {
            let refused = kind(scratch.put(id, b"", &when).await);
            assert!(matches!(refused, StoreErrorKind::Refused(RefusalReason::PathConflict(_))), "{id} {refused:?}");
        }
    }
    let long = "y".repeat(256);
    for id in ["/a", "a//b", "../x", "./x", "x\0", long.as_str()] {
        let refused = kind(scratch.put(id, b"", &Precondition::Always).await);
        assert!(matches!(refused, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_))), "{id:?}");
    }
    assert!(matches!(kind(scratch.put("d/", b"x", &Precondition::Always).await), StoreErrorKind::Refused(_)));
    assert_eq!(ids(&scratch.store).await, ["a", "b/c"]);
}

#[tokio::test]
async fn directories_come_and_go_with_what_lies_in_them() {
    let scratch = Scratch::new();
    scratch.put("e/x/y", b"1", &Precondition::Absent).await.unwrap();
    scratch.store.delete(&at("e/x/y"), &Precondition::Always).await.unwrap();
    scratch.put("d/", b"", &Precondition::Absent).await.unwrap();
    assert_eq!(kind(scratch.put("d/", b"", &Precondition::Absent).await), StoreErrorKind::Precondition);
    assert_eq!(ids(&scratch.store).await, ["d/"]);
    scratch.put("d/x/y", b"1", &Precondition::Absent).await.unwrap();
    scratch.put("d/z", b"1", &Precondition::Absent).await.unwrap();
    assert_eq!(ids(&scratch.store).await, ["d/x/y", "d/z"]);
    scratch.store.delete(&at("d/x/y"), &Precondition::Always).await.unwrap();
    assert_eq!(ids(&scratch.store).await, ["d/z"]);
    scratch.store.delete(&at("d/z"), &Precondition::Always).await.unwrap();
    assert_eq!(ids(&scratch.store).await, ["d/"], "an item of its own stays");
    scratch.store.delete(&at("d/"), &Precondition::Always).await.unwrap();
    assert!(ids(&scratch.store).await.is_empty());
    scratch.put("f/", b"", &Precondition::Absent).await.unwrap();
    scratch.put("f/x", b"1", &Precondition::Absent).await.unwrap();
    assert_eq!(scratch.store.delete(&at("f/"), &Precondition::Always).await.unwrap(), Presence::Absent);
    scratch.store.delete(&at("f/x"), &Precondition::Always).await.unwrap();
    assert!(ids(&scratch.store).await.is_empty(), "deleted, it is only what lies in it");
    assert!(scratch.path("").is_dir(), "the space stays");
}

#[tokio::test]
async fn spaces_are_made_and_removed_only_when_empty() {
    let scratch = Scratch::new();
    let new = SpaceId::new("new").unwrap();
    scratch.store.create_space(&new).await.unwrap();
    scratch.store.create_space(&new).await.unwrap();
    assert!(scratch.store.space(&new).await.unwrap().present().is_some());
    scratch.put("x/", b"", &Precondition::Always).await.unwrap();
    assert_eq!(kind(scratch.store.remove_empty_space(&space()).await), StoreErrorKind::Precondition);
    scratch.store.remove_empty_space(&new).await.unwrap();
    scratch.store.remove_empty_space(&new).await.unwrap();
    assert_eq!(scratch.store.spaces().await.unwrap(), [space()]);
    let item = ItemAddress { space: new.clone(), id: ContentId::new("x/y").unwrap() };
    let content = PutRequest::new(0, properties(&[]));
    assert_eq!(
        kind(scratch.store.put(&item, &content, &Precondition::Always, body(b"")).await),
        StoreErrorKind::SpaceAbsent
    );
    assert!(scratch.store.space(&new).await.unwrap().present().is_none());
    let reserved = SpaceId::new(".mill-in-progress").unwrap();
    assert_eq!(kind(scratch.store.create_space(&reserved).await), StoreErrorKind::Refused(RefusalReason::Reserved));
}

#[tokio::test]
async fn what_a_crash_left_in_progress_is_removed_and_a_living_process_keeps_its_own() {
    let scratch = Scratch::new();
    let dead = scratch.root().join(".mill-in-progress/00000000deadbeef");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("0"), b"half").unwrap();
    scratch.put("x", b"1", &Precondition::Always).await.unwrap();
    assert!(!dead.exists());
    let other = scratch.other();
    put(&other, "y", b"1", properties(&[]), &Precondition::Always).await.unwrap();
    assert_eq!(std::fs::read_dir(scratch.root().join(".mill-in-progress")).unwrap().count(), 2);
    other.finish().await;
    scratch.put("z", b"1", &Precondition::Always).await.unwrap();
    let Scratch { directory, store } = scratch;
    drop(store);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["s"], "nothing but spaces stays");
}

#[tokio::test]
async fn a_store_that_is_only_read_is_not_written() {
    let scratch = Scratch::new();
    scratch.file("x", b"1");
    read(&scratch.store, "x").await.unwrap();
    ids(&scratch.store).await;
    assert_eq!(std::fs::read_dir(scratch.root()).unwrap().count(), 1);
}

#[tokio::test]
async fn somebody_removing_the_directory_in_progress_stops_nothing() {
    let scratch = Scratch::new();
    scratch.put("x", b"1", &Precondition::Always).await.unwrap();
    std::fs::remove_dir_all(scratch.root().join(".mill-in-progress")).unwrap();
    scratch.put("y", b"1", &Precondition::Always).await.unwrap();
    assert_eq!(ids(&scratch.store).await, ["x", "y"]);
}

/// A table in memory without preconditions, which this store does not use.
#[derive(Debug, Default)]
pub(super) struct Rows(Mutex<BTreeMap<RowKey, Bytes>>);

#[async_trait::async_trait]
impl Table for Rows {
    fn name(&self) -> &'static str {
        "sidecars"
    }
    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let value = self.0.lock().get(key).cloned();
        Ok(value.map(|value| Row { sort: key.sort.clone(), value, version: RowVersion("1".into()) }))
    }
    async fn put(&self, key: &RowKey, value: Bytes, _: RowPrecondition) -> Result<RowVersion, TableError> {
        self.0.lock().insert(key.clone(), value);
        Ok(RowVersion("1".into()))
    }
    async fn put_many(&self, _: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        unimplemented!()
    }
    async fn delete(&self, key: &RowKey, _: RowPrecondition) -> Result<(), TableError> {
        self.0.lock().remove(key);
        Ok(())
    }
    async fn query(&self, _: &str, _: &KeyRange, _: usize) -> Result<RowPage, TableError> {
        unimplemented!()
    }
}

#[tokio::test]
async fn properties_too_large_for_the_file_go_to_the_sidecar_and_are_unknown_after_a_change() {
    let scratch = Scratch::new();
    let large = properties(&[("note", &"x".repeat(100_000))]);
    let refused = put(&scratch.store, "x", b"1", large.clone(), &Precondition::Always).await;
    assert!(
        matches!(kind(refused), StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_))),
        "never lost in silence"
    );
    assert!(ids(&scratch.store).await.is_empty());

    let rows = Arc::new(Rows::default());
    let store = store_at(scratch.root(), Layout::Spaces, Some(rows.clone()));
    put(&store, "x", b"1", large.clone(), &Precondition::Always).await.unwrap();
    assert_eq!(head(&store, "x").await.unwrap().properties, Some(large.clone()));
    assert_eq!(head(&scratch.store, "x").await.unwrap().properties, None, "without the book they are not known");
    std::fs::OpenOptions::new().append(true).open(scratch.path("x")).unwrap().set_len(2).unwrap();
    assert_eq!(head(&store, "x").await.unwrap().properties, None, "the row is of another version");
    store.put_properties(&at("x"), &large, &Precondition::Always).await.unwrap();
    assert_eq!(head(&store, "x").await.unwrap().properties, Some(large));
    store.put_properties(&at("x"), &properties(&[("a", "b")]), &Precondition::Always).await.unwrap();
    assert_eq!(head(&store, "x").await.unwrap().properties, Some(properties(&[("a", "b")])));
}

#[tokio::test]
async fn the_sign_for_a_directory_that_holds_something_is_kept_with_it() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    scratch.file("x/1", b"1");
    std::fs::set_permissions(scratch.path("x"), PermissionsExt::from_mode(0o750)).unwrap();
    for when in [Precondition::Absent, Precondition::Always] {
        put(store, "x/", b"", properties(&[("title", "t")]), &when).await.unwrap();
    }
    assert_eq!(std::fs::metadata(scratch.path("x")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(ids(store).await, ["x/1"]);
    assert!(head(store, "x/").await.is_none(), "no item as long as something lies in it");
    // It stays with its properties when that is gone; another directory does not.
    scratch.file("y/1", b"1");
    for id in ["x/1", "y/1"] {
        store.delete(&at(id), &Precondition::Always).await.unwrap();
    }
    assert_eq!(ids(store).await, ["x/"]);
    assert_eq!(head(store, "x/").await.unwrap().properties.unwrap().get("title"), Some("t"));
    let stale = put(store, "x/", b"", properties(&[]), &Precondition::Absent).await;
    assert_eq!(kind(stale), StoreErrorKind::Precondition);
}

#[tokio::test]
async fn a_directory_that_became_an_item_before_its_last_file_went_stays_and_keeps_its_rights() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    scratch.file("x/1", b"1");
    std::fs::set_permissions(scratch.path("x"), PermissionsExt::from_mode(0o750)).unwrap();
    // It has no property but its rights, which are those of whoever made it while it holds what may be another's.
    put(store, "x/", b"", properties(&[(Properties::FILE_MODE, "0700")]), &Precondition::Absent).await.unwrap();
    assert_eq!(mode(&scratch.path("x")) & 0o777, 0o750);
    store.delete(&at("x/1"), &Precondition::Always).await.unwrap();
    assert_eq!(ids(store).await, ["x/"]);
    assert_eq!(mode(&scratch.path("x")) & 0o777, 0o750);
}
