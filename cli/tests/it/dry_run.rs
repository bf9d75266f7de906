//! A dry run says what a run would do, and changes nothing. Checked by listings, which share no code with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::world::{Ran, World, ends, wait_for_handler, walk};

/// What `ls -lRi --time-style=full-iso` and the times of change say of all that is at these names, and at nothing else.
pub(crate) fn listing(world: &World, names: &[&str]) -> BTreeMap<String, [i64; 8]> {
    let mut found = BTreeMap::new();
    for root in names.iter().map(|name| world.path(name)) {
        let within = if root.is_dir() { walk(&root) } else { Vec::new() };
        for path in within.into_iter().chain([root]) {
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            let facts = [
                facts.ino().try_into().unwrap(),
                facts.mode().into(),
                facts.nlink().try_into().unwrap(),
                facts.size().try_into().unwrap(),
                facts.mtime(),
                facts.mtime_nsec(),
                facts.ctime(),
                facts.ctime_nsec(),
            ];
            found.insert(path.display().to_string(), facts);
        }
    }
    found
}

/// What a report says of each entry. Its first and last line are about the run.
pub(crate) fn said(world: &World, report: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(world.path(report)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["complete"], true, "{text}");
    let of = |line: &Value| (line["what"].to_string(), format!("{} {}", line["item"], line["item_base64"]));
    let found: BTreeSet<_> = lines[1..lines.len() - 1].iter().map(of).collect();
    assert_eq!(found.len(), lines.len() - 2, "each entry once");
    found
}

const KEPT: [&str; 4] = ["src", "dst", "state", "home"];

/// Runs `mill` without a change, by the listings of all that it can reach.
#[track_caller]
fn changes_nothing(world: &World, args: &[&str]) -> Ran {
    let before = listing(world, &KEPT);
    let ran = Ran::of(world.command().env("TMPDIR", world.path("tmp")).args(args).output().unwrap());
    assert_same(world, &before, &format!("{args:?}: {}", ran.err));
    ran
}

/// Checks that nothing was changed, and that no temporary file is left.
#[track_caller]
fn assert_same(world: &World, before: &BTreeMap<String, [i64; 8]>, what: &str) {
    let after = listing(world, &KEPT);
    let of = |path: &String| before.get(path) != after.get(path);
    let changed: BTreeSet<_> = before.keys().chain(after.keys()).filter(|path| of(path)).collect();
    assert!(changed.is_empty(), "{what}: {changed:#?}");
    assert_eq!(walk(&world.path("tmp")), Vec::<std::path::PathBuf>::new(), "{what}");
}

