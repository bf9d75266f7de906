//! Bugs on purpose, so that the simulation can show that it finds such bugs.
//!
//! A bug that makes a call of its own is in the wrappers of the simulator: no shipped code makes such a call. Any other
//! bug is one `if is_planted(…)` at the place in production code where a real bug like it would be. Without the feature
//! `test-hooks`, [`is_planted`] is a constant `false`, so that the compiler removes all of them.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A deliberate bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum PlantedBug { $($(#[$doc])* $name,)* }

        impl PlantedBug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the settings of the simulator.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

bugs! {
    /// The workman acknowledges a task that it dead-letters before it sends the dead letter.
    LetterAfterAcknowledge = "letter-after-acknowledge";
    /// The workman acknowledges a task before its processor ran.
    AcknowledgeBeforeWrite = "acknowledge-before-write";
    /// The workman treats a send that failed in part as done.
    WorkmanIgnoresPartialSend = "workman-ignores-partial-send";
    /// The workman acknowledges a task whose lease it lost, by a receipt that may be stale.
    StaleReceiptAcknowledged = "stale-receipt-acknowledged";
    /// Side effects begin although the task's lease is over.
    LostLeaseIgnored = "lost-lease-ignored";
    /// The history of a task's failures begins anew with each.
    HistoryReset = "history-reset";
    /// A snoozed task counts as failed.
    SnoozeCountsAsFailure = "snooze-counts-as-failure";
    /// A task that met a throttling store counts as failed.
    ThrottlingCountsAsFailure = "throttling-counts-as-failure";
    /// A permanent error is tried again.
    PermanentErrorRetried = "permanent-error-retried";
    /// A task that must wait is put back by its visibility, which counts as a receive.
    PutBackByVisibility = "put-back-by-visibility";
    /// A task's permits at its stores are never released.
    PermitNeverGivenBack = "permit-never-given-back";
    /// A task that is delivered again is snoozed once more, for a long time, while others of its account wait.
    PutBackInTurns = "put-back-in-turns";
    /// A task takes its slot first, and waits in it for permits at its stores.
    SlotBeforePermits = "slot-before-permits";
    /// Only waiting accounts that come after the one served last are considered.
    AccountPassedOver = "account-passed-over";
    /// The lower queues are left alone for hours once nothing was found.
    LowQueueLeftAlone = "low-queue-left-alone";
    /// A task that failed is retried without a delay.
    RetryWithoutDelay = "retry-without-delay";
    /// A task is snoozed for longer than its queue allows, and so never.
    DelayNotShortened = "delay-not-shortened";
    /// Leases are checked every other visibility timeout.
    HeartbeatTooRare = "heartbeat-too-rare";
    /// A lease is assumed to last longer than the queue says.
    LeaseBelievedTooLong = "lease-believed-too-long";
    /// A task is held for as long as it runs, whatever its queue allows.
    HeldBeyondTotal = "held-beyond-total";
    /// A panic of a processor ends its attempt without a result.
    PanicNotCaught = "panic-not-caught";
    /// Follow-ups are forgotten.
    FollowUpsForgotten = "follow-ups-forgotten";
    /// The drain acknowledges a dead letter before it is in the table.
    DrainAcknowledgesFirst = "drain-acknowledges-first";
    /// A dead letter is marked as retried before its task is sent.
    RetryMarkedBeforeSent = "retry-marked-before-sent";
    /// A dead letter that another person has decided about is decided once more.
    DecidedTwice = "decided-twice";
    /// An item that may not be read is treated as absent.
    DeniedReadAsAbsent = "denied-read-as-absent";
    /// Policy is not asked again right before a delete.
    PolicyNotAskedAgain = "policy-not-asked-again";
    /// Tasks execute a delete list that is held.
    UngrantedListDeletes = "ungranted-list-deletes";
    /// A task of the kind `duplicate` deletes what is gone at the source.
    DuplicateDeletes = "duplicate-deletes";
    /// A later survey forgets that deletes of the pair are held.
    HoldForgotten = "hold-forgotten";
    /// A person's confirmation of one delete list grants every list that is held.
    ConfirmedForAll = "confirmed-for-all";
    /// A delete list can be granted before its last row is written.
    HeadBeforeRow = "head-before-row";
    /// An absent source space is treated as if its items were gone.
    AbsentSpaceReadAsGone = "absent-space-read-as-gone";
    /// A delete is made whatever is there by then.
    UnconditionalDelete = "unconditional-delete";
    /// A copy is written over whatever is there by then.
    StaleOverNewer = "stale-over-newer";
    /// A copy is made without the item's properties.
    PropertiesForgotten = "properties-forgotten";
    /// Items of the same size are treated as equal.
    SizeAloneCompared = "size-alone-compared";
    /// Bytes that do not match the source's checksum are written.
    DamageLetThrough = "damage-let-through";
    /// Two stores that are one place under two names are treated as two.
    OverlapByText = "overlap-by-text";
    /// A destination space that belongs to another source is written.
    OwnerIgnored = "owner-ignored";
    /// A listing that breaks off is treated as complete.
    ShortListingBelieved = "short-listing-believed";
    /// The comparison loses an item between the listing and the queue.
    EntryPassedOver = "entry-passed-over";
    /// A survey reports that all is in sync although items that it queued are not proven.
    UnprovenCalledInSync = "unproven-called-in-sync";
    /// A space that a rule excludes is skipped without a message.
    LeftOutUnnamed = "left-out-unnamed";
    /// The producer saves its marker before the tasks are sent.
    MarkerBeforeSend = "marker-before-send";
    /// The producer treats a batch that failed in part as sent.
    ProducerIgnoresPartialSend = "producer-ignores-partial-send";
    /// The delete guard never holds a pass.
    DeleteThresholdOff = "delete-threshold-off";
    /// A missing source space is treated as gone at once, and as confirmed.
    MissingSpaceRetiredAtOnce = "missing-space-retired-at-once";
    /// A producer begins no account's run while the run of another account is going on.
    OneRunOverAll = "one-run-over-all";
    /// A producer saves a row of its table whatever another has written there.
    UnconditionalSave = "unconditional-save";
    /// A producer removes a row of its table whatever another has written there.
    UnconditionalRemoval = "unconditional-removal";
    /// A producer takes over a table without writing its rows again.
    RowsNotClaimed = "rows-not-claimed";
    /// A producer works although another holds the lease.
    StateLeaseIgnored = "state-lease-ignored";
    /// A sync proof is accepted whatever the state of both sides is.
    StaleSealBelieved = "stale-seal-believed";
    /// The bytes of a source that a verification found damaged replace its copy.
    DamagedSourceCopied = "damaged-source-copied";
    /// The copy of a source that a verification found damaged is deleted.
    DamagedSourceDeleted = "damaged-source-deleted";
    /// A run ends as soon as its queues are empty once, although its producer still finds work.
    EndsWhileProducing = "ends-while-producing";
    /// A run that ends by itself takes snoozed tasks as done.
    SnoozedTakenAsDone = "snoozed-taken-as-done";
    /// A run that was stopped does not say so.
    StopUnsaid = "stop-unsaid";
    /// A run takes the items whose outcome it does not know as in sync.
    OpenItemsCalledInSync = "open-items-called-in-sync";
    /// A run takes a space that was skipped as in sync.
    SkippedSpaceForgotten = "skipped-space-forgotten";
    /// A destination shows an item while its bytes are still coming.
    WriteNotAtomic = "write-not-atomic";
    /// The comparison that proves a copy reads from a cache.
    CacheCompared = "cache-compared";
    /// A destination reports a write as done although its flush failed.
    FailedFlushBelieved = "failed-flush-believed";
    /// A destination keeps a temporary file of a write that failed.
    TemporaryFileLeft = "temporary-file-left";
    /// A destination that folds names returns the item of one name for another.
    FoldUnseen = "fold-unseen";
    /// A destination item with another spelling of a name is respelled although the source has both.
    TwinRespelled = "twin-respelled";
    /// An audited store is changed without an intent.
    ChangedWithoutIntent = "changed-without-intent";
    /// The event of a lost writer gets a new id each time that it is sent.
    EventIdDrawnAnew = "event-id-drawn-anew";
    /// What a lost writer was about to do is forgotten without a look.
    LostWriterForgotten = "lost-writer-forgotten";
    /// A checkpoint is published although another publisher committed first.
    UncommittedNotePublished = "uncommitted-note-published";
    /// The checkpoint of a store is replaced by any other, also by an older one.
    CheckpointGoesBack = "checkpoint-goes-back";
    /// A checkpoint is written before the files that it names.
    CheckpointBeforeFiles = "checkpoint-before-files";
    /// It is not recorded where an event stands in the audit log, so its repeats are entered again.
    PlacesForgotten = "places-forgotten";
    /// The content index has what arrived last.
    LastArrivalIndexed = "last-arrival-indexed";
    /// A delete is granted for an event and not counted.
    EventDeleteUncounted = "event-delete-uncounted";
    /// An audited store does not ask again, after the intent, whether the change may still be made.
    DeedUnchecked = "deed-unchecked";
    /// A version that a store has given twice passes for that of one change.
    OneVersionOneChange = "one-version-one-change";
}

#[cfg(feature = "test-hooks")]
mod on {
    use std::cell::Cell;

    use super::PlantedBug;

    std::thread_local! {
        static BUG: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with the bug. Only the simulator plants one.
    pub fn is_planted(bug: PlantedBug) -> bool {
        BUG.get() == Some(bug)
    }

    /// Plants a bug in this thread, or removes it.
    pub fn plant(bug: Option<PlantedBug>) {
        BUG.set(bug);
    }
}

#[cfg(feature = "test-hooks")]
pub use on::{is_planted, plant};

/// Whether this thread runs with the bug: never, without the feature `test-hooks`.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
#[allow(clippy::inline_always)] // so that not even the call is left
pub const fn is_planted(_: PlantedBug) -> bool {
    false
}
