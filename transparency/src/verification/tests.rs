//! Every tampering is found, and the first entry that is wrong is named.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::edge::RightEdge;
use crate::finding::EntryFault;
use crate::reference::{self, at};

/// 256² and some: three levels, full and partial tiles in all but the last.
const SIZE: usize = 66_000;

fn verify(files: &Files, checkpoint: &Checkpoint, kept: Option<&Checkpoint>) -> Result<(), Finding> {
    let unread = |error| match error {
        VerifyError::Found(finding) => finding,
        VerifyError::Read { source, .. } => {
            let never: Infallible = source;
            match never {}
        }
    };
    verify_log(checkpoint, kept, files, |_, _| ()).map_err(unread)
}

/// What is found once the file is damaged.
fn found(log: &(Files, Checkpoint), path: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Finding {
    let (mut files, checkpoint) = log.clone();
    damage(files.get_mut(&at(path)).expect("a file"));
    verify(&files, &checkpoint, None).expect_err("it is damaged")
}

/// The entries of a bundle are changed.
fn found_in_bundle(log: &(Files, Checkpoint), path: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Finding {
    found(log, path, |bytes| {
        let count = if path.contains(".p/") { SIZE % 256 } else { 256 };
        let mut entries = bundle::decode(bytes, count).expect("a bundle").iter().map(|entry| entry.to_vec()).collect();
        change(&mut entries);
        *bytes = bundle::encode(&entries).expect("short entries");
    })
}

fn entry(index: u64, path: &str, fault: EntryFault) -> Finding {
    Finding::Entry { index, path: at(path), fault }
}

fn state(entries: &[Vec<u8>]) -> Checkpoint {
    Checkpoint { origin: "example.com/log".into(), size: entries.len() as u64, root: reference::root(entries) }
}

#[test]
fn a_whole_log_is_verified_and_each_entry_is_seen() {
    let entries = reference::entries(SIZE);
    let (files, checkpoint) = reference::log(&entries);
    let mut seen = Vec::new();
    let kept = state(&entries[..5000]);
    verify_log(&checkpoint, Some(&kept), &files, |index, entry| seen.push((index, entry.to_vec())))
        .expect("a good log");
    assert!(seen.iter().map(|(index, _)| *index).eq(0..SIZE as u64));
    assert!(seen.into_iter().map(|(_, entry)| entry).eq(entries));
}

#[test]
fn logs_of_all_sizes_around_a_tile_are_verified() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537] {
        let entries = reference::entries(size);
        let (files, checkpoint) = reference::log(&entries);
        for kept in [size.saturating_sub(1), size] {
            assert_eq!(verify(&files, &checkpoint, Some(&state(&entries[..kept]))), Ok(()), "{size} {kept}");
        }
        let other = Checkpoint { root: TreeHash::of_entry(b"other"), ..checkpoint };
        let finding = verify(&files, &other, None).expect_err("another root");
        assert_eq!(finding, Finding::Root { root: other.root, found: reference::root(&entries) });
    }
}

#[test]
fn what_happened_to_an_entry_is_named() {
    let log = reference::log(&reference::entries(SIZE));
    for (path, first) in [("tile/entries/007", 1792_u64), ("tile/entries/257.p/208", 65_792)] {
        let changed = found_in_bundle(&log, path, |entries| entries[9][0] ^= 1);
        assert_eq!(changed, entry(first + 9, path, EntryFault::Changed));
        let removed = found_in_bundle(&log, path, |entries| drop(entries.remove(9)));
        assert_eq!(removed, entry(first + 9, path, EntryFault::Removed));
        let last = found_in_bundle(&log, path, |entries| drop(entries.pop()));
        let last_index = first + if first == 1792 { 255 } else { 207 };
        assert_eq!(last, entry(last_index, path, EntryFault::Removed));
        let swapped = found_in_bundle(&log, path, |entries| entries.swap(9, 77));
        assert_eq!(swapped, entry(first + 9, path, EntryFault::Swapped { with: first + 77 }));
        let inserted = found_in_bundle(&log, path, |entries| entries.insert(9, b"new".to_vec()));
        assert_eq!(inserted, entry(first + 9, path, EntryFault::Inserted));
        let longer = found_in_bundle(&log, path, |entries| entries.push(b"new".to_vec()));
        let trailing = EntryFault::Bundle(BundleError::TrailingBytes { bytes: 5 });
        assert_eq!(longer, entry(last_index + 1, path, trailing));
        let short = found_in_bundle(&log, path, |entries| entries.truncate(100));
        let wanted = (last_index + 1 - first) as usize;
        let few = EntryFault::Bundle(BundleError::TooFew { has: 100, wanted });
        assert_eq!(short, entry(first + 100, path, few));
        let cut = found(&log, path, |bytes| bytes.truncate(bytes.len() - 1));
        let position = wanted - 1;
        assert_eq!(cut, entry(last_index, path, EntryFault::Bundle(BundleError::CutShort { position })));
        let absent = found(&log, path, Vec::clear);
        assert_eq!(absent.first_entry(), Some(first));
    }
}

