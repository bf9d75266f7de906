//! Items that cannot be copied, or not all of them, or not deleted, by name and reason, for the summary of a run.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mill_ports::{RefusalReason, StoreErrorKind};
use parking_lot::Mutex;

/// The refusals of one process: all of them counted, the first ten thousand log.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<RefusalLog>);

#[derive(Debug, Default)]
struct RefusalLog {
    first: Vec<Refusal>,
    /// The hashes of all names of items that are not copied.
    all: BTreeSet<u64>,
    count: u64,
    has_pending: bool,
}

/// Why the copy of an item keeps its bytes where another disk is at the source.
pub const ANOTHER_SOURCE: &str = "another disk is at the source than the one that its copy was made from";

/// What was refused of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedDeed {
    /// Its copy: no store of this kind could have it, or its source does not give it.
    Copy,
    /// Its copy, which the destination cannot take as it is now: it has no room, or may not be written there.
    PendingCopy,
    /// A part that its copy could have.
    PartOfCopy,
    /// The delete of its copy, though it is gone from the source.
    Delete,
}

impl RefusedDeed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Copy, Self::PendingCopy, Self::PartOfCopy, Self::Delete];

    /// What is refused where a store fails with this error.
    pub(crate) const fn of_copy(kind: &StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::Refused(RefusalReason::Unwritable(_)) => Self::PendingCopy,
            _ => Self::Copy,
        }
    }

    /// Whether the copy lacks the item, or has an older state of it.
    pub const fn is_of_item(self) -> bool {
        matches!(self, Self::Copy | Self::PendingCopy)
    }

    /// What became of the item, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "not copied",
            Self::PendingCopy => "not copied yet",
            Self::PartOfCopy => "copied in part",
            Self::Delete => "not deleted",
        }
    }
}

/// A deed that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `account/space/item`, escaped for a message.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// What was refused.
    pub deed: RefusedDeed,
}

impl Refusal {
    /// The name of the item in its space, escaped for a message; neither an account nor a space has a slash.
    pub fn item(&self) -> &str {
        self.subject.splitn(3, '/').last().unwrap_or_default()
    }
}

impl Refusals {
    /// How many refusals are kept by name. The log names all.
    pub const NAMED_MAX: usize = 10_000;

    /// Notes a refusal.
    pub fn note(&self, refused: Refusal) {
        let mut log = self.0.lock();
        log.count += 1;
        log.has_pending |= refused.deed == RefusedDeed::PendingCopy;
        if refused.deed.is_of_item() {
            log.all.insert(hash(&refused.subject));
        }
        if log.first.len() < Self::NAMED_MAX {
            log.first.push(refused);
        }
    }

    /// How many refusals there were, kept by name or not. A task that ran twice was refused twice.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Whether a destination could take an item later that it cannot take now.
    pub fn has_pending(&self) -> bool {
        self.0.lock().has_pending
    }

    /// The refusals kept by name, in the order in which they came.
    pub fn named(&self) -> Vec<Refusal> {
        self.named_since(0)
    }

    /// The refusals kept by name, without the first `first`.
    pub fn named_since(&self, first: usize) -> Vec<Refusal> {
        let log = self.0.lock();
        log.first.get(first..).unwrap_or_default().to_vec()
    }

    /// Whether `subject` was refused as a whole, kept by name or not.
    pub fn contains(&self, subject: &str) -> bool {
        self.0.lock().all.contains(&hash(subject))
    }
}

fn hash(subject: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let refusals = Refusals::default();
        for n in 0..=Refusals::NAMED_MAX {
            refusals.note(Refusal { subject: n.to_string(), reason: String::new(), deed: RefusedDeed::Copy });
        }
        assert_eq!(refusals.count(), Refusals::NAMED_MAX as u64 + 1);
        assert_eq!(refusals.named().len(), Refusals::NAMED_MAX);
        assert_eq!(refusals.named()[0].subject, "0");
        assert_eq!(refusals.named_since(Refusals::NAMED_MAX - 1).len(), 1);
        assert!(refusals.contains(&Refusals::NAMED_MAX.to_string()) && !refusals.contains("none"));
    }

    #[test]
    fn an_item_that_is_copied_in_part_or_kept_is_not_missing() {
        let refusals = Refusals::default();
        for deed in [RefusedDeed::PartOfCopy, RefusedDeed::Delete] {
            refusals.note(Refusal { subject: "a".to_owned(), reason: String::new(), deed });
        }
        assert_eq!((refusals.count(), refusals.named().len(), refusals.contains("a")), (2, 2, false));
    }
}
