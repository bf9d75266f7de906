//! Named points in the code at which a test can kill the real binary.
//!
//! Only with the feature `trials` can a listener be set; without it a point compiles to nothing, and the binary
//! contains no names of points. The listener decides what happens: the binary's own kills its process, as a power cut
//! would.

/// Declares the points, their names and the list of all.
macro_rules! points {
    ($($(#[$about:meta])+ $point:ident = $name:literal,)+) => {
        /// A point at which a test can kill the process. It is passed each time it is reached.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CrashPoint {
            $($(#[$about])+ $point,)+
        }

        impl CrashPoint {
            /// All of them, in the order of a task's life.
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// Its name: words with hyphens, the room first.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// The configuration is read; nothing is open yet.
    CliConfigured = "cli-configured",
    /// The engine and the tables are open.
    CliOpened = "cli-opened",
    /// `run`: snoozed tasks are visible again; nothing is produced yet.
    CliHastened = "cli-hastened",
    /// `run`: the worker processes are started, and work.
    CliChildrenStarted = "cli-children-started",
    /// A signal asked to stop.
    CliStopping = "cli-stopping",
    /// `run`, `mirror`: all is done, except that dead letters are not in their table yet.
    CliConcluding = "cli-concluding",
    /// The command has done its work and has not exited yet.
    CliDone = "cli-done",
    /// `mirror`: the last run's queue is empty; its producer's state is not deleted yet.
    MirrorPurged = "mirror-purged",
    /// `mirror`: both are deleted; nothing is done yet.
    MirrorReset = "mirror-reset",

    /// The producer has the lease; nothing is loaded yet.
    ProducerLeased = "producer-leased",
    /// An account's new run is in the table, without morsels; rows of the last one are still there.
    ProducerRunBegun = "producer-run-begun",
    /// The last run's rows are removed.
    ProducerCleared = "producer-cleared",
    /// An account's morsels are in the table; its run does not say so yet.
    ProducerMorselsAdded = "producer-morsels-added",
    /// The run says that the account's morsels are in the table.
    ProducerAccountListed = "producer-account-listed",
    /// A delete list is granted; none of its tasks is queued.
    ProducerBeforeDeletes = "producer-before-deletes",
    /// Tasks of a delete list are queued; the table does not say so.
    ProducerDeletesSent = "producer-deletes-sent",
    /// The table says that deletes are settled.
    ProducerDeletesSaved = "producer-deletes-saved",
    /// The task of a new space is queued, those of its items are not.
    ProducerSpaceSent = "producer-space-sent",
    /// A nibble is gathered; nothing of it is queued.
    ProducerBeforeNibble = "producer-before-nibble",
    /// One batch of a nibble is queued.
    ProducerBatchSent = "producer-batch-sent",
    /// A nibble is queued; the marker has not moved.
    ProducerNibbleSent = "producer-nibble-sent",
    /// The marker stands behind the nibble.
    ProducerMarkerSaved = "producer-marker-saved",
    /// A morsel is done and out of the table.
    ProducerMorselRemoved = "producer-morsel-removed",
    /// Nothing is left; the run is not marked as finished.
    ProducerBeforeFinish = "producer-before-finish",
    /// The run is marked as finished; the lease is still held.
    ProducerFinished = "producer-finished",

    /// Deliveries are received; no attempt has begun.
    WorkmanReceived = "workman-received",
    /// A task is opened; its processor has not begun.
    WorkmanBeforeAttempt = "workman-before-attempt",
    /// A processor has answered; its delivery's fate is not decided.
    WorkmanAttempted = "workman-attempted",
    /// A failed task is to be sent again.
    WorkmanBeforeRequeue = "workman-before-requeue",
    /// A task is to be snoozed.
    WorkmanBeforeSnooze = "workman-before-snooze",
    /// Tasks that failed or were snoozed are sent again; their old deliveries are not acknowledged.
    WorkmanSentAgain = "workman-sent-again",
    /// A task is about to be dead-lettered.
    WorkmanBeforeDeadLetter = "workman-before-dead-letter",
    /// A dead letter is sent; its delivery is not acknowledged.
    WorkmanDeadLettered = "workman-dead-lettered",
    /// Settled deliveries are about to be acknowledged.
    WorkmanBeforeAcknowledge = "workman-before-acknowledge",
    /// They are acknowledged.
    WorkmanAcknowledged = "workman-acknowledged",
    /// Deliveries are about to be released.
    WorkmanBeforeRelease = "workman-before-release",
    /// They are released.
    WorkmanReleased = "workman-released",
    /// Leases are about to be extended.
    WorkmanBeforeExtend = "workman-before-extend",
    /// Dead letters are received from their queue; none is in the table.
    DrainReceived = "drain-received",
    /// Dead letters are in the table, and not acknowledged.
    DrainNoted = "drain-noted",
    /// Dead letters are acknowledged.
    DrainAcknowledged = "drain-acknowledged",

    /// The table of owners names this source for the destination space.
    DuplicateClaimed = "duplicate-claimed",
    /// The destination space is created.
    DuplicateSpaceCreated = "duplicate-space-created",
    /// Both sides are compared, and the bytes are about to be read.
    DuplicateBeforeRead = "duplicate-before-read",
    /// The source is open; nothing is written.
    DuplicateBeforeWrite = "duplicate-before-write",
    /// The copy is durable, and neither verified nor recorded as in sync.
    DuplicateWritten = "duplicate-written",
    /// Properties are about to be set.
    DuplicateBeforeProperties = "duplicate-before-properties",
    /// Properties are set; no sync proof is written.
    DuplicatePropertiesSet = "duplicate-properties-set",
    /// A sync proof is about to be written.
    DuplicateBeforeSeal = "duplicate-before-seal",
    /// The sync proof is written.
    DuplicateSealed = "duplicate-sealed",
    /// All checks before a delete have passed.
    RemoveBeforeDelete = "remove-before-delete",
    /// The item is deleted; its sync proof is not.
    RemoveDeleted = "remove-deleted",
    /// The sync proof of a deleted item is deleted.
    RemoveForgotten = "remove-forgotten",
    /// All ids of a row are settled; its result is not written.
    RemoveBeforeResult = "remove-before-result",
    /// The row's result is written; its task is not acknowledged.
    RemoveResult = "remove-result",

    /// A group of writes is made in an open transaction.
    SqliteBeforeCommit = "sqlite-before-commit",
    /// A group is committed; the callers have no answer yet.
    SqliteCommitted = "sqlite-committed",
    /// The write-ahead log is about to be checkpointed into the database.
    SqliteBeforeCheckpoint = "sqlite-before-checkpoint",
    /// The process's own directory for temporary files is created and locked.
    FolderStagingMade = "folder-staging-made",
    /// The temporary files of a dead process are removed; their directory is not.
    FolderLeftoversRemoved = "folder-leftovers-removed",
    /// A temporary file is created, and empty.
    FolderTemporaryMade = "folder-temporary-made",
    /// Bytes are in a temporary file, perhaps not all.
    FolderTemporaryWritten = "folder-temporary-written",
    /// A temporary file has its bytes and properties.
    FolderTemporaryFinished = "folder-temporary-finished",
    /// A group's temporary files are ready, and not synced.
    FolderBeforeFirstSync = "folder-before-first-sync",
    /// They are synced; no name has appeared.
    FolderFirstSynced = "folder-first-synced",
    /// A directory that an item's name implies is created.
    FolderDirectoryMade = "folder-directory-made",
    /// One file of a group is renamed into place; others may not be.
    FolderRenamed = "folder-renamed",
    /// A file is removed; the directories that only it implied are still there.
    FolderRemoved = "folder-removed",
    /// Some of an item's properties are set in place.
    FolderPropertiesBegun = "folder-properties-begun",
    /// A group's changes are made and not synced.
    FolderBeforeSecondSync = "folder-before-second-sync",
    /// They are synced; the callers have no answer yet.
    FolderSecondSynced = "folder-second-synced",
    /// An item is written whose properties belong in the sidecar.
    SidecarBeforeWrite = "sidecar-before-write",
    /// The sidecar has them.
    SidecarWritten = "sidecar-written",

    /// A dead letter is about to be retried.
    LettersBeforeRetry = "letters-before-retry",
    /// Its task is queued; the dead letter is still open.
    LettersRetrySent = "letters-retry-sent",
    /// The decision about a dead letter is in the table.
    LettersDecided = "letters-decided",

    /// `restore`: the space is there; nothing is brought back.
    RestoreBegun = "restore-begun",
    /// `restore`: an item is about to be written.
    RestoreBeforeWrite = "restore-before-write",
    /// `restore`: an item is written.
    RestoreWritten = "restore-written",
}

/// Whether this build can have a listener. Only builds for tests can; no shipped build does.
pub const TEST_BUILD: bool = cfg!(feature = "trials");

#[cfg(feature = "trials")]
static LISTENER: std::sync::OnceLock<fn(CrashPoint)> = std::sync::OnceLock::new();

/// Calls `listener` at each point that is passed from now on. Only the first listener is kept.
#[cfg(feature = "trials")]
pub fn listen(listener: fn(CrashPoint)) {
    let _ = LISTENER.set(listener);
}

/// Does nothing: this is no test build.
#[cfg(not(feature = "trials"))]
pub fn listen(_: fn(CrashPoint)) {}

/// Passes a point.
#[cfg(feature = "trials")]
#[inline]
pub fn crash_point(point: CrashPoint) {
    if let Some(listener) = LISTENER.get() {
        listener(point);
    }
}

/// Passes a point. Does nothing: this is no test build.
#[cfg(not(feature = "trials"))]
#[inline]
pub fn crash_point(_: CrashPoint) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_their_own() {
        for point in CrashPoint::ALL {
            let name = point.name();
            assert!(name.contains('-') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert_eq!(CrashPoint::ALL.iter().filter(|other| other.name() == name).count(), 1, "{name}");
        }
    }

    #[cfg(feature = "trials")]
    #[test]
    fn a_listener_hears_each_point_that_is_passed() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        listen(|point| {
            HEARD.fetch_add(usize::from(point == CrashPoint::CliDone), Ordering::Relaxed);
        });
        listen(|_| panic!("the first one stays"));
        crash_point(CrashPoint::CliDone);
        crash_point(CrashPoint::CliOpened);
        assert_eq!(HEARD.load(Ordering::Relaxed), 1);
    }
}
