//! An unreadable space stops no other space of its store, is reported, and causes no delete.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use mill_trials::fuse::{FlakyFolder, FolderOperation};
use mill_trials::in_mount_namespace;

use crate::world::{Ran, World, walk};

const EIO: i32 = 5;

/// The policy deletes at the copy what is gone at the source.
const REMOVES: &str = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2", "removeVanished": true}]}"#;

/// Three spaces in the folder of store 1, with this many files each.
fn spaces(world: &World, store: &str, files: usize) {
    for space in ["a", "bad", "z"] {
        for n in 0..files {
            world.write(&format!("{store}/{space}/{n:02}"), format!("{space} {n}"));
        }
    }
}

fn copies(world: &World, space: &str) -> usize {
    walk(&world.path(&format!("two/{space}"))).into_iter().filter(|path| path.is_file()).count()
}

fn allow(world: &World, folder: &str, mode: u32) {
    fs::set_permissions(world.path(folder), fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that the run warns of the space `bad` with these words, and of nothing else.
#[track_caller]
fn named(ran: Ran, words: &str) -> Ran {
    let ran = ran.expect(2);
    let json = ran.json();
    assert_eq!((&json["dead_lettered"], &json["deleted"]), (&0.into(), &0.into()), "{}", ran.out);
    let remarks = json["remarks"].as_array().unwrap();
    let of_space = |remark: &&serde_json::Value| remark.as_str().unwrap().contains("bad");
    assert!(!remarks.is_empty() && remarks.iter().filter(of_space).count() == remarks.len(), "{json}");
    assert!(remarks.iter().any(|remark| remark.as_str().unwrap().contains(words)), "{json}");
    ran
}

#[test]
fn a_space_without_permission_stops_no_other_and_deletes_nothing() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(REMOVES);
    spaces(&world, "one", 5);
    // So old that all of it is proven: then the rule may grant its deletes.
    world.age("one");
    world.mill(&["run", "--json"]).expect(0);
    for (round, (store, mode)) in [("one", 0o000), ("one", 0o111), ("two", 0o000)].into_iter().enumerate() {
        // Each has one new file and one file less; in one space nobody can see that.
        for space in ["a", "bad", "z"] {
            world.write(&format!("one/{space}/new"), format!("{round}"));
        }
        fs::remove_file(world.path("one/bad/03")).unwrap();
        let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(world.path("")).status();
        assert!(owned.unwrap().success());
        allow(&world, &format!("{store}/bad"), mode);
        named(world.as_nobody(&["run", "--json"]), "Permission denied");
        allow(&world, &format!("{store}/bad"), 0o755);
        assert!(world.path("two/bad/03").exists(), "{store} {mode:o}");
        for space in ["a", "z"] {
            assert_eq!(fs::read_to_string(world.path(&format!("two/{space}/new"))).unwrap(), format!("{round}"));
        }
        world.write("one/bad/03", "bad 3");
        world.as_nobody(&["run", "--json"]).expect(0);
        world.same("one", "two");
    }
}

#[test]
fn a_space_whose_directory_fails_stops_no_other_and_deletes_nothing() {
    for store in ["one", "two"] {
        let world = World::new();
        in_mount_namespace(move || {
            world.mill(&["init", "."]).expect(0);
            world.library(REMOVES);
            spaces(&world, "one", 5);
            fs::rename(world.path(store), world.path("real")).unwrap();
            let flaky = FlakyFolder::serve(&world.path("real"), &world.path(store))?;
            world.mill(&["run", "--json"]).expect(0);
            for space in ["a", "bad", "z"] {
                world.write(&format!("one/{space}/new"), "new");
            }
            fs::remove_file(world.path("one/bad/03")).unwrap();
            for operation in [FolderOperation::OpenDirectory, FolderOperation::ReadDirectory] {
                flaky.fail(operation, "bad", EIO);
                named(world.mill(&["run", "--json"]), "Input/output error");
                flaky.repair();
                assert_eq!(
                    [copies(&world, "a"), copies(&world, "bad"), copies(&world, "z")],
                    [6, 5, 6],
                    "{operation:?}"
                );
            }
            world.mill(&["run", "--json"]).expect(0);
            assert_eq!(copies(&world, "bad"), 5);
            Ok(())
        });
    }
}

/// Its tasks are queued before it fails, so each of them fails.
#[test]
fn tasks_of_a_space_that_fails_hold_up_no_task_of_another() {
    let world = World::new();
    in_mount_namespace(move || {
        world.mill(&["init", "."]).expect(0);
        world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
        spaces(&world, "one", 30);
        fs::rename(world.path("one"), world.path("real")).unwrap();
        let flaky = FlakyFolder::serve(&world.path("real"), &world.path("one"))?;
        world.mill(&["produce", "duplication"]).expect(0);
        flaky.fail(FolderOperation::OpenDirectory, "bad", EIO);
        flaky.fail(FolderOperation::Open, "bad", EIO);
        for n in 0..30 {
            flaky.fail(FolderOperation::Lookup, format!("bad/{n:02}"), EIO);
        }
        let ran = named(world.mill(&["run", "--json"]), "Input/output error");
        assert_eq!([copies(&world, "a"), copies(&world, "z")], [30, 30], "{}", ran.out);
        assert_eq!(ran.json()["failed"], 0, "no try fails: {}", ran.out);
        flaky.repair();
        world.mill(&["run", "--json"]).expect(0);
        assert_eq!(copies(&world, "bad"), 30);
        Ok(())
    });
}
