//! The queue may contain messages that this Mill did not write: older and newer envelopes, DuraCloud's messages, noise.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{CREDENTIALS, Workman, boto, ministack, settle};
use crate::world::{Ran, World};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/testdata/wire");

fn command(world: &World) -> Command {
    let mut command = world.command();
    command.envs(CREDENTIALS);
    command
}

/// An account as the golden files name it, with two folders.
fn set_up(world: &World) {
    world.mill(&["init", ".", "--engine", "aws"]).expect(0);
    world.write(
        "mill.toml",
        format!("[engine]\ntype = \"aws\"\nprefix = \"messages\"\nendpoint = \"{}\"\n", ministack()),
    );
    world.write("policies/duplication-accounts.json", r#"["acct"]"#);
    world.write(
        "policies/acct-stores.json",
        r#"{"stores": [{"id": "1", "type": "folder", "root": "one", "primary": true},
                       {"id": "2", "type": "folder", "root": "two"}]}"#,
    );
    world.write(
        "policies/acct-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
    fs::create_dir_all(world.path("two/space")).unwrap();
}

#[test]
fn each_message_is_opened_or_given_up_as_it_is_with_the_reason() {
    let world = World::new();
    set_up(&world);
    // The golden envelope of version 1; the same with members of a newer Mill; an unknown version; a message of
    // DuraCloud.
    let first = fs::read_to_string(format!("{GOLDEN}/v1-duplicate.json")).unwrap();
    let mut newer: Value = serde_json::from_str(&first).unwrap();
    newer["priority"] = 9.into();
    newer["task"]["hint"] = "unheard of".into();
    newer["task"]["item"] = "newer".into();
    let unknown = first.replace("\"v\":1", "\"v\":2");
    assert_ne!(unknown, first);
    let duracloud = fs::read_to_string(format!("{GOLDEN}/duracloud-dup.properties")).unwrap();
    let items = ["a dir/x:1.txt", "newer", "a dir/x:1 \u{e9}\n=#.txt"];
    for item in items {
        world.write(&format!("one/space/{item}"), item);
    }
    // Characters and quotes that fill the largest message of earlier versions.
    let noise: String = (0_u64..).map(|n| char::from(b' ' + (n * n % 95) as u8)).take(256 * 1024).collect();
    for (name, message) in [
        ("first", &first),
        ("newer", &newer.to_string()),
        ("unknown", &unknown),
        ("duracloud", &duracloud),
        ("noise", &noise),
    ] {
        world.write(&format!("messages/{name}"), message);
    }
    let mill = |args: &[&str]| Ran::of(command(&world).args(args).output().unwrap());
    mill(&["infra", "create"]).expect(0);
    let script = format!(
        "sqs = client('sqs', '{}')
url = sqs.get_queue_url(QueueName='messages-duplication-low')['QueueUrl']
for message in sorted(pathlib.Path('messages').iterdir()):
    sqs.send_message(QueueUrl=url, MessageBody=message.read_text())",
        ministack()
    );
    boto(&world, &script);
    let workman = Workman::begin(command(&world));
    settle(&mill);
    drop(workman);
    for item in items {
        assert_eq!(fs::read_to_string(world.path(&format!("two/space/{item}"))).unwrap(), item);
    }
    let letters = mill(&["deadletters", "list", "--json"]).expect(0);
    let letters: Vec<Value> = letters.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let body = |letter: &Value| letter["body"].as_str().unwrap().to_owned();
    assert_eq!(letters.len(), 2, "{letters:.3000?}");
    let of_version = letters.iter().find(|letter| body(letter) == unknown).expect("as it was sent");
    assert!(of_version["reason"].as_str().unwrap().contains("version 2"), "{of_version}");
    assert!(letters.iter().any(|letter| body(letter) == noise), "the noise is kept as it was sent");
}
