//! The looping duplication producer, as others use it.

use mill_records::lease::{AcquireOutcome, LeaseConfig, ProducerLease};
use mill_records::producer_state::{ProducerState, StateError};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::report::{Ended, ProducerError, SessionReport};
use crate::session::Session;
use crate::settings::{Deps, Settings};
use crate::stores::ReadStores;

/// Loops over every space of every store policy and queues a task for each item that may not be in sync.
#[derive(Debug)]
pub struct DuplicationProducer {
    pub(crate) deps: Deps,
    pub(crate) settings: Settings,
    pub(crate) stores: ReadStores,
}

impl DuplicationProducer {
    /// The partition of the producer's book.
    pub const BOOK: &str = "duplication-producer";

    /// A producer; nothing is read yet.
    pub fn new(deps: Deps, settings: Settings) -> Self {
        let stores = ReadStores::new(&deps, deps.stores.clone(), settings.silence_max);
        Self { deps, settings, stores }
    }

    /// Works until the loops of all accounts are complete, the queue is full or it is told to stop; not at all when nothing is due or
    /// another producer works.
    ///
    /// Safe to drop at any await, as a crash is: at most one nibble is queued once more by the next session.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own book or the queue fails. Failing accounts, stores and spaces are no
    /// errors; the report names them.
    pub async fn session(&self, stop: &CancellationToken) -> Result<SessionReport, ProducerError> {
        let lease = match self.lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => {
                info!(holder, "another producer is at work");
                return Ok(SessionReport::new(Ended::HeldByAnother { holder }));
            }
        };
        let state = self.state(lease.epoch());
        let worked = lease.hold(Box::pin(Session::run(self, state, lease.inherited(), stop))).await;
        match worked {
            Some(Err(ProducerError::State(StateError::TakenOver { .. }))) | None => {
                let holder = lease.held_by().await.unwrap_or_else(|| "another".to_owned());
                Ok(SessionReport::new(Ended::HeldByAnother { holder }))
            }
            Some(report) => {
                Self::give_back(lease, report.is_ok()).await;
                report.inspect(note)
            }
        }
    }

    /// Forgets the run going on and when the next is due (`--reset`): the next session begins afresh.
    ///
    /// # Errors
    /// [`ProducerError::HeldByAnother`] while a producer works, or the book's own.
    pub async fn reset(&self) -> Result<(), ProducerError> {
        let lease = match self.lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => return Err(ProducerError::HeldByAnother { holder }),
        };
        let state = self.state(lease.epoch());
        let cleared = async {
            let loaded = state.load(lease.inherited()).await?;
            state.remove_all(&loaded.accounts).await?;
            state.remove_all(&loaded.morsels).await?;
            // Last, so that a reset cut short leaves a run without its parts rather than parts without their run.
            state.remove_all(&loaded.runs).await?;
            match &loaded.run_of_all {
                Some(run) => state.remove(run).await,
                None => Ok(()),
            }
        }
        .await;
        Self::give_back(lease, cleared.is_ok()).await;
        Ok(cleared?)
    }

    /// Gives a lease back, unless it was taken over from one who may still write, and what was done under it failed: then only
    /// some of the rows may be taken over, and who has the lease after a release trusts that all are.
    pub(crate) async fn give_back(lease: ProducerLease, is_done: bool) {
        if is_done || !lease.inherited() {
            lease.release().await;
        }
    }

    pub(crate) async fn lease(&self) -> Result<AcquireOutcome, ProducerError> {
        let terms = LeaseConfig {
            table: self.deps.state.clone(),
            key: ProducerState::lease_key(Self::BOOK),
            holder: self.settings.holder.clone(),
            timeout: self.settings.lease_timeout,
            clock: self.deps.clock.clone(),
            surely_dead: self.deps.surely_dead.clone(),
        };
        ProducerLease::take(terms).await.map_err(|error| ProducerError::State(error.into()))
    }

    pub(crate) fn state(&self, epoch: u64) -> ProducerState {
        ProducerState::new(self.deps.state.clone(), self.deps.clock.clone(), Self::BOOK, epoch)
    }
}

fn note(report: &SessionReport) {
    let (queued, refused, listed) = (report.queued, report.survey.refused, report.survey.listed);
    let left_out = report.left_out.count;
    let (accounts_failed, spaces_failed) = (report.accounts_failed.len(), report.spaces_failed.len());
    let held = report.held.len();
    match &report.ended {
        Ended::NotDue { next_run } => info!(%next_run, "no run is due"),
        Ended::Finished { next_run } => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, %next_run, "the loops are complete");
        }
        Ended::QueueFull | Ended::Stopped | Ended::HeldByAnother { .. } => {
            info!(listed, queued, refused, left_out, held, accounts_failed, spaces_failed, ended = ?report.ended,
                "the session ends");
        }
    }
}
