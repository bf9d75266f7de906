//! A dry run with an end in S3: what it says is what the run does, and it asks for nothing that changes or costs more.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::proxy::Proxy;
use super::{CREDENTIALS, boto, ministack};
use crate::dry_run::{listing, said};
use crate::world::{Ran, World};

fn mill(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap())
}

/// The calls that change something, and those that read bytes.
fn deeds(counts: &BTreeMap<String, u64>) -> Vec<(&String, &u64)> {
    counts.iter().filter(|(call, _)| !call.starts_with("HEAD") && *call != "GET bucket").collect()
}

/// A dry run, then the run, which must do exactly that. Returns what the dry run asked, and its counts.
#[track_caller]
fn beside(world: &World, proxy: &Proxy, args: &[&str]) -> (BTreeMap<String, u64>, Value) {
    let args = [&["mirror", "--json", "--remove-vanished"], args].concat();
    let kept = ["src", "back", "state", "home"];
    let before = listing(world, &kept);
    let _before = proxy.take_counts();
    let dry = mill(world, &[&args[..], &["--dry-run", "--report", "dry.jsonl"]].concat());
    assert!(dry.code == 0 || dry.code == 2, "{}", dry.err);
    let asked = proxy.take_counts();
    assert_eq!(listing(world, &kept), before, "{}", dry.err);
    let done = mill(world, &[&args[..], &["--report", "done.jsonl"]].concat()).expect(dry.code).json();
    let needed = proxy.take_counts();
    let of =
        |counts: &BTreeMap<String, u64>, calls: &[&str]| calls.iter().filter_map(|call| counts.get(*call)).sum::<u64>();
    for calls in [&["HEAD item", "GET item"][..], &["GET bucket"], &["HEAD bucket"]] {
        assert!(of(&asked, calls) <= of(&needed, calls), "{calls:?}: {asked:?}, and a run {needed:?}");
    }
    let (planned, then) = (said(world, "dry.jsonl"), said(world, "done.jsonl"));
    let differ: Vec<_> = planned.symmetric_difference(&then).collect();
    assert!(differ.is_empty(), "{differ:?} {} {}", dry.out, dry.err);
    for counter in ["copied", "updated", "deleted", "refused", "unchanged", "unread"] {
        assert_eq!(dry.json()[counter], done[counter], "{counter}");
    }
    assert_eq!(deeds(&asked), [], "{asked:?}");
    (asked, dry.json())
}

#[test]
fn a_dry_run_into_a_bucket_and_out_of_it_says_what_the_run_does_and_asks_no_more() {
    let world = World::new();
    let proxy = Proxy::before(ministack(), 1);
    boto(&world, &format!("client('s3', '{}').create_bucket(Bucket='dry')", ministack()));
    (0..40).for_each(|n| world.write(&format!("src/d/{n:02}"), format!("bytes {n}")));
    world.age("src");
    let up = ["src", "s3://dry/copy", "--destination-endpoint", proxy.address()];
    let (_, json) = beside(&world, &proxy, &up);
    assert_eq!(json["copied"], 40);
    let down = ["s3://dry/copy", "back", "--source-endpoint", proxy.address()];
    let (asked, json) = beside(&world, &proxy, &down);
    assert_eq!((&json["copied"], asked["HEAD item"]), (&40.into(), 40), "a run would GET each: {asked:?}");
    world.age("back");
    for args in [&up, &down] {
        mill(&world, &[&["mirror"], &args[..]].concat()).expect(0);
    }
    for args in [&up, &down] {
        let (_, json) = beside(&world, &proxy, args);
        assert_eq!(json["unchanged"], 40, "{json}");
    }
    fs::write(world.path("src/d/00"), "more bytes than before").unwrap();
    fs::write(world.path("src/d/new"), "new").unwrap();
    fs::remove_file(world.path("src/d/01")).unwrap();
    std::os::unix::fs::symlink("00", world.path("src/link")).unwrap();
    for (args, refused) in [(&up, 1), (&down, 0)] {
        let (_, json) = beside(&world, &proxy, args);
        let counts = ["copied", "updated", "deleted", "refused"].map(|counter| json[counter].as_u64().unwrap());
        assert_eq!(counts, [1, 1, 1, refused], "{json}");
    }
}

#[test]
fn a_dry_run_makes_no_bucket() {
    let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
    world.write("src/x", "x");
    let args = ["mirror", "src", "s3://dry-none/copy", "--destination-endpoint", proxy.address(), "--json"];
    let ran = mill(&world, &[&args[..], &["--dry-run"]].concat()).expect(100);
    assert!(ran.err.contains("is not there; check its name, or pass --create to make it"), "{}", ran.err);
    let json = mill(&world, &[&args[..], &["--dry-run", "--create"]].concat()).expect(0).json();
    assert_eq!(json["copied"], 1);
    assert_eq!(deeds(&proxy.take_counts()), []);
    assert!(!world.path("state").exists());
    let buckets =
        boto(&world, &format!("out = [b['Name'] for b in client('s3', '{}').list_buckets()['Buckets']]", ministack()));
    assert!(!buckets.contains("dry-none"), "{buckets}");
}
