//! What this crate writes is a log for others, and what was changed in it is found by them and here.

use std::fs;
use std::path::Path;

use mill_transparency::{Finding, LogPath, LogSigner, LogVerifier, VerifyError, verify_log};

use crate::verifiers::{BOTH, Verifier};
use crate::written_log::{ORIGIN, WrittenLog, entry};

const SIZES: [u64; 8] = [1, 200, 256, 5000, 65_536, 65_537, 70_000, 100_000];

fn signer(seed: u8) -> LogSigner {
    LogSigner::generate(ORIGIN, [seed; 32]).expect("a name")
}

/// What this crate says of a log in a folder.
fn verify_here(log: &Path, verifier: &LogVerifier, kept: Option<&Path>) -> Result<u64, Finding> {
    let open = |path: &Path| verifier.open(&fs::read(path).expect("a checkpoint")).expect("signed").checkpoint;
    let checkpoint = open(&log.join("checkpoint"));
    let read = |path: LogPath| match fs::read(log.join(path.to_string())) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let mut entries = 0;
    match verify_log(&checkpoint, kept.map(open).as_ref(), read, |_, _| entries += 1) {
        Ok(()) => Ok(entries),
        Err(VerifyError::Found(finding)) => Err(finding),
        Err(VerifyError::Read { path, source }) => panic!("{path}: {source}"),
    }
}

#[test]
fn others_verify_a_log_of_100_000_entries_and_its_proofs() {
    let log = WrittenLog::create(signer(1), &SIZES);
    log.write_proofs(&[0, 1, 255, 256, 65_535, 65_536, 69_999, 99_840, 99_999], &SIZES);
    for verifier in BOTH {
        for kept in [None, Some(log.kept(1)), Some(log.kept(65_537)), Some(log.kept(100_000))] {
            let said = verifier.verify(log.folder(), &log.key(), kept.as_deref());
            assert_eq!(said, Ok("ok 100000".to_owned()), "{verifier:?}");
        }
        let other = verifier.verify(log.folder(), &signer(2).public().to_string(), None);
        assert!(other.is_err(), "{verifier:?} believes another key");
    }
    assert_eq!(verify_here(log.folder(), &log.verifier(), Some(&log.kept(65_537))), Ok(100_000));
}

/// Changes the encoded entries of a bundle whose first is this one.
fn change_entries(bytes: &[u8], first: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let (mut entries, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (entry, after) = rest.split_at(2 + entry(first + entries.len() as u64).len());
        entries.push(entry.to_vec());
        rest = after;
    }
    change(&mut entries);
    entries.concat()
}

fn flip(bytes: &[u8], position: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[position] ^= 1;
    changed
}

/// A file of the log is changed. All must find it, and this crate the first entry that is wrong.
fn assert_found(log: &WrittenLog, path: &str, first: u64, damage: impl FnOnce(&[u8]) -> Vec<u8>) {
    let file = log.file(path.parse().expect("a path"));
    let before = fs::read(&file).expect("a file");
    fs::write(&file, damage(&before)).expect("it is written");
    for verifier in BOTH {
        assert!(verifier.verify(log.folder(), &log.key(), None).is_err(), "{verifier:?} finds nothing in {path}");
    }
    let here = verify_here(log.folder(), &log.verifier(), None).expect_err("it was changed");
    assert_eq!(here.first_entry(), Some(first), "{path}: {here}");
    fs::write(&file, before).expect("it is written");
}

#[test]
fn others_find_what_was_changed_in_a_log() {
    let log = WrittenLog::create(signer(1), &SIZES);
    let (bundle, last) = ("tile/entries/200", "tile/entries/390.p/160");
    let flip_entry = |entries: &mut Vec<Vec<u8>>| entries[10] = flip(&entries[10], 2);
    assert_found(&log, bundle, 51_210, |bytes| change_entries(bytes, 51_200, flip_entry));
    assert_found(&log, bundle, 51_210, |bytes| change_entries(bytes, 51_200, |entries| drop(entries.remove(10))));
    assert_found(&log, bundle, 51_210, |bytes| change_entries(bytes, 51_200, |entries| entries.swap(10, 20)));
    assert_found(&log, last, 99_999, |bytes| change_entries(bytes, 99_840, |entries| drop(entries.pop())));
    assert_found(&log, last, 99_999, |bytes| bytes[..bytes.len() - 1].to_vec());
    assert_found(&log, "tile/0/200", 51_201, |bytes| flip(bytes, 40));
    assert_found(&log, "tile/0/390.p/160", 99_841, |bytes| flip(bytes, 40));
    assert_found(&log, "tile/1/000", 256, |bytes| flip(bytes, 40));
    for verifier in BOTH {
        assert!(verifier.verify(log.folder(), &log.key(), None).is_ok(), "all is as it was");
    }
}

#[test]
fn others_find_a_rollback_and_a_fork_by_a_kept_checkpoint() {
    let log = WrittenLog::create(signer(1), &[300, 1000]);
    let kept = log.kept(1000);
    // It is signed, and all its files are there: only who kept a newer checkpoint can know.
    fs::copy(log.kept(300), log.file(LogPath::Checkpoint)).expect("it is copied");
    for verifier in BOTH {
        assert_eq!(verifier.verify(log.folder(), &log.key(), None), Ok("ok 300".to_owned()));
        let said = verifier.verify(log.folder(), &log.key(), Some(&kept)).expect_err("rolled back");
        assert!(said.contains("rolled back from 1000 to 300"), "{verifier:?}: {said}");
    }
    let here = verify_here(log.folder(), &log.verifier(), Some(&kept));
    assert_eq!(here, Err(Finding::RolledBack { kept: 1000, size: 300 }));

    let mut other = WrittenLog::create(signer(1), &[300]);
    other.append(&(0..700).map(|number| format!("other {number}").into_bytes()).collect::<Vec<_>>());
    for verifier in BOTH {
        assert_eq!(verifier.verify(other.folder(), &log.key(), None), Ok("ok 1000".to_owned()));
        assert_eq!(verifier.verify(other.folder(), &log.key(), Some(&log.kept(300))), Ok("ok 1000".to_owned()));
        let said = verifier.verify(other.folder(), &log.key(), Some(&kept)).expect_err("forked");
        assert!(said.contains("forked"), "{verifier:?}: {said}");
    }
    let here = verify_here(other.folder(), &log.verifier(), Some(&kept));
    assert_eq!(here, Err(Finding::Forked { size: 1000 }));
}

#[test]
fn a_key_that_go_made_signs_what_go_opens() {
    let keys = Verifier::Go.run(&["key", ORIGIN]).expect("keys");
    let (secret, public) = keys.split_once('\n').expect("two lines");
    let log = WrittenLog::create(LogSigner::from_secret(secret).expect("a key"), &[3]);
    assert_eq!(log.key(), public);
    for verifier in BOTH {
        assert_eq!(verifier.verify(log.folder(), public, None), Ok("ok 3".to_owned()));
    }
}

#[test]
fn a_log_that_others_wrote_is_verified_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = Verifier::Python.run(&["write", folder.path().to_str().expect("a text"), ORIGIN, "66000"]);
    let verifier = LogVerifier::parse(&key.expect("a log")).expect("a key");
    assert_eq!(verify_here(&folder.path().join("log"), &verifier, None), Ok(66_000));
}