#[test]
fn entries_swapped_between_bundles_are_found_at_the_first() {
    let entries = reference::entries(SIZE);
    let (mut files, checkpoint) = reference::log(&entries);
    let mut swapped = entries;
    swapped.swap(300, 3000);
    for (path, bytes) in reference::log(&swapped).0 {
        if matches!(path, LogPath::Entries { .. }) {
            files.insert(path, bytes);
        }
    }
    let finding = verify(&files, &checkpoint, None).expect_err("swapped");
    assert_eq!(finding, entry(300, "tile/entries/001", EntryFault::Changed));
}

#[test]
fn a_changed_tile_is_named_and_its_entry_is_not_blamed() {
    let log = reference::log(&reference::entries(SIZE));
    let tile = |path: &str, first| Finding::Tile { path: at(path), first };
    for (path, byte, first) in [
        ("tile/0/007", 33, 7 * 256 + 1),
        ("tile/0/257.p/208", 33, 257 * 256 + 1),
        ("tile/1/000", 33, 256),
        ("tile/1/000", 8191, 255 * 256),
        ("tile/1/001.p/1", 0, 65_536),
        ("tile/2/000.p/1", 0, 0),
    ] {
        assert_eq!(found(&log, path, |bytes| bytes[byte] ^= 0x80), tile(path, first), "{path} {byte}");
    }
    let short = Finding::File(FileError::Length { path: at("tile/0/007"), bytes: 8191, wanted: 8192 });
    assert_eq!(found(&log, "tile/0/007", |bytes| bytes.truncate(8191)), short);
    let too_long = Finding::File(FileError::Length { path: at("tile/2/000.p/1"), bytes: 64, wanted: 32 });
    assert_eq!(found(&log, "tile/2/000.p/1", |bytes| bytes.extend([0; 32])), too_long);
}

#[test]
fn an_absent_file_is_named() {
    let (files, checkpoint) = reference::log(&reference::entries(SIZE));
    for path in
        ["tile/0/003", "tile/0/257.p/208", "tile/1/000", "tile/2/000.p/1", "tile/entries/000", "tile/entries/257.p/208"]
    {
        let mut files = files.clone();
        files.remove(&at(path));
        let finding = verify(&files, &checkpoint, None).expect_err("a file is absent");
        assert_eq!(finding, Finding::File(FileError::Absent { path: at(path) }));
        assert_eq!(finding.first_entry(), Some(at(path).first_entry()));
    }
}

#[test]
fn a_bundle_replaced_with_its_tile_is_found() {
    let entries = reference::entries(SIZE);
    let (mut files, checkpoint) = reference::log(&entries);
    let mut changed = entries;
    changed[1000] = b"forged".to_vec();
    let forged = reference::log(&changed).0;
    for path in ["tile/entries/003", "tile/0/003"] {
        files.insert(at(path), forged[&at(path)].clone());
    }
    let replaced = Finding::Replaced { first: 768, last: 1023 };
    assert_eq!(verify(&files, &checkpoint, None), Err(replaced));
    files.insert(at("tile/1/000"), forged[&at("tile/1/000")].clone());
    let replaced = Finding::Replaced { first: 0, last: 65_535 };
    assert_eq!(verify(&files, &checkpoint, None), Err(replaced));
    // And with the right edge: the files agree, and are another log's.
    let finding = verify(&forged, &checkpoint, None).expect_err("another log");
    assert_eq!(finding, Finding::Root { root: checkpoint.root, found: reference::root(&changed) });
}

