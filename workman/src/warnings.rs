//! Limits the rate of warnings that repeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use mill_model::Monotonic;
use mill_ports::RateLimitedLog;
use parking_lot::Mutex;

/// One limit for each kind of warning, shared by all that log it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<BTreeMap<&'static str, RateLimitedLog>>>);

impl Warnings {
    /// If a warning is to be logged now, returns how many like it were suppressed since the last.
    pub(crate) fn due(&self, sort: &'static str, now: Monotonic) -> Option<u64> {
        self.0.lock().entry(sort).or_default().admit(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
