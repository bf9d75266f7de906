//! `init`, `policy`, `produce`, `work`, `run`, `status`, `deadletters`, `verify`, `restore`, `config` on one machine.

use std::fs;

use crate::world::{World, walk};

/// Two accounts, three stores each.
fn two_accounts(world: &World) {
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["library", "museum"]"#);
    for account in ["library", "museum"] {
        world.write(
            &format!("policies/{account}-stores.json"),
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}/one", "primary": true}},
                              {{"id": "2", "type": "folder", "root": "{account}/two"}},
                              {{"id": "3", "type": "folder", "root": "{account}/three"}}]}}"#
            ),
        );
        for store in ["one", "two", "three"] {
            fs::create_dir_all(world.path(&format!("{account}/{store}"))).unwrap();
        }
        world.collection(&format!("{account}/one/reading-room"));
    }
    world.write(
        "policies/library-duplication-policy.json",
        r#"{"spaceDuplicationStorePolicies": {"reading-room": [{"srcStoreId": "1", "destStoreId": "2"},
            {"srcStoreId": "1", "destStoreId": "3"}]}, "spacesToIgnore": ["scratch"]}"#,
    );
    world.write(
        "policies/museum-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
}

#[test]
fn run_brings_every_copy_of_every_account_in_sync() {
    let world = World::new();
    two_accounts(&world);
    fs::create_dir_all(world.path("museum/one/empty-space")).unwrap();
    world.write("museum/one/x-internal/secret", "never duplicated");
    world.age("library/one");
    // It is reported with the rule.
    let json = world.mill(&["run", "--json"]).expect(2).json();
    assert_eq!(json["copied"], 39, "{json}");
    for copy in ["library/two", "library/three", "museum/two"] {
        let account = copy.split('/').next().unwrap();
        world.same(&format!("{account}/one/reading-room"), &format!("{copy}/reading-room"));
    }
    assert!(world.path("museum/two/empty-space").is_dir(), "an empty space arrives too");
    assert!(!world.path("museum/two/x-internal").exists());
    fs::remove_file(world.path("museum/one/reading-room/README.txt")).unwrap();
    let json = world.mill(&["run", "--json"]).expect(2).json();
    assert_eq!(json["deleted"], 1, "{json}");
    assert_eq!(json["copied"], 0, "{json}");
}

#[test]
fn workmen_in_processes_of_their_own_report_to_the_run() {
    let world = World::new();
    two_accounts(&world);
    let json = world.mill(&["run", "--processes", "3", "--json"]).expect(0).json();
    assert_eq!(json["copied"], 39, "{json}");
    world.same("library/one", "library/three");
}

