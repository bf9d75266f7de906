//! Signed notes: a text, an empty line, and signatures.
//!
//! Source: c2sp.org/signed-note.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{LogSigner, PublicKey, is_name};

/// The bytes that a note may have.
pub const NOTE_BYTES_MAX: usize = 1_000_000;

/// The signatures that a note may have.
pub const SIGNATURES_MAX: usize = 100;

/// What is wrong with the form of a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is too long.
    #[error("the note has {0} bytes; {NOTE_BYTES_MAX} at most are read")]
    TooLong(usize),
    /// It has too many signatures.
    #[error("the note has {0} signatures; {SIGNATURES_MAX} at most are read")]
    TooManySignatures(usize),
    /// It is not text.
    #[error("the note is not UTF-8, or has control characters")]
    NotText,
    /// No text and empty line before the signatures.
    #[error("the note has no signatures after an empty line")]
    NoSignatures,
    /// A line among the signatures is none.
    #[error("signature {0} of the note is not `— <name> <base64>`")]
    Signature(usize),
}

/// A signature of a note. What is not known is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The bytes, in the form of the key.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether its name and id are those of the key. Whether it is valid is another question.
    pub(crate) fn names(&self, key: &PublicKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes(), &self.bytes[..]].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    /// Reads a line, without its end: what a witness answers.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let is_text = !line.contains(|char: char| char < ' ');
        signature(line).filter(|_| is_text).ok_or(NoteError::Signature(0))
    }
}

/// A signed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Signs a text, which ends with a newline.
    pub(crate) fn sign(text: String, signers: &[&LogSigner]) -> Self {
        let signature = |signer: &&LogSigner| NoteSignature {
            name: signer.public().name().to_owned(),
            id: signer.public().id(),
            bytes: signer.sign(&text),
        };
        let signatures = signers.iter().map(signature).collect();
        Self { text, signatures }
    }

    /// Reads a note, from a file. Nobody has checked the signatures then.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let note = str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if note.contains(|char: char| char < ' ' && char != '\n') {
            return Err(NoteError::NotText);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        let lines: Vec<&str> = lines.split_inclusive('\n').collect();
        if lines.len() > SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures(lines.len()));
        }
        let read = |(number, line): (usize, &&str)| {
            let line = line.strip_suffix('\n');
            line.and_then(signature).ok_or(NoteError::Signature(number))
        };
        let signatures = lines.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text. Believe it only once a key that you know has signed it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signatures, also those of unknown keys.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds signatures of the same text, as of witnesses. What it has already is not added again.
    pub fn add_signatures(&mut self, signatures: impl IntoIterator<Item = NoteSignature>) {
        for signature in signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::parse(text.as_bytes())
    }
}

fn signature(line: &str) -> Option<NoteSignature> {
    let (name, bytes) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    let (id, bytes) = bytes.split_first_chunk()?;
    let read = NoteSignature { name: name.to_owned(), id: u32::from_be_bytes(*id), bytes: bytes.to_vec() };
    (is_name(name) && !bytes.is_empty()).then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From c2sp.org/signed-note.
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn the_note_of_the_specification_is_signed_by_its_key() {
        let (note, key): (SignedNote, PublicKey) = (NOTE.parse().expect("a note"), KEY.parse().expect("a key"));
        assert_eq!(note.text(), "This is an example message.\n");
        assert!(note.signatures()[0].names(&key));
        assert!(key.has_signed(note.text(), note.signatures()[0].bytes()));
        assert!(!key.has_signed("This is an example message\n", note.signatures()[0].bytes()));
        assert_eq!(note.to_string(), NOTE);
    }

    #[test]
    fn an_empty_line_may_be_in_the_text() {
        let note: SignedNote = format!("one\n\ntwo\n{}", &NOTE[28..]).parse().expect("a note");
        assert_eq!(note.text(), "one\n\ntwo\n");
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let bad = [
            ("", NoteError::NoSignatures),
            ("text\n", NoteError::NoSignatures),
            ("text\n\n", NoteError::NoSignatures),
            ("text\n\n\n", NoteError::NoSignatures),
            ("te\txt\n\n— a AAAAAAA=\n", NoteError::NotText),
            ("text\n\n— a AAAAAAA=", NoteError::Signature(0)),
            ("text\n\n- a AAAAAAA=\n", NoteError::Signature(0)),
            ("text\n\n— a AAAAAAA=\n— a+b AAAAAAA=\n", NoteError::Signature(1)),
            ("text\n\n— a AAAAAA==\n", NoteError::Signature(0)),
            ("text\n\n— a AAAAAAA\n", NoteError::Signature(0)),
        ];
        for (text, error) in bad {
            assert_eq!(text.parse::<SignedNote>(), Err(error), "{text}");
        }
        assert_eq!(SignedNote::parse(b"\xff\n\n"), Err(NoteError::NotText));
        let many = format!("text\n\n{}", "— a AAAAAAA=\n".repeat(101));
        assert_eq!(many.parse::<SignedNote>(), Err(NoteError::TooManySignatures(101)));
        assert_eq!(SignedNote::parse(&vec![b'a'; 1_000_001]), Err(NoteError::TooLong(1_000_001)));
    }
}
