//! External failures: full and read-only disks, denied folders, disks unplugged during a run. None of them causes a
//! delete or a dead letter.

use std::fs;

use std::process::Command;

use crate::world::{Mount, Ran, World, walk};

/// An account that fails, and one that is well.
fn accounts(world: &World) {
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["ill", "well"]"#);
    for account in ["ill", "well"] {
        world.write(
            &format!("policies/{account}-stores.json"),
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}-one", "primary": true}},
                              {{"id": "2", "type": "folder", "root": "{account}-two"}}]}}"#
            ),
        );
        world.write(
            &format!("policies/{account}-duplication-policy.json"),
            r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
        );
        world.collection(&format!("{account}-one/room"));
        fs::create_dir_all(world.path(&format!("{account}-two"))).unwrap();
    }
}

/// Checks that the healthy account is in sync, nothing was dead-lettered, and the run reports that not all was done.
#[track_caller]
fn others_went_on(world: &World, ran: &Ran) {
    assert!(matches!(ran.code, 2 | 50 | 100), "{} {}", ran.out, ran.err);
    world.same("well-one", "well-two");
    assert_eq!(ran.json()["dead_lettered"], 0, "{}", ran.out);
    assert_eq!(world.mill(&["deadletters", "list", "--json"]).expect(0).out, "");
}

#[test]
fn a_full_disk_stops_its_account_and_is_made_good_when_there_is_room() {
    let world = World::new();
    accounts(&world);
    world.write("ill-one/room/big", vec![1; 3 << 20]);
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &world.path("ill-two"));
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert!(ran.err.to_lowercase().contains("no space left"), "{}", ran.err);
    assert!(!world.path("ill-two/room/big").exists(), "never half a file");
    assert!(Command::new("mount").args(["-o", "remount,size=8m"]).arg(&mount.0).status().unwrap().success());
    world.mill(&["run", "--json"]).expect(0);
    world.same("ill-one/room", "ill-two/room");
}

#[test]
fn a_read_only_destination_stops_its_account_only() {
    let world = World::new();
    accounts(&world);
    let at = world.path("ill-two");
    let real = world.path("real");
    fs::create_dir_all(&real).unwrap();
    let mount = Mount::new(&["--bind", real.to_str().unwrap()], &at);
    assert!(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&mount.0).status().unwrap().success());
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert!(ran.err.to_lowercase().contains("read-only"), "{}", ran.err);
}

#[test]
fn a_denied_destination_stops_its_account_only() {
    let world = World::new();
    accounts(&world);
    fs::create_dir(world.path("data")).unwrap();
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(world.path(".")).status().unwrap().success());
    assert!(Command::new("chmod").args(["755"]).arg(world.path("ill-two")).status().unwrap().success());
    let ran = world.as_nobody(&["run", "--json"]);
    assert!(matches!(ran.code, 2 | 50 | 100), "{} {}", ran.out, ran.err);
    assert_eq!(world.diff("well-one", "well-two"), Vec::<String>::new(), "{} {}", ran.out, ran.err);
    assert_eq!(ran.json()["dead_lettered"], 0);
    assert!(ran.err.to_lowercase().contains("permission denied"), "{}", ran.err);
}

#[test]
fn a_source_root_that_is_gone_deletes_nothing() {
    let world = World::new();
    accounts(&world);
    world.mill(&["run", "--json"]).expect(0);
    let before = walk(&world.path("ill-two")).len();
    fs::rename(world.path("ill-one"), world.path("unplugged")).unwrap();
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert_eq!(walk(&world.path("ill-two")).len(), before);
    // An empty mount point without a mount is no source either.
    fs::create_dir(world.path("ill-one")).unwrap();
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert_eq!(walk(&world.path("ill-two")).len(), before);
    fs::remove_dir(world.path("ill-one")).unwrap();
    fs::rename(world.path("unplugged"), world.path("ill-one")).unwrap();
    world.mill(&["run", "--json"]).expect(0);
}

#[test]
fn a_source_space_that_is_gone_deletes_nothing() {
    let world = World::new();
    accounts(&world);
    world.mill(&["run", "--json"]).expect(0);
    fs::rename(world.path("ill-one/room"), world.path("gone")).unwrap();
    let before = walk(&world.path("ill-two")).len();
    let ran = world.mill(&["run", "--json"]);
    assert!(matches!(ran.code, 0 | 2 | 50), "{} {}", ran.out, ran.err);
    assert_eq!(walk(&world.path("ill-two")).len(), before);
    assert_eq!(ran.json()["dead_lettered"], 0);
}

