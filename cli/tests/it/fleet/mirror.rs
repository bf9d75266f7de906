//! `mill mirror` to, from and between buckets.

use std::fs;

use super::{CREDENTIALS, boto, ministack, signature_server};
use crate::world::{Ran, World};

pub(super) fn mirror(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).arg("mirror").args(args).arg("--json").output().unwrap())
}

#[test]
fn a_folder_goes_to_a_bucket_and_comes_back_the_same() {
    let (world, endpoint) = (World::new(), ministack());
    world.collection("src");
    fs::create_dir(world.path("src/empty")).unwrap();
    world.age("src");
    let to = ["src", "s3://mirrored/deep/er", "--destination-endpoint", endpoint];
    let json = mirror(&world, &[&to[..], &["--create"]].concat()).expect(0).json();
    assert_eq!(json["copied"], 14, "{json}");
    let json = mirror(&world, &to).expect(0).json();
    assert_eq!((json["copied"].as_u64(), json["updated"].as_u64()), (Some(0), Some(0)), "{json}");
    let from = ["s3://mirrored/deep/er", "back", "--source-endpoint", endpoint];
    let json = mirror(&world, &from).expect(0).json();
    assert_eq!(json["copied"], 14, "{json}");
    world.same("src", "back");
    assert_eq!(world.stamps("src"), world.stamps("back"));

    fs::remove_file(world.path("src/README.txt")).unwrap();
    world.write("src/catalogue.csv", "changed");
    let json = mirror(&world, &[&to[..], &["--remove-vanished"]].concat()).expect(0).json();
    assert_eq!((json["deleted"].as_u64(), json["updated"].as_u64()), (Some(1), Some(1)), "{json}");
    let keys = boto(
        &world,
        &format!(
            "print([o['Key'] for o in client('s3', '{endpoint}').list_objects_v2(Bucket='mirrored')['Contents']])"
        ),
    );
    assert!(keys.contains("'deep/er/catalogue.csv'") && !keys.contains("README"), "{keys}");
}

/// Under a name of the host, not its number, which the library addresses by path anyway.
#[test]
fn an_address_from_the_environment_is_as_good_as_one_that_is_typed() {
    let (world, endpoint) = (World::new(), ministack().replace("127.0.0.1", "localhost"));
    world.collection("src");
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='by-environment')"));
    let run = || {
        let mut command = world.command();
        command.envs(CREDENTIALS).env("AWS_ENDPOINT_URL", &endpoint);
        Ran::of(command.args(["mirror", "src", "s3://by-environment", "--json"]).output().unwrap())
    };
    assert_eq!(run().expect(0).json()["copied"], 13);
    assert_eq!(run().expect(0).json()["copied"], 0);
}

#[test]
fn a_bucket_that_is_not_there_is_made_only_when_asked_for() {
    let (world, endpoint) = (World::new(), ministack());
    world.collection("src");
    let args = ["src", "s3://mistyped/copies", "--destination-endpoint", endpoint];
    let buckets =
        || boto(&world, &format!("print([b['Name'] for b in client('s3', '{endpoint}').list_buckets()['Buckets']])"));
    let ran = mirror(&world, &args).expect(100);
    let said = "is not there; check its name, or pass --create to make it";
    assert!(ran.err.contains(said), "{}", ran.err);
    assert!(!buckets().contains("'mistyped'"));
    assert_eq!(mirror(&world, &[&args[..], &["--create"]].concat()).expect(0).json()["copied"], 13);
    assert_eq!(mirror(&world, &args).expect(0).json()["copied"], 0);
}

#[test]
fn one_vendors_bucket_goes_to_anothers() {
    let (world, endpoint) = (World::new(), ministack());
    fs::create_dir(world.path("vendor")).unwrap();
    let other = signature_server::serve(&world.path("vendor"), "KEY", "a secret");
    world.write(
        "home/.aws/credentials",
        "[one]\naws_access_key_id = test\naws_secret_access_key = test\n\
         [other]\naws_access_key_id = KEY\naws_secret_access_key = a secret\n\
         [wrong]\naws_access_key_id = KEY\naws_secret_access_key = not it\n",
    );
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='ours')
for n in range(30):
    s3.put_object(Bucket='ours', Key=f'{{n % 7}}/{{n}}', Body=b'x' * n * 1000, Metadata={{'note': str(n)}})"
        ),
    );
    let args = |profile: &'static str| {
        let ends = ["s3://ours", "s3://theirs", "--source-endpoint", endpoint, "--source-profile", "one"];
        let more = ["--destination-endpoint", &other, "--destination-profile", profile];
        ends.into_iter().chain(more).chain(["--source-region", "us-east-1"]).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |profile| {
        let args = args(profile);
        let region = ["--destination-region", "us-east-1", "--create", "--json"];
        Ran::of(world.command().arg("mirror").args(args).args(region).output().unwrap())
    };
    assert_ne!(run("wrong").code, 0, "a wrong key is refused");
    let json = run("other").expect(0).json();
    assert_eq!(json["copied"], 30, "{json}");
    boto(
        &world,
        &format!(
            "a, b = client('s3', '{endpoint}'), client('s3', '{other}', 'KEY', 'a secret')
keys = [o['Key'] for o in a.list_objects_v2(Bucket='ours')['Contents']]
assert keys == [o['Key'] for o in b.list_objects_v2(Bucket='theirs')['Contents']]
for key in keys:
    x, y = a.get_object(Bucket='ours', Key=key), b.get_object(Bucket='theirs', Key=key)
    assert x['Body'].read() == y['Body'].read() and x['Metadata'] == y['Metadata'], key"
        ),
    );
}

