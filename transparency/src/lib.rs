//! The form of a transparency log: files that prove what was entered, in which order, and that nothing was changed since.
//!
//! Promise: a log written by this crate is one of C2SP (`tlog-tiles`, `tlog-checkpoint`, `signed-note`, `tlog-proof`), which
//! other programs verify. What was changed in its files is found, and the first wrong entry is named where it can be known.
//!
//! Reading order: [`hash`] and [`path`] (the tree and its files), [`bundle`] (entries in a file), [`edge`] (appending),
//! [`key`], [`note`] and [`checkpoint`] (what is signed), [`files`] (how files come here), [`proof`] and [`entry_proof`]
//! (one entry, or two sizes), [`verification`] and [`finding`] (the whole log).
//!
//! **Invariant:** nothing here does IO, awaits, or reads a clock or chance. The same entries give the same bytes.
//! No message and no `Debug` shows a secret key.

pub mod bundle;
pub mod checkpoint;
pub mod edge;
pub mod entry_proof;
pub mod files;
pub mod finding;
mod frontier;
pub mod hash;
pub mod key;
pub mod note;
pub mod path;
pub mod proof;
#[cfg(test)]
mod reference;
mod tiles;
pub mod verification;

pub use bundle::{ENTRY_BYTES_MAX, EntryTooLong};
pub use checkpoint::{
    Checkpoint, CheckpointOpenError, LogVerifier, OpenedCheckpoint, SIZE_MAX, SignError, VerifierError,
};
pub use edge::{Appended, EdgeError, RightEdge};
pub use entry_proof::{EntryProof, EntryProofError, EntryProofRefused};
pub use files::{FileError, Files, LogReader};
pub use finding::{EntryFault, Finding};
pub use hash::TreeHash;
pub use key::{KeyError, LogSigner, PublicKey};
pub use note::{NoteError, NoteSignature, SignedNote};
pub use path::{LogPath, PathError, Width};
pub use proof::{ConsistencyProof, InclusionProof, ProofError};
pub use tiles::TreeError;
pub use verification::{LogCheck, VerifyError, verify_log};
