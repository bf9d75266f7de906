//! On real mounts: which folders contain the same files, what identifies a place, which directories cannot be entered.

use std::os::unix::fs::symlink;

use mill_ports::Place;
use mill_trials::fuse::{FlakyFolder, FolderOperation};
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, MountGuard, in_mount_namespace};

use super::*;
use crate::folder::pair_guard::PairGuard;
use crate::folder::{Extent, overlaps};

/// Runs a trial in a folder of its own, with mounts that nobody else sees.
fn trial(run: impl AsyncFnOnce(&Path) -> Result<(), MissingRequirement> + Send + 'static) {
    in_mount_namespace(move || {
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(folder.path()))
    });
}

fn write(path: impl AsRef<Path>) {
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "x").unwrap();
}

/// The overlap of the two, as text.
fn overlap(one: impl AsRef<Path>, other: impl AsRef<Path>) -> Option<String> {
    let (one, other) = (Extent::of(one.as_ref()).unwrap(), Extent::of(other.as_ref()).unwrap());
    let found = one.overlap(&other);
    assert_eq!(found.is_some(), other.overlap(&one).is_some());
    assert_eq!(found.is_some(), !overlaps(&[one, other]).is_empty());
    found.map(|overlap| overlap.to_string())
}

#[test]
fn folders_by_any_names_overlap_if_they_hold_the_same_files() {
    trial(async |at| {
        for name in ["data/photos/deep", "data/letters", "copy/sub", "database"] {
            std::fs::create_dir_all(at.join(name)).unwrap();
        }
        assert_eq!(overlap(at.join("data"), at.join("copy")), None);
        assert_eq!(overlap(at.join("data"), at.join("database")), None, "a path is no text");
        assert_eq!(overlap(at.join("data/photos"), at.join("data/letters")), None);
        assert_eq!(overlap(at.join("data"), at.join("not there yet")), None);
        assert!(overlap(at.join("data"), at.join("data")).is_some());
        assert!(overlap(at.join("data"), at.join("data/not there yet")).is_some());
        assert!(overlap(at.join("data/photos/deep"), at.join("data")).is_some());

        symlink(at.join("data/photos"), at.join("link")).unwrap();
        assert!(overlap(at.join("data"), at.join("link")).is_some());
        assert_eq!(overlap(at.join("data/letters"), at.join("link")), None);

        // The destination is a part of the source, mounted elsewhere.
        let bound = MountGuard::bind(&at.join("data/photos"), &at.join("pm"));
        let why = overlap(at.join("data"), at.join("pm")).unwrap();
        assert!(why.contains("data/photos` of the same file system"), "{why}");
        assert!(overlap(at.join("data/photos/deep"), at.join("pm")).is_some());
        assert_eq!(overlap(at.join("data/letters"), at.join("pm")), None);
        bound.unmount();
        // The source is mounted beneath the destination.
        let beneath = MountGuard::bind(&at.join("data"), &at.join("copy/sub"));
        assert!(overlap(at.join("data"), at.join("copy")).is_some());
        assert!(overlap(at.join("data/letters"), at.join("copy")).is_some());
        assert_eq!(overlap(at.join("database"), at.join("copy")), None);
        beneath.unmount();
        // Something else is mounted beneath both.
        let (_one, _other) = (
            MountGuard::bind(&at.join("database"), &at.join("data/letters")),
            MountGuard::bind(&at.join("database"), &at.join("copy/sub")),
        );
        assert!(overlap(at.join("data"), at.join("copy")).is_some());
        assert_eq!(overlap(at.join("data/photos"), at.join("copy")), None);
        Ok(())
    });
}

