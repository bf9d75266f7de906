//! The report of a session of any looping producer.

use mill_model::{AccountId, SpaceId, StoreId, SurveySum, Timestamp};
use mill_ports::QueueError;
use mill_records::delete_lists::DeleteListError;
use mill_records::policies::PolicyError;
use mill_records::producer_state::ProducerStateError;

/// How a session ended, and what a person must know about it.
#[derive(Debug, Clone)]
pub struct LoopingReport<F> {
    /// Why it ended.
    pub ended: SessionEnd,
    /// Whether it resumed an account's run that an earlier session had begun.
    pub resumed: bool,
    /// When the first of its runs began. Their surveys saw everything that was at the sources by then.
    pub began: Timestamp,
    /// Tasks queued.
    pub queued: u64,
    /// Accounts that were skipped, each once, and why.
    pub accounts_failed: Vec<(AccountId, String)>,
    /// Spaces that were skipped, and why. The next session tries them again.
    pub spaces_failed: Vec<SpaceFailure>,
    /// How the entries in the listings of sources were classified; for a finished run of an account, over all its sessions.
    pub survey: SurveySum,
    /// How many accounts there are, where this session listed them.
    pub accounts: u64,
    /// How many accounts had a run in this session. No run of the others is due.
    pub runs: u64,
    /// Accounts whose policies cover no existing space, and why.
    pub accounts_idle: Vec<(AccountId, String)>,
    /// How many morsels the runs have, as far as this session discovered them.
    pub pairs: u64,
    /// What only this kind of producer reports.
    pub findings: F,
}

impl<F: Default> LoopingReport<F> {
    pub(crate) fn new(ended: SessionEnd) -> Self {
        Self {
            ended,
            resumed: false,
            began: Timestamp::default(),
            queued: 0,
            accounts_failed: Vec::new(),
            spaces_failed: Vec::new(),
            survey: SurveySum::default(),
            accounts: 0,
            runs: 0,
            accounts_idle: Vec::new(),
            pairs: 0,
            findings: F::default(),
        }
    }
}

impl<F> LoopingReport<F> {
    /// Whether an account or a space was skipped, also if another attempt would not help.
    pub fn failed(&self) -> bool {
        self.failed_in_part() || !self.spaces_failed.is_empty()
    }

    /// Whether an account or a space was skipped that another session may copy. A space that is refused as a whole does not
    /// count: it waits for a person.
    pub fn failed_in_part(&self) -> bool {
        !self.accounts_failed.is_empty()
            || self.spaces_failed.iter().any(|failed| failed.failure_kind != SpaceFailureKind::Refused)
    }

    /// Whether the session found no account at all.
    pub fn no_account(&self) -> bool {
        self.accounts == 0 && !self.resumed && matches!(self.ended, SessionEnd::Finished { .. }) && !self.failed()
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// All runs are complete, except for the failures that the report names.
    Finished {
        /// When the next run of any account is due.
        next_run: Timestamp,
    },
    /// The queue is full. The next session goes on.
    QueueFull,
    /// No run is due.
    NotDue {
        /// When the next run is due.
        next_run: Timestamp,
    },
    /// Another producer is working, or has taken over.
    HeldByAnother {
        /// Its name.
        holder: String,
    },
    /// The session was told to stop.
    Stopped,
}

/// A space that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceFailure {
    /// The account.
    pub account: AccountId,
    /// The space; `None` when the spaces of a store could not even be listed.
    pub space: Option<SpaceId>,
    /// The store that is read, or that could not be listed.
    pub source: StoreId,
    /// The store that is written; `None` as for the space.
    pub destination: Option<StoreId>,
    /// The kind of failure.
    pub failure_kind: SpaceFailureKind,
    /// Why, on one line.
    pub reason: String,
}

/// The kind of failure of a space that was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceFailureKind {
    /// The source space is not there, though its store answers.
    SourceAbsent,
    /// The space cannot be read while its store can be used. A person must act; other spaces went on.
    Refused,
    /// A store did not answer in time.
    Silent,
    /// Another failure, which may pass by itself.
    MayPass,
    /// Another failure, on which a person must act.
    Stays,
}

impl SpaceFailureKind {
    /// Whether the failure may pass by itself. Otherwise a person must act.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Silent | Self::MayPass)
    }
}

/// Why a session failed. The next session goes on from the last saved state.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// Neither the current list of accounts nor an earlier one is known.
    #[error("the list of accounts cannot be read")]
    Accounts(#[source] PolicyError),
    /// The producer's own table failed, or another producer writes it.
    #[error("the producer's table failed")]
    State(#[from] ProducerStateError),
    /// The queue takes no more tasks, or does not report how many it holds.
    #[error("the queue failed")]
    Queue(#[from] QueueError),
    /// The delete lists cannot be read or written.
    #[error("the table of delete lists failed")]
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
