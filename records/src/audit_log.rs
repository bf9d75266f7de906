//! The audit log of each account: what happened to content, in an order that nobody can change unnoticed.
//!
//! ```text
//!   audit task ──▶ ready rows, over 16 shards ──▶ publisher ──▶ entries, tiles, checkpoint in the stores of the log
//!                                                    │
//!                                                    └──▶ a place row for each event; its ready row goes
//! ```
//!
//! An event has an id that its writer made, and all keys follow from it: so a repeat of the event finds its own row or
//! its place, and there is one entry of it. The log is a transparency log (C2SP `tlog-tiles`): a third party verifies
//! it without Mill.
//!
//! Reading order: [`entry`] (the bytes of an entry), [`rows`] (the rows of the table), this file (the repository),
//! [`opening`] (the log that an account names), [`publisher`] (gives events their places), `reconcile` (what the stores
//! have already), [`log_files`] (the files of the log in its stores).

pub mod entry;
pub mod log_files;
pub mod opening;
pub mod publisher;
mod reconcile;
pub mod rows;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use mill_model::{AccountId, AuditEvent, ContentId, EventId, SpaceId, StoreId, TaskId, Timestamp};
use mill_ports::{Rng, Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use mill_transparency::TreeHash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::entry::Salt;
use self::publisher::LogState;
use self::rows::{EntryPlace, ReadyEvent};
use crate::stored_rows::{json, partition_rows};

/// Why the table of the audit log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// A row cannot be understood.
    #[error("the row `{sort}` of the audit log's table cannot be read; nothing is published until a person has looked")]
    Unreadable {
        /// The row.
        sort: String,
    },
    /// An event is larger than any row may be.
    #[error("the change of `{subject}` has {bytes} bytes of properties and names; at most {max} can be recorded")]
    TooLarge {
        /// The item or space.
        subject: String,
        /// Its written size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The table did not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository, over one table.
#[derive(Debug, Clone)]
pub struct AuditLog {
    table: Arc<dyn Table>,
}

/// Who wants the log published, and since when.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    by: String,
    at: u64,
}

impl AuditLog {
    /// The table's name.
    pub const TABLE: &str = "audit";
    /// The largest written form of an event, in bytes: a row of DynamoDB holds 400 KiB.
    pub const EVENT_BYTES_MAX: usize = 350 * 1024;
    /// After this time another task may ask for the log to be published, in case that the first was lost.
    const WANTED_FOR: Duration = Duration::from_mins(5);
    /// The number of rows in one page of a query.
    const PAGE_ROWS: usize = 64;
    /// Once a shard has given more than these bytes, it gives no more at once.
    const SHARD_BYTES_MAX: usize = 1024 * 1024;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Adds an event to those that wait for their places. A repeat changes nothing.
    ///
    /// # Errors
    /// [`AuditLogError::TooLarge`]; the table's.
    pub async fn add_ready(
        &self,
        account: &AccountId,
        event: &AuditEvent,
        chance: &dyn Rng,
    ) -> Result<(), AuditLogError> {
        let salt = event.user.as_ref().map(|_| Salt::new([chance.next_u64(), chance.next_u64()]));
        let value = json(&ReadyEvent { event: event.clone(), salt });
        ensure_fits(event, value.len())?;
        self.put_once(&rows::ready_key(account, event), value).await
    }

    /// Stores an event that is too large for a task.
    ///
    /// # Errors
    /// [`AuditLogError::TooLarge`]; the table's.
    pub async fn store_large(&self, account: &AccountId, event: &AuditEvent) -> Result<(), AuditLogError> {
        let value = json(event);
        ensure_fits(event, value.len())?;
        self.put_once(&rows::large_key(account, event.id), value).await
    }

    /// An event that was stored because it is too large for a task.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn large(&self, account: &AccountId, id: EventId) -> Result<Option<AuditEvent>, AuditLogError> {
        self.get(&rows::large_key(account, id)).await
    }

    /// Removes a stored event, once all of its audit task is done.
    ///
    /// # Errors
    /// The table's.
    pub async fn remove_large(&self, account: &AccountId, id: EventId) -> Result<(), AuditLogError> {
        Ok(self.table.delete(&rows::large_key(account, id), RowPrecondition::Always).await?)
    }

    /// Where an event stands in the log, if it has its place.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn place(&self, account: &AccountId, event: &AuditEvent) -> Result<Option<EntryPlace>, AuditLogError> {
        self.get(&rows::place_key(account, event)).await
    }

    /// The places of all events of one item, or of a space itself, in order of their ids.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn places(
        &self,
        account: &AccountId,
        subject: (&StoreId, &SpaceId, Option<&ContentId>),
    ) -> Result<Vec<EntryPlace>, AuditLogError> {
        let partition = rows::item_places(account, subject);
        let rows = partition_rows(self.table.clone(), (partition, String::new()), Self::PAGE_ROWS);
        rows.map_err(AuditLogError::from).and_then(|row| async move { read(&row) }).try_collect().await
    }

    /// Whether this task is to ask for the log to be published: nobody else did, or did so long ago that it may be lost.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn want_published(&self, account: &AccountId, by: TaskId, now: Timestamp) -> Result<bool, AuditLogError> {
        let key = rows::wanted_key(account);
        let by = by.to_string();
        let known = self.table.get(&key).await?;
        let when = match &known {
            None => RowPrecondition::Absent,
            Some(row) => match serde_json::from_slice::<Wanted>(&row.value) {
                // This task may have ended after it wrote the row and before it sent anything.
                Ok(wanted) if wanted.by == by => return Ok(true),
                Ok(wanted) if is_recent(Timestamp::from_millis(wanted.at), now, Self::WANTED_FOR) => return Ok(false),
                _ => RowPrecondition::VersionIs(row.version.clone()),
            },
        };
        match self.table.put(&key, json(&Wanted { by, at: now.as_millis() }), when).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Called before the publisher reads what is ready: who makes an event ready from now on asks again.
    ///
    /// # Errors
    /// The table's.
    pub async fn publishing(&self, account: &AccountId) -> Result<(), AuditLogError> {
        Ok(self.table.delete(&rows::wanted_key(account), RowPrecondition::Always).await?)
    }

    /// Events that wait for their places, in order of their ids: about `most`.
    ///
    /// Each shard gives as many, its oldest, so that the events of one item stay in order.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn ready(&self, account: &AccountId, most: usize) -> Result<Vec<ReadyEvent>, AuditLogError> {
        let share = most.div_ceil(rows::SHARDS.into());
        let oldest = |shard| self.oldest(rows::ready_partition(account, shard), share);
        let pages = futures::future::try_join_all((0..rows::SHARDS).map(oldest)).await?;
        let mut ready = pages.iter().flatten().map(read).collect::<Result<Vec<ReadyEvent>, _>>()?;
        ready.sort_by_key(|ready| ready.event.id);
        Ok(ready)
    }

    /// What was published for certain, in every store of the log: its size and its root. `None` before the first entry.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn published(&self, account: &AccountId) -> Result<Option<(u64, TreeHash)>, AuditLogError> {
        let Some(state) = self.get::<LogState>(&rows::state_key(account)).await? else { return Ok(None) };
        // The files of a commit that is not finished may not be everywhere.
        let head = state.base.unwrap_or(state.head);
        Ok((head.size > 0).then_some((head.size, head.root)))
    }

    /// Erases the name of who did it, and its salt, from the place of an event, if it is this name. The entry stays as it is.
    /// Returns whether it was there.
    ///
    /// # Errors
    /// [`AuditLogError::Unreadable`]; the table's.
    pub async fn erase_user(&self, account: &AccountId, event: &AuditEvent, user: &str) -> Result<bool, AuditLogError> {
        let key = rows::place_key(account, event);
        let Some(row) = self.table.get(&key).await? else { return Ok(false) };
        let place: EntryPlace = read(&row)?;
        if place.user.as_deref() != Some(user) {
            return Ok(false);
        }
        let erased = EntryPlace { user: None, salt: None, ..place };
        self.table.put(&key, json(&erased), RowPrecondition::VersionIs(row.version)).await?;
        Ok(true)
    }

    /// The oldest events that wait in a shard: at most so many, and few more once they are large.
    async fn oldest(&self, shard: String, most: usize) -> Result<Vec<Row>, TableError> {
        let page_rows = Self::PAGE_ROWS.min(most);
        let mut rows = partition_rows(self.table.clone(), (shard, String::new()), page_rows);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < most && bytes <= Self::SHARD_BYTES_MAX {
            let Some(row) = rows.try_next().await? else { break };
            bytes += row.value.len();
            found.push(row);
        }
        Ok(found)
    }

    async fn get<R: DeserializeOwned>(&self, key: &RowKey) -> Result<Option<R>, AuditLogError> {
        self.table.get(key).await?.as_ref().map(read).transpose()
    }

    /// Writes a row unless there is one.
    async fn put_once(&self, key: &RowKey, value: Bytes) -> Result<(), AuditLogError> {
        match self.table.put(key, value, RowPrecondition::Absent).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn ensure_fits(event: &AuditEvent, bytes: usize) -> Result<(), AuditLogError> {
    let max = AuditLog::EVENT_BYTES_MAX;
    if bytes > max {
        return Err(AuditLogError::TooLarge { subject: event.subject(), bytes, max });
    }
    Ok(())
}

/// Whether `at` lies less than `within` before `now`. A time in the future is not recent: a clock was set back.
fn is_recent(at: Timestamp, now: Timestamp, within: Duration) -> bool {
    at <= now && now.since(at) < within
}

fn read<R: DeserializeOwned>(row: &Row) -> Result<R, AuditLogError> {
    serde_json::from_slice(&row.value).map_err(|_| AuditLogError::Unreadable { sort: row.sort.clone() })
}

#[cfg(test)]
mod tests;
