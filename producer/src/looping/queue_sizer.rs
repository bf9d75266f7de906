//! Finds how many tasks the queue may hold, where no setting fixes it: enough to keep the workmen busy until the producer
//! looks again.
//!
//! How much a full queue has lost since shows how fast it is drained. A queue that ran dry meanwhile shows only that it could
//! have been drained faster: then it may hold four times as many tasks the next time.

use std::time::Duration;

use mill_model::Monotonic;

/// The most tasks of a queue, however fast it is drained.
pub(crate) const TASKS_MAX: u64 = 1_000_000;

/// Growth where the queue ran dry.
const GROWTH: u64 = 4;

/// A queue counts as dry once it holds at most one in so many of the tasks it held.
const DRY_PART: u64 = 8;

/// The shortest time over which the loss is measured: a shorter one says little.
const MEASURE_MIN: Duration = Duration::from_secs(10);

/// The size of the queue, and the current measurement.
#[derive(Debug, Clone)]
pub(crate) struct QueueSizer {
    max: u64,
    least: u64,
    /// When the queue was last seen full, how many tasks it held, and how many were sent since.
    full: Option<(Monotonic, u64, u64)>,
}

impl QueueSizer {
    /// Sizes a queue that may hold `max` tasks at first, and `least` always.
    pub(crate) fn new(max: u64, least: u64) -> Self {
        Self { max: max.clamp(least.min(TASKS_MAX), TASKS_MAX), least: least.min(TASKS_MAX), full: None }
    }

    /// How many tasks the queue may hold now.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Notes that tasks were sent.
    pub(crate) fn sent(&mut self, tasks: u64) {
        if let Some((_, _, sent)) = &mut self.full {
            *sent += tasks;
        }
    }

    /// Notes how many tasks the queue holds, and whether it counts as `full` below its maximum. Its tasks are to last for
    /// `lasting`.
    pub(crate) fn observe(&mut self, now: Monotonic, (depth, full): (u64, bool), lasting: Duration) {
        match self.full {
            Some((at, _, _)) if now.since(at) < MEASURE_MIN => return,
            Some((at, held, sent)) => self.resize(now.since(at), (held, sent, depth), lasting),
            None => {}
        }
        self.full = (full || depth >= self.max).then_some((now, depth, 0));
    }

    /// Sizes the queue by its loss within `took`: it `held` so many tasks, `sent` more were added, and its `depth` is what is left.
    pub(crate) fn resize(&mut self, took: Duration, (held, sent, depth): (u64, u64, u64), lasting: Duration) {
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
        self.max = wanted.clamp(self.least, TASKS_MAX);
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
        let (mut queue_sizer, mut depth) = (QueueSizer::new(10_000, 2_000), 0_u64);
        for look in 0..looks {
            queue_sizer.observe(at(look * every), (depth, false), TWO_MINUTES);
            let more = queue_sizer.max().saturating_sub(depth);
            queue_sizer.sent(more);
            depth += more;
            queue_sizer.observe(at(look * every), (depth, false), TWO_MINUTES);
            depth = depth.saturating_sub(rate * every);
        }
        queue_sizer.max()
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
            let (mut queue_sizer, mut depth) = (QueueSizer::new(10_000, 2_000), 0_u64);
            for look in 0..100 {
                assert!(look < 12 || depth >= 1_000, "{depth} at look {look}, {rate} a second");
                queue_sizer.observe(at(look * 30), (depth, false), TWO_MINUTES);
                let more = queue_sizer.max().saturating_sub(depth);
                queue_sizer.sent(more);
                depth += more;
                queue_sizer.observe(at(look * 30), (depth, false), TWO_MINUTES);
                depth = depth.saturating_sub(rate * 30);
            }
        }
    }

    #[test]
    fn it_never_holds_more_than_a_million_nor_less_than_it_must() {
        assert_eq!(after(60, 15, 100_000), TASKS_MAX);
        assert_eq!(after(60, 15, 1), 2_000);
        assert_eq!(after(60, 15, 0), 2_000);
        assert_eq!(QueueSizer::new(10, 2 * TASKS_MAX).max(), TASKS_MAX);
    }

    #[test]
    fn a_queue_that_was_never_full_tells_nothing() {
        let mut queue_sizer = QueueSizer::new(10_000, 2_000);
        for look in 0..100 {
            queue_sizer.observe(at(look * 60), (9_999, false), TWO_MINUTES);
            queue_sizer.observe(at(look * 60 + 30), (0, false), TWO_MINUTES);
        }
        assert_eq!(queue_sizer.max(), 10_000);
    }
}