#[test]
fn a_disk_that_is_mounted_twice_is_one_disk() {
    trial(async |at| {
        let disk = LoopDisk::create(&at.join("image"), FileSystem::BYTES_MIN)?;
        disk.format(FileSystem::Btrfs)?;
        let top = disk.mount(FileSystem::Btrfs, &at.join("top"), "")?;
        for subvolume in ["one", "one/inner", "two"] {
            let path = top.path().join(subvolume);
            let made = std::process::Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(path).status();
            assert!(made.unwrap().success());
        }
        let one = disk.mount(FileSystem::Btrfs, &at.join("one"), "subvol=one")?;
        let two = disk.mount(FileSystem::Btrfs, &at.join("two"), "subvol=two")?;
        let again = disk.mount(FileSystem::Btrfs, &at.join("again"), "")?;
        assert!(overlap(top.path(), again.path()).is_some());
        assert!(overlap(top.path(), one.path()).is_some());
        assert!(overlap(again.path().join("one/inner"), one.path()).is_some());
        assert_eq!(overlap(one.path(), two.path()), None, "subvolumes beside each other");
        assert_eq!(overlap(again.path().join("two"), one.path()), None);
        Ok(())
    });
}

#[test]
fn file_systems_that_show_others_directories_are_seen_through() {
    trial(async |at| {
        for name in ["low/photos", "up", "work", "other"] {
            std::fs::create_dir_all(at.join(name)).unwrap();
        }
        let (low, up, work) = (at.join("low"), at.join("up"), at.join("work"));
        let options = format!("lowerdir={},upperdir={},workdir={}", low.display(), up.display(), work.display());
        let over = MountGuard::run_mount(&["-t", "overlay", "overlay", "-o", &options], &at.join("over"))?;
        assert!(overlap(&up, over.path()).is_some());
        assert!(overlap(&low, over.path()).is_some());
        assert!(overlap(low.join("photos"), over.path().join("photos")).is_some());
        assert_eq!(overlap(at.join("other"), over.path()), None);
        over.unmount();
        // By paths that do not exist now.
        write(low.join("photos/a"));
        let moved = at.join("moved");
        let over = MountGuard::run_mount(&["-t", "overlay", "overlay", "-o", &options], &at.join("over"))?;
        write(over.path().join("new"));
        for (name, layer) in [("up", &up), ("low", &low)] {
            std::fs::rename(layer, &moved).unwrap();
            assert!(overlap(&moved, over.path()).is_some(), "{name}");
            assert!(overlap(over.path(), &moved).is_some(), "{name}");
            assert_eq!(overlap(at.join("other"), over.path()), None);
            std::fs::rename(&moved, layer).unwrap();
        }
        over.unmount();
        let served = FlakyFolder::serve(&low, &at.join("served"))?;
        assert_eq!(overlap(&low, at.join("served")), None, "it does not say what it shows");
        drop(served);
        if std::process::Command::new("bindfs").arg("--version").output().is_err() {
            return Err(MissingRequirement("there is no `bindfs` here".into()));
        }
        let bound = MountGuard::run_mount(&["-t", "fuse.bindfs", low.to_str().unwrap()], &at.join("bound"))?;
        assert!(overlap(low.join("photos"), bound.path()).is_some());
        assert!(overlap(&low, bound.path().join("photos")).is_some());
        assert_eq!(overlap(&up, bound.path()), None);
        Ok(())
    });
}

/// The places that a listing reports.
async fn places(store: &FolderStore) -> Vec<Place> {
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    assert!(pages[0].places.iter().any(|place| place.path.is_empty()), "the first page tells where the space stands");
    pages.into_iter().flat_map(|page| page.places).collect()
}

async fn on_the_way(store: &FolderStore, id: &str) -> Vec<Place> {
    store.places(&at(id)).await.unwrap()
}

fn paths(places: &[Place]) -> Vec<&str> {
    places.iter().map(|place| &*place.path).collect()
}

