//! A bucket that reports its changes by itself: each change is recorded, and at its copy at once.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use mill_transparency::LogSigner;

use super::{CREDENTIALS, Workman, boto, ministack, settle};
use crate::audit_world::verified_entries;
use crate::world::World;

const PREFIX: &str = "reported";

fn command(world: &World) -> Command {
    let mut command = world.command();
    command.envs(CREDENTIALS);
    command
}

fn signer() -> LogSigner {
    LogSigner::generate("example.org/reported", [5; 32]).unwrap()
}

/// A store in a bucket, its copy in a folder, and the audit log in another folder.
fn set_up(world: &World) {
    world.mill(&["init", ".", "--engine", "aws"]).expect(0);
    let endpoint = ministack();
    world.write("mill.toml", format!("[engine]\ntype = \"aws\"\nprefix = \"{PREFIX}\"\nendpoint = \"{endpoint}\"\n"));
    world.write("policies/duplication-accounts.json", r#"["acct"]"#);
    world.write(
        "policies/acct-stores.json",
        format!(
            r#"{{"stores": [{{"id": "1", "type": "s3", "bucket": "reported-source", "endpoint": "{endpoint}", "primary": true}},
                            {{"id": "2", "type": "folder", "root": "copy"}}, {{"id": "3", "type": "folder", "root": "log-store"}}],
                 "auditLog": {{"stores": ["3"], "origin": "example.org/reported", "signingKeyFile": "key"}}}}"#
        ),
    );
    world.write(
        "policies/acct-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
    world.write("key", signer().to_secret());
    for store in ["copy", "log-store"] {
        fs::create_dir_all(world.path(store)).unwrap();
    }
    crate::world::Ran::of(command(world).args(["infra", "create"]).output().unwrap()).expect(0);
    boto(
        world,
        &format!(
            "s3, sqs = client('s3', '{endpoint}'), client('sqs', '{endpoint}')
s3.create_bucket(Bucket='reported-source')
url = sqs.get_queue_url(QueueName='{PREFIX}-audit')['QueueUrl']
arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=['QueueArn'])['Attributes']['QueueArn']
s3.put_bucket_notification_configuration(Bucket='reported-source', NotificationConfiguration={{'QueueConfigurations': [
    {{'QueueArn': arn, 'Events': ['s3:ObjectCreated:*', 's3:ObjectRemoved:*']}}]}})"
        ),
    );
}

#[test]
fn what_a_bucket_reports_is_copied_without_a_producer_and_logged_once() {
    let world = World::new();
    set_up(&world);
    let mill = |args: &[&str]| crate::world::Ran::of(command(&world).args(args).output().unwrap());
    let workman = Workman::begin(command(&world));
    let names = ["a plain name", "\u{1F600} + % & =.txt", "deep/er/tab\tname", "gone soon"];
    for (number, name) in names.iter().enumerate() {
        let key = serde_json::to_string(&format!("photos/{name}")).unwrap();
        boto(
            &world,
            &format!(
                "client('s3', '{}').put_object(Bucket='reported-source', Key={key}, Body=b'x' * {})",
                ministack(),
                number + 3
            ),
        );
    }
    let began = Instant::now();
    let copied = |name: &str| world.path(&format!("copy/photos/{name}")).is_file();
    while !names.iter().all(|name| copied(name)) {
        assert!(
            began.elapsed() < Duration::from_mins(2),
            "{}",
            fs::read_to_string(world.path("log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    boto(
        &world,
        &format!("client('s3', '{}').delete_object(Bucket='reported-source', Key='photos/gone soon')", ministack()),
    );
    settle(&mill);
    drop(workman);
    let mut logged: Vec<(String, String)> = verified_entries(&world.path("log-store/x-audit-log"), &signer())
        .iter()
        .map(|entry| {
            let event = &entry["event"];
            assert_eq!(
                (&event["source"], &event["store"], &event["space"]),
                (&"store".into(), &"1".into(), &"photos".into())
            );
            (event["item"].as_str().unwrap().to_owned(), event["action"].as_str().unwrap().to_owned())
        })
        .collect();
    let mut expected: Vec<(String, String)> =
        names.iter().map(|name| ((*name).to_owned(), "add-content".to_owned())).collect();
    expected.push(("gone soon".to_owned(), "delete-content".to_owned()));
    logged.sort();
    expected.sort();
    assert_eq!(logged, expected);
    // No survey has seen the places of the source, so the loop decides about the copy of what is gone.
    assert!(copied("gone soon"));
}
