//! Finds work: compares what policies ask for with what listings show, and queues tasks.
//!
//! Promise: every item of every space that a store policy covers is either queued or proven to be in sync once a run,
//! whatever crashes, full queues or failing stores come between; one account's trouble never stops another's work.
//!
//! Reading order: [`duplication`] (a session as others use it), `stay` (one after another), `session` (the run, its rounds and its ends; what is read of stores goes on beside it),
//! `spaces` (which morsels a run has), `turn` (deletes first, then a nibble of copies), `delete_step` and `list_writer`
//! (what vanished becomes a list, and the list tasks once it is granted), `retire` (a source space that is not there),
//! `copies` and `survey` (what is gathered from a comparison), `merge` and `listing` (the comparison), `ends` (both stores
//! of a morsel), `stores` (which of them does not answer), `sending` (tasks into the queue), `drain` (how many it may hold), `closing` (whether all is in sync once the work is done), [`settings`], [`report`].
//!
//! **Invariant:** a producer writes no store; both ends of a morsel are held by the type that cannot. A marker is saved
//! only behind what is surely in the queue. Deletes are queued only from two listings that were complete and in order,
//! and never for a source space that is not there, unless it is proven gone and a person confirmed it.

mod closing;
mod copies;
mod delete_step;
mod drain;
pub mod duplication;
mod ends;
mod list_writer;
mod listing;
mod merge;
mod paths;
pub mod report;
mod respelled;
mod retire;
mod sending;
mod session;
pub mod settings;
mod spaces;
mod stay;
mod stores;
mod survey;
mod turn;

pub use closing::{ClosingReport, IsRefused};
pub use duplication::DuplicationProducer;
pub use report::{
    AbsentSpace, Ended, EntryClass, HeldDeletes, LeftOutEntry, LeftOutReport, MissingEntry, NamedEntry, ProducerError,
    SessionReport, SpaceFailed, Trouble,
};
pub use settings::{AbsentSource, Begins, DeleteThresholds, Deps, QueueSizing, Settings, WhenFull};
pub use stay::Pauses;

#[cfg(test)]
mod tests;
