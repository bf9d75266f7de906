//! Works on each item of a listing, a few at once, and names the entries that are no items.

use std::num::NonZeroUsize;

use mill_model::{ContentId, ItemFacts};
use mill_ports::{ListEntry, StoreError};
use tokio::task::{JoinError, JoinSet};

use crate::verify::{CopyFault, ItemFinding};

/// What became of the work on one item.
pub(crate) type ItemResult<T> = Result<(ContentId, Result<T, StoreError>), JoinError>;

/// Receives what became of each entry.
pub(crate) trait EachItemReport {
    /// The outcome of the work on an item.
    type Outcome: Send + 'static;

    fn note(&mut self, result: ItemResult<Self::Outcome>);

    fn add_fault(&mut self, fault: ItemFinding);
}

/// The work under way.
pub(crate) struct EachItem<'r, R: EachItemReport> {
    report: &'r mut R,
    at_once: NonZeroUsize,
    running: JoinSet<(ContentId, Result<R::Outcome, StoreError>)>,
}

impl<'r, R: EachItemReport> EachItem<'r, R> {
    pub(crate) fn new(report: &'r mut R, at_once: NonZeroUsize) -> Self {
        Self { report, at_once, running: JoinSet::new() }
    }

    /// Begins the work on each item of a page. Waits while as many are under way as may be.
    pub(crate) async fn begin<F>(&mut self, page: Vec<ListEntry>, mut work: impl FnMut(ContentId, ItemFacts) -> F)
    where
        F: Future<Output = (ContentId, Result<R::Outcome, StoreError>)> + Send + 'static,
    {
        for entry in page {
            match entry {
                ListEntry::Refused { shown, reason } => {
                    self.report.add_fault(ItemFinding { item: shown, what: CopyFault::Refused(reason.to_string()) });
                }
                ListEntry::Hidden { shown } => {
                    let why = "a directory that could not be entered".to_owned();
                    self.report.add_fault(ItemFinding { item: shown, what: CopyFault::Unreadable(why) });
                }
                ListEntry::Item(id, facts) => {
                    while self.running.len() >= self.at_once.get() {
                        self.note_next().await;
                    }
                    self.running.spawn(work(id, facts));
                }
            }
        }
    }

    /// Waits for the work that is still under way.
    pub(crate) async fn finish(mut self) {
        while !self.running.is_empty() {
            self.note_next().await;
        }
    }

    async fn note_next(&mut self) {
        if let Some(result) = self.running.join_next().await {
            self.report.note(result);
        }
    }
}
