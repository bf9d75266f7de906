//! A write that returned is on the disk, and everything that a failed flush may affect is written again.

use rustix::io::Errno;

use super::super::apply::Applier;
use super::super::committer::{Change, NewPath};
use super::super::flusher::Flusher;
use super::super::properties::PropertyPlan;
use super::super::temp_files::TempFile;
use super::*;

/// The flusher of a store, which a test makes fail.
fn disk(store: &FolderStore, grouping: bool) -> Arc<Flusher> {
    let flusher = store.0.committer.flusher();
    *flusher.script.grouping.lock() = Some(grouping);
    flusher
}

/// Sets whether each of the next flushes succeeds.
fn flushes(store: &FolderStore, succeed: &[bool]) {
    let answers = succeed.iter().map(|succeeds| (!succeeds).then_some(Errno::IO));
    disk(store, true).script.all.lock().extend(answers);
}

fn in_progress(scratch: &Scratch) -> usize {
    let Ok(all) = std::fs::read_dir(scratch.root().join(".mill-in-progress")) else { return 0 };
    all.map(|own| std::fs::read_dir(own.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn no_name_appears_when_its_bytes_could_not_be_flushed_and_a_retry_writes_them_anew() {
    let scratch = Scratch::new();
    flushes(&scratch.store, &[false]);
    let failed = scratch.put("d/x", b"1", &Precondition::Absent).await.unwrap_err();
    assert!(failed.kind.is_retryable(), "{failed:?}");
    assert!(mill_ports::error_chain(&failed).contains("did not reach the disk"), "{failed:?}");
    assert!(!scratch.path("d").exists());
    assert_eq!(in_progress(&scratch), 0, "it is not kept to be flushed again");
    scratch.put("d/x", b"2", &Precondition::Absent).await.unwrap();
    assert_eq!(read(&scratch.store, "d/x").await.unwrap(), b"2");
}

#[tokio::test]
async fn names_that_could_not_be_flushed_go_again_and_what_they_replaced_comes_back() {
    let scratch = Scratch::new();
    let before = scratch.put("old", b"before", &Precondition::Absent).await.unwrap().version;
    flushes(&scratch.store, &[true, false]);
    let failed = scratch.put("d/new", b"1", &Precondition::Absent).await.unwrap_err();
    assert!(failed.kind.is_retryable(), "{failed:?}");
    assert!(!scratch.path("d").exists(), "nor do the directories made for it stay");
    for when in [Precondition::VersionIs(before), Precondition::Always] {
        let other = scratch.other();
        flushes(&other, &[true, false]);
        let failed = put(&other, "old", b"after", properties(&[]), &when).await.unwrap_err();
        assert!(failed.kind.is_retryable(), "{failed:?}");
        assert_eq!(std::fs::read(scratch.path("old")).unwrap(), b"before");
        put(&other, "old", b"after", properties(&[]), &Precondition::Always).await.unwrap();
        assert_eq!(std::fs::read(scratch.path("old")).unwrap(), b"after");
        put(&other, "old", b"before", properties(&[]), &Precondition::Always).await.unwrap();
    }
    assert_eq!((ids(&scratch.store).await, in_progress(&scratch)), (vec!["old".to_owned()], 0));
}

/// A prepared file whose bytes are not flushed yet.
fn temp_file(store: &FolderStore, bytes: &'static [u8]) -> TempFile {
    let plan = PropertyPlan::of(&properties(&[]), false);
    let mut temp_file = TempFile::create(store.0.committer.staging().unwrap(), &plan).unwrap();
    temp_file.write(&[Bytes::from_static(bytes)]).unwrap();
    temp_file
}

fn finished(store: &FolderStore, bytes: &'static [u8]) -> TempFile {
    let mut temp_file = temp_file(store, bytes);
    temp_file.finish(&PropertyPlan::of(&properties(&[]), false)).unwrap();
    temp_file
}

#[tokio::test]
async fn what_others_put_in_the_place_of_a_name_that_goes_again_stays() {
    let scratch = Scratch::new();
    let disk = disk(&scratch.store, true);
    let mut applier = Applier::new(&disk.root, &WallClock, &disk);
    let mut place = |id: &str, bytes| {
        let item_path = super::super::item_path::ItemPath::of("s", &ContentId::new(id).unwrap()).unwrap();
        let new_path = NewPath { item_path, directory_modes: Vec::new() };
        let change = Change::PutFile(finished(&scratch.store, bytes), new_path, Precondition::Always);
        applier.apply(change).unwrap().1.unwrap()
    };
    let undo = [place("written", b"1"), place("replaced", b"1"), place("removed", b"1"), place("twice", b"1")];
    let twice = place("twice", b"2");
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(scratch.path("written"), b"2").unwrap();
    std::fs::write(scratch.path("other"), b"2").unwrap();
    std::fs::rename(scratch.path("other"), scratch.path("replaced")).unwrap();
    std::fs::remove_file(scratch.path("removed")).unwrap();
    for undo in [twice].into_iter().chain(undo.into_iter().rev()) {
        applier.undo(&undo).unwrap();
    }
    assert_eq!(ids(&scratch.store).await, ["replaced", "written"]);
    for id in ["replaced", "written"] {
        assert_eq!(std::fs::read(scratch.path(id)).unwrap(), b"2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_error_condemns_all_that_was_staged_and_afterwards_the_file_at_fault_is_named() {
    let scratch = Scratch::new();
    scratch.put("first", b"1", &Precondition::Absent).await.unwrap();
    let content = PutRequest::new(600_000, properties(&[]));
    let (read_more, rest) = tokio::sync::oneshot::channel::<()>();
    let piece = || Ok(Bytes::from(vec![1; 300_000]));
    let rest = stream::once(async move {
        rest.await.unwrap();
        Ok(Bytes::from(vec![1; 300_000]))
    });
    let body = stream::iter([piece()]).chain(rest).boxed();
    let begun = at("begun");
    let temp_file = scratch.store.put(&begun, &content, &Precondition::Absent, body);
    let error = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        flushes(&scratch.store, &[false]);
        assert!(scratch.put("x", b"1", &Precondition::Absent).await.unwrap_err().kind.is_retryable());
        // From now on each write is flushed by itself.
        disk(&scratch.store, true).script.one.lock().push_back(Some(Errno::IO));
        let bad = scratch.put("bad", b"1", &Precondition::Absent).await.unwrap_err();
        assert!(
            bad.subject.ends_with("bad") && mill_ports::error_chain(&bad).contains("its bytes did not reach"),
            "{bad:?}"
        );
        scratch.put("good", b"1", &Precondition::Absent).await.unwrap();
        read_more.send(()).unwrap();
    };
    let (temp_file, ()) = futures::future::join(temp_file, error).await;
    temp_file.unwrap();
    assert_eq!(ids(&scratch.store).await, ["begun", "first", "good"]);
    assert_eq!(in_progress(&scratch), 0);
}

#[tokio::test]
async fn what_was_finished_before_a_flush_failed_is_thrown_away() {
    let scratch = Scratch::new();
    let disk = disk(&scratch.store, true);
    let (finished_before, mut unfinished) = (finished(&scratch.store, b"1"), temp_file(&scratch.store, b"1"));
    assert!(finished_before.check_not_condemned().is_ok() && finished_before.needs_sync());
    disk.script.all.lock().push_back(Some(Errno::IO));
    assert!(disk.sync_all().is_err());
    assert!(finished_before.check_not_condemned().is_err());
    unfinished.finish(&PropertyPlan::of(&properties(&[]), false)).unwrap();
    assert!(unfinished.check_not_condemned().is_ok(), "it was flushed by itself, through the descriptor that wrote it");
    assert!(finished(&scratch.store, b"1").check_not_condemned().is_ok());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_given_up_and_not_each_item_by_itself() {
    let scratch = Scratch::new();
    let disk = disk(&scratch.store, false);
    disk.script.one.lock().extend([Some(Errno::IO); 17]);
    let mut kinds = Vec::new();
    for _ in 0..17 {
        kinds.push(kind(scratch.put("x", b"1", &Precondition::Absent).await));
    }
    assert!(kinds[..15].iter().all(StoreErrorKind::is_retryable), "{kinds:?}");
    assert_eq!(kinds[15..], [StoreErrorKind::Unavailable, StoreErrorKind::Unavailable]);
    scratch.put("x", b"1", &Precondition::Absent).await.unwrap();
    disk.script.one.lock().push_back(Some(Errno::IO));
    assert!(
        kind(scratch.put("y", b"1", &Precondition::Absent).await).is_retryable(),
        "one success, and it counts anew"
    );
}

#[tokio::test]
async fn a_file_system_that_has_no_flush_for_directories_still_takes_items() {
    let scratch = Scratch::new();
    for errno in [Errno::INVAL, Errno::NOTSUP, Errno::NOSYS] {
        disk(&scratch.store, false).script.one.lock().extend([None, Some(errno)]);
        scratch.put(&format!("{errno:?}"), b"1", &Precondition::Absent).await.unwrap();
    }
}

#[tokio::test]
async fn changes_of_every_kind_fail_with_the_flush_and_can_be_made_again() {
    for grouping in [true, false] {
        let scratch = Scratch::new();
        scratch.put("x", b"1", &Precondition::Absent).await.unwrap();
        let new = SpaceId::new("new").unwrap();
        for round in 0..2 {
            let disk = disk(&scratch.store, grouping);
            let fails = || {
                if round == 0 {
                    for script in [&disk.script.all, &disk.script.one] {
                        *script.lock() = [Some(Errno::IO)].into();
                    }
                }
            };
            let mut results = Vec::new();
            fails();
            results.push(
                scratch
                    .store
                    .put_properties(&at("x"), &properties(&[("a", "b")]), &Precondition::Always)
                    .await
                    .map(drop),
            );
            fails();
            results.push(scratch.put("d/", b"", &Precondition::Always).await.map(drop));
            fails();
            results.push(scratch.store.create_space(&new).await);
            fails();
            results.push(scratch.store.delete(&at("x"), &Precondition::Always).await.map(drop));
            for script in [&disk.script.all, &disk.script.one] {
                script.lock().clear();
            }
            for (n, result) in results.into_iter().enumerate() {
                // An item that is gone cannot get other properties.
                if round == 0 || n > 0 {
                    assert_eq!(result.is_err(), round == 0, "{grouping} {round} {n}: {result:?}");
                }
            }
        }
        assert_eq!(ids(&scratch.store).await, ["d/"], "{grouping}");
    }
}
