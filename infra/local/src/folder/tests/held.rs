//! Modes and times that file systems do not store as given: each is read back, and stored beside the file where it
//! differs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::UNIX_EPOCH;

use mill_trials::fuse::FlakyFolder;
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, in_mount_namespace};

use super::writing::Rows;
use super::*;

/// Runs a trial in a folder of its own, with mounts that nobody else sees.
fn trial(run: impl AsyncFnOnce(&Path) -> Result<(), MissingRequirement> + Send + 'static) {
    in_mount_namespace(move || {
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(folder.path()))
    });
}

/// Writes an item, sets its properties, and checks both.
async fn is_held(store: &FolderStore, wanted: &Properties) {
    let written = put(store, "x", b"bytes", wanted.clone(), &Precondition::Always).await.unwrap();
    let facts = head(store, "x").await.unwrap();
    assert_eq!((facts.properties.as_ref(), facts.version), (Some(wanted), written.version));
    let other = properties(&[("file-mode", "0600"), ("file-mtime", "1000000000.000000000"), ("note", "a")]);
    for wanted in [&other, wanted] {
        let written = store.put_properties(&at("x"), wanted, &Precondition::Always).await.unwrap();
        let facts = head(store, "x").await.unwrap();
        assert_eq!((facts.properties.as_ref(), facts.version), (Some(wanted), written.version));
    }
}

fn odd() -> Properties {
    properties(&[("file-mode", "0640"), ("file-mtime", "1234567891.123456789"), ("note", "a")])
}

/// FAT stores neither odd seconds nor modes nor attributes.
#[test]
fn a_time_and_a_mode_that_fat_does_not_hold_are_kept_in_the_table_until_the_file_changes() {
    trial(async |folder| on_a_card(folder, FileSystem::Vfat).await);
}

#[test]
fn a_time_and_a_mode_that_exfat_does_not_hold_are_kept_in_the_table_until_the_file_changes() {
    trial(async |folder| on_a_card(folder, FileSystem::ExFat).await);
}

async fn on_a_card(folder: &Path, kind: FileSystem) -> Result<(), MissingRequirement> {
    let disk = LoopDisk::create(&folder.join("image"), FileSystem::BYTES_MIN)?;
    disk.format(kind)?;
    let mount = disk.mount(kind, &folder.join("disk"), "")?;
    std::fs::create_dir(folder.join("disk/s")).unwrap();
    let store = store_at(&folder.join("disk"), Layout::Spaces, Some(Arc::new(Rows::default())));
    is_held(&store, &odd()).await;
    let own = std::fs::metadata(folder.join("disk/s/x")).unwrap();
    assert_ne!((own.mtime_nsec(), own.mode() & 0o777), (123_456_789, 0o640), "this file system holds both");
    let file = std::fs::File::options().write(true).open(folder.join("disk/s/x")).unwrap();
    let touched = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    file.set_times(std::fs::FileTimes::new().set_accessed(touched).set_modified(touched)).unwrap();
    drop(file);
    assert_ne!(std::fs::metadata(folder.join("disk/s/x")).unwrap().mtime(), own.mtime());
    assert_eq!(head(&store, "x").await.unwrap().properties, None, "the row is of another state");
    // Without a sidecar table the log reports it; the copy exists.
    let plain = store_at(&folder.join("disk"), Layout::Spaces, None);
    let wanted = properties(&[("file-mode", "0640"), ("file-mtime", "1234567891.123456789")]);
    put(&plain, "y", b"bytes", wanted, &Precondition::Absent).await.unwrap();
    store.finish().await;
    plain.finish().await;
    mount.unmount();
    Ok(())
}

