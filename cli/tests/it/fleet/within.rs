//! Copies within one service, which copies large items by itself.

use std::fs;

use super::{boto, seaweed};
use crate::world::{Ran, World};

/// It answers before it can store anything.
pub(super) const READY: &str = "
import time
until = time.time() + 120
while True:
    try:
        s3.create_bucket(Bucket='ready')
        break
    except Exception:
        if time.time() > until: raise
        time.sleep(0.1)";

/// A folder goes to the first store, and the first to the second and the third: two buckets of one service, with
/// server-side copies enabled for the second.
fn library(world: &World, endpoint: &str) {
    let at = format!(
        r#""type": "s3", "endpoint": "{endpoint}", "region": "us-east-1", "pathStyle": true, "profile": "weed""#
    );
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["library"]"#);
    world.write(
        "policies/library-stores.json",
        format!(
            r#"{{"stores": [{{"id": "0", "type": "folder", "root": "library", "primary": true}},
                {{"id": "1", "bucketPrefix": "first-", {at}}},
                {{"id": "2", "bucketPrefix": "second-", "serverSideCopies": true, {at}}},
                {{"id": "3", "bucketPrefix": "third-", {at}}}]}}"#
        ),
    );
    world.write(
        "policies/library-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "0", "destStoreId": "1"}, {"srcStoreId": "1", "destStoreId": "2"},
            {"srcStoreId": "1", "destStoreId": "3"}]}"#,
    );
    world.write(
        "home/.aws/credentials",
        format!("[weed]\naws_access_key_id = {}\naws_secret_access_key = {}\n", seaweed::KEY, seaweed::SECRET),
    );
    let bytes: Vec<u8> = (0..20_000_003_u32).map(|at| (at * 31 + at / 251) as u8).collect();
    fs::create_dir_all(world.path("library/maps")).unwrap();
    fs::write(world.path("library/maps/large.tif"), &bytes).unwrap();
    fs::write(world.path("library/maps/small.txt"), "small").unwrap();
    world.age("library");
}

/// A workman sends parts of 8 MiB, the service copies larger ones: the entity tags show which of them did it.
#[test]
fn within_one_service_large_items_are_brought_by_it_and_small_ones_read() {
    let (world, endpoint) = (World::new(), seaweed::start());
    library(&world, &endpoint);
    let client = format!("s3 = client('s3', '{endpoint}', '{}', '{}')", seaweed::KEY, seaweed::SECRET);
    boto(&world, &format!("{client}{READY}"));
    let run = || {
        // Versions count seconds, and servers round them; what is younger than two proves nothing.
        std::thread::sleep(std::time::Duration::from_secs(5));
        Ran::of(world.command().args(["run", "--json"]).output().unwrap()).expect(0).json()
    };
    assert_eq!(run()["copied"], 2, "the first has nothing to give before");
    let json = run();
    assert_eq!((json["copied"].as_u64(), json["bytes"].as_u64()), (Some(4), Some(40_000_016)), "{json}");
    let json = run();
    assert_eq!((json["copied"].as_u64(), json["updated"].as_u64()), (Some(0), Some(0)), "{json}");
    boto(
        &world,
        &format!(
            "{client}
for key, parts in [('large.tif', ['-3', '-1', '-3']), ('small.txt', ['', '', ''])]:
    data = pathlib.Path('library/maps', key).read_bytes()
    found = [s3.get_object(Bucket=which + '-maps', Key=key) for which in ['first', 'second', 'third']]
    for one, suffix in zip(found, parts):
        assert one['Body'].read() == data, key
        assert one['Metadata'] == found[0]['Metadata'] and one['ContentType'] == found[0]['ContentType'], found
        tag = one['ETag'].strip('\"')
        assert tag.endswith(suffix) and ('-' in tag) == (suffix != ''), [one['ETag'] for one in found]"
        ),
    );
    let restore = ["restore", "--from", "2", "library", "maps", "back"];
    world.mill(&restore).expect(0);
    assert!(fs::read(world.path("back/large.tif")).unwrap() == fs::read(world.path("library/maps/large.tif")).unwrap());
    // Existing files are compared with the sync proofs.
    world.mill(&restore).expect(0);
}
