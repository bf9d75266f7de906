//! What a run says of each item: lines for people, and files for auditors.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Mount, Ran, World, walk};

/// A folder in which something is there for each thing that can become of an item, and its copy from before that.
fn changed_world() -> World {
    let world = World::new();
    for name in ["src/same", "src/deep/er/bytes", "src/mode", "src/gone", "src/other", "src/more"] {
        world.write(name, name);
    }
    world.age("src");
    world.mirror(&[]).expect(0);
    world.write("src/deep/er/bytes", "other bytes, and more of them");
    fs::set_permissions(world.path("src/mode"), fs::Permissions::from_mode(0o604)).unwrap();
    fs::remove_file(world.path("src/gone")).unwrap();
    world.write("src/deep/new one", "a".repeat(3_000));
    std::os::unix::fs::symlink("same", world.path("src/link")).unwrap();
    fs::write(world.path("src").join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    world
}

/// The lines before the summary.
fn told(ran: &Ran) -> Vec<String> {
    let lines: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with(['!', '{'])).collect();
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn verbose_names_each_item_that_changed_or_could_not_and_no_other() {
    let world = changed_world();
    let ran = world.mirror(&["-v", "--remove-vanished"]).expect(2);
    let said = told(&ran);
    let begins = [
        "copied     deep/new one  2.93 KiB",
        "deleted    gone",
        "refused    link: ",
        "refused    not-utf8-\\xff: ",
        "updated    deep/er/bytes  29 B",
        "updated    mode  properties",
    ];
    assert_eq!(said.len(), begins.len(), "{said:#?}");
    for (line, begin) in said.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line:?} {begin:?}");
    }
    let json = ran.json();
    for (counter, count) in [("copied", 1), ("updated", 2), ("deleted", 1), ("refused", 2), ("unchanged", 3)] {
        assert_eq!(json[counter], count, "{counter}");
    }
    let again = world.mirror(&["--verbose"]).expect(2);
    assert!(told(&again).iter().all(|line| line.starts_with("refused")), "{}", again.out);
    for said in [world.mill(&["mirror", "src", "dst", "-v"]), world.mill(&["runs", "show", "--mirror", "src", "dst"])] {
        assert!(said.out.contains("refused    link: a symbolic link"), "{}", said.out);
        assert!(!said.out.contains("not copied: `"), "each is said once: {}", said.out);
    }
    let silent = world.mill(&["mirror", "src", "dst"]).expect(2);
    assert!(silent.out.contains("! not copied: `link`: a symbolic link"), "{}", silent.out);
    world.mirror(&["-v", "-q"]).expect(200);
}

#[test]
fn verbose_tells_of_worker_processes_and_of_held_items_too() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2", "removeVanished": true}]}"#);
    (0..40).for_each(|n| world.write(&format!("one/maps/{n:02}"), "map"));
    let ran = world.mill(&["run", "-v", "--processes", "2", "--json"]).expect(0);
    let mut expected: Vec<String> =
        (0..40).map(|n| format!("copied     library/maps/{n:02} (store 1 → 2)  3 B")).collect();
    assert_eq!(told(&ran), expected);
    (0..30).for_each(|n| fs::remove_file(world.path(&format!("one/maps/{n:02}"))).unwrap());
    let ran = world.mill(&["run", "-v", "--json"]).expect(2);
    expected.truncate(30);
    let held: Vec<String> = told(&ran).iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    let of = |line: &String| line.replace("copied   ", "held     ").replace("  3 B", "");
    assert_eq!(held, expected.iter().map(of).collect::<Vec<_>>());
    assert_eq!(ran.json()["held"], 30);
}

