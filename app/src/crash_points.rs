//! The points of this crate at which a test can kill the process.

mill_hooks::crash_points! {
    /// The engine and the tables are open.
    CLI_OPENED = "cli-opened",
    /// `run`, `mirror`: all is done, except that dead letters are not in their table yet.
    CLI_CONCLUDING = "cli-concluding",
}
