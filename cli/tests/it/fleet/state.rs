//! Tables that are gone, or were created again.

use std::fs;
use std::time::{Duration, Instant};

use super::{CREDENTIALS, Workman, boto, ministack};
use crate::world::{Ran, World};

/// A fleet of folders that has run once; `prefix` names its tables.
fn fleet(prefix: &str) -> World {
    let world = World::new();
    let endpoint = ministack();
    world.mill(&["init", ".", "--engine", "aws"]).expect(0);
    world.write("mill.toml", format!("[engine]\ntype = \"aws\"\nprefix = \"{prefix}\"\nendpoint = \"{endpoint}\"\n"));
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.write("one/room/a", "a");
    mill(&world, &["infra", "create"]).expect(0);
    mill(&world, &["run", "--json"]).expect(0);
    world
}

fn mill(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap())
}

fn remove(world: &World, tables: &str) {
    boto(
        world,
        &format!(
            "dynamo = client('dynamodb', '{}')
for table in {tables}: dynamo.delete_table(TableName=table)",
            ministack()
        ),
    );
}

#[test]
fn a_table_that_was_made_anew_stops_the_fleet_with_the_way_out() {
    let world = fleet("renewed");
    remove(&world, "['renewed-owners']");
    let ran = mill(&world, &["run"]).expect(100);
    assert!(ran.err.contains("owners") && ran.err.contains("infra check"), "{}", ran.err);
    mill(&world, &["infra", "create"]).expect(0);
    // Also on a host that does not know this fleet.
    for remembered in [true, false] {
        if !remembered {
            fs::remove_file(world.path("mill.toml.state")).unwrap();
        }
        for command in [&["run"][..], &["produce", "duplication", "--now"], &["work"], &["status"]] {
            let ran = mill(&world, command).expect(100);
            assert!(ran.err.contains("`owners` was emptied") && ran.err.contains("mill.toml.state"), "{}", ran.err);
        }
    }
}

#[test]
fn a_fleet_whose_tables_were_all_made_anew_is_one_that_a_host_remembers() {
    let world = fleet("anew");
    remove(&world, "[t for t in dynamo.list_tables()['TableNames'] if t.startswith('anew-')]");
    mill(&world, &["infra", "create"]).expect(0);
    let ran = mill(&world, &["run"]).expect(100);
    assert!(ran.err.contains("emptied") && ran.err.contains("mill.toml.state"), "{}", ran.err);
    // What the message says to do.
    fs::remove_file(world.path("mill.toml.state")).unwrap();
    mill(&world, &["run", "--json"]).expect(0);
    mill(&world, &["run", "--json"]).expect(0);
}

#[test]
fn a_workman_whose_queue_is_deleted_ends_and_says_which_and_what_to_do() {
    let world = fleet("deleted");
    for name in ["deleted-duplication-low", "deleted-dead-letter"] {
        mill(&world, &["infra", "create"]).expect(0);
        let _ = fs::remove_file(world.path("log"));
        let mut command = world.command();
        command.envs(CREDENTIALS);
        let mut workman = Workman::begin(command);
        std::thread::sleep(Duration::from_secs(2));
        assert!(workman.lives(), "{}", fs::read_to_string(world.path("log")).unwrap());
        boto(
            &world,
            &format!(
                "sqs = client('sqs', '{}')
sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName='{name}')['QueueUrl'])",
                ministack()
            ),
        );
        let began = Instant::now();
        let code = loop {
            if let Some(status) = workman.0.try_wait().unwrap() {
                break status.code();
            }
            assert!(began.elapsed() < Duration::from_mins(2), "it stands idle without {name}");
            std::thread::sleep(Duration::from_millis(100));
        };
        let log = fs::read_to_string(world.path("log")).unwrap();
        assert_eq!(code, Some(100), "{log}");
        for word in [format!("`{name}`").as_str(), "us-east-1", "NonExistentQueue", "mill infra create"] {
            assert!(log.contains(word), "{word}: {log}");
        }
    }
}