fn begin(world: &World, args: &[&str]) -> Child {
    let mut command = world.command();
    command.env("TMPDIR", world.path("tmp")).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A world with a folder `src` of so many files, which are copied to `dst` and proven.
fn copied(files: usize) -> World {
    let world = World::new();
    fs::create_dir(world.path("tmp")).unwrap();
    for n in 0..files {
        world.write(&format!("src/d{}/f{n}", n % 10), format!("bytes {n}"));
    }
    world.age("src");
    world.mirror(&[]).expect(0);
    std::thread::sleep(Duration::from_millis(2_100));
    world.mirror(&[]).expect(0);
    world
}

/// Changes something of each kind in a folder of at least 600 files.
fn change(world: &World) {
    let path = |n: usize| world.path(&format!("src/d{}/f{n}", n % 10));
    (0..100).for_each(|n| fs::write(path(n), "other bytes, more of them").unwrap());
    (100..150).for_each(|n| fs::write(path(n), "BYTES 123").unwrap());
    (200..300).for_each(|n| fs::set_permissions(path(n), fs::Permissions::from_mode(0o604)).unwrap());
    (300..315).for_each(|n| fs::remove_file(path(n)).unwrap());
    (0..100).for_each(|n| world.write(&format!("src/new/n{n}"), "new"));
    std::os::unix::fs::symlink("x", world.path("src/link")).unwrap();
    fs::write(world.path("src").join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
}

#[test]
fn a_dry_run_says_of_ten_thousand_items_what_the_run_then_does() {
    let world = copied(10_000);
    change(&world);
    let args = ["mirror", "src", "dst", "--remove-vanished", "--json"];
    let dry = [&args[..], &["--dry-run", "-v", "--report", "dry.jsonl"]].concat();
    let dry = changes_nothing(&world, &dry).expect(2);
    let done = world.mill(&[&args[..], &["--report", "done.jsonl"]].concat()).expect(2).json();
    let (planned, then) = (said(&world, "dry.jsonl"), said(&world, "done.jsonl"));
    let differ: Vec<_> = planned.symmetric_difference(&then).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let json = dry.json();
    for (counter, count) in [("copied", 100), ("updated", 250), ("deleted", 15), ("refused", 2), ("unchanged", 9_735)] {
        assert_eq!((&json[counter], &done[counter]), (&count.into(), &count.into()), "{counter}");
    }
    assert_eq!((&json["dry_run"], &json["in_sync"]), (&true.into(), &false.into()));
    let first = fs::read_to_string(world.path("dry.jsonl")).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["dry_run"], true);
    for (word, count) in [("copy ", 100), ("update ", 250), ("delete ", 15), ("refuse ", 2)] {
        assert_eq!(dry.out.lines().filter(|line| line.starts_with(word)).count(), count, "{word}");
    }
    let words = changes_nothing(&world, &["mirror", "src", "dst", "-n"]).expect(2).out;
    assert!(words.contains("Dry run, nothing was changed: 0 would be copied, 0 updated, 0 deleted, "), "{words}");
}

#[test]
fn a_dry_run_of_a_new_pair_leaves_nothing_behind_anywhere() {
    let world = World::new();
    fs::create_dir(world.path("tmp")).unwrap();
    world.write("src/deep/er/x", "bytes");
    let ran = changes_nothing(&world, &["mirror", "src", "dst", "--dry-run", "-v"]).expect(0);
    assert!(ran.out.contains("copy       deep/er/x  5 B"), "{}", ran.out);
    assert!(ran.out.contains("1 would be copied") && !ran.out.contains("First run"), "{}", ran.out);
    assert!(!world.path("dst").exists() && !world.path("state").exists());
    // Beside a copy that another tool made, only the bytes could tell.
    world.write("dst/deep/er/x", "bytes");
    fs::copy(world.path("src/deep/er/x"), world.path("dst/deep/er/x")).unwrap();
    let time = fs::metadata(world.path("src/deep/er/x")).unwrap().modified().unwrap();
    let file = fs::File::options().append(true).open(world.path("dst/deep/er/x")).unwrap();
    file.set_modified(time).unwrap();
    let json = changes_nothing(&world, &["mirror", "src", "dst", "-n", "--json"]).expect(0).json();
    assert_eq!((&json["unread"], &json["copied"]), (&1.into(), &0.into()), "{json}");
}

#[test]
fn a_dry_run_that_is_killed_or_stopped_leaves_nothing() {
    let world = copied(3_000);
    change(&world);
    let args = ["mirror", "src", "dst", "--dry-run", "--json", "--remove-vanished"];
    for wait in [0, 30, 80, 150, 250] {
        let before = listing(&world, &KEPT);
        let mut child = begin(&world, &args);
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_same(&world, &before, &format!("killed after {wait} ms"));
    }
    let before = listing(&world, &KEPT);
    let child = begin(&world, &args);
    wait_for_handler(&child, 2);
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let ran = ends(child);
    assert!(ran.code == 50 || ran.code == 2, "{} {}", ran.code, ran.err);
    assert_same(&world, &before, "stopped");
}

#[test]
fn deletes_that_a_run_would_hold_are_said_as_held_and_the_list_is_kept() {
    let world = copied(100);
    (0..40).for_each(|n| fs::remove_file(world.path(&format!("src/d{}/f{n}", n % 10))).unwrap());
    let args = ["mirror", "src", "dst", "--remove-vanished", "--json"];
    let dry = |more: &[&'static str]| [&args[..], &["--dry-run"], more].concat();
    let ran = changes_nothing(&world, &dry(&["-v"])).expect(2);
    assert_eq!((&ran.json()["held"], &ran.json()["deleted"]), (&40.into(), &0.into()));
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("hold ")).count(), 40);
    let remarks = ran.json()["remarks"].to_string();
    assert!(remarks.contains("a run keeps them too") && !remarks.contains("mill held"), "{remarks}");
    assert_eq!(world.mill(&args).expect(2).json()["held"], 40);
    // What was confirmed would go; to say so neither confirms nor deletes.
    let json = changes_nothing(&world, &dry(&["--confirm-deletes", "40"])).expect(0).json();
    assert_eq!((&json["held"], &json["deleted"]), (&0.into(), &40.into()), "{json}");
    let json = world.mill(&[&args[..], &["--confirm-deletes", "40"]].concat()).expect(0).json();
    assert_eq!(json["deleted"], 40);
}