#[test]
fn each_mount_beneath_a_space_is_a_place_and_no_directory_is() {
    trial(async |root| {
        write(root.join("elsewhere/x"));
        write(root.join("s/a/b/x"));
        std::fs::create_dir_all(root.join("s/a/disk")).unwrap();
        let store = store_at(root, Layout::Spaces, None);
        let alone = places(&store).await;
        assert_eq!(paths(&alone), [""]);
        assert_eq!(on_the_way(&store, "a/b/x").await, alone);

        // Of the same file system, so that the device number does not reveal it.
        let bound = MountGuard::bind(&root.join("elsewhere"), &root.join("s/a/disk"));
        std::fs::create_dir(root.join("s/a/disk/inner")).unwrap();
        let inner = MountGuard::tmpfs(&root.join("s/a/disk/inner"), "size=1m")?;
        write(root.join("s/a/disk/inner/d/y"));
        let mounted = places(&store).await;
        assert_eq!(paths(&mounted), ["", "a/disk/", "a/disk/inner/"]);
        for (id, count) in [("a/b/x", 1), ("a/disk/x", 2), ("a/disk/none/x", 2), ("a/disk/inner/d/y", 3)] {
            assert_eq!(on_the_way(&store, id).await, mounted[..count], "{id}");
        }
        assert_eq!(on_the_way(&store, "a/disk/inner/").await, mounted, "an empty directory may be a mount itself");
        assert_eq!(on_the_way(&store, "//").await, alone);

        // A directory that is created again is not another place; an unmounted mount is one place less.
        std::fs::rename(root.join("s/a/b"), root.join("s/a/was b")).unwrap();
        write(root.join("s/a/b/x"));
        assert_eq!(places(&store).await, mounted);
        inner.unmount();
        bound.unmount();
        assert_eq!(places(&store).await, alone);
        assert_eq!(on_the_way(&store, "a/disk/inner/d/y").await, alone);
        let _another = MountGuard::tmpfs(&root.join("s/a/disk"), "size=1m")?;
        let other = places(&store).await;
        assert_eq!(paths(&other), ["", "a/disk/"]);
        assert_ne!(other[1], mounted[1], "another file system at the same path");
        Ok(())
    });
}

#[test]
fn a_space_that_is_a_mount_is_another_place_without_it() {
    trial(async |root| {
        std::fs::create_dir_all(root.join("s")).unwrap();
        let store = store_at(root, Layout::Spaces, None);
        let (bare, identity) = (places(&store).await, identity(&store).await);
        let mount = MountGuard::tmpfs(&root.join("s"), "size=1m")?;
        let mounted = places(&store).await;
        assert_eq!(paths(&mounted), [""]);
        assert_ne!(mounted, bare);
        assert_eq!(on_the_way(&store, "x").await, mounted);
        assert_ne!(self::identity(&store).await, identity);
        mount.unmount();
        assert_eq!(places(&store).await, bare);
        assert_eq!(self::identity(&store).await, identity);
        Ok(())
    });
}

async fn identity(store: &FolderStore) -> String {
    store.space(&space()).await.unwrap().present().unwrap().identity
}

/// The version of each item, by listing.
async fn versions(store: &FolderStore) -> Vec<mill_model::Version> {
    let pages: Vec<_> = store.list(&space(), None).try_collect().await.unwrap();
    let entries = pages.into_iter().flat_map(|page| page.entries);
    let version = |entry| match entry {
        ListEntry::Item(_, facts) => Some(facts.version),
        _ => None,
    };
    entries.filter_map(version).collect()
}

fn comes_back_as_it_was(kind: FileSystem) {
    trial(async move |at| {
        let mounted = at.join("mounted");
        let image = at.join("image");
        let disk = LoopDisk::create(&image, FileSystem::BYTES_MIN)?;
        disk.format(kind)?;
        let mount = disk.mount(kind, &mounted, "")?;
        write(mounted.join("s/d/x"));
        std::thread::sleep(Duration::from_millis(2_100));
        let store = store_at(&mounted, Layout::Spaces, None);
        let before = (places(&store).await, identity(&store).await, versions(&store).await);
        assert!(before.2.len() == 1 && before.2[0].settled(), "{:?}", before.2);
        let number = numbers(&mounted).0;
        store.finish().await;
        mount.unmount();
        let again = LoopDisk::attach(&image)?;
        drop(disk);
        let _mount = again.mount(kind, &mounted, "")?;
        if kind != FileSystem::Btrfs {
            // Btrfs assigns a new device number at each mount, which may be the same by chance.
            assert_ne!(numbers(&mounted).0, number);
        }
        let store = store_at(&mounted, Layout::Spaces, None);
        assert_eq!((places(&store).await, identity(&store).await, versions(&store).await), before);
        Ok(())
    });
}

#[test]
fn an_ext4_disk_back_under_another_device_number_is_the_same_place() {
    comes_back_as_it_was(FileSystem::Ext4);
}

#[test]
fn an_xfs_disk_back_under_another_device_number_is_the_same_place() {
    comes_back_as_it_was(FileSystem::Xfs);
}

