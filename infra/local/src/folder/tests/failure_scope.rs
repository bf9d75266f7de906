//! A failure of one item stops no other, on real file systems.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mill_trials::fuse::{FlakyFolder, FolderOperation};
use mill_trials::{MountGuard, in_mount_namespace};
use rustix::io::Errno;

use super::folding::on_exfat;
use super::*;

const EIO: i32 = Errno::IO.raw_os_error();
const EPERM: i32 = Errno::PERM.raw_os_error();
/// Errors that network and user-space file systems return for one file as well as for all.
const AWAY: [Errno; 4] = [Errno::STALE, Errno::NODEV, Errno::NXIO, Errno::NOTCONN];
/// Errors that usually pass by themselves.
const TOO_MUCH: [Errno; 3] = [Errno::NOMEM, Errno::MFILE, Errno::NFILE];

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// Makes a file immutable until this value is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn make(path: PathBuf) -> Self {
        assert!(Command::new("chattr").arg("+i").arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[track_caller]
fn unwritable<T: std::fmt::Debug>(result: Result<T, StoreError>, words: &str) {
    let kind = result.unwrap_err().kind;
    let StoreErrorKind::Refused(RefusalReason::Unwritable(why)) = &kind else { panic!("{kind:?}") };
    assert!(why.contains(words), "{why}");
}

async fn puts(store: &FolderStore, id: &str) -> Result<PutResult, StoreError> {
    put(store, id, b"new", properties(&[("file-mode", "0600")]), &Precondition::Always).await
}

#[tokio::test]
async fn an_immutable_file_or_directory_refuses_itself_alone_and_says_why() {
    let scratch = Scratch::new();
    for id in ["fixed", "closed/x", "free"] {
        scratch.file(id, b"old");
    }
    let fixed = [scratch.path("fixed"), scratch.path("closed")].map(Immutable::make);
    let store = &scratch.store;
    unwritable(puts(store, "fixed").await, "`fixed` is immutable");
    unwritable(puts(store, "closed/new").await, "`closed` is immutable");
    unwritable(puts(store, "closed/deep/new").await, "`closed` is immutable");
    unwritable(put(store, "closed/empty/", b"", properties(&[]), &Precondition::Always).await, "`closed` is immutable");
    unwritable(store.delete(&at("fixed"), &Precondition::Always).await, "`fixed` is immutable");
    unwritable(store.delete(&at("closed/x"), &Precondition::Always).await, "`closed` is immutable");
    let other = properties(&[("title", "t")]);
    unwritable(store.put_properties(&at("fixed"), &other, &Precondition::Always).await, "`fixed` is immutable");
    puts(store, "free").await.unwrap();
    puts(store, "new/x").await.unwrap();
    store.delete(&at("free"), &Precondition::Always).await.unwrap();
    drop(fixed);
    assert_eq!(read(store, "fixed").await.unwrap(), b"old");
    puts(store, "fixed").await.unwrap();
}

fn of_bytes(bytes: usize) -> Vec<u8> {
    vec![7; bytes]
}

#[test]
fn an_item_too_large_for_what_is_left_is_refused_and_a_full_disk_is_unavailable() {
    in_mount_namespace(|| {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("disk");
        let _mount = MountGuard::tmpfs(&root, "size=1m")?;
        std::fs::create_dir(root.join("s")).unwrap();
        block_on(async {
            let store = store_at(&root, Layout::Spaces, None);
            let put =
                async |id: &str, bytes| put(&store, id, &of_bytes(bytes), properties(&[]), &Precondition::Always).await;
            unwritable(put("large", 3 << 20).await, "no room for its 3145728 bytes");
            put("small", 1000).await.unwrap();
            std::fs::write(root.join("others"), of_bytes(960 << 10)).unwrap();
            unwritable(put("larger", 100 << 10).await, "no room for its 102400 bytes");
            put("another", 1000).await.unwrap();
            // To its last block.
            let mut others = std::fs::File::options().append(true).open(root.join("others")).unwrap();
            while std::io::Write::write_all(&mut others, &of_bytes(4096)).is_ok() {}
            assert_eq!(kind(put("third", 1000).await), StoreErrorKind::Unavailable);
            drop(others);
            std::fs::remove_file(root.join("others")).unwrap();
            put("third", 1000).await.unwrap();
            assert_eq!(ids(&store).await, ["another", "small", "third"]);
        });
        Ok(())
    });
}

#[test]
fn a_directory_without_permission_refuses_what_lies_in_it_alone() {
    let scratch = Scratch::new();
    scratch.file("closed/x", b"old");
    let allow = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    allow(scratch.root(), 0o777);
    allow(&scratch.path(""), 0o777);
    allow(&scratch.path("closed"), 0o555);
    let root = scratch.root().to_owned();
    as_nobody(async move {
        let store = store_at(&root, Layout::Spaces, None);
        unwritable(puts(&store, "closed/x").await, "Permission denied");
        unwritable(puts(&store, "closed/y").await, "Permission denied");
        unwritable(store.delete(&at("closed/x"), &Precondition::Always).await, "Permission denied");
        puts(&store, "open/x").await.unwrap();
        puts(&store, "y").await.unwrap();
    });
    assert_eq!(std::fs::read(scratch.path("closed/x")).unwrap(), b"old");
}

#[test]
fn a_disk_that_becomes_read_only_in_the_middle_is_unavailable_at_once() {
    in_mount_namespace(|| {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("disk");
        let _mount = MountGuard::tmpfs(&root, "size=8m")?;
        let remount = |how: &str| {
            let options = format!("remount,{how}");
            assert!(Command::new("mount").args(["-o", &options]).arg(&root).status().unwrap().success());
        };
        std::fs::create_dir(root.join("s")).unwrap();
        block_on(async {
            let store = store_at(&root, Layout::Spaces, None);
            puts(&store, "a").await.unwrap();
            remount("ro");
            assert_eq!(kind(puts(&store, "b").await), StoreErrorKind::Unavailable);
            assert_eq!(kind(store.delete(&at("a"), &Precondition::Always).await), StoreErrorKind::Unavailable);
            remount("rw");
            puts(&store, "b").await.unwrap();
        });
        Ok(())
    });
}

/// A space of 60 files, served in user space so that a test can make parts of it fail.
fn served(trial: impl FnOnce(&FlakyFolder, &FolderStore, &Path) + Send + 'static) {
    in_mount_namespace(|| {
        let folder = TempDir::new().unwrap();
        let (real, at) = (folder.path().join("real"), folder.path().join("at"));
        for n in 0..60 {
            let path = real.join(format!("s/{}/{n:02}", ["bad", "good"][n % 2]));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "old").unwrap();
        }
        let flaky = FlakyFolder::serve(&real, &at)?;
        trial(&flaky, &store_at(&at, Layout::Spaces, None), &real);
        Ok(())
    });
}

