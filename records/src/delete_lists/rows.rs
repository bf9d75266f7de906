//! The rows of a delete list: ids with the state in which each was seen, and their results.

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
    /// The state in which the destination listed it. It may be deleted only in this state.
    pub seen: VersionDigest,
}

/// Some ids of a list, which one task deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteListRow {
    /// The ids, in byte order.
    pub ids: Vec<ListedId>,
}

impl DeleteListRow {
    /// The most ids of a row.
    pub const IDS_MAX: usize = 256;
    /// A row with this many bytes of ids is full: DynamoDB accepts 400 KB, and one byte of an id may take six in JSON.
    const ID_BYTES_MAX: usize = 60_000;

    /// Whether the row is full: another id goes into the next row.
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

/// What became of the ids of one row. The counts add up to the number of its ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowResult {
    /// Deleted by the task that reports this.
    pub deleted: u64,
    /// Already gone when the task ran: deleted by an earlier run of the task, or by somebody else.
    pub gone: u64,
    /// Kept: back at the source, changed at the destination, or beneath a place that changed.
    pub kept: u64,
    /// Kept after all tries failed.
    pub failed: u64,
}

impl RowResult {
    /// The number of ids that it accounts for.
    pub fn total(&self) -> u64 {
        self.deleted + self.gone + self.kept + self.failed
    }
}
