//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// A group of writes is made in an open transaction.
    SQLITE_BEFORE_COMMIT = "sqlite-before-commit",
    /// A group is committed; the callers have no answer yet.
    SQLITE_COMMITTED = "sqlite-committed",
    /// The write-ahead log is about to be checkpointed into the database.
    SQLITE_BEFORE_CHECKPOINT = "sqlite-before-checkpoint",
    /// The process's own directory for temporary files is created and locked.
    FOLDER_STAGING_MADE = "folder-staging-made",
    /// The temporary files of a dead process are removed; their directory is not.
    FOLDER_LEFTOVERS_REMOVED = "folder-leftovers-removed",
    /// A temporary file is created, and empty.
    FOLDER_TEMPORARY_MADE = "folder-temporary-made",
    /// Bytes are in a temporary file, perhaps not all.
    FOLDER_TEMPORARY_WRITTEN = "folder-temporary-written",
    /// A temporary file has its bytes and properties.
    FOLDER_TEMPORARY_FINISHED = "folder-temporary-finished",
    /// A group's temporary files are ready, and not synced.
    FOLDER_BEFORE_FIRST_SYNC = "folder-before-first-sync",
    /// They are synced; no name has appeared.
    FOLDER_FIRST_SYNCED = "folder-first-synced",
    /// A directory that an item's name implies is created.
    FOLDER_DIRECTORY_MADE = "folder-directory-made",
    /// One file of a group is renamed into place; others may not be.
    FOLDER_RENAMED = "folder-renamed",
    /// A file is removed; the directories that only it implied are still there.
    FOLDER_REMOVED = "folder-removed",
    /// Some of an item's properties are set in place.
    FOLDER_PROPERTIES_BEGUN = "folder-properties-begun",
    /// A group's changes are made and not synced.
    FOLDER_BEFORE_SECOND_SYNC = "folder-before-second-sync",
    /// They are synced; the callers have no answer yet.
    FOLDER_SECOND_SYNCED = "folder-second-synced",
    /// An item is written whose properties belong in the sidecar.
    SIDECAR_BEFORE_WRITE = "sidecar-before-write",
    /// The sidecar has them.
    SIDECAR_WRITTEN = "sidecar-written",
}
