//! The points at which a test can kill the process: those of this crate, and the lists of all crates of the binary.

use mill_hooks::CrashPoint;

mill_hooks::crash_points! {
    /// The configuration is read; nothing is open yet.
    CLI_CONFIGURED = "cli-configured",
    /// `run`: snoozed tasks are visible again; nothing is produced yet.
    CLI_HASTENED = "cli-hastened",
    /// `run`: the worker processes are started, and work.
    CLI_CHILDREN_STARTED = "cli-children-started",
    /// A signal asked to stop.
    CLI_STOPPING = "cli-stopping",
    /// The command has done its work and has not exited yet.
    CLI_DONE = "cli-done",
    /// `mirror`: the last run's queue is empty; its producer's state is not deleted yet.
    MIRROR_PURGED = "mirror-purged",
    /// `mirror`: both are deleted; nothing is done yet.
    MIRROR_RESET = "mirror-reset",
}

/// The points of all crates.
pub(crate) fn all() -> Vec<CrashPoint> {
    [
        CRASH_POINTS,
        mill_app::CRASH_POINTS,
        mill_producer::CRASH_POINTS,
        mill_workman::CRASH_POINTS,
        mill_processors::CRASH_POINTS,
        mill_records::CRASH_POINTS,
        mill_local::CRASH_POINTS,
    ]
    .concat()
}
