//! One session: the rounds over the morsels of all accounts, until their runs are complete or something ends the session.
//!
//! ```text
//!   load ─▶ begin the runs that are due ─▶ discover their accounts ─▶ rounds ──▶ each finished
//!     │                                                       ▲           │ ▲
//!     └─▶ resume the runs in progress ────────────────────────┼───────────┘ └─ turn of the morsel with the fewest turns:
//!                                                             │                what its plan does in it
//!                       an account whose next run is due, or that is new
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::{Either, select};
use mill_hooks::crash_point;
use mill_model::{AccountId, Monotonic, StoreAddress, StoreId, SurveySum, TaskArgs, Timestamp};
use mill_ports::{StoreError, error_chain};
use mill_records::Versioned;
use mill_records::producer_state::{MorselSubject as _, ProducerState, ProducerStateError, SurveySubject};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::account_discovery::PendingDiscoveries;
use super::background_read::{BackgroundReads, ReaderPanicked};
use super::failures::SurveyFailures;
use super::plan::{MorselError as _, MorselOf, MorselSubjectOf, Plan};
use super::producer::LoopingProducer;
use super::queue_sizer::QueueSizer;
use super::report::{LoopingReport, ProducerError, SessionEnd, SpaceFailure, SpaceFailureKind};
use super::rounds::FailureStreak;
use super::runs::ActiveRun;
use super::settings::{LoopingDeps, LoopingSettings};
use super::shares::AccountShares;
use super::task_sender::TaskSender;
use crate::crash_points;
use crate::timed_stores::{SilenceError, TimedStores};

/// A morsel's priority in the rounds: its round, then its rank within its account, so that every account is served.
pub(super) type RoundPriority<S> = (u64, usize, S);

/// The morsels whose failure may pass, by when they may have another turn.
type PausedMorsels<S, M> = BTreeMap<(Monotonic, RoundPriority<S>), Versioned<M>>;

/// The state of one session. What is `pub(crate)` is for the plan too; the rest is the looping's own.
pub(crate) struct Session<'a, P: Plan> {
    pub(crate) deps: &'a LoopingDeps,
    pub(crate) settings: &'a LoopingSettings,
    pub(crate) stores: &'a TimedStores,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) state: ProducerState<P::Rows>,
    pub(super) task_sender: TaskSender,
    pub(crate) report: LoopingReport<P::Findings>,
    /// What the plan keeps in memory.
    pub(crate) plan: P,
    /// The current or last run of each account.
    pub(crate) runs: BTreeMap<AccountId, ActiveRun<MorselSubjectOf<P>>>,
    /// When the current turn began.
    pub(crate) step_began: Timestamp,
    /// The failed surveys since the last success, for the status.
    pub(crate) failures: SurveyFailures<MorselSubjectOf<P>>,
    /// The accounts that are listed.
    pub(super) accounts: BTreeSet<AccountId>,
    pub(super) waiting: BTreeMap<RoundPriority<MorselSubjectOf<P>>, Versioned<MorselOf<P>>>,
    /// How many tasks the queue may hold. Held only between awaits.
    pub(super) queue_sizer: Mutex<QueueSizer>,
    /// The current round.
    pub(super) round: u64,
    /// How many runs this session has begun.
    pub(super) begun: u32,
    /// When the session next checks whether an account's run is due; `None` if it never does.
    pub(super) next_due_check: Option<Monotonic>,
    pub(super) accounts_failed: BTreeSet<AccountId>,
    pub(super) paused_morsels: PausedMorsels<MorselSubjectOf<P>, MorselOf<P>>,
    pub(super) failure_streaks: BTreeMap<MorselSubjectOf<P>, FailureStreak>,
    pub(super) later_accounts: PendingDiscoveries<MorselSubjectOf<P>>,
    pub(super) background_reads: BackgroundReads<P>,
    pub(super) shares: AccountShares,
}

/// Why a step went no further.
#[derive(Debug)]
pub(crate) enum StepError<E> {
    /// The morsel is skipped; others go on.
    Space(E),
    /// The session ends.
    Session(ProducerError),
}

impl<E: From<ReaderPanicked>> From<ReaderPanicked> for StepError<E> {
    fn from(error: ReaderPanicked) -> Self {
        Self::Space(error.into())
    }
}

impl<E> From<ProducerError> for StepError<E> {
    fn from(error: ProducerError) -> Self {
        Self::Session(error)
    }
}

impl<E> From<ProducerStateError> for StepError<E> {
    fn from(error: ProducerStateError) -> Self {
        Self::Session(error.into())
    }
}

impl<'a, P: Plan> Session<'a, P> {
    /// Runs one session under a lease.
    pub(super) async fn run(
        producer: &'a LoopingProducer,
        plan: P,
        (state, claim): (ProducerState<P::Rows>, bool),
        stop: &'a CancellationToken,
    ) -> Result<LoopingReport<P::Findings>, ProducerError> {
        crash_point(crash_points::PRODUCER_LEASED);
        let mut loaded = state.load(claim).await?;
        let mut session = Self::new(producer, plan, state, stop);
        let size = loaded.queue_size.take();
        let parts = session.load_parts(loaded).await?;
        let due = session.due_at_start();
        if due.is_empty() && parts.is_empty() && !session.runs.is_empty() {
            return Ok(LoopingReport::new(SessionEnd::NotDue { next_run: session.next_run() }));
        }
        let size = session.size_queue(size).await?;
        session.prepare(parts, due).await?;
        session.report.ended = match session.rounds().await? {
            Some(ended) => ended,
            None => SessionEnd::Finished { next_run: session.next_run() },
        };
        session.report_sums();
        session.remember_size(size).await?;
        Ok(session.report)
    }