#[test]
fn a_btrfs_disk_back_under_another_device_number_is_the_same_place() {
    comes_back_as_it_was(FileSystem::Btrfs);
}

#[test]
fn another_disk_under_the_same_device_number_is_not_the_root_first_seen() {
    trial(async |at| {
        let mounted = at.join("mounted");
        let image = |name: &str| -> Result<_, MissingRequirement> {
            let path = at.join(name);
            let disk = LoopDisk::create(&path, 32 << 20)?;
            disk.format(FileSystem::Ext4)?;
            let mount = disk.mount(FileSystem::Ext4, &mounted, "")?;
            std::fs::create_dir(mounted.join("s")).unwrap();
            Ok((disk, mount))
        };
        let (first, mount) = image("one")?;
        let store = store_at(&mounted, Layout::Spaces, None);
        assert_eq!(store.spaces().await.unwrap().len(), 2);
        let (device, inode) = numbers(&mounted);
        mount.detach();
        assert_eq!(kind(store.spaces().await), StoreErrorKind::Unavailable, "nothing is mounted");
        drop(first);
        std::thread::sleep(Duration::from_millis(100));
        let (second, _mount) = image("two")?;
        if numbers(&mounted) != (device, inode) {
            return Err(MissingRequirement("the second disk got another device number".into()));
        }
        assert_eq!(kind(store.spaces().await), StoreErrorKind::Unavailable, "{second:?}");
        Ok(())
    });
}

fn numbers(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap()
}

#[test]
fn nothing_is_written_or_removed_beyond_a_mount_beneath_a_destination() {
    trial(async |root| {
        write(root.join("disk/x"));
        std::fs::create_dir_all(root.join("s/sub")).unwrap();
        let store = store_at(root, Layout::Spaces, None);
        // Of the same file system: the device number does not reveal it.
        let _mount = MountGuard::bind(&root.join("disk"), &root.join("s/sub"));
        assert_eq!(ids(&store).await, ["sub/x"]);
        let refused =
            |kind| assert!(matches!(kind, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_))), "{kind:?}");
        for id in ["sub/x", "sub/new", "sub/deep/new", "sub/empty/"] {
            let bytes: &[u8] = if id.ends_with('/') { b"" } else { b"y" };
            refused(kind(put(&store, id, bytes, properties(&[]), &Precondition::Always).await));
            refused(kind(store.delete(&at(id), &Precondition::Always).await));
            refused(kind(store.put_properties(&at(id), &properties(&[]), &Precondition::Always).await));
        }
        assert_eq!(std::fs::read_dir(root.join("disk")).unwrap().count(), 1);
        assert_eq!(std::fs::read(root.join("disk/x")).unwrap(), b"x");
        Ok(())
    });
}

