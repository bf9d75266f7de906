//! What a producer stands on, and how it is to work.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_ports::{Clock, Rng, Statistics, Stores, Table, TaskQueue};
use mill_records::account_counts::AccountCounts;
use mill_records::delete_lists::DeleteLists;
use mill_records::lease::HolderIsDead;
use mill_records::owners::Owners;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;

/// The ports and books of a duplication producer.
#[derive(Clone)]
pub struct Deps {
    /// Today's policies.
    pub policies: Arc<PolicyRepository>,
    /// The stores of all accounts. None of them is written.
    pub stores: Arc<dyn Stores>,
    /// Where tasks go: `duplication-low`.
    pub queue: Arc<dyn TaskQueue>,
    /// The book of this producer's lease, run and morsels.
    pub state: Arc<dyn Table>,
    /// What workmen count of each account, where the queue cannot tell how many tasks of one it holds.
    pub counts: Option<AccountCounts>,
    /// What was proven in sync before.
    pub seals: SyncProofs,
    /// What may be deleted, and by whose grant.
    pub delete_lists: DeleteLists,
    /// Which destination spaces are whose.
    pub owners: Owners,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Rng>,
    /// What is counted.
    pub statistics: Arc<Statistics>,
    /// Which holders of the lease are surely dead.
    pub surely_dead: HolderIsDead,
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// How a duplication producer works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A name for this process that no other bears, also not a later one.
    pub holder: String,
    /// How long the lease outlives its last beat (usually 60 s).
    pub lease_timeout: Duration,
    /// No step is begun while the queue holds so many tasks: visible, delayed and in flight (usually 10,000). Where there are
    /// several accounts, one that has less than its share (at most half) may add to it all the same, so that what others left
    /// there does not keep it waiting.
    pub queue_max: u64,
    /// Whether that is all there is to say of it.
    pub queue_sizing: QueueSizing,
    /// Most items queued from a morsel before the next one's turn (usually 1,000).
    pub nibble: NonZeroUsize,
    /// From the start of an account's run to the start of its next; zero means that each session may begin one.
    pub frequency: Duration,
    /// What to do when the queue is full.
    pub when_full: WhenFull,
    /// Which runs it begins.
    pub begins: Begins,
    /// How many deletes a person need not be asked about.
    pub thresholds: DeleteThresholds,
    /// What an absent source space means.
    pub absent_source: AbsentSource,
    /// For how long a space that fails in a way that may pass is tried again, at least three times. Zero for no longer.
    pub give_up_after: Duration,
    /// How long a store may leave a question open (usually 5 min). Then the space that it was about fails for this session.
    pub silence_max: Duration,
    /// Most morsels whose listings are kept open between their turns (usually 16); others are listed again from their
    /// markers.
    pub listings_open_max: usize,
    /// Most batches on their way to the queue at once (usually 8).
    pub sends_at_once: NonZeroUsize,
}

/// Which runs a session begins. Those that are going on are resumed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// Each account's when it is due, again and again while the session lasts.
    WhenDue,
    /// The same, and those of all accounts of which none is going on at once (`--now`).
    Now,
    /// Those of all accounts, once and at the same time, so that the session is one loop over everything. Where any is going
    /// on, none begins.
    Together,
}

/// How many deletes of a pair are granted by rule, within 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteThresholds {
    /// More than this are held, whatever their share.
    pub unasked_max: u64,
    /// So few are not held, unless they are the whole space.
    pub few: u64,
    /// More than this share of the destination's items, in per cent, is held if they are more than a few.
    pub share_percent: u64,
}

impl Default for DeleteThresholds {
    fn default() -> Self {
        Self { unasked_max: 1_000, few: 20, share_percent: 1 }
    }
}

/// What to do when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// End the session; the next one goes on.
    Leave,
    /// Look again, after pauses that grow.
    Wait {
        /// The first pause between two looks.
        poll: Duration,
        /// The longest.
        poll_most: Duration,
    },
}

/// How many tasks the queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSizing {
    /// As many as is said.
    Fixed,
    /// As many as it is seen to lose in so long; for a session that leaves when the queue is full, until the next session
    /// comes. What is said is where it begins.
    Lasting(Duration),
}

/// What it means that a source store answers that a space is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentSource {
    /// Nothing is known: a one-off mirror's source may not be mounted. The space fails.
    Unknown,
    /// It is missing; 24 h later it may be taken as gone, when a person confirms it.
    Retire,
}
