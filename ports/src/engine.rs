//! The engine: the back end of an installation's queues and tables.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::QueueName;

use crate::{BoxError, Clock, Rng, Table, TaskQueue};

/// The opened queues and tables of one installation, and the clock and random numbers that all rooms share.
///
/// Each engine's crate in `infra` has an `open` that returns one. The code that opens an installation chooses an engine
/// by name.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// One of the seven queues. Each call returns the same queue.
    fn queue(&self, name: QueueName) -> Arc<dyn TaskQueue>;

    /// The table of that name. `name` lacks the prefix that a deployment adds to names.
    fn table(&self, name: &str) -> Arc<dyn Table>;

    /// The clock.
    fn clock(&self) -> Arc<dyn Clock>;

    /// The random numbers.
    fn rng(&self) -> Arc<dyn Rng>;

    /// How often its queues are polled.
    fn polling(&self) -> PollingProfile;

    /// Whether processes on other hosts use the same queues and tables. If so, what is true of this host alone is
    /// stored elsewhere.
    fn is_shared_by_hosts(&self) -> bool;

    /// Whether its queues report their depth per account. If not, workmen count in a table.
    fn reports_depth_by_account(&self) -> bool;

    /// Empties all queues if the engine can do that at once; else does nothing.
    ///
    /// # Errors
    /// No task was deleted.
    async fn purge_queues(&self) -> Result<(), BoxError>;

    /// Makes snoozed tasks visible now if the engine can do that; else does nothing.
    ///
    /// # Errors
    /// No task was made visible.
    async fn make_delayed_due(&self) -> Result<(), BoxError>;

    /// The number of requests sent to services so far, by operation; empty if requests cost nothing.
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

/// How often an engine's queues are polled: often where a request is almost free, rarely where each is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollingProfile {
    /// How long free slots and settled deliveries wait for others so that they share a request.
    pub linger: Duration,
    /// How long an empty queue of higher priority is not polled while a lower one has work.
    pub recheck: Duration,
    /// The pause between two checks whether a run has ended (for runs that end by themselves).
    pub look_every: Duration,
    /// How many checks in a row must find the queues empty when as many tasks ended as were sent. A fleet's queues
    /// report their depth late and inexactly.
    pub looks_to_be_sure: u32,
    /// How many checks in a row must find the queues empty when the two numbers differ.
    pub looks_where_counts_differ: u32,
    /// How long one receive of such a run waits.
    pub poll_wait: Duration,
    /// The shortest pause before a producer checks a full queue again.
    pub full_poll: Duration,
    /// The longest of these pauses, for a producer that keeps running.
    pub full_poll_most: Duration,
    /// The shortest pause between two sessions of a producer that keeps running.
    pub session_pause_least: Duration,
    /// The longest of these pauses. A session without work makes about ten requests of a fleet's tables.
    pub session_pause_most: Duration,
}

impl PollingProfile {
    /// How many checks in a row must find the queues empty, for a run with these counts of sent and ended tasks. Other
    /// processes may have run some tasks, earlier runs may have left some, and the depth may be wrong: only equal
    /// counts show that nothing is left.
    pub fn looks(&self, sent: u64, ended: u64) -> u32 {
        if sent == ended { self.looks_to_be_sure } else { self.looks_where_counts_differ }
    }
}
