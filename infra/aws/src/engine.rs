//! The fleet engine: the queues of an installation in SQS, its tables in DynamoDB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::QueueName;
use mill_ports::{BoxError, Clock, Engine, PollingProfile, Rng, Table, TaskQueue};

use crate::connection::{Connection, ConnectionError, ConnectionSettings};
use crate::deployment::ResourceNames;
use crate::{DynamoTable, QueueSettings, ServiceClock, SqsQueue};

/// What the fleet engine is opened with.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// How the services are reached.
    pub access: ConnectionSettings,
    /// What its queues and tables are called.
    pub names: ResourceNames,
    /// The clock of this host.
    pub clock: Arc<dyn Clock>,
    /// The random numbers.
    pub rng: Arc<dyn Rng>,
}

/// The fleet engine.
#[derive(Debug)]
pub struct FleetEngine {
    connection: Connection,
    names: ResourceNames,
    queues: BTreeMap<QueueName, Arc<dyn TaskQueue>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl FleetEngine {
    /// Prepares the engine. It sends no request yet, except for those that the environment's credentials need.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn open(settings: FleetSettings) -> Result<Self, ConnectionError> {
        let FleetSettings { access, names, clock, rng } = settings;
        let connection = Connection::open(access.clone()).await?;
        // Producers run on many hosts: what all of them share is the service.
        let clock: Arc<dyn Clock> = Arc::new(ServiceClock::new(clock, &connection));
        // A heartbeat has a runtime of its own, and a connection is driven by one.
        let heartbeats = Connection::open(access).await?;
        let queue = |name: QueueName| {
            let settings = QueueSettings { name, queue: names.queue(name), fair: true };
            let queue = SqsQueue::new(&connection, settings, clock.clone()).with_extend_connection(&heartbeats);
            Arc::new(queue) as Arc<dyn TaskQueue>
        };
        let queues = QueueName::ALL.into_iter().map(|name| (name, queue(name))).collect();
        Ok(Self { connection, names, queues, clock, rng })
    }
}

#[async_trait]
impl Engine for FleetEngine {
    fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue> {
        // All seven were put there by `open`.
        self.queues[&name].clone()
    }

    fn table(&self, name: &str) -> Arc<dyn Table> {
        let table = self.names.table(name);
        Arc::new(DynamoTable::new(&self.connection, name, &table, self.clock.clone(), self.rng.clone()))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn rng(&self) -> Arc<dyn Rng> {
        self.rng.clone()
    }

    fn polling(&self) -> PollingProfile {
        POLLING
    }

    fn is_shared_by_hosts(&self) -> bool {
        true
    }

    fn reports_depth_by_account(&self) -> bool {
        false
    }

    /// SQS takes a minute to empty a queue, so nothing is emptied.
    async fn purge_queues(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// SQS cannot.
    async fn make_delayed_due(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn requests(&self) -> Vec<(String, u64)> {
        self.connection.requests().by_operation().into_iter().collect()
    }
}

const POLLING: PollingProfile = PollingProfile {
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
    session_pause_least: Duration::from_mins(1),
    session_pause_most: Duration::from_mins(5),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_of_nothing_is_believed_soon_only_where_all_that_was_sent_has_ended() {
        let soon = POLLING.looks(500, 500);
        for (sent, ended) in [(500, 499), (500, 501), (0, 1), (1, 0)] {
            let looks = POLLING.looks(sent, ended);
            assert!(looks > soon && POLLING.look_every * looks > Duration::from_mins(1), "{sent} {ended}");
        }
    }
}
