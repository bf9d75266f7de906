//! Clocks that a test moves.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, SecondClockReading};
use tokio::sync::watch;
use tokio::time::Instant;

/// When the wall clocks here begin: 2026-11-21T08:30:00Z.
const START: Timestamp = Timestamp::from_millis(1_795_249_800_000);

/// A clock over tokio's: with paused time, sleeping moves everything at once and nothing really waits.
///
/// Must be made and used inside a tokio runtime with time.
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
    wall: WallOffset,
}

impl SimClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now(), wall: WallOffset::default() }
    }

    /// Another machine's clock: it shares the monotonic time, and has a wall clock of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { origin: self.origin, wall: WallOffset::default() }
    }

    /// Sets how far the wall clock is off, in milliseconds; less than before is a step back.
    pub fn set_wall_offset_millis(&self, millis: i64) {
        self.wall.set(millis);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.wall.at(self.monotonic())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(self.origin.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn second_clock(&self) -> Option<SecondClockReading> {
        Some(SecondClockReading { domain: "simulated".into(), at: self.monotonic().since_origin() })
    }
}

/// A clock that stands still until it is stepped. Works on any runtime, and on none.
#[derive(Debug)]
pub struct ManualClock {
    passed: watch::Sender<Duration>,
    wall: WallOffset,
}

impl ManualClock {
    /// A clock that stands still.
    pub fn new() -> Self {
        Self { passed: watch::Sender::new(Duration::ZERO), wall: WallOffset::default() }
    }

    /// Lets time pass, and wakes the sleepers whose time is over.
    pub fn step(&self, by: Duration) {
        self.passed.send_modify(|passed| *passed = passed.saturating_add(by));
    }

    /// Sets how far the wall clock is off, in milliseconds; less than before is a step back.
    pub fn set_wall_offset_millis(&self, millis: i64) {
        self.wall.set(millis);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.wall.at(self.monotonic())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(*self.passed.borrow())
    }

    async fn sleep(&self, duration: Duration) {
        let mut passed = self.passed.subscribe();
        let until = passed.borrow().saturating_add(duration);
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = passed.wait_for(|passed| *passed >= until).await;
    }

    fn second_clock(&self) -> Option<SecondClockReading> {
        Some(SecondClockReading { domain: "by hand".into(), at: self.monotonic().since_origin() })
    }
}

/// How far a wall clock is off, in milliseconds.
#[derive(Debug, Default)]
struct WallOffset(AtomicI64);

impl WallOffset {
    fn set(&self, millis: i64) {
        self.0.store(millis, Relaxed);
    }

    fn at(&self, monotonic: Monotonic) -> Timestamp {
        let offset = self.0.load(Relaxed);
        let size = Duration::from_millis(offset.unsigned_abs());
        let exact = START.plus(monotonic.since_origin());
        if offset < 0 { exact.minus(size) } else { exact.plus(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_both_clocks() {
        let clock = SimClock::new();
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        clock.sleep(Duration::from_hours(1)).await;
        assert_eq!(clock.now().since(wall), Duration::from_hours(1));
        assert_eq!(clock.monotonic().since(monotonic), Duration::from_hours(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_can_step_back_alone() {
        let clock = SimClock::new();
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        clock.set_wall_offset_millis(-600_000);
        assert_eq!(clock.now().plus(Duration::from_mins(10)), wall);
        assert_eq!(clock.monotonic(), monotonic);
        assert_eq!(clock.another().now(), wall);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hand_has_moved_far_enough() {
        let clock = ManualClock::new();
        let mut sleeping = std::pin::pin!(clock.sleep(Duration::from_secs(2)));
        assert!(futures::poll!(sleeping.as_mut()).is_pending());
        clock.step(Duration::from_secs(1));
        assert!(futures::poll!(sleeping.as_mut()).is_pending());
        clock.step(Duration::from_secs(1));
        assert!(futures::poll!(sleeping.as_mut()).is_ready());
    }
}