#[test]
fn a_producer_from_cron_and_a_workman_do_what_run_does() {
    let world = World::new();
    two_accounts(&world);
    world.mill(&["produce", "duplication"]).expect(0);
    let again = world.mill(&["produce", "duplication"]).expect(0);
    assert!(again.out.contains("not due"), "{} {}", again.out, again.err);
    assert_eq!(again.out.lines().count(), 1, "one line for cron: {}", again.out);
    let status: serde_json::Value = serde_json::from_str(&world.mill(&["status", "--json"]).expect(0).out).unwrap();
    assert_eq!(status["queues"].as_array().unwrap().len(), 7);
    let low = status["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "duplication-low").unwrap();
    assert!(low["visible"].as_u64().unwrap() >= 39, "{status}");
    let mut workman = world.command().arg("work").spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !world.diff("library/one/reading-room", "library/three/reading-room").is_empty() {
        assert!(std::time::Instant::now() < until, "the workman did not do it");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    std::process::Command::new("kill").arg(workman.id().to_string()).status().unwrap();
    assert!(workman.wait().unwrap().success(), "a gentle stop is a success");
}

#[test]
fn purged_tasks_are_found_again_by_the_next_loop() {
    let world = World::new();
    two_accounts(&world);
    world.mill(&["produce", "duplication"]).expect(0);
    world.python(
        "import sqlite3; c = sqlite3.connect('data/mill.db'); n = c.execute('delete from message').rowcount; \
         c.execute('update queue set messages = 0'); c.commit(); assert n >= 39, n",
    );
    assert_eq!(world.mill(&["run", "--json"]).expect(0).json()["copied"], 39);
    world.same("museum/one", "museum/two");
}

#[test]
fn policy_check_names_every_fault_at_once() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a", "b"]"#);
    world.write(
        "policies/a-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true}]}"#,
    );
    world.write(
        "policies/a-duplication-policy.json",
        "{\n  \"defaultPolicies\": [{\"srcStoreId\": \"1\", \"destStoreId\": \"1\"}],\n  \"spacesToIgnor\": [],\n  \
         \"spaceDuplicationStorePolicies\": {\"s\": [{\"srcStoreId\": \"1\", \"destStoreId\": \"9\"}]}\n}",
    );
    world.write("policies/b-stores.json", r#"{"stores": []}"#);
    world.write("policies/b-duplication-policy.json", "{ \"defaultPolicies\": [ }");
    world.write("policies/c-duplication-policy.json", "{}");
    let ran = world.mill(&["policy", "check"]).expect(100);
    for part in [
        "a-duplication-policy.json:2:",
        "spacesToIgnor",
        "a-duplication-policy.json:3:",
        "a-duplication-policy.json:4:",
        "\"9\"",
        "b-duplication-policy.json:1:",
        "c-duplication-policy.json",
        "warning",
    ] {
        assert!(ran.out.contains(part) || part == "\"9\"" && ran.out.contains("`9`"), "{part} in:\n{}", ran.out);
    }
}

#[test]
fn policy_check_warns_of_a_space_that_its_source_does_not_have() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a"]"#);
    world.write(
        "policies/a-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true}, {"id": "2", "type": "folder", "root": "two"}]}"#,
    );
    world.write(
        "policies/a-duplication-policy.json",
        r#"{"spaceDuplicationStorePolicies": {"photos": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#,
    );
    world.write("one/fotos/a", "a");
    let ran = world.mill(&["policy", "check"]).expect(2);
    assert!(
        ran.out.contains("space `photos` is not in store `1`") && ran.out.contains("is its name right?"),
        "{}",
        ran.out
    );
    world.write("one/photos/a", "a");
    world.mill(&["policy", "check"]).expect(0);
}

#[test]
fn a_policy_with_its_stores_swapped_overwrites_no_original_until_that_is_released() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a"]"#);
    world.write(
        "policies/a-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true}, {"id": "2", "type": "folder", "root": "two"}]}"#,
    );
    let policy = |from: &str, to: &str| {
        let pair = format!(r#"{{"defaultPolicies": [{{"srcStoreId": "{from}", "destStoreId": "{to}"}}]}}"#);
        world.write("policies/a-duplication-policy.json", pair);
    };
    policy("1", "2");
    world.write("one/room/text", "old");
    fs::create_dir(world.path("two")).unwrap();
    world.mill(&["run"]).expect(0);
    policy("2", "1");
    world.write("one/room/text", "newer than its copy");
    let ran = world.mill(&["run"]);
    assert!(matches!(ran.code, 2 | 50 | 100), "{}", ran.out);
    for words in ["is the copy that store `2` of account `a`", "mill spaces release a 2 'room'"] {
        assert!(ran.out.contains(words), "{words}: {} {}", ran.out, ran.err);
    }
    assert_eq!(fs::read_to_string(world.path("one/room/text")).unwrap(), "newer than its copy");
    world.mill(&["spaces", "release", "a", "2", "room"]).expect(0);
    world.mill(&["run"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("one/room/text")).unwrap(), "old");
}

/// A policy that copies from the root of store 1 to that of store 2.
fn two_roots(world: &World, roots: [&str; 2]) {
    let [one, two] = roots;
    world.write("policies/duplication-accounts.json", r#"["a"]"#);
    world.write(
        "policies/a-stores.json",
        format!(
            r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{one}", "primary": true}},
                {{"id": "2", "type": "folder", "root": "{two}"}}]}}"#
        ),
    );
    world.write(
        "policies/a-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2", "removeVanished": true}]}"#,
    );
}

