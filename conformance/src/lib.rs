//! Proof that the back ends keep what the ports promise: one suite a port, the same for every back end and wrapper.
//!
//! Reading order: [`subject`] (what is tested and how time passes for it), [`suite`] (how one list of cases becomes
//! tests), [`queue`], [`table`], [`store`], [`hostile`] (the cases), [`mod@reference`] (models of a few lines, against
//! which random operations are checked). They know the ports alone; what needs other rooms too stands in `mill-simulation`.
//!
//! A new back end writes one function that opens a fresh [`subject`] and names it in `tests/it`:
//!
//! ```ignore
//! mill_conformance::table_suite!(sqlite, crate::backends::sqlite_table);
//! mill_conformance::queue_suite!(
//!     sqlite, crate::backends::sqlite_queue, fences_stale_receipts: yes, exact_depth: yes, tells_age: yes,
//!     passes_over: yes
//! );
//! mill_conformance::store_suite!(folder, crate::backends::folder_store, versions_in_listings: yes);
//! ```
//!
//! **Invariant:** a case demands only what the port's documentation promises. What a back end need not promise is
//! decided by a declared capability; a case that does not apply is listed as ignored with the reason, and the
//! declaration itself is tested. No case knows which back end it runs on.

// Only tests run this crate: a broken promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod engine;
pub mod hostile;
pub mod queue;
pub mod reference;
pub mod store;
pub mod subject;
pub mod suite;
pub mod table;

pub use hostile::HostileSubject;
pub use subject::{EngineSubject, Keep, QueueSubject, StoreLimits, StoreSubject, TableSubject, TimeDriver};
