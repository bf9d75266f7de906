//! Proofs: that an entry is in a log, and that a log begins with what it was before.
//!
//! Source: RFC 6962, sections 2.1.1 and 2.1.2. Proofs are checked by the crate `ct-merkle`.

use std::convert::Infallible;

use ct_merkle::RootHash;
use sha2::Sha256;

use crate::checkpoint::SIZE_MAX;
use crate::files::LogReader;
use crate::hash::{HASH_BYTES, TreeHash};
use crate::path::LogPath;
use crate::tiles::{TileTree, TreeError, split};

/// That an entry has a place in a log of some size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The number of the entry, from 0.
    pub index: u64,
    /// How many entries the log has.
    pub size: u64,
    /// The hashes beside the way from the entry to the root, from below.
    pub hashes: Vec<TreeHash>,
}

/// That a log of some size begins with a smaller one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many entries the log had.
    pub old_size: u64,
    /// How many it has.
    pub new_size: u64,
    /// The hashes of the proof, as RFC 6962 orders them.
    pub hashes: Vec<TreeHash>,
}

/// A proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry would lie behind the end.
    #[error("there is no entry {index} in a log of {size} entries")]
    NoEntry {
        /// The number of the entry.
        index: u64,
        /// The size of the log.
        size: u64,
    },
    /// A log cannot be so large, or does not shrink.
    #[error("a log of {old_size} entries cannot grow to {new_size}")]
    Sizes {
        /// The smaller size.
        old_size: u64,
        /// The larger size.
        new_size: u64,
    },
    /// The number of hashes is wrong, or the root that they give.
    #[error("the proof does not show that this is entry {index} of the log of {size} entries with this root")]
    NotIncluded {
        /// The number of the entry.
        index: u64,
        /// The size of the log.
        size: u64,
    },
    /// The number of hashes is wrong, or a root that they give.
    #[error(
        "the proof does not show that the log of {new_size} entries begins with the {old_size} entries of the other root"
    )]
    NotConsistent {
        /// The smaller size.
        old_size: u64,
        /// The larger size.
        new_size: u64,
    },
}

impl InclusionProof {
    /// Makes the proof from the tiles of a log of `size` entries. Check it: a damaged tile makes a false proof.
    pub fn make<R: LogReader>(index: u64, size: u64, reader: R) -> Result<Self, TreeError<R::Error>> {
        if index >= size || size > SIZE_MAX {
            return Err(TreeError::NoEntry { index, size });
        }
        let mut tree = TileTree::new(size, reader);
        let (mut start, mut end, mut hashes) = (0, size, Vec::new());
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                hashes.push(tree.root(middle, end)?);
                end = middle;
            } else {
                hashes.push(tree.root(start, middle)?);
                start = middle;
            }
        }
        hashes.reverse();
        Ok(Self { index, size, hashes })
    }

    /// The tiles that it is made from.
    pub fn needs(index: u64, size: u64) -> Vec<LogPath> {
        recorded(|reader| Self::make(index, size, reader).is_ok())
    }

    /// Checks that the log of this root has this entry here.
    pub fn check(&self, entry: &[u8], root: &TreeHash) -> Result<(), ProofError> {
        let Self { index, size, ref hashes } = *self;
        if index >= size || size > SIZE_MAX {
            return Err(ProofError::NoEntry { index, size });
        }
        let proof = ct_merkle::InclusionProof::<Sha256>::from_bytes(TreeHash::concat(hashes));
        let checked = tree(root, size).verify_inclusion(&entry, index, &proof);
        checked.map_err(|_| ProofError::NotIncluded { index, size })
    }
}

impl ConsistencyProof {
    /// Makes the proof from the tiles of a log of `new_size` entries. Check it: a damaged tile makes a false proof.
    ///
    /// Nothing needs to be proven if the log was empty or has not grown: there are no hashes then.
    pub fn make<R: LogReader>(old_size: u64, new_size: u64, reader: R) -> Result<Self, TreeError<R::Error>> {
        if old_size > new_size || new_size > SIZE_MAX {
            return Err(TreeError::NoEntry { index: old_size.saturating_sub(1), size: new_size });
        }
        let mut tree = TileTree::new(new_size, reader);
        let (mut start, mut end, mut hashes) = (0, new_size, Vec::new());
        while old_size > 0 && old_size != end {
            let middle = start + split(end - start);
            if old_size <= middle {
                hashes.push(tree.root(middle, end)?);
                end = middle;
            } else {
                hashes.push(tree.root(start, middle)?);
                start = middle;
            }
        }
        if old_size > 0 && start > 0 {
            hashes.push(tree.root(start, end)?);
        }
        hashes.reverse();
        Ok(Self { old_size, new_size, hashes })
    }

