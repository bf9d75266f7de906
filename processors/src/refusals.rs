//! What cannot be copied, by name and reason, for the summary of a run.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

/// The refusals of one process: all of them counted, the first ten thousand kept.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<RefusalLog>);

#[derive(Debug, Default)]
struct RefusalLog {
    first: Vec<Refusal>,
    /// All of them, by what their names come to.
    all: BTreeSet<u64>,
    count: u64,
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What: `account/space/item`, escaped for a message.
    pub subject: String,
    /// Why.
    pub reason: String,
}

impl Refusals {
    /// How many are kept by name. The log names all.
    pub const KEPT_MAX: usize = 10_000;

    /// Notes one.
    pub fn note(&self, refused: Refusal) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        kept.all.insert(hashed(&refused.subject));
        if kept.first.len() < Self::KEPT_MAX {
            kept.first.push(refused);
        }
    }

    /// How many there were, kept or not. A task that ran twice was refused twice.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Those kept, in the order in which they came.
    pub fn kept(&self) -> Vec<Refusal> {
        self.kept_since(0)
    }

    /// Those kept, without the first so many.
    pub fn kept_since(&self, first: usize) -> Vec<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.first.get(first..).unwrap_or_default().to_vec()
    }

    /// Whether this was refused, kept by name or not.
    pub fn contains(&self, subject: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.contains(&hashed(subject))
    }
}

fn hashed(subject: &str) -> u64 {
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
        for n in 0..=Refusals::KEPT_MAX {
            refusals.note(Refusal { subject: n.to_string(), reason: String::new() });
        }
        assert_eq!(refusals.count(), Refusals::KEPT_MAX as u64 + 1);
        assert_eq!(refusals.kept().len(), Refusals::KEPT_MAX);
        assert_eq!(refusals.kept()[0].subject, "0");
        assert_eq!(refusals.kept_since(Refusals::KEPT_MAX - 1).len(), 1);
        assert!(refusals.contains(&Refusals::KEPT_MAX.to_string()) && !refusals.contains("none"));
    }
}
