//! What a session tells of itself.

use mill_model::{AccountId, SpaceId, StoreId, Timestamp};
use mill_ports::{QueueError, Refusal};
use mill_records::delete_lists::{DeleteListError, HeldList, HoldReason, ListHead};
use mill_records::policies::PolicyError;
use mill_records::producer_state::StateError;
use mill_records::seals::Pair;

/// How a session ended, and what a person should know of it.
#[derive(Debug, Clone)]
pub struct SessionReport {
    /// Why it ended.
    pub ended: Ended,
    /// Whether it went on with a run that an earlier session had begun.
    pub resumed: bool,
    /// Tasks queued: copies, deletes, spaces.
    pub queued: u64,
    /// Accounts passed over, each once, and why.
    pub accounts_failed: Vec<(AccountId, String)>,
    /// Spaces passed over, and why. They are tried again in the next session.
    pub spaces_failed: Vec<SpaceFailed>,
    /// Deletes that wait for a person.
    pub held: Vec<HeldDeletes>,
    /// Tasks of granted delete lists that this session queued. What vanished meanwhile is found by a later run.
    pub removing: u64,
    /// How many entries of source listings cannot be items; each is named in the log.
    pub refused: u64,
    /// The first of them, at most [`SessionReport::REFUSED_KEPT_MAX`].
    pub refused_first: Vec<Refused>,
}

impl SessionReport {
    /// Most refused entries that a report names.
    pub const REFUSED_KEPT_MAX: usize = 100;

    pub(crate) fn new(ended: Ended) -> Self {
        Self {
            ended,
            resumed: false,
            queued: 0,
            accounts_failed: Vec::new(),
            spaces_failed: Vec::new(),
            held: Vec::new(),
            removing: 0,
            refused: 0,
            refused_first: Vec::new(),
        }
    }

    /// Whether an account or a space was passed over.
    pub fn failed(&self) -> bool {
        !self.accounts_failed.is_empty() || !self.spaces_failed.is_empty()
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The loop is complete, but for what the report names as failed.
    Finished {
        /// When the next is due.
        next_run: Timestamp,
    },
    /// The queue holds as much as it may; the next session goes on.
    QueueFull,
    /// Nothing is due.
    NotDue {
        /// When the next run is.
        next_run: Timestamp,
    },
    /// Another producer is at work, or has taken over.
    HeldByAnother {
        /// Its name.
        holder: String,
    },
    /// It was told to stop.
    Stopped,
}

/// A space that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceFailed {
    /// The account.
    pub account: AccountId,
    /// The space; `None` when the spaces of a store could not even be listed.
    pub space: Option<SpaceId>,
    /// The store that is read, or that could not be listed.
    pub source: StoreId,
    /// The store that is written; `None` as for the space.
    pub destination: Option<StoreId>,
    /// Why, on one line.
    pub reason: String,
}

/// Deletes that are not queued until a person confirms them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDeletes {
    /// The account.
    pub account: AccountId,
    /// The space.
    pub space: SpaceId,
    /// The store that is read.
    pub source: StoreId,
    /// The store that is written.
    pub destination: StoreId,
    /// How many items would be deleted.
    pub count: u64,
    /// How many items the destination holds.
    pub items_total: u64,
    /// Why they are held.
    pub reason: HoldReason,
    /// What a person confirms exactly these by.
    pub token: String,
}

impl HeldDeletes {
    pub(crate) fn of(held: &HeldList) -> Self {
        let Pair { account, source, destination, space } = held.pair.clone();
        let ListHead { count, items_total, .. } = held.head.record;
        let reason = held.head.record.held().cloned().unwrap_or(HoldReason::TooMany { unasked_today: 0 });
        Self { account, space, source, destination, count, items_total, reason, token: held.token().to_string() }
    }
}

/// An entry of a source's listing that cannot be an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The account.
    pub account: AccountId,
    /// The source.
    pub source: StoreId,
    /// The space.
    pub space: SpaceId,
    /// Its name, escaped for a message.
    pub shown: String,
    /// Why.
    pub reason: Refusal,
}

/// Why a session could not be brought to an end. What was saved stays; the next session goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// Neither today's list of accounts nor an earlier one is known.
    #[error("the list of accounts cannot be read")]
    Accounts(#[source] PolicyError),
    /// The producer's own book failed, or another producer writes it.
    #[error("the producer's book failed")]
    State(#[from] StateError),
    /// The queue takes no more tasks, or does not tell how many it holds.
    #[error("the queue failed")]
    Queue(#[from] QueueError),
    /// The delete lists cannot be read or written.
    #[error("the book of delete lists failed")]
    DeleteLists(#[from] DeleteListError),
    /// A task cannot be written.
    #[error("a task cannot be written")]
    Wire(#[from] mill_model::wire::WireError),
    /// Another producer is at work, so nothing can be reset.
    #[error("the producer `{holder}` is at work")]
    HeldByAnother {
        /// Its name.
        holder: String,
    },
}
