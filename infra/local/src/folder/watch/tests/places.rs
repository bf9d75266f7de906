//! Roots that go, come back, or are others; mounts.

use mill_trials::{FileSystem, LoopDisk, MissingRequirement, MountGuard, in_mount_namespace};

use super::*;

/// Runs a trial in a folder of its own, with mounts that nobody else sees.
fn trial(run: impl FnOnce(&Path) -> Result<(), MissingRequirement> + Send + 'static) {
    in_mount_namespace(move || {
        let folder = TempDir::new().unwrap();
        run(folder.path())
    });
}

#[test]
fn a_root_that_is_moved_away_gives_no_deletes_and_another_at_its_place_no_hints() {
    let mut watched = watched(|root| {
        fs::create_dir(root.join("s")).unwrap();
        fs::write(root.join("s/a"), "x").unwrap();
    });
    let aside = watched.root.parent().unwrap().join("aside");
    fs::rename(&watched.root, &aside).unwrap();
    watched.says("?all spaces RootAway");
    fs::create_dir_all(watched.at("s")).unwrap();
    watched.write("s/foreign");
    watched.says("?all spaces RootAway");
    std::thread::sleep(Duration::from_secs(1));
    watched.take(Duration::from_millis(500));
    assert!(watched.words().iter().all(|word| word == "?all spaces RootAway"), "{:?}", watched.words());
    // It comes back.
    fs::remove_dir_all(&watched.root).unwrap();
    fs::rename(&aside, &watched.root).unwrap();
    watched.says("?all spaces WatchedAgain");
    watched.write("s/b");
    watched.says("+s/b");
}

#[test]
fn a_root_that_is_not_there_yet_is_watched_once_it_is() {
    let folder = TempDir::new().unwrap();
    let mut watched = watch_at(&folder.path().join("root"), |_| {});
    assert_eq!(watched.words(), ["?all spaces RootAway"]);
    watched.root = folder.path().join("root");
    fs::create_dir_all(watched.at("s")).unwrap();
    watched.says("?all spaces WatchedAgain");
    watched.write("s/a");
    watched.says("+s/a");
}

#[test]
fn a_root_whose_disk_is_unmounted_is_away_and_not_emptied() {
    trial(|at| {
        let disk = LoopDisk::create(&at.join("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        let mounted = disk.mount(FileSystem::Ext4, &at.join("root"), "")?;
        fs::create_dir(at.join("root/s")).unwrap();
        fs::write(at.join("root/s/a"), "x").unwrap();
        let mut watched = watch_at(&at.join("root"), |_| {});
        watched.write("s/b");
        watched.says("+s/b");
        watched.forget();
        // An idle watch keeps no disk from being unmounted.
        mounted.unmount();
        watched.says("?all spaces RootAway");
        // What is put at the empty mount point is not the store's.
        fs::create_dir(watched.at("s")).unwrap();
        watched.write("s/foreign");
        std::thread::sleep(Duration::from_millis(500));
        watched.take(Duration::from_millis(500));
        assert!(watched.words().iter().all(|word| word == "?all spaces RootAway"), "{:?}", watched.words());
        fs::remove_dir_all(watched.at("s")).unwrap();
        let mounted = disk.mount(FileSystem::Ext4, &at.join("root"), "")?;
        watched.says("?all spaces WatchedAgain");
        watched.write("s/c");
        watched.says("+s/c");
        drop(watched);
        mounted.unmount();
        Ok(())
    });
}

#[test]
fn a_mount_that_appears_or_goes_beneath_the_root_is_to_be_listed_and_is_watched() {
    trial(|at| {
        for name in ["root/s/disk", "other/in"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        fs::write(at.join("root/s/disk/below"), "x").unwrap();
        let mut watched = watch_at(&at.join("root"), |_| {});
        let bound = MountGuard::bind(&at.join("other"), &at.join("root/s/disk"));
        watched.says("?`s/disk/` Mounts");
        watched.forget();
        watched.write("s/disk/in/file");
        watched.says("+s/disk/in/file");
        watched.forget();
        bound.unmount();
        watched.says("?`s/disk/` Mounts");
        watched.forget();
        watched.write("s/disk/below");
        watched.says("+s/disk/below");
        assert!(!watched.words().iter().any(|word| word.starts_with('-')), "{:?}", watched.words());
        Ok(())
    });
}

#[test]
fn a_directory_that_a_mount_shows_twice_is_watched_at_one_place_and_that_is_said() {
    trial(|at| {
        for name in ["root/s/here", "root/s/there"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        let _bound = MountGuard::bind(&at.join("root/s/here"), &at.join("root/s/there"));
        let mut watched = watch_at(&at.join("root"), |_| {});
        assert_eq!(watched.left, 1);
        assert!(watched.words()[0].ends_with("ShownTwice"), "{:?}", watched.words());
        watched.write("s/here/file");
        let place = if watched.words()[0].contains("there") { "here" } else { "there" };
        watched.says(&format!("+s/{place}/file"));
        Ok(())
    });
}

#[test]
fn a_file_system_of_many_hosts_is_said_to_report_only_this_one() {
    let reason = RescanReason::OtherHosts("nfs4".to_owned());
    assert!(reason.is_lasting());
    assert!(reason.to_string().contains("nfs4, which reports only what this host changes"), "{reason}");
}
