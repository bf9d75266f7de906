//! What is wrong with a log.

use crate::bundle::BundleError;
use crate::checkpoint::Checkpoint;
use crate::files::FileError;
use crate::hash::TreeHash;
use crate::path::LogPath;

/// The first thing found wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The log is smaller than it was.
    #[error("the log was rolled back: it has {size} entries, and had {kept}")]
    RolledBack {
        /// The size of the kept checkpoint.
        kept: u64,
        /// The size of the log.
        size: u64,
    },
    /// Two roots of one size: whoever has the key signed two different logs.
    #[error("the log was forked: two checkpoints of {size} entries have different roots")]
    Forked {
        /// The size of both.
        size: u64,
    },
    /// The log does not begin with what it was.
    #[error("the log was rewritten: its first {kept} entries are not those of the kept checkpoint")]
    Rewritten {
        /// The size of the kept checkpoint.
        kept: u64,
    },
    /// The kept checkpoint is of another log.
    #[error("the log is `{origin}`, and the kept checkpoint is of `{kept}`")]
    OtherLog {
        /// The log of the kept checkpoint.
        kept: String,
        /// The log.
        origin: String,
    },
    /// A file is absent, or a tile has a wrong length.
    #[error(transparent)]
    File(FileError),
    /// An entry is not the one whose hash is in the tree.
    #[error("entry {index}, in `{path}`, is not what the log has signed: {fault}")]
    Entry {
        /// The number of the first entry that is wrong.
        index: u64,
        /// The bundle.
        path: LogPath,
        /// What happened to it.
        fault: EntryFault,
    },
    /// A tile has another hash than the entries below it, which are right.
    #[error("`{path}` was changed: its hash for entry {first} is wrong, and the entry is right")]
    Tile {
        /// The tile.
        path: LogPath,
        /// The first entry below the wrong hash.
        first: u64,
    },
    /// Entries and tiles agree with each other, and not with what is above them.
    #[error("entries {first} to {last} were replaced together with their tiles")]
    Replaced {
        /// The first entry that may be wrong.
        first: u64,
        /// The last.
        last: u64,
    },
    /// All files agree with each other, and not with the checkpoint.
    #[error("the files of the log are not those of its checkpoint: they give the root `{found}`, not `{root}`")]
    Root {
        /// The root of the checkpoint.
        root: TreeHash,
        /// The root that the files give.
        found: TreeHash,
    },
}

/// What happened to an entry, as far as its bundle shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// It has other bytes.
    #[error("it was changed")]
    Changed,
    /// It is not there, and those that follow are.
    #[error("it was removed")]
    Removed,
    /// It is at the place of another, and this one at its place.
    #[error("it was swapped with entry {with}")]
    Swapped {
        /// The number of the other entry.
        with: u64,
    },
    /// Another stands before it.
    #[error("another entry was put before it")]
    Inserted,
    /// The bundle cannot be read from there.
    #[error(transparent)]
    Bundle(BundleError),
}

impl Finding {
    /// The number of the first entry that is wrong, or whose file is; `None` if it is not known.
    pub fn first_entry(&self) -> Option<u64> {
        match self {
            Self::File(FileError::Absent { path } | FileError::Length { path, .. }) => Some(path.first_entry()),
            Self::Entry { index, .. } => Some(*index),
            Self::Tile { first, .. } | Self::Replaced { first, .. } => Some(*first),
            Self::RolledBack { size, .. } => Some(*size),
            Self::Forked { .. } | Self::Rewritten { .. } | Self::OtherLog { .. } | Self::Root { .. } => None,
        }
    }
}

impl Checkpoint {
    /// Checks what two checkpoints alone can show: that this one may be later than the kept one.
    ///
    /// Whether the log begins with what was kept, its files show ([`crate::LogCheck`]), or a proof ([`crate::ConsistencyProof`]).
    pub fn check_after(&self, kept: &Self) -> Result<(), Finding> {
        if kept.origin != self.origin {
            return Err(Finding::OtherLog { kept: kept.origin.clone(), origin: self.origin.clone() });
        }
        if kept.size > self.size {
            return Err(Finding::RolledBack { kept: kept.size, size: self.size });
        }
        if kept.size == self.size && kept.root != self.root {
            return Err(Finding::Forked { size: kept.size });
        }
        if kept.size == 0 && kept.root != TreeHash::of_empty_tree() {
            return Err(Finding::Rewritten { kept: 0 });
        }
        Ok(())
    }
}

/// What is wrong with the entries of a bundle, whose hashes should be `right`: from which on, and how. `None` if nothing is.
pub(crate) fn entry_fault(
    first: u64,
    found: &[TreeHash],
    right: &[TreeHash],
    bundle: Option<BundleError>,
) -> Option<(usize, EntryFault)> {
    let same = found.iter().zip(right).take_while(|(found, right)| found == right).count();
    let unreadable = bundle.map(|error| (same, EntryFault::Bundle(error)));
    if same == right.len() {
        return unreadable;
    }
    let (rest, wanted) = (&found[same..], &right[same..]);
    let fault = match (rest, bundle) {
        (_, Some(BundleError::TooFew { .. })) if rest == &wanted[1..] => EntryFault::Removed,
        ([], _) => return unreadable,
        ([_, rest @ ..], Some(BundleError::TrailingBytes { .. })) if *rest == wanted[..rest.len()] => {
            EntryFault::Inserted
        }
        ([other, ..], _) => {
            let place = wanted.iter().position(|hash| hash == other);
            let place = place.filter(|place| rest.get(*place) == wanted.first());
            place.map_or(EntryFault::Changed, |place| EntryFault::Swapped { with: first + (same + place) as u64 })
        }
    };
    Some((same, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::at;

    #[test]
    fn a_finding_says_what_is_wrong_and_where() {
        let entry = |fault| Finding::Entry { index: 1792, path: at("tile/entries/007"), fault }.to_string();
        let begin = "entry 1792, in `tile/entries/007`, is not what the log has signed: ";
        assert_eq!(entry(EntryFault::Changed), format!("{begin}it was changed"));
        assert_eq!(entry(EntryFault::Swapped { with: 1800 }), format!("{begin}it was swapped with entry 1800"));
        let few = BundleError::TooFew { has: 3, wanted: 256 };
        assert_eq!(entry(EntryFault::Bundle(few)), format!("{begin}the bundle has 3 entries, not 256"));
        let absent = Finding::File(FileError::Absent { path: at("tile/1/000.p/3") });
        assert_eq!(absent.to_string(), "`tile/1/000.p/3` is absent");
        let tile = Finding::Tile { path: at("tile/0/007"), first: 1793 };
        assert_eq!(
            tile.to_string(),
            "`tile/0/007` was changed: its hash for entry 1793 is wrong, and the entry is right"
        );
        let rolled_back = Finding::RolledBack { kept: 9, size: 7 };
        assert_eq!(rolled_back.to_string(), "the log was rolled back: it has 7 entries, and had 9");
        assert_eq!((rolled_back.first_entry(), Finding::Forked { size: 7 }.first_entry()), (Some(7), None));
    }

    #[test]
    fn entries_of_a_bundle_that_is_right_have_no_fault() {
        let hashes: Vec<TreeHash> = (0..5_u8).map(|number| TreeHash::of_entry(&[number])).collect();
        assert_eq!(entry_fault(0, &hashes, &hashes, None), None);
        let few = BundleError::TooFew { has: 0, wanted: 5 };
        assert_eq!(entry_fault(0, &[], &hashes, Some(few)), Some((0, EntryFault::Bundle(few))));
    }
}
