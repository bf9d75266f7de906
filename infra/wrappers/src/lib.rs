//! Wrappers that stand before any store, in what ships: [`limited_store`] caps its transfers, [`call_tracking`] knows which calls
//! it has not answered, [`read_only_store`] refuses each change.
//!
//! **Invariant:** a wrapper promises what the store behind it promises, and passes the same suites; a read-only one, those of
//! reading.

pub mod call_tracking;
pub mod limited_store;
pub mod read_only_store;

pub use call_tracking::{TrackedStore, TrackedStores};
pub use limited_store::LimitedStore;
pub use read_only_store::ReadOnlyStore;
