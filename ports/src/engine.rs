//! The engine: what an installation's queues and tables stand on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::QueueName;

use crate::{BoxError, Clock, Rng, Table, TaskQueue};

/// The queues and tables of one installation, opened, and the time and random numbers that all rooms share.
///
/// A crate of `infra` has one `open` that returns such an engine; whoever opens an installation chooses among them by name.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// One of the seven queues. Each call returns the same queue.
    fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue>;

    /// The table of that name, without what a deployment puts before names.
    fn table(&self, name: &str) -> Arc<dyn Table>;

    /// The time.
    fn clock(&self) -> Arc<dyn Clock>;

    /// The random numbers.
    fn rng(&self) -> Arc<dyn Rng>;

    /// How often its queues are asked.
    fn polling(&self) -> PollingProfile;

    /// Whether processes on other hosts use the same queues and tables. What only this host can know is then kept elsewhere.
    fn is_shared_by_hosts(&self) -> bool;

    /// Whether its queues report how many tasks of an account they hold. Where they do not, workmen count in a table.
    fn reports_depth_by_account(&self) -> bool;

    /// Empties all queues, where that can be done at once; else does nothing.
    ///
    /// # Errors
    /// No task was deleted.
    async fn purge_queues(&self) -> Result<(), BoxError>;

    /// Makes snoozed tasks ready now, where that can be done; else does nothing.
    ///
    /// # Errors
    /// No task was made ready.
    async fn make_delayed_due(&self) -> Result<(), BoxError>;

    /// How many requests were sent to services so far, by operation; empty where none costs.
    fn requests(&self) -> Vec<(String, u64)>;
}

/// Conveniences over [`Engine`].
pub trait EngineExt: Engine {
    /// All seven queues, by name.
    fn queues(&self) -> BTreeMap<QueueName, Arc<dyn TaskQueue>> {
        QueueName::ALL.into_iter().map(|name| (name, self.queue(name))).collect()
    }
}

impl<E: Engine + ?Sized> EngineExt for E {}

/// How often the queues of an engine are asked: often where a request costs next to nothing, rarely where each is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollingProfile {
    /// How long free slots and settled deliveries wait for others, to share a request.
    pub linger: Duration,
    /// A higher queue that was empty is not asked again for so long, while there is work in a lower.
    pub recheck: Duration,
    /// The pause between two looks for the end of a run that ends by itself.
    pub look_every: Duration,
    /// How many looks in a row must find the queues empty where a run sent as many tasks as ended. A fleet's queues report
    /// their depth late and roughly.
    pub looks_to_be_sure: u32,
    /// How many looks in a row must find the queues empty where the two numbers differ.
    pub looks_where_counts_differ: u32,
    /// How long one receive of such a run waits.
    pub poll_wait: Duration,
    /// The pause between two looks of a producer at a queue that is full.
    pub full_poll: Duration,
    /// The longest of these pauses, where the producer stays.
    pub full_poll_most: Duration,
    /// The shortest pause between two sessions of a producer that stays.
    pub session_pause_least: Duration,
    /// The longest of these pauses. A session without work makes about ten requests of a fleet's tables.
    pub session_pause_most: Duration,
}

impl PollingProfile {
    /// How many looks in a row must find the queues empty, where a run sent and ended so many tasks. Others may have taken
    /// some, some may be left of earlier runs, and the depth may be wrong: only equal counts say that nothing is left.
    pub fn looks(&self, sent: u64, ended: u64) -> u32 {
        if sent == ended { self.looks_to_be_sure } else { self.looks_where_counts_differ }
    }
}
