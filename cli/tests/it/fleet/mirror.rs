//! `mill mirror` to, from and between buckets.

use std::fs;

use super::{CREDENTIALS, boto, ministack, verifying};
use crate::world::{Ran, World};

fn mirror(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).arg("mirror").args(args).arg("--json").output().unwrap())
}

#[test]
fn a_folder_goes_to_a_bucket_and_comes_back_the_same() {
    let (world, endpoint) = (World::new(), ministack());
    world.collection("src");
    fs::create_dir(world.path("src/empty")).unwrap();
    world.age("src");
    let to = ["src", "s3://mirrored/deep/er", "--destination-endpoint", endpoint];
    let json = mirror(&world, &to).expect(0).json();
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

#[test]
fn one_vendors_bucket_goes_to_anothers() {
    let (world, endpoint) = (World::new(), ministack());
    fs::create_dir(world.path("vendor")).unwrap();
    let other = verifying::serve(&world.path("vendor"), "KEY", "a secret");
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
        let region = ["--destination-region", "us-east-1", "--json"];
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