#[test]
fn of_two_changes_the_entry_is_named_however_the_tiles_are() {
    let log = reference::log(&reference::entries(SIZE));
    let flip = |files: &mut Files, path: &str, byte: usize| files.get_mut(&at(path)).expect("a file")[byte] ^= 1;
    let found = |paths: &[(&str, usize)]| {
        let (mut files, checkpoint) = log.clone();
        for (path, byte) in paths {
            flip(&mut files, path, *byte);
        }
        verify(&files, &checkpoint, None).expect_err("it is damaged")
    };
    // Byte 2 is in the first entry of a bundle.
    let first = entry(1792, "tile/entries/007", EntryFault::Changed);
    assert_eq!(found(&[("tile/entries/007", 2), ("tile/2/000.p/1", 0)]), first);
    assert_eq!(found(&[("tile/entries/007", 2), ("tile/0/257.p/208", 0)]), first);
    assert_eq!(found(&[("tile/entries/007", 2), ("tile/1/000", 8191)]), first);
    let both = Finding::Replaced { first: 1792, last: 2047 };
    assert_eq!(found(&[("tile/entries/007", 2), ("tile/0/007", 8191)]), both);
    let tile = Finding::Tile { path: at("tile/0/257.p/208"), first: 65_792 };
    assert_eq!(
        found(&[("tile/1/001.p/1", 0), ("tile/0/257.p/208", 0)]),
        Finding::Tile { path: at("tile/1/001.p/1"), first: 65_536 }
    );
    assert_eq!(found(&[("tile/0/257.p/208", 0)]), tile);
}

#[test]
fn a_rewritten_log_is_found_as_such_only_if_its_files_agree() {
    let entries = reference::entries(1000);
    let (mut files, checkpoint) = reference::log(&entries);
    let kept = state(&entries[..600]);
    files.get_mut(&at("tile/entries/001")).expect("a file")[2] ^= 1;
    let first = entry(256, "tile/entries/001", EntryFault::Changed);
    assert_eq!(verify(&files, &checkpoint, Some(&kept)), Err(first.clone()));
    files.get_mut(&at("tile/1/000.p/3")).expect("a file")[64] ^= 1;
    assert_eq!(verify(&files, &checkpoint, Some(&kept)), Err(first));
}

#[test]
fn a_rollback_a_fork_and_a_rewritten_log_are_found_against_a_kept_checkpoint() {
    let entries = reference::entries(1000);
    let (files, checkpoint) = reference::log(&entries);
    let (old_files, old) = reference::log(&entries[..600]);
    assert_eq!(verify(&old_files, &old, Some(&checkpoint)), Err(Finding::RolledBack { kept: 1000, size: 600 }));
    let mut other = entries.clone();
    other[599] = b"another".to_vec();
    let (other_files, forked) = reference::log(&other);
    assert_eq!(verify(&other_files, &forked, None), Ok(()), "it is a good log by itself");
    assert_eq!(verify(&other_files, &forked, Some(&checkpoint)), Err(Finding::Forked { size: 1000 }));
    assert_eq!(verify(&other_files, &forked, Some(&old)), Err(Finding::Rewritten { kept: 600 }));
    let before = state(&entries[..599]);
    assert_eq!(verify(&other_files, &forked, Some(&before)), Ok(()), "what was kept is as it was");
    let elsewhere = Checkpoint { origin: "elsewhere".into(), ..old };
    let other_log = Finding::OtherLog { kept: "elsewhere".into(), origin: "example.com/log".into() };
    assert_eq!(verify(&files, &checkpoint, Some(&elsewhere)), Err(other_log));
    let nothing = Checkpoint { size: 0, ..checkpoint.clone() };
    assert_eq!(verify(&files, &checkpoint, Some(&nothing)), Err(Finding::Rewritten { kept: 0 }));
}

