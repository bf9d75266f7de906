//! What a producer stands on, and how it is to work.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_ports::{Chance, Clock, Statistics, Stores, Table, TaskQueue};
use mill_records::lease::SurelyDead;
use mill_records::owners::Owners;
use mill_records::policies::PolicyBook;
use mill_records::seals::Seals;

/// The ports and books of a duplication producer.
#[derive(Clone)]
pub struct Deps {
    /// Today's policies.
    pub policies: Arc<PolicyBook>,
    /// The stores of all accounts. None of them is written.
    pub stores: Arc<dyn Stores>,
    /// Where tasks go: `duplication-low`.
    pub queue: Arc<dyn TaskQueue>,
    /// The book of this producer's lease, run and morsels.
    pub state: Arc<dyn Table>,
    /// What was proven in step before.
    pub seals: Seals,
    /// Which destination spaces are whose.
    pub owners: Owners,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// What is counted.
    pub statistics: Arc<Statistics>,
    /// Which holders of the lease are surely dead.
    pub surely_dead: SurelyDead,
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
    /// No step is begun while the queue holds so many tasks: visible, delayed and in flight (usually 10,000).
    pub queue_max: u64,
    /// Most items queued from a morsel before the next one's turn (usually 1,000).
    pub nibble: NonZeroUsize,
    /// From the start of one run to the start of the next; zero means that each session may begin one.
    pub frequency: Duration,
    /// What to do when the queue is full.
    pub when_full: WhenFull,
    /// Begins a run although none is due (`--now`). A run that is going on is resumed all the same.
    pub force: bool,
    /// Lets so many deletes of each held pass through (`--confirm-deletes`).
    pub confirm_deletes: Option<u64>,
    /// What an absent source space means.
    pub absent_source: AbsentSource,
    /// Most morsels whose listings are kept open between their turns (usually 16); others are listed again from their
    /// markers.
    pub listings_open_max: usize,
    /// Most batches on their way to the queue at once (usually 8).
    pub sends_at_once: NonZeroUsize,
}

/// What to do when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// End the session; the next one goes on.
    Leave,
    /// Look again each `poll`.
    Wait {
        /// The pause between two looks.
        poll: Duration,
    },
}

/// What it means that a source store answers that a space is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentSource {
    /// Nothing is known: a one-off mirror's source may not be mounted. The space fails.
    Unknown,
    /// It is missing; 24 h later it may be taken as gone, when a person confirms it.
    Retire,
}
