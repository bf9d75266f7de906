//! On real file systems that fold names, or list them in another spelling.

use std::ffi::{OsStr, OsString};

use mill_ports::Respelling;
use mill_trials::fuse::FlakyFolder;
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, MountGuard, in_mount_namespace};
use unicode_normalization::UnicodeNormalization as _;

use super::*;

/// Runs a test with a store on an exFAT disk, which folds case and preserves it.
pub(super) fn on_exfat(run: impl AsyncFnOnce(&FolderStore, &Path) -> Result<(), MissingRequirement> + Send + 'static) {
    in_mount_namespace(move || {
        let folder = TempDir::new().unwrap();
        let at = folder.path().join("mounted");
        let disk = LoopDisk::create(&folder.path().join("image"), 64 << 20)?;
        disk.format(FileSystem::ExFat)?;
        let _mount = disk.mount(FileSystem::ExFat, &at, "")?;
        std::fs::create_dir(at.join("s")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store_at(&at, Layout::Spaces, None);
            run(&store, &at).await
        })
    });
}

async fn put_text(store: &FolderStore, id: &str, text: &str, when: &Precondition) -> Result<PutResult, StoreError> {
    put(store, id, text.as_bytes(), properties(&[]), when).await
}

fn twin(result: Result<PutResult, StoreError>) -> String {
    match kind(result) {
        StoreErrorKind::Refused(RefusalReason::Twin(path)) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_item_is_never_replaced_under_another_spelling_of_its_name() {
    on_exfat(async |store, at| {
        put_text(store, "README", "one", &Precondition::Absent).await.unwrap();
        put_text(store, "Photos/a", "two", &Precondition::Absent).await.unwrap();
        for (id, found) in [
            ("readme", "README"),
            ("ReadMe", "README"),
            ("photos/a", "Photos"),
            ("photos/new", "Photos"),
            ("PHOTOS/deep/new", "Photos"),
            ("Photos/A", "Photos/a"),
        ] {
            assert_eq!(head(store, id).await.map(|_| ()), None, "{id}");
            assert!(store.open(&super::at(id), None, None).await.unwrap().present().is_none(), "{id}");
            for when in [Precondition::Absent, Precondition::Always] {
                assert!(twin(put_text(store, id, "other", &when).await).starts_with(found), "{id}");
            }
            assert!(store.delete(&super::at(id), &Precondition::Always).await.unwrap().present().is_none(), "{id}");
            let properties = properties(&[]);
            assert_eq!(
                kind(store.put_properties(&super::at(id), &properties, &Precondition::Always).await),
                StoreErrorKind::Precondition
            );
        }
        assert_eq!(ids(store).await, ["Photos/a", "README"]);
        assert_eq!(std::fs::read(at.join("s/README")).unwrap(), b"one");
        assert_eq!(std::fs::read(at.join("s/Photos/a")).unwrap(), b"two");
        assert_eq!(walked(&at.join("s")), 3, "nothing is left of what was refused");
        // Under their own names they behave as everywhere.
        let version = head(store, "README").await.unwrap().version;
        put_text(store, "README", "three", &Precondition::VersionIs(version)).await.unwrap();
        store.delete(&super::at("Photos/a"), &Precondition::Always).await.unwrap().present().unwrap();
        // The driver caches a name for a second under each requested spelling.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        put_text(store, "photos/a", "now it may", &Precondition::Absent).await.unwrap();
        assert_eq!(ids(store).await, ["README", "photos/a"]);
        Ok(())
    });
}

/// Requests another spelling, with an item in its current state as the compared one.
async fn respell(store: &FolderStore, from: &str, to: &str, compared: &str) -> Result<bool, StoreError> {
    let version = head(store, compared).await.unwrap().version;
    let [from, to] = [from, to].map(String::from);
    store.respell(&space(), &Respelling { from, to, compared: at(compared).id, version }).await
}

#[test]
fn a_name_is_spelled_otherwise_where_the_two_are_one_and_nothing_is_deleted_for_that() {
    on_exfat(async |store, at| {
        for id in ["readme", "photos/deep/a", "photos/deep/b"] {
            put_text(store, id, id, &Precondition::Absent).await.unwrap();
        }
        assert!(store.folds_names(&space()).await.unwrap());
        let old = head(store, "photos/deep/b").await.unwrap().version;
        put_text(store, "photos/deep/b", "another", &Precondition::Always).await.unwrap();
        let (from, to, compared) = ("photos/".into(), "Photos/".into(), super::at("photos/deep/b").id);
        let stale = store.respell(&space(), &Respelling { from, to, compared, version: old }).await;
        assert_eq!(kind(stale), StoreErrorKind::Precondition, "it was written anew since");
        let respell = async |from: &str, to: &str, compared: &str| respell(store, from, to, compared).await;
        assert!(respell("readme", "README", "readme").await.unwrap());
        assert!(respell("photos/", "Photos/", "photos/deep/a").await.unwrap());
        assert!(respell("Photos/deep/", "Photos/DEEP/", "Photos/deep/b").await.unwrap());
        assert_eq!(ids(store).await, ["Photos/DEEP/a", "Photos/DEEP/b", "README"]);
        assert_eq!(std::fs::read(at.join("s/README")).unwrap(), b"readme");
        assert!(!respell("readme", "ReadMe", "README").await.unwrap(), "it is not called so any more");
        assert!(!respell("README/", "readme/", "README").await.unwrap(), "it is no directory");
        assert!(!respell("Photos", "photos", "README").await.unwrap(), "it is no item");
        for (from, to) in [("README", "other"), ("README", "readme/"), ("Photos/", "photos")] {
            assert_eq!(kind(respell(from, to, "README").await), StoreErrorKind::Unexpected);
        }
        assert_eq!(ids(store).await, ["Photos/DEEP/a", "Photos/DEEP/b", "README"]);
        put_text(store, "Photos/DEEP/c", "c", &Precondition::Absent).await.unwrap();
        Ok(())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::new();
        scratch.file("readme", b"1");
        scratch.file("README", b"2");
        assert!(!scratch.store.folds_names(&space()).await.unwrap());
        let both = respell(&scratch.store, "readme", "README", "readme").await;
        assert_eq!(kind(both), StoreErrorKind::Refused(RefusalReason::Twin("readme".into())));
    });
}

#[test]
fn a_space_is_never_taken_for_another_spelling_of_its_name() {
    on_exfat(async |store, at| {
        put_text(store, "x", "one", &Precondition::Absent).await.unwrap();
        let twin = SpaceId::new("S").unwrap();
        // The calls for a space of that spelling, and their results.
        assert!(store.space(&twin).await.unwrap().present().is_none());
        let refused = kind(store.create_space(&twin).await);
        assert!(
            matches!(&refused, StoreErrorKind::Refused(RefusalReason::PathConflict(by)) if by.contains("`s`")),
            "{refused:?}"
        );
        let item = ItemAddress { space: twin.clone(), id: super::at("x").id };
        let content = PutRequest::new(1, properties(&[]));
        let refused = kind(store.put(&item, &content, &Precondition::Always, body(b"y")).await);
        assert!(
            matches!(&refused, StoreErrorKind::Refused(RefusalReason::PathConflict(by)) if by.contains("`s`")),
            "{refused:?}"
        );
        assert!(store.delete(&item, &Precondition::Always).await.unwrap().present().is_none());
        std::fs::remove_file(at.join("s/x")).unwrap();
        store.remove_empty_space(&twin).await.unwrap();
        assert!(at.join("s").is_dir());
        Ok(())
    });
}

fn walked(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| 1 + if path.is_dir() { walked(&path) } else { 0 }).sum()
}

/// Compares names like HFS+, or ZFS with normalization: `é` may be one letter or two.
fn normal_form(name: &OsStr) -> OsString {
    name.to_str().map_or_else(|| name.to_owned(), |name| name.nfc().collect::<String>().into())
}

#[test]
fn an_item_is_never_replaced_under_another_normal_form_of_its_name() {
    in_mount_namespace(|| {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("real/s")).unwrap();
        let served = FlakyFolder::serve(&folder.path().join("real"), &folder.path().join("served"))?;
        served.fold_names(normal_form);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store_at(&folder.path().join("served"), Layout::Spaces, None);
            let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
            put_text(&store, composed, "one", &Precondition::Absent).await.unwrap();
            assert!(head(&store, decomposed).await.is_none());
            for when in [Precondition::Absent, Precondition::Always] {
                assert_eq!(twin(put_text(&store, decomposed, "other", &when).await), composed);
            }
            assert!(store.delete(&at(decomposed), &Precondition::Always).await.unwrap().present().is_none());
            assert_eq!(read(&store, composed).await.unwrap(), b"one");
            put_text(&store, "README", "a", &Precondition::Absent).await.unwrap();
            put_text(&store, "readme", "b", &Precondition::Absent).await.unwrap();
            assert_eq!(ids(&store).await, ["README", composed, "readme"]);
        });
        Ok(())
    });
}