/// ext4 truncates a time after the year 2446. It has attributes, so no sidecar table is needed.
#[test]
fn a_time_that_ext4_cuts_is_kept_beside_the_file_until_somebody_sets_another() {
    trial(async |folder| {
        let disk = LoopDisk::create(&folder.join("image"), FileSystem::BYTES_MIN)?;
        disk.format(FileSystem::Ext4)?;
        let mount = disk.mount(FileSystem::Ext4, &folder.join("disk"), "")?;
        std::fs::create_dir(folder.join("disk/s")).unwrap();
        let store = store_at(&folder.join("disk"), Layout::Spaces, None);
        for mode in ["0640", "0400"] {
            is_held(&store, &properties(&[("file-mode", mode), ("file-mtime", "20000000000.000000007")])).await;
        }
        let own = std::fs::metadata(folder.join("disk/s/x")).unwrap();
        assert_ne!(own.mtime(), 20_000_000_000, "this file system holds it");
        assert_eq!(own.mode() & 0o7777, 0o400);
        let file = std::fs::File::open(folder.join("disk/s/x")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
        drop(file);
        let facts = head(&store, "x").await.unwrap();
        assert_eq!(
            facts.properties,
            Some(properties(&[("file-mode", "0400"), ("file-mtime", "1600000000.000000000")]))
        );
        store.finish().await;
        mount.unmount();
        Ok(())
    });
}

#[test]
fn a_file_system_that_forgets_a_change_of_the_mtime_alone_is_told_both_times() {
    trial(async |folder| {
        std::fs::create_dir_all(folder.join("served/s")).unwrap();
        let flaky = FlakyFolder::serve(&folder.join("served"), &folder.join("disk"))?;
        flaky.ignore_lone_mtime();
        let store = store_at(&folder.join("disk"), Layout::Spaces, None);
        let wanted = properties(&[("file-mode", "0640"), ("file-mtime", "1234567891.123456789")]);
        put(&store, "x", b"bytes", wanted.clone(), &Precondition::Absent).await.unwrap();
        let own = std::fs::metadata(folder.join("served/s/x")).unwrap();
        assert_eq!((own.mtime(), own.mtime_nsec()), (1_234_567_891, 123_456_789), "the file itself has it");
        assert_eq!(head(&store, "x").await.unwrap().properties, Some(wanted));
        store.finish().await;
        Ok(())
    });
}

#[tokio::test]
async fn a_right_to_run_as_the_owner_is_a_property_and_no_copys_right() {
    let scratch = Scratch::new();
    let set = |id: &str, mode| {
        std::fs::set_permissions(scratch.path(id), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    scratch.file("x", b"bytes");
    set("x", 0o4755);
    let source = head(&scratch.store, "x").await.unwrap().properties.unwrap();
    assert_eq!(source.get("file-mode"), Some("4755"), "it is told of a source");
    for id in ["copy", "copies/"] {
        let bytes: &[u8] = if id.ends_with('/') { b"" } else { b"bytes" };
        put(&scratch.store, id, bytes, source.clone(), &Precondition::Absent).await.unwrap();
        assert_eq!(head(&scratch.store, id).await.unwrap().properties.as_ref(), Some(&source), "{id}");
        let own = std::fs::metadata(scratch.path(id)).unwrap();
        assert_eq!(own.mode() & 0o7777, 0o755, "{id}: nobody becomes another by a copy");
    }
    set("copy", 0o700);
    let copy = head(&scratch.store, "copy").await.unwrap().properties.unwrap();
    assert_eq!(copy.get("file-mode"), Some("0700"), "somebody changed it since");
}

/// The attribute of a list that gives user 1234 a right to read and write, the file's group this one, and others none.
pub(super) fn access_list(group: u16) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let entries = [(0x01_u16, 6_u16, NONE), (0x02, 6, 1234), (0x04, group, NONE), (0x10, 6, NONE), (0x20, 0, NONE)];
    let entries = entries
        .into_iter()
        .flat_map(|(tag, right, id)| [&tag.to_le_bytes()[..], &right.to_le_bytes(), &id.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

#[tokio::test]
async fn a_copy_gives_the_group_what_an_access_list_gives_it_and_not_the_mask() {
    let scratch = Scratch::new();
    let set = |id: &str, group| {
        let file = std::fs::File::open(scratch.path(id)).unwrap();
        let list = access_list(group);
        rustix::fs::fsetxattr(&file, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o660, "the mode shows the mask");
    };
    for (group, told) in [(0, "0600"), (4, "0640"), (6, "0660")] {
        let (id, copy) = (format!("x{group}"), format!("copy{group}"));
        scratch.file(&id, b"bytes");
        set(&id, group);
        let source = head(&scratch.store, &id).await.unwrap().properties.unwrap();
        assert_eq!(source.get("file-mode"), Some(told));
        let opened = scratch.store.open(&at(&id), None, None).await.unwrap().present().unwrap();
        assert_eq!(opened.facts.properties.as_ref(), Some(&source));
        put(&scratch.store, &copy, b"bytes", source, &Precondition::Absent).await.unwrap();
        let own = std::fs::metadata(scratch.path(&copy)).unwrap();
        assert_eq!(format!("{:04o}", own.mode() & 0o7777), told);
    }
    // A list that was there before, as of a folder with one for what is made in it: the copy is as it was asked to be.
    scratch.file("y", b"bytes");
    set("y", 0);
    is_set(&scratch.store, "y", "0640").await;
}

async fn is_set(store: &FolderStore, id: &str, mode: &str) {
    let wanted = properties(&[("file-mode", mode), ("file-mtime", "1000000000.000000000")]);
    store.put_properties(&at(id), &wanted, &Precondition::Always).await.unwrap();
    assert_eq!(head(store, id).await.unwrap().properties, Some(wanted));
}
