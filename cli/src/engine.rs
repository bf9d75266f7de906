//! The local engine of one installation: its database, queues and books.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use mill_local::{Database, OsChance, OsClock, SqliteQueue, SqliteTable};
use mill_model::QueueName;
use mill_ports::{Chance, Clock, Table, TaskQueue};
use mill_workman::Queues;

/// Queues and books, and the time and chance that all rooms share.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) database: Arc<Database>,
    pub(crate) queues: Queues,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
}

impl Engine {
    /// Opens the engine whose state is in the folder `data`, which is made if need be.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(OsClock::default());
        let chance: Arc<dyn Chance> = Arc::new(OsChance);
        let path = data.join("mill.db");
        let database = Database::open(&path, clock.clone(), chance.clone())
            .with_context(|| format!("the engine's database `{}` cannot be opened", path.display()))?;
        let queues = QueueName::ALL
            .into_iter()
            .map(|name| (name, Arc::new(SqliteQueue::new(database.clone(), name)) as Arc<dyn TaskQueue>))
            .collect();
        Ok(Self { database, queues, clock, chance })
    }

    /// The book of that name.
    pub(crate) fn table(&self, book: &str) -> Arc<dyn Table> {
        Arc::new(SqliteTable::new(self.database.clone(), book))
    }

    /// One of the seven queues.
    pub(crate) fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue> {
        // All seven were put there by `open`.
        self.queues[&name].clone()
    }
}
