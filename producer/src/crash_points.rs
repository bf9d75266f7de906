//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// The producer has the lease; nothing is loaded yet.
    PRODUCER_LEASED = "producer-leased",
    /// An account's new run is in the table, without morsels; rows of the last one are still there.
    PRODUCER_RUN_BEGUN = "producer-run-begun",
    /// The last run's rows are removed.
    PRODUCER_CLEARED = "producer-cleared",
    /// An account's morsels are in the table; its run does not say so yet.
    PRODUCER_MORSELS_ADDED = "producer-morsels-added",
    /// The run says that the account's morsels are in the table.
    PRODUCER_ACCOUNT_LISTED = "producer-account-listed",
    /// A delete list is granted; none of its tasks is queued.
    PRODUCER_BEFORE_DELETES = "producer-before-deletes",
    /// Tasks of a delete list are queued; the table does not say so.
    PRODUCER_DELETES_SENT = "producer-deletes-sent",
    /// The table says that deletes are settled.
    PRODUCER_DELETES_SAVED = "producer-deletes-saved",
    /// The task of a new space is queued, those of its items are not.
    PRODUCER_SPACE_SENT = "producer-space-sent",
    /// A nibble is gathered; nothing of it is queued.
    PRODUCER_BEFORE_NIBBLE = "producer-before-nibble",
    /// One batch of a nibble is queued.
    PRODUCER_BATCH_SENT = "producer-batch-sent",
    /// A nibble is queued; the marker has not moved.
    PRODUCER_NIBBLE_SENT = "producer-nibble-sent",
    /// The marker stands behind the nibble.
    PRODUCER_MARKER_SAVED = "producer-marker-saved",
    /// A morsel is done and out of the table.
    PRODUCER_MORSEL_REMOVED = "producer-morsel-removed",
    /// Nothing is left; the run is not marked as finished.
    PRODUCER_BEFORE_FINISH = "producer-before-finish",
    /// The run is marked as finished; the lease is still held.
    PRODUCER_FINISHED = "producer-finished",
}