    /// The tiles that it is made from.
    pub fn needs(old_size: u64, new_size: u64) -> Vec<LogPath> {
        recorded(|reader| Self::make(old_size, new_size, reader).is_ok())
    }

    /// Checks that the log of the new root begins with all that the log of the old root had.
    pub fn check(&self, old_root: &TreeHash, new_root: &TreeHash) -> Result<(), ProofError> {
        let Self { old_size, new_size, ref hashes } = *self;
        if old_size > new_size || new_size > SIZE_MAX {
            return Err(ProofError::Sizes { old_size, new_size });
        }
        let otherwise = ProofError::NotConsistent { old_size, new_size };
        if old_size == 0 || old_size == new_size {
            let expected = if old_size == new_size { *new_root } else { TreeHash::of_empty_tree() };
            return if hashes.is_empty() && *old_root == expected { Ok(()) } else { Err(otherwise) };
        }
        let proof = ct_merkle::ConsistencyProof::<Sha256>::try_from_bytes(TreeHash::concat(hashes));
        let proof = proof.map_err(|_| otherwise)?;
        tree(new_root, new_size).verify_consistency(&tree(old_root, old_size), &proof).map_err(|_| otherwise)
    }
}

fn tree(root: &TreeHash, size: u64) -> RootHash<Sha256> {
    RootHash::new((*root.as_bytes()).into(), size)
}

