//! The verbs of Mill: behaviours that two back ends must share.
//!
//! Reading order: [`queue`], [`store`], [`table`] (the three ports of IO), [`clock`] (time and chance), [`processor`]
//! (what a workman hands a task to), [`caps`] (how many tasks use a store at once), [`statistics`] and [`task_ledger`] (what all of them count); and, for trials of Mill itself,
//! [`mod@planted`] (bugs on purpose), [`crash`] (where processes are killed) and [`witness`] (what no port shows).
//!
//! **Invariant:** no vendor, path or SQL appears here. Every behaviour promised here has a case in `conformance`,
//! which every back end and every wrapper passes.

pub mod caps;
pub mod clock;
pub mod crash;
pub mod planted;
pub mod processor;
pub mod queue;
pub mod statistics;
pub mod store;
pub mod table;
pub mod task_ledger;
pub mod witness;

pub use caps::{CapUnknown, NoCaps, StoreCaps};
pub use clock::{Chance, ChanceExt, Clock, ClockWitness};
pub use crash::{CrashPoint, crash_point};
pub use planted::{Planted, planted};
pub use processor::{
    Attempt, FailureClass, FollowUp, Lease, NotedFate, Outcome, ProcessorError, Registry, TaskProcessor,
    TaskProcessorFactory,
};
pub use queue::{
    BatchReport, Delivery, Depth, Extended, Outgoing, PassedOver, QueueError, QueueErrorKind, QueueLimits, Receipt,
    TaskQueue,
};
pub use statistics::{Awaited, InHand, OpenWrite, Question, Statistics, Transferring, WriteProgress};
pub use store::{
    Body, ByteRange, Capabilities, Content, DeletableStore, DestinationStore, Going, LeftOut, ListPage, Listed,
    Listing, Origin, Place, Presence, Reading, Refusal, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
    StoreErrorKind, Stores, When, Written, holds_anything, is_one_thing,
};
pub use table::{KeyRange, Row, RowKey, RowPage, RowVersion, RowWhen, Table, TableError, TableErrorKind};
pub use task_ledger::{EndedTask, Subject, subject_of};
pub use witness::tell_slots;

/// Any error, kept as the source of a port's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with the whole chain of its sources, on one line, as logs, histories and reports give it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
