//! Gives events their places in the log, and publishes it.
//!
//! ```text
//!   1  ready events ──▶ entries ──▶ new root ──▶ signed note
//!   2  compare and set of the state row: size, root, note, and which ready rows the new entries are       ← the commit
//!   3  bundles and tiles ──▶ each store of the log, only where absent; the checkpoint last
//!   4  a place row for each event; its ready row goes; the state row names no ready rows any more
//! ```
//!
//! A note whose compare-and-set failed never leaves the process, so two publishers at once never fork the log. The files follow
//! from the ready rows that the commit names, and those go only after all places are written: so whoever finds a commit that
//! is not finished finishes it, with the same bytes.
//!
//! The stores may know more than the state row, if that comes from a backup. So their checkpoints are read before anything is
//! signed: a larger one is taken over, once the entries have given its root.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{AccountId, EventId, StoreAddress};
use mill_ports::{DestinationStore, RowKey, RowPrecondition, StoreErrorKind, TableError, TableErrorKind};
use mill_transparency::{
    Appended, Checkpoint, EdgeError, EntryTooLong, LogSigner, LogVerifier, RightEdge, SignError, TreeHash,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::entry::{EntryError, beside_name, sha256};
use super::log_files::{LogFileError, LogFiles};
use super::rows::{EntryPlace, ReadyEvent};
use super::{AuditLog, AuditLogError, rows};
use crate::crash_points;
use crate::stored_rows::json;
use crate::versioned::Versioned;

/// An account's log, opened for publishing.
#[derive(Debug)]
pub struct OpenedLog {
    /// Its name in checkpoints.
    pub origin: String,
    /// What signs: one key, or the old and the new one.
    pub signers: Vec<LogSigner>,
    /// Knows the public keys of the same.
    pub verifier: LogVerifier,
    /// The stores that have it.
    pub stores: Vec<LogFiles<dyn DestinationStore>>,
}

/// Why a log could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A row.
    #[error(transparent)]
    Rows(#[from] AuditLogError),
    /// A file.
    #[error(transparent)]
    Files(#[from] LogFileError),
    /// The end of the log is not what the state row says.
    #[error("the end of the audit log in store `{store}` is not what was published; nothing more is published")]
    Edge {
        /// The store.
        store: StoreAddress,
        /// What is wrong.
        #[source]
        source: EdgeError,
    },
    /// A store has another log.
    #[error(
        "the audit log in store `{store}`, of {size} entries, is another one than that of {ours} entries: it was forked; nothing \
         more is published. Keep both, and find out which of them others have seen"
    )]
    Forked {
        /// The store.
        store: StoreAddress,
        /// The size of its checkpoint.
        size: u64,
        /// The size of the other.
        ours: u64,
    },
    /// No store has the whole log.
    #[error("no store has the whole audit log of {size} entries any more; bring back what was lost of it")]
    Lost {
        /// How many entries were published.
        size: u64,
    },
    /// An entry in a store is none of Mill.
    #[error("entry {index} of the audit log cannot be read")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        #[source]
        source: EntryError,
    },
    /// An entry is too long.
    #[error(transparent)]
    TooLong(#[from] EntryTooLong),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Another publisher was faster.
    #[error("another process publishes the audit log at the same time")]
    Overtaken,
}

impl From<TableError> for PublishError {
    fn from(error: TableError) -> Self {
        Self::Rows(error.into())
    }
}

impl PublishError {
    /// Whether another publisher was at work at the same time. Then that one went on, so nothing is wrong.
    pub fn is_contention(&self) -> bool {
        match self {
            Self::Overtaken => true,
            Self::Files(LogFileError::Store(error)) => error.kind == StoreErrorKind::Precondition,
            _ => false,
        }
    }

    /// Whether trying again later may help. Otherwise a person must look.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Overtaken | Self::Files(LogFileError::Store(_)) => true,
            Self::Rows(AuditLogError::Table(error)) => error.kind.is_retryable(),
            _ => false,
        }
    }
}

/// What publishing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// How many entries were added.
    pub entries: u64,
    /// The size of the log now.
    pub size: u64,
}

/// The state of a log: what was committed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct LogState {
    #[serde(flatten)]
    pub(super) head: TreeHead,
    pub(super) note: String,
    /// The state before the commit that is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<TreeHead>,
    /// The shard and id of each event of that commit, in the order of the entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pending: Vec<(u8, EventId)>,
}

/// A log at one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TreeHead {
    pub(super) size: u64,
    #[serde(with = "root_text")]
    pub(super) root: TreeHash,
}

impl TreeHead {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self { size: checkpoint.size, root: checkpoint.root }
    }
}

impl Default for TreeHead {
    fn default() -> Self {
        Self { size: 0, root: TreeHash::of_empty_tree() }
    }
}

