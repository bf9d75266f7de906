//! The duplication producer: its morsels are pairs of spaces, and its tasks make the destination what the source is.
//!
//! Reading order: `plan` (what the looping asks of it), `discovery` (which morsels a run has), `morsel_step` (deletes
//! first, then a nibble of copies), `delete_step` and `list_writer` (what vanished becomes a list, and the list becomes
//! tasks once it is granted), `missing_space` (a source space that is not there), `nibble` and `delete_scan` (what is
//! collected from a comparison), `merge`, `paths` and `respelled_items` (the comparison), `endpoints` (both stores of a
//! morsel), `closing` (whether all is in sync once the work is done).

pub(crate) mod closing;
pub(crate) mod delete_scan;
pub(crate) mod delete_step;
mod discovery;
pub(crate) mod endpoints;
mod entry_events;
mod list_writer;
pub(crate) mod merge;
mod missing_space;
pub(crate) mod morsel_step;
pub(crate) mod nibble;
mod paths;
pub(crate) mod plan;
pub(crate) mod report;
mod respelled_items;
pub(crate) mod settings;

use std::collections::BTreeMap;

use mill_records::delete_lists::{DeleteLists, DeleteThresholds};
use mill_records::owners::Owners;
use mill_records::producer_state::DuplicationRows;
use mill_records::sync_proofs::SyncProofs;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::plan::Duplication;
use self::report::SessionReport;
use self::settings::{AbsentSource, ProducerDeps, ProducerSettings};
use crate::looping::report::{ProducerError, SessionEnd};
use crate::looping::session_loop::{self, SessionPauses};
use crate::looping::{LoopingProducer, Plan};

/// Loops over every space of every store policy and queues a task for each item that may not be in sync.
#[derive(Debug)]
pub struct DuplicationProducer {
    pub(crate) looping: LoopingProducer,
    sync_proofs: SyncProofs,
    delete_lists: DeleteLists,
    owners: Owners,
    thresholds: DeleteThresholds,
    absent_source: AbsentSource,
}

impl DuplicationProducer {
    /// The partition of the producer's table.
    pub const NAME: &str = Duplication::NAME;

    /// Creates a producer. Reads nothing yet.
    pub fn new(deps: ProducerDeps, settings: ProducerSettings) -> Self {
        let ProducerDeps { looping, sync_proofs, delete_lists, owners } = deps;
        let ProducerSettings { looping: looping_settings, thresholds, absent_source } = settings;
        let looping = LoopingProducer::new::<Duplication>(looping, looping_settings);
        Self { looping, sync_proofs, delete_lists, owners, thresholds, absent_source }
    }

    /// Runs until the runs of all accounts are complete, the queue is full or `stop` is cancelled. Returns at once when no run is
    /// due or another producer works.
    ///
    /// Safe to drop at any await, like a crash: the next session queues at most one nibble twice.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own table or the queue fails. Failing accounts, stores and spaces are no errors; the
    /// report names them.
    pub async fn run_session(&self, stop: &CancellationToken) -> Result<SessionReport, ProducerError> {
        let report = self.looping.run_session(self.plan(), stop).await;
        report.inspect(log_report)
    }

    /// Runs session after session until `stop` is cancelled, and passes each report to `on_report`.
    ///
    /// # Errors
    /// As [`Self::run_session`], but only errors that do not pass by themselves.
    pub async fn run_until_stopped(
        &self,
        pauses: SessionPauses,
        stop: &CancellationToken,
        on_report: &mut (dyn FnMut(&SessionReport) + Send),
    ) -> Result<(), ProducerError> {
        let clock = &*self.looping.deps.clock;
        session_loop::run_until_stopped(async || self.run_session(stop).await, (clock, pauses), stop, on_report).await
    }

    /// Forgets the runs in progress and when the next ones are due (`--reset`). The next session starts from the beginning.
    ///
    /// # Errors
    /// [`ProducerError::HeldByAnother`] while a producer works; [`ProducerError::State`] when the table fails.
    pub async fn reset(&self) -> Result<(), ProducerError> {
        self.looping.reset::<DuplicationRows>().await
    }

    /// The plan of one session.
    pub(crate) fn plan(&self) -> Duplication {
        Duplication {
            sync_proofs: self.sync_proofs.clone(),
            delete_lists: self.delete_lists.clone(),
            owners: self.owners.clone(),
            thresholds: self.thresholds,
            absent_source: self.absent_source,
            open_morsels: BTreeMap::new(),
            missing: BTreeMap::new(),
            settled_rows: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }
}

fn log_report(report: &SessionReport) {
    let (queued, refused, listed) = (report.queued, report.survey.refused, report.survey.listed);
    let left_out = report.findings.left_out.count;
    let (accounts_failed, spaces_failed) = (report.accounts_failed.len(), report.spaces_failed.len());
    let held = report.findings.held.len();
    match &report.ended {
        SessionEnd::NotDue { next_run } => info!(%next_run, "no run is due"),
        SessionEnd::Finished { next_run } => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, %next_run, "the loops are complete");
        }
        // The lease logs it.
        SessionEnd::HeldByAnother { .. } => {}
        SessionEnd::QueueFull | SessionEnd::Stopped => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, ended = ?report.ended,
                "the session ends");
        }
    }
}
