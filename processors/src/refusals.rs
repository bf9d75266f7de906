//! What cannot be copied, by name and reason, for the summary of a run.

use std::sync::{Mutex, PoisonError};

/// The refusals of one process: all of them counted, the first ten thousand kept.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    first: Vec<Refused>,
    count: u64,
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What: `account/space/item`, escaped for a message.
    pub subject: String,
    /// Why.
    pub reason: String,
}

impl Refusals {
    /// How many are kept by name. The log names all.
    pub const KEPT_MAX: usize = 10_000;

    /// Notes one.
    pub fn note(&self, refused: Refused) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        if kept.first.len() < Self::KEPT_MAX {
            kept.first.push(refused);
        }
    }

    /// How many there were, kept or not. A task that ran twice was refused twice.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Those kept, in the order in which they came.
    pub fn kept(&self) -> Vec<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let refusals = Refusals::default();
        for n in 0..=Refusals::KEPT_MAX {
            refusals.note(Refused { subject: n.to_string(), reason: String::new() });
        }
        assert_eq!(refusals.count(), Refusals::KEPT_MAX as u64 + 1);
        assert_eq!(refusals.kept().len(), Refusals::KEPT_MAX);
        assert_eq!(refusals.kept()[0].subject, "0");
    }
}
