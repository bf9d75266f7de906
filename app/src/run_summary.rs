//! The summary of a run.

use std::time::Duration;

use mill_model::RunTotals;
use mill_run::{InSync, Remedy};

/// The summary of a run.
#[derive(Debug, Default)]
pub struct RunSummary {
    /// What was done.
    pub totals: RunTotals,
    /// How many items of an earlier run's tasks were also copied or updated.
    pub earlier: u64,
    /// How long it took.
    pub took: Duration,
    /// One sentence each: what was refused, was held back or failed, and what to do about it.
    pub remarks: Vec<String>,
    /// Whether no earlier run is known; `None` for runs that do not record that.
    pub first_run: Option<bool>,
    /// Whether nothing was changed: the sums say what a run would do.
    pub dry_run: bool,
    /// Whether all copies are in sync.
    pub in_sync: InSync,
    /// Whether the counts of items are only lower bounds: other processes may have done some of the tasks without
    /// reporting them.
    pub at_least: bool,
    /// What to do about the rest, if not all was done.
    pub remedy: Remedy,
}
