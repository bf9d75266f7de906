//! Identity instead of names: the binary on real mounts. Which folders are the same, and which have been replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mill_trials::fuse::FlakyFolder;
use mill_trials::{FileSystem, LoopDisk, MissingRequirement, MountGuard, in_mount_namespace};

use crate::world::{Ran, World, walk};

/// Runs a trial in a world of its own, with mounts that nobody else sees.
fn trial(run: impl FnOnce(&World) -> Result<(), MissingRequirement> + Send + 'static) {
    in_mount_namespace(move || run(&World::new()));
}

/// All files of a folder with their content.
fn content(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = walk(folder)
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// An account that copies store 1 to store 2 and deletes what vanished.
fn account(world: &World, account: &str, one: &str, two: &str) {
    world.write(
        &format!("policies/{account}-stores.json"),
        format!(
            r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{one}", "primary": true}},
                          {{"id": "2", "type": "folder", "root": "{two}"}}]}}"#
        ),
    );
    world.write(
        &format!("policies/{account}-duplication-policy.json"),
        r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
}

fn accounts(world: &World, accounts: &str) {
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", accounts);
}

#[test]
fn a_source_and_a_destination_that_are_one_folder_are_refused_and_nothing_is_touched() {
    trial(|world| {
        for name in ["data/photos/a", "data/photos/b", "data/letters/c"] {
            world.write(name, name);
        }
        fs::create_dir_all(world.path("dst/originals")).unwrap();
        world.write("dst/mine", "mine");
        let before = content(&world.path("."));
        let refused = |source: &str, destination: &str| {
            let ran = world.mill(&["mirror", source, destination, "--remove-vanished", "--json"]).expect(200);
            assert!(ran.err.contains("hold the same files"), "{}", ran.err);
        };
        // The source is inside the destination: what only the destination has would be deleted, and the originals with
        // it.
        let mount = MountGuard::bind(&world.path("data"), &world.path("dst/originals"));
        refused("data", "dst");
        mount.unmount();
        // The destination is a part of the source under another path.
        let mount = MountGuard::bind(&world.path("data/photos"), &world.path("pm"));
        refused("data", "pm");
        refused("pm", "data");
        mount.unmount();
        for link in ["link", "pm/link"] {
            symlink(world.path("data/photos"), world.path(link)).unwrap();
            refused("data", link);
            refused(link, "data");
            fs::remove_file(world.path(link)).unwrap();
        }
        refused("data/photos", "data/photos/new");
        assert_eq!(content(&world.path(".")).len(), before.len());
        assert_eq!(content(&world.path("data")), content_of(&before, &world.path("data")));
        Ok(())
    });
}

fn content_of(all: &[(std::path::PathBuf, Vec<u8>)], under: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    all.iter().filter(|(path, _)| path.starts_with(under)).cloned().collect()
}

