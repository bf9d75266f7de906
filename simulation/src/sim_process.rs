//! A simulated process. Each of its calls passes here and may kill, freeze or slow it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_model::{ItemAddress, Monotonic, QueueName, StoreAddress, Timestamp};
use mill_ports::{Clock, OutgoingMessage, SecondClockReading};
use mill_testkit::SimClock;
use mill_workman::StopSignal;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fairness::Fairness;
use super::fault::SimFault;
use super::world::World;

/// One life of a process.
#[derive(Debug)]
pub(crate) struct SimProcess {
    pub(crate) world: Arc<World>,
    /// A name that no other process ever has.
    pub(crate) name: String,
    pub(crate) clock: Arc<ProcessClock>,
    /// How many awaits it has passed. `fatal`: the await at which it dies; zero for never.
    steps: AtomicU64,
    fatal: AtomicU64,
    dead: AtomicBool,
    /// Cancelled when it dies.
    pub(crate) death: CancellationToken,
    /// How it is told to stop, if it is a workman or a producer.
    pub(crate) stop: OnceLock<StopSignal>,
    /// Until when its lease extensions and heartbeats fail.
    pub(crate) starved_until: Mutex<Monotonic>,
    /// Until when it cannot write to its tables, and when writes failed for that.
    pub(crate) state_trouble: Mutex<StateTrouble>,
    /// What a bug on purpose keeps back until the row is written that says that it is sent.
    pub(crate) late_sends: Mutex<Vec<(QueueName, Vec<OutgoingMessage>)>>,
    /// Files of a log that a bug on purpose keeps back until the checkpoint is written that names them.
    pub(crate) late_files: Mutex<Vec<(StoreAddress, ItemAddress, Bytes)>>,
    /// How many more of its batches fail in part, in a row.
    pub(crate) partial_left: AtomicU32,
    /// When its last trouble ended, or when it started: after that nothing excuses a delay.
    troubled_until: Mutex<Monotonic>,
}

/// Mill's own state, as a process finds it: its disk is full for a while.
#[derive(Debug, Default)]
pub(crate) struct StateTrouble {
    until: Monotonic,
    /// When the first and the last of these writes failed.
    failed: Option<(Monotonic, Monotonic)>,
}

impl SimProcess {
    /// Lets its writes to tables fail until then.
    pub(crate) fn fill_state_until(&self, until: Monotonic) {
        self.state_trouble.lock().until = until;
        self.trouble_until(until);
    }

    /// Whether a write to a table fails since its disk is full; noted as the engine of one host notes it.
    pub(crate) fn write_fails(&self) -> bool {
        /// A write that succeeds so long after the last failure ends the trouble.
        const PASSED_AFTER: Duration = Duration::from_mins(1);
        let (mut trouble, now) = (self.state_trouble.lock(), self.world.now());
        let fails = now < trouble.until && !self.world.is_calm();
        if fails {
            trouble.failed = Some((trouble.failed.map_or(now, |(first, _)| first), now));
        } else if trouble.failed.is_some_and(|(_, last)| now.since(last) > PASSED_AFTER) {
            trouble.failed = None;
        }
        fails
    }

    /// How long ago the first and the last write failed for that, while they do.
    pub(crate) fn failed_writes(&self) -> Option<(Duration, Duration)> {
        let now = self.world.now();
        self.state_trouble.lock().failed.map(|(first, last)| (now.since(first), now.since(last)))
    }

    pub(crate) fn new(world: &Arc<World>, kind: &str) -> Arc<Self> {
        let number = world.born.fetch_add(1, Relaxed) + 1;
        let rates = &world.swarm.rates;
        let fatal = if !world.is_calm() && world.rng.happens(rates.killed) {
            // Early awaits are drawn more often than late ones, so most processes die young.
            let most = *world.rng.pick(&[20, 100, 400]);
            world.rng.between(1, most)
        } else {
            0
        };
        Arc::new(Self::of(world, format!("{kind}-{number}"), fatal))
    }

