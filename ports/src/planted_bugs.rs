//! Bugs on purpose, so that the simulation of the fleet can show that it finds such bugs.
//!
//! One that makes a call of its own stands in what the simulator wraps around the rooms: no code that ships makes such a call.
//! Any other stands at the place in production code where a real one like it would, as one `if planted(…)`. Without the
//! feature `trials`, [`planted`] is `false` for the compiler to see, and nothing of them is left in what ships.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A deliberate bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum PlantedBug { $($(#[$doc])* $name,)* }

        impl PlantedBug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name by which it is asked for.
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
    /// The workman takes a send that failed in part as done.
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
    /// What a task took of its stores is never given back.
    PermitNeverGivenBack = "permit-never-given-back";
    /// A task that comes back is put back once more, for long, while others of its account are away.
    PutBackInTurns = "put-back-in-turns";
    /// A task takes its slot first, and waits in it for its stores.
    SlotBeforePermits = "slot-before-permits";
    /// Of those that wait, only the accounts behind the one that was served last are looked at.
    AccountPassedOver = "account-passed-over";
    /// The lower queues are left alone for hours once nothing was found.
    LowQueueLeftAlone = "low-queue-left-alone";
    /// A task that failed comes again at once.
    RetryWithoutDelay = "retry-without-delay";
    /// A task is snoozed for longer than its queue can, and so never.
    DelayNotShortened = "delay-not-shortened";
    /// Leases are looked at every other visibility timeout.
    HeartbeatTooRare = "heartbeat-too-rare";
    /// A lease is taken to last longer than the queue said.
    LeaseBelievedTooLong = "lease-believed-too-long";
    /// A task is kept for as long as it runs, whatever its queue allows.
    HeldBeyondTotal = "held-beyond-total";
    /// A processor that panics takes its attempt along.
    PanicNotCaught = "panic-not-caught";
    /// Follow-ups are forgotten.
    FollowUpsForgotten = "follow-ups-forgotten";
    /// The drain acknowledges a letter before it is in the table.
    DrainAcknowledgesFirst = "drain-acknowledges-first";
    /// A letter is marked as retried before its task is sent.
    RetryMarkedBeforeSent = "retry-marked-before-sent";
    /// A letter that another person has decided about is decided once more.
    DecidedTwice = "decided-twice";
    /// An item that may not be looked at is taken for absent.
    DeniedReadAsAbsent = "denied-read-as-absent";
    /// Policy is not asked again right before a delete.
    PolicyNotAskedAgain = "policy-not-asked-again";
    /// A delete list that is held is carried out by its tasks.
    UngrantedListDeletes = "ungranted-list-deletes";
    /// A task of the kind `duplicate` deletes what is gone at the source.
    DuplicateDeletes = "duplicate-deletes";
    /// A later survey forgets that deletes of the pair are held.
    HoldForgotten = "hold-forgotten";
    /// A person's confirmation of one delete list grants every list that is held.
    ConfirmedForAll = "confirmed-for-all";
    /// A delete list can be granted before its last row is written.
    HeadBeforeRow = "head-before-row";
    /// A source space that is not there is read as items that are gone.
    AbsentSpaceReadAsGone = "absent-space-read-as-gone";
    /// A delete is made whatever stands there by then.
    UnconditionalDelete = "unconditional-delete";
    /// A copy is written whatever stands there by then.
    StaleOverNewer = "stale-over-newer";
    /// A copy is made without the item's properties.
    PropertiesForgotten = "properties-forgotten";
    /// Items of the same size are taken for the same.
    SizeAloneCompared = "size-alone-compared";
    /// Bytes that are not those of the source's checksum are let through.
    DamageLetThrough = "damage-let-through";
    /// Two stores that are one place under two names are taken for two.
    OverlapByText = "overlap-by-text";
    /// A destination space that belongs to another source is written.
    OwnerIgnored = "owner-ignored";
    /// A listing that breaks off is taken for complete.
    ShortListingBelieved = "short-listing-believed";
    /// The comparison loses an item between the listing and the queue.
    EntryPassedOver = "entry-passed-over";
    /// A survey that queued what nothing proves to be in sync says that all is.
    UnprovenCalledInSync = "unproven-called-in-sync";
    /// A space that a rule leaves out is passed over without a word.
    LeftOutUnnamed = "left-out-unnamed";
    /// The producer saves its marker before the tasks are sent.
    MarkerBeforeSend = "marker-before-send";
    /// The producer takes a batch that failed in part as sent.
    ProducerIgnoresPartialSend = "producer-ignores-partial-send";
    /// No pass is ever held back.
    DeleteThresholdOff = "delete-threshold-off";
    /// A source space that is missing is taken as gone at once, and as confirmed.
    MissingSpaceRetiredAtOnce = "missing-space-retired-at-once";
    /// A producer begins no account's run while that of any other is going on.
    OneRunOverAll = "one-run-over-all";
    /// A producer saves a row of its table whatever another has written there.
    UnconditionalSave = "unconditional-save";
    /// A producer removes a row of its table whatever another has written there.
    UnconditionalRemoval = "unconditional-removal";
    /// A producer takes a table over without writing its rows again.
    RowsNotClaimed = "rows-not-claimed";
    /// A producer works although another holds the lease.
    StateLeaseIgnored = "state-lease-ignored";
    /// A seal is taken to hold in whatever state both sides are.
    StaleSealBelieved = "stale-seal-believed";
    /// A destination shows an item while its bytes are still coming.
    WriteNotAtomic = "write-not-atomic";
    /// What nothing proves of a copy is compared as a cache has it.
    CacheCompared = "cache-compared";
    /// A destination reports a write as done although its flush failed.
    FailedFlushBelieved = "failed-flush-believed";
    /// A destination keeps a temporary file of a write that failed.
    TemporaryFileLeft = "temporary-file-left";
    /// A destination that takes names for one another gives the item of the one for that of the other.
    FoldUnseen = "fold-unseen";
    /// What stands at a destination under another spelling of a name is given that name although the source has both.
    TwinRespelled = "twin-respelled";
}

#[cfg(feature = "trials")]
mod on {
    use std::cell::Cell;

    use super::PlantedBug;

    std::thread_local! {
        static BUG: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with the bug. Only the simulator ever plants one.
    pub fn planted(bug: PlantedBug) -> bool {
        BUG.get() == Some(bug)
    }

    /// Plants a bug in this thread, or takes it out again.
    pub fn plant(bug: Option<PlantedBug>) {
        BUG.set(bug);
    }
}

#[cfg(feature = "trials")]
pub use on::{plant, planted};

/// Whether this thread runs with the bug: never, without the feature `trials`.
#[cfg(not(feature = "trials"))]
#[inline(always)]
#[allow(clippy::inline_always)] // so that not even the call is left
pub const fn planted(_: PlantedBug) -> bool {
    false
}
