//! The tables: mill-engine's in memory, and each process's way to them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_engine::MemoryTable;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};

use super::event::Event;
use super::fault::Fault;
use super::line::Line;

/// A process's way to a table.
#[derive(Debug)]
pub(crate) struct Ledger {
    line: Arc<Line>,
    inner: Arc<MemoryTable>,
    /// Whether its writes are told as events.
    told: bool,
}

impl Ledger {
    pub(crate) fn new(line: &Arc<Line>, name: &'static str) -> Arc<Self> {
        let told = name != "seals";
        Arc::new(Self { line: line.clone(), inner: line.world.tables[name].clone(), told })
    }

    async fn call<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, TableError>> + Send,
    ) -> Result<T, TableError> {
        self.line.enter().await;
        let (world, by) = (&self.line.world, &self.line.name);
        let rates = &world.swarm.rates;
        if world.strikes(Fault::TableFailed, rates.table, by) {
            return Err(self.error(op));
        }
        if world.strikes(Fault::TableDoneButFailed, rates.table_done, by) {
            call.await?;
            self.line.leave().await;
            return Err(self.error(op));
        }
        let answer = call.await;
        self.line.leave().await;
        answer
    }

    /// Before a row is written or removed its writer may stand still for longer than any lease lasts.
    fn stand_still(&self) {
        let (world, by) = (&self.line.world, &self.line.name);
        if world.strikes(Fault::FrozenBeforeWrite, world.swarm.rates.frozen, by) {
            let long = world.swarm.visibility + world.dice.duration(Duration::from_secs(1), Duration::from_mins(5));
            self.line.freeze_until(world.now().plus(long));
        }
    }

    fn error(&self, op: &'static str) -> TableError {
        let kind = *self.line.world.dice.pick(&[
            TableErrorKind::Throttled,
            TableErrorKind::Unavailable,
            TableErrorKind::Unexpected,
        ]);
        let source = Some("the simulated world's doing".into());
        TableError { kind, op, table: self.inner.name().to_owned(), source }
    }

    fn tell(&self, key: &RowKey, value: Option<&[u8]>) {
        if self.told {
            let (by, table) = (&self.line.name, self.inner.name());
            self.line.world.see(&Event::Row { by, table, partition: &key.partition, sort: &key.sort, value });
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Table for Ledger {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        self.call("get", self.inner.get(key)).await
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        if key.sort == "lease" && self.line.is_starved() {
            self.line.enter().await;
            return Err(self.error("put"));
        }
        self.stand_still();
        let call = async {
            let version = self.inner.put(key, value.clone(), when).await?;
            self.tell(key, Some(&value));
            Ok(version)
        };
        self.call("put", call).await
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        let call = async {
            for (key, value) in rows {
                self.inner.put(key, value.clone(), RowPrecondition::Always).await?;
                self.tell(key, Some(value));
                // Each row is whole, not all as one: a process may die between two.
                self.line.step().await;
            }
            Ok(())
        };
        self.call("put_many", call).await
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        self.stand_still();
        let call = async {
            self.inner.delete(key, when).await?;
            self.tell(key, None);
            Ok(())
        };
        self.call("delete", call).await
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        self.call("query", self.inner.query(partition, range, limit)).await
    }
}