/// What the second program says of a report, which knows the source by its own listing alone.
#[track_caller]
fn checked(world: &World, report: &str, source: &str) -> Value {
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("check_report.py"), report, source]).current_dir(world.path("."));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines of a report.
fn lines(world: &World, report: &str) -> Vec<Value> {
    let text = fs::read_to_string(world.path(report)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_report_accounts_for_each_entry_once_as_an_independent_listing_does() {
    let world = changed_world();
    world.mirror(&["--remove-vanished", "--report", "report.jsonl"]).expect(2);
    let counts = checked(&world, "report.jsonl", "src");
    for (what, count) in [("copied", 1), ("updated", 2), ("deleted", 1), ("unchanged", 3), ("refused", 2)] {
        assert_eq!(counts[what], count, "{what}: {counts}");
    }
    let all = lines(&world, "report.jsonl");
    let of = |item: &str| all.iter().find(|line| line["item"] == item).unwrap();
    assert_eq!(of("not-utf8-\\xff")["item_base64"], "bm90LXV0Zjgt/w==");
    assert_eq!((&of("mode")["part"], &of("deep/new one")["bytes"]), (&"properties".into(), &3_000.into()));
    for name in ["src/closed/inside", "src/unreadable"] {
        world.write(name, name);
    }
    for name in ["src/closed", "src/unreadable"] {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let report = "state/report.jsonl";
    let args = ["mirror", "src", "dst", "--json", "--report", report];
    let ran = world.as_nobody(&args).expect(2);
    let counts = checked(&world, report, "src");
    for (what, count) in [("unchanged", 6), ("refused", 4), ("of earlier runs", 0)] {
        assert_eq!(counts[what], count, "{what}: {counts}");
    }
    let all = lines(&world, report);
    let (first, last) = (&all[0], &all[all.len() - 1]);
    assert_eq!((&first["source"], &first["destination"]), (&"src".into(), &"dst".into()));
    assert_eq!((&last["exit_code"], &last["in_sync"]), (&2.into(), &true.into()));
    assert_eq!(ran.json()["listed"], last["sums"]["listed"]);
    let of = |item: &str| all.iter().find(|line| line["item"] == item).unwrap();
    assert!(of("unreadable")["reason"].as_str().unwrap().contains("denied"), "{}", of("unreadable"));
    assert!(fs::read_dir(world.path("state")).unwrap().count() > 0);
    let left = walk(&world.path("state")).into_iter().filter(|path| path.ends_with("report.db"));
    assert_eq!(left.count(), 0, "the journal is removed once the report is written");
}

#[test]
fn a_report_has_what_worker_processes_did_and_what_was_held_left_out_and_given_up() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    (0..300).for_each(|n| world.write(&format!("one/maps/{n:03}"), "map"));
    world.write("one/loose", "in no space");
    let args = ["run", "--json", "--processes", "2", "--report", "report.jsonl"];
    world.mill(&args).expect(2);
    let counts = checked(&world, "report.jsonl", "one");
    assert_eq!((&counts["copied"], &counts["left_out"]), (&300.into(), &1.into()), "{counts}");
    (0..200).for_each(|n| fs::remove_file(world.path(&format!("one/maps/{n:03}"))).unwrap());
    world.write("one/maps/new", "map");
    world.queue("noise");
    world.mill(&args).expect(50);
    let counts = checked(&world, "report.jsonl", "one");
    for (what, count) in [("copied", 1), ("held", 200), ("dead_lettered", 1), ("unchanged", 100)] {
        assert_eq!(counts[what], count, "{what}: {counts}");
    }
    let held = lines(&world, "report.jsonl").into_iter().find(|line| line["what"] == "held").unwrap();
    assert_eq!(
        (&held["account"], &held["space"], &held["destination"]),
        (&"library".into(), &"maps".into(), &"2".into())
    );
}

#[test]
fn what_a_killed_run_did_is_in_the_report_of_the_run_that_goes_on() {
    let world = World::new();
    (0..3_000).for_each(|n| world.write(&format!("src/many/{n:04}"), format!("{n}")));
    let args = ["mirror", "src", "dst", "--json", "--workers", "8", "--report", "report.jsonl"];
    for least in [500, 1_500] {
        let mut killed = world.command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while walk(&world.path("dst")).iter().filter(|path| path.is_file()).count() < least {
            assert!(began.elapsed() < Duration::from_mins(2) && killed.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(2));
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(lines(&world, "report.jsonl").len(), 1, "a killed run has no last line");
    }
    world.mill(&args).expect(0);
    let counts = checked(&world, "report.jsonl", "src");
    let of = |what: &str| counts[what].as_u64().unwrap_or(0);
    assert_eq!(of("copied") + of("unchanged"), 3_000, "{counts}");
    // All but what was copied right before the kills and had not been written down.
    assert!(of("of earlier runs") >= 900 && of("copied") > 0, "{counts}");
    // The next report begins anew.
    world.mill(&args).expect(0);
    let counts = checked(&world, "report.jsonl", "src");
    assert_eq!((&counts["unchanged"], &counts["of earlier runs"]), (&3_000.into(), &0.into()), "{counts}");
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_the_work_or_at_its_end() {
    let world = World::new();
    (0..2_000).for_each(|n| world.write(&format!("src/a rather long name of a file, number {n:04}"), ""));
    let ran = world.mirror(&["--report", "nowhere/report.jsonl"]).expect(100);
    assert!(ran.err.contains("the report `nowhere/report.jsonl` cannot be written"), "{}", ran.err);
    assert!(!world.path("dst").exists());
    let small = Mount::new(&["-t", "tmpfs", "-o", "size=64k", "small"], &world.path("small"));
    let ran = world.mirror(&["--report", "small/report.jsonl"]).expect(50);
    let remarks = ran.json()["remarks"].to_string();
    assert!(remarks.contains("small/report.jsonl` is not complete") && remarks.contains("No space left"), "{remarks}");
    world.same("src", "dst");
    drop(small);
    world.mill(&["init", "fleet", "--engine", "aws"]).expect(0);
    let ran = world.mill(&["--config", "fleet/mill.toml", "run", "--report", "report.jsonl"]).expect(200);
    assert!(ran.err.contains("--report needs an engine of this host"), "{}", ran.err);
}

#[test]
fn an_earlier_report_is_kept_beside_the_new_one() {
    let world = World::new();
    world.write("src/x", "x");
    let earlier = ["report.jsonl", "report.jsonl.1", "report.jsonl.3"];
    world.write(earlier[0], "{\"mill_report\":1,\"of\":\"an auditor\"}\n");
    world.write("report.jsonl.2", "of another\n");
    world.mirror(&["--report", "report.jsonl"]).expect(0);
    world.mirror(&["--report", "report.jsonl"]).expect(0);
    let [last, first, copied] = earlier.map(|name| fs::read_to_string(world.path(name)).unwrap());
    assert_eq!(first, "{\"mill_report\":1,\"of\":\"an auditor\"}\n");
    assert!(
        copied.contains("\"copied\"") && last.contains("\"unchanged\"") && !last.contains("\"copied\",\"item"),
        "{last}"
    );
    assert_eq!(fs::read_to_string(world.path("report.jsonl.2")).unwrap(), "of another\n");
    // A file that is no report may be somebody's only copy, or Mill's own state.
    world.write("policy.json", "{}");
    for (file, what) in [("policy.json", "{}"), ("report.jsonl.2", "of another\n")] {
        for more in [&[][..], &["--dry-run"]] {
            let ran = world.mirror(&[&["--report", file], more].concat()).expect(200);
            assert!(ran.err.contains("is no report of mill, so it was not overwritten"), "{}", ran.err);
        }
        assert_eq!(fs::read_to_string(world.path(file)).unwrap(), what);
    }
    // What is no file is written as it is.
    world.mirror(&["--report", "/dev/null"]).expect(0);
}

#[test]
fn a_report_lies_in_neither_end_and_waits_for_nobody_to_read_it() {
    let world = World::new();
    world.write("src/x", "x");
    world.mirror(&[]).expect(0);
    for file in ["src/report", "dst/report", "./dst/../dst/x"] {
        for more in [&[][..], &["--dry-run"]] {
            let ran = world.mirror(&[&["--report", file], more].concat()).expect(200);
            assert!(ran.err.contains("would lie in") && ran.err.contains("which is mirrored"), "{}", ran.err);
        }
    }
    world.same("src", "dst");
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ran = world.mirror(&["--report", "pipe"]).expect(100);
    assert!(ran.err.contains("it is a pipe that nobody reads"), "{}", ran.err);
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    // Runs end with 100 until the reader has opened the pipe.
    while world.mirror(&["--report", "pipe"]).code == 100 {}
    assert!(reader.join().unwrap().contains("\"unchanged\""));
}

#[test]
fn the_last_runs_of_a_mirror_are_listed_and_shown_and_a_killed_one_has_not_ended() {
    let world = changed_world();
    world.mirror(&["--remove-vanished"]).expect(2);
    let runs = |args: &[&str]| world.mill(&[&["runs"], args, &["--mirror", "src", "dst"]].concat()).expect(0).out;
    let shown = runs(&["show"]);
    for line in [
        "copied     deep/new one  2.93 KiB\n",
        "deleted    gone\n",
        "updated    mode  properties\n",
        "refused    link: a symbolic link",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(
        shown.contains("1 copied, 2 updated, 1 deleted, 3 unchanged, 2 refused") && !shown.contains("same"),
        "{shown}"
    );
    (0..2_000).for_each(|n| world.write(&format!("src/many/{n:04}"), "x"));
    let mut killed = world.command().args(["mirror", "src", "dst"]).stdout(Stdio::null()).spawn().unwrap();
    while walk(&world.path("dst")).len() < 200 {
        assert!(killed.try_wait().unwrap().is_none());
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let listed: Vec<Value> =
        runs(&["list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exit_codes: Vec<&Value> = listed.iter().map(|run| &run["exit_code"]).collect();
    assert_eq!(exit_codes, [&Value::Null, &2.into(), &0.into()]);
    assert!(runs(&["list"]).contains("not: it goes on, or was killed"));
    let first: Value = serde_json::from_str(&runs(&["show", listed[2]["run"].as_str().unwrap(), "--json"])).unwrap();
    assert_eq!((&first["sums"]["copied"], first["items"].as_array().unwrap().len()), (&6.into(), 6), "{first}");
    assert_eq!((&first["items"][0]["what"], &first["items"][0]["account"]), (&"copied".into(), &Value::Null));
    let ran = world.mill(&["runs", "show", "yesterday", "--mirror", "src", "dst"]).expect(200);
    assert!(ran.err.contains("there is no run `yesterday`"), "{}", ran.err);
}

#[test]
fn the_runs_of_an_installation_are_kept_also_those_that_could_not_go_on() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.write("one/maps/a", "map");
    let list = || world.mill(&["runs", "list"]).expect(0).out;
    assert_eq!(list(), "no run is known yet\n");
    world.mill(&["run", "--processes", "2"]).expect(0);
    let shown = world.mill(&["runs", "show"]).expect(0).out;
    assert!(
        shown.contains("copied     library/maps/a (store 1 → 2)  3 B\n") && shown.contains("(exit code 0)"),
        "{shown}"
    );
    assert_eq!(list().lines().count(), 2, "{}", list());
}