#[test]
fn an_item_that_fails_to_be_read_is_refused_and_a_root_that_fails_is_unavailable() {
    served(|flaky, store, _| {
        let unreadable = StoreErrorKind::Refused(RefusalReason::Unreadable);
        block_on(async {
            for (operation, id) in [
                (FolderOperation::Lookup, "bad/00"),
                (FolderOperation::Open, "bad/02"),
                (FolderOperation::Read, "bad/04"),
            ] {
                flaky.fail(operation, format!("s/{id}"), EIO);
                assert_eq!(kind(read(store, id).await), unreadable, "{operation:?}");
            }
            assert_eq!(read(store, "good/01").await.unwrap(), b"old");
            flaky.fail(FolderOperation::OpenDirectory, "", EIO);
            assert_eq!(kind(read(store, "bad/02").await), StoreErrorKind::Unavailable);
            flaky.repair();
        });
    });
}

#[test]
fn a_space_that_fails_is_refused_and_no_other_is() {
    served(|flaky, store, real| {
        let unreadable = || StoreErrorKind::Refused(RefusalReason::Unreadable);
        std::fs::create_dir(real.join("other")).unwrap();
        let list = async |space: &str| {
            let mut pages = store.list(&SpaceId::new(space).unwrap(), None);
            pages.next().await.unwrap().map(|page| page.entries.len()).map_err(|error| error.kind)
        };
        block_on(async {
            flaky.fail(FolderOperation::OpenDirectory, "s", EIO);
            assert_eq!(list("s").await, Err(unreadable()));
            assert_eq!(list("other").await, Ok(0));
            flaky.fail(FolderOperation::Open, "s/bad/02", EIO);
            assert_eq!(kind(read(store, "bad/02").await), unreadable());
            // If the root fails too, the scope is the store.
            flaky.fail(FolderOperation::OpenDirectory, "", EIO);
            assert_eq!(list("s").await, Err(StoreErrorKind::Unavailable));
            assert_eq!(kind(read(store, "bad/02").await), StoreErrorKind::Unavailable);
            flaky.repair();
            flaky.fail(FolderOperation::Lookup, "s", EIO);
            assert_eq!(kind(store.space(&space()).await), unreadable());
            assert_eq!(kind(read(store, "bad/02").await), unreadable());
            flaky.repair();
        });
        // For a store with one space, the scope is the store.
        let root = real.parent().unwrap().join("at");
        let single = store_at(&root, Layout::Single(space()), None);
        block_on(async {
            flaky.fail(FolderOperation::OpenDirectory, "", EIO);
            let first = single.list(&space(), None).next().await.unwrap();
            assert_eq!(first.unwrap_err().kind, StoreErrorKind::Unavailable);
        });
    });
}

