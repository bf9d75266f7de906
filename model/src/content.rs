//! The facts of a content item: size, version, checksums, properties.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{IdError, shorten_for_display};
use crate::time::Timestamp;

/// How a checksum was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// CRC-64/NVME, which Amazon S3 stores for whole objects, however many parts they were uploaded in. Detects
    /// accidents, not attackers.
    Crc64Nvme,
    /// MD5, which DuraCloud and many providers store. Detects accidents, not attackers.
    Md5,
    /// SHA-256, Mill's own.
    Sha256,
}

impl Algorithm {
    /// The name in messages and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "crc64nvme",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
        }
    }

    /// The length of its values, in bytes.
    pub const fn value_bytes(self) -> usize {
        match self {
            Self::Crc64Nvme => 8,
            Self::Md5 => 16,
            Self::Sha256 => 32,
        }
    }
}

/// A checksum, always with its algorithm. It is written as `sha256:` and hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: Algorithm,
    /// The value, as many bytes as the algorithm makes.
    pub value: Box<[u8]>,
}

impl Checksum {
    /// The value in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(&self.value)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex())
    }
}

impl std::str::FromStr for Checksum {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let (name, digits) = text.split_once(':')?;
            let algorithm = [Algorithm::Crc64Nvme, Algorithm::Md5, Algorithm::Sha256]
                .into_iter()
                .find(|known| known.as_str() == name)?;
            let value = hex::decode(digits).ok().filter(|value| value.len() == algorithm.value_bytes())?;
            Some(Self { algorithm, value: value.into() })
        };
        read().ok_or_else(|| IdError {
            what: "checksum",
            shown: shorten_for_display(text),
            why: "it must be `md5:`, `sha256:` or `crc64nvme:` and as many hexadecimal digits as that has",
        })
    }
}

impl TryFrom<String> for Checksum {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A store's own token for one state of an item. If a later version is equal, bytes and properties are the same,
/// provided that the earlier version was [settled](Version::settled).
#[derive(Debug, Clone)]
pub struct Version {
    token: Box<str>,
    settled: bool,
}

impl Version {
    /// A version whose equality proves that nothing changed.
    pub fn settled_at(token: impl Into<String>) -> Self {
        Self { token: token.into().into_boxed_str(), settled: true }
    }

    /// A version too young to prove anything: a further change could still get the same token.
    pub fn unsettled(token: impl Into<String>) -> Self {
        Self { token: token.into().into_boxed_str(), settled: false }
    }

    /// The store's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether an equal version seen later proves that nothing changed in between.
    pub fn settled(&self) -> bool {
        self.settled
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}
impl Eq for Version {}

/// An item's named properties, in order of name: its content type, its headers, notes of people.
///
/// `file-mtime` (seconds since 1970 with nine decimals) and `file-mode` (octal) carry a file's time and mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(pub BTreeMap<String, String>);

impl Properties {
    /// Property that holds a file's modification time: `1795249800.000000007`.
    pub const FILE_MTIME: &str = "file-mtime";
    /// Property that holds a file's permission bits in octal: `0644`.
    pub const FILE_MODE: &str = "file-mode";

    /// The value of `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Whether the bytes can be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemState {
    /// They can.
    Online,
    /// They must be restored from this archive tier first, named as the service names it.
    Archived(String),
}

/// What a store reports of an item.
#[derive(Debug, Clone)]
pub struct ItemFacts {
    /// Size of the content, in bytes.
    pub size: u64,
    /// When it last changed, if the store reports it.
    pub modified: Option<Timestamp>,
    /// The version of this state.
    pub version: Version,
    /// The checksums that the store itself holds; may be empty.
    pub checksums: Vec<Checksum>,
    /// All properties, or `None` where they are not known (listings may leave them out).
    pub properties: Option<Properties>,
    /// Whether the bytes can be read now.
    pub state: ItemState,
}
