//! `mill restore` from a mirror and from a store, to a folder and to a bucket, on a real server; and a mirror's dead letters.

use std::fs;

use super::mirror::mirror;
use super::proxy::{Mood, Proxy};
use super::within::READY;
use super::{CREDENTIALS, boto, ministack, seaweed};
use crate::world::{Ran, World};

fn mill(world: &World, args: &[&str]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).args(args).output().unwrap())
}

/// A collection, mirrored to this place of a bucket.
fn mirrored(to: &str) -> World {
    let world = World::new();
    world.collection("src");
    fs::create_dir(world.path("src/empty")).unwrap();
    world.age("src");
    mirror(&world, &["src", to, "--destination-endpoint", ministack(), "--create"]).expect(0);
    world
}

#[test]
fn a_mirrors_copy_comes_back_to_a_folder_and_to_a_bucket_when_its_source_is_gone() {
    let (world, endpoint) = (mirrored("s3://restored/from"), ministack());
    fs::rename(world.path("src"), world.path("was")).unwrap();
    let from = ["restore", "--mirror", "src", "s3://restored/from", "--destination-endpoint", endpoint, "--json"];
    let json = mill(&world, &[&from[..], &["src"]].concat()).expect(0).json();
    assert_eq!((&json["copied"], &json["unproven"]), (&14.into(), &0.into()), "every byte is proven: {json}");
    world.same("was", "src");
    assert_eq!(world.stamps("was"), world.stamps("src"));

    let to = ["s3://restored-to/deep", "--to-endpoint", endpoint];
    let ran = mill(&world, &[&from[..], &to].concat()).expect(100);
    assert!(ran.err.contains("is not there; check its name, or pass --create"), "{}", ran.err);
    let json = mill(&world, &[&from[..], &to, &["--create"]].concat()).expect(0).json();
    assert_eq!((&json["copied"], &json["unproven"]), (&14.into(), &0.into()), "{json}");
    let both = ["s3://restored/from", "s3://restored-to/deep", "--source-endpoint", endpoint];
    let verified = mill(&world, &[&["verify"], &both[..], &["--destination-endpoint", endpoint]].concat()).expect(0);
    assert!(verified.out.contains("14 read and equal, 0 faults"), "{}", verified.out);
    let json = mill(&world, &[&from[..], &to].concat()).expect(0).json();
    assert_eq!((&json["copied"], &json["unchanged"]), (&0.into(), &14.into()), "{json}");
    // The mirror goes on with what came back.
    let json = mirror(&world, &["src", "s3://restored/from", "--destination-endpoint", endpoint]).expect(0).json();
    assert_eq!((&json["copied"], &json["updated"]), (&0.into(), &0.into()), "{json}");
}

/// SeaweedFS refuses a key that ends like a folder's name where other objects lie beneath it.
#[test]
fn one_item_and_one_folder_come_back_from_a_bucket_on_every_server() {
    let weed = seaweed::start();
    let keys = [(ministack(), CREDENTIALS[0].1, CREDENTIALS[1].1), (&*weed, seaweed::KEY, seaweed::SECRET)];
    for (endpoint, key, secret) in keys {
        let world = World::new();
        if endpoint == weed {
            boto(&world, &format!("s3 = client('s3', '{endpoint}', '{key}', '{secret}')\n{READY}"));
        }
        for name in ["d/f", "d/g", "d-1", "e"] {
            world.write(&format!("src/{name}"), name);
        }
        world.age("src");
        let mill = |args: &[&str]| {
            let credentials =
                [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "us-east-1")];
            Ran::of(world.command().envs(credentials).args(args).output().unwrap())
        };
        let to = ["s3://one-item/p", "--destination-endpoint", endpoint];
        mill(&[&["mirror", "src"], &to[..], &["--create"]].concat()).expect(0);
        for (item, count) in [("d", 2), ("d/f", 1), ("d-1", 1)] {
            let restore = [&["restore", "--mirror", "src"], &to[..], &["back", "--json", "--item", item]].concat();
            assert_eq!(mill(&restore).expect(0).json()["copied"], count, "{item} from {endpoint}");
            fs::remove_dir_all(world.path("back")).unwrap();
        }
    }
}

#[test]
fn a_copy_that_does_not_answer_is_not_called_empty_by_restore() {
    let world = mirrored("s3://unheard/from");
    let from =
        ["restore", "--mirror", "src", "s3://unheard/from", "--destination-endpoint", "http://127.0.0.1:9", "back"];
    let ran = mill(&world, &from).expect(100);
    assert!(ran.err.contains("cannot be listed") && !ran.err.contains("holds nothing"), "{}", ran.err);
    assert!(!world.path("back").exists());
}

#[test]
fn what_is_damaged_in_a_mirrors_copy_is_named_and_not_brought_back() {
    let (world, endpoint) = (mirrored("s3://rotten/x"), ministack());
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
there = s3.get_object(Bucket='rotten', Key='x/catalogue.csv')
s3.put_object(Bucket='rotten', Key='x/catalogue.csv', Body=there['Body'].read()[:-1] + b'?', Metadata=there['Metadata'])"
        ),
    );
    let from = ["restore", "--mirror", "src", "s3://rotten/x", "--destination-endpoint", endpoint];
    let ran = mill(&world, &[&from[..], &["back"]].concat()).expect(50);
    assert!(ran.out.contains("! catalogue.csv: it was changed since it was copied here"), "{}", ran.out);
    assert!(!world.path("back/catalogue.csv").exists() && world.path("back/README.txt").exists());
    // Where nothing is known of the mirror, all of it comes back, and nothing vouches for it.
    let from = ["restore", "--mirror", "other", "s3://rotten/x", "--destination-endpoint", endpoint];
    let ran = mill(&world, &[&from[..], &["all"]].concat()).expect(2);
    assert!(ran.out.contains("No `mill mirror` of these two is known here"), "{}", ran.out);
    assert!(world.path("all/catalogue.csv").exists());
}