#[test]
fn a_source_unplugged_in_mid_run_deletes_nothing() {
    let world = World::new();
    accounts(&world);
    for n in 0..3_000 {
        world.write(&format!("ill-one/many/{n}"), format!("{n}"));
    }
    world.mill(&["run", "--json"]).expect(0);
    for n in 0..3_000 {
        world.write(&format!("ill-one/many/{n}"), format!("changed {n}"));
    }
    let before = walk(&world.path("ill-two")).len();
    let mut run = world.command();
    let child = run
        .args(["run", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(150));
    fs::rename(world.path("ill-one"), world.path("unplugged")).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(walk(&world.path("ill-two")).len(), before, "{} {}", ran.out, ran.err);
    assert_eq!(ran.json()["dead_lettered"], 0, "{}", ran.err);
    fs::rename(world.path("unplugged"), world.path("ill-one")).unwrap();
    world.mill(&["run", "--json"]).expect(0);
    world.same("ill-one", "ill-two");
}

#[test]
fn a_broken_policy_or_an_unknown_store_stops_its_account_only() {
    let world = World::new();
    accounts(&world);
    world.write("policies/ill-duplication-policy.json", "{ broken");
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert!(ran.err.contains("ill-duplication-policy.json"), "{}", ran.err);
    world.write(
        "policies/ill-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "7"}]}"#,
    );
    let ran = world.mill(&["run", "--json"]);
    others_went_on(&world, &ran);
    assert!(ran.err.contains('7'), "{}", ran.err);
}

#[test]
fn a_producer_ends_as_an_error_only_if_it_could_look_at_nothing() {
    let world = World::new();
    accounts(&world);
    fs::rename(world.path("ill-one"), world.path("unplugged")).unwrap();
    world.mill(&["produce", "duplication", "--now"]).expect(2);
    fs::rename(world.path("well-one"), world.path("unplugged-too")).unwrap();
    world.mill(&["produce", "duplication", "--now", "--reset"]).expect(200);
    world.mill(&["produce", "duplication", "--reset"]).expect(0);
    let ran = world.mill(&["produce", "duplication", "--now"]).expect(100);
    assert!(ran.err.contains("`ill:1`") && ran.err.contains("`well:1`"), "{}", ran.err);
}

/// Fills a disk to its last block, or makes it read-only.
fn hinder(mount: &Mount, how: &str) {
    if how == "full" {
        fs::create_dir_all(mount.0.join(".others")).unwrap();
        let mut others = fs::File::create(mount.0.join(".others/file")).unwrap();
        while std::io::Write::write_all(&mut others, &[7; 4096]).is_ok() {}
        return;
    }
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&mount.0).status().unwrap().success());
}

/// An account whose destination is its own small disk.
fn with_a_small_disk(world: &World) -> Mount {
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    for n in 0..5 {
        world.write(&format!("one/photos/{n}"), vec![1; 5_000]);
    }
    Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &world.path("two"))
}

const HINDERED: [(&str, &str, &str); 2] = [
    ("full", "No space left on device", "free space there, or use a larger disk"),
    ("read-only", "Read-only file system", "mount it writable"),
];

#[test]
fn of_a_full_or_read_only_destination_run_and_mirror_say_what_to_do() {
    for (how, reason, to_do) in HINDERED {
        let world = World::new();
        let mount = with_a_small_disk(&world);
        hinder(&mount, how);
        let ran = world.mill(&["run", "--give-up-after", "3s"]);
        for said in ["library:2", reason, to_do] {
            assert!(ran.out.contains(said), "{how}: {said}: {} {}", ran.out, ran.err);
        }
        let world = World::new();
        world.collection("src");
        let mount = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &world.path("disk"));
        fs::create_dir(world.path("disk/copy")).unwrap();
        hinder(&mount, how);
        let ran = world.mill(&["mirror", "src", "disk/copy"]);
        for said in ["`disk/copy`", reason, to_do] {
            assert!(ran.out.contains(said) || ran.err.contains(said), "{how}: {said}: {} {}", ran.out, ran.err);
        }
    }
}

#[test]
fn of_a_full_or_read_only_destination_a_workman_says_what_to_do() {
    for (how, reason, to_do) in HINDERED {
        let world = World::new();
        let mount = with_a_small_disk(&world);
        world.mill(&["produce", "duplication", "--now"]).expect(0);
        hinder(&mount, how);
        let log = fs::File::create(world.path("log")).unwrap();
        let mut workman = world.command().arg("work").stderr(log).spawn().unwrap();
        let began = std::time::Instant::now();
        let said = loop {
            let said = fs::read_to_string(world.path("log")).unwrap();
            if said.contains("cannot be used") || began.elapsed() > std::time::Duration::from_mins(1) {
                break said;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        workman.kill().unwrap();
        workman.wait().unwrap();
        for words in ["library:2", reason, to_do] {
            assert!(said.contains(words), "{how}: {words}: {said}");
        }
    }
}
