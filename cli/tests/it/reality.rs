//! Mill in real conditions: parts of a source that come and go, clocks that are set. Each trial has a mount namespace
//! of its own (`mill_trials::in_mount_namespace`); what a machine lacks for a trial is printed.

mod clocks;
mod deletes;

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Ran, World, walk};

/// An installation with one account: store 1 is `one`, its copy is `two`, and what vanishes is deleted.
struct Installed {
    world: World,
}

impl Installed {
    fn new() -> Self {
        let world = World::new();
        world.mill(&["init", "."]).expect(0);
        policies(&world);
        Self { world }
    }

    fn run(&self) -> Ran {
        self.world.mill(&["run", "--json"])
    }

    /// Runs a workman until nothing is queued, snoozed or in flight.
    fn work_off(&self) {
        let child = self.spawn(&["work"]);
        let began = Instant::now();
        let mut empty = 0;
        while empty < 3 {
            assert!(began.elapsed() < Duration::from_mins(2), "{}", self.log());
            let status = self.world.mill(&["status", "--json"]).expect(0).json();
            let queues = status["queues"].as_array().unwrap();
            let count = |queue: &serde_json::Value| {
                ["visible", "in_flight", "delayed"].iter().map(|state| queue[*state].as_u64().unwrap()).sum::<u64>()
            };
            empty = if queues.iter().map(count).sum::<u64>() == 0 { empty + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(50));
        }
        stop(child);
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.world.path("log")).unwrap();
        self.world.command().args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.path("log")).unwrap_or_default()
    }
}

/// One account whose store 2 is a copy of store 1; what vanishes is deleted.
fn policies(world: &World) {
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "removeVanished": true}"#);
    fs::create_dir_all(world.path("one/photos")).unwrap();
}

/// Asks a process to stop gently, and waits for it.
fn stop(mut child: Child) {
    let _ = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    child.wait().unwrap();
}

/// Writes `count` files.
fn files(world: &World, folder: &str, count: usize, text: &str) {
    for n in 0..count {
        world.write(&format!("{folder}/{n:04}"), format!("{text} {n}"));
    }
}

/// How many files are beneath a folder.
fn count(world: &World, folder: &str) -> usize {
    walk(&world.path(folder)).iter().filter(|path| path.is_file()).count()
}