#[test]
fn a_dry_run_fails_as_the_run_would_with_the_same_words() {
    let world = copied(3);
    let both = |args: &[&str]| {
        let dry = changes_nothing(&world, &[&["mirror", "--dry-run"], args].concat());
        let real = world.mill(&[&["mirror"], args].concat());
        assert_eq!((dry.code, &dry.err), (real.code, &real.err), "{args:?}");
        assert!(real.code >= 50, "{args:?}: {}", real.err);
    };
    both(&["nowhere", "dst"]);
    both(&["src", "no/where"]);
    both(&["src", "src/within"]);
    world.write("third/x", "x");
    both(&["third", "dst"]);
    fs::rename(world.path("dst"), world.path("moved")).unwrap();
    both(&["src", "dst"]);
    let json = changes_nothing(&world, &["mirror", "src", "dst", "--create", "-n", "--json"]).expect(0).json();
    assert_eq!(json["copied"], 3);
    fs::rename(world.path("moved"), world.path("dst")).unwrap();
    // Taking over is said, and not done.
    let json = changes_nothing(&world, &["mirror", "third", "dst", "--take-over", "-n", "--json"]).expect(0).json();
    assert_eq!(json["copied"], 1);
    world.mirror(&[]).expect(0);
}

#[test]
fn a_dry_run_needs_no_right_to_write() {
    let world = World::new();
    world.write("src/x", "x");
    for name in ["dst", "state"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    world.as_nobody(&["mirror", "src", "dst"]).expect(0);
    world.write("src/y", "y");
    fs::set_permissions(world.path("dst"), fs::Permissions::from_mode(0o555)).unwrap();
    // `as_nobody` changes owners, which shows in the times of change.
    let seen = || {
        let all = listing(&world, &["src", "dst", "state"]).into_iter();
        all.map(|(path, facts)| (path, facts[..6].to_vec())).collect::<Vec<_>>()
    };
    let before = seen();
    let json = world.as_nobody(&["mirror", "src", "dst", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(json["copied"], 1, "{json}");
    assert_eq!(seen(), before);
}

#[test]
fn a_dry_run_reads_the_state_that_a_killed_run_left_and_waits_for_no_run() {
    let world = copied(600);
    change(&world);
    let pair = fs::read_dir(world.path("state/mill/mirror")).unwrap().next().unwrap().unwrap().path();
    let args = ["mirror", "src", "dst", "--json", "--workers", "1", "--remove-vanished"];
    let mut child = begin(&world, &args);
    while !has_log(&pair) {
        std::thread::sleep(Duration::from_millis(2));
        assert!(child.try_wait().unwrap().is_none(), "it is killed before its end");
    }
    std::thread::sleep(Duration::from_millis(30));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_log(&pair), "a killed run leaves its log");
    changes_nothing(&world, &[&args[..], &["-n", "--report", "dry.jsonl"]].concat()).expect(2);
    world.mill(&[&args[..], &["--report", "done.jsonl"]].concat()).expect(2);
    // What the killed run did is known to the report of the run alone.
    let changed = |(what, _): &(String, String)| what != "\"unchanged\"";
    let [planned, then] = ["dry.jsonl", "done.jsonl"].map(|report| said(&world, report));
    let differ: Vec<_> = planned.symmetric_difference(&then).filter(|it| changed(it)).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let lock = fs::File::open(pair.join("lock")).unwrap();
    lock.lock().unwrap();
    let ran = changes_nothing(&world, &["mirror", "src", "dst", "-n"]).expect(100);
    assert!(ran.err.contains("another `mill mirror` is at work on"), "{}", ran.err);
}

fn has_log(pair: &Path) -> bool {
    fs::metadata(pair.join("mill.db-wal")).is_ok_and(|facts| facts.len() > 0)
}
