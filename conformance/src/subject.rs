//! The subjects of the suites, and how time passes for them.

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_ports::{Clock, DeletableStore, Engine, Table, TaskQueue};

/// Lets time pass for a back end: steps a clock, or really waits for an emulator.
#[async_trait]
pub trait TimeDriver: Send + Sync {
    /// Returns when `by` has passed.
    async fn pass(&self, by: Duration);
}

/// Steps the clock that a test holds in its hand, as `move |by| clock.step(by)`.
#[async_trait]
impl<F: Fn(Duration) + Send + Sync> TimeDriver for F {
    async fn pass(&self, by: Duration) {
        self(by);
        tokio::task::yield_now().await;
    }
}

/// Real time, for back ends with a clock of their own.
#[derive(Debug)]
pub struct RealTime(pub Arc<dyn Clock>);

#[async_trait]
impl TimeDriver for RealTime {
    async fn pass(&self, by: Duration) {
        self.0.sleep(by).await;
    }
}

/// Keeps a value alive that must outlive the back end, such as its temporary directory.
pub struct Keep(#[allow(dead_code, reason = "kept only to be dropped last")] Box<dyn Any + Send>);

impl Keep {
    /// Keeps nothing.
    pub fn nothing() -> Self {
        Self(Box::new(()))
    }

    /// Keeps a value until the back end is dropped.
    pub fn this(kept: impl Any + Send) -> Self {
        Self(Box::new(kept))
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}

/// An empty queue with an empty dead-letter queue behind it.
pub struct QueueSubject {
    /// The queue.
    pub queue: Arc<dyn TaskQueue>,
    /// The queue to which the back end moves bodies that were received too often.
    pub dead_letters: Arc<dyn TaskQueue>,
    /// How often a body is received before it is moved.
    pub max_receive_count: u32,
    /// Whether the queue may deliver a hidden or acknowledged body. The suite needs `false`; the models accept both.
    pub duplicates: bool,
    /// Its time.
    pub time: Arc<dyn TimeDriver>,
    /// Dropped last.
    pub keep: Keep,
}

/// An engine whose queues and tables are empty.
#[derive(Debug)]
pub struct EngineSubject {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Dropped last.
    pub keep: Keep,
}

/// An empty table.
pub struct TableSubject {
    /// The table.
    pub table: Arc<dyn Table>,
    /// Dropped last.
    pub keep: Keep,
}

/// The plain names and properties that a store cannot hold. (Any store may refuse hostile ones.)
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Whether a space's id may hold a blank.
    pub blanks_in_spaces: bool,
    /// The most bytes of all names and values of an item's properties.
    pub properties_bytes_max: usize,
}

impl StoreLimits {
    /// A store that holds whatever the model can name.
    pub const NONE: Self = Self { blanks_in_spaces: true, properties_bytes_max: usize::MAX };
}

/// A store without spaces.
pub struct StoreSubject {
    /// The store.
    pub store: Arc<dyn DeletableStore>,
    /// Its declared limits. The store must keep items within them and refuse items beyond them.
    pub limits: StoreLimits,
    /// Dropped last.
    pub keep: Keep,
}

impl fmt::Debug for QueueSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSubject").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl fmt::Debug for TableSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSubject").field("table", &self.table).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSubject").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Runs one case to its end, on a runtime of its own.
pub fn run<T>(case: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case)
}

/// Awaits `future` while time passes in small steps. Returns also how much of the subject's time passed.
pub(crate) async fn while_time_passes<T>(time: &dyn TimeDriver, future: impl Future<Output = T>) -> (T, Duration) {
    const STEP: Duration = Duration::from_millis(100);
    // Real time for threads of the back end, before the subject's time moves.
    const PAUSE: Duration = Duration::from_millis(2);
    let mut future = pin!(future);
    let mut passed = Duration::ZERO;
    while passed < Duration::from_mins(2) {
        if let Ok(value) = tokio::time::timeout(PAUSE, future.as_mut()).await {
            return (value, passed);
        }
        time.pass(STEP).await;
        passed += STEP;
    }
    panic!("it did not end within {passed:?}");
}
