//! What a machine lacks for a trial. It is always printed, never skipped in silence.

use std::io::Write as _;

/// Why a trial cannot run on this machine: no root, no loop device, no driver, no tool.
///
/// Only for what the machine lacks: any other problem is a failure of the trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRequirement(pub String);

impl MissingRequirement {
    /// Prints the reason under the name of this thread, which is the test's.
    ///
    /// The line bypasses the test harness, which would hide the output of a passing test. With `MILL_NOT_RUN=fail` in the
    /// environment the test fails instead, for machines that must lack nothing.
    pub fn report(&self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a trial");
        assert!(std::env::var_os("MILL_NOT_RUN").is_none_or(|value| value != "fail"), "NOT RUN: {name}: {}", self.0);
        let _ = writeln!(std::io::stderr(), "NOT RUN: {name}: {}", self.0);
    }
}