#[test]
fn a_policy_whose_roots_were_exchanged_overwrites_no_original_until_that_is_released() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    two_roots(&world, ["one", "two"]);
    world.write("one/room/text", "old");
    fs::create_dir(world.path("two")).unwrap();
    world.mill(&["run"]).expect(0);
    world.write("one/room/text", "newer than its copy");
    world.write("one/room/new", "not copied yet");
    two_roots(&world, ["two", "one"]);
    for _ in 0..2 {
        // What is remembered of the two places would refuse them too.
        for store in ["1", "2"] {
            world.mill(&["places", "accept", "a", store]);
        }
        let ran = world.mill(&["run"]);
        assert!(matches!(ran.code, 50 | 100), "{} {}", ran.out, ran.err);
        for words in ["is the copy that store `2` of account `a`", "mill spaces release a 1 'room'"] {
            assert!(ran.out.contains(words), "{words}: {} {}", ran.out, ran.err);
        }
        assert_eq!(fs::read_to_string(world.path("one/room/text")).unwrap(), "newer than its copy");
        assert!(world.path("one/room/new").is_file());
    }
    two_roots(&world, ["one", "two"]);
    for store in ["1", "2"] {
        world.mill(&["places", "accept", "a", store]);
    }
    world.mill(&["run"]).expect(0);
    two_roots(&world, ["two", "one"]);
    world.mill(&["places", "accept", "a", "2"]).expect(0);
    world.mill(&["spaces", "release", "a", "1", "room"]).expect(0);
    world.write("two/room/text", "the original from now on");
    world.mill(&["run"]).expect(0);
    assert_eq!(fs::read_to_string(world.path("one/room/text")).unwrap(), "the original from now on");
}

#[test]
fn a_policy_copies_no_mirrors_copy_back_over_its_original() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("original/room/text", "old");
    world.mill(&["mirror", "original", "copy"]).expect(0);
    world.write("original/room/text", "newer than its copy");
    two_roots(&world, ["copy", "original"]);
    let ran = world.mill(&["run"]);
    assert!(
        ran.code >= 2 && ran.out.contains("is the copy that the mirror of `original` keeps"),
        "{} {}",
        ran.out,
        ran.err
    );
    assert_eq!(fs::read_to_string(world.path("original/room/text")).unwrap(), "newer than its copy");
}

#[test]
fn policy_explain_says_which_rule_applies_and_why() {
    let world = World::new();
    two_accounts(&world);
    let explain = |account: &str, space: &str| world.mill(&["policy", "explain", account, space]).expect(0).out;
    assert!(explain("library", "reading-room").contains("1 → 3") || explain("library", "reading-room").contains('3'));
    assert!(explain("library", "scratch").to_lowercase().contains("ignore"));
    assert!(explain("museum", "anything").to_lowercase().contains("default"));
    assert!(explain("museum", "x-admin").contains("x-"));
    world.mill(&["policy", "show", "library"]).expect(0);
    world.mill(&["policy", "explain", "nobody", "x"]).expect(100);
}

#[test]
fn a_space_comes_back_from_a_copy() {
    let world = World::new();
    two_accounts(&world);
    world.age("library/one");
    world.mill(&["run"]).expect(0);
    world.mill(&["verify"]).expect(0);
    // A half-written copy: some items are gone, one is damaged.
    fs::remove_file(world.path("library/two/reading-room/README.txt")).unwrap();
    fs::write(world.path("library/two/reading-room/catalogue.csv"), "damaged").unwrap();
    let ran = world.mill(&["restore", "library", "reading-room", "--from", "2", "back"]).expect(50);
    for named in ["README.txt", "catalogue.csv"] {
        assert!(ran.out.contains(named), "`{named}` should be named: {}", ran.out);
    }
    assert_eq!(walk(&world.path("back")).iter().filter(|path| path.is_file()).count(), 11, "what is whole came back");
    world.mill(&["restore", "library", "reading-room", "--from", "3", "whole"]).expect(0);
    world.same("library/one/reading-room", "whole");
    // What Mill did not copy is restored too, but without a sync proof.
    world.write("library/three/reading-room/theirs", "?");
    let ran = world.mill(&["restore", "library", "reading-room", "--from", "3", "all", "--json"]).expect(2);
    assert_eq!((ran.json()["faults"].clone(), ran.json()["unproven"].clone()), (0.into(), 1.into()));
    let ran = world.mill(&["restore", "library", "reading-room", "--from", "3", "all"]).expect(2);
    assert!(ran.out.contains("Of 1 mill has no record of what was copied"), "{}", ran.out);
    world.mill(&["restore", "library", "reading-room", "--from", "3", "asked", "--unproven"]).expect(0);
}

