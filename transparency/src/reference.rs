//! The tree of RFC 6962 as its text defines it, for comparison; and logs for tests.

use crate::checkpoint::Checkpoint;
use crate::edge::RightEdge;
use crate::files::Files;
use crate::hash::TreeHash;
use crate::path::LogPath;

/// The root over entries: section 2.1, word for word.
pub(crate) fn root(entries: &[Vec<u8>]) -> TreeHash {
    match entries {
        [] => TreeHash::of_empty_tree(),
        [entry] => TreeHash::of_entry(entry),
        _ => {
            let middle = entries.len().next_power_of_two() / 2;
            TreeHash::of_node(&root(&entries[..middle]), &root(&entries[middle..]))
        }
    }
}

/// The inclusion proof: section 2.1.1, word for word.
pub(crate) fn path(index: usize, entries: &[Vec<u8>]) -> Vec<TreeHash> {
    if entries.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
    let (mut below, other) = if index < left.len() {
        (path(index, left), root(right))
    } else {
        (path(index - left.len(), right), root(left))
    };
    below.push(other);
    below
}

/// The consistency proof: section 2.1.2, word for word.
pub(crate) fn subproof(old: usize, entries: &[Vec<u8>], is_known: bool) -> Vec<TreeHash> {
    if old == entries.len() {
        return if is_known { Vec::new() } else { vec![root(entries)] };
    }
    let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
    let (mut below, other) = if old <= left.len() {
        (subproof(old, left, is_known), root(right))
    } else {
        (subproof(old - left.len(), right, false), root(left))
    };
    below.push(other);
    below
}

/// Entries that differ from each other.
pub(crate) fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("entry {number}").into_bytes()).collect()
}

/// A log of these entries, written at once, and its checkpoint.
pub(crate) fn log(entries: &[Vec<u8>]) -> (Files, Checkpoint) {
    let appended = RightEdge::empty().append(entries).expect("short entries");
    let checkpoint = Checkpoint { origin: "example.com/log".into(), size: appended.size, root: appended.root };
    (appended.files.into_iter().collect(), checkpoint)
}

/// The path of a text.
pub(crate) fn at(path: &str) -> LogPath {
    path.parse().expect("a path")
}
