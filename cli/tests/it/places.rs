//! Identity, never spelling: the binary on real mounts. Which folders are one folder, and which are not what they were.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mill_trials::{Mount, NotRun, apart};

use crate::world::{World, walk};

/// Runs a trial in a world of its own, with mounts that nobody else sees.
fn trial(run: impl FnOnce(&World) -> Result<(), NotRun> + Send + 'static) {
    apart(move || run(&World::new()));
}

/// All files of a folder with what is in them.
fn content(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = walk(folder)
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// An account whose store 1 goes to its store 2, and what vanished goes too.
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
        // The source lies in the destination: what only the destination has would be deleted, the originals with it.
        let mount = Mount::bind(&world.path("data"), &world.path("dst/originals"));
        refused("data", "dst");
        mount.unmount();
        // The destination is a part of the source under another path.
        let mount = Mount::bind(&world.path("data/photos"), &world.path("pm"));
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
        let mount = Mount::bind(&world.path("ill-one"), &world.path("ill-two/sub"));
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
        let _mount = Mount::bind(&world.path("one"), &world.path("two/deep"));
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
        world.mill(&["restore", "a", "room", "--from", "2", "elsewhere"]).expect(0);
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
    // Where a copy is copied on, its folder is written by one account and read by the other.
    account(&world, "b", "link", "b-two");
    fs::create_dir_all(world.path("b-two")).unwrap();
    world.mill(&["policy", "check"]).expect(0);
}
