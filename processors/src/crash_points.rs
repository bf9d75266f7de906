//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// The content index has an event; it does not wait for its place in the log yet.
    AUDIT_INDEXED = "audit-indexed",
    /// An event waits for its place in the log; no task of it is sent.
    AUDIT_LOGGED = "audit-logged",
    /// The table of owners names this source for the destination space.
    DUPLICATE_CLAIMED = "duplicate-claimed",
    /// The destination space is created.
    DUPLICATE_SPACE_CREATED = "duplicate-space-created",
    /// Both sides are compared, and the bytes are about to be read.
    DUPLICATE_BEFORE_READ = "duplicate-before-read",
    /// The source is open; nothing is written.
    DUPLICATE_BEFORE_WRITE = "duplicate-before-write",
    /// The copy is durable, and neither verified nor recorded as in sync.
    DUPLICATE_WRITTEN = "duplicate-written",
    /// Properties are about to be set.
    DUPLICATE_BEFORE_PROPERTIES = "duplicate-before-properties",
    /// Properties are set; no sync proof is written.
    DUPLICATE_PROPERTIES_SET = "duplicate-properties-set",
    /// A sync proof is about to be written.
    DUPLICATE_BEFORE_SEAL = "duplicate-before-seal",
    /// The sync proof is written.
    DUPLICATE_SEALED = "duplicate-sealed",
    /// All checks before a delete have passed.
    REMOVE_BEFORE_DELETE = "remove-before-delete",
    /// The item is deleted; its sync proof is not.
    REMOVE_DELETED = "remove-deleted",
    /// The sync proof of a deleted item is deleted.
    REMOVE_FORGOTTEN = "remove-forgotten",
    /// All ids of a row are settled; its result is not written.
    REMOVE_BEFORE_RESULT = "remove-before-result",
    /// The row's result is written; its task is not acknowledged.
    REMOVE_RESULT = "remove-result",
    /// `restore`: the space is there; nothing is brought back.
    RESTORE_BEGUN = "restore-begun",
    /// `restore`: an item is about to be written.
    RESTORE_BEFORE_WRITE = "restore-before-write",
    /// `restore`: an item is written.
    RESTORE_WRITTEN = "restore-written",
}
