//! "In sync" is a sum that adds up: what is not copied is reported, and what is unknown is never reported as in sync.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Mount, Ran, World, walk};

/// One account over two folder stores.
fn library(world: &World, policy: &str) {
    world.mill(&["init", "."]).expect(0);
    world.library(policy);
}

const DEFAULT: &str =
    r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "spacesToIgnore": ["scratch"]}"#;

fn many(world: &World, folder: &str, count: usize) {
    for n in 0..count {
        world.write(&format!("{folder}/{n:05}"), format!("{n}"));
    }
}

fn begun(world: &World, args: &[&str]) -> Child {
    let mut command = world.command();
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("MILL_WORKMAN_VISIBILITY", "3s");
    command.spawn().unwrap()
}

/// Waits until a folder has this many files.
fn until(folder: &Path, count: usize) {
    let began = Instant::now();
    while walk(folder).iter().filter(|path| path.is_file()).count() < count {
        assert!(began.elapsed() < Duration::from_mins(1), "nothing is copied to {}", folder.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Checks that the outcomes add up to the listed entries.
#[track_caller]
fn adds_up(json: &Value) {
    let of = |name: &str| json[name].as_u64().unwrap();
    let classes =
        ["copied", "updated", "unchanged", "refused", "hidden", "ignored", "vanished", "dropped", "dead_lettered"];
    assert_eq!(classes.map(of).iter().sum::<u64>(), of("listed"), "{json}");
}

fn remarks(json: &Value) -> String {
    let remarks: Vec<&str> = json["remarks"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    remarks.join("\n")
}

#[test]
fn a_folder_that_moves_away_in_mid_run_is_never_called_in_sync() {
    let world = World::new();
    many(&world, "src/many", 3_000);
    let run = begun(&world, &["mirror", "src", "dst", "--json", "--workers", "4"]);
    until(&world.path("dst"), 2);
    fs::rename(world.path("src/many"), world.path("away")).unwrap();
    let ran = Ran::of(run.wait_with_output().unwrap()).expect(2);
    let json = ran.json();
    adds_up(&json);
    let vanished = json["vanished"].as_u64().unwrap() + json["hidden"].as_u64().unwrap();
    assert!(vanished > 0 && json["copied"].as_u64().unwrap() < 3_000, "{json}");
    assert!(remarks(&json).contains("gone when their turn came"), "{json}");
    assert_eq!(json["evidence"], "closing survey", "{json}");
    // The source itself.
    fs::rename(world.path("away"), world.path("src/many")).unwrap();
    let run = begun(&world, &["mirror", "src", "other", "--json", "--workers", "4"]);
    until(&world.path("other"), 2);
    fs::rename(world.path("src"), world.path("away")).unwrap();
    let ran = Ran::of(run.wait_with_output().unwrap());
    assert!(matches!(ran.code, 50 | 100), "{} {}", ran.out, ran.err);
    assert_eq!(ran.json()["in_sync"], false);
}

#[test]
fn a_mistyped_source_an_empty_one_and_a_file_are_no_success() {
    let world = World::new();
    world.write("file", "x");
    fs::create_dir(world.path("empty")).unwrap();
    for source in ["nowhere", "file"] {
        let ran = world.mill(&["mirror", source, "dst"]).expect(100);
        assert!(ran.err.contains(&format!("`{source}`")), "{}", ran.err);
    }
    let ran = world.mill(&["mirror", "empty", "dst"]).expect(2);
    assert!(ran.out.contains("`empty` holds nothing"), "{}", ran.out);
    assert!(ran.out.contains("Nothing was there to be copied"), "{}", ran.out);
    // An empty source has not claimed the destination.
    world.write("right/a", "x");
    world.mill(&["mirror", "right", "dst"]).expect(0);
}

/// Creates everything that can be beside spaces, and spaces that a rule excludes. Returns the names.
fn left_out(world: &World) -> Vec<String> {
    library(world, DEFAULT);
    world.write("one/photos/a", "copied");
    world.write("one/x-rays/b", "internal by its name");
    world.write("one/scratch/c", "ignored");
    world.write("one/loose", "in no space");
    world.write("one/.mill-in-progress/mine", "somebody's own");
    std::os::unix::fs::symlink("photos", world.path("one/link")).unwrap();
    for name in ["with\ttab".as_bytes(), b"not-utf8-\xff"] {
        let folder = world.path("one").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("d"), "d").unwrap();
    }
    ["x-rays", "scratch", "loose", ".mill-in-progress", "link", "with\\ttab", "not-utf8-\\xff"]
        .map(|name| format!("`{name}`"))
        .to_vec()
}

#[test]
fn what_a_rule_leaves_out_is_named_with_the_rule_and_verify_is_not_content_with_it() {
    let world = World::new();
    let names = left_out(&world);
    let json = world.mill(&["run", "--json"]).expect(2).json();
    assert_eq!((&json["copied"], &json["left_out"], &json["in_sync"]), (&1.into(), &7.into(), &true.into()), "{json}");
    adds_up(&json);
    let text = world.mill(&["run"]).expect(2).out;
    let verified = world.mill(&["verify"]).expect(2).out;
    let produced = world.mill(&["produce", "duplication", "--now"]).expect(2).err;
    for said in [remarks(&json), text, verified] {
        for name in &names {
            assert_eq!(said.lines().filter(|line| line.contains(name)).count(), 1, "{name} once in {said}");
        }
        for rule in ["DuraCloud's rule", "spacesToIgnore", "lies in no space", "symbolic link", "not UTF-8", "reserved"]
        {
            assert!(said.contains(rule), "{rule} in {said}");
        }
    }
    for name in ["x-rays", "scratch", "loose", "link", "with", "not-utf8"] {
        assert!(produced.contains(name), "{name} in {produced}");
    }
}

#[test]
fn a_mirror_names_a_sources_own_reserved_folder() {
    let world = World::new();
    world.write("src/a", "copied");
    world.write("src/.mill-in-progress/mine", "somebody's own");
    let json = world.mirror(&[]).expect(2).json();
    assert_eq!((&json["copied"], &json["ignored"]), (&1.into(), &1.into()), "{json}");
    assert!(remarks(&json).contains("`.mill-in-progress/`: its name is reserved"), "{json}");
    let verified = world.mill(&["verify", "src", "dst"]).expect(2).out;
    assert!(
        verified.contains("`.mill-in-progress/`") || verified.contains(".mill-in-progress/: cannot be copied"),
        "{verified}"
    );
}

#[test]
fn where_nothing_is_configured_nothing_is_called_in_sync() {
    let world = World::new();
    library(&world, "{}");
    let of = |what: &str| {
        let ran = world.mill(&["run", "--json"]).expect(2);
        assert!(remarks(&ran.json()).contains(what), "{what} in {}", ran.out);
        assert_eq!(ran.json()["in_sync"], false, "{}", ran.out);
        world.mill(&["produce", "duplication", "--now"]).expect(2);
        world.mill(&["verify"]).expect(2)
    };
    world.write("one/photos/a", "x");
    of("nothing to do for account `library`");
    let contradiction = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"},
        {"srcStoreId": "2", "destStoreId": "1"}]}"#;
    world.write("policies/library-duplication-policy.json", contradiction);
    let verified = of("`photos`");
    assert!(verified.out.contains("stopped"), "{}", verified.out);
    fs::remove_dir_all(world.path("one/photos")).unwrap();
    of("stopped");
    let mistyped = r#"{"spaceDuplicationStorePolicies": {"fotos": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
    world.write("policies/library-duplication-policy.json", mistyped);
    let ran = world.mill(&["run", "--json"]).expect(2);
    assert!(remarks(&ran.json()).contains("space `fotos` of account `library` is not there in store 1"), "{}", ran.out);
    world.write("policies/duplication-accounts.json", "[]");
    of("no account is configured");
}

#[test]
fn after_a_kill_no_more_is_counted_than_there_is() {
    let world = World::new();
    library(&world, DEFAULT);
    many(&world, "one/photos", 1_500);
    let mut killed = begun(&world, &["run", "--json", "--workers", "4"]);
    until(&world.path("two"), 20);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let ran = Ran::of(begun(&world, &["run", "--json"]).wait_with_output().unwrap()).expect(0);
    let json = ran.json();
    adds_up(&json);
    assert_eq!((&json["listed"], &json["in_sync"], &json["at_least"]), (&1_500.into(), &true.into(), &false.into()));
    assert!(json["copied"].as_u64().unwrap() > 0 && json["bytes"].as_u64().unwrap() > 0, "{json}");
    world.same("one", "two");
}

#[test]
fn what_is_missing_at_the_end_is_named_though_nothing_failed() {
    let world = World::new();
    library(&world, DEFAULT);
    many(&world, "one/photos", 1_000);
    let run = begun(&world, &["run", "--json", "--workers", "2"]);
    until(&world.path("two"), 5);
    // Somebody empties the queue.
    world.python(
        "import sqlite3; c = sqlite3.connect('data/mill.db', timeout=30); c.execute('delete from message'); \
         c.execute('update queue set messages = 0'); c.commit()",
    );
    let json = Ran::of(run.wait_with_output().unwrap()).expect(50).json();
    assert_eq!((&json["in_sync"], &json["evidence"]), (&false.into(), &Value::Null), "{json}");
    let said = remarks(&json);
    let (named, copied) = (said.matches("not in sync: `").count(), walk(&world.path("two/photos")).len());
    assert!(named == 50 || copied + named == 1_000, "{named} named, {copied} copied: {said}");
    let json = world.mill(&["run", "--json"]).expect(0).json();
    assert_eq!(json["in_sync"], true, "{json}");
}

#[test]
fn counts_of_workmen_in_processes_of_their_own_are_least_ones_and_a_closing_survey_decides() {
    let world = World::new();
    library(&world, DEFAULT);
    many(&world, "one/photos", 100);
    std::os::unix::fs::symlink("nowhere", world.path("one/photos/link")).unwrap();
    let json = world.mill(&["run", "--processes", "2", "--json"]).expect(2).json();
    let said = (&json["evidence"], &json["at_least"], &json["copied"], &json["listed"]);
    assert_eq!(said, (&"closing survey".into(), &true.into(), &100.into(), &101.into()), "{json}");
    let text = world.mill(&["run", "--processes", "2"]).expect(2).out;
    assert!(text.contains("In sync, but for what is named above: at least 0 copied"), "{text}");
}

#[test]
fn status_says_as_of_when_each_copy_is_in_sync() {
    let world = World::new();
    library(&world, DEFAULT);
    world.write("one/photos/a", "x");
    world.write("one/letters/b", "y");
    let status = || world.mill(&["status"]).expect(0).out;
    assert!(status().contains("library/photos (1 → 2): unknown"), "{}", status());
    world.mill(&["run"]).expect(0);
    assert!(status().contains("library/photos (1 → 2): in sync as of 20"), "{}", status());
    world.write("one/photos/c", "z");
    let produced = world.mill(&["produce", "duplication", "--now"]).expect(0).out;
    assert!(produced.contains("as of 20") && produced.contains(" listed, "), "{produced}");
    let told = status();
    let line = told.lines().find(|line| line.contains("library/photos")).unwrap();
    assert!(line.contains("2 to be compared or copied as of 20") && line.ends_with(" tasks wait"), "{told}");
    let json = world.mill(&["status", "--json"]).expect(0).json();
    assert_eq!(json["pairs"].as_array().unwrap().len(), 2, "{json}");
    world.mill(&["run"]).expect(0);
    assert!(!status().contains("differed"), "{}", status());
    // An item that a destination refuses is not in sync.
    world.write("one/letters/taken", "z");
    world.write("two/letters/taken/by another", "theirs");
    world.mill(&["run"]).expect(2);
    let told = status();
    let line = told.lines().find(|line| line.contains("library/letters")).unwrap();
    assert!(line.contains("in sync as of 20") && line.contains(", 1 refused"), "{told}");
}

#[test]
fn a_policy_that_compares_everything_is_judged_by_its_sum_too() {
    let world = World::new();
    library(&world, r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "compare": "everything"}"#);
    many(&world, "one/photos", 20);
    for copied in [20, 0] {
        let json = world.mill(&["run", "--json"]).expect(0).json();
        adds_up(&json);
        let said = (&json["copied"], &json["queued"], &json["evidence"]);
        assert_eq!(said, (&copied.into(), &20.into(), &"sum".into()), "{json}");
    }
}

/// Checks that no internal account, store or space of a mirror is named.
#[track_caller]
fn speaks_of_paths(ran: &Ran) {
    let own =
        ["mirror:", "mirror/content", "account=mirror", "account `mirror`", "`content", "space=content", "in step"];
    for own in own.into_iter().chain(["source=source", "destination=destination", "store=source", "store=destination"])
    {
        for said in [&ran.out, &ran.err] {
            assert!(!said.contains(own), "{own} in {said}");
        }
    }
}

#[test]
fn a_mirror_that_fails_is_stopped_or_goes_on_names_the_paths_that_were_typed() {
    let world = World::new();
    many(&world, "src/many", 3_000);
    let args = ["mirror", "src", "dst", "--workers", "4", "--log", "info"];
    // Stopped in the middle, and begun again.
    let run = begun(&world, &args);
    until(&world.path("dst"), 2);
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    speaks_of_paths(&Ran::of(run.wait_with_output().unwrap()).expect(50));
    // Its source disappears in the middle, and is absent at the next start.
    let run = begun(&world, &args);
    until(&world.path("dst"), 100);
    fs::rename(world.path("src"), world.path("away")).unwrap();
    speaks_of_paths(&Ran::of(run.wait_with_output().unwrap()));
    speaks_of_paths(&world.mill(&args).expect(100));
    fs::rename(world.path("away"), world.path("src")).unwrap();
    speaks_of_paths(&world.mill(&args).expect(0));
    // Its destination is full, is read-only, and is another disk.
    let disk = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &world.path("disk"));
    fs::create_dir(world.path("disk/copy")).unwrap();
    let args = ["mirror", "src", "disk/copy", "--log", "info"];
    let ran = world.mill(&args);
    assert_ne!(ran.code, 0, "{}", ran.out);
    speaks_of_paths(&ran);
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    speaks_of_paths(&world.mill(&args));
    let _other = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &world.path("disk"));
    fs::create_dir(world.path("disk/copy")).unwrap();
    speaks_of_paths(&world.mill(&args));
}

