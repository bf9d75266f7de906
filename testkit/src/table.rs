//! A table in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use parking_lot::Mutex;

/// Rows in order, lost with the process.
#[derive(Debug)]
pub struct MemoryTable {
    name: String,
    page_rows_max: usize,
    rows: Mutex<MemoryRows>,
}

#[derive(Debug, Default)]
struct MemoryRows {
    partitions: BTreeMap<String, BTreeMap<String, StoredRow>>,
    /// Only grows, so a row that is deleted and written again has a new version.
    writes: u64,
}

#[derive(Debug, Clone)]
struct StoredRow {
    value: Bytes,
    write: u64,
}

impl StoredRow {
    fn version(&self) -> RowVersion {
        RowVersion(self.write.to_string().into())
    }
}

impl MemoryTable {
    /// The largest value, in bytes. Source: Amazon DynamoDB, *Quotas* (400 KB for an item, its keys included).
    pub const VALUE_BYTES_MAX: usize = 390 << 10;

    /// An empty table. Its pages are short now and then, as the contract allows.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_pages_of(name, 100)
    }

    /// An empty table whose pages have at most `page_rows_max` rows, whatever the requested limit.
    pub fn with_pages_of(name: impl Into<String>, page_rows_max: usize) -> Self {
        Self { name: name.into(), page_rows_max: page_rows_max.max(1), rows: Mutex::default() }
    }

    /// All rows, in order: for a test's checker.
    pub fn rows(&self) -> Vec<(RowKey, Bytes)> {
        let rows = self.rows.lock();
        let of = |(partition, sorted): (&String, &BTreeMap<String, StoredRow>)| {
            let partition = partition.clone();
            let row = move |(sort, stored): (&String, &StoredRow)| {
                (RowKey::new(partition.clone(), sort.clone()), stored.value.clone())
            };
            sorted.iter().map(row).collect::<Vec<_>>()
        };
        rows.partitions.iter().flat_map(of).collect()
    }

    fn error(&self, op: &'static str, kind: TableErrorKind) -> TableError {
        TableError { kind, op, table: self.name.clone(), source: None }
    }

    fn check(&self, op: &'static str, value: &Bytes) -> Result<(), TableError> {
        if value.len() > Self::VALUE_BYTES_MAX {
            return Err(self.error(op, TableErrorKind::TooLarge));
        }
        Ok(())
    }
}

impl MemoryRows {
    fn get(&self, key: &RowKey) -> Option<&StoredRow> {
        self.partitions.get(&key.partition)?.get(&key.sort)
    }

    fn admits(&self, key: &RowKey, when: &RowPrecondition) -> bool {
        match when {
            RowPrecondition::Always => true,
            RowPrecondition::Absent => self.get(key).is_none(),
            RowPrecondition::VersionIs(version) => self.get(key).is_some_and(|stored| stored.version() == *version),
        }
    }

    fn put(&mut self, key: &RowKey, value: Bytes) -> RowVersion {
        self.writes += 1;
        let stored = StoredRow { value, write: self.writes };
        let version = stored.version();
        self.partitions.entry(key.partition.clone()).or_default().insert(key.sort.clone(), stored);
        version
    }
}

#[async_trait]
impl Table for MemoryTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let rows = self.rows.lock();
        Ok(rows.get(key).map(|stored| row(&key.sort, stored)))
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.check("put", &value)?;
        let mut rows = self.rows.lock();
        if !rows.admits(key, &when) {
            return Err(self.error("put", TableErrorKind::Conflict));
        }
        Ok(rows.put(key, value))
    }

    async fn put_many(&self, many: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        let mut rows = self.rows.lock();
        for (key, value) in many {
            self.check("put_many", value)?;
            rows.put(key, value.clone());
        }
        Ok(())
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let mut rows = self.rows.lock();
        if !rows.admits(key, &when) {
            return Err(self.error("delete", TableErrorKind::Conflict));
        }
        if let Some(sorted) = rows.partitions.get_mut(&key.partition) {
            sorted.remove(&key.sort);
            if sorted.is_empty() {
                rows.partitions.remove(&key.partition);
            }
        }
        Ok(())
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let rows = self.rows.lock();
        let Some(sorted) = rows.partitions.get(partition) else {
            return Ok(RowPage { rows: Vec::new(), end: true });
        };
        let from = match &range.after {
            Some(after) if *after >= range.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(range.prefix.as_str()),
        };
        let mut found = sorted
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(sort, _)| sort.starts_with(&range.prefix))
            .map(|(sort, stored)| row(sort, stored));
        let page: Vec<Row> = found.by_ref().take(limit.clamp(1, self.page_rows_max)).collect();
        Ok(RowPage { rows: page, end: found.next().is_none() })
    }
}

fn row(sort: &str, stored: &StoredRow) -> Row {
    Row { sort: sort.to_owned(), value: stored.value.clone(), version: stored.version() }
}