#[test]
fn an_older_checkpoint_is_verified_also_once_partial_files_are_removed() {
    let entries = reference::entries(70_000);
    let sizes = [1, 255, 256, 700, 65_535, 65_700, 70_000];
    let (mut edge, mut files) = (RightEdge::empty(), Files::new());
    for size in sizes {
        let appended = edge.append(&entries[edge.size() as usize..size]).expect("short entries");
        (edge, files) = (appended.edge, files.into_iter().chain(appended.files).collect());
    }
    let all = files.clone();
    files.retain(|path, _| !path.is_partial() || !all.contains_key(&path.full()));
    assert!(files.len() < all.len() - 5);
    for size in sizes {
        assert_eq!(verify(&files, &state(&entries[..size]), None), Ok(()), "{size}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_finding() {
    let (files, checkpoint) = reference::log(&reference::entries(600));
    let reader = |path| if path == at("tile/0/001") { Err("no right to read") } else { Ok(files.get(&path).cloned()) };
    let error = verify_log(&checkpoint, None, reader, |_, _| ()).expect_err("it cannot be read");
    assert_eq!(error, VerifyError::Read { path: at("tile/0/001"), source: "no right to read" });
}

#[test]
fn many_bundles_in_one_step_are_the_same() {
    let entries = reference::entries(SIZE);
    let (files, checkpoint) = reference::log(&entries);
    for bundles in [1, 7, 100_000] {
        let mut check = LogCheck::new(&checkpoint, None).expect("no other checkpoint");
        let mut seen = 0;
        loop {
            let paths = check.needs(bundles);
            if paths.is_empty() {
                break;
            }
            let step = paths.into_iter().map(|path| (path, files[&path].clone())).collect();
            check.take(&step, |_, _| seen += 1).expect("a good log");
        }
        assert_eq!((check.finish(), seen), (Ok(()), SIZE));
    }
    let unread = LogCheck::new(&checkpoint, None).expect("no other checkpoint");
    assert!(unread.finish().is_err(), "nothing was read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn one_changed_byte_in_any_file_is_found_where_it_is(
        size in 1_usize..2000, which: prop::sample::Index, byte: prop::sample::Index, bit in 0_u8..8,
    ) {
        let entries = reference::entries(size);
        let (mut files, checkpoint) = reference::log(&entries);
        let path = *which.get(&files.keys().copied().collect::<Vec<_>>());
        let bytes = files.get_mut(&path).expect("a file");
        let position = byte.index(bytes.len());
        bytes[position] ^= 1 << bit;
        let finding = verify(&files, &checkpoint, None).expect_err("a byte was changed");
        match path {
            LogPath::Entries { index, .. } => {
                // The entry, with its length, that has the byte.
                let mut end = 0;
                let ends = entries[index as usize * 256..].iter().map(|entry| { end += 2 + entry.len(); end });
                let first = index * 256 + ends.take_while(|end| *end <= position).count() as u64;
                prop_assert!(matches!(finding, Finding::Entry { index, .. } if index == first), "{}: {}", first, finding);
            }
            LogPath::Tile { level, index, .. } => {
                let first = (index * 256 + position as u64 / 32) << (8 * level);
                prop_assert_eq!(finding, Finding::Tile { path, first });
            }
            LogPath::Checkpoint => prop_assert!(false, "it is not among the files"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn a_log_that_grew_in_any_steps_begins_with_each(sizes in prop::collection::vec(1_usize..600, 2..5)) {
        let entries = reference::entries(sizes.iter().sum());
        let (mut edge, mut files, mut states) = (RightEdge::empty(), Files::new(), Vec::new());
        for size in sizes {
            let start = edge.size() as usize;
            let appended = edge.append(&entries[start..start + size]).expect("short entries");
            files.extend(appended.files);
            edge = appended.edge;
            states.push(Checkpoint { origin: "example.com/log".into(), size: appended.size, root: appended.root });
        }
        let newest = states.last().expect("some");
        for state in &states {
            prop_assert_eq!(verify(&files, newest, Some(state)), Ok(()));
            prop_assert_eq!(verify(&files, state, None), Ok(()));
        }
    }
}