#[test]
fn nothing_is_restored_into_the_copy_itself_under_any_name() {
    let (world, endpoint) = (mirrored("s3://itself/x"), ministack());
    let other_name = endpoint.replace("127.0.0.1", "localhost");
    let restore = |to: &[&str]| {
        let from = ["restore", "--mirror", "src", "s3://itself/x", "--destination-endpoint", endpoint];
        mill(&world, &[&from[..], to].concat())
    };
    for to in [
        ["s3://itself/x", "--to-endpoint", endpoint],
        ["s3://itself/x/deep", "--to-endpoint", endpoint],
        ["s3://itself", "--to-endpoint", endpoint],
        ["s3://itself/x", "--to-endpoint", &other_name],
    ] {
        let ran = restore(&to).expect(200);
        assert!(ran.err.contains("one cannot be a copy of the other"), "{to:?}: {}", ran.err);
    }
    // Nor into what another mirror keeps in sync.
    world.write("other/a", "x");
    mirror(&world, &["other", "s3://itself-kept/y", "--destination-endpoint", endpoint, "--create"]).expect(0);
    let ran = restore(&["s3://itself-kept/y", "--to-endpoint", endpoint]).expect(100);
    assert!(ran.err.contains("is kept in sync by the mirror of `other`"), "{}", ran.err);
    mirror(&world, &["other", "kept"]).expect(0);
    let ran = restore(&["kept"]).expect(100);
    assert!(ran.err.contains("is kept in sync by the mirror of `other`"), "{}", ran.err);
    assert_eq!(fs::read_dir(world.path("kept")).unwrap().count(), 1);
}

#[test]
fn a_space_comes_back_from_a_store_to_a_bucket() {
    let (world, endpoint) = (World::new(), ministack());
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    world.collection("one/maps");
    world.age("one");
    world.mill(&["run"]).expect(0);
    let to = ["s3://from-a-store/maps", "--to-endpoint", endpoint];
    let restore = ["restore", "library", "maps", "--from", "2", "--json", "--create"];
    let json = mill(&world, &[&restore[..], &to].concat()).expect(0).json();
    assert_eq!((&json["copied"], &json["unproven"]), (&13.into(), &0.into()), "{json}");
    let ends = ["verify", "one/maps", "s3://from-a-store/maps", "--destination-endpoint", endpoint];
    mill(&world, &ends).expect(0);
    for (args, said) in [
        (&["restore", "library", "--from", "2"][..], "name the account, the space and the place"),
        (&["restore", "library", "maps", "back", "--from", "2", "--to-region", "x"], "`back` is a folder"),
        (&["restore", "--mirror", "a", "b", "c", "d"], "name only the place"),
    ] {
        let ran = mill(&world, args).expect(200);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_mirrors_dead_letter_is_shown_retried_and_discarded_by_its_two_ends() {
    let world = World::new();
    world.write("src/stuck", "x");
    world.write("src/other", "y");
    boto(&world, &format!("client('s3', '{}').create_bucket(Bucket='stuck-once')", ministack()));
    let proxy = Proxy::before(ministack(), 1);
    proxy.set(Mood::Answers("PUT", "stuck-once/stuck", 400, "Whatever"));
    let ends = ["src", "s3://stuck-once", "--destination-endpoint", proxy.address()];
    let json = mirror(&world, &ends).expect(50).json();
    assert_eq!((&json["copied"], &json["dead_lettered"]), (&1.into(), &1.into()), "{json}");
    let remarks = json["remarks"].to_string();
    let shown = remarks.split("(mill ").nth(1).and_then(|it| it.split(')').next()).expect("a command is named");
    // The command that the remark names is the one that shows it.
    let entry = mill(&world, &shown.split(' ').collect::<Vec<_>>()).expect(0);
    let entry: serde_json::Value = serde_json::from_str(&entry.out).unwrap();
    let reason = entry["reason"].as_str().unwrap();
    assert_eq!((&entry["subject"], &entry["failures"]), (&"stuck".into(), &3.into()), "{entry}");
    assert!(reason.contains("writing of `stuck` in `s3://stuck-once` failed"), "{reason}");
    let mirror_words = [&["--mirror"][..], &ends].concat();
    let letters = |args: &[&str]| mill(&world, &[&["deadletters"], args, &mirror_words].concat());
    let id = letters(&["list", "--json"]).expect(0).json()["id"].as_str().unwrap().to_owned();
    assert!(letters(&["list"]).expect(0).out.contains(&id));
    let said = letters(&["retry", &id]).expect(0).out;
    assert!(said.contains("is tried again by the next `mill mirror`"), "{said}");
    assert_eq!(letters(&["list"]).expect(0).out, "none\n");
    mirror(&world, &ends).expect(50);
    let listed = letters(&["list"]).expect(0).out;
    assert!(listed.contains("stuck"), "{listed}");
    proxy.set(Mood::Quiet);
    assert_eq!(mirror(&world, &ends).expect(0).json()["copied"], 1);
    // The run that copied the item has closed it.
    assert_eq!(letters(&["list"]).expect(0).out, "none\n");
    let closed = letters(&["list", "--all", "--json"]).expect(0).out;
    assert!(closed.contains("in sync since the run that began at"), "{closed}");
    let other = mill(&world, &["deadletters", "list", "--mirror", "other", "nowhere"]).expect(100);
    assert!(other.err.contains("there was no `mill mirror` from"), "{}", other.err);
}
