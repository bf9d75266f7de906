//! The rows of the audit table.

use mill_model::{AccountId, AuditEvent, ContentId, EventId, SpaceId, StoreId};
use mill_ports::RowKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Salt, WrittenEntry, write_entry};

/// How many partitions the events of an account are spread over, so that none is hot.
pub(super) const SHARDS: u8 = 16;

/// An event that waits for its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyEvent {
    /// The event.
    pub event: AuditEvent,
    /// The salt of its user's commitment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
}

impl ReadyEvent {
    /// Its entry. It is the same each time.
    pub fn entry(&self, account: &AccountId) -> WrittenEntry {
        write_entry(account, &self.event, self.salt.as_ref())
    }
}

/// Where an event stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlace {
    /// Its index: the first entry has 0.
    pub index: u64,
    /// Who did it, until that is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The salt of the commitment in the entry, until it is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
}

/// The key by which an event waits: events of one item are in one shard, in order of their ids.
pub(super) fn ready_key(account: &AccountId, event: &AuditEvent) -> RowKey {
    RowKey::new(ready_partition(account, shard_of(event)), event.id.to_string())
}

/// The shard in which an event waits.
pub(super) fn shard_of(event: &AuditEvent) -> u8 {
    subject_digest(event)[0] % SHARDS
}

pub(super) fn ready_partition(account: &AccountId, shard: u8) -> String {
    format!("ready/{}/{shard:02}", account.as_str())
}

/// The key of an event's place: the places of one item's events are in one partition, in order of their ids.
pub(super) fn place_key(account: &AccountId, event: &AuditEvent) -> RowKey {
    RowKey::new(place_partition(account, &subject_digest(event)), event.id.to_string())
}

/// The partition of the places of an item's events, or of a space's own.
pub(super) fn item_places(
    account: &AccountId,
    (store, space, item): (&StoreId, &SpaceId, Option<&ContentId>),
) -> String {
    place_partition(account, &digest_of(store.as_str(), space.as_str(), item.map(ContentId::as_str)))
}

fn place_partition(account: &AccountId, digest: &[u8; 32]) -> String {
    format!("place/{}/{}", account.as_str(), hex::encode(&digest[..16]))
}

pub(super) fn large_key(account: &AccountId, id: EventId) -> RowKey {
    RowKey::new(format!("large/{}", account.as_str()), id.to_string())
}

pub(super) fn state_key(account: &AccountId) -> RowKey {
    RowKey::new(format!("log/{}", account.as_str()), "state")
}

pub(super) fn wanted_key(account: &AccountId) -> RowKey {
    RowKey::new(format!("log/{}", account.as_str()), "wanted")
}

fn subject_digest(event: &AuditEvent) -> [u8; 32] {
    digest_of(event.store.as_str(), event.space.as_str(), event.item.as_ref().map(ContentId::as_str))
}

/// The digest of what an event is about. Ids of stores and spaces contain no `/`.
fn digest_of(store: &str, space: &str, item: Option<&str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(store);
    hash.update("/");
    hash.update(space);
    if let Some(item) = item {
        hash.update("/");
        hash.update(item);
    }
    hash.finalize().into()
}