/// A root in a row: base64, as in a checkpoint. A row with any other text cannot be read.
mod root_text {
    use mill_transparency::TreeHash;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(root: &TreeHash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(root)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TreeHash, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Publishes the logs of accounts.
#[derive(Debug, Clone)]
pub struct LogPublisher {
    pub(super) log: AuditLog,
    /// The right edges of the logs that this process published last.
    edges: Arc<Mutex<BTreeMap<AccountId, RightEdge>>>,
}

impl LogPublisher {
    /// The most entries of one commit.
    const BATCH_MAX: usize = 1000;
    /// The most commits of one call.
    const BATCHES_MAX: usize = 50;
    pub(super) const ROWS_AT_ONCE: usize = 32;

    /// The publisher over the rows of `log`.
    pub fn new(log: AuditLog) -> Self {
        Self { log, edges: Arc::default() }
    }

    /// Publishes what is ready, and finishes what another publisher left.
    ///
    /// # Errors
    /// [`PublishError`]. What was committed is finished by the next call.
    pub async fn publish(&self, account: &AccountId, log: &OpenedLog) -> Result<Published, PublishError> {
        self.log.publishing(account).await?;
        let mut state = self.state(account).await?;
        if state.record.base.is_some() {
            self.finish(account, log, &mut state).await?;
        }
        self.reconcile_stores(account, log, &mut state).await?;
        let from = state.record.head.size;
        for _ in 0..Self::BATCHES_MAX {
            let ready = self.without_repeats(account, self.log.ready(account, Self::BATCH_MAX).await?).await?;
            let Some(ready) = ready else { break };
            if ready.is_empty() {
                continue;
            }
            self.commit(account, log, &mut state, ready).await?;
        }
        Ok(Published { entries: state.record.head.size - from, size: state.record.head.size })
    }

    pub(super) async fn state(&self, account: &AccountId) -> Result<Versioned<LogState>, PublishError> {
        let Some(row) = self.log.table.get(&rows::state_key(account)).await? else {
            return Ok(Versioned::unsaved(LogState::default()));
        };
        let record = super::read(&row)?;
        Ok(Versioned { record, version: Some(row.version) })
    }

    /// Leaves out events that have their places already. `None` if nothing at all is ready.
    async fn without_repeats(
        &self,
        account: &AccountId,
        ready: Vec<ReadyEvent>,
    ) -> Result<Option<Vec<ReadyEvent>>, PublishError> {
        if ready.is_empty() {
            return Ok(None);
        }
        let place = |event: ReadyEvent| async move {
            let place = self.log.place(account, &event.event).await?;
            if place.is_some() {
                self.log.table.delete(&rows::ready_key(account, &event.event), RowPrecondition::Always).await?;
            }
            Ok::<_, PublishError>(place.is_none().then_some(event))
        };
        let fresh: Vec<Option<ReadyEvent>> =
            stream::iter(ready.into_iter().map(place)).buffered(Self::ROWS_AT_ONCE).try_collect().await?;
        Ok(Some(fresh.into_iter().flatten().collect()))
    }

    /// Adds entries to the log.
    async fn commit(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        state: &mut Versioned<LogState>,
        ready: Vec<ReadyEvent>,
    ) -> Result<(), PublishError> {
        let base = state.record.head;
        let appended = self.append(account, log, base, &ready).await?;
        let checkpoint = Checkpoint { origin: log.origin.clone(), size: appended.size, root: appended.root };
        let note = checkpoint.sign(&log.signers.iter().collect::<Vec<_>>())?.to_string();
        let key = |event: &ReadyEvent| (rows::shard_of(&event.event), event.event.id);
        let next = LogState {
            head: TreeHead::of(&checkpoint),
            note,
            base: Some(base),
            pending: ready.iter().map(key).collect(),
        };
        self.save(account, state, next).await?;
        crash_point(crash_points::LOG_COMMITTED);
        self.publish_files(account, log, &state.record, &appended, &ready).await?;
        self.place_events(account, state, &ready).await
    }

    /// Finishes a commit whose publisher was lost.
    async fn finish(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        state: &mut Versioned<LogState>,
    ) -> Result<(), PublishError> {
        let Some(base) = state.record.base else { return Ok(()) };
        info!(%account, size = state.record.head.size, "a commit of the audit log is finished");
        let read = |(shard, id): (u8, EventId)| async move {
            let key = RowKey::new(rows::ready_partition(account, shard), id.to_string());
            self.log.get::<ReadyEvent>(&key).await
        };
        let pending = state.record.pending.clone();
        let found: Vec<Option<ReadyEvent>> =
            stream::iter(pending.into_iter().map(read)).buffered(Self::ROWS_AT_ONCE).try_collect().await?;
        let ready: Vec<ReadyEvent> = found.iter().flatten().cloned().collect();
        if ready.len() == found.len() {
            let appended = self.append(account, log, base, &ready).await?;
            if (appended.size, appended.root) != (state.record.head.size, state.record.head.root) {
                return Err(AuditLogError::Unreadable { sort: rows::state_key(account).sort }.into());
            }
            self.publish_files(account, log, &state.record, &appended, &ready).await?;
        } else {
            // Ready rows go last, so the files are written: the entries are read from them.
            self.place_from_files(account, log, base, state.record.head).await?;
        }
        self.place_events(account, state, &ready).await
    }

    /// The log with these entries.
    async fn append(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        head: TreeHead,
        ready: &[ReadyEvent],
    ) -> Result<Appended, PublishError> {
        let edge = self.edge(account, log, head).await?;
        let entries: Vec<_> = ready.iter().map(|event| event.entry(account).bytes).collect();
        Ok(edge.append(&entries)?)
    }

    /// The right edge of the log, of any store that has it.
    pub(super) async fn edge(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        TreeHead { size, root }: TreeHead,
    ) -> Result<RightEdge, PublishError> {
        if size == 0 {
            return Ok(RightEdge::empty());
        }
        let known = self.edges.lock().get(account).cloned();
        if let Some(edge) = known.filter(|edge| edge.size() == size && edge.root() == root) {
            return Ok(edge);
        }
        let mut first = None;
        for files in &log.stores {
            let found = files.read_all(&RightEdge::needs(size)).await?;
            match RightEdge::open(size, root, &found) {
                Ok(edge) => return Ok(edge),
                Err(source) => {
                    warn!(store = %files.address, error = %source, "the end of the audit log is not here");
                    first.get_or_insert(PublishError::Edge { store: files.address.clone(), source });
                }
            }
        }
        Err(first.unwrap_or(PublishError::Lost { size }))
    }

    /// Writes what a commit adds into each store, the checkpoint last.
    async fn publish_files(
        &self,
        account: &AccountId,
        log: &OpenedLog,
        state: &LogState,
        appended: &Appended,
        ready: &[ReadyEvent],
    ) -> Result<(), PublishError> {
        for files in &log.stores {
            for event in ready {
                if let Some(whole) = event.entry(account).beside {
                    files.write_once(&beside_name(&sha256(&whole)), &whole).await?;
                }
            }
            files.write_all(&appended.files).await?;
            crash_point(crash_points::LOG_FILES_WRITTEN);
            publish_checkpoint(files, log, state).await?;
            crash_point(crash_points::LOG_CHECKPOINT_WRITTEN);
        }
        self.edges.lock().insert(account.clone(), appended.edge.clone());
        Ok(())
    }

    /// Records the places of the events of a commit, and ends it.
    async fn place_events(
        &self,
        account: &AccountId,
        state: &mut Versioned<LogState>,
        ready: &[ReadyEvent],
    ) -> Result<(), PublishError> {
        let Some(base) = state.record.base else { return Ok(()) };
        let index: BTreeMap<EventId, u64> =
            state.record.pending.iter().zip(base.size..).map(|((_, id), index)| (*id, index)).collect();
        // Some ready rows may be gone already, and then their places are written.
        let place = |ReadyEvent { event, salt }: &ReadyEvent| {
            let index = *index.get(&event.id)?;
            let place = EntryPlace { index, user: event.user.clone(), salt: salt.clone() };
            Some((rows::place_key(account, event), json(&place)))
        };
        let places: Vec<_> =
            ready.iter().filter_map(place).filter(|_| !is_planted(PlantedBug::PlacesForgotten)).collect();
        self.log.table.put_many(&places).await?;
        crash_point(crash_points::LOG_EVENTS_PLACED);
        let remove = |event: &ReadyEvent| {
            let key = rows::ready_key(account, &event.event);
            async move { self.log.table.delete(&key, RowPrecondition::Always).await }
        };
        stream::iter(ready.iter().map(remove)).buffer_unordered(Self::ROWS_AT_ONCE).try_collect::<()>().await?;
        let done = LogState { base: None, pending: Vec::new(), ..state.record.clone() };
        self.save(account, state, done).await
    }

    pub(super) async fn save(
        &self,
        account: &AccountId,
        state: &mut Versioned<LogState>,
        next: LogState,
    ) -> Result<(), PublishError> {
        let key = rows::state_key(account);
        let value = json(&next);
        match self.log.table.put(&key, value.clone(), state.precondition()).await {
            Ok(version) => {
                *state = Versioned { record: next, version: Some(version) };
                Ok(())
            }
            // An earlier try that got no answer may have written it.
            Err(error) if error.kind == TableErrorKind::Conflict => match self.log.table.get(&key).await? {
                Some(row) if row.value == value => {
                    *state = Versioned { record: next, version: Some(row.version) };
                    Ok(())
                }
                found if is_planted(PlantedBug::UncommittedNotePublished) => {
                    *state = Versioned { record: next, version: found.map(|row| row.version) };
                    Ok(())
                }
                _ => Err(PublishError::Overtaken),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes the checkpoint of a state: once under its size, for ever, and as the newest.
pub(super) async fn publish_checkpoint(
    files: &LogFiles<dyn DestinationStore>,
    log: &OpenedLog,
    state: &LogState,
) -> Result<(), LogFileError> {
    files.write_once(&format!("checkpoints/{}", state.head.size), state.note.as_bytes()).await?;
    files.advance_checkpoint(&log.verifier, state.head.size, &state.note).await
}

#[cfg(test)]
mod tests;