#[test]
fn a_restore_of_what_no_copy_has_leaves_nothing_and_names_what_there_is() {
    let world = World::new();
    two_accounts(&world);
    world.mill(&["run"]).expect(0);
    let ran = world.mill(&["restore", "library", "no-such-room", "--from", "2", "back"]).expect(100);
    assert!(ran.err.contains("no-such-room") && ran.err.contains("reading-room"), "{}", ran.err);
    assert!(!world.path("back").exists());
    fs::create_dir(world.path("back")).unwrap();
    world.mill(&["restore", "library", "no-such-room", "--from", "2", "back"]).expect(100);
    assert_eq!(walk(&world.path("back")), Vec::<std::path::PathBuf>::new(), "a folder that was there stays, as it was");
}

#[test]
fn a_dead_letter_is_listed_shown_retried_and_discarded() {
    let world = World::new();
    two_accounts(&world);
    world.mill(&["run"]).expect(0);
    // A body that nobody can decode represents any task that fails for good.
    world.python(
        "import sqlite3; c = sqlite3.connect('data/mill.db'); \
         c.execute('update number set last = last + 1'); \
         c.execute(\"insert into message (queue, visible_at, sent_at, id, body) \
                    select 3, 1, 1, last, x'6e6f697365' from number\"); \
         c.execute('update queue set messages = messages + 1 where id = 3'); c.commit()",
    );
    let json = world.mill(&["run", "--json"]).expect(50).json();
    assert_eq!(json["dead_lettered"], 1, "{json}");
    let letters = || world.mill(&["deadletters", "list", "--json"]).expect(0).out;
    let letter: serde_json::Value = serde_json::from_str(&letters()).unwrap();
    let id = letter["id"].as_str().unwrap();
    assert_eq!(letter["body"], "noise");
    assert!(world.mill(&["deadletters", "list"]).expect(0).out.contains(id));
    assert!(world.mill(&["deadletters", "show", id]).expect(0).out.contains("duplication-low"));
    world.mill(&["deadletters", "retry", id]).expect(0);
    assert_eq!(letters(), "");
    world.mill(&["run", "--json"]).expect(50);
    let letter: serde_json::Value = serde_json::from_str(&letters()).unwrap();
    let id = letter["id"].as_str().unwrap();
    world.mill(&["deadletters", "discard", id, "--reason", "it is noise"]).expect(0);
    assert_eq!(letters(), "");
    assert!(world.mill(&["deadletters", "list", "--all", "--json"]).expect(0).out.contains("it is noise"));
    world.mill(&["deadletters", "show", "0000"]).expect(100);
}

#[test]
fn config_show_gives_each_value_and_its_origin() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    let mut command = world.command();
    let output = command.args(["config", "show"]).env("MILL_WORKMAN_WORKERS", "5").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("workman.workers")).unwrap();
    assert!(line.contains('5') && line.contains("MILL_WORKMAN_WORKERS"), "{line}");
    world.mill(&["init", "."]).expect(100);
}

/// Each of many tasks needs the same broken file.
#[test]
fn a_broken_policy_file_is_warned_of_once_and_not_with_each_task() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    for n in 0..30 {
        world.write(&format!("one/photos/{n}"), "x");
    }
    world.mill(&["produce", "duplication"]).expect(0);
    world.write("policies/library-duplication-policy.json", "{");
    let log = fs::File::create(world.path("log")).unwrap();
    let mut workman = world.command().arg("work").stderr(log).spawn().unwrap();
    let waiting = || {
        let status = world.mill(&["status", "--json"]).expect(0).json();
        let delayed = status["queues"].as_array().unwrap().iter().map(|queue| queue["delayed"].as_u64().unwrap());
        delayed.sum::<u64>()
    };
    let began = std::time::Instant::now();
    while waiting() < 30 {
        assert!(began.elapsed().as_secs() < 60, "the tasks never wait");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    workman.kill().unwrap();
    workman.wait().unwrap();
    let log = fs::read_to_string(world.path("log")).unwrap();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("library-duplication-policy.json")).collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(warned[0].contains("its tasks wait"), "{log}");
}
