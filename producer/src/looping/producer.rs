//! A looping producer between its sessions: it takes the lease and gives the work to a session.

use std::future::Future;

use mill_records::lease::{AcquireOutcome, LeaseConfig, ProducerLease};
use mill_records::producer_state::{PlanRows, ProducerState, ProducerStateError, lease_key};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::plan::Plan;
use super::report::{LoopingReport, ProducerError, SessionEnd};
use super::session::Session;
use super::settings::{LoopingDeps, LoopingSettings};
use crate::timed_stores::TimedStores;

/// What a producer has, whatever its plan is.
#[derive(Debug)]
pub(crate) struct LoopingProducer {
    pub(crate) deps: LoopingDeps,
    pub(crate) settings: LoopingSettings,
    pub(crate) stores: TimedStores,
    /// The partition of its rows.
    name: &'static str,
}

/// The result of work under a lease.
pub(crate) enum Leased<T> {
    Done(T),
    /// Another producer has taken over.
    HeldByAnother {
        holder: String,
    },
}

impl LoopingProducer {
    /// Creates the producer of plan `P`. Reads nothing yet.
    pub(crate) fn new<P: Plan>(deps: LoopingDeps, settings: LoopingSettings) -> Self {
        let stores = TimedStores::new(&deps, deps.stores.clone(), settings.silence_max);
        Self { deps, settings, stores, name: P::NAME }
    }

    /// Runs one session of its plan.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own table or the queue fails.
    pub(crate) async fn run_session<P: Plan>(
        &self,
        plan: P,
        stop: &CancellationToken,
    ) -> Result<LoopingReport<P::Findings>, ProducerError> {
        let lease = match self.acquire_lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => {
                info!(holder, "another producer is at work");
                return Ok(LoopingReport::new(SessionEnd::HeldByAnother { holder }));
            }
        };
        let state = (self.state(lease.epoch()), lease.taken_over());
        match Self::work_under(lease, Box::pin(Session::run(self, plan, state, stop))).await? {
            Leased::Done(report) => Ok(report),
            Leased::HeldByAnother { holder } => Ok(LoopingReport::new(SessionEnd::HeldByAnother { holder })),
        }
    }

    /// Works while it holds a lease, and releases the lease.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn work_under<T>(
        lease: ProducerLease,
        work: impl Future<Output = Result<T, ProducerError>>,
    ) -> Result<Leased<T>, ProducerError> {
        match lease.hold(work).await {
            Some(Err(ProducerError::State(ProducerStateError::TakenOver { .. }))) | None => {
                let holder = lease.current_holder().await.unwrap_or_else(|| "another".to_owned());
                Ok(Leased::HeldByAnother { holder })
            }
            Some(done) => {
                Self::release_lease(lease, done.is_ok()).await;
                done.map(Leased::Done)
            }
        }
    }

    /// Forgets the runs in progress and when the next ones are due. Their surveys and failures stay.
    ///
    /// # Errors
    /// [`ProducerError::HeldByAnother`] while a producer works; [`ProducerError::State`] when the table fails.
    pub(crate) async fn reset<R: PlanRows>(&self) -> Result<(), ProducerError> {
        let lease = match self.acquire_lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => return Err(ProducerError::HeldByAnother { holder }),
        };
        let state = self.state::<R>(lease.epoch());
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
            key: lease_key(self.name),
            holder: self.settings.holder.clone(),
            timeout: self.settings.lease_timeout,
            clock: self.deps.clock.clone(),
            holder_is_dead: self.deps.holder_is_dead.clone(),
        };
        ProducerLease::acquire(terms).await.map_err(|error| ProducerError::State(error.into()))
    }

    pub(crate) fn state<R: PlanRows>(&self, epoch: u64) -> ProducerState<R> {
        ProducerState::new(self.deps.state.clone(), self.deps.clock.clone(), self.name, epoch)
    }
}
