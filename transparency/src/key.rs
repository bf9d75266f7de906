//! The keys of a log, in the text of Go's `golang.org/x/mod/sumdb/note`.
//!
//! Public: `<name>+<id>+<base64>`. Secret: `PRIVATE+KEY+<name>+<id>+<base64>`. The id is what signatures name the key by.
//!
//! Source: c2sp.org/signed-note, *Verifier keys*; `sumdb/note/note.go`, *Generating Server Keys*.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// The first byte of an Ed25519 key.
const ED25519: u8 = 1;

/// The beginning of a secret key.
const SECRET: &str = "PRIVATE+KEY+";

/// What is wrong with the text of a key. It repeats nothing of it, because it may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space, a `+` or a control character.
    #[error("the name of a key is empty, or has a space, a `+` or a control character")]
    Name,
    /// The parts are not those of a public key.
    #[error("this is no public key of a log, which is `<name>+<id>+<base64>`")]
    NotPublic,
    /// The parts are not those of a secret key.
    #[error("this is no secret key of a log, which is `PRIVATE+KEY+<name>+<id>+<base64>`")]
    NotSecret,
    /// The key is of another sort.
    #[error("the key of the log is not an Ed25519 key")]
    Algorithm,
    /// The id is not that of the name and the key.
    #[error("the id of the key is not that of its name and bytes: one of them was changed")]
    Id,
}

/// A public key: it checks what the secret key of the same name and id has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// A secret key. Its `Debug` shows the name and the id alone.
#[derive(Clone)]
pub struct LogSigner {
    public: PublicKey,
    key: SigningKey,
}

impl PublicKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let mut sha = Sha256::new();
        sha.update(name);
        sha.update([b'\n', ED25519]);
        sha.update(key.as_bytes());
        let [a, b, c, d, ..]: [u8; 32] = sha.finalize().into();
        Ok(Self { name: name.to_owned(), id: u32::from_be_bytes([a, b, c, d]), key })
    }

    /// The name: the origin of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What signatures name it by, beside the name.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether the signature is of this key and of this text.
    pub(crate) fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id, encode(self.key.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, bytes) = parts(text).ok_or(KeyError::NotPublic)?;
        let bytes = decode(bytes, KeyError::NotPublic)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotPublic)?;
        Self::new(name, key)?.with_id(id)
    }
}

impl PublicKey {
    fn with_id(self, id: u32) -> Result<Self, KeyError> {
        if self.id == id { Ok(self) } else { Err(KeyError::Id) }
    }
}

impl LogSigner {
    /// Makes the key of a name from 32 random bytes, which must be secret.
    pub fn generate(name: &str, random: [u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(&random);
        Ok(Self { public: PublicKey::new(name, key.verifying_key())?, key })
    }

    /// Reads the text of a secret key.
    pub fn from_secret(text: &str) -> Result<Self, KeyError> {
        let (name, id, bytes) = text.strip_prefix(SECRET).and_then(parts).ok_or(KeyError::NotSecret)?;
        let signer = Self::generate(name, decode(bytes, KeyError::NotSecret)?)?;
        Ok(Self { public: signer.public.with_id(id)?, key: signer.key })
    }

    /// The text of the secret key: only for the place where it is kept.
    pub fn to_secret(&self) -> String {
        format!("{SECRET}{}+{:08x}+{}", self.public.name, self.public.id, encode(self.key.as_bytes()))
    }

    /// The key for those who check.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a text.
    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        self.key.sign(text.as_bytes()).to_bytes().to_vec()
    }
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSigner")
            .field("name", &self.public.name)
            .field("id", &format_args!("{:08x}", self.public.id))
            .finish_non_exhaustive()
    }
}

/// Whether a key may have the name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|char: char| char.is_whitespace() || char.is_control() || char == '+')
}

/// Name, id and base64. The base64 may have a `+` too.
fn parts(text: &str) -> Option<(&str, u32, &str)> {
    let mut parts = text.splitn(3, '+');
    let (name, id, bytes) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((name, u32::from_str_radix(id, 16).ok().filter(|_| is_id)?, bytes))
}

fn encode(key: &[u8; 32]) -> String {
    STANDARD.encode([&[ED25519], &key[..]].concat())
}

fn decode(text: &str, otherwise: KeyError) -> Result<[u8; 32], KeyError> {
    let bytes = STANDARD.decode(text).map_err(|_| otherwise)?;
    match bytes.split_first() {
        Some((&ED25519, key)) => key.try_into().map_err(|_| otherwise),
        Some(_) => Err(KeyError::Algorithm),
        None => Err(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's `sumdb/note`.
    const SECRET_KEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn keys_of_gos_notes_are_read_and_written() {
        let signer = LogSigner::from_secret(SECRET_KEY).expect("Go's example");
        assert_eq!(signer.public().to_string(), PUBLIC_KEY);
        assert_eq!(signer.to_secret(), SECRET_KEY);
        assert_eq!(PUBLIC_KEY.parse().as_ref(), Ok(signer.public()));
        assert_eq!((signer.public().name(), signer.public().id()), ("PeterNeumann", 0xc74f_20a3));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let bad = [
            ("", KeyError::NotPublic),
            ("PeterNeumann+c74f20a3", KeyError::NotPublic),
            ("PeterNeumann+c74f20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::NotPublic),
            ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
            ("PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
            ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Name),
            ("PeterNeumann+c74f20a3+AhpcxQ==", KeyError::Algorithm),
            ("PeterNeumann+c74f20a3+ARpc2Q==", KeyError::NotPublic),
        ];
        for (text, error) in bad {
            assert_eq!(text.parse::<PublicKey>(), Err(error), "{text}");
        }
        let error = |text: &str| LogSigner::from_secret(text).expect_err("no key");
        assert_eq!(error(PUBLIC_KEY), KeyError::NotSecret);
        assert_eq!(error(&SECRET_KEY.replace("c74f", "c74e")), KeyError::Id);
        for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
            assert_eq!(LogSigner::generate(name, [1; 32]).expect_err("no name"), KeyError::Name);
        }
    }

    #[test]
    fn a_secret_key_is_never_shown() {
        let signer = LogSigner::from_secret(SECRET_KEY).expect("Go's example");
        assert_eq!(format!("{signer:?}"), r#"LogSigner { name: "PeterNeumann", id: c74f20a3, .. }"#);
        let errors = format!("{:?}", LogSigner::from_secret(&SECRET_KEY.replace("c74f", "c74e")));
        assert!(!errors.contains("AYEKFALV"), "{errors}");
    }
}
