//! The engine of one installation: its queues and tables, on this host or in a fleet.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mill_local::{Database, Identity, OsClock, OsRng, RememberedDatabase, SqliteQueue, SqliteTable};
use mill_model::QueueName;
use mill_ports::{Clock, Rng, Table, TaskQueue};
use mill_producer::SessionPauses;
use mill_workman::Queues;

use crate::aws::{self, AwsEngine};
use crate::config::Config;
use crate::local_state;
use crate::wait_limit::WaitLimit;

/// The database's file in the folder of the state.
pub const DATABASE: &str = "mill.db";

/// Queues and tables, and the time and chance that all rooms share.
#[derive(Debug, Clone)]
pub struct Engine {
    /// What queues and tables stand on.
    pub backing: Backing,
    /// All seven queues.
    pub queues: Queues,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The chance.
    pub chance: Arc<dyn Rng>,
    /// How often its queues are asked.
    pub polling: PollingProfile,
}

/// What queues and tables stand on.
#[derive(Debug, Clone)]
pub enum Backing {
    /// SQLite, on this host.
    Local(Arc<Database>),
    /// SQS and DynamoDB, or what speaks as they do.
    #[cfg_attr(not(feature = "aws"), allow(dead_code))]
    Aws(Box<AwsEngine>),
}

/// How often queues are asked: next to nothing here, a request there.
#[derive(Debug, Clone, Copy)]
pub struct PollingProfile {
    /// What free slots and settled deliveries wait for company.
    pub linger: Duration,
    /// A higher queue that was empty is not asked again for so long, while there is work in a lower.
    pub recheck: Duration,
    /// Between two looks for the end of a run that ends by itself.
    pub look_every: Duration,
    /// How many looks in a row must find the queues empty: those of a fleet tell their depth late and roughly.
    looks_to_be_sure: u32,
    /// How many, where not just the tasks that this run sent have ended in its own hands.
    looks_where_counts_differ: u32,
    /// How long one receive of such a run waits.
    pub poll_wait: Duration,
    /// Between two looks of a producer at a queue that is full.
    pub full_poll: Duration,
    /// The longest of these pauses, where the producer stays.
    pub full_poll_most: Duration,
    /// Between two sessions of a producer that stays. One without work makes about ten requests of a fleet's tables.
    pub stay: SessionPauses,
}

impl PollingProfile {
    /// How many looks in a row must find the queues empty, where a run sent and ended so many tasks. Others may have taken
    /// some, some may be left of earlier runs, and the depth may be wrong: only equal counts say that nothing is left.
    pub fn looks(&self, sent: u64, ended: u64) -> u32 {
        if sent == ended { self.looks_to_be_sure } else { self.looks_where_counts_differ }
    }

    const LOCAL: Self = Self {
        linger: Duration::from_millis(2),
        recheck: Duration::ZERO,
        // A short run is not to be made long by waiting.
        look_every: Duration::from_millis(10),
        looks_to_be_sure: 1,
        looks_where_counts_differ: 1,
        // The engine wakes a receive when there is something; at the end it is waited for.
        poll_wait: Duration::from_millis(50),
        full_poll: Duration::from_millis(50),
        full_poll_most: Duration::from_secs(1),
        stay: SessionPauses { least: Duration::from_secs(2), most: Duration::from_secs(10) },
    };
    /// That of a fleet, where a request costs.
    #[cfg_attr(not(feature = "aws"), allow(dead_code))]
    pub const FLEET: Self = Self {
        // A tenth of a second fills batches of ten from a hundred tasks a second on; a lease lasts hundreds of times longer.
        linger: Duration::from_millis(100),
        recheck: Duration::from_secs(1),
        look_every: Duration::from_secs(1),
        looks_to_be_sure: 3,
        // SQS says that a depth is right a minute after the last message was sent.
        looks_where_counts_differ: 70,
        poll_wait: Duration::from_secs(2),
        full_poll: Duration::from_secs(5),
        // What the queue holds lasts for two minutes.
        full_poll_most: Duration::from_secs(30),
        stay: SessionPauses { least: Duration::from_mins(1), most: Duration::from_mins(5) },
    };
}

impl Engine {
    /// The engine that a configuration describes, for a process that `works` or for one that only looks.
    pub async fn configured(config: &Config, works: bool, wait_limit: &WaitLimit) -> Result<Self> {
        match config.text("engine.type") {
            "local" => local_state::open(config, wait_limit).await,
            "aws" => aws::open_engine(config, works).await,
            kind => bail!("setting `engine.type` = \"{kind}\": the engines are `local` and `aws`"),
        }
    }

    /// Opens the local engine whose state is in the folder `data`, made if nothing is remembered of it. `way_out` is for a
    /// person to whom it is said that the state is gone or damaged. What is to be remembered of it from now on is the
    /// caller's to keep.
    pub fn open(data: &Path, remembered: &RememberedDatabase, way_out: String) -> Result<(Self, Identity)> {
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let chance: Arc<dyn Rng> = Arc::new(OsRng);
        let path = data.join(DATABASE);
        let database =
            Database::open_remembered(&path, remembered, clock.clone(), chance.clone()).map_err(|error| {
                let advice = if error.is_about_the_state() { format!("; {way_out}") } else { String::new() };
                anyhow::anyhow!("{}{advice}", mill_ports::error_chain(&error))
                    .context("the state of mill cannot be used")
            })?;
        let identity = database.identity().get();
        local_state::watch(&database, way_out);
        let queues = QueueName::ALL
            .into_iter()
            .map(|name| (name, Arc::new(SqliteQueue::new(database.clone(), name)) as Arc<dyn TaskQueue>))
            .collect();
        Ok((
            Self { backing: Backing::Local(database), queues, clock, chance, polling: PollingProfile::LOCAL },
            identity,
        ))
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Arc<dyn Table> {
        match &self.backing {
            Backing::Local(database) => Arc::new(SqliteTable::new(database.clone(), name)),
            Backing::Aws(fleet) => fleet.table(name),
        }
    }

    /// One of the seven queues.
    pub fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue> {
        // All seven were put there by `open`.
        self.queues[&name].clone()
    }

    /// Empties all queues, where that can be done at once.
    pub async fn purge_queues(&self) -> Result<()> {
        if let Backing::Local(database) = &self.backing {
            database.purge_queues().await.context("the queue of the last run cannot be emptied")?;
        }
        Ok(())
    }

    /// Makes snoozed tasks ready now, where that can be done.
    pub async fn make_delayed_due(&self) -> Result<()> {
        if let Backing::Local(database) = &self.backing {
            database.make_delayed_due().await.context("the tasks that were put off cannot be hastened")?;
        }
        Ok(())
    }

    /// Says in the log what was asked of the services, where that costs.
    pub fn log_requests(&self) {
        if let Backing::Aws(fleet) = &self.backing {
            let asked: Vec<String> =
                fleet.requests().into_iter().map(|(operation, count)| format!("{operation} {count}")).collect();
            tracing::info!(requests = asked.join(", "), "asked of the services");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_of_nothing_is_believed_soon_only_where_all_that_was_sent_has_ended() {
        let soon = PollingProfile::FLEET.looks(500, 500);
        for (sent, ended) in [(500, 499), (500, 501), (0, 1), (1, 0)] {
            let looks = PollingProfile::FLEET.looks(sent, ended);
            assert!(
                looks > soon && PollingProfile::FLEET.look_every * looks > Duration::from_mins(1),
                "{sent} {ended}"
            );
            assert_eq!(PollingProfile::LOCAL.looks(sent, ended), 1, "a local depth is right");
        }
    }
}
