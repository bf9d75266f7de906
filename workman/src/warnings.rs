//! Limits the rate of warnings that repeat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::Monotonic;
use parking_lot::Mutex;

/// When each kind of warning was logged last, shared by all that log it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<BTreeMap<&'static str, LastWarning>>>);

#[derive(Debug)]
struct LastWarning {
    at: Monotonic,
    suppressed: u64,
}

impl Warnings {
    const EVERY: Duration = Duration::from_secs(10);

    /// If a warning is to be logged now, returns how many like it were suppressed since the last.
    pub(crate) fn due(&self, sort: &'static str, now: Monotonic) -> Option<u64> {
        let mut said = self.0.lock();
        match said.get_mut(sort) {
            Some(last) if now.since(last.at) < Self::EVERY => {
                last.suppressed += 1;
                None
            }
            last => {
                let suppressed = last.map_or(0, |last| last.suppressed);
                said.insert(sort, LastWarning { at: now, suppressed: 0 });
                Some(suppressed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_warning_is_given_once_in_a_while_and_says_how_many_there_were() {
        let warnings = Warnings::default();
        let at = |seconds| Monotonic::from_origin(Duration::from_secs(seconds));
        assert_eq!(warnings.due("a", at(0)), Some(0));
        assert_eq!(warnings.due("a", at(1)), None);
        assert_eq!(warnings.due("b", at(1)), Some(0));
        assert_eq!(warnings.due("a", at(9)), None);
        assert_eq!(warnings.due("a", at(10)), Some(2));
    }
}
