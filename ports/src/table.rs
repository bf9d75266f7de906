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

    /// The row under `key`, as of all writes that were answered before.
    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError>;

    /// Writes a row if `when` holds, durably before it answers, and gives the row's new version.
    ///
    /// # Errors
    /// [`TableErrorKind::Conflict`] when `when` does not hold; nothing was written then.
    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError>;

    /// Writes rows unconditionally, each whole, not all as one. Later entries of the same key win.
    ///
    /// # Errors
    /// An error means that any of them may be missing.
    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError>;

    /// Deletes a row if `when` holds. Deleting a row that is not there is done when `when` is `Always`.
    ///
    /// # Errors
    /// [`TableErrorKind::Conflict`] when `when` does not hold.
    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError>;

    /// Up to `limit` rows of a partition in order of their sort keys (at least one, if there is any).
    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError>;
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Rows of one partition can be read in order.
    pub partition: String,
    /// The place in that order.
    pub sort: String,
}

impl RowKey {
    /// From both parts.
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
    /// The mark of this state of the row.
    pub version: RowVersion,
}

/// A mark that each write of a row changes. A row deleted and written again never bears an old mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowVersion(pub Box<str>);

/// A condition on a row's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowPrecondition {
    /// None.
    Always,
    /// There is no such row.
    Absent,
    /// The row bears this mark.
    VersionIs(RowVersion),
}

/// A stretch of sort keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRange {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys after this one, itself left out.
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
    /// What sort of failure, as far as any caller acts on it.
    pub kind: TableErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The table.
    pub table: String,
    /// The back end's own words.
    #[source]
    pub source: Option<BoxError>,
}

/// The sorts of failure on which some caller acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableErrorKind {
    /// The condition did not hold.
    #[error("the row is not as expected")]
    Conflict,
    /// Asked too often.
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
