//! What is written down of verifications, and of runs that could not begin.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use mill_trials::{FileSystem, LoopDisk, MissingRequirement, in_mount_namespace};
use serde_json::Value;

use crate::world::World;

/// Changes a byte of a file, as a disk might: neither its size nor its time shows it.
fn damage(world: &World, name: &str) {
    let path = world.path(name);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
}

fn runs(world: &World, args: &[&str]) -> Vec<Value> {
    let listed = world.mill(&[&["runs", "list", "--json"], args].concat()).expect(0).out;
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_copy_in_which_a_verification_found_faults_is_not_called_in_sync_until_another_finds_none() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "compare": "differences"}"#);
    for name in ["maps/a", "maps/b", "other/c"] {
        world.write(&format!("one/{name}"), "some bytes");
    }
    world.age("one");
    world.mill(&["run"]).expect(0);
    let pair = |space: &str| {
        let status: Value = world.mill(&["status", "--json"]).expect(0).json();
        let of = |pair: &&Value| pair["space"] == space;
        status["pairs"].as_array().unwrap().iter().find(of).unwrap().clone()
    };
    assert_eq!(pair("maps").get("verification"), None);
    assert_eq!(world.mill(&["verify", "--quiet"]).expect(0).out, "");
    assert_eq!((&pair("maps")["verification"]["faults"], pair("maps")["in_sync_as_of"].is_string()), (&0.into(), true));
    assert!(world.mill(&["status"]).expect(0).out.contains("; verified "));
    damage(&world, "two/maps/a");
    world.mill(&["verify", "library", "maps", "--quiet"]).expect(50);
    let last = runs(&world, &[]).remove(0);
    assert_eq!((&last["verified"]["space"], &last["sums"]["faults"]), (&"maps".into(), &1.into()), "{last}");
    let shown = world.mill(&["runs", "show"]).expect(0).out;
    assert!(
        shown.contains("maps (store 1 → 2): a: the bytes differ") && shown.contains("of `library`, `maps`"),
        "{shown}"
    );
    assert!(world.mill(&["runs", "list"]).expect(0).out.contains("  verify  "));
    // A verification of another space does not find it right again.
    world.mill(&["verify", "library", "other"]).expect(0);
    let (maps, other) = (pair("maps"), pair("other"));
    assert_eq!((&maps["in_sync_as_of"], &maps["verification"]["faults"]), (&Value::Null, &1.into()), "{maps}");
    assert!(other["in_sync_as_of"].is_string() && other["verification"]["faults"] == 0, "{other}");
    let said = world.mill(&["status"]).expect(0).out;
    let line = said.lines().find(|line| line.starts_with("library/maps")).unwrap();
    assert!(line.contains("NOT as it should be") && !line.contains("in sync"), "{line}");
    // A run that reads it again and leaves all in sync does.
    assert!(world.mill(&["run"]).expect(0).out.contains("1 updated"));
    assert_eq!((&pair("maps")["verification"]["faults"], pair("maps")["in_sync_as_of"].is_string()), (&0.into(), true));
    world.mill(&["run"]).expect(0);
}

/// A mirror with one side on a disk whose bytes change while it is not mounted, as they may on any disk.
fn with_damaged_side(side: &'static str, judge: fn(&World)) {
    in_mount_namespace(move || {
        let world = World::new();
        let disk = LoopDisk::create(&world.path("image"), 40 << 20)?;
        disk.format(FileSystem::Ext4)?;
        fs::create_dir(world.path(side)).unwrap();
        {
            let _mounted = disk.mount(FileSystem::Ext4, &world.path(side), "")?;
            let _ = fs::remove_dir(world.path(&format!("{side}/lost+found")));
            world.write("src/x", "the only copy of these words");
            world.write("src/y", "others");
            world.age("src");
            world.mirror(&[]);
            // The second run proves what was too young for a proof.
            std::thread::sleep(std::time::Duration::from_millis(2_100));
            world.mirror(&[]);
        }
        let mut image = fs::read(disk.image()).unwrap();
        let words = b"the only copy of these words";
        let places: Vec<usize> =
            image.windows(words.len()).enumerate().filter(|(_, found)| found == words).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "the words are on the disk");
        for at in places {
            image[at] = b'T';
        }
        fs::write(disk.image(), image).unwrap();
        let _mounted = disk.mount(FileSystem::Ext4, &world.path(side), "")?;
        judge(&world);
        Ok(())
    });
}

