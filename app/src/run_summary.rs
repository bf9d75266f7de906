//! What there is to say when a run has ended.

use std::time::Duration;

use mill_model::RunTotals;
use mill_run::{InSync, Remedy};

/// What there is to say when a run has ended.
#[derive(Debug, Default)]
pub struct RunSummary {
    /// What was done.
    pub totals: RunTotals,
    /// How many items of tasks that an earlier run had queued were copied or updated besides.
    pub earlier: u64,
    /// How long it took.
    pub took: Duration,
    /// Each a sentence: what was refused, held back, failed, and what to do about it.
    pub remarks: Vec<String>,
    /// Whether nothing was known of an earlier run, where a run knows of others.
    pub first_run: Option<bool>,
    /// Whether all copies are in sync.
    pub in_sync: InSync,
    /// Whether the counts of items are only least ones: others may have done some of the tasks, and told nothing.
    pub at_least: bool,
    /// What brings the rest, where not all was done.
    pub remedy: Remedy,
}