#[test]
fn an_item_that_fails_to_be_written_is_refused_and_others_arrive() {
    served(|flaky, store, real| {
        block_on(async {
            flaky.fail(FolderOperation::Lookup, "s/bad/00", EIO);
            flaky.fail(FolderOperation::Remove, "s/bad/02", EPERM);
            assert!(matches!(kind(puts(store, "bad/00").await), StoreErrorKind::Refused(_)));
            unwritable(store.delete(&at("bad/02"), &Precondition::Always).await, "not permitted");
            puts(store, "good/01").await.unwrap();
        });
        assert_eq!(std::fs::read(real.join("s/good/01")).unwrap(), b"new");
        assert_eq!(std::fs::read(real.join("s/bad/00")).unwrap(), b"old");
    });
}

#[test]
fn a_directory_that_cannot_be_listed_or_breaks_off_hides_itself_alone() {
    served(|flaky, store, _| {
        for (operation, errno) in [
            (FolderOperation::OpenDirectory, EIO),
            (FolderOperation::ReadDirectory, EIO),
            (FolderOperation::Lookup, EIO),
        ] {
            flaky.fail(operation, "s/bad", errno);
            let (mut items, mut hidden) = (Vec::new(), Vec::new());
            block_on(async {
                let mut pages = store.list(&space(), None);
                while let Some(page) = pages.next().await {
                    for entry in page.unwrap().entries {
                        match entry {
                            ListEntry::Item(id, _) => items.push(id.as_str().to_owned()),
                            ListEntry::Hidden { shown } => hidden.push(shown),
                            ListEntry::Refused { shown, .. } => panic!("`{shown}` is refused"),
                        }
                    }
                }
            });
            assert_eq!(hidden, ["bad/"], "{operation:?}");
            assert_eq!(items.len(), 30, "{operation:?}");
            assert!(items.iter().all(|id| id.starts_with("good/")), "{operation:?} {items:?}");
            flaky.repair();
        }
    });
}

#[test]
fn a_name_that_the_file_system_does_not_take_is_found_out_and_refused() {
    on_exfat(async |store, at| {
        let names = ["a:b", "q?", "back\\slash", "bell\u{7}", "less<", "star*/x", "deep/down/pipe|", "odd\"/empty/"];
        for id in names {
            let bytes: &[u8] = if id.ends_with('/') { b"" } else { b"new" };
            let StoreErrorKind::Refused(RefusalReason::UnrepresentableId(why)) =
                kind(put(store, id, bytes, properties(&[]), &Precondition::Absent).await)
            else {
                panic!("{id}")
            };
            assert!(why.contains("takes no such name"), "{id}: {why}");
            match store.head(&super::at(id)).await {
                Ok(found) => assert!(found.present().is_none(), "{id}"),
                Err(error) => assert!(matches!(error.kind, StoreErrorKind::Refused(_)), "{id}: {error:?}"),
            }
        }
        puts(store, "plain").await.unwrap();
        assert_eq!(ids(store).await, ["plain"]);
        let left: Vec<_> = std::fs::read_dir(at.join(".mill-in-progress")).unwrap().collect();
        assert_eq!(left.len(), 1, "the store's own");
        Ok(())
    });
}

