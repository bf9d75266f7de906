//! The rows of a delete list: ids with the state in which each was seen, and what became of them.

use bytes::Bytes;
use mill_model::{Algorithm, Checksum, ContentId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sync_proofs::VersionDigest;

/// One id of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedId {
    /// The item.
    pub id: ContentId,
    /// The state in which the destination listed it. Only in this state it may be deleted.
    pub seen: VersionDigest,
}

/// Some ids of a list: what one task deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteListRow {
    /// In the order of their bytes.
    pub ids: Vec<ListedId>,
}

impl DeleteListRow {
    /// Most ids of a row.
    pub const IDS_MAX: usize = 256;
    /// From so many bytes of ids on, a row is full: DynamoDB takes 400 KB, and one byte of an id may take six in JSON.
    const ID_BYTES_MAX: usize = 60_000;

    /// Whether another id should go into the next row.
    pub fn is_full(&self) -> bool {
        let bytes: usize = self.ids.iter().map(|listed| listed.id.as_str().len()).sum();
        self.ids.len() >= Self::IDS_MAX || bytes >= Self::ID_BYTES_MAX
    }

    pub(super) fn written(&self) -> Bytes {
        let pair = |listed: &ListedId| (listed.id.as_str().to_owned(), listed.seen.to_string());
        super::json(&self.ids.iter().map(pair).collect::<Vec<_>>())
    }

    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let pairs: Vec<(String, String)> = serde_json::from_slice(value).ok()?;
        let listed = |(id, seen): (String, String)| {
            Some(ListedId { id: ContentId::new(id).ok()?, seen: VersionDigest::parse(&seen)? })
        };
        Some(Self { ids: pairs.into_iter().map(listed).collect::<Option<_>>()? })
    }
}

/// The checksum of a list's ids: SHA-256 over each id and a zero byte.
#[derive(Debug, Clone, Default)]
pub struct IdsDigest(Sha256);

impl IdsDigest {
    /// Adds the next id.
    pub fn add(&mut self, id: &ContentId) {
        self.0.update(id.as_str());
        self.0.update([0]);
    }

    /// The checksum in hexadecimal.
    pub fn finish(self) -> String {
        let value = self.0.finalize()[..].into();
        Checksum { algorithm: Algorithm::Sha256, value }.hex()
    }
}

/// What became of the ids of one row. Their sum is the number of its ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowResult {
    /// Deleted by the task that reports this.
    pub deleted: u64,
    /// Not there any more when it looked: deleted by an earlier run of the task, or by somebody else.
    pub gone: u64,
    /// Left: back at the source, changed at the destination, or beneath a place that changed.
    pub kept: u64,
    /// Left after all tries failed.
    pub failed: u64,
}

impl RowResult {
    /// How many ids it accounts for.
    pub fn total(&self) -> u64 {
        self.deleted + self.gone + self.kept + self.failed
    }
}
