//! What a workman is given, how it is stopped, and how it ends.

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
    /// The queues it takes tasks from, highest priority first; at least one.
    pub queues: Vec<Arc<dyn TaskQueue>>,
    /// The queues it may send to: for follow-ups, and for retries that go back to where they were first sent.
    pub all_queues: Queues,
    /// Where it puts what it gives up.
    pub dead_letter: Arc<dyn TaskQueue>,
    /// What it can do.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for ids and jitter.
    pub chance: Arc<dyn Rng>,
    /// Where it counts failed and dead-lettered; the rest is counted by processors.
    pub statistics: Arc<Statistics>,
    /// How many tasks may use each store at once. Asked for each task, so what people change holds from then on.
    pub caps: Arc<dyn StoreCaps>,
    /// Where workmen agree on who of them uses how much of a cap; `None` where no other uses the same stores.
    pub permits: Option<PermitRepository>,
    /// Where it writes down how many tasks of each account it received and ended; `None` where the queue itself can tell how
    /// many of an account it holds.
    pub counts: Option<AccountCounts>,
}

/// How a workman works.
#[derive(Debug, Clone)]
pub struct WorkmanSettings {
    /// Its name, for histories of failures.
    pub name: String,
    /// Most attempts at once; at least one.
    pub workers: u32,
    /// How long a delivery is hidden, and by how much it is extended. A queue that allows less gets less.
    pub visibility: Duration,
    /// How many executions may fail before a task is dead-lettered; at least one.
    pub failures_max: u32,
    /// The delay after the first, second… failure; the last one also for all further. Empty for none.
    pub retry_delays: Vec<Duration>,
    /// How long the lower queues are left alone after nothing was found anywhere once, twice…; the last one also for
    /// all further. Empty for not at all. The highest queue is always listened to.
    pub idle_backoff: Vec<Duration>,
    /// How long one receive waits for the first task of the highest queue when nothing is found anywhere.
    pub poll_wait: Duration,
    /// What settled deliveries and free slots wait for company, so that requests come in full batches.
    pub batch_linger: Duration,
    /// A higher queue that was found empty is not asked again for so long, while a lower one gives tasks. Zero where a
    /// request costs nothing.
    pub recheck: Duration,
    /// The share of the workers (0 to 1) that the higher queues leave to the lowest.
    pub reserved_low: f32,
    /// The share of the workers (0 to 1) that the lowest queue leaves to the higher, so that a task there need not wait for
    /// a long one to end; at least one of four workers or more, unless it is zero. Without meaning for a single queue.
    /// Of slots that both shares claim it has none, and one is left to any.
    pub reserved_high: f32,
    /// What follows when a task is given up.
    pub on_final_failure: OnFinalFailure,
    /// What follows when a store cannot be used.
    pub on_unavailable: OnUnavailable,
    /// How long a gentle stop waits for attempts to end before it gives them back.
    pub grace: Duration,
}

/// What follows when a task is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFinalFailure {
    /// The others go on.
    Drain,
    /// The workman stops gently.
    FailFast,
}

/// What follows when a store cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Its tasks are put off until it answers.
    Wait,
    /// The workman stops gently.
    Stop,
}

/// How a workman is told to stop.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    /// Take nothing more; finish what was begun, or give it back after the grace period.
    pub gentle: CancellationToken,
    /// Give everything back now.
    pub immediate: CancellationToken,
}

/// Why a workman ended without an error of its own. All its deliveries are settled or given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkmanEndReason {
    /// It was told to.
    Stopped,
    /// A task was given up, and the setting is [`OnFinalFailure::FailFast`].
    FailedFast {
        /// What the task was about.
        subject: String,
        /// Why it was given up.
        reason: String,
    },
    /// A store cannot be used, and the setting is [`OnUnavailable::Stop`].
    StoreUnavailable {
        /// The store.
        store: StoreAddress,
        /// What it answered.
        reason: String,
    },
}

/// Why a workman could not go on. All its deliveries are settled or given back, as far as the queues answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkmanError {
    /// A queue that a person must look after: missing, or not permitted.
    #[error("no tasks can be taken from the queue `{queue}`")]
    Queue {
        /// The queue.
        queue: QueueName,
        /// What it answered.
        #[source]
        source: QueueError,
    },
    /// A processor says that no task can be run here.
    #[error("no task can be run here; `{subject}` was given back: {reason}")]
    Fatal {
        /// What the task was about.
        subject: String,
        /// What the processor said.
        reason: String,
    },
    /// There is nothing to take tasks from.
    #[error("a workman needs at least one queue")]
    NoQueue,
}
