//! The duplication producer: its morsels are pairs of spaces, and its tasks make the destination what the source is.
//!
//! Reading order: `discovery` (which morsels a run has), `morsel_step` (deletes first, then a nibble of copies), `delete_step` and
//! `list_writer` (what vanished becomes a list, and the list becomes tasks once it is granted), `missing_space` (a source space
//! that is not there), `nibble` and `delete_scan` (what is collected from a comparison), `merge`, `paths` and `respelled_items`
//! (the comparison), `endpoints` (both stores of a morsel), `closing` (whether all is in sync once the work is done).

pub(crate) mod closing;
pub(crate) mod delete_scan;
pub(crate) mod delete_step;
mod discovery;
pub(crate) mod endpoints;
mod list_writer;
pub(crate) mod merge;
mod missing_space;
pub(crate) mod morsel_step;
pub(crate) mod nibble;
mod paths;
mod respelled_items;

use mill_records::lease::{AcquireOutcome, LeaseConfig, ProducerLease};
use mill_records::producer_state::{ProducerState, ProducerStateError};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::looping::Session;
use crate::report::{ProducerError, SessionEnd, SessionReport};
use crate::settings::{ProducerDeps, ProducerSettings};
use crate::timed_stores::TimedStores;

/// Loops over every space of every store policy and queues a task for each item that may not be in sync.
#[derive(Debug)]
pub struct DuplicationProducer {
    pub(crate) deps: ProducerDeps,
    pub(crate) settings: ProducerSettings,
    pub(crate) stores: TimedStores,
}

impl DuplicationProducer {
    /// The partition of the producer's table.
    pub const NAME: &str = "duplication-producer";

    /// Creates a producer. Reads nothing yet.
    pub fn new(deps: ProducerDeps, settings: ProducerSettings) -> Self {
        let stores = TimedStores::new(&deps, deps.stores.clone(), settings.silence_max);
        Self { deps, settings, stores }
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
        let lease = match self.acquire_lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => {
                info!(holder, "another producer is at work");
                return Ok(SessionReport::new(SessionEnd::HeldByAnother { holder }));
            }
        };
        let state = self.state(lease.epoch());
        let worked = lease.hold(Box::pin(Session::run(self, state, lease.taken_over(), stop))).await;
        match worked {
            Some(Err(ProducerError::State(ProducerStateError::TakenOver { .. }))) | None => {
                let holder = lease.current_holder().await.unwrap_or_else(|| "another".to_owned());
                Ok(SessionReport::new(SessionEnd::HeldByAnother { holder }))
            }
            Some(report) => {
                Self::release_lease(lease, report.is_ok()).await;
                report.inspect(log_report)
            }
        }
    }

    /// Forgets the runs in progress and when the next ones are due (`--reset`). The next session starts from the beginning.
    ///
    /// # Errors
    /// [`ProducerError::HeldByAnother`] while a producer works; [`ProducerError::State`] when the table fails.
    pub async fn reset(&self) -> Result<(), ProducerError> {
        let lease = match self.acquire_lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => return Err(ProducerError::HeldByAnother { holder }),
        };
        let state = self.state(lease.epoch());
        let cleared = async {
            let loaded = state.load(lease.taken_over()).await?;
            state.remove_all(&loaded.accounts).await?;
            state.remove_all(&loaded.morsels).await?;
            // Runs come last: an interrupted reset leaves a run without its parts rather than parts without their run.
            state.remove_all(&loaded.runs).await?;
            match &loaded.run_of_all {
                Some(run) => state.remove(run).await,
                None => Ok(()),
            }
        }
        .await;
        Self::release_lease(lease, cleared.is_ok()).await;
        Ok(cleared?)
    }

    /// Releases a lease. Keeps it if the work failed and the lease was inherited from a producer that may still write: then some
    /// rows may not be taken over yet, and the next holder of a released lease assumes that all rows are.
    pub(crate) async fn release_lease(lease: ProducerLease, is_done: bool) {
        if is_done || !lease.taken_over() {
            lease.release().await;
        }
    }

    pub(crate) async fn acquire_lease(&self) -> Result<AcquireOutcome, ProducerError> {
        let terms = LeaseConfig {
            table: self.deps.state.clone(),
            key: ProducerState::lease_key(Self::NAME),
            holder: self.settings.holder.clone(),
            timeout: self.settings.lease_timeout,
            clock: self.deps.clock.clone(),
            holder_is_dead: self.deps.holder_is_dead.clone(),
        };
        ProducerLease::acquire(terms).await.map_err(|error| ProducerError::State(error.into()))
    }

    pub(crate) fn state(&self, epoch: u64) -> ProducerState {
        ProducerState::new(self.deps.state.clone(), self.deps.clock.clone(), Self::NAME, epoch)
    }
}

fn log_report(report: &SessionReport) {
    let (queued, refused, listed) = (report.queued, report.survey.refused, report.survey.listed);
    let left_out = report.left_out.count;
    let (accounts_failed, spaces_failed) = (report.accounts_failed.len(), report.spaces_failed.len());
    let held = report.held.len();
    match &report.ended {
        SessionEnd::NotDue { next_run } => info!(%next_run, "no run is due"),
        SessionEnd::Finished { next_run } => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, %next_run, "the loops are complete");
        }
        SessionEnd::QueueFull | SessionEnd::Stopped | SessionEnd::HeldByAnother { .. } => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, ended = ?report.ended,
                "the session ends");
        }
    }
}