#[test]
fn a_copy_that_its_disk_damaged_is_found_and_repaired_by_the_next_run() {
    with_damaged_side("dst", |world| {
        assert_eq!(world.mirror(&[]).json()["updated"], 0, "a run reads no bytes of what it knows");
        let found = world.mill(&["verify", "src", "dst"]).expect(50).out;
        assert!(found.contains("x: the bytes differ") && found.contains("the copy is damaged"), "{found}");
        assert!(found.contains("compared again by the next run"), "{found}");
        let repaired = world.mirror(&[]).json();
        assert_eq!(repaired["updated"], 1, "{repaired}");
        assert_eq!(fs::read_to_string(world.path("dst/x")).unwrap(), "the only copy of these words");
        // The run has read both sides of it again.
        assert_eq!((&repaired["exit_code"], &repaired["remarks"]), (&0.into(), &serde_json::json!([])), "{repaired}");
        let ended = world.mill(&["verify", "src", "dst", "--json"]).json();
        assert_eq!(ended["faults"], 0, "{ended}");
        assert!(!world.mirror(&[]).json()["remarks"].to_string().contains("verification"));
    });
}

#[test]
fn a_source_that_its_disk_damaged_is_named_and_never_replaces_its_copy() {
    with_damaged_side("src", |world| {
        let found = world.mill(&["verify", "src", "dst"]).expect(50).out;
        assert!(found.contains("x: the bytes differ") && found.contains("the source is damaged"), "{found}");
        assert!(found.contains("--item NAME"), "{found}");
        assert!(found.contains("nor deletes that copy"), "{found}");
        let good = |item: &str| {
            let found = fs::read_to_string(world.path(item)).unwrap();
            assert_eq!(found, "the only copy of these words", "{item}");
        };
        let ran = world.mirror(&[]).json();
        assert_eq!(ran["updated"], 0, "{ran}");
        good("dst/x");
        // Its bytes stay damaged, whatever version they get.
        fs::set_permissions(world.path("src/x"), fs::Permissions::from_mode(0o640)).unwrap();
        let refused = |ran: Value, words: &str| {
            let remarks = ran["remarks"].to_string();
            assert!(remarks.contains(words) && ran["exit_code"] == 50, "{ran}");
        };
        refused(world.mirror(&[]).json(), "not copied yet: `x`");
        good("dst/x");
        world.mill(&["verify", "src", "dst"]).expect(50);
        fs::rename(world.path("src/x"), world.path("src/z")).unwrap();
        refused(world.mirror(&["--remove-vanished"]).json(), "not deleted: `x`");
        good("dst/x");
        // What is brought back is copied, and known, as any other.
        world.mill(&["restore", "--mirror", "src", "dst", "back", "--item", "x"]).expect(0);
        assert_eq!(fs::read_dir(world.path("back")).unwrap().count(), 1);
        fs::remove_file(world.path("src/z")).unwrap();
        fs::copy(world.path("back/x"), world.path("src/x")).unwrap();
        // Of three items one was on a delete list of today already, so this one waits.
        world.mirror(&["--remove-vanished"]).expect(50);
        let ran = world.mirror(&["--remove-vanished", "--confirm-deletes", "1"]).json();
        assert_eq!(ran["deleted"], 1, "{ran}");
        // No run clears what only a verification can judge.
        refused(world.mirror(&[]).json(), "no later one has found them gone");
        good("dst/x");
        world.mill(&["verify", "src", "dst"]).expect(0);
        world.mirror(&[]).expect(0);
    });
}

