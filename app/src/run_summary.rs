//! The summary of a run.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those of `remarks` that are about one entry, of which an event may tell too, with the entry's name.
    pub of_entries: BTreeMap<String, String>,
    /// How many items only the copies have, as far as the run looked: without `--remove-vanished` they stay.
    pub only_in_copies: u64,
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

impl RunSummary {
    /// The remarks for whoever has seen the events of these entries.
    pub fn remarks_beside(&self, told: &BTreeSet<String>) -> Vec<String> {
        let is_told = |remark: &&String| self.of_entries.get(*remark).is_some_and(|entry| told.contains(entry));
        self.remarks.iter().filter(|remark| !is_told(remark)).cloned().collect()
    }
}
