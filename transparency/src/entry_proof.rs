//! A proof of one entry that needs nothing else: index, hashes and signed checkpoint in one text.
//!
//! Source: c2sp.org/tlog-proof.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{CheckpointOpenError, LogVerifier, OpenedCheckpoint};
use crate::hash::TreeHash;
use crate::note::{NoteError, SignedNote};
use crate::proof::{InclusionProof, ProofError};

/// The first line.
const FORMAT: &str = "c2sp.org/tlog-proof@v1";

/// The hashes that a proof may have: the height of the largest tree.
const HASHES_MAX: usize = 64;

/// The proof of an entry, for a file with the extension `tlog-proof`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryProof {
    /// The number of the entry, from 0.
    pub index: u64,
    /// The hashes of the inclusion proof.
    pub hashes: Vec<TreeHash>,
    /// Anything that whoever checks may need to find the entry. Nothing vouches for it.
    pub extra: Option<Vec<u8>>,
    /// The checkpoint whose tree the proof is of.
    pub checkpoint: SignedNote,
}

/// A text is not a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProofError {
    /// The first line is another.
    #[error("the first line is not `{FORMAT}`")]
    Format,
    /// The line of the extra data is none.
    #[error("the line `extra` is not base64")]
    Extra,
    /// No line says which entry.
    #[error("the line `index` is absent, or is not a number")]
    Index,
    /// A line among the hashes is none.
    #[error("hash {0} of the proof is not 32 bytes in base64")]
    TreeHash(usize),
    /// No tree is so high.
    #[error("the proof has more than {HASHES_MAX} hashes")]
    TooManyHashes,
    /// The checkpoint is absent, or none.
    #[error("the checkpoint of the proof is not a signed note")]
    Checkpoint(#[from] NoteError),
}

