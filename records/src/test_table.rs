//! A table in memory, for the tests of this room's repositories.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use parking_lot::Mutex;

#[derive(Debug)]
pub(crate) struct TestTable {
    rows: Mutex<(BTreeMap<RowKey, Row>, u64)>,
    page_max: usize,
    yields: bool,
}

impl Default for TestTable {
    fn default() -> Self {
        Self::with_page_max(usize::MAX)
    }
}

impl TestTable {
    /// Returns at most `page_max` rows at once, whatever the caller's limit.
    pub(crate) fn with_page_max(page_max: usize) -> Self {
        Self { rows: Mutex::default(), page_max, yields: false }
    }

    /// Yields to other tasks between reading and returning.
    pub(crate) fn yielding() -> Self {
        Self { yields: true, ..Self::default() }
    }
}

fn holds(when: &RowPrecondition, row: Option<&Row>, op: &'static str) -> Result<(), TableError> {
    let holds = match when {
        RowPrecondition::Always => true,
        RowPrecondition::Absent => row.is_none(),
        RowPrecondition::VersionIs(version) => row.is_some_and(|row| row.version == *version),
    };
    let conflict = || TableError { kind: TableErrorKind::Conflict, op, table: "test".into(), source: None };
    if holds { Ok(()) } else { Err(conflict()) }
}

#[async_trait]
impl Table for TestTable {
    fn name(&self) -> &'static str {
        "test"
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let row = self.rows.lock().0.get(key).cloned();
        if self.yields {
            tokio::task::yield_now().await;
        }
        Ok(row)
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        let (rows, writes) = &mut *self.rows.lock();
        holds(&when, rows.get(key), "put")?;
        *writes += 1;
        let version = RowVersion(writes.to_string().into());
        rows.insert(key.clone(), Row { sort: key.sort.clone(), value, version: version.clone() });
        Ok(version)
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        for (key, value) in rows {
            self.put(key, value.clone(), RowPrecondition::Always).await?;
        }
        Ok(())
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let rows = &mut self.rows.lock().0;
        holds(&when, rows.get(key), "delete")?;
        rows.remove(key);
        Ok(())
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let rows = &self.rows.lock().0;
        let wanted = |sort: &str| sort.starts_with(&range.prefix) && range.after.as_deref().is_none_or(|a| sort > a);
        let mut found = rows.iter().filter(|(key, _)| key.partition == partition && wanted(&key.sort));
        let page: Vec<Row> = found.by_ref().take(limit.min(self.page_max)).map(|(_, row)| row.clone()).collect();
        Ok(RowPage { rows: page, end: found.next().is_none() })
    }
}
