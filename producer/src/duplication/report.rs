//! What the duplication producer reports of a session, beside what every looping producer reports.

use std::fmt;

use mill_model::{AccountId, ContentId, SpaceId, SpacePair, StoreId, SurveySum};
use mill_ports::RefusalReason;
use mill_records::delete_lists::{DeleteListHead, HeldList, HoldReason};

use crate::looping::report::LoopingReport;

/// How a session of the duplication producer ended, and what a person must know about it.
pub type SessionReport = LoopingReport<DuplicationFindings>;

/// What a person must know about copies and deletes.
#[derive(Debug, Clone, Default)]
pub struct DuplicationFindings {
    /// Deletes that wait for a person.
    pub held: Vec<HeldDeletes>,
    /// Tasks of granted delete lists that this session queued. A later run finds items that vanish meanwhile.
    pub removing: u64,
    /// Whether a list of an earlier scan is being carried out. Items that vanished since are not in it and were not looked for.
    pub removes_by_earlier_list: bool,
    /// How many items only the copies have, where policy keeps them, as far as this session looked.
    pub only_in_copies: u64,
    /// The first entries that are not copied, at most [`DuplicationFindings::NAMED_MAX`]. The log names all.
    pub named_first: Vec<UncopiedEntry>,
    /// Spaces that a rule leaves out, and entries of stores that lie in no space.
    pub left_out: LeftOutReport,
    /// Spaces that a policy names, or that were copied before, and that are not at their source.
    pub sources_absent: Vec<AbsentSpace>,
}

impl DuplicationFindings {
    /// The most entries that a report names.
    pub const NAMED_MAX: usize = 100;

    pub(super) fn name(&mut self, named: Vec<UncopiedEntry>) {
        let room = Self::NAMED_MAX.saturating_sub(self.named_first.len());
        self.named_first.extend(named.into_iter().take(room));
    }
}

impl SessionReport {
    /// Whether something is not copied that a person may have wanted: an entry or a space was left out, a source is missing, or
    /// nothing is covered at all.
    pub fn leaves_out(&self) -> bool {
        let SurveySum { refused, hidden, ignored, .. } = self.survey;
        refused + hidden + ignored + self.findings.left_out.count > 0
            || !self.findings.sources_absent.is_empty()
            || !self.accounts_idle.is_empty()
    }
}

/// Spaces and entries that are not copied because of a rule, or because they lie in no space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutReport {
    /// The first ones, at most [`DuplicationFindings::NAMED_MAX`].
    pub first: Vec<LeftOutEntry>,
    /// How many there are.
    pub count: u64,
}

impl LeftOutReport {
    /// Adds an entry.
    pub fn add(&mut self, entry: LeftOutEntry) {
        self.count += 1;
        if self.first.len() < DuplicationFindings::NAMED_MAX {
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