/// Mirrors files within a disk right after they were written, and brings them back. Returns the exit code: 0 if each was proven.
fn restored_from(world: &World, disk: &LoopDisk, kind: FileSystem) -> Result<i32, MissingRequirement> {
    let _mounted = disk.mount(kind, &world.path("disk"), "")?;
    for n in 0..5 {
        world.write(&format!("disk/src/{n}"), "written a moment ago");
    }
    world.mill(&["mirror", "disk/src", "disk/dst"]).expect(0);
    Ok(world.mill(&["restore", "--mirror", "disk/src", "disk/dst", "back"]).code)
}

#[test]
fn what_was_written_a_moment_before_a_mirror_is_proven_where_times_are_fine() {
    in_mount_namespace(|| {
        for kind in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs] {
            let world = World::new();
            fs::create_dir(world.path("disk")).unwrap();
            let disk = LoopDisk::create(&world.path("image"), FileSystem::BYTES_MIN)?;
            disk.format(kind)?;
            assert_eq!(restored_from(&world, &disk, kind)?, 0, "{kind:?}");
        }
        Ok(())
    });
}

#[test]
fn what_was_written_a_moment_before_a_mirror_is_not_proven_where_times_are_coarse() {
    in_mount_namespace(|| {
        let world = World::new();
        fs::create_dir(world.path("disk")).unwrap();
        let disk = LoopDisk::create(&world.path("image"), FileSystem::BYTES_MIN)?;
        // With inodes of 128 bytes, an ext4 keeps times of whole seconds.
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-I", "128"]).arg(disk.device()).status();
        assert!(made.unwrap().success());
        assert_eq!(restored_from(&world, &disk, FileSystem::Ext4)?, 2);
        Ok(())
    });
}

#[test]
fn a_verification_of_a_mirror_is_among_its_runs_and_of_two_others_it_says_that_none_is_kept() {
    let world = World::new();
    world.write("src/x", "some bytes");
    world.mirror(&[]).expect(0);
    damage(&world, "dst/x");
    let said = world.mill(&["verify", "src", "dst"]).expect(50).out;
    assert!(!said.contains("No record"), "{said}");
    let listed = runs(&world, &["--mirror", "src", "dst"]);
    let codes: Vec<_> =
        listed.iter().map(|run| (run["verified"].is_object(), run["exit_code"].as_u64().unwrap())).collect();
    assert_eq!(codes, [(true, 50), (false, 0)]);
    world.write("third/x", "some bytes");
    let said = world.mill(&["verify", "./src", "./third"]).out;
    assert!(said.contains("No record of this is kept"), "{said}");
}

#[test]
fn a_mirror_that_cannot_begin_is_among_the_runs_of_its_pair_with_the_reason() {
    let world = World::new();
    world.write("src/x", "x");
    world.mirror(&[]).expect(0);
    let codes = || {
        runs(&world, &["--mirror", "src", "dst"])
            .iter()
            .map(|run| run["exit_code"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    fs::rename(world.path("src"), world.path("away")).unwrap();
    world.mirror(&["--dry-run"]).expect(100);
    assert_eq!(codes(), [0], "a dry run leaves nothing");
    let said = world.mirror(&[]).expect(100).err;
    assert_eq!(codes(), [100, 0]);
    let last = runs(&world, &["--mirror", "src", "dst"]).remove(0);
    let sentence = last["sentence"].as_str().unwrap();
    assert!(
        said.contains(sentence) && sentence.contains("the source folder `src` cannot be used"),
        "{sentence}: {said}"
    );
    fs::rename(world.path("away"), world.path("src")).unwrap();
    fs::rename(world.path("dst"), world.path("unmounted")).unwrap();
    world.mirror(&[]).expect(100);
    assert_eq!(codes(), [100, 100, 0]);
    fs::rename(world.path("unmounted"), world.path("dst")).unwrap();
    std::os::unix::fs::symlink("x", world.path("src/link")).unwrap();
    world.mirror(&[]).expect(2);
    let letters = world.mill(&["deadletters", "list", "--mirror", "src", "dst"]).expect(0).out;
    assert!(
        letters.contains("none\nThe last run refused 1 ") && letters.contains("`mill runs show --mirror src dst`"),
        "{letters}"
    );
}