/// Which files are read: it does not depend on what is in them.
fn recorded(make: impl FnOnce(&mut dyn FnMut(LogPath) -> Result<Option<Vec<u8>>, Infallible>) -> bool) -> Vec<LogPath> {
    let mut paths = Vec::new();
    let mut read = |path| {
        paths.push(path);
        let LogPath::Tile { width, .. } = path else { return Ok(None) };
        Ok(Some(vec![0; usize::from(width.get()) * HASH_BYTES]))
    };
    let is_made = make(&mut read);
    if is_made { paths } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileError, Files};
    use crate::reference::{self, at};
    use proptest::prelude::*;

    #[test]
    fn all_proofs_of_small_logs_are_those_of_rfc_6962() {
        for size in 1..=33 {
            let entries = reference::entries(size as usize);
            let (files, checkpoint) = reference::log(&entries);
            for index in 0..size {
                let proof = InclusionProof::make(index, size, &files).expect("all tiles");
                assert_eq!(proof.hashes, reference::path(index as usize, &entries));
                assert_eq!(proof.check(&entries[index as usize], &checkpoint.root), Ok(()));
            }
            for old in 0..=size {
                let proof = ConsistencyProof::make(old, size, &files).expect("all tiles");
                let expected = if old == 0 { vec![] } else { reference::subproof(old as usize, &entries, true) };
                assert_eq!(proof.hashes, expected);
                assert_eq!(proof.check(&reference::root(&entries[..old as usize]), &checkpoint.root), Ok(()));
            }
        }
    }

    #[test]
    fn there_is_no_proof_of_what_is_not_there() {
        let (files, checkpoint) = reference::log(&reference::entries(5));
        let none = InclusionProof::make(5, 5, &files);
        assert_eq!(none, Err(TreeError::NoEntry { index: 5, size: 5 }));
        assert!(ConsistencyProof::make(6, 5, &files).is_err());
        assert_eq!(InclusionProof::needs(5, 5), []);
        let beyond = InclusionProof { index: 5, size: 5, hashes: Vec::new() };
        assert_eq!(beyond.check(b"", &checkpoint.root), Err(ProofError::NoEntry { index: 5, size: 5 }));
        let huge = InclusionProof { index: u64::MAX - 1, size: u64::MAX, hashes: vec![checkpoint.root; 64] };
        assert!(huge.check(b"", &checkpoint.root).is_err());
        let shrunk = ConsistencyProof { old_size: 6, new_size: 5, hashes: Vec::new() };
        assert!(shrunk.check(&checkpoint.root, &checkpoint.root).is_err());
        let path = at("tile/0/000.p/5");
        let absent = InclusionProof::make(0, 5, &Files::new());
        assert_eq!(absent, Err(TreeError::File(FileError::Absent { path })));
    }

    #[test]
    fn a_tile_that_cannot_be_read_is_named() {
        let unreadable = |_: LogPath| Err::<Option<Vec<u8>>, _>("the disk is gone");
        let path = at("tile/0/000.p/5");
        let error = InclusionProof::make(0, 5, unreadable);
        assert_eq!(error, Err(TreeError::Read { path, source: "the disk is gone" }));
    }

    #[test]
    fn nothing_or_the_same_is_consistent_only_with_the_right_roots() {
        let (one, two) = (TreeHash::of_entry(b"1"), TreeHash::of_entry(b"2"));
        let same = ConsistencyProof { old_size: 7, new_size: 7, hashes: Vec::new() };
        assert_eq!(same.check(&one, &one), Ok(()));
        assert!(same.check(&one, &two).is_err());
        let begun = ConsistencyProof { old_size: 0, new_size: 7, hashes: Vec::new() };
        assert_eq!(begun.check(&TreeHash::of_empty_tree(), &one), Ok(()));
        assert!(begun.check(&two, &one).is_err());
        assert!(ConsistencyProof { hashes: vec![one], ..begun }.check(&TreeHash::of_empty_tree(), &one).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn proofs_hold_and_what_is_changed_does_not(
            size in 1_u64..3000, a: prop::sample::Index, b: prop::sample::Index, byte: prop::sample::Index,
        ) {
            let entries = reference::entries(size as usize);
            let (files, checkpoint) = reference::log(&entries);
            let (index, old) = (a.index(size as usize) as u64, 1 + b.index(size as usize) as u64);
            let included = InclusionProof::make(index, size, &files).expect("all tiles");
            prop_assert_eq!(&included.hashes, &reference::path(index as usize, &entries));
            prop_assert_eq!(included.check(&entries[index as usize], &checkpoint.root), Ok(()));
            prop_assert!(included.check(b"another entry", &checkpoint.root).is_err());
            let consistent = ConsistencyProof::make(old, size, &files).expect("all tiles");
            prop_assert_eq!(&consistent.hashes, &reference::subproof(old as usize, &entries, true));
            let old_root = reference::root(&entries[..old as usize]);
            prop_assert_eq!(consistent.check(&old_root, &checkpoint.root), Ok(()));
            prop_assert!(consistent.check(&TreeHash::of_entry(b"x"), &checkpoint.root).is_err());
            prop_assert!(consistent.check(&old_root, &TreeHash::of_entry(b"x")).is_err());
            for position in 0..included.hashes.len() {
                let mut changed = included.clone();
                let mut bytes = *changed.hashes[position].as_bytes();
                bytes[byte.index(32)] ^= 1;
                changed.hashes[position] = bytes.into();
                prop_assert!(changed.check(&entries[index as usize], &checkpoint.root).is_err());
                changed.hashes.remove(position);
                prop_assert!(changed.check(&entries[index as usize], &checkpoint.root).is_err());
            }
            for position in 0..consistent.hashes.len() {
                let mut changed = consistent.clone();
                let mut bytes = *changed.hashes[position].as_bytes();
                bytes[byte.index(32)] ^= 1;
                changed.hashes[position] = bytes.into();
                prop_assert!(changed.check(&old_root, &checkpoint.root).is_err());
                changed.hashes.remove(position);
                prop_assert!(changed.check(&old_root, &checkpoint.root).is_err());
            }
        }

        #[test]
        fn the_files_that_are_needed_are_enough(size in 1_u64..3000, a: prop::sample::Index, b: prop::sample::Index) {
            let (files, _) = reference::log(&reference::entries(size as usize));
            let (index, old) = (a.index(size as usize) as u64, b.index(size as usize) as u64);
            let only = |paths: Vec<LogPath>| -> Files { paths.into_iter().map(|path| (path, files[&path].clone())).collect() };
            let needed = only(InclusionProof::needs(index, size));
            prop_assert_eq!(InclusionProof::make(index, size, &needed), InclusionProof::make(index, size, &files));
            let needed = only(ConsistencyProof::needs(old, size));
            prop_assert_eq!(ConsistencyProof::make(old, size, &needed), ConsistencyProof::make(old, size, &files));
        }
    }
}
