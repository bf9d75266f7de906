//! The tables: in-memory tables, and each process's client of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_hooks::{PlantedBug, is_planted};
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use mill_records::delete_lists::DeleteLists;
use mill_testkit::MemoryTable;
use parking_lot::Mutex;

use super::event::Event;
use super::fault::SimFault;
use super::planted_calls;
use super::sim_process::SimProcess;

/// A process's client of a table.
#[derive(Debug)]
pub(crate) struct TableClient {
    process: Arc<SimProcess>,
    inner: Arc<MemoryTable>,
    /// Whether its writes are recorded as events.
    reports_writes: bool,
    /// The row of a delete list that a bug on purpose holds back until the next write.
    held_back: Mutex<Option<(RowKey, Bytes)>>,
}

impl TableClient {
    pub(crate) fn new(process: &Arc<SimProcess>, name: &'static str) -> Arc<Self> {
        let reports_writes = name != "seals";
        Arc::new(Self {
            process: process.clone(),
            inner: process.world.tables[name].clone(),
            reports_writes,
            held_back: Mutex::default(),
        })
    }

    async fn call<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, TableError>> + Send,
    ) -> Result<T, TableError> {
        self.process.enter().await;
        let (world, by) = (&self.process.world, &self.process.name);
        let rates = &world.swarm.rates;
        if world.inject(SimFault::TableFailed, rates.table, by) {
            return Err(self.error(op));
        }
        if world.inject(SimFault::TableDoneButFailed, rates.table_done, by) {
            call.await?;
            self.process.leave().await;
            return Err(self.error(op));
        }
        let answer = call.await;
        self.process.leave().await;
        answer
    }

    /// May freeze the process before a write, for longer than any lease lasts.
    fn stand_still(&self) {
        let (world, by) = (&self.process.world, &self.process.name);
        if world.inject(SimFault::FrozenBeforeWrite, world.swarm.rates.frozen, by) {
            let long = world.swarm.visibility + world.rng.duration(Duration::from_secs(1), Duration::from_mins(5));
            self.process.freeze_until(world.now().plus(long));
        }
    }

    async fn put_now(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.stand_still();
        let call = async {
            self.needs_room("put")?;
            let version = self.inner.put(key, value.clone(), when).await?;
            self.report_write(key, Some(&value));
            Ok(version)
        };
        self.call("put", call).await
    }

    /// Writes a row of a delete list only after the next one, or after the head.
    async fn put_rows_late(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        let is_row = key.sort.contains("/row/");
        let next = is_row.then(|| (key.clone(), value.clone()));
        let version = if is_row { RowVersion("held back".into()) } else { self.put_now(key, value, when).await? };
        let before = std::mem::replace(&mut *self.held_back.lock(), next);
        if let Some((key, value)) = before {
            self.put_now(&key, value, RowPrecondition::Always).await?;
        }
        Ok(version)
    }

    /// Whether the row is of a delete list.
    fn is_list(&self, key: &RowKey) -> bool {
        self.inner.name() == DeleteLists::TABLE && key.sort.starts_with("list/")
    }

    /// Fails if the disk of the process's own state is full.
    fn needs_room(&self, op: &'static str) -> Result<(), TableError> {
        if !self.process.write_fails() {
            return Ok(());
        }
        let source = Some("the disk is full".into());
        Err(TableError { kind: TableErrorKind::Unavailable, op, table: self.inner.name().to_owned(), source })
    }

    fn error(&self, op: &'static str) -> TableError {
        let kind = *self.process.world.rng.pick(&[
            TableErrorKind::Throttled,
            TableErrorKind::Unavailable,
            TableErrorKind::Unexpected,
        ]);
        let source = Some("the simulated world's doing".into());
        TableError { kind, op, table: self.inner.name().to_owned(), source }
    }

    fn report_write(&self, key: &RowKey, value: Option<&[u8]>) {
        if self.reports_writes {
            let (by, table) = (&self.process.name, self.inner.name());
            self.process.world.see(&Event::Row { by, table, partition: &key.partition, sort: &key.sort, value });
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Table for TableClient {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let mut row = self.call("get", self.inner.get(key)).await?;
        if self.is_list(key) && self.process.name.starts_with("workman") && is_planted(PlantedBug::UngrantedListDeletes)
        {
            row = row.map(|row| Row { value: planted_calls::read_as_granted(row.value), ..row });
        }
        Ok(row)
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        if key.sort == "lease" && self.process.is_starved() {
            self.process.enter().await;
            return Err(self.error("put"));
        }
        if self.is_list(key) && is_planted(PlantedBug::MissingSpaceRetiredAtOnce) {
            return self.put_now(key, planted_calls::grant_missing_space(value), when).await;
        }
        if self.is_list(key) && is_planted(PlantedBug::HeadBeforeRow) {
            return self.put_rows_late(key, value, when).await;
        }
        let written = self.put_now(key, value, when).await;
        if planted_calls::sends_late(&self.process) && planted_calls::marks_sent(self.inner.name(), key) {
            planted_calls::send_late(&self.process, written.is_ok()).await;
        }
        written
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        let call = async {
            self.needs_room("put_many")?;
            for (key, value) in rows {
                self.inner.put(key, value.clone(), RowPrecondition::Always).await?;
                self.report_write(key, Some(value));
                // Each row is written atomically, but not all together: a process may die between two rows.
                self.process.step().await;
            }
            Ok(())
        };
        self.call("put_many", call).await
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        self.stand_still();
        let call = async {
            self.needs_room("delete")?;
            self.inner.delete(key, when).await?;
            self.report_write(key, None);
            Ok(())
        };
        self.call("delete", call).await
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        self.call("query", self.inner.query(partition, range, limit)).await
    }
}