#[test]
fn many_names_in_one_directory_of_a_disk_that_folds_case_are_written_without_reading_it_each_time() {
    on_exfat(async |store, _| {
        let began = std::time::Instant::now();
        for n in 0..300 {
            put_text(store, &format!("Pictures/IMG_{n:04}.JPG"), "x", &Precondition::Absent).await.unwrap();
        }
        assert_eq!(ids(store).await.len(), 300);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        Ok(())
    });
}

#[test]
fn a_name_that_the_file_system_would_keep_otherwise_is_refused_and_not_left() {
    in_mount_namespace(|| {
        let folder = TempDir::new().unwrap();
        let at = folder.path().join("mounted");
        let disk = LoopDisk::create(&folder.path().join("image"), 64 << 20)?;
        disk.format(FileSystem::Ntfs)?;
        if std::process::Command::new("lowntfs-3g").arg("--help").output().is_err() {
            return Err(MissingRequirement("there is no `lowntfs-3g` here".into()));
        }
        // It lists every name in lower case.
        let _mount =
            MountGuard::run_mount(&["-t", "lowntfs-3g", "-o", "ignore_case", disk.device().to_str().unwrap()], &at)?;
        std::fs::create_dir(at.join("s")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store_at(&at, Layout::Spaces, None);
            put_text(&store, "small", "x", &Precondition::Absent).await.unwrap();
            for id in ["README", "Folder/x"] {
                let refused = kind(put_text(&store, id, "x", &Precondition::Absent).await);
                assert!(
                    matches!(
                        refused,
                        StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_) | RefusalReason::Twin(_))
                    ),
                    "{refused:?}"
                );
            }
            assert_eq!(ids(&store).await, ["small"]);
            assert_eq!(walked(&at.join("s")), 1);
        });
        Ok(())
    });
}

#[test]
fn on_a_disk_that_tells_case_apart_twins_are_two_items() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::new();
        let names = ["README", "readme", "d/X", "D/x", "e\u{301}", "\u{e9}", "a.", "a", "LONGNA~1.TXT", "longname.txt"];
        for name in names {
            put_text(&scratch.store, name, name, &Precondition::Absent).await.unwrap();
            put_text(&scratch.store, name, name, &Precondition::Always).await.unwrap();
        }
        for name in names {
            assert_eq!(read(&scratch.store, name).await.unwrap(), name.as_bytes());
        }
        scratch.store.delete(&at("readme"), &Precondition::Always).await.unwrap().present().unwrap();
        assert_eq!(read(&scratch.store, "README").await.unwrap(), b"README");
    });
}
