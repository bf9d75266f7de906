//! The report of a session.

use std::fmt;

use mill_model::{AccountId, ContentId, SpaceId, SpacePair, StoreId, SurveySum, Timestamp};
use mill_ports::{QueueError, RefusalReason};
use mill_records::delete_lists::{DeleteListError, DeleteListHead, HeldList, HoldReason};
use mill_records::policies::PolicyError;
use mill_records::producer_state::ProducerStateError;

/// How a session ended, and what a person must know about it.
#[derive(Debug, Clone)]
pub struct SessionReport {
    /// Why it ended.
    pub ended: SessionEnd,
    /// Whether it resumed an account's run that an earlier session had begun.
    pub resumed: bool,
    /// When the first of its runs began. Their surveys saw everything that was at the sources by then.
    pub began: Timestamp,
    /// Tasks queued: copies, deletes, spaces.
    pub queued: u64,
    /// Accounts that were skipped, each once, and why.
    pub accounts_failed: Vec<(AccountId, String)>,
    /// Spaces that were skipped, and why. The next session tries them again.
    pub spaces_failed: Vec<SpaceFailure>,
    /// Deletes that wait for a person.
    pub held: Vec<HeldDeletes>,
    /// Tasks of granted delete lists that this session queued. A later run finds items that vanish meanwhile.
    pub removing: u64,
    /// Whether a list of an earlier scan is being carried out. Items that vanished since are not in it and were not looked for.
    pub removes_by_earlier_list: bool,
    /// How the entries in the listings of sources were classified; for a finished run of an account, over all its sessions.
    pub survey: SurveySum,
    /// The first entries that are not copied, at most [`SessionReport::NAMED_MAX`]. The log names all.
    pub named_first: Vec<UncopiedEntry>,
    /// Spaces that a rule leaves out, and entries of stores that lie in no space.
    pub left_out: LeftOutReport,
    /// Spaces that a policy names, or that were copied before, and that are not at their source.
    pub sources_absent: Vec<AbsentSpace>,
    /// How many accounts there are, where this session listed them.
    pub accounts: u64,
    /// How many accounts had a run in this session. No run of the others is due.
    pub runs: u64,
    /// Accounts whose policies cover no existing space, and why.
    pub accounts_idle: Vec<(AccountId, String)>,
    /// How many pairs of stores and spaces the runs have, as far as this session discovered them.
    pub pairs: u64,
}

impl SessionReport {
    /// The most entries that a report names.
    pub const NAMED_MAX: usize = 100;

    pub(crate) fn new(ended: SessionEnd) -> Self {
        Self {
            ended,
            resumed: false,
            began: Timestamp::default(),
            queued: 0,
            accounts_failed: Vec::new(),
            spaces_failed: Vec::new(),
            held: Vec::new(),
            removing: 0,
            removes_by_earlier_list: false,
            survey: SurveySum::default(),
            named_first: Vec::new(),
            left_out: LeftOutReport::default(),
            sources_absent: Vec::new(),
            accounts: 0,
            runs: 0,
            accounts_idle: Vec::new(),
            pairs: 0,
        }
    }

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

    /// Whether something is not copied that a person may have wanted: an entry or a space was left out, a source is missing, or
    /// nothing is covered at all.
    pub fn leaves_out(&self) -> bool {
        let SurveySum { refused, hidden, ignored, .. } = self.survey;
        refused + hidden + ignored + self.left_out.count > 0
            || !self.sources_absent.is_empty()
            || !self.accounts_idle.is_empty()
    }

    /// Whether the session found no account at all.
    pub fn no_account(&self) -> bool {
        self.accounts == 0 && !self.resumed && matches!(self.ended, SessionEnd::Finished { .. }) && !self.failed()
    }

    pub(crate) fn name(&mut self, named: Vec<UncopiedEntry>) {
        let room = Self::NAMED_MAX.saturating_sub(self.named_first.len());
        self.named_first.extend(named.into_iter().take(room));
    }
}

/// Spaces and entries that are not copied because of a rule, or because they lie in no space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutReport {
    /// The first ones, at most [`SessionReport::NAMED_MAX`].
    pub first: Vec<LeftOutEntry>,
    /// How many there are.
    pub count: u64,
}

impl LeftOutReport {
    /// Adds an entry.
    pub fn add(&mut self, entry: LeftOutEntry) {
        self.count += 1;
        if self.first.len() < SessionReport::NAMED_MAX {
            self.first.push(entry);
        }
    }
}

/// A space or an entry of a store that is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutEntry {
    /// The account.
    pub account: AccountId,
    /// The store that has it; `None` for a space that only a policy names.
    pub store: Option<StoreId>,
    /// Its name, escaped for a message.
    pub shown: String,
    /// Whether it is a space.
    pub is_space: bool,
    /// The rule, in words.
    pub rule: String,
}

/// A space that is not at its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentSpace {
    /// The account.
    pub account: AccountId,
    /// The space.
    pub space: SpaceId,
    /// The store that should have it.
    pub source: StoreId,
    /// The store that is written.
    pub destination: StoreId,
    /// Whether a copy of it is there.
    pub has_copy: bool,
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
    /// The token with which a person confirms exactly these deletes.
    pub token: String,
}

impl HeldDeletes {
    pub(crate) fn of(held: &HeldList) -> Self {
        let SpacePair { account, source, destination, space } = held.pair.clone();
        let DeleteListHead { count, items_total, .. } = held.head.record;
        let reason = held.head.record.held().cloned().unwrap_or(HoldReason::TooMany { unasked_today: 0 });
        Self { account, space, source, destination, count, items_total, reason, token: held.token().to_string() }
    }
}

/// An entry of a source's listing that is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncopiedEntry {
    /// The account.
    pub account: AccountId,
    /// The source.
    pub source: StoreId,
    /// The space.
    pub space: SpaceId,
    /// Its name, escaped for a message.
    pub shown: String,
    /// Why.
    pub class: EntryClass,
}

/// An item of a source that nothing shows to be in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingEntry {
    /// The pair in which the item is missing or not proven equal.
    pub pair: SpacePair,
    /// The item.
    pub id: ContentId,
}

/// Why an entry is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryClass {
    /// It cannot be an item.
    Refused(RefusalReason),
    /// It could not be seen or entered.
    Hidden,
    /// A rule leaves it out.
    Ignored(RefusalReason),
}

impl fmt::Display for EntryClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Ignored(reason) => reason.fmt(f),
            Self::Hidden => f.write_str("it could not be looked into, so what lies in it is unknown"),
        }
    }
}

/// Why a session failed. The next session goes on from the last saved state.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// Neither the current list of accounts nor an earlier one is known.
    #[error("the list of accounts cannot be read")]
    Accounts(#[source] PolicyError),
    /// The producer's own table failed, or another producer writes it.
    #[error("the producer's book failed")]
    State(#[from] ProducerStateError),
    /// The queue takes no more tasks, or does not report how many it holds.
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
