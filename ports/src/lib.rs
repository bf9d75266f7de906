//! The ports of Mill: behaviours that every back end must share.
//!
//! Reading order: [`queue`], [`store`], [`table`] (the three ports of IO), [`clock`] (time and random numbers),
//! [`engine`] (the queues and tables of one installation), [`placed_store`] (what is at a store's root), [`processor`]
//! (runs a task), [`store_caps`] (how many tasks may use a store at once), [`statistics`] and [`task_ledger`]
//! (counters), [`item_events`] (what became of each entry), [`complete_listing`] (checks a listing), [`deed_check`] (a
//! last check before a change), [`backoff`] (pauses between tries), [`rate_limited_log`] (limits repeated warnings).
//!
//! **Invariant:** no vendor, path or SQL appears here. Every behaviour promised here has a case in `conformance`,
//! which every back end and every wrapper passes.

pub mod backoff;
pub mod clock;
pub mod complete_listing;
pub mod deed_check;
pub mod engine;
pub mod item_events;
pub mod placed_store;
pub mod processor;
pub mod queue;
pub mod rate_limited_log;
pub mod statistics;
pub mod store;
pub mod store_caps;
pub mod table;
pub mod task_ledger;

pub use backoff::Backoff;
pub use clock::{Clock, Rng, RngExt, SecondClockReading};
pub use complete_listing::{CompleteListing, ListingError};
pub use deed_check::{DeedCheck, may_still_change, with_deed_check};
pub use engine::{Engine, EngineExt, PollingProfile};
pub use item_events::{ItemEvents, OutcomeDetail};
pub use placed_store::{
    OwnerMark, PlaceInHolder, PlacedStore, RootFacts, SharedContentError, SpaceLocation, StorePairGuard,
};
pub use processor::{
    Attempt, DeliveryLease, FailureClass, FollowUp, ItemOutcomeNote, ProcessorError, Registry, TaskHandler,
    TaskOutcome, TaskProcessor, TaskProcessorFactory,
};
pub use queue::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};
pub use rate_limited_log::{REPORTED, RateLimitedLog};
pub use statistics::{ActiveTransfer, PendingCall, PendingWrite, Statistics, StoreWait, TransferGuard, WriteProgress};
pub use store::{
    Attachments, Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore,
    LeftOutEntries, ListEntry, ListPage, Listing, OpenItem, Place, Precondition, Presence, PutRequest, PutResult,
    RefusalReason, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError, StoreErrorKind, Stores, TagReader, Tags,
    TagsWritten, directory_has_entries, is_same_object,
};
pub use store_caps::{CapUnknownError, NoCaps, StoreCaps};
pub use table::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
pub use task_ledger::{CountedAs, EndedTask, SubjectHash, subject_of};

/// Any error, as the source of a port's error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The message of an error and of all its sources, on one line, for logs, histories and reports.
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