/// A proof does not prove the entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProofRefused {
    /// The checkpoint is not believed.
    #[error("the checkpoint of the proof is not believed")]
    Checkpoint(#[from] CheckpointOpenError),
    /// The entry is not in the tree.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

impl EntryProof {
    /// Puts together what belongs to a checkpoint.
    pub fn new(proof: InclusionProof, checkpoint: SignedNote) -> Self {
        Self { index: proof.index, hashes: proof.hashes, extra: None, checkpoint }
    }

    /// Checks that a log of these keys has signed a tree with this entry, and returns what it has signed.
    pub fn verify(&self, entry: &[u8], log: &LogVerifier) -> Result<OpenedCheckpoint, EntryProofRefused> {
        let opened = log.open(self.checkpoint.to_string().as_bytes())?;
        let checkpoint = &opened.checkpoint;
        let proof = InclusionProof { index: self.index, size: checkpoint.size, hashes: self.hashes.clone() };
        proof.check(entry, &checkpoint.root)?;
        Ok(opened)
    }
}

impl fmt::Display for EntryProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for EntryProof {
    type Err = EntryProofError;

    fn from_str(text: &str) -> Result<Self, EntryProofError> {
        let no_checkpoint = EntryProofError::Checkpoint(NoteError::NoSignatures);
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(no_checkpoint)?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(FORMAT) {
            return Err(EntryProofError::Format);
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| STANDARD.decode(&line["extra ".len()..]).map_err(|_| EntryProofError::Extra));
        let extra = extra.transpose()?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(EntryProofError::Index)?;
        let number = index.parse::<u64>().ok().filter(|number| number.to_string() == index);
        let index = number.ok_or(EntryProofError::Index)?;
        let read = |(at, line): (usize, &str)| line.parse().map_err(|_| EntryProofError::TreeHash(at));
        let hashes: Vec<TreeHash> = lines.take(HASHES_MAX + 1).enumerate().map(read).collect::<Result<_, _>>()?;
        if hashes.len() > HASHES_MAX {
            return Err(EntryProofError::TooManyHashes);
        }
        Ok(Self { index, hashes, extra, checkpoint: checkpoint.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::LogSigner;
    use crate::reference;

    fn proof(index: u64) -> (EntryProof, Vec<u8>, LogVerifier) {
        let entries = reference::entries(1000);
        let (files, checkpoint) = reference::log(&entries);
        let signer = LogSigner::generate("example.com/log", [1; 32]).expect("a name");
        let note = checkpoint.sign(&[&signer]).expect("signed");
        let included = InclusionProof::make(index, 1000, &files).expect("all tiles");
        let verifier = LogVerifier::new(vec![signer.public().clone()]).expect("a key");
        (EntryProof::new(included, note), entries[index as usize].clone(), verifier)
    }

    #[test]
    fn a_proof_holds_without_anything_else() {
        let (proof, entry, log) = proof(731);
        let text = proof.to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 731\n"), "{text}");
        let read: EntryProof = text.parse().expect("a proof");
        assert_eq!(read, proof);
        assert_eq!(read.verify(&entry, &log).map(|opened| opened.checkpoint.size), Ok(1000));
        let extra = EntryProof { extra: Some(b"where it was".to_vec()), ..proof };
        assert_eq!(extra.to_string().parse(), Ok(extra.clone()));
        assert!(extra.to_string().starts_with("c2sp.org/tlog-proof@v1\nextra d2hlcmUgaXQgd2Fz\nindex 731\n"));
    }

    #[test]
    fn a_log_of_one_entry_needs_no_hashes() {
        let (_, checkpoint) = reference::log(&reference::entries(1));
        let signer = LogSigner::generate("example.com/log", [1; 32]).expect("a name");
        let note = checkpoint.sign(&[&signer]).expect("signed");
        let proof = EntryProof { index: 0, hashes: Vec::new(), extra: None, checkpoint: note };
        let read: EntryProof = proof.to_string().parse().expect("a proof");
        let log = LogVerifier::new(vec![signer.public().clone()]).expect("a key");
        assert!(read.verify(b"entry 0", &log).is_ok());
        assert!(read.verify(b"entry 1", &log).is_err());
    }

    #[test]
    fn any_changed_byte_of_a_proof_is_found() {
        let (proof, entry, log) = proof(3);
        let text = proof.to_string().into_bytes();
        for position in 0..text.len() {
            let mut changed = text.clone();
            changed[position] ^= 1;
            let holds = String::from_utf8(changed)
                .is_ok_and(|text| text.parse::<EntryProof>().is_ok_and(|proof| proof.verify(&entry, &log).is_ok()));
            assert!(!holds, "byte {position}");
        }
    }

    #[test]
    fn another_entry_or_key_is_refused() {
        let (proof, entry, log) = proof(3);
        let not_included = ProofError::NotIncluded { index: 3, size: 1000 };
        assert_eq!(proof.verify(b"entry 4", &log), Err(not_included.into()));
        let moved = EntryProof { index: 4, ..proof.clone() };
        assert!(moved.verify(&entry, &log).is_err());
        let other = LogSigner::generate("example.com/log", [2; 32]).expect("a name");
        let other = LogVerifier::new(vec![other.public().clone()]).expect("a key");
        assert!(matches!(
            proof.verify(&entry, &other),
            Err(EntryProofRefused::Checkpoint(CheckpointOpenError::NotSigned { .. }))
        ));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let text = proof(3).0.to_string();
        let change = |from: &str, to: &str| text.replacen(from, to, 1).parse::<EntryProof>().expect_err("no proof");
        assert_eq!(change("@v1", "@v2"), EntryProofError::Format);
        assert_eq!(change("index 3", "index 03"), EntryProofError::Index);
        assert_eq!(change("index 3", "extra x\nindex 3"), EntryProofError::Extra);
        assert_eq!(change("index 3", "index 3\nAAAA"), EntryProofError::TreeHash(0));
        let hashes = format!("index 3\n{}", format!("{}\n", TreeHash::of_empty_tree()).repeat(64));
        assert_eq!(change("index 3\n", &hashes), EntryProofError::TooManyHashes);
        assert!(matches!(change("\n\n", "\n"), EntryProofError::TreeHash(_) | EntryProofError::Checkpoint(_)));
        assert_eq!("".parse::<EntryProof>(), Err(EntryProofError::Checkpoint(NoteError::NoSignatures)));
    }
}
