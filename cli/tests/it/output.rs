//! What is said, to whom, and what becomes of the exit code when nobody can hear it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::world::{Ran, World, wait_for_handler};

fn planted() -> World {
    let world = World::new();
    for n in 0..20 {
        world.write(&format!("src/{n:02}"), format!("item {n}"));
    }
    world
}

/// Runs with a standard output that takes nothing.
fn ran_into(world: &World, out: Stdio, args: &[&str]) -> Ran {
    let mut command = world.command();
    Ran::of(command.args(args).stdout(out).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap())
}

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_is_gone_neither_ends_the_run_nor_changes_its_exit_code() {
    let world = planted();
    ran_into(&world, closed(), &["mirror", "src", "dst"]).expect(0);
    world.same("src", "dst");
    // A link is refused.
    std::os::unix::fs::symlink("00", world.path("src/link")).unwrap();
    for args in [&["mirror", "src", "dst"][..], &["mirror", "src", "dst", "--json"]] {
        ran_into(&world, closed(), args).expect(2);
    }
    fs::write(world.path("dst/07"), "other").unwrap();
    let found = world.mill(&["verify", "--folders", "src", "dst"]);
    assert!(found.code > 2, "{} {}", found.out, found.err);
    ran_into(&world, closed(), &["verify", "--folders", "src", "dst"]).expect(found.code);
}

#[test]
fn a_standard_output_that_is_full_is_no_success() {
    let world = planted();
    for args in [&["mirror", "src", "dst"][..], &["mirror", "src", "dst", "--json"]] {
        let ran = ran_into(&world, File::create("/dev/full").unwrap().into(), args).expect(2);
        assert!(ran.err.contains("standard output cannot be written"), "{}", ran.err);
        world.same("src", "dst");
    }
}

#[test]
fn a_quiet_run_says_nothing_of_success_and_all_that_is_to_be_named() {
    let world = planted();
    for _ in 0..2 {
        let ran = world.mill(&["mirror", "src", "dst", "-q"]).expect(0);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    }
    std::os::unix::fs::symlink("00", world.path("src/link")).unwrap();
    let ran = world.mill(&["mirror", "src", "dst", "-q"]).expect(2);
    assert!(ran.out.contains("link") && !ran.out.contains("First run"), "{}", ran.out);
    let ran = world.mill(&["mirror", "nowhere", "dst", "-q"]).expect(100);
    assert!(ran.err.contains("nowhere"), "{}", ran.err);
}

#[test]
fn names_alike_in_their_first_two_hundred_letters_are_named_each() {
    let world = planted();
    let folder = format!("src/{}", "d".repeat(150));
    fs::create_dir(world.path(&folder)).unwrap();
    for end in ["one", "two"] {
        std::os::unix::fs::symlink("00", world.path(&format!("{folder}/{}{end}", "n".repeat(150)))).unwrap();
    }
    let ran = world.mill(&["mirror", "src", "dst"]).expect(2);
    assert!(ran.out.contains("nnone") && ran.out.contains("nntwo"), "{}", ran.out);
}

#[test]
fn what_the_report_names_is_not_logged_too_unless_asked_for() {
    let world = planted();
    std::os::unix::fs::symlink("00", world.path("src/link")).unwrap();
    let ran = world.mill(&["mirror", "src", "dst"]).expect(2);
    assert_eq!((ran.out.matches("`link`").count(), ran.err.as_str()), (1, ""), "{}", ran.out);
    let logged = world.mill(&["--log", "warn", "mirror", "src", "dst"]).expect(2).err;
    assert!(logged.contains("item=\"link\""), "{logged}");
}

#[test]
fn held_deletes_are_told_with_how_to_see_them_and_how_to_let_them_go() {
    let world = planted();
    world.mill(&["mirror", "src", "dst"]).expect(0);
    fs::remove_dir_all(world.path("src")).unwrap();
    world.write("src/00", "item 0");
    let out = world.mill(&["mirror", "src", "dst", "--delete"]).expect(2).out;
    let token = out.split("`mill held show ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(out.contains(&format!("`mill held show {token} --mirror src dst` lists them")), "{out}");
    assert!(out.contains(&format!("run `mill mirror src dst --remove-vanished --confirm-deletes {token}`")), "{out}");
    assert!(world.mill(&["held", "show", token, "--mirror", "src", "dst"]).expect(0).out.contains("07"));
    world.mill(&["mirror", "src", "dst", "--remove-vanished", "--confirm-deletes", token]).expect(0);
    world.same("src", "dst");
}

#[test]
fn a_quiet_producer_says_nothing_of_success_and_a_workman_says_what_it_serves() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.collection("one/room");
    for _ in 0..2 {
        let ran = world.mill(&["produce", "duplication", "-q"]).expect(0);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    }
    assert!(world.mill(&["produce", "duplication"]).expect(0).out.contains("not due"));
    let mut working = world.command().arg("work").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_handler(&working, 15);
    let first = BufReader::new(working.stdout.as_mut().unwrap()).lines().next().unwrap().unwrap();
    assert!(first.starts_with("works on the queues audit, duplication-high, duplication-low of `"), "{first}");
    assert!(std::process::Command::new("kill").arg(working.id().to_string()).status().unwrap().success());
    assert_eq!(working.wait().unwrap().code(), Some(0));
}
