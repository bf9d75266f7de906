//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// Deliveries are received; no attempt has begun.
    WORKMAN_RECEIVED = "workman-received",
    /// A task is opened; its processor has not begun.
    WORKMAN_BEFORE_ATTEMPT = "workman-before-attempt",
    /// A processor has answered; its delivery's fate is not decided.
    WORKMAN_ATTEMPTED = "workman-attempted",
    /// A failed task is to be sent again.
    WORKMAN_BEFORE_REQUEUE = "workman-before-requeue",
    /// A task is to be snoozed.
    WORKMAN_BEFORE_SNOOZE = "workman-before-snooze",
    /// Tasks that failed or were snoozed are sent again; their old deliveries are not acknowledged.
    WORKMAN_SENT_AGAIN = "workman-sent-again",
    /// A task is about to be dead-lettered.
    WORKMAN_BEFORE_DEAD_LETTER = "workman-before-dead-letter",
    /// A dead letter is sent; its delivery is not acknowledged.
    WORKMAN_DEAD_LETTERED = "workman-dead-lettered",
    /// Settled deliveries are about to be acknowledged.
    WORKMAN_BEFORE_ACKNOWLEDGE = "workman-before-acknowledge",
    /// They are acknowledged.
    WORKMAN_ACKNOWLEDGED = "workman-acknowledged",
    /// Deliveries are about to be released.
    WORKMAN_BEFORE_RELEASE = "workman-before-release",
    /// They are released.
    WORKMAN_RELEASED = "workman-released",
    /// Leases are about to be extended.
    WORKMAN_BEFORE_EXTEND = "workman-before-extend",
    /// Dead letters are received from their queue; none is in the table.
    DRAIN_RECEIVED = "drain-received",
    /// Dead letters are in the table, and not acknowledged.
    DRAIN_NOTED = "drain-noted",
    /// Dead letters are acknowledged.
    DRAIN_ACKNOWLEDGED = "drain-acknowledged",
}