#[test]
fn one_item_that_is_stale_or_lacks_memory_is_refused_and_a_root_is_not() {
    served(|flaky, store, _| {
        let unreadable = StoreErrorKind::Refused(RefusalReason::Unreadable);
        block_on(async {
            for errno in AWAY.into_iter().chain(TOO_MUCH) {
                for (operation, id) in [
                    (FolderOperation::Lookup, "bad/00"),
                    (FolderOperation::Open, "bad/02"),
                    (FolderOperation::Read, "bad/04"),
                ] {
                    flaky.fail(operation, format!("s/{id}"), errno.raw_os_error());
                    assert_eq!(kind(read(store, id).await), unreadable, "{operation:?} {errno}");
                    assert_eq!(read(store, "good/01").await.unwrap(), b"old");
                    flaky.repair();
                }
                flaky.fail(FolderOperation::Open, "s/bad/02", errno.raw_os_error());
                flaky.fail(FolderOperation::OpenDirectory, "", errno.raw_os_error());
                let all = if TOO_MUCH.contains(&errno) {
                    StoreErrorKind::Throttled { retry_after: None }
                } else {
                    StoreErrorKind::Unavailable
                };
                assert_eq!(kind(read(store, "bad/02").await), all, "{errno}");
                flaky.repair();
            }
        });
    });
}

#[test]
fn a_directory_that_is_stale_or_lacks_memory_hides_what_it_holds_alone() {
    served(|flaky, store, real| {
        for n in 60..140 {
            std::fs::write(real.join(format!("s/bad/{n}")), "old").unwrap();
        }
        std::fs::create_dir(real.join("other")).unwrap();
        let list = async |space: &str| {
            let mut pages = store.list(&SpaceId::new(space).unwrap(), None);
            pages.next().await.unwrap().map(|page| page.entries).map_err(|error| error.kind)
        };
        block_on(async {
            for errno in AWAY.into_iter().chain(TOO_MUCH) {
                for operation in [FolderOperation::OpenDirectory, FolderOperation::ReadDirectory] {
                    flaky.fail(operation, "s/bad", errno.raw_os_error());
                    let entries = list("s").await.unwrap();
                    let good = entries
                        .iter()
                        .filter(|entry| matches!(entry, ListEntry::Item(id, _) if id.as_str().starts_with("good/")));
                    assert_eq!(good.count(), 30, "{operation:?} {errno}");
                    let hidden =
                        entries.iter().filter(|entry| matches!(entry, ListEntry::Hidden { shown } if shown == "bad/"));
                    assert_eq!(hidden.count(), 1, "{operation:?} {errno}");
                    flaky.repair();
                }
                flaky.fail(FolderOperation::OpenDirectory, "s", errno.raw_os_error());
                assert_eq!(list("s").await.unwrap_err(), StoreErrorKind::Refused(RefusalReason::Unreadable), "{errno}");
                assert_eq!(list("other").await.unwrap().len(), 0, "{errno}");
                flaky.repair();
            }
        });
    });
}

#[test]
fn too_much_at_once_is_waited_for_a_moment() {
    served(|flaky, store, _| {
        block_on(async {
            for errno in TOO_MUCH.map(Errno::raw_os_error) {
                for operation in [FolderOperation::Open, FolderOperation::Read] {
                    flaky.fail_times(2, operation, "s/bad/02", errno);
                    assert_eq!(read(store, "bad/02").await.unwrap(), b"old", "{operation:?}");
                }
                flaky.fail_times(2, FolderOperation::OpenDirectory, "s/bad", errno);
                let mut pages = store.list(&space(), None);
                assert_eq!(pages.next().await.unwrap().unwrap().entries.len(), 60);
            }
        });
    });
}

#[test]
fn a_place_of_the_destination_that_is_stale_refuses_its_item_alone() {
    served(|flaky, store, real| {
        block_on(async {
            for errno in AWAY {
                for (operation, path) in [
                    (FolderOperation::Lookup, "s/bad/00"),
                    (FolderOperation::Rename, "s/bad/00"),
                    (FolderOperation::Lookup, "s/bad"),
                ] {
                    flaky.fail(operation, path, errno.raw_os_error());
                    assert!(matches!(kind(puts(store, "bad/00").await), StoreErrorKind::Refused(_)), "{path} {errno}");
                    puts(store, "good/01").await.unwrap();
                    flaky.repair();
                }
                flaky.fail(FolderOperation::Remove, "s/bad/02", errno.raw_os_error());
                unwritable(store.delete(&at("bad/02"), &Precondition::Always).await, "");
                flaky.repair();
            }
            for errno in TOO_MUCH {
                flaky.fail(FolderOperation::Rename, "s/bad/00", errno.raw_os_error());
                // It is retried, and the store is not paused for it.
                assert_eq!(kind(puts(store, "bad/00").await), StoreErrorKind::Unexpected, "{errno}");
                flaky.repair();
            }
        });
        assert_eq!(std::fs::read(real.join("s/bad/00")).unwrap(), b"old");
    });
}
