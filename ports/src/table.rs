//! Rows of a table: small values under a partition and a sort key.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::BoxError;

/// The rows of one table. Within a partition they are ordered by the bytes of their sort keys.
///
/// There are no counters, scans over partitions or secondary indexes: not every back end has them at every size.
#[async_trait]
pub trait Table: fmt::Debug + Send + Sync + 'static {
    /// The table's name.
    fn name(&self) -> &str;

    /// The row under `key`. Sees every write that returned before.
    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError>;

    /// Writes a row if `when` holds, and returns the row's new version; the row is durable when this returns.
    ///
    /// # Errors
    /// [`TableErrorKind::Conflict`] when `when` does not hold; then nothing was written.
    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError>;

    /// Writes rows unconditionally. Each row is written whole, but not all of them as one. Later entries of the same
    /// key win.
    ///
    /// # Errors
    /// After an error any of them may be missing.
    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError>;

    /// Deletes a row if `when` holds. Deleting an absent row succeeds if `when` is `Always`.
    ///
    /// # Errors
    /// [`TableErrorKind::Conflict`] when `when` does not hold.
    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError>;

    /// Up to `limit` rows of a partition, in order of their sort keys (at least one, if there is any).
    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError>;
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Rows of one partition can be read in order.
    pub partition: String,
    /// The row's place in that order.
    pub sort: String,
}

impl RowKey {
    /// Makes a key of both parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

/// A row as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The sort key; the partition is the one asked for.
    pub sort: String,
    /// What was written.
    pub value: Bytes,
    /// The version of the row in this state.
    pub version: RowVersion,
}

/// A version that each write of a row changes. A row that is deleted and written again never gets an old version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowVersion(pub Box<str>);

/// A condition on a row's current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowPrecondition {
    /// None.
    Always,
    /// There is no such row.
    Absent,
    /// The row has this version.
    VersionIs(RowVersion),
}

/// A range of sort keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRange {
    /// Only keys with this prefix.
    pub prefix: String,
    /// Only keys after this one, which is excluded.
    pub after: Option<String>,
}

/// Rows in order, and whether there are more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowPage {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether this page reaches the end of the range.
    pub end: bool,
}

/// A call on a table that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} on table `{table}` failed: {kind}")]
pub struct TableError {
    /// The kind of failure, as far as any caller acts on it.
    pub kind: TableErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The table.
    pub table: String,
    /// The back end's own error.
    #[source]
    pub source: Option<BoxError>,
}

/// The kinds of failure on which some caller acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableErrorKind {
    /// The condition did not hold.
    #[error("the row is not as expected")]
    Conflict,
    /// Too many requests.
    #[error("throttled")]
    Throttled,
    /// The value is larger than the back end takes.
    #[error("the row is too large")]
    TooLarge,
    /// Not permitted.
    #[error("access denied")]
    Denied,
    /// No answer, or the back end cannot work now.
    #[error("unavailable")]
    Unavailable,
    /// Anything else.
    #[error("unexpected answer")]
    Unexpected,
}

impl TableErrorKind {
    /// Whether the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::Unexpected => true,
            Self::Conflict | Self::TooLarge | Self::Denied => false,
        }
    }
}
