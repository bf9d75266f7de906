//! Finds work: compares what policies ask for with what listings show, and queues tasks.
//!
//! Promise: in each run, every item of every space that a store policy covers is queued or proven to be in sync, despite
//! crashes, full queues and failing stores. A failing account never stops another account's work.
//!
//! Reading order: [`duplication`] (the producer as others use it), `session_loop` (one session after another), `session` (the
//! rounds over all morsels, the runs of accounts, and reads of stores in the background), `discovery` (which morsels a run
//! has), `morsel_step` (deletes first, then a nibble of copies), `delete_step` and `list_writer` (what vanished becomes a
//! list, and the list becomes tasks once it is granted), `missing_space` (a source space that is not there), `nibble` and
//! `delete_scan` (what is collected from a comparison), `merge` and `listing` (the comparison), `endpoints` (both stores of a
//! morsel), `timed_stores` (stores that must answer in time), `task_sender` (tasks into the queue), `queue_sizer` (how many
//! tasks the queue may hold), `closing` (whether all is in sync once the work is done), [`settings`], [`report`].
//!
//! **Invariant:** a producer writes no store: it holds both stores of a morsel as [`mill_ports::SourceStore`], which has no
//! method that writes. A marker is saved only once all items before it are in the queue. Deletes are queued only from two
//! complete, ordered listings, and for a missing source space only once a person has confirmed that it is gone.

mod closing;
mod delete_scan;
mod delete_step;
mod discovery;
pub mod duplication;
mod endpoints;
mod list_writer;
mod listing;
mod merge;
mod missing_space;
mod morsel_step;
mod nibble;
mod paths;
mod queue_sizer;
pub mod report;
mod respelled_items;
mod session;
mod session_loop;
pub mod settings;
mod task_sender;
mod timed_stores;

pub use closing::{ClosingReport, IsRefused};
pub use duplication::DuplicationProducer;
pub use report::{
    AbsentSpace, EntryClass, HeldDeletes, LeftOutEntry, LeftOutReport, MissingEntry, ProducerError, SessionEnd,
    SessionReport, SpaceFailure, SpaceFailureKind, UncopiedEntry,
};
pub use session_loop::SessionPauses;
pub use settings::{AbsentSource, DeleteThresholds, ProducerDeps, ProducerSettings, QueueSizing, RunStart, WhenFull};

#[cfg(test)]
mod tests;