#[test]
fn a_mirrors_messages_name_the_paths_that_were_typed() {
    let world = World::new();
    world.collection("src");
    world.write("src/locked", "x");
    std::os::unix::fs::symlink("nowhere", world.path("src/link")).unwrap();
    // A folder is in the place of a file.
    world.write("dst/catalogue.csv/in-the-way", "x");
    let ran = world.mill(&["mirror", "src", "dst", "--remove-vanished", "--log", "info"]);
    assert!(matches!(ran.code, 2 | 50), "{} {}", ran.out, ran.err);
    speaks_of_paths(&ran);
    assert!(ran.out.contains("`catalogue.csv`") && ran.out.contains("`dst`"), "{}", ran.out);
}

#[test]
fn an_entry_that_cannot_be_copied_to_two_destinations_is_named_once() {
    let world = World::new();
    library(
        &world,
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}, {"srcStoreId": "1", "destStoreId": "3"}]}"#,
    );
    world.write(
        "policies/library-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                       {"id": "2", "type": "folder", "root": "two"}, {"id": "3", "type": "folder", "root": "three"}]}"#,
    );
    fs::create_dir_all(world.path("three")).unwrap();
    world.write("one/photos/a", "x");
    std::os::unix::fs::symlink("nowhere", world.path("one/photos/link")).unwrap();
    let json = world.mill(&["run", "--json"]).expect(2).json();
    assert_eq!(remarks(&json).matches("`link`").count(), 1, "{json}");
    assert_eq!((&json["refused"], &json["copied"]), (&2.into(), &2.into()), "{json}");
}
