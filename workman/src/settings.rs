//! The dependencies and settings of a workman, how it is stopped, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{QueueName, StoreAddress};
use mill_ports::{Clock, QueueError, Registry, Rng, Statistics, StoreCaps, TaskQueue};
use mill_records::account_counts::AccountCounts;
use mill_records::permits::PermitRepository;
use tokio_util::sync::CancellationToken;

/// Queues by name.
pub type Queues = BTreeMap<QueueName, Arc<dyn TaskQueue>>;

/// What a workman works with.
#[derive(Debug, Clone)]
pub struct WorkmanDeps {
    /// The queues it receives from, highest priority first; at least one.
    pub queues: Vec<Arc<dyn TaskQueue>>,
    /// The queues it may send to: for follow-ups, and for retries, which go to the queue they were first sent to.
    pub all_queues: Queues,
    /// Where it sends dead letters.
    pub dead_letter: Arc<dyn TaskQueue>,
    /// The kinds of task that it can execute.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers, for ids and jitter.
    pub chance: Arc<dyn Rng>,
    /// Where it counts failed and dead-lettered tasks; processors count the rest.
    pub statistics: Arc<Statistics>,
    /// How many tasks may use each store at once. Read for each task, so that a change by a person holds from then on.
    pub caps: Arc<dyn StoreCaps>,
    /// Where workmen agree on who uses how much of a cap; `None` where no other workman uses the same stores.
    pub permits: Option<PermitRepository>,
    /// Where it writes how many tasks of each account it received and ended; `None` where the queue itself reports how many
    /// tasks of an account it holds.
    pub counts: Option<AccountCounts>,
}

/// The settings of a workman.
#[derive(Debug, Clone)]
pub struct WorkmanSettings {
    /// The name of the workman, for histories of failures.
    pub name: String,
    /// Most attempts at once; at least one.
    pub workers: u32,
    /// How long a delivery is hidden, and by how much it is extended; less where a queue allows less.
    pub visibility: Duration,
    /// How many executions may fail before a task is dead-lettered; at least one.
    pub failures_max: u32,
    /// The delay after the first, second… failure; the last one also for all further. Empty for none.
    pub retry_delays: Vec<Duration>,
    /// How long the lower queues are left alone after all queues were empty once, twice…; the last one also for all further
    /// times. Empty for not at all. The highest queue is always listened to.
    pub idle_backoff: Vec<Duration>,
    /// How long one receive waits for the first task of the highest queue when all queues are empty.
    pub poll_wait: Duration,
    /// How long settled deliveries and free slots wait for more, so that requests come in full batches.
    pub batch_linger: Duration,
    /// How long a higher queue that was empty is not polled again while a lower one has tasks. Zero where a request costs
    /// nothing.
    pub recheck: Duration,
    /// The share of the workers (0 to 1) that the higher queues leave to the lowest.
    pub reserved_low: f32,
    /// The share of the workers (0 to 1) that the lowest queue leaves to the higher, so that a task there need not wait for
    /// a long one to end; at least one of four workers or more, unless the share is zero. Without meaning for a single queue.
    /// Slots that both shares claim belong to the lowest queue, and one slot is in neither share.
    pub reserved_high: f32,
    /// What follows when a task is dead-lettered.
    pub on_final_failure: OnFinalFailure,
    /// What follows when a store cannot be used.
    pub on_unavailable: OnUnavailable,
    /// How long a gentle stop waits for attempts to end before it gives them back.
    pub grace: Duration,
}

/// What follows when a task is dead-lettered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFinalFailure {
    /// The other tasks go on.
    Drain,
    /// The workman stops gently.
    FailFast,
}

/// What follows when a store cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Its tasks are snoozed until it answers.
    Wait,
    /// The workman stops gently.
    Stop,
}

/// Stops a workman.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Receive nothing more; finish the begun tasks, or give them back after the grace period.
    pub gentle: CancellationToken,
    /// Give everything back now.
    pub immediate: CancellationToken,
}

/// Why a workman ended without an error of its own. All its deliveries are settled or given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkmanEndReason {
    /// It was stopped.
    Stopped,
    /// A task was dead-lettered, and the setting is [`OnFinalFailure::FailFast`].
    FailedFast {
        /// What the task was about.
        subject: String,
        /// Why it was dead-lettered.
        reason: String,
    },
    /// A store cannot be used, and the setting is [`OnUnavailable::Stop`].
    StoreUnavailable {
        /// The store.
        store: StoreAddress,
        /// The reason.
        reason: String,
    },
}

/// Why a workman could not go on. All its deliveries are settled or given back, as far as the queues answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkmanError {
    /// A queue is missing or not permitted: a person must act.
    #[error("no tasks can be taken from the queue `{queue}`")]
    Queue {
        /// The queue.
        queue: QueueName,
        /// The reason.
        #[source]
        source: QueueError,
    },
    /// A processor reports that no task can be run here.
    #[error("no task can be run here; `{subject}` was given back: {reason}")]
    Fatal {
        /// What the task was about.
        subject: String,
        /// What the processor said.
        reason: String,
    },
    /// There is no queue to receive from.
    #[error("a workman needs at least one queue")]
    NoQueue,
}
