//! How many tasks the queue may hold, where nobody says so: as many as keep those who work at it busy until the producer
//! looks again.
//!
//! A queue that was full tells by what it has lost since how fast it is drained. One that ran dry meanwhile tells only that
//! it could have been drained faster: then it may hold four times as many the next time.

use std::time::Duration;

use mill_model::Monotonic;

/// No queue may hold more, however fast it is drained.
pub(crate) const MOST: u64 = 1_000_000;

/// Growth where the queue ran dry.
const GROWTH: u64 = 4;

/// A queue counts as dry below this share of what it held, as one part of so many.
const DRY_PART: u64 = 8;

/// What is lost in less time than this says little.
const LOOK_LEAST: Duration = Duration::from_secs(10);

/// The size of the queue, and what is being measured.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    max: u64,
    least: u64,
    /// When the queue was last seen to be full, how many it held, and how many were sent since.
    full: Option<(Monotonic, u64, u64)>,
}

impl Drain {
    /// Of a queue that may hold `max` at first, and `least` always.
    pub(crate) fn new(max: u64, least: u64) -> Self {
        Self { max: max.clamp(least.min(MOST), MOST), least: least.min(MOST), full: None }
    }

    /// How many tasks it may hold now.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Notes that tasks were sent.
    pub(crate) fn sent(&mut self, tasks: u64) {
        if let Some((_, _, sent)) = &mut self.full {
            *sent += tasks;
        }
    }

    /// Takes in how many tasks the queue holds, and whether none may be added all the same. What it may hold is to last for
    /// `lasting`.
    pub(crate) fn looked(&mut self, now: Monotonic, (depth, full): (u64, bool), lasting: Duration) {
        match self.full {
            Some((at, _, _)) if now.since(at) < LOOK_LEAST => return,
            Some((at, held, sent)) => self.measured(now.since(at), (held, sent, depth), lasting),
            None => {}
        }
        self.full = (full || depth >= self.max).then_some((now, depth, 0));
    }

    /// Sizes the queue by what it has lost in `took`: it held so many, so many were sent, and so many it holds.
    pub(crate) fn measured(&mut self, took: Duration, (held, sent, depth): (u64, u64, u64), lasting: Duration) {
        let lost = (held + sent).saturating_sub(depth);
        let took = took.as_millis().max(1);
        let wanted = u128::from(lost) * lasting.as_millis() / took;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let wanted = if depth <= held / DRY_PART {
            wanted.max(self.max.saturating_mul(GROWTH))
        } else if wanted < self.max {
            // One slow look is not believed at once.
            u64::midpoint(self.max, wanted)
        } else {
            wanted
        };
        self.max = wanted.clamp(self.least, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_MINUTES: Duration = Duration::from_mins(2);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_secs(seconds))
    }

    /// A producer that fills the queue at each look, and a fleet that drains it at `rate`; what the queue may hold at last.
    fn after(looks: u64, every: u64, rate: u64) -> u64 {
        let (mut drain, mut depth) = (Drain::new(10_000, 2_000), 0_u64);
        for look in 0..looks {
            drain.looked(at(look * every), (depth, false), TWO_MINUTES);
            let more = drain.max().saturating_sub(depth);
            drain.sent(more);
            depth += more;
            drain.looked(at(look * every), (depth, false), TWO_MINUTES);
            depth = depth.saturating_sub(rate * every);
        }
        drain.max()
    }

    #[test]
    fn the_queue_holds_two_minutes_of_what_it_loses_whether_that_is_little_or_much() {
        for rate in [50, 100, 1_500, 5_000] {
            let max = after(60, 15, rate);
            assert!((rate * 110..rate * 130).contains(&max), "{rate} a second: {max}");
        }
    }

    #[test]
    fn a_queue_that_is_filled_holds_a_nibble_at_least_whenever_the_producer_looks_again() {
        for rate in [1, 10, 30, 100, 1_000, 6_000] {
            let (mut drain, mut depth) = (Drain::new(10_000, 2_000), 0_u64);
            for look in 0..100 {
                assert!(look < 12 || depth >= 1_000, "{depth} at look {look}, {rate} a second");
                drain.looked(at(look * 30), (depth, false), TWO_MINUTES);
                let more = drain.max().saturating_sub(depth);
                drain.sent(more);
                depth += more;
                drain.looked(at(look * 30), (depth, false), TWO_MINUTES);
                depth = depth.saturating_sub(rate * 30);
            }
        }
    }

    #[test]
    fn it_never_holds_more_than_a_million_nor_less_than_it_must() {
        assert_eq!(after(60, 15, 100_000), MOST);
        assert_eq!(after(60, 15, 1), 2_000);
        assert_eq!(after(60, 15, 0), 2_000);
        assert_eq!(Drain::new(10, 2 * MOST).max(), MOST);
    }

    #[test]
    fn a_queue_that_was_never_full_tells_nothing() {
        let mut drain = Drain::new(10_000, 2_000);
        for look in 0..100 {
            drain.looked(at(look * 60), (9_999, false), TWO_MINUTES);
            drain.looked(at(look * 60 + 30), (0, false), TWO_MINUTES);
        }
        assert_eq!(drain.max(), 10_000);
    }
}