    /// Creates a session that has loaded nothing yet.
    pub(crate) fn new(
        producer: &'a LoopingProducer,
        plan: P,
        state: ProducerState<P::Rows>,
        stop: &'a CancellationToken,
    ) -> Self {
        let (deps, settings) = (&producer.deps, &producer.settings);
        let task_sender = TaskSender {
            queue: deps.queue.clone(),
            clock: deps.clock.clone(),
            chance: deps.chance.clone(),
            statistics: deps.statistics.clone(),
            at_once: settings.sends_at_once.get(),
        };
        let now = deps.clock.now();
        Self {
            deps,
            settings,
            stores: &producer.stores,
            stop,
            state,
            task_sender,
            report: LoopingReport::new(SessionEnd::Stopped),
            plan,
            runs: BTreeMap::new(),
            step_began: now,
            failures: SurveyFailures::of(Vec::new()),
            accounts: BTreeSet::new(),
            waiting: BTreeMap::new(),
            queue_sizer: Mutex::new(QueueSizer::new(settings.queue_max, 0)),
            round: 0,
            begun: 0,
            next_due_check: None,
            accounts_failed: BTreeSet::new(),
            paused_morsels: BTreeMap::new(),
            failure_streaks: BTreeMap::new(),
            later_accounts: PendingDiscoveries::new(),
            background_reads: BackgroundReads::new(),
            shares: AccountShares::default(),
        }
    }

    /// How many morsels wait for a read.
    pub(crate) fn morsels_being_read(&self) -> usize {
        self.background_reads.morsels()
    }

    /// Queues tasks of an account, and returns how many.
    ///
    /// # Errors
    /// When some tasks are not surely in the queue after a few attempts. Any of them may be there all the same.
    pub(crate) async fn queue_tasks<A: TaskArgs>(
        &mut self,
        account: &AccountId,
        tasks: impl ExactSizeIterator<Item = A>,
    ) -> Result<u64, ProducerError> {
        self.note_before_send(account, tasks.len()).await?;
        let queued = self.task_sender.send(tasks).await?;
        self.report.queued += queued;
        self.queue_sizer().sent(queued);
        self.deps.statistics.sent.fetch_add(queued, Relaxed);
        Ok(queued)
    }

    /// Adds the sum of a nibble to the survey of a run.
    pub(crate) fn add_to_survey(&mut self, account: &AccountId, sum: SurveySum) {
        if let Some(run) = self.runs.get_mut(account) {
            run.surveyed += sum;
        }
        self.deps.statistics.add_survey(sum);
    }

    /// Returns the result of `reading`, or `None` if the session is told to stop first. Only for futures without side effects.
    pub(crate) async fn unless_stopped<R: Future>(&self, reading: R) -> Option<R::Output> {
        match select(pin!(self.stop.cancelled()), pin!(reading)).await {
            Either::Left(((), _)) => None,
            Either::Right((read, _)) => Some(read),
        }
    }

    /// Reports, once, that an account is skipped.
    pub(crate) fn account_failed(&mut self, account: &AccountId, error: &(dyn std::error::Error + 'static)) {
        self.run_failed(account);
        if self.accounts_failed.insert(account.clone()) {
            let reason = error_chain(error);
            warn!(target: mill_ports::REPORTED, %account, reason, "the account is passed over");
            self.report.accounts_failed.push((account.clone(), reason));
        }
    }

    /// Reports that a morsel is skipped.
    pub(crate) fn space_failed(&mut self, subject: &MorselSubjectOf<P>, error: &P::Error) {
        self.run_failed(subject.account());
        let reason = error_chain(error);
        warn!(target: mill_ports::REPORTED, account = %subject.account(), space = %subject.space(), source = %subject.store(),
            destination = subject.destination().map(tracing::field::display), reason, "the space is passed over");
        self.note_failure(SurveySubject::Morsel(subject.clone()), &reason);
        self.report.spaces_failed.push(SpaceFailure {
            account: subject.account().clone(),
            space: Some(subject.space().clone()),
            source: subject.store().clone(),
            destination: subject.destination().cloned(),
            failure_kind: error.failure_kind(),
            reason,
        });
    }

    /// Reports that the spaces of a store are not known.
    pub(crate) fn store_failed(&mut self, account: &AccountId, store: &StoreId, error: &StoreError) {
        self.run_failed(account);
        let reason = error_chain(error);
        warn!(target: mill_ports::REPORTED, %account, %store, reason, "the spaces of the store are not known");
        let address = StoreAddress::of(account, store);
        self.note_failure(SurveySubject::Store(address), &reason);
        let (account, source) = (account.clone(), store.clone());
        let (space, destination) = (None, None);
        let failure_kind = match error.kind.may_pass() {
            _ if SilenceError::is_why(error) => SpaceFailureKind::Silent,
            true => SpaceFailureKind::MayPass,
            false => SpaceFailureKind::Stays,
        };
        let failed = SpaceFailure { account, space, source, destination, failure_kind, reason };
        self.report.spaces_failed.push(failed);
    }
}
