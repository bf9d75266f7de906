//! What is not a source in S3, and what is not copied of a bucket.

use super::{CREDENTIALS, boto, ministack};
use crate::world::{Ran, World};

fn mill(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap())
}

#[test]
fn a_mistyped_prefix_and_one_object_are_no_source() {
    let (world, endpoint) = (World::new(), ministack());
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='typed')
s3.put_object(Bucket='typed', Key='photos/a', Body=b'x')
s3.put_object(Bucket='typed', Key='photos/b', Body=b'y')"
        ),
    );
    let mirror = |source: &str, more: &[&str]| {
        let args = ["mirror", source, "dst", "--source-endpoint", endpoint, "--json"];
        mill(&world, &[&args[..], more].concat())
    };
    for (source, said) in [
        ("s3://typed/fotos", "nothing lies beneath `s3://typed/fotos/"),
        ("s3://typed/photos/a", "`s3://typed/photos/a` is one object"),
        ("s3://untyped/photos", ""),
    ] {
        let ran = mirror(source, &[]).expect(100);
        assert!((ran.err.clone() + &ran.out).contains(said), "{source}: {}", ran.err);
    }
    assert_eq!(mirror("s3://typed/photos", &[]).expect(0).json()["copied"], 2);
    // Everything is gone: the deletes are held for a person, who may confirm them; after that it is no source any more.
    boto(
        &world,
        &format!("[client('s3', '{endpoint}').delete_object(Bucket='typed', Key='photos/' + k) for k in 'ab']"),
    );
    mirror("s3://typed/photos", &[]).expect(100);
    let held = mirror("s3://typed/photos", &["--remove-vanished"]).expect(100).json();
    assert_eq!((&held["held"], &held["in_sync"]), (&2.into(), &false.into()), "{held}");
    let gone = mirror("s3://typed/photos", &["--remove-vanished", "--confirm-deletes", "2"]).expect(0).json();
    assert_eq!(gone["deleted"], 2, "{gone}");
}

#[test]
fn keys_in_no_space_are_counted_and_named() {
    let (world, endpoint) = (World::new(), ministack());
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["library"]"#);
    world.write(
        "policies/library-stores.json",
        format!(
            r#"{{"stores": [{{"id": "1", "type": "s3", "bucket": "flat", "endpoint": "{endpoint}", "region": "us-east-1",
                              "pathStyle": true, "primary": true}},
                            {{"id": "2", "type": "folder", "root": "two"}}]}}"#
        ),
    );
    world.write(
        "policies/library-duplication-policy.json",
        r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#,
    );
    std::fs::create_dir(world.path("two")).unwrap();
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='flat')
s3.put_object(Bucket='flat', Key='photos/a', Body=b'x')
for n in range(200):
    s3.put_object(Bucket='flat', Key=f'key {{n:03}}', Body=b'x')"
        ),
    );
    let json = mill(&world, &["run", "--json"]).expect(2).json();
    assert_eq!((&json["copied"], &json["left_out"]), (&1.into(), &200.into()), "{json}");
    let remarks = json["remarks"].to_string();
    assert!(remarks.contains("`key 000`") && remarks.contains("100 more entries"), "{remarks}");
    let verified = mill(&world, &["verify"]).expect(2);
    assert!(verified.out.contains("`key 000`") && verified.out.contains("100 more entries"), "{}", verified.out);
}
