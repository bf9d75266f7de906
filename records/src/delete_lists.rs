//! Delete lists: what may be deleted at a destination, who granted it, and what became of it.
//!
//! ```text
//!   survey ──▶ rows, then the head ──┬─▶ granted by rule ──▶ tasks, one a row ──▶ results, one a row
//!                                    └─▶ held ──▶ granted by a person ──┘
//!                                         └─▶ withdrawn: back at the source, or asked for by a person
//! ```
//!
//! A list names the ids that a complete survey of both sides of a pair found only at the destination. Only what a
//! granted list names is deleted. Never more is deleted than was granted: each id is in one row, and each row has one
//! result.
//!
//! Reading order: this file (the repository), [`pair`] (the state of a pair), [`head`] (a list), [`rows`] (its ids, and
//! what became of them), `thresholds` (the rule), `held` (lists that wait for a person).

pub mod head;
mod held;
pub mod pair;
pub mod rows;
mod thresholds;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use mill_model::{DeleteListId, SpacePair};
use mill_ports::{Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use head::{DeleteListHead, DeleteListState, DeletionScope, GrantedBy, HoldReason};
pub use held::{HeldList, HeldListToken};
pub use pair::DeletePairState;
pub use rows::{DeleteListRow, ListedId, RowResult};
pub use thresholds::DeleteThresholds;

use crate::pair_key::pair_key;
use crate::stored_rows::{self, json};
use crate::versioned::Versioned;

/// Why the table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeleteListError {
    /// Another process has written the record since it was read.
    #[error("the record `{sort}` of the delete lists was changed meanwhile")]
    Changed {
        /// The record.
        sort: String,
    },
    /// A record cannot be understood.
    #[error("the record `{sort}` of the delete lists cannot be read; nothing is deleted by it")]
    Unreadable {
        /// The record.
        sort: String,
    },
    /// No held list has this token.
    #[error("no list of held deletes has the token `{token}`")]
    NoSuchToken {
        /// The token.
        token: String,
    },
    /// The source space has not been missing for a day.
    #[error("the source space is not known to be missing for a whole day yet, so its copy cannot be let go")]
    NotMissingForADay,
    /// The table did not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository, over one table.
#[derive(Debug, Clone)]
pub struct DeleteLists {
    table: Arc<dyn Table>,
}

impl DeleteLists {
    /// The table's name.
    pub const TABLE: &str = "delete-lists";
    const PAGE_ROWS: usize = 100;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The state of a pair. It is empty for a new pair.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn pair(&self, pair: &SpacePair) -> Result<Versioned<DeletePairState>, DeleteListError> {
        let found = self.get(RowKey::new(pair_key(pair), DeletePairState::SORT)).await?;
        Ok(found.unwrap_or_else(|| Versioned::unsaved(DeletePairState::default())))
    }

    /// Saves the state of a pair.
    ///
    /// # Errors
    /// [`DeleteListError::Changed`] when another process has written it since it was read.
    pub async fn save_pair(
        &self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
    ) -> Result<(), DeleteListError> {
        self.save(RowKey::new(pair_key(pair), DeletePairState::SORT), state).await
    }

    /// The head of a list.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
    ) -> Result<Option<Versioned<DeleteListHead>>, DeleteListError> {
        self.get(head_key(pair, list)).await
    }

    /// Adds the head of a list. All its rows must be in the table.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Changed`] when the list has a head already.
    pub async fn add_head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        head: DeleteListHead,
    ) -> Result<Versioned<DeleteListHead>, DeleteListError> {
        let mut head = Versioned::unsaved(head);
        self.save_head(pair, list, &mut head).await?;
        Ok(head)
    }

    /// Saves the head of a list.
    ///
    /// # Errors
    /// [`DeleteListError::Changed`] when another process has written it since it was read.
    pub async fn save_head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        head: &mut Versioned<DeleteListHead>,
    ) -> Result<(), DeleteListError> {
        self.save(head_key(pair, list), head).await
    }

    /// Adds one row of a list.
    ///
    /// # Errors
    /// The table's.
    pub async fn put_row(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        number: u32,
        row: &DeleteListRow,
    ) -> Result<(), DeleteListError> {
        self.table.put(&row_key(pair, list, number), row.written(), RowPrecondition::Always).await?;
        Ok(())
    }

    /// One row of a list.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn row(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        number: u32,
    ) -> Result<Option<DeleteListRow>, DeleteListError> {
        let Some(row) = self.table.get(&row_key(pair, list, number)).await? else { return Ok(None) };
        DeleteListRow::read(&row.value).map(Some).ok_or(DeleteListError::Unreadable { sort: row.sort })
    }

    /// Streams all ids of a list in order. Few rows are in memory at a time.
    pub fn ids(&self, pair: &SpacePair, list: DeleteListId) -> BoxStream<'static, Result<ListedId, DeleteListError>> {
        let rows = self.rows(pair, &format!("list/{list}/row/"));
        rows.and_then(|row| async move {
            let read = DeleteListRow::read(&row.value).ok_or(DeleteListError::Unreadable { sort: row.sort })?;
            Ok(stream::iter(read.ids.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }

    /// Records the result of a row, once: a later result of the same row changes nothing.
    ///
    /// # Errors
    /// The table's.
    pub async fn record(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        number: u32,
        result: &RowResult,
    ) -> Result<(), DeleteListError> {
        let key = result_key(pair, list, number);
        match self.table.put(&key, json(result), RowPrecondition::Absent).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == TableErrorKind::Conflict => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The result of a row, if it has one.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn result(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        number: u32,
    ) -> Result<Option<RowResult>, DeleteListError> {
        let found: Option<Versioned<RowResult>> = self.get(result_key(pair, list, number)).await?;
        Ok(found.map(|found| found.record))
    }

    /// The results of a list so far, by row.
    ///
    /// # Errors
    /// The table's; [`DeleteListError::Unreadable`].
    pub async fn results(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
    ) -> Result<Vec<(u32, RowResult)>, DeleteListError> {
        let prefix = format!("list/{list}/result/");
        let rows: Vec<Row> = self.rows(pair, &prefix).try_collect().await?;
        let read = |row: Row| {
            let number = row.sort.strip_prefix(&prefix).and_then(|number| number.parse().ok());
            number.zip(serde_json::from_slice(&row.value).ok()).ok_or(DeleteListError::Unreadable { sort: row.sort })
        };
        rows.into_iter().map(read).collect()
    }

    /// Removes the rows of a list that was never granted.
    ///
    /// # Errors
    /// The table's. Rows that are left do no harm.
    pub async fn remove_rows(&self, pair: &SpacePair, list: DeleteListId) -> Result<(), DeleteListError> {
        let partition = pair_key(pair);
        let mut rows = self.rows(pair, &format!("list/{list}/row/"));
        while let Some(row) = rows.try_next().await? {
            self.table.delete(&RowKey::new(partition.clone(), row.sort), RowPrecondition::Always).await?;
        }
        Ok(())
    }

    fn rows(&self, pair: &SpacePair, prefix: &str) -> BoxStream<'static, Result<Row, DeleteListError>> {
        self.partition_rows(pair_key(pair), prefix.to_owned())
    }

    fn partition_rows(&self, partition: String, prefix: String) -> BoxStream<'static, Result<Row, DeleteListError>> {
        let rows = stored_rows::partition_rows(self.table.clone(), (partition, prefix), Self::PAGE_ROWS);
        rows.map_err(DeleteListError::from).boxed()
    }

    async fn get<R: DeserializeOwned>(&self, key: RowKey) -> Result<Option<Versioned<R>>, DeleteListError> {
        let Some(row) = self.table.get(&key).await? else { return Ok(None) };
        match serde_json::from_slice(&row.value) {
            Ok(record) => Ok(Some(Versioned { record, version: Some(row.version) })),
            Err(_) => Err(DeleteListError::Unreadable { sort: row.sort }),
        }
    }

    async fn save<R: Serialize>(&self, key: RowKey, record: &mut Versioned<R>) -> Result<(), DeleteListError> {
        let value = json(&record.record);
        let when = record.precondition();
        match self.table.put(&key, value.clone(), when).await {
            Ok(version) => {
                record.version = Some(version);
                Ok(())
            }
            // An earlier try that got no answer may have written it.
            Err(error) if error.kind == TableErrorKind::Conflict => match self.table.get(&key).await? {
                Some(row) if row.value == value => {
                    record.version = Some(row.version);
                    Ok(())
                }
                _ => Err(DeleteListError::Changed { sort: key.sort }),
            },
            Err(error) => Err(error.into()),
        }
    }
}

fn head_key(pair: &SpacePair, list: DeleteListId) -> RowKey {
    RowKey::new(pair_key(pair), format!("list/{list}/head"))
}

fn row_key(pair: &SpacePair, list: DeleteListId, number: u32) -> RowKey {
    RowKey::new(pair_key(pair), format!("list/{list}/row/{number:08}"))
}

fn result_key(pair: &SpacePair, list: DeleteListId, number: u32) -> RowKey {
    RowKey::new(pair_key(pair), format!("list/{list}/result/{number:08}"))
}

#[cfg(test)]
mod tests;
