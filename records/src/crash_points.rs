//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// A dead letter is about to be retried.
    LETTERS_BEFORE_RETRY = "letters-before-retry",
    /// Its task is queued; the dead letter is still open.
    LETTERS_RETRY_SENT = "letters-retry-sent",
    /// The decision about a dead letter is in the table.
    LETTERS_DECIDED = "letters-decided",
    /// The intent of a change is in the table; nothing is changed.
    AUDIT_INTENT_WRITTEN = "audit-intent-written",
    /// The change is made; no event is sent.
    AUDIT_CHANGE_MADE = "audit-change-made",
    /// The event is sent; its intent is still in the table.
    AUDIT_EVENT_SENT = "audit-event-sent",
    /// New entries of a log are committed; no file of them is written.
    LOG_COMMITTED = "log-committed",
    /// Their files are written into a store; its checkpoint is the old one.
    LOG_FILES_WRITTEN = "log-files-written",
    /// The new checkpoint is in a store.
    LOG_CHECKPOINT_WRITTEN = "log-checkpoint-written",
    /// The places of the new entries are written; their events still wait.
    LOG_EVENTS_PLACED = "log-events-placed",
}
