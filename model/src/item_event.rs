//! What became of one entry in a run, for whoever wants to know more than the sums.

use std::sync::Arc;

use crate::ids::{AccountId, SpaceId, StoreId};
use crate::space_pair::SpacePair;
use crate::totals::ItemOutcome;

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemEvent {
    /// The entry. It is shared, as an event is made for each item and passed on.
    pub subject: Arc<EventSubject>,
    /// What became of it.
    pub fate: EntryFate,
    /// Whether the run counts it apart, because an earlier run had sent its task.
    pub of_earlier_run: bool,
    /// What was updated.
    pub part: Option<UpdatedPart>,
    /// The content bytes that were written.
    pub bytes: Option<u64>,
    /// Why: of a refusal, a failure, a hold or a rule.
    pub reason: Option<String>,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSubject {
    /// The account, if it is known.
    pub account: Option<AccountId>,
    /// The store that is read, if it is known.
    pub source: Option<StoreId>,
    /// The store that is written, if it is known.
    pub destination: Option<StoreId>,
    /// The space, if it is known.
    pub space: Option<SpaceId>,
    /// The bytes of its name within the space. They may be no text.
    pub name: Vec<u8>,
    /// What it is.
    pub sort: SubjectSort,
}

/// What a name in an event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectSort {
    /// An entry in the listing of a source.
    Source,
    /// An item that only a destination has.
    Destination,
    /// Anything else: a space, an entry that lies in no space, a task that nobody can read.
    Other,
}

/// What became of an entry. Those that a run counts have the names of their counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryFate {
    /// It was queued, and no more is known of it yet.
    Queued,
    /// It is equal at both sides.
    Unchanged,
    /// It was missing at the destination and is there now.
    Copied,
    /// It was there and has the source's bytes, properties or spelling now.
    Updated,
    /// It was gone at the source when its turn came.
    Vanished,
    /// Only its bytes tell whether it is equal, and a dry run reads none.
    Unread,
    /// No policy asks for it any more.
    Dropped,
    /// It cannot be copied.
    Refused,
    /// It could not be looked into.
    Hidden,
    /// A rule leaves it out.
    Ignored,
    /// Its task failed for good.
    DeadLettered,
    /// It was deleted at the destination.
    Deleted,
    /// It was to be deleted, and was gone from the destination already.
    Gone,
    /// It was to be deleted, and was kept.
    Kept,
    /// It waits until a person lets it be deleted.
    Held,
    /// It lies in no space, or a rule leaves its space out.
    LeftOut,
    /// It is a space that was skipped.
    Skipped,
}

impl EntryFate {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Queued,
        Self::Unchanged,
        Self::Copied,
        Self::Updated,
        Self::Vanished,
        Self::Unread,
        Self::Dropped,
        Self::Refused,
        Self::Hidden,
        Self::Ignored,
        Self::DeadLettered,
        Self::Deleted,
        Self::Gone,
        Self::Kept,
        Self::Held,
        Self::LeftOut,
        Self::Skipped,
    ];

    /// Its name in files and in the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Unchanged => "unchanged",
            Self::Copied => "copied",
            Self::Updated => "updated",
            Self::Vanished => "vanished",
            Self::Unread => "unread",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
            Self::Hidden => "hidden",
            Self::Ignored => "ignored",
            Self::DeadLettered => "dead_lettered",
            Self::Deleted => "deleted",
            Self::Gone => "gone",
            Self::Kept => "kept",
            Self::Held => "held",
            Self::LeftOut => "left_out",
            Self::Skipped => "skipped",
        }
    }

    /// Whether it changed a destination.
    pub const fn is_deed(self) -> bool {
        matches!(self, Self::Copied | Self::Updated | Self::Deleted)
    }

    /// Whether there is nothing to say of it to a person.
    pub const fn is_quiet(self) -> bool {
        matches!(self, Self::Queued | Self::Unchanged)
    }
}

impl std::str::FromStr for EntryFate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|fate| fate.as_str() == text).ok_or(())
    }
}

impl From<ItemOutcome> for EntryFate {
    fn from(outcome: ItemOutcome) -> Self {
        match outcome {
            ItemOutcome::Unchanged => Self::Unchanged,
            ItemOutcome::Updated => Self::Updated,
            ItemOutcome::Copied => Self::Copied,
            ItemOutcome::Vanished => Self::Vanished,
            ItemOutcome::Refused => Self::Refused,
            ItemOutcome::Unread => Self::Unread,
            ItemOutcome::Dropped => Self::Dropped,
            ItemOutcome::DeadLettered => Self::DeadLettered,
        }
    }
}

/// What of an item was updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdatedPart {
    /// Its bytes, and with them its properties.
    Bytes,
    /// Its properties alone.
    Properties,
    /// The spelling of its name.
    Spelling,
}

impl UpdatedPart {
    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Properties => "properties",
            Self::Spelling => "spelling",
        }
    }
}

impl EventSubject {
    /// An entry of a pair of spaces.
    pub fn of(pair: &SpacePair, name: impl Into<Vec<u8>>, sort: SubjectSort) -> Self {
        let SpacePair { account, source, destination, space } = pair.clone();
        Self {
            account: Some(account),
            source: Some(source),
            destination: Some(destination),
            space: Some(space),
            name: name.into(),
            sort,
        }
    }

    /// Anything else, by a text that names it.
    pub fn other(name: impl Into<Vec<u8>>) -> Self {
        Self {
            account: None,
            source: None,
            destination: None,
            space: None,
            name: name.into(),
            sort: SubjectSort::Other,
        }
    }
}

impl ItemEvent {
    /// An event without details.
    pub fn new(subject: impl Into<Arc<EventSubject>>, fate: EntryFate) -> Self {
        Self { subject: subject.into(), fate, of_earlier_run: false, part: None, bytes: None, reason: None }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_read_by_the_name_it_is_written_with() {
        for fate in EntryFate::ALL {
            assert_eq!(fate.as_str().parse(), Ok(fate));
        }
        assert_eq!("lost".parse::<EntryFate>(), Err(()));
    }
}
