//! Checkpoints: how large a log is, and its root, signed by its key.
//!
//! Source: c2sp.org/tlog-checkpoint.

use std::fmt;
use std::str::FromStr;

use crate::hash::TreeHash;
use crate::key::{KeyError, LogSigner, PublicKey};
use crate::note::{NoteError, SignedNote};

/// The entries that a log may have: what Go's signed integers can count.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// The state of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its keys.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree of these entries.
    pub root: TreeHash,
}

/// A text is not that of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is an origin, a number of entries and a root, a line each; {0}")]
pub struct CheckpointError(pub &'static str);

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads the text of a checkpoint. Lines that follow the first three are left out.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError("the last line has no end"))?;
        let lines: Vec<&str> = lines.split('\n').collect();
        let [origin, size, root, rest @ ..] = &lines[..] else {
            return Err(CheckpointError("there are fewer lines"));
        };
        if origin.is_empty() || rest.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError("a line is empty"));
        }
        let is_decimal = size.bytes().all(|byte| byte.is_ascii_digit()) && (*size == "0" || !size.starts_with('0'));
        let size = size
            .parse()
            .ok()
            .filter(|size| is_decimal && *size <= SIZE_MAX)
            .ok_or(CheckpointError("the second is not a number"))?;
        let root = root.parse().map_err(|_| CheckpointError("the third is not a hash"))?;
        Ok(Self { origin: (*origin).to_owned(), size, root })
    }
}

/// Why a checkpoint is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No key is given.
    #[error("there is no key to sign the checkpoint of `{origin}` with")]
    NoKey {
        /// The log.
        origin: String,
    },
    /// A key has the name of another log.
    #[error("the key of `{key}` cannot sign a checkpoint of `{origin}`")]
    OtherOrigin {
        /// The log.
        origin: String,
        /// The name of the key.
        key: String,
    },
    /// A key is given twice.
    #[error("a key of `{origin}` is given twice")]
    SameKey {
        /// The log.
        origin: String,
    },
}

impl Checkpoint {
    /// Signs it with all keys: one, or the old and the new one while keys are changed.
    ///
    /// The log must never sign two states of which the larger does not begin with the smaller. The caller sees to this.
    pub fn sign(&self, signers: &[&LogSigner]) -> Result<SignedNote, SignError> {
        let origin = || self.origin.clone();
        if signers.is_empty() {
            return Err(SignError::NoKey { origin: origin() });
        }
        for (position, signer) in signers.iter().enumerate() {
            let key = signer.public();
            if key.name() != self.origin {
                return Err(SignError::OtherOrigin { origin: origin(), key: key.name().to_owned() });
            }
            if signers[..position].iter().any(|other| other.public() == key) {
                return Err(SignError::SameKey { origin: origin() });
            }
        }
        Ok(SignedNote::sign(self.to_string(), signers))
    }
}

/// Checks what is signed by a log: knows the public keys of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogVerifier {
    origin: String,
    keys: Vec<PublicKey>,
}

/// Why keys do not make a verifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// There is none.
    #[error("there is no public key of the log")]
    NoKey,
    /// One is no key.
    #[error("public key {number} of the log is not valid")]
    Key {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// They have different names.
    #[error("the public keys are of two logs, `{0}` and `{1}`")]
    TwoOrigins(String, String),
}

/// Why a note is not believed to be a checkpoint of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointOpenError {
    /// It is no note.
    #[error("the checkpoint is not a signed note")]
    Note(#[from] NoteError),
    /// No signature is of a known key.
    #[error("no known key of `{origin}` has signed the checkpoint")]
    NotSigned {
        /// The log whose keys are known.
        origin: String,
    },
    /// A signature names a known key and is not of this text.
    #[error(
        "the signature of the key {id:08x} of `{origin}` is not of this text: the checkpoint was changed, or signed by a false key"
    )]
    Signature {
        /// The log whose keys are known.
        origin: String,
        /// The id of the key.
        id: u32,
    },
    /// What is signed is no checkpoint.
    #[error("what is signed is no checkpoint")]
    Text(#[from] CheckpointError),
    /// It is the checkpoint of another log.
    #[error("the checkpoint is of `{found}`, not of `{origin}`")]
    OtherOrigin {
        /// The log whose keys are known.
        origin: String,
        /// The log that the checkpoint names.
        found: String,
    },
}

