//! Intents: what a writer of an audited store is about to do, written down before it does it.
//!
//! ```text
//!   intent ──▶ the write ──▶ audit task ──▶ intent removed
//! ```
//!
//! A writer that is killed leaves its intent. Whoever finds it looks at the item ([`judge`]): the write happened, and its event is
//! sent under the same id; or it did not; or something else stands there, and nobody can know. Nothing of Mill's is visible at the
//! item.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use mill_model::{AuditAction, AuditEvent, ContentId, EventCertainty, EventId, ItemFacts, StoreAddress, Timestamp};
use mill_ports::{Presence, Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::lease::HolderIsDead;
use crate::stored_rows::{json, partition_rows};

/// What a writer is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The event, as far as it is known before the write.
    pub event: AuditEvent,
    /// The state that the write replaces.
    pub before: StateBefore,
    /// The process that writes; empty if it has no name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub writer: String,
}

/// The state of an item or a space before a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateBefore {
    /// The write replaces any state.
    Any,
    /// There was none.
    Absent,
    /// There was this version.
    Version(String),
    /// There was this version, which is not settled: a later state may have it too.
    UnsettledVersion(String),
}

impl StateBefore {
    /// The version that there was, if it is known.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Version(version) | Self::UnsettledVersion(version) => Some(version),
            Self::Any | Self::Absent => None,
        }
    }

    /// Whether a later change that found the state `later` proves that nothing was changed until then.
    pub fn is_still(&self, later: &Self) -> bool {
        match self {
            Self::Absent => *later == Self::Absent,
            Self::Version(version) => later.version() == Some(version),
            Self::Any | Self::UnsettledVersion(_) => false,
        }
    }
}

/// What a look at the item says about an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentVerdict {
    /// The write happened.
    Happened,
    /// It has not happened.
    NotHappened,
    /// Something else stands there: it may have happened before.
    Superseded,
}

/// What stands at the place of an intent: an item's facts, or, for a space, that it exists.
#[derive(Debug, Clone)]
pub enum FoundState {
    /// An item, or none.
    Item(Presence<ItemFacts>),
    /// The identity of the space, if there is one.
    Space(Option<String>),
}

/// Judges an intent by what stands at its place now. One whose event is marked as superseded stays so: what stands there now may
/// be what the writers after it left.
pub fn judge(intent: &Intent, found: &FoundState) -> IntentVerdict {
    let event = &intent.event;
    if event.certainty == EventCertainty::Superseded {
        return IntentVerdict::Superseded;
    }
    match found {
        FoundState::Space(found) if found.is_some() == (event.action == AuditAction::CreateSpace) => {
            IntentVerdict::Happened
        }
        FoundState::Space(_) => IntentVerdict::NotHappened,
        FoundState::Item(Presence::Absent) => match (&intent.before, event.action) {
            (_, AuditAction::DeleteContent) => IntentVerdict::Happened,
            (StateBefore::Absent, _) => IntentVerdict::NotHappened,
            _ => IntentVerdict::Superseded,
        },
        FoundState::Item(Presence::Present(facts)) => {
            let as_intended = event.action != AuditAction::DeleteContent && is_as_intended(event, facts);
            let same_version = intent.before.version() == Some(facts.version.token());
            let unsettled = matches!(intent.before, StateBefore::UnsettledVersion(_));
            match (same_version, as_intended) {
                // Two changes of a moment may have one version, so this one may have been made.
                (true, true) if unsettled => IntentVerdict::Superseded,
                (true, _) => IntentVerdict::NotHappened,
                (false, true) => IntentVerdict::Happened,
                (false, false) => IntentVerdict::Superseded,
            }
        }
    }
}

/// Whether an item is in the state that the write was to leave.
fn is_as_intended(event: &AuditEvent, facts: &ItemFacts) -> bool {
    let same_size = event.size.is_none_or(|size| size == facts.size);
    let same_properties = match (&event.properties, &facts.properties) {
        (Some(wanted), Some(found)) => wanted.iter().all(|(name, value)| found.get(name) == Some(value)),
        _ => true,
    };
    let same_checksums = event.checksums.iter().all(|wanted| {
        let of_kind = facts.checksums.iter().find(|found| found.algorithm == wanted.algorithm);
        of_kind.is_none_or(|found| found == wanted)
    });
    same_size && same_properties && same_checksums
}

/// The repository, over the table of the audit log.
#[derive(Clone)]
pub struct Intents {
    table: Arc<dyn Table>,
    /// The name of this process.
    writer: String,
    writer_is_dead: HolderIsDead,
}

impl fmt::Debug for Intents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intents").field("table", &self.table).field("writer", &self.writer).finish_non_exhaustive()
    }
}

