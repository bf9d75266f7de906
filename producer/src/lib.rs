//! Finds work: compares what policies ask for with what listings show, and queues tasks.
//!
//! Promise: in each run, every item of every space that a store policy covers is queued or proven to be in sync, despite
//! crashes, full queues and failing stores. A failing account never stops another account's work.
//!
//! Reading order: `looping` (what is the same for every producer: a lease, runs of accounts, rounds over their morsels, room in
//! the queue, reads of stores in the background), [`duplication`] (what a producer of copies does in a morsel's turn),
//! `listing` (a listing that is complete and in order), `timed_stores` (stores that must answer in time).
//!
//! **Invariant:** a producer writes no store: it holds both stores of a morsel as [`mill_ports::SourceStore`], which has no
//! method that writes. A marker is saved only once all items before it are in the queue. Deletes are queued only from two
//! complete, ordered listings, and for a missing source space only once a person has confirmed that it is gone.

mod crash_points;
pub mod duplication;
mod listing;
mod looping;
mod timed_stores;

pub use crash_points::CRASH_POINTS;
pub use duplication::DuplicationProducer;
pub use duplication::closing::{ClosingReport, IsRefused};
pub use duplication::report::{
    AbsentSpace, DuplicationFindings, EntryClass, HeldDeletes, LeftOutEntry, LeftOutReport, MissingEntry,
    SessionReport, UncopiedEntry,
};
pub use duplication::settings::{AbsentSource, ProducerDeps, ProducerSettings};
pub use looping::report::{LoopingReport, ProducerError, SessionEnd, SpaceFailure, SpaceFailureKind};
pub use looping::session_loop::SessionPauses;
pub use looping::settings::{LoopingDeps, LoopingSettings, QueueSizing, RunStart, WhenFull};

#[cfg(test)]
mod tests;
