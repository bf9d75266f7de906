//! Time and random numbers as ports, so that the whole fleet can run in simulation.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{DeleteListId, EventId, Monotonic, TaskId, Timestamp};

/// The time, and waiting for it to pass.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock. It may step back; use [`Clock::monotonic`] for deadlines.
    fn now(&self) -> Timestamp;

    /// This process's own clock, which never steps back.
    fn monotonic(&self) -> Monotonic;

    /// The same, but for the time in which this machine was suspended, where the clock can tell. Who waits for a store by it
    /// does not give the store up for a night in which nobody could answer. Never compared with [`Clock::monotonic`].
    fn awake(&self) -> Monotonic {
        self.monotonic()
    }

    /// Returns after `duration` has passed. Safe to cancel.
    async fn sleep(&self, duration: Duration);

    /// A second clock that nobody sets together with the wall clock, if there is one.
    ///
    /// A delete that waits for time to pass needs both clocks to agree. Without a second clock that time never passes.
    fn second_clock(&self) -> Option<SecondClockReading> {
        None
    }
}

/// A reading of a second clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondClockReading {
    /// The clock: `boot:<boot id>` or `service:<endpoint>`. Readings of different domains cannot be compared.
    pub domain: String,
    /// The reading, from the domain's own origin.
    pub at: Duration,
}

/// Random numbers for ids and jitter, never for secrets.
pub trait Rng: fmt::Debug + Send + Sync + 'static {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Conveniences over [`Rng`].
pub trait RngExt: Rng {
    /// 80 random bits, which make an id.
    fn id_bits(&self) -> [u8; 10] {
        let (a, b) = (self.next_u64().to_le_bytes(), self.next_u64().to_le_bytes());
        [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1]]
    }

    /// A new task id.
    fn task_id(&self, now: Timestamp) -> TaskId {
        TaskId::new(now, self.id_bits())
    }

    /// A new delete list id.
    fn delete_list_id(&self, now: Timestamp) -> DeleteListId {
        DeleteListId::new(now, self.id_bits())
    }

    /// A new event id.
    fn event_id(&self, now: Timestamp) -> EventId {
        EventId::new(now, self.id_bits())
    }

    /// A random duration, uniform from zero to `most` ("full jitter").
    fn jitter(&self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.next_u64() % millis.saturating_add(1).max(1))
    }

    /// A duration drawn evenly from half of `most` to all of it ("equal jitter"): a pause that is never too short.
    fn equal_jitter(&self, most: Duration) -> Duration {
        most / 2 + self.jitter(most / 2)
    }
}

impl<C: Rng + ?Sized> RngExt for C {}
