//! What `mill status` reports of copies while a producer and a workman run as processes.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::World;

/// A `mill` process that runs until it is dropped.
struct Stays(Child);

impl Stays {
    fn doing(world: &World, args: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(world.path("log")).unwrap();
        let mut command = world.command();
        command.env("MILL_PRODUCER_FREQUENCY", "2s");
        Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of the only pair.
fn pair(world: &World) -> Value {
    world.mill(&["status", "--json"]).expect(0).json()["pairs"][0].clone()
}

/// Waits for a status of the pair.
#[track_caller]
fn until(world: &World, what: &str, says: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let pair = pair(world);
        if says(&pair) {
            return pair;
        }
        let log = || std::fs::read_to_string(world.path("log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_mins(3), "never {what}: {pair}\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The line of status on the pair.
fn line(world: &World) -> String {
    let told = world.mill(&["status"]).expect(0).out;
    told.lines().find(|line| line.contains("library/photos")).unwrap().to_owned()
}

#[test]
fn where_tasks_compare_everything_status_says_in_sync_by_what_is_proven() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "compare": "everything"}"#);
    for n in 0..20 {
        world.write(&format!("one/photos/{n:02}"), format!("{n}"));
    }
    world.age("one");
    let _producer = Stays::doing(&world, &["produce", "duplication", "--stay"]);
    let workman = Stays::doing(&world, &["work"]);
    let is_in_sync = |pair: &Value| !pair["in_sync_as_of"].is_null();
    let found = until(&world, "in sync", is_in_sync);
    assert_eq!((&found["queued"], &found["unproven"]), (&20.into(), &0.into()), "{found}");
    let said = line(&world);
    assert!(said.contains("in sync as of 20"), "{said}");
    assert!(
        said.contains("listings and sync proofs prove each item equal; 20 were queued to be compared again"),
        "{said}"
    );

    // While nobody repairs the copy, no loop that begins after the change reports it in sync.
    drop(workman);
    world.write("two/photos/07", "somebody else's");
    let surveyed = |pair: &Value| pair["surveyed"].clone();
    for _ in 0..2 {
        let before = surveyed(&pair(&world));
        until(&world, "surveyed again", |pair| surveyed(pair) != before);
    }
    for _ in 0..3 {
        let before = pair(&world);
        assert_eq!((&before["in_sync_as_of"], &before["unproven"]), (&Value::Null, &1.into()), "{before}");
        assert!(line(&world).contains(", 1 of them not proven to be equal, "), "{}", line(&world));
        until(&world, "surveyed again", |pair| surveyed(pair) != before["surveyed"]);
    }
    let _workman = Stays::doing(&world, &["work"]);
    until(&world, "in sync again", is_in_sync);
    world.same("one/photos", "two/photos");
}

/// For a copy whose store is gone or unreadable since it was in sync, and for one that never was in sync.
#[test]
fn status_says_since_when_a_copy_could_not_be_looked_at_and_why() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"spaceDuplicationStorePolicies": {"photos": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#);
    world.write("one/photos/a", "x");
    let gone = || std::fs::rename(world.path("two"), world.path("away")).unwrap();
    let back = || std::fs::rename(world.path("away"), world.path("two")).unwrap();
    let fails = || world.mill(&["run", "--give-up-after", "1s"]).expect(100);
    gone();
    fails();
    let never = pair(&world);
    assert_eq!((&never["surveyed"], &never["failed_since"]), (&Value::Null, &never["failed_last"]), "{never}");
    let said = line(&world);
    assert!(said.contains("(1 → 2): unknown; looked at, and failed: 20"), "{said}");

    back();
    world.mill(&["run"]).expect(0);
    assert!(pair(&world)["failed_since"].is_null(), "{}", pair(&world));
    assert!(!line(&world).contains("failed"), "{}", line(&world));
    gone();
    fails();
    let first = pair(&world);
    fails();
    let second = pair(&world);
    assert!(second["in_sync_as_of"].is_string(), "{second}");
    assert_eq!(second["failed_since"], first["failed_since"], "{second}");
    assert_ne!(second["failed_last"], first["failed_last"], "{second}");
    let said = line(&world);
    for words in ["in sync as of 20", "; looked at since, and failed: 20", ", last 20", "library:2"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    back();
}
