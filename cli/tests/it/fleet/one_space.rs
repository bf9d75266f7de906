//! A bucket that may not be listed, or that fails, stops no other bucket of its store.

use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, boto, ministack};
use crate::world::{Ran, World, walk};

/// Three buckets of ten items, read through a proxy as three spaces.
fn buckets(world: &World, prefix: &str, policy: &str) -> Proxy {
    boto(
        world,
        &format!(
            "s3 = client('s3', '{}')
for space in ['a', 'bad', 'z']:
    s3.create_bucket(Bucket='{prefix}-' + space)
    for n in range(10): s3.put_object(Bucket='{prefix}-' + space, Key=f'item-{{n}}', Body=b'x' * n)",
            ministack()
        ),
    );
    let proxy = Proxy::before(ministack(), 1);
    world.mill(&["init", "."]).expect(0);
    world.library(policy);
    world.write(
        "policies/library-stores.json",
        format!(
            r#"{{"stores": [{{"id": "1", "type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true,
                              "bucketPrefix": "{prefix}-", "primary": true}},
                            {{"id": "2", "type": "folder", "root": "two"}}]}}"#,
            proxy.address()
        ),
    );
    proxy
}

fn mill(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap())
}

fn copies(world: &World, space: &str) -> usize {
    walk(&world.path(&format!("two/{space}"))).into_iter().filter(|path| path.is_file()).count()
}

#[test]
fn a_bucket_that_may_not_be_listed_stops_no_other_and_deletes_nothing() {
    let world = World::new();
    let removes = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2", "removeVanished": true}]}"#;
    let proxy = buckets(&world, "one-denied", removes);
    world.write("two/bad/kept", "kept");
    proxy.set(Mood::Denies("GET", "/one-denied-bad"));
    let ran = mill(&world, &["run", "--json"]).expect(2);
    assert_eq!([copies(&world, "a"), copies(&world, "bad"), copies(&world, "z")], [10, 1, 10], "{}", ran.out);
    let remarks = ran.json()["remarks"].to_string();
    for words in ["bad", "AccessDenied: That is not allowed.", "check what the key may do"] {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }
    proxy.set(Mood::Denies("GET", "/one-denied"));
    let ran = mill(&world, &["run", "--json"]).expect(100);
    assert!(ran.out.contains("AccessDenied"), "a key that may do nothing is an error: {}", ran.out);
}

/// Its tasks are queued before it is denied, so each of them fails.
#[test]
fn tasks_of_a_bucket_that_is_denied_hold_up_no_task_of_another() {
    let world = World::new();
    let proxy = buckets(&world, "tasks-denied", r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    mill(&world, &["produce", "duplication"]).expect(0);
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{}')
for n in range(10): s3.delete_object(Bucket='tasks-denied-bad', Key=f'item-{{n}}')",
            ministack()
        ),
    );
    proxy.set(Mood::Denies("GET", "/tasks-denied-bad"));
    let ran = mill(&world, &["run", "--json"]).expect(2);
    assert_eq!([copies(&world, "a"), copies(&world, "z")], [10, 10], "{}", ran.out);
    assert_eq!(ran.json()["dead_lettered"], 0, "{}", ran.out);
}
