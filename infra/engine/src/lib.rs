//! Back ends that live in memory, and wrappers that stand before any back end.
//!
//! The memory back ends are no mocks: they pass the suites of `conformance` like every other, and use the freedom
//! that the contracts leave them on purpose (shuffled and doubled deliveries, inexact depths, short pages), so that
//! what works on them works elsewhere.
//!
//! Reading order: [`clock`] and [`chance`] (time and chance under a test's control), [`queue`], [`table`], [`store`]
//! (the back ends), [`op`] (the calls that wrappers know by name), [`recording`], [`limited`], [`asked`],
//! [`faulty`] (the wrappers).
//!
//! **Invariant:** nothing here reads the operating system's clock or chance. The same seed and the same calls in the
//! same order give the same answers. Nothing survives the process.

pub mod asked;
pub mod chance;
pub mod clock;
pub mod faulty;
pub mod limited;
pub mod op;
pub mod queue;
pub mod recording;
pub mod store;
pub mod table;

pub use asked::{AskedStore, AskedStores};
pub use chance::SeededChance;
pub use clock::{HandClock, SimClock};
pub use faulty::{Fault, FaultKind, FaultPlan, FaultRates, Faulty, FaultyStore};
pub use limited::Limited;
pub use op::Op;
pub use queue::{MemoryQueue, MemoryQueues, QueueHabits, Standing};
pub use recording::{Calls, Recording};
pub use store::{MemoryStore, MemoryStores, StoreHabits};
pub use table::MemoryTable;

/// Locks a mutex; what a panicking test left behind is still the best there is.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