/// A checkpoint whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCheckpoint {
    /// The state.
    pub checkpoint: Checkpoint,
    /// The note with all its signatures, also those of witnesses, which nobody has checked.
    pub note: SignedNote,
    /// The ids of the known keys that have signed.
    pub signed_by: Vec<u32>,
}

impl LogVerifier {
    /// Knows these keys, all of one log.
    pub fn new(keys: Vec<PublicKey>) -> Result<Self, VerifierError> {
        let origin = keys.first().ok_or(VerifierError::NoKey)?.name().to_owned();
        match keys.iter().find(|key| key.name() != origin) {
            Some(other) => Err(VerifierError::TwoOrigins(origin, other.name().to_owned())),
            None => Ok(Self { origin, keys }),
        }
    }

    /// Reads public keys, a line each.
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate();
        let read =
            |(at, line): (usize, &str)| line.parse().map_err(|source| VerifierError::Key { number: at + 1, source });
        Self::new(lines.map(read).collect::<Result<_, _>>()?)
    }

    /// The log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Reads a signed checkpoint, and checks that the log has signed it.
    ///
    /// One known key is enough, but no signature of a known key may be false. Signatures of unknown keys say nothing.
    pub fn open(&self, note: &[u8]) -> Result<OpenedCheckpoint, CheckpointOpenError> {
        let note = SignedNote::parse(note)?;
        let mut signed_by = Vec::new();
        for signature in note.signatures() {
            let Some(key) = self.keys.iter().find(|key| signature.names(key)) else { continue };
            if !key.has_signed(note.text(), signature.bytes()) {
                return Err(CheckpointOpenError::Signature { origin: self.origin.clone(), id: key.id() });
            }
            if !signed_by.contains(&key.id()) {
                signed_by.push(key.id());
            }
        }
        if signed_by.is_empty() {
            return Err(CheckpointOpenError::NotSigned { origin: self.origin.clone() });
        }
        let checkpoint: Checkpoint = note.text().parse()?;
        if checkpoint.origin != self.origin {
            return Err(CheckpointOpenError::OtherOrigin { origin: self.origin.clone(), found: checkpoint.origin });
        }
        Ok(OpenedCheckpoint { checkpoint, note, signed_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> LogSigner {
        LogSigner::generate(name, [seed; 32]).expect("a name")
    }

    fn verifier(signers: &[&LogSigner]) -> LogVerifier {
        LogVerifier::new(signers.iter().map(|signer| signer.public().clone()).collect()).expect("keys")
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "example.com/log".into(), size: 70_000, root: TreeHash::of_entry(b"root") }
    }

    #[test]
    fn a_signed_checkpoint_is_opened_by_its_public_key() {
        let signer = signer("example.com/log", 1);
        let note = checkpoint().sign(&[&signer]).expect("signed").to_string();
        let verifier = LogVerifier::parse(&format!("\n{}\n", signer.public())).expect("a key");
        let opened = verifier.open(note.as_bytes()).expect("opened");
        assert_eq!((opened.checkpoint, opened.signed_by), (checkpoint(), vec![signer.public().id()]));
        assert_eq!(checkpoint().sign(&[&signer]).expect("signed").to_string(), note, "signing is deterministic");
    }

    #[test]
    fn the_checkpoint_of_the_specification_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let read: Checkpoint = text.parse().expect("a checkpoint");
        assert_eq!((read.origin.as_str(), read.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(read.to_string(), text);
        assert_eq!(format!("{text}extension\n").parse(), Ok(read));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = TreeHash::of_entry(b"root").to_string();
        let sizes = ["", "-1", "+1", "01", "1 ", "x", "9223372036854775808"];
        let mut bad: Vec<String> = sizes.iter().map(|size| format!("log\n{size}\n{root}\n")).collect();
        bad.extend([format!("log\n1\n{root}"), format!("\n1\n{root}\n"), format!("log\n1\n{root}\n\n")]);
        bad.extend([String::new(), "log\n1\n".into(), "log\n1\nroot\n".into(), format!("log\n1\n{}\n", &root[1..])]);
        for text in bad {
            assert!(text.parse::<Checkpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_changed_text_is_not_believed() {
        let signer = signer("example.com/log", 1);
        let note = checkpoint().sign(&[&signer]).expect("signed").to_string();
        let changed = note.replace("70000", "70001");
        let error = verifier(&[&signer]).open(changed.as_bytes()).expect_err("it was changed");
        assert_eq!(
            error,
            CheckpointOpenError::Signature { origin: "example.com/log".into(), id: signer.public().id() }
        );
    }

    #[test]
    fn any_changed_byte_of_a_note_is_found() {
        let signer = signer("example.com/log", 1);
        let note = checkpoint().sign(&[&signer]).expect("signed").to_string().into_bytes();
        for position in 0..note.len() {
            let mut changed = note.clone();
            changed[position] ^= 1;
            assert!(verifier(&[&signer]).open(&changed).is_err(), "byte {position}");
        }
    }

    #[test]
    fn the_signature_of_an_unknown_key_is_not_enough() {
        let (known, other) = (signer("example.com/log", 1), signer("example.com/log", 2));
        let note = checkpoint().sign(&[&other]).expect("signed").to_string();
        let error = verifier(&[&known]).open(note.as_bytes()).expect_err("another key");
        assert_eq!(error, CheckpointOpenError::NotSigned { origin: "example.com/log".into() });
        let unsigned = format!("{}\n", checkpoint());
        let error = verifier(&[&known]).open(unsigned.as_bytes()).expect_err("no signature");
        assert_eq!(error, CheckpointOpenError::Note(NoteError::NoSignatures));
    }

    #[test]
    fn a_key_of_another_log_signs_nothing_for_this_one() {
        let other = signer("example.com/other", 1);
        assert_eq!(
            checkpoint().sign(&[&other]),
            Err(SignError::OtherOrigin { origin: "example.com/log".into(), key: "example.com/other".into() })
        );
        let forced = SignedNote::sign(checkpoint().to_string(), &[&other]).to_string();
        let error = verifier(&[&other]).open(forced.as_bytes()).expect_err("another log");
        assert_eq!(
            error,
            CheckpointOpenError::OtherOrigin { origin: "example.com/other".into(), found: "example.com/log".into() }
        );
    }

    #[test]
    fn while_keys_are_changed_the_old_or_the_new_one_is_enough() {
        let (old, new) = (signer("example.com/log", 1), signer("example.com/log", 2));
        let note = checkpoint().sign(&[&old, &new]).expect("signed").to_string();
        for known in [&[&old][..], &[&new], &[&old, &new]] {
            let opened = verifier(known).open(note.as_bytes()).expect("opened");
            assert_eq!(opened.signed_by.len(), known.len());
        }
        assert_eq!(checkpoint().sign(&[]), Err(SignError::NoKey { origin: "example.com/log".into() }));
        let twice = checkpoint().sign(&[&old, &old]);
        assert_eq!(twice, Err(SignError::SameKey { origin: "example.com/log".into() }));
    }

    #[test]
    fn signatures_of_witnesses_are_kept_and_not_needed() {
        let (log, witness) = (signer("example.com/log", 1), signer("example.com/witness", 3));
        let mut note = checkpoint().sign(&[&log]).expect("signed");
        let theirs = SignedNote::sign(checkpoint().to_string(), &[&witness]).signatures().to_vec();
        note.add_signatures(theirs.clone());
        let line = theirs[0].to_string();
        note.add_signatures([line.parse().expect("a signature")]);
        for bad in [&format!("{line}\n"), &line[4..], ""] {
            assert!(bad.parse::<crate::note::NoteSignature>().is_err(), "{bad}");
        }
        let opened = verifier(&[&log]).open(note.to_string().as_bytes()).expect("opened");
        assert_eq!(opened.note.signatures()[1..], theirs);
        assert_eq!(opened.signed_by, [log.public().id()]);
    }

    #[test]
    fn keys_of_two_logs_make_no_verifier() {
        let keys = [signer("one", 1), signer("two", 1)].map(|signer| signer.public().clone());
        assert_eq!(LogVerifier::new(keys.into()), Err(VerifierError::TwoOrigins("one".into(), "two".into())));
        assert_eq!(LogVerifier::parse(" \n"), Err(VerifierError::NoKey));
        let error = LogVerifier::parse("nothing").expect_err("no key");
        assert_eq!(error, VerifierError::Key { number: 1, source: KeyError::NotPublic });
    }
}
