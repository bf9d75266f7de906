//! `mill audit verify`, `prove` and `new-key`: what was changed in a log is found and named, by Mill and without it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::audit_world::{AuditWorld, ORIGIN, bundle_of, entries_of, hard_names, vkey};
use crate::world::{Ran, World};

fn verify_folder(audit: &AuditWorld, folder: &str, more: &[&str]) -> Ran {
    audit.world.mill(&[&["audit", "verify", "--folder", folder, "--key", &vkey()], more].concat())
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    with(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn change_entries(path: &Path, with: impl FnOnce(&mut Vec<Vec<u8>>)) {
    change(path, |bytes| {
        let mut entries = entries_of(bytes);
        with(&mut entries);
        *bytes = bundle_of(&entries);
    });
}

#[test]
fn a_whole_log_is_verified_in_each_store_and_again_from_a_kept_checkpoint() {
    let audit = AuditWorld::with(200);
    let world = &audit.world;
    let first = world.mill(&["audit", "verify", "library", "--save-checkpoint", "kept"]).expect(0);
    assert_eq!(first.out.lines().count(), 2, "{}", first.out);
    assert!(first.out.contains("store `2`: 200 entries, the last at 2026-11-21T08:3"), "{}", first.out);
    audit.publish(200..300);
    let again = world.mill(&["audit", "verify", "--from", "kept", "--save-checkpoint", "kept"]).expect(0);
    assert!(again.out.contains("300 entries, the last at"), "{}", again.out);
    assert!(again.out.contains("; append-only since the checkpoint of 200 entries"), "{}", again.out);
    assert!(fs::read_to_string(world.path("kept")).unwrap().starts_with(&format!("{ORIGIN}\n300\n")));
    // A third party has the files and the key alone.
    audit.copy_of_log("given");
    let elsewhere = verify_folder(&audit, "given", &["--from", "kept", "--json"]).expect(0).json();
    assert_eq!((&elsewhere["entries"], &elsewhere["beside"]), (&300.into(), &1.into()), "{elsewhere}");
    // Where the secret key cannot be read, the public one is enough.
    fs::remove_file(world.path("audit-key")).unwrap();
    let refused = world.mill(&["audit", "verify", "library"]).expect(100);
    assert!(refused.err.contains("--key"), "{}", refused.err);
    world.mill(&["audit", "verify", "library", "--store", "3", "--key", &vkey()]).expect(0);
    world.mill(&["audit", "verify", "library", "--store", "1", "--key", &vkey()]).expect(200);
}

/// Its name, the first bad entry if it is known here, what the message says, and what is done to the folder.
type Damage = (&'static str, Option<u64>, &'static str, fn(&Path));

#[test]
fn each_change_to_the_files_of_a_log_is_found_and_the_first_bad_entry_is_named() {
    let audit = AuditWorld::with(300);
    let damages: [Damage; 8] = [
        ("changed", Some(17), "was changed", |log| {
            change_entries(&log.join("tile/entries/000"), |entries| {
                let last = entries[17].len() - 20;
                entries[17][last] ^= 1;
            });
        }),
        ("removed", Some(20), "was removed", |log| {
            change_entries(&log.join("tile/entries/000"), |entries| drop(entries.remove(20)));
        }),
        ("swapped", Some(30), "swapped with entry 31", |log| {
            change_entries(&log.join("tile/entries/000"), |entries| entries.swap(30, 31));
        }),
        ("cut", Some(256), "absent", |log| fs::remove_file(log.join("tile/entries/001.p/44")).unwrap()),
        ("tile", Some(40), "the entry is right", |log| change(&log.join("tile/0/000"), |bytes| bytes[40 * 32] ^= 1)),
        ("blob", None, "entries-by-sha256/", |log| {
            let blobs: Vec<_> = fs::read_dir(log.join("entries-by-sha256")).unwrap().collect();
            change(&blobs[0].as_ref().unwrap().path(), |bytes| bytes[1000] ^= 1);
        }),
        ("no-blob", None, "is absent", |log| fs::remove_dir_all(log.join("entries-by-sha256")).unwrap()),
        ("checkpoint", None, "not believed", |log| {
            change(&log.join("checkpoint"), |bytes| bytes[ORIGIN.len() + 2] ^= 1);
        }),
    ];
    for (name, first, says, damage) in damages {
        let log = audit.copy_of_log(name);
        verify_folder(&audit, name, &[]).expect(0);
        damage(&log);
        let found = verify_folder(&audit, name, &["--json"]).expect(100);
        assert!(found.err.contains(says), "{name}: {}", found.err);
        let json = found.json();
        assert_eq!(json["verified"], false);
        if let Some(first) = first {
            assert_eq!(json["firstBadEntry"], first, "{name}: {json}");
            assert!(found.err.contains(&format!("first bad entry is {first}")), "{name}: {}", found.err);
        }
        if name.ends_with("blob") {
            assert!(json["firstBadEntry"].is_u64(), "{json}");
        }
        if name == "swapped" {
            assert!(found.err.contains("it reads now: "), "{}", found.err);
        }
    }
    // In an installation the other store is still verified.
    change(&audit.world.path("two/x-audit-log/tile/0/000"), |bytes| bytes[0] ^= 1);
    let found = audit.world.mill(&["audit", "verify", "library"]).expect(100);
    assert!(
        found.err.contains("store `2` is not verified") && found.out.contains("store `3`: 300 entries"),
        "{}",
        found.err
    );
}

#[test]
fn a_log_rolled_back_or_forked_is_found_by_a_kept_checkpoint() {
    let audit = AuditWorld::with(100);
    let world = &audit.world;
    audit.copy_of_log("older");
    audit.publish(100..130);
    world.mill(&["audit", "verify", "library", "--save-checkpoint", "kept"]).expect(0);
    // An older state is a valid one, to those who keep nothing.
    verify_folder(&audit, "older", &[]).expect(0);
    let back = verify_folder(&audit, "older", &["--from", "kept"]).expect(100);
    assert!(back.err.contains("rolled back: it has 100 entries, and had 130"), "{}", back.err);
    let same = audit.another_log("fork-130", 130);
    let forked = verify_folder(&audit, same.to_str().unwrap(), &["--from", "kept"]).expect(100);
    assert!(forked.err.contains("forked"), "{}", forked.err);
    let longer = audit.another_log("fork-150", 150);
    let rewritten = verify_folder(&audit, longer.to_str().unwrap(), &["--from", "kept"]).expect(100);
    assert!(rewritten.err.contains("rewritten: its first 130 entries"), "{}", rewritten.err);
    // The installation remembers what it has published, without a kept checkpoint.
    fs::remove_dir_all(world.path("three/x-audit-log")).unwrap();
    fs::rename(world.path("older"), world.path("three/x-audit-log")).unwrap();
    let back = world.mill(&["audit", "verify", "library"]).expect(100);
    assert!(back.err.contains("store `3` is not verified: the log was rolled back: it has 100"), "{}", back.err);
    fs::remove_dir_all(world.path("three/x-audit-log")).unwrap();
    fs::rename(&longer, world.path("three/x-audit-log")).unwrap();
    let forked = world.mill(&["audit", "verify", "library"]).expect(100);
    assert!(forked.err.contains("store `3` is not verified: the log was forked"), "{}", forked.err);
    fs::remove_dir_all(world.path("three/x-audit-log")).unwrap();
    let gone = world.mill(&["audit", "verify", "library"]).expect(100);
    assert!(gone.err.contains("there is no checkpoint"), "{}", gone.err);
}

#[test]
fn a_proof_is_verified_by_python_and_by_mill_without_the_log() {
    let audit = AuditWorld::with(300);
    let world = &audit.world;
    let lines = world.mill(&["audit", "log", "--json"]).expect(0).out;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let large = events.iter().find(|entry| entry["event"]["properties"]["p99"].is_string()).unwrap();
    let hard = events.iter().find(|entry| entry["event"]["item"] == *hard_names()[0]).unwrap();
    for (folder, entry) in [("large", large), ("hard", hard)] {
        let of = |name: &str| entry["event"][name].as_str().unwrap().to_owned();
        let subject = [of("store"), of("space"), of("item")];
        world.mill(&["audit", "prove", "library", &subject[0], &subject[1], &subject[2], "--out", folder]).expect(0);
        let index = entry["index"].as_u64().unwrap();
        assert_eq!(world.path(folder).join(format!("{index}.whole.json")).exists(), folder == "large");
        let by_mill = world.mill(&["audit", "verify", "--proof", folder, "--key", &vkey()]).expect(0);
        assert!(by_mill.out.contains(&format!("entry {index} of 300")), "{}", by_mill.out);
        // With PyCA cryptography and by arithmetic alone.
        for hide in ["", "sys.modules['cryptography'] = None; sys.modules['cryptography.exceptions'] = None; "] {
            let run = format!(
                "import sys, runpy; {hide}sys.argv = ['verify.py']; runpy.run_path('verify.py', run_name='__main__')"
            );
            let verify =
                || Command::new("python3").args(["-c", &run]).current_dir(world.path(folder)).output().unwrap();
            let found = Ran::of(verify()).expect(0);
            assert!(found.out.contains(&format!("entry {index} of 300 is proven")), "{}", found.out);
            for (name, at) in
                [(format!("{index}.json"), 30), (format!("{index}.tlog-proof"), 150), ("key.txt".into(), 50)]
            {
                let path = world.path(folder).join(name);
                let whole = fs::read(&path).unwrap();
                change(&path, |bytes| bytes[at] ^= 1);
                Ran::of(verify()).expect(1);
                assert_eq!(world.mill(&["audit", "verify", "--proof", folder]).code, 100, "{path:?}");
                fs::write(&path, whole).unwrap();
            }
            let refused = |what: &str| {
                Ran::of(verify()).expect(1);
                assert_eq!(world.mill(&["audit", "verify", "--proof", folder]).code, 100, "{what}");
            };
            let file = |number: u64, end: &str| world.path(folder).join(format!("{number}.{end}"));
            let unproven = file(index + 1000, "json");
            fs::copy(file(index, "json"), &unproven).unwrap();
            refused("an entry without a proof");
            fs::remove_file(unproven).unwrap();
            if folder == "hard" {
                fs::write(file(index, "whole.json"), "{}").unwrap();
                refused("a whole entry that the log does not name");
                fs::remove_file(file(index, "whole.json")).unwrap();
            }
            let ends: &[&str] =
                if folder == "hard" { &["json", "tlog-proof"] } else { &["json", "tlog-proof", "whole.json"] };
            let rename = |from, to| ends.iter().for_each(|end| fs::rename(file(from, end), file(to, end)).unwrap());
            rename(index, index + 1000);
            refused("an entry under another's number");
            rename(index + 1000, index);
        }
    }
    world.mill(&["audit", "prove", "library", "1", "photos", "never there", "--out", "none"]).expect(100);
    assert!(!world.path("none").exists());
    let there = world.mill(&["audit", "prove", "library", "1", "photos", "summer/01.jpg", "--out", "hard"]).expect(200);
    assert!(there.err.contains("already"), "{}", there.err);
}

#[test]
fn a_new_key_replaces_none_and_its_secret_is_never_shown() {
    let world = World::new();
    let made = world.mill(&["audit", "new-key", ORIGIN]).expect(0);
    let secret = fs::read_to_string(world.path("audit-key")).unwrap();
    assert!(secret.starts_with(&format!("PRIVATE+KEY+{ORIGIN}+")));
    let hidden = secret.trim().rsplit('+').next().unwrap();
    assert!(!made.out.contains(hidden) && !made.err.contains(hidden) && !made.err.contains("PRIVATE"));
    assert_eq!(fs::metadata(world.path("audit-key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(made.out.starts_with(&format!("{ORIGIN}+")) && made.out.lines().count() == 1, "{}", made.out);
    assert!(made.err.contains("\"auditLog\""), "{}", made.err);
    let again = world.mill(&["audit", "new-key", ORIGIN]).expect(100);
    assert!(again.err.contains("already") && again.out.is_empty(), "{}", again.err);
    assert_eq!(fs::read_to_string(world.path("audit-key")).unwrap(), secret);
    world.mill(&["audit", "new-key", ORIGIN, "--out", "other"]).expect(0);
    assert_ne!(fs::read_to_string(world.path("other")).unwrap(), secret);
    world.mill(&["audit", "new-key", "no name", "--out", "third"]).expect(200);
    assert!(!world.path("third").exists());
    // A secret key that is given in place of a public one is not repeated either.
    let given = world.mill(&["audit", "verify", "--folder", ".", "--key", secret.trim()]).expect(200);
    assert!(!given.err.contains(hidden), "{}", given.err);
}
