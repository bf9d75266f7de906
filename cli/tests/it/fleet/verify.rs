//! `mill verify` of two ends in S3, and of a folder and an end in S3, on a real server: boto3 does the damage.

use std::fs;

use super::mirror::mirror;
use super::{CREDENTIALS, boto, ministack};
use crate::world::{Ran, World};

fn verify(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).arg("verify").args(args).output().unwrap())
}

/// The items that are named, each with what is said of it.
fn named(ran: &Ran) -> Vec<(&str, &str)> {
    ran.out.lines().filter_map(|line| line.strip_prefix("! ")?.split_once(": ")).collect()
}

/// Puts the same six objects into two buckets; the large one in parts of other sizes.
const PLANT: &str = r"
import io
from boto3.s3.transfer import TransferConfig
for bucket, part in [(ONE, 5), (OTHER, 7)]:
    s3.create_bucket(Bucket=bucket)
    for n in range(5):
        s3.put_object(Bucket=bucket, Key=f'deep/{n}', Body=b'x' * n * 1000, Metadata={'note': 'a  b'},
                      CacheControl='no-cache', ContentType='text/plain; charset=utf-8')
    large = io.BytesIO(b'many bytes' * 1200000)
    parts = TransferConfig(multipart_threshold=1, multipart_chunksize=part * 1024 * 1024)
    s3.upload_fileobj(large, bucket, 'large', Config=parts, ExtraArgs={'ContentType': 'video/mp4'})
assert s3.head_object(Bucket=ONE, Key='large')['ETag'] != s3.head_object(Bucket=OTHER, Key='large')['ETag']
";

#[test]
fn two_buckets_are_compared_by_their_bytes_and_by_what_they_serve() {
    let (world, endpoint) = (World::new(), ministack());
    let plant = PLANT.replace("ONE", "'compared-one'").replace("OTHER", "'compared-other'");
    boto(&world, &format!("s3 = client('s3', '{endpoint}'){plant}"));
    let ends = ["s3://compared-one", "s3://compared-other"];
    let at = ["--source-endpoint", endpoint, "--destination-endpoint", endpoint];
    let args = [&ends[..], &at].concat();
    let json = verify(&world, &[&args[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&json["examined"], &json["equal"]), (&6.into(), &6.into()), "{json}");
    let ran = verify(&world, &args).expect(0);
    assert!(named(&ran).is_empty() && ran.out.contains("Not compared for any item: the tags, "), "{}", ran.out);

    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
same = dict(Metadata={{'note': 'a  b'}}, CacheControl='no-cache', ContentType='text/plain; charset=utf-8')
s3.put_object(Bucket='compared-other', Key='deep/1', Body=b'x' * 999 + b'y', **same)
s3.put_object(Bucket='compared-other', Key='deep/2', Body=b'x' * 2000, **(same | {{'CacheControl': 'public'}}))
s3.put_object(Bucket='compared-other', Key='deep/3', Body=b'x' * 3000, **(same | {{'Metadata': {{'note': 'a b'}}}}))
s3.delete_object(Bucket='compared-other', Key='deep/4')
s3.put_object(Bucket='compared-other', Key='deep/5', Body=b'', **same)"
        ),
    );
    let ran = verify(&world, &args).expect(50);
    let found = named(&ran);
    let expected = [
        ("deep/1", "the bytes differ"),
        ("deep/2", "the property `cache-control` differs"),
        ("deep/3", "the property `note` differs"),
        ("deep/4", "missing at the destination"),
        ("deep/5", "only at the destination"),
    ];
    assert_eq!(found.len(), expected.len(), "{}", ran.out);
    for ((item, said), (id, what)) in found.into_iter().zip(expected) {
        assert!(item == id && said.starts_with(what), "{item}: {said}");
    }
}

#[test]
fn a_folder_is_compared_with_its_copy_in_a_bucket_and_back() {
    let (world, endpoint) = (World::new(), ministack());
    world.collection("src");
    fs::create_dir(world.path("src/empty")).unwrap();
    world.age("src");
    let there = ["src", "s3://compared-folder/deep", "--destination-endpoint", endpoint];
    mirror(&world, &[&there[..], &["--create"]].concat()).expect(0);
    let back = ["s3://compared-folder/deep", "src", "--source-endpoint", endpoint];
    for args in [&there, &back] {
        let json = verify(&world, &[&args[..], &["--json"]].concat()).expect(0).json();
        assert_eq!((&json["examined"], &json["equal"]), (&14.into(), &14.into()), "{json}");
    }
    // What no copy can have is named and is no fault.
    std::os::unix::fs::symlink("README.txt", world.path("src/link")).unwrap();
    let ran = verify(&world, &there).expect(2);
    let found = named(&ran);
    let is_link = |said: &str| said.starts_with("cannot be copied: a symbolic link");
    assert!(matches!(found[..], [("link", said)] if is_link(said)), "{found:?}");
    assert!(ran.out.contains("14 read and equal, 0 faults, 1 not compared"), "{}", ran.out);
    fs::remove_file(world.path("src/link")).unwrap();

    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
def again(key, body=lambda bytes: bytes, **more):
    there = s3.get_object(Bucket='compared-folder', Key='deep/' + key)
    s3.put_object(Bucket='compared-folder', Key='deep/' + key, Body=body(there['Body'].read()), Metadata=there['Metadata'], **more)
again('catalogue.csv', lambda bytes: bytes[:-1] + b'?')
again('README.txt', ContentType='text/html')"
        ),
    );
    for args in [&there, &back] {
        let ran = verify(&world, &args[..]).expect(50);
        let found = named(&ran);
        let [(readme, header), (catalogue, bytes)] = found[..] else { panic!("{}", ran.out) };
        assert_eq!((readme, catalogue), ("README.txt", "catalogue.csv"));
        assert_eq!(header, "the property `content-type` differs");
        assert!(bytes.contains("the bytes differ"), "{bytes}");
    }
}

#[test]
fn a_bucket_that_is_not_there_is_an_error_of_verify_that_names_it_as_it_was_typed() {
    let (world, endpoint) = (World::new(), ministack());
    world.write("src/a", "x");
    let ran = verify(&world, &["src", "s3://never-made/x", "--destination-endpoint", endpoint]).expect(100);
    assert!(ran.err.contains("s3://never-made/x") && !ran.err.contains("mirror:"), "{}", ran.err);
}
