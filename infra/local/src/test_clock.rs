//! A clock that tests move by hand.

use std::time::Duration;

use async_trait::async_trait;
use mill_model::{Monotonic, Timestamp};
use mill_ports::Clock;
use parking_lot::Mutex;

/// A clock that stands still until a test moves it. Sleeping takes real time and does not move it.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<(u64, Duration)>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((1_795_249_800_000, Duration::from_secs(1000))))
    }

    /// Lets time pass, on both clocks.
    pub(crate) fn pass(&self, by: Duration) {
        let mut at = self.0.lock();
        at.0 += by.as_millis() as u64;
        at.1 += by;
    }

    /// Sets the wall clock alone.
    pub(crate) fn step_to(&self, wall: Timestamp) {
        self.0.lock().0 = wall.as_millis();
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.lock().0)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(self.0.lock().1)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
