//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// A dead letter is about to be retried.
    LETTERS_BEFORE_RETRY = "letters-before-retry",
    /// Its task is queued; the dead letter is still open.
    LETTERS_RETRY_SENT = "letters-retry-sent",
    /// The decision about a dead letter is in the table.
    LETTERS_DECIDED = "letters-decided",
}
