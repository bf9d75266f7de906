//! The dependencies and the settings of every looping producer.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_ports::{Clock, Rng, Statistics, Stores, Table, TaskQueue};
use mill_records::account_counts::AccountCounts;
use mill_records::lease::HolderIsDead;
use mill_records::policies::PolicyRepository;

/// The ports and tables of a looping producer.
#[derive(Clone)]
pub struct LoopingDeps {
    /// The current policies.
    pub policies: Arc<PolicyRepository>,
    /// The stores of all accounts. None of them is written.
    pub stores: Arc<dyn Stores>,
    /// The queue for its tasks.
    pub queue: Arc<dyn TaskQueue>,
    /// The table of its lease, runs and morsels.
    pub state: Arc<dyn Table>,
    /// The counts of workmen for each account, if the queue cannot count the tasks of an account.
    pub counts: Option<AccountCounts>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The source of random ids and jitter.
    pub chance: Arc<dyn Rng>,
    /// The counters.
    pub statistics: Arc<Statistics>,
    /// Reports whether a holder of the lease is certainly dead.
    pub holder_is_dead: HolderIsDead,
}

impl fmt::Debug for LoopingDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopingDeps").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// The settings of a looping producer.
#[derive(Debug, Clone)]
pub struct LoopingSettings {
    /// A name for this process that no other process has, also no later one.
    pub holder: String,
    /// How long the lease outlives its last beat (usually 60 s).
    pub lease_timeout: Duration,
    /// The queue is full with so many tasks, visible, delayed and in flight (usually 10,000). No step begins while it is full. But
    /// with several accounts, one that has less than its share (at most half) may add to a full queue, so that the tasks of others
    /// do not keep it waiting.
    pub queue_max: u64,
    /// Whether `queue_max` is fixed.
    pub queue_sizing: QueueSizing,
    /// The most items queued from a morsel before the next one's turn (usually 1,000).
    pub nibble: NonZeroUsize,
    /// From the start of an account's run to the start of its next; zero means that each session may begin one.
    pub frequency: Duration,
    /// What to do when the queue is full.
    pub when_full: WhenFull,
    /// Which runs it begins.
    pub run_start: RunStart,
    /// How long a space is tried again while its failure may pass, at least three times. Zero: exactly three times.
    pub give_up_after: Duration,
    /// How long a store may take to answer a call (usually 5 min). After that the space fails for this session.
    pub silence_max: Duration,
    /// The most morsels whose listings stay open between their turns (usually 16). Others are listed again from their markers.
    pub listings_open_max: usize,
    /// The most batches that are sent to the queue at once (usually 8).
    pub sends_at_once: NonZeroUsize,
}

/// Which runs a session begins. It resumes the runs in progress in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStart {
    /// Each account's run when it is due, again and again while the session lasts.
    WhenDue,
    /// The same, and at once a run of each account that has none in progress (`--now`).
    Now,
    /// A run of each account, once and at the same time, so that the session is one pass over everything. None begins if any run
    /// is in progress.
    Together,
}

/// What to do when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// End the session; the next one goes on.
    Leave,
    /// Check again, after growing pauses.
    Wait {
        /// The first pause.
        poll: Duration,
        /// The longest pause.
        poll_most: Duration,
    },
}

/// How many tasks the queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSizing {
    /// As many as `queue_max`.
    Fixed,
    /// As many as the queue is measured to lose within this time; for a session that leaves when the queue is full, within the
    /// time until the next session. `queue_max` is the first size.
    Lasting(Duration),
}
