//! What killed processes leave, and how processes end that are told to stop.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Ran, World};

#[test]
fn what_a_killed_process_left_in_progress_goes_with_the_next_run_even_if_that_has_nothing_to_write() {
    let world = World::new();
    world.collection("src");
    world.age("src");
    world.mirror(&[]).expect(0);
    world.write("dst/.mill-in-progress/00000000000000aa/0", "half a fi");
    world.mirror(&["--detailed-exit-code"]).expect(1);
    assert!(!world.path("dst/.mill-in-progress").exists(), "a stray folder");
}

fn installation() -> World {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", "[]");
    // Creates the database.
    world.mill(&["status"]).expect(0);
    world
}

#[test]
fn a_run_names_what_one_had_given_up_that_was_killed_before_it_could_say_so() {
    let world = installation();
    world.queue("no envelope");
    let mut killed = world.command();
    killed.args(["run", "--quiet"]).env("MILL_CRASH_AT", "workman-acknowledged").stderr(Stdio::null());
    assert_eq!(killed.status().unwrap().signal(), Some(9));
    // No account is configured there.
    let ran = world.mill(&["run", "--json"]).expect(2);
    assert!(ran.json()["remarks"].to_string().contains("dead-lettered"), "{}", ran.out);
}

#[test]
fn a_workman_that_is_told_to_stop_does_not_wait_for_work_that_may_yet_come() {
    let world = installation();
    let mut workman = world.command().arg("work").stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let told = Instant::now();
    Command::new("kill").args(["-TERM", &workman.id().to_string()]).status().unwrap();
    assert!(workman.wait().unwrap().success());
    assert!(told.elapsed() < Duration::from_secs(8), "it took {:?}", told.elapsed());
}

#[test]
fn a_crash_point_that_there_is_not_ends_the_process() {
    let world = installation();
    let mut command = world.command();
    command.args(["status"]).env("MILL_CRASH_AT", "nowhere");
    let ran = Ran::of(command.output().unwrap()).expect(100);
    assert!(ran.err.contains("nowhere"), "{}", ran.err);
}

#[test]
fn a_build_for_tests_says_what_it_is() {
    assert!(World::new().mill(&["--version"]).expect(0).out.contains("test build"));
}
