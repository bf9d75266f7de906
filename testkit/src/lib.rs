//! What tests stand on: back ends that live in memory, and wrappers that fail and record.
//!
//! The memory back ends are no mocks: they pass the suites of `conformance` like every other, and use the freedom
//! that the contracts leave them on purpose (shuffled and doubled deliveries, inexact depths, short pages), so that
//! what works on them works elsewhere.
//!
//! Reading order: [`clock`] and [`seeded_rng`] (time and random numbers under a test's control), [`queue`], [`table`],
//! [`store`] (the back ends), [`port_call`] (the calls that wrappers know by name), [`call_recorder`],
//! [`fault_injector`] (the wrappers).
//!
//! **Invariant:** nothing here reads the operating system's clock or chance. The same seed and the same calls in the
//! same order give the same answers. Nothing survives the process, and nothing here ships.

pub mod call_recorder;
pub mod clock;
pub mod fault_injector;
pub mod port_call;
pub mod queue;
pub mod seeded_rng;
pub mod store;
pub mod table;

pub use call_recorder::{CallCount, CallRecorder};
pub use clock::{ManualClock, SimClock};
pub use fault_injector::{FaultInjector, FaultKind, FaultPlan, FaultRates, FaultyStore, InjectedFault};
pub use port_call::PortCall;
pub use queue::{MemoryQueue, MemoryQueues, QueueBehavior, QueuedBody};
pub use seeded_rng::SeededRng;
pub use store::{MemoryStore, MemoryStores, StoreBehavior};
pub use table::MemoryTable;