#[test]
fn ends_that_lie_in_one_another_or_are_misnamed_are_refused() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    mirror(&world, &["s3://b/x", "s3://b/x/y"]).expect(200);
    mirror(&world, &["src", "dst", "--source-region", "x"]).expect(200);
}

#[test]
fn a_destination_bucket_that_is_gone_is_made_anew_only_when_that_is_asked_for() {
    let (world, endpoint) = (World::new(), ministack());
    world.write("src/a", "x");
    let to = ["src", "s3://goes/photos", "--destination-endpoint", endpoint];
    let again = |more: &[&str]| mirror(&world, &[&to[..], more].concat());
    assert_eq!(again(&["--create"]).expect(0).json()["copied"], 1);
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
for key in s3.list_objects_v2(Bucket='goes')['Contents']: s3.delete_object(Bucket='goes', Key=key['Key'])
s3.delete_bucket(Bucket='goes')"
        ),
    );
    let ran = again(&[]).expect(100);
    assert!(ran.err.contains("wrote there or began to") && ran.err.contains("--create"), "{}", ran.err);
    assert_eq!(again(&["--create"]).expect(0).json()["copied"], 1);
}

#[test]
fn a_place_in_a_bucket_is_kept_in_sync_by_one_mirror_alone() {
    let (world, endpoint) = (World::new(), ministack());
    for source in ["a", "b"] {
        world.write(&format!("{source}/name"), source);
    }
    let run = |source: &str, to: &str, more: &[&str]| {
        mirror(&world, &[&[source, to, "--destination-endpoint", endpoint], more].concat())
    };
    run("a", "s3://kept/photos", &["--create"]).expect(0);
    // The same place in another spelling, one around it and one inside it.
    for to in ["s3://kept/photos/", "s3://kept", "s3://kept/photos/deep"] {
        let ran = run("b", to, &[]).expect(100);
        assert!(ran.err.contains("is kept in sync by the mirror of `a`"), "{to}: {}", ran.err);
        assert!(ran.err.contains("--take-over"), "{to}: {}", ran.err);
    }
    run("b", "s3://kept/letters", &[]).expect(0);
    run("a", "s3://kept/photos", &[]).expect(0);
    assert_eq!(run("b", "s3://kept/photos", &["--take-over"]).expect(0).json()["updated"], 1);
    run("a", "s3://kept/photos", &[]).expect(100);
}

#[test]
fn of_two_accounts_with_one_bucket_only_one_writes_it() {
    let (world, endpoint) = (World::new(), ministack());
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a", "b"]"#);
    for name in ["a", "b"] {
        let stores = format!(
            r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{name}-one", "primary": true}},
                            {{"id": "2", "type": "s3", "bucket": "of-two", "endpoint": "{endpoint}",
                              "region": "us-east-1", "pathStyle": true}}]}}"#
        );
        world.write(&format!("policies/{name}-stores.json"), stores);
        let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
        world.write(&format!("policies/{name}-duplication-policy.json"), policy);
        for n in 0..20 {
            world.write(&format!("{name}-one/room/{n}"), name);
        }
    }
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='of-two')"));
    let mill = |args: &[&str]| Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap());
    for _ in 0..2 {
        let ran = mill(&["run", "--json"]);
        assert!(matches!(ran.code, 2 | 50), "{} {}", ran.out, ran.err);
        assert!(ran.json()["remarks"].to_string().contains("is kept in sync by store `2` of account"), "{}", ran.out);
        let bytes = boto(
            &world,
            &format!(
                "s3 = client('s3', '{endpoint}')
keys = [o['Key'] for o in s3.list_objects_v2(Bucket='of-two')['Contents'] if not o['Key'].endswith('/')]
print(len(keys), len(set(s3.get_object(Bucket='of-two', Key=key)['Body'].read() for key in keys)))"
            ),
        );
        assert_eq!(bytes.trim(), "20 1");
    }
    let owners: Vec<Ran> = ["a", "b"].map(|name| mill(&["spaces", "owner", name, "2", "room"]).expect(0)).into();
    assert!(
        owners.iter().all(|ran| ran.out.contains("`s3://of-two/room/` is kept in sync by store `2`")),
        "{}",
        owners[0].out
    );
}

#[test]
fn a_bucket_that_no_waiting_makes_usable_ends_at_once_and_says_where() {
    let (world, endpoint) = (World::new(), ministack());
    fs::create_dir_all(world.path("vendor/photos")).unwrap();
    let vendor = signature_server::serve(&world.path("vendor"), "test", "another secret");
    let https = endpoint.replace("http:", "https:");
    for (from, at, words) in [
        ("s3://photos", vendor.as_str(), "check the key id and its secret"),
        ("s3://no-such-photos", endpoint, "make the bucket, or check its name"),
        ("s3://photos", "http://-no-such-host.invalid", "no host has this name"),
        ("s3://photos", &https, "no TLS is spoken there"),
    ] {
        let ran = mirror(&world, &[from, "copy", "--source-endpoint", at, "--source-region", "us-east-1"]).expect(100);
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
        let bucket = from.strip_prefix("s3://").unwrap();
        let place = format!("(at {at}, bucket `{bucket}`, region `us-east-1`, key id `test`)");
        assert!(ran.err.contains(&place), "{place}: {}", ran.err);
        assert!(!ran.err.contains("waiting"), "{}", ran.err);
    }
}