#[test]
fn a_policy_whose_stores_are_one_folder_is_refused_by_every_command_and_the_others_go_on() {
    trial(|world| {
        accounts(world, r#"["ill", "well"]"#);
        account(world, "ill", "ill-one", "ill-two");
        account(world, "well", "well-one", "well-two");
        for name in ["ill-one/room/a", "ill-one/room/b", "well-one/room/c"] {
            world.write(name, name);
        }
        for name in ["ill-two", "well-two"] {
            fs::create_dir_all(world.path(name)).unwrap();
        }
        world.mill(&["policy", "check"]).expect(0);
        let mount = MountGuard::bind(&world.path("ill-one"), &world.path("ill-two/sub"));
        let checked = world.mill(&["policy", "check"]).expect(100);
        assert!(checked.out.contains("ill-stores.json: error: stores `1` and `2`"), "{}", checked.out);
        let ran = world.mill(&["run", "--json"]).expect(200);
        assert!(ran.json()["remarks"].to_string().contains("hold the same files"), "{}", ran.out);
        world.same("well-one", "well-two");
        assert!(!world.path("ill-two/room").exists());
        let produced = world.mill(&["produce", "duplication", "--now"]).expect(200);
        assert!(produced.err.contains("hold the same files"), "{}", produced.err);
        mount.unmount();
        world.mill(&["run", "--json"]).expect(0);
        world.same("ill-one/room", "ill-two/room");
        Ok(())
    });
}

#[test]
fn a_mount_that_makes_two_stores_one_while_their_tasks_wait_stops_the_tasks() {
    trial(|world| {
        accounts(world, r#"["a"]"#);
        account(world, "a", "one", "two");
        world.write("one/room/x", "x");
        fs::create_dir_all(world.path("two/deep")).unwrap();
        world.mill(&["produce", "duplication"]).expect(0);
        let _mount = MountGuard::bind(&world.path("one"), &world.path("two/deep"));
        let mut workman = world.command().args(["work"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        std::process::Command::new("kill").arg(workman.id().to_string()).status().unwrap();
        let ended = workman.wait().unwrap();
        assert_eq!(ended.code(), Some(200));
        assert!(!world.path("two/room").exists());
        Ok(())
    });
}

#[test]
fn a_space_is_not_restored_into_its_own_copy() {
    trial(|world| {
        accounts(world, r#"["a"]"#);
        account(world, "a", "one", "two");
        world.write("one/room/x", "x");
        fs::create_dir_all(world.path("two")).unwrap();
        world.mill(&["run", "--json"]).expect(0);
        let before = content(&world.path("two"));
        symlink(world.path("two"), world.path("back")).unwrap();
        for to in ["two", "two/room", "two/back", "back", "back/room"] {
            let ran = world.mill(&["restore", "a", "room", "--from", "2", to]).expect(200);
            assert!(ran.err.contains("hold the same files"), "{}", ran.err);
        }
        assert_eq!(content(&world.path("two")), before);
        world.mill(&["restore", "a", "room", "--from", "2", "elsewhere", "--unproven"]).expect(0);
        world.same("one/room", "elsewhere");
        Ok(())
    });
}

#[test]
fn destinations_of_two_accounts_in_one_place_are_an_error_of_the_policies() {
    let world = World::new();
    accounts(&world, r#"["a", "b"]"#);
    account(&world, "a", "a-one", "copies");
    account(&world, "b", "b-one", "link");
    for name in ["a-one", "b-one", "copies"] {
        fs::create_dir_all(world.path(name)).unwrap();
    }
    symlink("copies", world.path("link")).unwrap();
    let checked = world.mill(&["policy", "check"]).expect(100);
    assert!(checked.out.contains("b-stores.json: error: store `2` of account `a`"), "{}", checked.out);
    // In a chain of copies, one account writes the folder in the middle and the other reads it.
    account(&world, "b", "link", "b-two");
    fs::create_dir_all(world.path("b-two")).unwrap();
    world.mill(&["policy", "check"]).expect(0);
}

#[test]
fn a_destination_whose_disk_is_not_mounted_is_not_filled() {
    trial(|world| {
        world.write("src/a", "a");
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        fs::create_dir(world.path("dst")).unwrap();
        let mount = disk.mount(FileSystem::Ext4, &world.path("dst"), "")?;
        let _ = fs::remove_dir(world.path("dst/lost+found"));
        world.mirror(&[]).expect(0);
        mount.unmount();
        for _ in 0..2 {
            let ran = world.mirror(&[]).expect(100);
            assert!(ran.err.contains("none is now") && ran.err.contains("--create"), "{}", ran.err);
            assert!(walk(&world.path("dst")).is_empty(), "the mount point is not filled");
        }
        // Another disk is not accepted either.
        let other = MountGuard::tmpfs(&world.path("dst"), "size=4m")?;
        let ran = world.mirror(&[]).expect(100);
        assert!(ran.err.contains("another file system"), "{}", ran.err);
        assert!(walk(&world.path("dst")).is_empty());
        other.unmount();
        let mount = disk.mount(FileSystem::Ext4, &world.path("dst"), "")?;
        world.write("src/b", "b");
        assert_eq!(world.mirror(&[]).expect(0).json()["copied"], 1);
        mount.unmount();
        assert_eq!(world.mirror(&["--create"]).expect(0).json()["copied"], 2, "a person says that it is meant");
        world.mirror(&[]).expect(0);
        Ok(())
    });
}

#[test]
fn a_store_that_is_not_mounted_stops_its_account_only_until_its_place_is_accepted() {
    trial(|world| {
        accounts(world, r#"["ill", "well"]"#);
        for name in ["ill", "well"] {
            account(world, name, &format!("{name}-one"), &format!("{name}-two"));
            world.write(&format!("{name}-one/room/a"), name);
            fs::create_dir_all(world.path(&format!("{name}-two"))).unwrap();
        }
        // On the same file system as the mount point, so that the device number does not show it.
        fs::create_dir(world.path("disk")).unwrap();
        let mount = MountGuard::bind(&world.path("disk"), &world.path("ill-two"));
        world.mill(&["run", "--json"]).expect(0);
        mount.unmount();
        world.write("well-one/room/b", "b");
        world.write("ill-one/room/b", "b");
        let ran = world.mill(&["run", "--json"]).expect(100);
        assert!(ran.json()["remarks"].to_string().contains("mill places accept ill 2"), "{}", ran.out);
        world.same("well-one", "well-two");
        assert!(walk(&world.path("ill-two")).is_empty());
        let listed = world.mill(&["places", "list"]).expect(2);
        assert!(listed.out.contains("none is now"), "{}", listed.out);
        world.mill(&["places", "accept", "ill", "2"]).expect(0);
        world.mill(&["places", "list"]).expect(0);
        world.mill(&["run", "--json"]).expect(0);
        world.same("ill-one/room", "ill-two/room");
        Ok(())
    });
}

#[test]
fn a_space_whose_own_disk_is_not_mounted_is_not_filled_and_the_others_go_on() {
    trial(|world| {
        accounts(world, r#"["a"]"#);
        account(world, "a", "one", "two");
        for name in ["one/photos/x", "one/letters/y"] {
            world.write(name, name);
        }
        let disk = LoopDisk::create(&world.path("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        let mount = disk.mount(FileSystem::Ext4, &world.path("two/photos"), "")?;
        let _ = fs::remove_dir(world.path("two/photos/lost+found"));
        world.mill(&["run", "--json"]).expect(0);
        world.same("one", "two");
        mount.unmount();
        world.write("one/photos/new", "new");
        world.write("one/letters/new", "new");
        let ran = world.mill(&["run", "--json"]).expect(100);
        assert!(ran.json()["remarks"].to_string().contains("mill places accept a 2"), "{}", ran.out);
        assert!(walk(&world.path("two/photos")).is_empty());
        world.same("one/letters", "two/letters");
        let mount = disk.mount(FileSystem::Ext4, &world.path("two/photos"), "")?;
        world.mill(&["run", "--json"]).expect(0);
        world.same("one", "two");
        mount.unmount();
        world.mill(&["places", "list"]).expect(2);
        world.mill(&["places", "accept", "a", "2"]).expect(0);
        world.mill(&["run", "--json"]).expect(0);
        world.same("one", "two");
        Ok(())
    });
}

/// Twenty files under a name.
fn twenty(world: &World, name: &str, what: &str) {
    for n in 0..20 {
        world.write(&format!("{name}/{what}-{n}"), what);
    }
}

#[test]
fn two_mirrors_of_one_destination_never_remove_each_others_copies() {
    let world = World::new();
    twenty(&world, "a", "of-a");
    twenty(&world, "c", "of-c");
    fs::create_dir(world.path("dst")).unwrap();
    symlink("dst", world.path("link")).unwrap();
    let mirror = |source: &str, destination: &str, more: &[&str]| {
        world.mill(&[&["mirror", source, destination, "--json", "--remove-vanished"], more].concat())
    };
    mirror("a", "dst", &[]).expect(0);
    for destination in ["dst", "link", "./dst/"] {
        let ran = mirror("c", destination, &[]).expect(100);
        assert!(ran.err.contains("the mirror of `a`") && ran.err.contains("--take-over"), "{}", ran.err);
    }
    for inside in ["dst/of-c", "dst/deep"] {
        let ran = mirror("c", inside, &[]).expect(100);
        assert!(ran.err.contains("the mirror of `a`"), "what lies in it is its too: {}", ran.err);
        assert!(!world.path(inside).exists(), "what was made for a refused run goes again");
    }
    world.same("a", "dst");
    // With another user's state, or none: the mark is on the directory itself.
    fs::remove_dir_all(world.path("state")).unwrap();
    mirror("c", "dst", &[]).expect(100);
    mirror("a", "dst", &[]).expect(0);
    // The same source by another name, and moved.
    symlink("a", world.path("also-a")).unwrap();
    mirror("also-a", "dst", &[]).expect(0);
    fs::rename(world.path("a"), world.path("b")).unwrap();
    mirror("b", "dst", &[]).expect(0);
    // A copy of the directory with its attributes has no owner.
    let copied =
        std::process::Command::new("cp").args(["-a", "dst", "elsewhere"]).current_dir(world.path(".")).status();
    assert!(copied.unwrap().success());
    mirror("c", "elsewhere", &[]);
    mirror("c", "dst", &["--take-over"]);
    let ran = mirror("b", "dst", &[]).expect(100);
    assert!(ran.err.contains("the mirror of `c`"), "{}", ran.err);
}

#[test]
fn a_mirror_with_its_ends_swapped_overwrites_nothing_unless_asked_to() {
    let world = World::new();
    world.write("o/text", "old");
    world.mill(&["mirror", "o", "oc", "--json"]).expect(0);
    world.write("o/text", "newer than its copy");
    for ends in [["oc", "o"], ["./oc/", "o"]] {
        let ran = world.mill(&[&["mirror"], &ends[..]].concat()).expect(100);
        for words in ["is the copy that `mill mirror` keeps of", "mill restore --mirror", "--take-over"] {
            assert!(ran.err.contains(words), "{}", ran.err);
        }
    }
    assert_eq!(fs::read_to_string(world.path("o/text")).unwrap(), "newer than its copy");
    world.mill(&["mirror", "o", "oc", "--json"]).expect(0);
    // A copy of the copy is a mirror of its own, and what was lost comes back into an empty folder.
    world.mill(&["mirror", "oc", "occ", "--json"]).expect(0);
    fs::remove_dir_all(world.path("o")).unwrap();
    fs::create_dir(world.path("o")).unwrap();
    world.mill(&["mirror", "oc", "o", "--json"]).expect(0);
    world.same("oc", "o");
    world.write("occ/text", "the original from now on");
    world.mill(&["mirror", "occ", "oc", "--json"]).expect(100);
    assert_eq!(world.mill(&["mirror", "occ", "oc", "--json", "--take-over"]).expect(0).json()["updated"], 1);
    // The direction of before, still in somebody's crontab, is the swapped one now.
    world.write("occ/text", "newer than its copy again");
    world.mill(&["mirror", "oc", "occ", "--json"]).expect(100);
    assert_eq!(fs::read_to_string(world.path("occ/text")).unwrap(), "newer than its copy again");
    world.mill(&["mirror", "occ", "oc", "--json"]).expect(0);
    world.mill(&["mirror", "oc", "occ", "--json", "--take-over"]).expect(0);
    world.mill(&["mirror", "occ", "oc", "--json"]).expect(100);
}

#[test]
fn a_copy_is_known_as_one_wherever_it_is_and_whoever_mirrors_it_back() {
    let world = World::new();
    world.write("o/deep/text", "old");
    world.mill(&["mirror", "o", "oc", "--json"]).expect(0);
    world.write("o/deep/text", "newer than its copy");
    fs::rename(world.path("oc"), world.path("renamed")).unwrap();
    let refused = |ends: [&str; 2], state: &str| {
        let mut command = world.command();
        let ran = command.args(["mirror", ends[0], ends[1]]).env("XDG_STATE_HOME", world.path(state)).output();
        assert!(Ran::of(ran.unwrap()).expect(100).err.contains("is the copy that `mill mirror` keeps of"), "{ends:?}");
    };
    // The refused run itself is no sign that the two are mirrored so.
    for _ in 0..2 {
        refused(["renamed", "o"], "state");
        refused(["renamed", "o"], "state-of-another");
        refused(["renamed/deep", "o/deep"], "state");
    }
    assert_eq!(fs::read_to_string(world.path("o/deep/text")).unwrap(), "newer than its copy");
    // Nor is it one that they are mirrored the other way round.
    let mut command = world.command();
    let ran = command.args(["mirror", "o", "renamed"]).env("XDG_STATE_HOME", world.path("state-of-another")).output();
    Ran::of(ran.unwrap()).expect(0);
    // Its items come back into an empty folder, also in two runs, and then it is the copy again.
    fs::remove_dir_all(world.path("o")).unwrap();
    fs::create_dir(world.path("o")).unwrap();
    for _ in 0..2 {
        world.mill(&["mirror", "renamed", "o", "--json"]).expect(0);
    }
    world.same("renamed", "o");
}

#[test]
fn the_copy_of_a_copy_is_not_mirrored_back_over_the_first_original() {
    let world = World::new();
    world.write("o/text", "old");
    for (from, to) in [("o", "k1"), ("k1", "k2"), ("k2", "k3")] {
        world.mill(&["mirror", from, to]).expect(0);
    }
    world.write("o/text", "newer than its copies");
    for copy in ["k1", "k2", "k3"] {
        let ran = world.mill(&["mirror", copy, "o"]).expect(100);
        assert!(ran.err.contains("the copy that"), "{}", ran.err);
    }
    assert_eq!(fs::read_to_string(world.path("o/text")).unwrap(), "newer than its copies");
}

#[test]
fn copies_are_known_beneath_a_renamed_root_and_by_another_state() {
    let world = World::new();
    world.write("A/a/text", "old");
    fs::create_dir(world.path("B")).unwrap();
    world.mill(&["mirror", "A/a", "B/a"]).expect(0);
    world.write("A/a/text", "newer than its copy");
    fs::rename(world.path("B"), world.path("C")).unwrap();
    for state in ["state", "state-of-another"] {
        let mut command = world.command();
        let ran = command.args(["mirror", "C", "A"]).env("XDG_STATE_HOME", world.path(state)).output();
        let ran = Ran::of(ran.unwrap()).expect(100);
        assert!(ran.err.contains("the copy that"), "{}", ran.err);
    }
    assert_eq!(fs::read_to_string(world.path("A/a/text")).unwrap(), "newer than its copy");
}

#[test]
fn the_copy_of_a_policy_is_not_mirrored_back_by_hand() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.write("one/maps/deep/text", "old");
    world.mill(&["run"]).expect(0);
    world.write("one/maps/deep/text", "newer than its copy");
    for (copy, original) in [("two/maps", "one/maps"), ("two/maps/deep", "one/maps/deep"), ("two", "one")] {
        let ran = world.mill(&["mirror", copy, original]).expect(100);
        assert!(ran.err.contains("keeps of") && ran.err.contains("store `2` of account `library`"), "{}", ran.err);
        assert!(ran.err.contains("mill restore ACCOUNT SPACE FOLDER"), "{}", ran.err);
    }
    fs::rename(world.path("one/maps"), world.path("one/charts")).unwrap();
    world.mill(&["mirror", "two/maps", "one/charts"]).expect(100);
    assert_eq!(fs::read_to_string(world.path("one/charts/deep/text")).unwrap(), "newer than its copy");
    // Anywhere else it may go, also where something is.
    world.write("elsewhere/theirs", "theirs");
    for _ in 0..2 {
        world.mill(&["mirror", "two", "elsewhere", "--json"]).expect(0);
    }
    assert_eq!(fs::read_to_string(world.path("elsewhere/maps/deep/text")).unwrap(), "old");
    assert_eq!(
        world.mill(&["mirror", "two/maps", "one/charts", "--json", "--take-over"]).expect(0).json()["updated"],
        1
    );
}

/// Two disks, each with a folder for a copy.
fn two_disks(world: &World) -> Result<[LoopDisk; 2], MissingRequirement> {
    let disk = |name: &str| {
        let disk = LoopDisk::create(&world.path(name), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        let mounted = disk.mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        fs::remove_dir(world.path("mnt/lost+found")).unwrap();
        fs::create_dir(world.path("mnt/x")).unwrap();
        mounted.unmount();
        Ok(disk)
    };
    fs::create_dir(world.path("mnt")).unwrap();
    Ok([disk("one.img")?, disk("two.img")?])
}

#[test]
fn backup_disks_take_turns_at_one_place_once_each_bears_the_mirrors_mark() {
    trial(|world| {
        let disks = two_disks(world)?;
        world.write("src/x", "x");
        let mirror = |options: &[&str]| world.mill(&[&["mirror", "src", "mnt/x", "--json"], options].concat());
        let mounted = disks[0].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        mirror(&[]).expect(0);
        mounted.unmount();
        mirror(&[]).expect(100);
        let mounted = disks[1].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        mirror(&[]).expect(100);
        mirror(&["--create"]).expect(0);
        mounted.unmount();
        for (n, disk) in disks.iter().chain(&disks).enumerate() {
            world.write("src/new", format!("{n}"));
            let mounted = disk.mount(FileSystem::Ext4, &world.path("mnt"), "")?;
            mirror(&[]).expect(0);
            world.same("src", "mnt/x");
            mounted.unmount();
            // The mount point itself bears no mark.
            mirror(&[]).expect(100);
        }
        Ok(())
    });
}

#[test]
fn items_of_another_disk_at_the_source_replace_none_of_the_same_name_unless_accepted() {
    trial(|world| {
        let disks = two_disks(world)?;
        for (disk, card) in disks.iter().zip(["first card", "another"]) {
            let mounted = disk.mount(FileSystem::Ext4, &world.path("mnt"), "")?;
            world.write("mnt/x/IMG_1", card);
            world.write("mnt/x/IMG_2", "the same");
            world.write(&format!("mnt/x/{card}"), card);
            mounted.unmount();
        }
        let mirror = |options: &[&str]| world.mill(&[&["mirror", "mnt/x", "copy"], options].concat());
        let copy = || fs::read_to_string(world.path("copy/IMG_1")).unwrap();
        let first = disks[0].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        mirror(&[]).expect(0);
        first.unmount();
        let second = disks[1].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        for options in [&["--dry-run"][..], &[], &[]] {
            let said = mirror(options).expect(50).out;
            for words in
                ["another file system is there than at the last run", "not copied yet: `IMG_1`", "--accept-source"]
            {
                assert!(said.contains(words), "{words}: {said}");
            }
            assert_eq!(copy(), "first card");
        }
        assert!(world.path("copy/another").is_file(), "what is new on it is copied");
        second.unmount();
        let first = disks[0].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        mirror(&[]).expect(0);
        first.unmount();
        let _second = disks[1].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        let said = mirror(&["--accept-source"]).expect(2).out;
        assert!(said.contains("2 items of it replaced those of the same names"), "{said}");
        assert_eq!(copy(), "another");
        mirror(&[]).expect(0);
        Ok(())
    });
}

#[test]
fn a_disk_that_was_not_accepted_is_the_source_at_no_path_and_not_for_having_nothing() {
    trial(|world| {
        let disks = two_disks(world)?;
        let mounted = disks[0].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        world.write("mnt/x/IMG_1", "first card");
        world.mill(&["mirror", "mnt/x", "copy"]).expect(0);
        mounted.unmount();
        let mirror = |from: &str| world.mill(&["mirror", from, "copy"]);
        let copy = || fs::read_to_string(world.path("copy/IMG_1")).unwrap();
        let mounted = disks[1].mount(FileSystem::Ext4, &world.path("mnt"), "")?;
        // An empty card, which gets pictures of its own.
        world.write("mnt/x/IMG_9", "another");
        mirror("mnt/x");
        world.write("mnt/x/IMG_1", "another card");
        mirror("mnt/x").expect(50);
        assert_eq!(copy(), "first card");
        mounted.unmount();
        fs::create_dir(world.path("other")).unwrap();
        let _mounted = disks[1].mount(FileSystem::Ext4, &world.path("other"), "")?;
        mirror("other/x").expect(100);
        assert_eq!(copy(), "first card");
        Ok(())
    });
}

#[test]
fn a_disk_with_the_same_items_is_the_source_without_being_accepted() {
    trial(|world| {
        let disks = two_disks(world)?;
        let mirror = || world.mill(&["mirror", "mnt/x", "copy"]);
        for (n, disk) in disks.iter().enumerate() {
            let _mounted = disk.mount(FileSystem::Ext4, &world.path("mnt"), "")?;
            world.write("mnt/x/IMG_1", "restored from a backup");
            mirror().expect(0);
            world.write("mnt/x/IMG_1", format!("and worked on, {n}"));
            mirror().expect(0);
            world.write("mnt/x/IMG_1", "restored from a backup");
            mirror().expect(0);
        }
        Ok(())
    });
}

#[test]
fn disks_that_came_up_swapped_overwrite_nothing_even_with_create() {
    trial(|world| {
        let [one, two] = two_disks(world)?;
        for at in ["source", "copy"] {
            fs::create_dir(world.path(at)).unwrap();
        }
        let mount = |disk: &LoopDisk, at: &str| disk.mount(FileSystem::Ext4, &world.path(at), "");
        let mirror = |options: &[&str]| world.mill(&[&["mirror", "source", "copy"], options].concat());
        let mounted = (mount(&one, "source")?, mount(&two, "copy")?);
        world.write("source/text", "old");
        mirror(&[]).expect(0);
        world.write("source/text", "newer than its copy");
        mounted.0.unmount();
        mounted.1.unmount();
        let _mounted = (mount(&two, "source")?, mount(&one, "copy")?);
        mirror(&[]).expect(100);
        let ran = mirror(&["--create"]).expect(100);
        assert!(ran.err.contains("is the copy that `mill mirror` keeps of"), "{}", ran.err);
        assert_eq!(fs::read_to_string(world.path("copy/text")).unwrap(), "newer than its copy");
        Ok(())
    });
}

#[test]
fn one_source_has_no_copies_inside_one_another() {
    let world = World::new();
    twenty(&world, "a", "of-a");
    fs::create_dir_all(world.path("copies")).unwrap();
    world.mill(&["mirror", "a", "copies/a", "--json"]).expect(0);
    world.write("copies/theirs", "somebody's");
    for (outer, options) in [("copies", &["--remove-vanished"][..]), ("copies", &[]), ("copies/a/inner", &[])] {
        let ran = world.mill(&[&["mirror", "a", outer, "--json"], options].concat()).expect(100);
        assert!(ran.err.contains("the mirror of `a`"), "{}", ran.err);
    }
    assert!(!world.path("copies/a/inner").exists(), "what was made for a refused run goes again");
    world.mill(&["runs", "list", "--mirror", "a", "copies/a/inner"]).expect(0);
    world.same("a", "copies/a");
    assert_eq!(fs::read_to_string(world.path("copies/theirs")).unwrap(), "somebody's");
    world.mill(&["mirror", "a", "copies", "--json", "--take-over"]).expect(0);
    assert!(world.path("copies/of-a-0").is_file());
    world.mill(&["mirror", "a", "copies/a", "--json"]).expect(100);
    // A refused run is not remembered as one that had a destination.
    fs::remove_dir_all(world.path("copies")).unwrap();
    fs::create_dir_all(world.path("copies/a")).unwrap();
    world.mill(&["mirror", "a", "copies/a/inner", "--json"]).expect(0);
}

#[test]
fn destinations_that_bear_no_marks_have_one_keeper_too() {
    trial(|world| {
        twenty(world, "a", "of-a");
        twenty(world, "c", "of-c");
        fs::create_dir(world.path("real")).unwrap();
        let _served = FlakyFolder::serve(&world.path("real"), &world.path("dst"))?;
        world.mill(&["mirror", "a", "dst", "--json"]).expect(0);
        let ran = world.mill(&["mirror", "c", "dst", "--json"]).expect(100);
        assert!(ran.err.contains("the mirror of `a`"), "{}", ran.err);
        world.mill(&["mirror", "a", "dst", "--json"]).expect(0);
        world.mill(&["mirror", "c", "dst", "--json", "--take-over"]).expect(0);
        world.mill(&["mirror", "a", "dst", "--json"]).expect(100);
        Ok(())
    });
}

#[test]
fn an_outer_folder_is_no_destination_while_one_lies_in_it() {
    let world = World::new();
    twenty(&world, "a", "of-a");
    twenty(&world, "c", "of-c");
    fs::create_dir_all(world.path("copies")).unwrap();
    world.mill(&["mirror", "a", "copies/a", "--json"]).expect(0);
    let ran = world.mill(&["mirror", "c", "copies", "--json", "--remove-vanished"]).expect(100);
    assert!(ran.err.contains("the mirror of `a`"), "{}", ran.err);
    world.same("a", "copies/a");
    fs::remove_dir_all(world.path("copies/a")).unwrap();
    world.mill(&["mirror", "c", "copies", "--json", "--remove-vanished"]).expect(0);
    world.same("c", "copies");
}

#[test]
fn of_two_accounts_that_begin_to_copy_into_one_space_at_once_only_one_writes_it() {
    let world = World::new();
    accounts(&world, r#"["a", "b"]"#);
    for name in ["a", "b"] {
        account(&world, name, &format!("{name}-one"), "copies");
        twenty(&world, &format!("{name}-one/room"), &format!("of-{name}"));
    }
    fs::create_dir(world.path("copies")).unwrap();
    for _ in 0..2 {
        let ran = world.mill(&["run", "--json"]);
        assert!(matches!(ran.code, 2 | 50), "{} {}", ran.out, ran.err);
        let copies = content(&world.path("copies"));
        let written_by: std::collections::BTreeSet<&[u8]> = copies.iter().map(|(_, bytes)| &**bytes).collect();
        assert_eq!((copies.len(), written_by.len()), (20, 1), "{copies:?}");
    }
}

#[test]
fn a_destination_space_has_one_keeper_over_accounts_stores_and_installations() {
    let world = World::new();
    accounts(&world, r#"["a", "b"]"#);
    account(&world, "a", "a-one", "copies");
    account(&world, "b", "b-one", "link");
    twenty(&world, "a-one/room", "of-a");
    twenty(&world, "b-one/room", "of-b");
    twenty(&world, "b-one/other", "of-b");
    fs::create_dir(world.path("copies")).unwrap();
    symlink("copies", world.path("link")).unwrap();
    world.write("policies/duplication-accounts.json", r#"["a"]"#);
    world.mill(&["run", "--json"]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a", "b"]"#);
    for _ in 0..2 {
        let ran = world.mill(&["run", "--json"]);
        assert!(matches!(ran.code, 2 | 50), "{} {}", ran.out, ran.err);
        let remarks = ran.json()["remarks"].to_string();
        assert!(remarks.contains("store `2` of account `a`"), "{remarks}");
        world.same("a-one/room", "copies/room");
        world.same("b-one/other", "copies/other");
    }
    // Another installation with a store on the same root.
    fs::create_dir(world.path("second")).unwrap();
    let second = |args: &[&str]| world.mill(&[&["--config", "second/mill.toml"], args].concat());
    world.mill(&["init", "second"]).expect(0);
    world.write("second/policies/duplication-accounts.json", r#"["z"]"#);
    for (end, text) in [
        (
            "stores",
            r#"{"stores": [{"id": "1", "type": "folder", "root": "../b-one", "primary": true},
            {"id": "9", "type": "folder", "root": "../copies"}]}"#,
        ),
        (
            "duplication-policy",
            r#"{"removeVanished": true, "spaceDuplicationStorePolicies": {"room": [{"srcStoreId": "1", "destStoreId": "9"}]}}"#,
        ),
    ] {
        world.write(&format!("second/policies/z-{end}.json"), text);
    }
    let ran = second(&["run", "--json"]);
    assert!(ran.json()["remarks"].to_string().contains("store `2` of account `a`"), "{} {}", ran.out, ran.err);
    world.same("a-one/room", "copies/room");
    let owner = second(&["spaces", "owner", "z", "9", "room"]).expect(0);
    assert!(owner.out.contains("store `2` of account `a`"), "{}", owner.out);
    // A mirror into it is refused as well, and so is the installation's store after a mirror.
    let ran = world.mill(&["mirror", "b-one/room", "copies/room"]).expect(100);
    assert!(ran.err.contains("store `2` of account `a`"), "{}", ran.err);
    // An intended change.
    second(&["spaces", "release", "z", "9", "room"]).expect(0);
    second(&["run", "--json"]);
    let ran = world.mill(&["run", "--json"]);
    assert!(ran.json()["remarks"].to_string().contains("store `9` of account `z`"), "{} {}", ran.out, ran.err);
}

#[test]
fn a_space_is_not_released_while_a_policy_still_copies_there() {
    let world = World::new();
    accounts(&world, r#"["a"]"#);
    account(&world, "a", "a-one", "copies");
    account(&world, "b", "b-one", "copies");
    twenty(&world, "a-one/room", "of-a");
    twenty(&world, "b-one/room", "of-b");
    fs::create_dir(world.path("copies")).unwrap();
    world.mill(&["run", "--json"]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a", "b"]"#);
    let refused = |account: &str, why: &str| {
        let release = world.mill(&["spaces", "release", account, "2", "room"]).expect(100);
        assert!(release.err.contains(why) && release.err.contains("account `a`"), "{}", release.err);
    };
    refused("a", "copies there, from store `1` to store `2`");
    refused("b", "copies there, from store `1` to store `2`");
    // An unreadable policy might copy there.
    let policy = fs::read_to_string(world.path("policies/a-duplication-policy.json")).unwrap();
    world.write("policies/a-duplication-policy.json", "{");
    refused("b", "cannot be read now");
    world.write("policies/a-duplication-policy.json", &policy);
    let ran = world.mill(&["run", "--json"]);
    assert!(matches!(ran.code, 2 | 50), "{} {}", ran.out, ran.err);
    world.same("a-one/room", "copies/room");
    // An intended change: only `b` copies there now.
    world.write("policies/duplication-accounts.json", r#"["b"]"#);
    let released = world.mill(&["spaces", "release", "b", "2", "room"]).expect(0);
    assert!(released.out.contains("store `2` of account `a`"), "{}", released.out);
    world.mill(&["spaces", "release", "b", "2", "room"]).expect(100);
}

#[test]
fn a_space_is_released_once_its_account_copies_from_another_store() {
    let world = World::new();
    accounts(&world, r#"["a"]"#);
    let policy = |source: &str| {
        world.write(
            "policies/a-stores.json",
            r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                           {"id": "2", "type": "folder", "root": "copies"}, {"id": "3", "type": "folder", "root": "moved"}]}"#,
        );
        let pair = format!(r#"[{{"srcStoreId": "{source}", "destStoreId": "2"}}]"#);
        world.write("policies/a-duplication-policy.json", format!(r#"{{"defaultPolicies": {pair}}}"#));
    };
    policy("1");
    twenty(&world, "one/room", "of-a");
    twenty(&world, "moved/room", "of-a");
    fs::create_dir(world.path("copies")).unwrap();
    world.mill(&["run", "--json"]).expect(0);
    world.mill(&["spaces", "release", "a", "2", "room"]).expect(100);
    policy("3");
    let ran = world.mill(&["run", "--json"]);
    assert!(ran.code > 0, "{} {}", ran.out, ran.err);
    let released = world.mill(&["spaces", "release", "a", "2", "room"]).expect(0);
    assert!(released.out.contains("by source store `a:1`"), "{}", released.out);
    world.mill(&["run", "--json"]).expect(0);
    let owner = world.mill(&["spaces", "owner", "a", "2", "room"]).expect(0);
    assert!(owner.out.contains("belongs to source store `a:3`"), "{}", owner.out);
}

#[test]
fn a_destination_that_was_refused_is_not_remembered_as_one() {
    trial(|world| {
        accounts(world, r#"["a"]"#);
        account(world, "a", "one", "alias");
        twenty(world, "one/room", "of-a");
        let alias = MountGuard::bind(&world.path("one"), &world.path("alias"));
        world.mill(&["run", "--json"]).expect(200);
        alias.unmount();
        // Corrected: the store is on its own disk, as it should have been.
        let mount = MountGuard::tmpfs(&world.path("alias"), "size=8m")?;
        world.mill(&["run", "--json"]).expect(0);
        world.same("one/room", "alias/room");
        // From now on its place is remembered.
        mount.unmount();
        let ran = world.mill(&["run", "--json"]);
        assert!(ran.code > 2 && content(&world.path("alias")).is_empty(), "{} {}", ran.out, ran.err);
        Ok(())
    });
}

#[test]
fn a_hard_link_is_no_copy() {
    use std::os::unix::fs::MetadataExt as _;
    let world = World::new();
    twenty(&world, "src", "of-a");
    fs::create_dir(world.path("dst")).unwrap();
    let inode = |path: &str| fs::metadata(world.path(path)).unwrap().ino();
    for entry in fs::read_dir(world.path("src")).unwrap() {
        let path = entry.unwrap().path();
        fs::hard_link(&path, world.path("dst").join(path.file_name().unwrap())).unwrap();
    }
    let name = fs::read_dir(world.path("src")).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let (one, other) = (format!("src/{name}"), format!("dst/{name}"));
    let before = inode(&one);
    assert_eq!(before, inode(&other));
    let ran = world.mill(&["verify", "--folders", "src", "dst"]).expect(50);
    assert!(ran.out.contains("a hard link leads to it"), "{}", ran.out);
    let ran = world.mill(&["mirror", "src", "dst", "--json"]).expect(0);
    assert_eq!((ran.json()["updated"].clone(), inode(&one)), (20.into(), before), "{}", ran.out);
    assert_ne!(inode(&other), before);
    // Somebody saves space with hard links between equal files.
    fs::remove_file(world.path(&other)).unwrap();
    fs::hard_link(world.path(&one), world.path(&other)).unwrap();
    world.mill(&["mirror", "src", "dst"]).expect(0);
    assert_ne!(inode(&other), before);
    world.mill(&["verify", "--folders", "src", "dst"]).expect(0);
}

#[test]
fn what_is_mounted_over_a_destination_or_a_space_of_it_is_not_written() {
    trial(|world| {
        accounts(world, r#"["a"]"#);
        account(world, "a", "one", "two");
        twenty(world, "one/room", "of-a");
        twenty(world, "one/other", "of-a");
        fs::create_dir(world.path("two")).unwrap();
        world.mill(&["run", "--json"]).expect(0);
        world.write("theirs/of-a-7", "precious");
        world.write("theirs/room/of-a-7", "precious");
        let theirs = content(&world.path("theirs"));
        for (over, number) in [("two/room", 1), ("two", 2)] {
            let tmpfs = || MountGuard::tmpfs(&world.path(over), "size=8m");
            let bind = || Ok(MountGuard::bind(&world.path("theirs"), &world.path(over)));
            for mount in [&tmpfs as &dyn Fn() -> Result<MountGuard, MissingRequirement>, &bind] {
                world.write(&format!("one/room/new-{number}"), "new");
                world.write(&format!("one/other/new-{number}"), "new");
                let mount = mount()?;
                let covering = content(&world.path(over));
                let ran = world.mill(&["run", "--json"]);
                assert!(matches!(ran.code, 50 | 100), "{over}: {} {}", ran.out, ran.err);
                assert!(ran.json()["remarks"].to_string().contains("mill places accept a 2"), "{}", ran.out);
                assert_eq!(content(&world.path(over)), covering, "{over}");
                mount.unmount();
                world.mill(&["run", "--json"]).expect(0);
                world.same("one/room", "two/room");
            }
        }
        assert_eq!(content(&world.path("theirs")), theirs);
        world.mill(&["mirror", "one/room", "copy"]).expect(0);
        world.write("one/room/newer", "newer");
        let mount = MountGuard::bind(&world.path("theirs"), &world.path("copy"));
        let ran = world.mill(&["mirror", "one/room", "copy"]).expect(100);
        assert!(ran.err.contains("--create"), "{}", ran.err);
        assert_eq!(content(&world.path("theirs")), theirs);
        mount.unmount();
        world.mill(&["mirror", "one/room", "copy"]).expect(0);
        Ok(())
    });
}
