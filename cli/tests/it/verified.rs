//! What is written down of verifications, and of runs that could not begin.

use std::fs;

use serde_json::Value;

use crate::world::World;

/// Changes a byte of a file, as a disk might: neither its size nor its time shows it.
fn damage(world: &World, name: &str) {
    let path = world.path(name);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
}

fn runs(world: &World, args: &[&str]) -> Vec<Value> {
    let listed = world.mill(&[&["runs", "list", "--json"], args].concat()).expect(0).out;
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_copy_in_which_a_verification_found_faults_is_not_called_in_sync_until_another_finds_none() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}], "compare": "differences"}"#);
    for name in ["maps/a", "maps/b", "other/c"] {
        world.write(&format!("one/{name}"), "some bytes");
    }
    world.age("one");
    world.mill(&["run"]).expect(0);
    let pair = |space: &str| {
        let status: Value = world.mill(&["status", "--json"]).expect(0).json();
        let of = |pair: &&Value| pair["space"] == space;
        status["pairs"].as_array().unwrap().iter().find(of).unwrap().clone()
    };
    assert_eq!(pair("maps").get("verification"), None);
    assert_eq!(world.mill(&["verify", "--quiet"]).expect(0).out, "");
    assert_eq!((&pair("maps")["verification"]["faults"], pair("maps")["in_sync_as_of"].is_string()), (&0.into(), true));
    assert!(world.mill(&["status"]).expect(0).out.contains("; verified "));
    damage(&world, "two/maps/a");
    world.mill(&["verify", "library", "maps", "--quiet"]).expect(50);
    let last = runs(&world, &[]).remove(0);
    assert_eq!((&last["verified"]["space"], &last["sums"]["faults"]), (&"maps".into(), &1.into()), "{last}");
    let shown = world.mill(&["runs", "show"]).expect(0).out;
    assert!(
        shown.contains("maps (store 1 → 2): a: the bytes differ") && shown.contains("of `library`, `maps`"),
        "{shown}"
    );
    assert!(world.mill(&["runs", "list"]).expect(0).out.contains("  verify  "));
    // Neither a verification of another space nor of a part of this one, nor a run, finds it right again.
    world.mill(&["verify", "library", "other"]).expect(0);
    world.mill(&["run"]).expect(0);
    let (maps, other) = (pair("maps"), pair("other"));
    assert_eq!((&maps["in_sync_as_of"], &maps["verification"]["faults"]), (&Value::Null, &1.into()), "{maps}");
    assert!(other["in_sync_as_of"].is_string() && other["verification"]["faults"] == 0, "{other}");
    let said = world.mill(&["status"]).expect(0).out;
    let line = said.lines().find(|line| line.starts_with("library/maps")).unwrap();
    assert!(line.contains("NOT as it should be") && !line.contains("in sync"), "{line}");
    world.mill(&["verify"]).expect(0);
    assert_eq!((&pair("maps")["verification"]["faults"], pair("maps")["in_sync_as_of"].is_string()), (&0.into(), true));
}

#[test]
fn a_verification_of_a_mirror_is_among_its_runs_and_of_two_others_it_says_that_none_is_kept() {
    let world = World::new();
    world.write("src/x", "some bytes");
    world.mirror(&[]).expect(0);
    damage(&world, "dst/x");
    let said = world.mill(&["verify", "src", "dst"]).expect(50).out;
    assert!(!said.contains("No record"), "{said}");
    let listed = runs(&world, &["--mirror", "src", "dst"]);
    let codes: Vec<_> =
        listed.iter().map(|run| (run["verified"].is_object(), run["exit_code"].as_u64().unwrap())).collect();
    assert_eq!(codes, [(true, 50), (false, 0)]);
    world.write("third/x", "some bytes");
    let said = world.mill(&["verify", "./src", "./third"]).out;
    assert!(said.contains("No record of this is kept"), "{said}");
}

#[test]
fn a_mirror_that_cannot_begin_is_among_the_runs_of_its_pair_with_the_reason() {
    let world = World::new();
    world.write("src/x", "x");
    world.mirror(&[]).expect(0);
    let codes = || {
        runs(&world, &["--mirror", "src", "dst"])
            .iter()
            .map(|run| run["exit_code"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    fs::rename(world.path("src"), world.path("away")).unwrap();
    world.mirror(&["--dry-run"]).expect(100);
    assert_eq!(codes(), [0], "a dry run leaves nothing");
    let said = world.mirror(&[]).expect(100).err;
    assert_eq!(codes(), [100, 0]);
    let last = runs(&world, &["--mirror", "src", "dst"]).remove(0);
    let sentence = last["sentence"].as_str().unwrap();
    assert!(
        said.contains(sentence) && sentence.contains("the source folder `src` cannot be used"),
        "{sentence}: {said}"
    );
    fs::rename(world.path("away"), world.path("src")).unwrap();
    fs::rename(world.path("dst"), world.path("unmounted")).unwrap();
    world.mirror(&[]).expect(100);
    assert_eq!(codes(), [100, 100, 0]);
    fs::rename(world.path("unmounted"), world.path("dst")).unwrap();
    std::os::unix::fs::symlink("x", world.path("src/link")).unwrap();
    world.mirror(&[]).expect(2);
    let letters = world.mill(&["deadletters", "list", "--mirror", "src", "dst"]).expect(0).out;
    assert!(
        letters.contains("none\nThe last run refused 1 ") && letters.contains("`mill runs show --mirror src dst`"),
        "{letters}"
    );
}