    /// The process of the operator, which never dies.
    pub(crate) fn operator(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self::of(world, super::event::OPERATOR.to_owned(), 0))
    }

    fn of(world: &Arc<World>, name: String, fatal: u64) -> Self {
        Self {
            world: world.clone(),
            name,
            clock: Arc::new(ProcessClock {
                inner: Arc::new(world.clock.another()),
                offset: AtomicI64::new(0),
                frozen_until: Mutex::default(),
            }),
            steps: AtomicU64::new(0),
            fatal: AtomicU64::new(fatal),
            dead: AtomicBool::new(false),
            death: CancellationToken::new(),
            stop: OnceLock::new(),
            starved_until: Mutex::default(),
            state_trouble: Mutex::default(),
            late_sends: Mutex::default(),
            late_files: Mutex::default(),
            partial_left: AtomicU32::new(0),
            troubled_until: Mutex::new(world.now()),
        }
    }

    /// Notes that it is in trouble until then, which may delay its work.
    pub(crate) fn trouble_until(&self, until: Monotonic) {
        let mut troubled = self.troubled_until.lock();
        *troubled = until.max(*troubled);
        drop(troubled);
        Fairness::fleet_troubled(&self.world, until);
    }

    /// Freezes the process until then.
    pub(crate) fn freeze_until(&self, until: Monotonic) {
        self.clock.freeze_until(until);
        self.trouble_until(until);
    }

    /// Since when it has been well: alive, not told to stop, and without faults in its calls on queues. `None` if it is not.
    pub(crate) fn well_since(&self) -> Option<Monotonic> {
        let since = *self.troubled_until.lock();
        (!self.is_dead() && !self.is_stopping() && since <= self.world.now()).then_some(since)
    }

    /// Passes one await, at which the process may die.
    pub(crate) async fn step(&self) {
        self.clock.thawed().await;
        if !self.dead.load(Relaxed) {
            let step = self.steps.fetch_add(1, Relaxed) + 1;
            if step != self.fatal.load(Relaxed) || self.world.is_calm() {
                return;
            }
            self.world.count(SimFault::KilledAtAwait, &self.name);
            self.die();
        }
        std::future::pending::<()>().await;
    }

    /// Kills the process.
    pub(crate) fn die(&self) {
        self.dead.store(true, Relaxed);
        Fairness::fleet_troubled(&self.world, self.world.now());
        self.death.cancel();
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.get().is_some_and(|stop| stop.gentle.is_cancelled() || stop.immediate.is_cancelled())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Called before each call: may delay it or kill the process.
    pub(crate) async fn enter(&self) {
        self.step().await;
        let world = &self.world;
        if world.inject(SimFault::CallSlow, world.swarm.rates.slow, &self.name) {
            let slow = world.rng.duration(Duration::from_secs(2), Duration::from_secs(40));
            self.trouble_until(world.now().plus(slow));
            tokio::time::sleep(slow).await;
        } else if world.rng.below(2) == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(world.rng.duration(Duration::ZERO, world.swarm.latency_max)).await;
        }
        self.step().await;
    }

    /// Called after each call: may freeze or kill the process.
    pub(crate) async fn leave(&self) {
        let world = &self.world;
        if world.inject(SimFault::Frozen, world.swarm.rates.frozen, &self.name) {
            let long = world.swarm.visibility + world.rng.duration(Duration::from_secs(1), Duration::from_mins(1));
            self.freeze_until(world.now().plus(long));
        }
        self.step().await;
    }

    pub(crate) fn is_starved(&self) -> bool {
        !self.world.is_calm() && self.world.now() < *self.starved_until.lock()
    }
}

/// A process's clocks. The wall clock may be off, and while the process is frozen no sleep ends.
#[derive(Debug)]
pub(crate) struct ProcessClock {
    inner: Arc<SimClock>,
    offset: AtomicI64,
    frozen_until: Mutex<Monotonic>,
}

impl ProcessClock {
    /// Shifts the wall clock by milliseconds. Returns how far it is off now.
    pub(crate) fn shift(&self, by: i64) -> i64 {
        let offset = self.offset.fetch_add(by, Relaxed) + by;
        self.inner.set_wall_offset_millis(offset);
        offset
    }

    fn freeze_until(&self, until: Monotonic) {
        *self.frozen_until.lock() = until;
    }

    async fn thawed(&self) {
        loop {
            let (until, now) = (*self.frozen_until.lock(), self.inner.monotonic());
            if until <= now {
                return;
            }
            tokio::time::sleep(until.since(now)).await;
        }
    }
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.inner.monotonic()
    }

    fn second_clock(&self) -> Option<SecondClockReading> {
        self.inner.second_clock()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        if self.inner.monotonic() < *self.frozen_until.lock() {
            self.thawed().await;
            // Answers that arrived meanwhile are seen before the process notices how late it is.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
