//! Servers that accept a call and never answer: they are given up within the time limit and reported, and slow servers
//! are not.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, boto, bucket, ministack};
use crate::world::{World, ends, walk};

const ITEMS: usize = 20;

/// Policies of one account, from a bucket to a folder.
fn policies(world: &World, proxy: &Proxy, prefix: &str) {
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    let stores = format!(
        r#"{{"stores": [{{"id": "1", "type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true,
                          "bucketPrefix": "{prefix}", "primary": true}}, {{"id": "2", "type": "folder", "root": "two"}}]}}"#,
        proxy.address()
    );
    world.write("policies/library-stores.json", stores);
}

fn begin(world: &World, args: &[&str]) -> Child {
    let mut command = world.command();
    command.envs(CREDENTIALS).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_run_gives_up_a_source_that_never_answers_and_names_it() {
    bucket(&World::new(), "mute-spaces", ITEMS);
    for (processes, after, code) in [("0", 0, 100), ("0", 8, 50), ("2", 8, 50)] {
        let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
        policies(&world, &proxy, "mute-");
        proxy.set(Mood::SilentAfter(after));
        let args = ["run", "--json", "--give-up-after", "5s", "--processes", processes];
        let ran = ends(begin(&world, &args)).expect(code);
        let remarks = ran.json()["remarks"].to_string();
        for words in ["store `library:1`", "does not answer", "; `--give-up-after` allows longer"] {
            assert!(remarks.contains(words), "{processes} {after}: {words}: {remarks} {}", ran.err);
        }
        proxy.set(Mood::Quiet);
        ends(begin(&world, &["run", "--json"])).expect(0);
        assert_eq!(walk(&world.path("two/spaces")).len(), ITEMS);
    }
}

#[test]
fn a_mirror_gives_up_an_end_that_never_answers_and_names_it() {
    bucket(&World::new(), "mute", ITEMS);
    let from = ["s3://mute", "copies", "--source-endpoint"];
    let to = ["src", "s3://mute/copies", "--destination-endpoint"];
    for (between, after, code) in [(from, 8, 50), (to, 0, 100), (to, 3, 100)] {
        let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
        world.write("src/a", "a");
        let mirror = || {
            let args = [&["mirror"], &between[..], &[proxy.address(), "--json", "--give-up-after", "5s"]].concat();
            ends(begin(&world, &args))
        };
        proxy.set(Mood::SilentAfter(after));
        let ran = mirror().expect(code);
        let said = ran.out + &ran.err;
        for words in ["`s3://mute", "not answer", "; `--give-up-after` allows longer"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("mirror:"), "{said}");
        proxy.set(Mood::Quiet);
        mirror().expect(0);
    }
}

/// Only its answers show progress: each of its spaces is empty.
#[test]
fn a_slow_store_is_no_silent_one() {
    let world = World::new();
    let proxy = Proxy::before(ministack(), 1);
    let make = format!(
        "s3 = client('s3', '{}')
for n in range(10): s3.create_bucket(Bucket=f'tardy-{{n}}')",
        ministack()
    );
    boto(&world, &make);
    policies(&world, &proxy, "tardy-");
    let args = ["run", "--json", "--give-up-after", "1s"];
    ends(begin(&world, &args)).expect(0);
    proxy.set(Mood::Far(Duration::from_millis(1_500)));
    ends(begin(&world, &args)).expect(0);
}

#[test]
fn a_second_signal_ends_a_run_at_once_that_a_silent_store_holds() {
    bucket(&World::new(), "held-spaces", ITEMS);
    for after in [0, 8] {
        let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
        policies(&world, &proxy, "held-");
        proxy.set(Mood::SilentAfter(after));
        let run = begin(&world, &["run", "--json"]);
        std::thread::sleep(Duration::from_secs(3));
        for _ in 0..2 {
            assert!(Command::new("kill").arg("-INT").arg(run.id().to_string()).status().unwrap().success());
            std::thread::sleep(Duration::from_millis(500));
        }
        ends(run).expect(50);
    }
}

/// The first of them by name, so that every run begins with it.
#[test]
fn a_bucket_that_never_answers_keeps_no_other_bucket_from_its_runs() {
    for name in ["part-a", "part-b", "part-c"] {
        bucket(&World::new(), name, ITEMS);
    }
    let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
    policies(&world, &proxy, "part-");
    proxy.set(Mood::SilentAbout("part-a"));
    for items in [ITEMS, ITEMS + 1] {
        let ran = ends(begin(&world, &["run", "--json", "--give-up-after", "5s"])).expect(50);
        let remarks = ran.json()["remarks"].to_string();
        for words in ["`a`", "store `library:1`", "does not answer: no answer for", "; `--give-up-after` allows longer"]
        {
            assert!(remarks.contains(words), "{words}: {remarks} {}", ran.err);
        }
        for name in ["b", "c"] {
            assert_eq!(walk(&world.path(&format!("two/{name}"))).len(), items, "{remarks}");
            let put = "client('s3', 'SERVER').put_object(Bucket='part-NAME', Key='later', Body=b'x')";
            boto(&world, &put.replace("SERVER", ministack()).replace("NAME", name));
        }
        assert!(!world.path("two/a").exists());
    }
    proxy.set(Mood::Quiet);
    ends(begin(&world, &["run", "--json"])).expect(0);
    assert_eq!(walk(&world.path("two/a")).len(), ITEMS);
}

/// Two buckets of a store, with this many items each.
fn two_buckets(world: &World, prefix: &str, items: usize) {
    let make = format!(
        "s3 = client('s3', '{}')
for name in ['{prefix}a', '{prefix}b']:
    s3.create_bucket(Bucket=name)
    for n in range({items}): s3.put_object(Bucket=name, Key=f'item-{{n}}', Body=b'x')",
        ministack()
    );
    boto(world, &make);
}

#[test]
fn a_bucket_whose_items_cannot_be_read_keeps_no_item_of_another_bucket_waiting() {
    const EACH: usize = 300;
    two_buckets(&World::new(), "ailing-", EACH);
    for (status, code) in [(500, "InternalError"), (503, "SlowDown")] {
        let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
        policies(&world, &proxy, "ailing-");
        proxy.set(Mood::Answers("GET", "ailing-a/item", status, code));
        let ran = ends(begin(&world, &["run", "--json", "--give-up-after", "10s"])).expect(50);
        let json = ran.json();
        assert_eq!(walk(&world.path("two/b")).len(), EACH, "{code}: {json}");
        assert_eq!((&json["copied"], &json["dead_lettered"]), (&EACH.into(), &0.into()), "{json}");
        assert!(json["remarks"].to_string().contains(code), "{json}");
        proxy.set(Mood::Quiet);
        assert_eq!(ends(begin(&world, &["run", "--json"])).expect(0).json()["in_sync"], true);
    }
}

/// While the other bucket of its store can be read.
#[test]
fn items_of_a_bucket_that_fails_for_a_while_arrive_in_the_same_run() {
    two_buckets(&World::new(), "sick-", ITEMS);
    let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
    policies(&world, &proxy, "sick-");
    proxy.set(Mood::Answers("GET", "sick-a/item", 500, "InternalError"));
    let run = begin(&world, &["run", "--json"]);
    std::thread::sleep(Duration::from_secs(20));
    proxy.set(Mood::Quiet);
    let ran = ends(run).expect(0);
    assert_eq!(ran.json()["copied"], 2 * ITEMS, "{} {}", ran.out, ran.err);
}

/// It is shown without a progress bar, and in the log with `--quiet`; and it ends no run.
#[test]
fn a_write_that_is_never_answered_is_said_with_its_store_and_ends_no_run() {
    bucket(&World::new(), "stuck-writes", 0);
    let (world, proxy) = (World::new(), Proxy::before(ministack(), 1));
    world.write("src/a", "a");
    proxy.set(Mood::SilentPuts("copies/a"));
    for (how, before) in [("--json", "mill: "), ("--quiet", " WARN ")] {
        let to = ["mirror", "src", "s3://stuck-writes/copies", "--destination-endpoint", proxy.address()];
        let mut mirror = begin(&world, &[&to[..], &["--give-up-after", "1s", how]].concat());
        let mut lines = BufReader::new(mirror.stderr.as_mut().unwrap());
        let mut said = String::new();
        let is_it =
            |line: &str| line.contains("waits for `s3://stuck-writes/copies` to write (") && line.contains(before);
        while !said.lines().any(is_it) {
            assert!(lines.read_line(&mut said).unwrap() > 0, "{how}: it ended without a word of it: {said}");
        }
        mirror.kill().unwrap();
        mirror.wait().unwrap();
    }
}
