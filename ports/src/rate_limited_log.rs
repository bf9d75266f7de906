//! Logs: the target of what a report repeats, and a limit for warnings that could come with every item.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mill_model::Monotonic;

/// The target of events that a run's closing report repeats. A command that ends with such a report does not log them too.
pub const REPORTED: &str = "mill::reported";

/// Lets one of many similar warnings pass in each [`RateLimitedLog::EVERY`].
#[derive(Debug, Default)]
pub struct RateLimitedLog {
    /// When the next warning may pass, in milliseconds of the monotonic clock.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimitedLog {
    /// The shortest time between two that pass.
    pub const EVERY: Duration = Duration::from_secs(10);

    /// If a warning may pass now, returns how many were suppressed since the last one.
    pub fn admit(&self, now: Monotonic) -> Option<u64> {
        let millis = |at: Monotonic| u64::try_from(at.since_origin().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Relaxed);
        let later = millis(now.plus(Self::EVERY));
        if millis(now) < next || self.next.compare_exchange(next, later, Relaxed, Relaxed).is_err() {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_while_passes_and_tells_of_the_others() {
        let log = RateLimitedLog::default();
        let at = |secs| Monotonic::from_origin(Duration::from_secs(secs));
        assert_eq!([0, 1, 9, 10, 11].map(|secs| log.admit(at(secs))), [Some(0), None, None, Some(2), None]);
    }
}
