//! The verbs of Mill: behaviours that two back ends must share.
//!
//! Reading order: [`queue`], [`store`], [`table`] (the three ports of IO), [`clock`] (time and chance), [`engine`] (the queues
//! and tables of one installation, opened), [`placed_store`] (what stands at a store's root), [`processor`]
//! (what a workman hands a task to), [`store_caps`] (how many tasks use a store at once), [`statistics`] and [`task_ledger`]
//! (what all of them count), [`rate_limited_log`] (warnings that could come with every item); and, for trials of Mill itself,
//! [`planted_bugs`] (bugs on purpose), [`crash`] (where processes are killed) and [`slot_probe`] (what no port shows).
//!
//! **Invariant:** no vendor, path or SQL appears here. Every behaviour promised here has a case in `conformance`,
//! which every back end and every wrapper passes.

pub mod clock;
pub mod crash;
pub mod engine;
pub mod placed_store;
pub mod planted_bugs;
pub mod processor;
pub mod queue;
pub mod rate_limited_log;
pub mod slot_probe;
pub mod statistics;
pub mod store;
pub mod store_caps;
pub mod table;
pub mod task_ledger;

pub use clock::{Clock, Rng, RngExt, SecondClockReading};
pub use crash::{CrashPoint, crash_point};
pub use engine::{Engine, EngineExt, PollingProfile};
pub use placed_store::{
    OwnerMark, PlaceInHolder, PlacedStore, RootFacts, SharedContentError, SpaceLocation, StorePairGuard,
};
pub use planted_bugs::{PlantedBug, planted};
pub use processor::{
    Attempt, DeliveryLease, FailureClass, FollowUp, ItemOutcomeNote, ProcessorError, Registry, TaskHandler,
    TaskOutcome, TaskProcessor, TaskProcessorFactory,
};
pub use queue::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};
pub use rate_limited_log::RateLimitedLog;
pub use slot_probe::report_slots;
pub use statistics::{ActiveTransfer, PendingCall, PendingWrite, Statistics, StoreWait, TransferGuard, WriteProgress};
pub use store::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, LeftOutEntries,
    ListEntry, ListPage, Listing, OpenItem, Place, Precondition, Presence, PutRequest, PutResult, RefusalReason,
    Respelling, SourceStore, SpaceFacts, SpaceList, StoreError, StoreErrorKind, Stores, directory_has_entries,
    is_same_object,
};
pub use store_caps::{CapUnknownError, NoCaps, StoreCaps};
pub use table::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
pub use task_ledger::{EndedTask, SubjectHash, subject_of};

/// Any error, kept as the source of a port's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with the whole chain of its sources, on one line, as logs, histories and reports give it.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