#[test]
fn a_space_that_is_a_mount_of_its_own_is_written_and_its_mount_point_is_not() {
    trial(async |root| {
        let disk = LoopDisk::create(&root.join("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        std::fs::create_dir_all(root.join("store/plain")).unwrap();
        let mount = disk.mount(FileSystem::Ext4, &root.join("store/s"), "")?;
        let _ = std::fs::remove_dir(root.join("store/s/lost+found"));
        let store = store_at(&root.join("store"), Layout::Spaces, None);
        let written = put(&store, "d/x", b"one", properties(&[("title", "t")]), &Precondition::Absent).await.unwrap();
        assert_eq!(head(&store, "d/x").await.unwrap().version, written.version);
        put(&store, "d/x", b"two", properties(&[]), &Precondition::VersionIs(written.version)).await.unwrap();
        put(&store, "e/", b"", properties(&[]), &Precondition::Absent).await.unwrap();
        assert_eq!(ids(&store).await, ["d/x", "e/"], "what is prepared there is no item");
        assert!(root.join("store/s/.mill-in-progress").is_dir());
        store.delete(&at("e/"), &Precondition::Always).await.unwrap().present().unwrap();
        let reserved = put(&store, ".mill-in-progress/x", b"", properties(&[]), &Precondition::Always).await;
        assert_eq!(kind(reserved), StoreErrorKind::Refused(RefusalReason::Reserved));
        let elsewhere = ItemAddress { space: SpaceId::new("plain").unwrap(), id: at("y").id };
        let content = PutRequest::new(1, properties(&[]));
        store.put(&elsewhere, &content, &Precondition::Absent, body(b"y")).await.unwrap();
        assert!(root.join("store/plain/y").is_file());

        // After it is unplugged during a run, its mount point is not written to.
        mount.detach();
        assert_eq!(
            kind(put(&store, "d/z", b"z", properties(&[]), &Precondition::Always).await),
            StoreErrorKind::Unavailable
        );
        assert_eq!(kind(store.delete(&at("d/x"), &Precondition::Always).await), StoreErrorKind::Unavailable);
        assert_eq!(std::fs::read_dir(root.join("store/s")).unwrap().count(), 0);
        let _again = disk.mount(FileSystem::Ext4, &root.join("store/s"), "")?;
        put(&store, "d/z", b"z", properties(&[]), &Precondition::Always).await.unwrap();
        store.finish().await;
        assert!(!root.join("store/s/.mill-in-progress").exists());
        assert_eq!(std::fs::read(root.join("store/s/d/x")).unwrap(), b"two");
        Ok(())
    });
}

#[test]
fn a_root_that_is_a_link_stays_what_it_led_to_when_it_was_first_followed() {
    trial(async |at| {
        write(at.join("one/s/x"));
        write(at.join("two/s/y"));
        symlink("one", at.join("root")).unwrap();
        let store = store_at(&at.join("root"), Layout::Spaces, None);
        assert_eq!(ids(&store).await, ["x"]);
        std::fs::remove_file(at.join("root")).unwrap();
        symlink("two", at.join("root")).unwrap();
        assert_eq!(ids(&store).await, ["x"]);
        Ok(())
    });
}

/// The items and the hidden entries of a listing.
async fn seen(store: &FolderStore) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let (mut items, mut hidden) = (Vec::new(), Vec::new());
    let pages: Vec<_> = store.list(&space(), None).try_collect().await?;
    for entry in pages.into_iter().flat_map(|page| page.entries) {
        match entry {
            ListEntry::Item(id, _) => items.push(id.as_str().to_owned()),
            ListEntry::Hidden { shown } => hidden.push(shown),
            ListEntry::Refused { shown, reason } => panic!("`{shown}`: {reason}"),
        }
    }
    Ok((items, hidden))
}

#[test]
fn what_a_directory_names_and_nobody_can_see_is_hidden_and_never_absent() {
    trial(async |at| {
        for name in ["a/x", "b/x", "c", "d/e/x"] {
            write(at.join("real/s").join(name));
        }
        let served = FlakyFolder::serve(&at.join("real"), &at.join("served"))?;
        let store = store_at(&at.join("served"), Layout::Spaces, None);
        let all = (vec!["a/x", "b/x", "c", "d/e/x"], vec![]);
        let strings = |(items, hidden): (Vec<&str>, Vec<&str>)| {
            let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
            (owned(items), owned(hidden))
        };
        assert_eq!(seen(&store).await.unwrap(), strings(all.clone()));
        let errors = [nix_errno::ENOENT, nix_errno::EIO, nix_errno::ENOTDIR, nix_errno::ELOOP, nix_errno::ENODEV];
        for errno in errors {
            for operation in [FolderOperation::OpenDirectory, FolderOperation::ReadDirectory] {
                served.fail(operation, "s/b", errno);
                let found = seen(&store).await.unwrap();
                assert_eq!(found, strings((vec!["a/x", "c", "d/e/x"], vec!["b/"])), "{operation:?} {errno}");
                served.repair();
                served.fail(operation, "s", errno);
                assert!(seen(&store).await.is_err(), "of the space itself nothing is known: {operation:?} {errno}");
                served.repair();
            }
            served.fail(FolderOperation::Lookup, "s/c", errno);
            assert_eq!(seen(&store).await.unwrap(), strings((vec!["a/x", "b/x", "d/e/x"], vec!["c"])), "{errno}");
            served.repair();
        }
        assert_eq!(seen(&store).await.unwrap(), strings(all));
        Ok(())
    });
}

#[test]
fn a_walk_that_meets_its_own_destination_ends_whatever_lies_between() {
    trial(async |at| {
        for name in ["src/x", "dst/y", "other/z"] {
            write(at.join(name));
        }
        let open = |name: &str| store_at(&at.join(name), Layout::Single(space()), None);
        let (source, destination, other) = (open("src"), open("dst"), open("other"));
        let guard = PairGuard::begin(&source, &destination).unwrap();
        let other_guard = PairGuard::begin(&other, &destination).unwrap();
        // The mounts do not show that the destination is served there.
        let _served = FlakyFolder::serve(&at.join("dst"), &at.join("src/served"))?;
        guard.check_mounts().await.unwrap();
        other_guard.check_mounts().await.unwrap();

        let content = PutRequest::new(600_000, properties(&[]));
        let slow = stream::iter([Ok(Bytes::from(vec![1; 300_000]))]).chain(stream::pending()).boxed();
        let (item, always) = (super::at("big"), Precondition::Always);
        let writing = destination.put(&item, &content, &always, slow);
        let looking = async {
            while !at.join("src/served/.mill-in-progress").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let met_destination = list(&source, None).await.unwrap_err();
            assert_eq!(met_destination.kind, StoreErrorKind::NotConfigured);
            let why = mill_ports::error_chain(&met_destination);
            assert!(why.contains("its own destination lies in it: `served/.mill-in-progress/`"), "{why}");
            // For the others it is an ordinary folder.
            assert_eq!(ids(&destination).await, ["y"]);
            assert_eq!(ids(&other).await, ["z"]);
            assert!(ids(&open("src")).await[0].starts_with("served/.mill-in-progress/"), "nothing is written from it");
        };
        tokio::select! {
            _ = writing => panic!("it never ends"),
            () = looking => {}
        }
        Ok(())
    });
}

#[test]
fn a_pair_is_looked_at_again_as_soon_as_anything_is_mounted() {
    trial(async |at| {
        for name in ["src/sub/x", "dst/y"] {
            write(at.join(name));
        }
        let open = |name: &str| store_at(&at.join(name), Layout::Single(space()), None);
        let guard = PairGuard::begin(&open("src"), &open("dst")).unwrap();
        guard.check_mounts().await.unwrap();
        let mount = MountGuard::bind(&at.join("src/sub"), &at.join("dst/also"));
        for _ in 0..2 {
            let overlap = guard.check_mounts().await.unwrap_err();
            assert_eq!(overlap.kind, StoreErrorKind::NotConfigured);
            assert!(mill_ports::error_chain(&overlap).contains("hold the same files"), "{overlap:?}");
        }
        mount.unmount();
        guard.check_mounts().await.unwrap();
        std::fs::rename(at.join("dst"), at.join("away")).unwrap();
        let _other = MountGuard::tmpfs(&at.join("elsewhere"), "size=1m")?;
        assert_eq!(kind(guard.check_mounts().await), StoreErrorKind::Unavailable);
        Ok(())
    });
}

#[tokio::test]
async fn what_stands_under_mills_own_name_and_is_not_mills_is_named() {
    let directory = TempDir::new().unwrap();
    let single = || store_at(directory.path(), Layout::Single(space()), None);
    let spaces = || store_at(directory.path(), Layout::Spaces, None);
    std::fs::create_dir_all(directory.path().join(".mill-in-progress/00000000000000aa")).unwrap();
    assert!(list(&single(), None).await.unwrap().1.is_empty(), "what a Mill left is nobody's");
    assert_eq!(spaces().list_spaces().await.unwrap().left_out.count, 0);
    write(directory.path().join(".mill-in-progress/holiday.jpg"));
    assert_eq!(list(&single(), None).await.unwrap().1[".mill-in-progress/"], RefusalReason::Reserved);
    assert_eq!(spaces().list_spaces().await.unwrap().left_out.first[0].1, RefusalReason::Reserved);
    std::fs::remove_dir_all(directory.path().join(".mill-in-progress")).unwrap();
    write(directory.path().join(".mill-in-progress"));
    assert_eq!(list(&single(), None).await.unwrap().1[".mill-in-progress/"], RefusalReason::Reserved);
}

/// Numbers of Linux's errors.
mod nix_errno {
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EIO: i32 = 5;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const ENOTDIR: i32 = 20;
    pub(super) const ELOOP: i32 = 40;
}
