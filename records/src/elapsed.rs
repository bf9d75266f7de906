//! Elapsed time that two clocks agree on, for deletes that must wait.
//!
//! A jump of the wall clock must not make a day pass. So the time is added up from one reading to the next, and each
//! interval counts only as far as both the wall clock and a second clock say that it passed. An interval between two
//! domains of the second clock (the machine was restarted, or another host read it) does not count.

use std::time::Duration;

use mill_model::Timestamp;
use mill_ports::{Clock, SecondClockReading};
use serde::{Deserialize, Serialize};

/// The time that has certainly passed since the first reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElapsedTime {
    /// Milliseconds that both clocks agree on.
    agreed: u64,
    last: Option<ClockReading>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ClockReading {
    /// The wall clock, in milliseconds since 1970.
    wall: u64,
    /// The second clock's domain, and its reading in milliseconds.
    domain: String,
    at: u64,
}

impl ElapsedTime {
    /// Reads both clocks, and returns the time that has certainly passed until now.
    pub fn read(&mut self, clock: &dyn Clock) -> Duration {
        let reading = clock.second_clock().map(|witness| ClockReading::of(clock.now(), witness));
        if let (Some(last), Some(now)) = (&self.last, &reading)
            && last.domain == now.domain
        {
            let passed = now.wall.saturating_sub(last.wall).min(now.at.saturating_sub(last.at));
            self.agreed = self.agreed.saturating_add(passed);
        }
        self.last = reading;
        self.agreed()
    }

    /// The time that had certainly passed at the last reading.
    pub fn agreed(&self) -> Duration {
        Duration::from_millis(self.agreed)
    }
}

impl ClockReading {
    fn of(wall: Timestamp, witness: SecondClockReading) -> Self {
        let at = u64::try_from(witness.at.as_millis()).unwrap_or(u64::MAX);
        Self { wall: wall.as_millis(), domain: witness.domain, at }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use mill_model::Monotonic;

    use super::*;

    /// Wall clock and second clock, in hours, and the second clock's domain.
    #[derive(Debug)]
    struct Clocks(Mutex<(u64, u64, Option<&'static str>)>);

    #[async_trait::async_trait]
    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().0 * 3_600_000)
        }
        fn monotonic(&self) -> Monotonic {
            Monotonic::default()
        }
        async fn sleep(&self, _: Duration) {}
        fn second_clock(&self) -> Option<SecondClockReading> {
            let (_, hours, domain) = *self.0.lock();
            Some(SecondClockReading { domain: domain?.to_owned(), at: Duration::from_hours(hours) })
        }
    }

    fn hours_after(readings: &[(u64, u64, Option<&'static str>)]) -> u64 {
        let clocks = Clocks(Mutex::new(readings[0]));
        let mut elapsed = ElapsedTime::default();
        for reading in readings {
            *clocks.0.lock() = *reading;
            elapsed.read(&clocks);
        }
        elapsed.agreed().as_secs() / 3600
    }

    #[test]
    fn time_passes_only_as_far_as_both_clocks_agree() {
        let a = Some("a");
        assert_eq!(hours_after(&[(100, 1, a)]), 0);
        assert_eq!(hours_after(&[(100, 1, a), (125, 26, a)]), 25);
        assert_eq!(hours_after(&[(100, 1, a), (125, 1, a)]), 0, "the wall clock alone jumped");
        assert_eq!(hours_after(&[(100, 1, a), (125, 1, a), (126, 2, a)]), 1, "it goes on from where it jumped to");
        assert_eq!(hours_after(&[(100, 1, a), (100, 30, a)]), 0, "the wall clock stands still");
        assert_eq!(hours_after(&[(100, 1, a), (50, 26, a), (51, 27, a)]), 1, "the wall clock stepped back");
        assert_eq!(hours_after(&[(100, 1, a), (125, 26, Some("b")), (126, 27, Some("b"))]), 1, "another boot");
        assert_eq!(hours_after(&[(100, 1, None), (200, 101, None)]), 0, "no second clock");
    }
}