impl Intents {
    /// How many partitions the intents of a store are spread over.
    const SHARDS: u8 = 16;
    const PAGE_ROWS: usize = 100;
    /// No writer is as slow as this: what did not happen by then never will.
    pub const WRITER_LOST_AFTER: Duration = Duration::from_hours(7 * 24);
    /// A writer whose item something else has replaced learns of it by then.
    pub const SUPERSEDED_AFTER: Duration = Duration::from_hours(24);
    /// A writer that is well has sent its task by then.
    pub const SENT_AFTER: Duration = Duration::from_mins(1);

    /// The repository over `table`, which is that of the audit log.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, writer: String::new(), writer_is_dead: Arc::new(|_| false) }
    }

    /// Names this process, so that others can find out whether it is dead. Its intents need not wait for a time limit then.
    #[must_use]
    pub fn of_writer(self, writer: String, writer_is_dead: HolderIsDead) -> Self {
        Self { writer, writer_is_dead, ..self }
    }

    /// An intent of this process.
    pub fn intent(&self, event: AuditEvent, before: StateBefore) -> Intent {
        Intent { event, before, writer: self.writer.clone() }
    }

    /// How long its writer has had to say what became of an intent.
    pub fn age(&self, intent: &Intent, now: Timestamp) -> Duration {
        if (self.writer_is_dead)(&intent.writer) { Duration::MAX } else { now.since(intent.event.happened_at()) }
    }

    /// Writes an intent. It is durable when this returns.
    ///
    /// # Errors
    /// The table's: then the write must not be made.
    pub async fn add(&self, store: &StoreAddress, intent: &Intent) -> Result<(), TableError> {
        self.table.put(&key(store, &intent.event), json(intent), RowPrecondition::Always).await.map(drop)
    }

    /// Marks an intent as one about which nothing can be found out any more: another writer goes on at its place.
    ///
    /// # Errors
    /// The table's.
    pub async fn supersede(&self, store: &StoreAddress, intent: &Intent) -> Result<(), TableError> {
        let mut marked = intent.clone();
        marked.event.certainty = EventCertainty::Superseded;
        let key = key(store, &intent.event);
        // One that its writer has removed meanwhile stays away.
        let Some(row) = self.table.get(&key).await? else { return Ok(()) };
        match self.table.put(&key, json(&marked), RowPrecondition::VersionIs(row.version)).await {
            Err(error) if error.kind != TableErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes an intent that is settled.
    ///
    /// # Errors
    /// The table's: then it is settled once more.
    pub async fn remove(&self, store: &StoreAddress, event: &AuditEvent) -> Result<(), TableError> {
        self.table.delete(&key(store, event), RowPrecondition::Always).await
    }

    /// The intents about the same item or space as this event.
    ///
    /// # Errors
    /// The table's.
    pub async fn about(&self, store: &StoreAddress, event: &AuditEvent) -> Result<Vec<Intent>, TableError> {
        let subject = subject_digest(event);
        self.query(partition(store, &subject), format!("{}/", hex::encode(&subject[..16]))).await
    }

    /// All intents of a store.
    ///
    /// # Errors
    /// The table's.
    pub async fn of_store(&self, store: &StoreAddress) -> Result<Vec<Intent>, TableError> {
        let mut found = Vec::new();
        for shard in 0..Self::SHARDS {
            found.extend(self.query(shard_partition(store, shard), String::new()).await?);
        }
        Ok(found)
    }

    async fn query(&self, partition: String, prefix: String) -> Result<Vec<Intent>, TableError> {
        let rows = partition_rows(self.table.clone(), (partition, prefix), Self::PAGE_ROWS);
        rows.and_then(|row| async move { self.read(&row) }).try_collect().await
    }

    fn read(&self, row: &Row) -> Result<Intent, TableError> {
        serde_json::from_slice(&row.value).map_err(|error| TableError {
            kind: TableErrorKind::Unexpected,
            op: "reading an intent",
            table: self.table.name().to_owned(),
            source: Some(error.into()),
        })
    }
}

fn key(store: &StoreAddress, event: &AuditEvent) -> RowKey {
    let subject = subject_digest(event);
    RowKey::new(partition(store, &subject), sort(&subject, event.id))
}

fn sort(subject: &[u8; 32], event: EventId) -> String {
    format!("{}/{event}", hex::encode(&subject[..16]))
}

fn partition(store: &StoreAddress, subject: &[u8; 32]) -> String {
    shard_partition(store, subject[0] % Intents::SHARDS)
}

fn shard_partition(StoreAddress { account, store }: &StoreAddress, shard: u8) -> String {
    format!("intent/{}/{}/{shard:02}", account.as_str(), store.as_str())
}

fn subject_digest(event: &AuditEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event.space.as_str());
    hash.update("/");
    hash.update(event.item.as_ref().map_or("", ContentId::as_str));
    hash.finalize().into()
}
