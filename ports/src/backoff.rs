//! Pauses between tries that grow: what fails for long is asked ever less often.

use std::time::Duration;

/// Pauses between tries, each the double of the one before, up to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after that many failures in a row.
    pub fn pause(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_the_double_of_the_one_before_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses = [1, 2, 3, 5, 6, 7, u32::MAX].map(|failures| backoff.pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30, 30]);
        let endless = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert_eq!(endless.pause(u32::MAX), Duration::from_secs(1 << 31));
    }
}
