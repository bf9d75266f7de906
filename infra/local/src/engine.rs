//! The local engine: all queues and tables of an installation in one database on this host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::QueueName;
use mill_ports::{BoxError, Clock, Engine, PollingProfile, Rng, Table, TaskQueue};

use crate::{Database, OpenError, OsClock, OsRng, RememberedDatabase, SqliteQueue, SqliteTable};

/// The local engine.
#[derive(Debug)]
pub struct LocalEngine {
    database: Arc<Database>,
    queues: BTreeMap<QueueName, Arc<dyn TaskQueue>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl LocalEngine {
    /// The database's file in the folder of the state.
    pub const DATABASE: &str = "mill.db";

    /// Opens the engine whose state is in `folder`. The state is made if nothing is remembered of it.
    ///
    /// # Errors
    /// The state is not the one that is remembered, is damaged, or cannot be used now.
    pub fn open(folder: &Path, remembered: &RememberedDatabase) -> Result<Self, OpenError> {
        let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(OsClock), Arc::new(OsRng));
        let path = folder.join(Self::DATABASE);
        let database = Database::open_remembered(&path, remembered, clock.clone(), rng.clone())?;
        Ok(Self::on(database, clock, rng))
    }

    /// Opens an engine whose state is a scratch copy of the state in `folder`, which is only read. Nothing that is written to
    /// it outlives this process.
    ///
    /// # Errors
    /// The state is not the one that is remembered, is damaged, or is being changed.
    pub fn scratch(folder: &Path, remembered: &RememberedDatabase) -> Result<Self, OpenError> {
        let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(OsClock), Arc::new(OsRng));
        let database = Database::scratch(&folder.join(Self::DATABASE), remembered, clock.clone(), rng.clone())?;
        Ok(Self::on(database, clock, rng))
    }

    fn on(database: Arc<Database>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let queue = |name| Arc::new(SqliteQueue::new(database.clone(), name)) as Arc<dyn TaskQueue>;
        let queues = QueueName::ALL.into_iter().map(|name| (name, queue(name))).collect();
        Self { database, queues, clock, rng }
    }

    /// The database, whose identity and damage whoever opened it watches.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

#[async_trait]
impl Engine for LocalEngine {
    fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue> {
        // All seven were put there by `on`.
        self.queues[&name].clone()
    }

    fn table(&self, name: &str) -> Arc<dyn Table> {
        Arc::new(SqliteTable::new(self.database.clone(), name))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn rng(&self) -> Arc<dyn Rng> {
        self.rng.clone()
    }

    fn polling(&self) -> PollingProfile {
        PollingProfile {
            linger: Duration::from_millis(2),
            recheck: Duration::ZERO,
            // A short run is not to be made long by waiting.
            look_every: Duration::from_millis(10),
            // A depth of the database is exact.
            looks_to_be_sure: 1,
            looks_where_counts_differ: 1,
            // The database wakes a receive when there is something; a run waits for it at its end.
            poll_wait: Duration::from_millis(50),
            full_poll: Duration::from_millis(50),
            full_poll_most: Duration::from_secs(1),
            session_pause_least: Duration::from_secs(2),
            session_pause_most: Duration::from_secs(10),
        }
    }

    fn is_shared_by_hosts(&self) -> bool {
        false
    }

    fn reports_depth_by_account(&self) -> bool {
        true
    }

    async fn purge_queues(&self) -> Result<(), BoxError> {
        self.database.purge_queues().await?;
        Ok(())
    }

    async fn make_delayed_due(&self) -> Result<(), BoxError> {
        self.database.make_delayed_due().await?;
        Ok(())
    }

    fn requests(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_of_nothing_is_believed_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        let polling = LocalEngine::open(folder.path(), &RememberedDatabase::Nothing).unwrap().polling();
        for (sent, ended) in [(500, 500), (500, 499), (500, 501), (0, 1), (1, 0)] {
            assert_eq!(polling.looks(sent, ended), 1, "{sent} {ended}");
        }
    }
}
