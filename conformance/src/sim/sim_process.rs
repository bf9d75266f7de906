//! A process's line to the world: every call of it passes here, where it may die, stand still or be slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use mill_engine::SimClock;
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, ClockWitness};
use mill_workman::StopSignal;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::turns::Turns;
use super::world::{World, lock};

/// One life of a process.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) world: Arc<World>,
    /// A name that no other life bears.
    pub(crate) name: String,
    pub(crate) clock: Arc<ProcessClock>,
    /// Its awaits so far, and at which it dies (never, if zero).
    steps: AtomicU64,
    fatal: AtomicU64,
    dead: AtomicBool,
    /// Cancelled when it dies.
    pub(crate) death: CancellationToken,
    /// How it is told to stop, if it is a workman or a producer.
    pub(crate) stop: OnceLock<StopSignal>,
    /// Until when its extensions of leases, and its beats, do not arrive.
    pub(crate) starved_until: Mutex<Monotonic>,
    /// How many more of its batches fail in part, one after the other.
    pub(crate) partial_left: AtomicU32,
    /// Until when it was in any trouble, or since when it lives: from then on it has no excuse.
    troubled_until: Mutex<Monotonic>,
}

impl Line {
    pub(crate) fn new(world: &Arc<World>, kind: &str) -> Arc<Self> {
        let number = world.born.fetch_add(1, Relaxed) + 1;
        let rates = &world.swarm.rates;
        let fatal = if !world.is_calm() && world.dice.happens(rates.killed) {
            // Early awaits more often than late ones: most lives are short.
            let most = *world.dice.pick(&[20, 100, 400]);
            world.dice.between(1, most)
        } else {
            0
        };
        Arc::new(Self::of(world, format!("{kind}-{number}"), fatal))
    }

    /// The operator's, who does not die.
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
            partial_left: AtomicU32::new(0),
            troubled_until: Mutex::new(world.now()),
        }
    }

    /// It was in trouble until then, in a way that may hold up what it does.
    pub(crate) fn trouble_until(&self, until: Monotonic) {
        let mut troubled = lock(&self.troubled_until);
        *troubled = until.max(*troubled);
        drop(troubled);
        Turns::fleet_troubled(&self.world, until);
    }

    /// Stands still until then.
    pub(crate) fn freeze_until(&self, until: Monotonic) {
        self.clock.freeze_until(until);
        self.trouble_until(until);
    }

    /// Since when it has been well: it lives, nobody told it to stop, and nothing went wrong with its calls on queues.
    pub(crate) fn well_since(&self) -> Option<Monotonic> {
        let since = *lock(&self.troubled_until);
        (!self.is_dead() && !self.is_stopping() && since <= self.world.now()).then_some(since)
    }

    /// Dies here, if it is its time.
    pub(crate) async fn step(&self) {
        self.clock.thawed().await;
        if !self.dead.load(Relaxed) {
            let step = self.steps.fetch_add(1, Relaxed) + 1;
            if step != self.fatal.load(Relaxed) || self.world.is_calm() {
                return;
            }
            self.world.count(Fault::KilledAtAwait, &self.name);
            self.die();
        }
        std::future::pending::<()>().await;
    }

    /// Dies.
    pub(crate) fn die(&self) {
        self.dead.store(true, Relaxed);
        Turns::fleet_troubled(&self.world, self.world.now());
        self.death.cancel();
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.get().is_some_and(|stop| stop.gentle.is_cancelled() || stop.immediate.is_cancelled())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Before a call: the way there.
    pub(crate) async fn enter(&self) {
        self.step().await;
        let world = &self.world;
        if world.strikes(Fault::CallSlow, world.swarm.rates.slow, &self.name) {
            let slow = world.dice.duration(Duration::from_secs(2), Duration::from_secs(40));
            self.trouble_until(world.now().plus(slow));
            tokio::time::sleep(slow).await;
        } else if world.dice.below(2) == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(world.dice.duration(Duration::ZERO, world.swarm.latency_max)).await;
        }
        self.step().await;
    }

    /// After a call: the way back.
    pub(crate) async fn leave(&self) {
        let world = &self.world;
        if world.strikes(Fault::Frozen, world.swarm.rates.frozen, &self.name) {
            let long = world.swarm.visibility + world.dice.duration(Duration::from_secs(1), Duration::from_mins(1));
            self.freeze_until(world.now().plus(long));
        }
        self.step().await;
    }

    pub(crate) fn is_starved(&self) -> bool {
        !self.world.is_calm() && self.world.now() < *lock(&self.starved_until)
    }
}

/// A process's clocks: its wall clock may be off, and while the process stands still no sleep ends.
#[derive(Debug)]
pub(crate) struct ProcessClock {
    inner: Arc<SimClock>,
    offset: AtomicI64,
    frozen_until: Mutex<Monotonic>,
}

impl ProcessClock {
    /// Moves the wall clock, in milliseconds; gives how far it is off now.
    pub(crate) fn shift(&self, by: i64) -> i64 {
        let offset = self.offset.fetch_add(by, Relaxed) + by;
        self.inner.set_wall_offset_millis(offset);
        offset
    }

    fn freeze_until(&self, until: Monotonic) {
        *lock(&self.frozen_until) = until;
    }

    async fn thawed(&self) {
        loop {
            let (until, now) = (*lock(&self.frozen_until), self.inner.monotonic());
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

    fn witness(&self) -> Option<ClockWitness> {
        self.inner.witness()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        if self.inner.monotonic() < *lock(&self.frozen_until) {
            self.thawed().await;
            // Answers that came meanwhile are seen before it is noticed how late it is.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
