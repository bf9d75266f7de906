//! Named places in the code at which a process may be made to die, so that a test can kill the real binary there.
//!
//! Only the feature `trials` lets anybody listen; without it a point is nothing at all, and no point's name is in the
//! binary. What is listened with decides what happens: the binary's own kills its process, as a power cut would.

/// Declares the points, their names and the list of all.
macro_rules! points {
    ($($(#[$about:meta])+ $point:ident = $name:literal,)+) => {
        /// A place that a test can make fatal. It is passed each time it is reached.
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
    /// `run`: snoozed tasks are ready again; nothing is produced yet.
    CliHastened = "cli-hastened",
    /// `run`: the children are started, and work.
    CliChildrenStarted = "cli-children-started",
    /// A signal asked to stop.
    CliStopping = "cli-stopping",
    /// `run`, `mirror`: all is done but the dead letters' way into their table.
    CliConcluding = "cli-concluding",
    /// The command has done its work; only its exit code is not given yet.
    CliDone = "cli-done",
    /// `mirror`: the last run's queue is empty; its producer's place is not forgotten yet.
    MirrorPurged = "mirror-purged",
    /// `mirror`: both are forgotten; nothing is done yet.
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
    /// Tasks that failed or were snoozed are sent again, and their old deliveries not acknowledged.
    WorkmanSentAgain = "workman-sent-again",
    /// A task is to go among the dead letters.
    WorkmanBeforeDeadLetter = "workman-before-dead-letter",
    /// A dead letter is sent, and its delivery not acknowledged.
    WorkmanDeadLettered = "workman-dead-lettered",
    /// What is settled is about to be acknowledged.
    WorkmanBeforeAcknowledge = "workman-before-acknowledge",
    /// It is acknowledged.
    WorkmanAcknowledged = "workman-acknowledged",
    /// Deliveries are about to be given back.
    WorkmanBeforeRelease = "workman-before-release",
    /// They are given back.
    WorkmanReleased = "workman-released",
    /// Leases are about to be extended.
    WorkmanBeforeExtend = "workman-before-extend",
    /// Letters are received from their queue; none is written down.
    DrainReceived = "drain-received",
    /// Letters are written down, and not acknowledged.
    DrainNoted = "drain-noted",
    /// Letters are acknowledged.
    DrainAcknowledged = "drain-acknowledged",

    /// The table of owners names this source for the destination space.
    DuplicateClaimed = "duplicate-claimed",
    /// The destination space is made.
    DuplicateSpaceCreated = "duplicate-space-created",
    /// Both sides are looked at, and the bytes are about to be read.
    DuplicateBeforeRead = "duplicate-before-read",
    /// The source is open; nothing is written.
    DuplicateBeforeWrite = "duplicate-before-write",
    /// The copy is durable, and neither judged nor sealed.
    DuplicateWritten = "duplicate-written",
    /// Properties are about to be set.
    DuplicateBeforeProperties = "duplicate-before-properties",
    /// Properties are set and not sealed.
    DuplicatePropertiesSet = "duplicate-properties-set",
    /// A pair is about to be sealed.
    DuplicateBeforeSeal = "duplicate-before-seal",
    /// A pair is sealed.
    DuplicateSealed = "duplicate-sealed",
    /// All proofs for a delete are there.
    RemoveBeforeDelete = "remove-before-delete",
    /// The item is deleted, its seal is not.
    RemoveDeleted = "remove-deleted",
    /// The seal of a deleted item is gone.
    RemoveForgotten = "remove-forgotten",
    /// All ids of a row are settled; its result is not written.
    RemoveBeforeResult = "remove-before-result",
    /// The row's result is written; its task is not acknowledged.
    RemoveResult = "remove-result",

    /// A group of writes is made in an open transaction.
    SqliteBeforeCommit = "sqlite-before-commit",
    /// A group is committed; nobody has been answered.
    SqliteCommitted = "sqlite-committed",
    /// The log is about to be brought into the database.
    SqliteBeforeCheckpoint = "sqlite-before-checkpoint",
    /// The process's own directory for writes in progress is made and locked.
    FolderStagingMade = "folder-staging-made",
    /// Of what a dead process left in progress, the files are removed and their directory is not.
    FolderLeftoversRemoved = "folder-leftovers-removed",
    /// A temporary file is made, and empty.
    FolderTemporaryMade = "folder-temporary-made",
    /// Bytes are in a temporary file, perhaps not all.
    FolderTemporaryWritten = "folder-temporary-written",
    /// A temporary file has its bytes and properties.
    FolderTemporaryFinished = "folder-temporary-finished",
    /// A group's temporary files are ready, and not synced.
    FolderBeforeFirstSync = "folder-before-first-sync",
    /// They are synced; no name has appeared.
    FolderFirstSynced = "folder-first-synced",
    /// A directory that an item's name implies is made.
    FolderDirectoryMade = "folder-directory-made",
    /// One file of a group has its name; others may not.
    FolderRenamed = "folder-renamed",
    /// A file is removed; the directories that only it implied are still there.
    FolderRemoved = "folder-removed",
    /// Of an item's properties in place some are set.
    FolderPropertiesBegun = "folder-properties-begun",
    /// A group's changes are made and not synced.
    FolderBeforeSecondSync = "folder-before-second-sync",
    /// They are synced; nobody has been answered.
    FolderSecondSynced = "folder-second-synced",
    /// An item is there whose properties belong into the sidecar.
    SidecarBeforeWrite = "sidecar-before-write",
    /// The sidecar has them.
    SidecarWritten = "sidecar-written",

    /// A dead letter is to be sent again.
    LettersBeforeRetry = "letters-before-retry",
    /// Its task is queued; the letter is still open.
    LettersRetrySent = "letters-retry-sent",
    /// What was decided about a letter is in the table.
    LettersDecided = "letters-decided",

    /// `restore`: the space is there; nothing is brought back.
    RestoreBegun = "restore-begun",
    /// `restore`: an item is about to be written.
    RestoreBeforeWrite = "restore-before-write",
    /// `restore`: an item is written.
    RestoreWritten = "restore-written",
}

/// Whether this build has points that can be listened to: a build for tests, never one that is shipped.
pub const TEST_BUILD: bool = cfg!(feature = "trials");

#[cfg(feature = "trials")]
static LISTENER: std::sync::OnceLock<fn(CrashPoint)> = std::sync::OnceLock::new();

/// Has `listener` called at each point that is passed from now on; the first one stays.
#[cfg(feature = "trials")]
pub fn listen(listener: fn(CrashPoint)) {
    let _ = LISTENER.set(listener);
}

/// Has nobody called: this is no test build.
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

/// Passes a point, at which nothing can happen: this is no test build.
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
