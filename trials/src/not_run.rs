//! What a machine lacks for a trial: said aloud, never passed over in silence.

use std::io::Write as _;

/// Why a trial cannot run on this machine: no root, no loop device, no driver, no tool.
///
/// Only for what the machine lacks. Everything else that goes wrong is a failure of the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRun(pub String);

impl NotRun {
    /// Prints the reason under the name of this thread, which is the test's.
    ///
    /// It is written past the capture of the test harness: that of a passing test would be seen by nobody. With
    /// `MILL_NOT_RUN=fail` in the environment it is a failure instead, for machines that must lack nothing.
    pub fn report(&self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a trial");
        assert!(std::env::var_os("MILL_NOT_RUN").is_none_or(|value| value != "fail"), "NOT RUN: {name}: {}", self.0);
        let _ = writeln!(std::io::stderr(), "NOT RUN: {name}: {}", self.0);
    }
}
