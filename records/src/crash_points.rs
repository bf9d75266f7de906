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
}
