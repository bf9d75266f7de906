//! The hashes of the tree.
//!
//! Source: RFC 6962, section 2.1.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A SHA-256 of the tree. Its text is the base64 of checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; HASH_BYTES]);

/// A text is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is not 32 bytes in base64")]
pub struct HashError;

impl TreeHash {
    /// The root of a tree without entries: the hash of nothing.
    pub fn of_empty_tree() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of an entry.
    pub fn of_entry(entry: &[u8]) -> Self {
        let mut sha = Sha256::new();
        sha.update([0]);
        sha.update(entry);
        Self(sha.finalize().into())
    }

    /// The hash of a node above two others.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        // In one piece: three updates would take longer than the hash of these 65 bytes needs.
        let mut bytes = [1; 1 + 2 * HASH_BYTES];
        bytes[1..=HASH_BYTES].copy_from_slice(&left.0);
        bytes[1 + HASH_BYTES..].copy_from_slice(&right.0);
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// The hashes of a tile, one after the other; `None` if the last is cut short.
    pub(crate) fn list(bytes: &[u8]) -> Option<Vec<Self>> {
        let (hashes, rest) = bytes.as_chunks();
        rest.is_empty().then(|| hashes.iter().copied().map(Self).collect())
    }

    /// The bytes of a tile.
    pub(crate) fn concat(hashes: &[Self]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| hash.0).collect()
    }
}

impl From<[u8; HASH_BYTES]> for TreeHash {
    fn from(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TreeHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bytes = STANDARD.decode(text).map_err(|_| HashError)?;
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

/// The root over the hashes of a perfect subtree: their number is a power of two.
pub(crate) fn perfect_root(hashes: &[TreeHash]) -> TreeHash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        for position in 0..row.len() / 2 {
            row[position] = TreeHash::of_node(&row[2 * position], &row[2 * position + 1]);
        }
        row.truncate(row.len() / 2);
    }
    row.first().copied().unwrap_or_else(TreeHash::of_empty_tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        // The test vectors of certificate-transparency: roots of the trees of "", "\x00", "\x10".
        assert_eq!(
            hex::encode(TreeHash::of_empty_tree().0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let empty = TreeHash::of_entry(b"");
        assert_eq!(hex::encode(empty.0), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let two = TreeHash::of_node(&empty, &TreeHash::of_entry(&[0]));
        assert_eq!(hex::encode(two.0), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(perfect_root(&[empty, TreeHash::of_entry(&[0])]), two);
    }

    #[test]
    fn the_text_of_a_hash_is_read_again_and_no_other_is() {
        let hash = TreeHash::of_entry(b"text");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "AAAA", &hash.to_string()[1..], &format!("{hash} ")] {
            assert_eq!(bad.parse::<TreeHash>(), Err(HashError), "{bad}");
        }
    }
}
