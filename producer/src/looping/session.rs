//! One session: the rounds over the morsels of all accounts, until their runs are complete or something ends the session.
//!
//! ```text
//!   load ─▶ begin the runs that are due ─▶ discover their accounts ─▶ rounds ──▶ each finished
//!     │                                                       ▲           │ ▲
//!     └─▶ resume the runs in progress ────────────────────────┼───────────┘ └─ turn of the morsel with the fewest turns:
//!                                                             │                deletes (once), then one nibble of copies
//!                       an account whose next run is due, or that is new
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;

use futures::future::{Either, select};
use mill_model::{AccountId, DeleteListId, Monotonic, SpaceId, SpacePair, StoreAddress, StoreId, Timestamp};
use mill_ports::{CrashPoint, crash_point, error_chain};
use mill_records::Versioned;
use mill_records::delete_lists::DeleteListError;
use mill_records::producer_state::{
    DeleteProgress, MissingSpace, Morsel, ProducerState, ProducerStateError, SurveySubject,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::duplication::DuplicationProducer;
use crate::duplication::endpoints::SpaceError;
use crate::duplication::merge::MergeError;
use crate::duplication::morsel_step::OpenMorsel;
use crate::report::{ProducerError, SessionEnd, SessionReport, SpaceFailure, SpaceFailureKind};
use crate::settings::{ProducerDeps, ProducerSettings};
use crate::timed_stores::{SilenceError, TimedStores};

use super::account_discovery::PendingDiscoveries;
use super::background_read::{BackgroundReads, ReaderPanicked};
use super::failures::SurveyFailures;
use super::queue_sizer::QueueSizer;
use super::rounds::FailureStreak;
use super::runs::ActiveRun;
use super::shares::AccountShares;
use super::task_sender::TaskSender;

/// A morsel's priority in the rounds: its round, then its rank within its account, so that every account is served.
pub(crate) type RoundPriority = (u64, usize, SpacePair);

/// The state of one session.
pub(crate) struct Session<'a> {
    pub(crate) deps: &'a ProducerDeps,
    pub(crate) settings: &'a ProducerSettings,
    pub(crate) stores: &'a TimedStores,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) state: ProducerState,
    pub(crate) task_sender: TaskSender,
    pub(crate) report: SessionReport,
    /// The accounts that are listed.
    pub(super) accounts: BTreeSet<AccountId>,
    /// The current or last run of each account.
    pub(crate) runs: BTreeMap<AccountId, ActiveRun>,
    pub(crate) open_morsels: BTreeMap<SpacePair, OpenMorsel>,
    pub(crate) missing: BTreeMap<(AccountId, StoreId, SpaceId), Versioned<MissingSpace>>,
    pub(crate) waiting: BTreeMap<RoundPriority, Versioned<Morsel>>,
    /// The rows of delete lists that had a result when this session first read the list.
    pub(crate) settled_rows: BTreeMap<DeleteListId, BTreeSet<u32>>,
    /// How many tasks the queue may hold. Held only between awaits.
    pub(crate) queue_sizer: Mutex<QueueSizer>,
    /// When the current turn began.
    pub(crate) step_began: Timestamp,
    /// The current round.
    pub(super) round: u64,
    /// How many runs this session has begun.
    pub(super) begun: u32,
    /// When the session next checks whether an account's run is due; `None` if it never does.
    pub(super) next_due_check: Option<Monotonic>,
    pub(super) accounts_failed: BTreeSet<AccountId>,
    /// The morsels whose failure may pass, and when they may have another turn.
    pub(super) paused_morsels: BTreeMap<(Monotonic, RoundPriority), Versioned<Morsel>>,
    pub(super) failure_streaks: BTreeMap<SpacePair, FailureStreak>,
    /// The failed surveys since the last success, for the status.
    pub(crate) failures: SurveyFailures,
    pub(super) later_accounts: PendingDiscoveries,
    pub(super) background_reads: BackgroundReads,
    pub(super) shares: AccountShares,
}

/// Why a step went no further.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The space is skipped; other spaces go on.
    Space(SpaceError),
    /// The session ends.
    Session(ProducerError),
}

impl From<SpaceError> for StepError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
    }
}

impl From<ReaderPanicked> for StepError {
    fn from(error: ReaderPanicked) -> Self {
        Self::Space(error.into())
    }
}

impl From<MergeError> for StepError {
    fn from(error: MergeError) -> Self {
        Self::Space(error.into())
    }
}

impl From<DeleteListError> for StepError {
    fn from(error: DeleteListError) -> Self {
        Self::Space(error.into())
    }
}

impl From<ProducerError> for StepError {
    fn from(error: ProducerError) -> Self {
        Self::Session(error)
    }
}

impl From<ProducerStateError> for StepError {
    fn from(error: ProducerStateError) -> Self {
        Self::Session(error.into())
    }
}

impl<'a> Session<'a> {
    /// Runs one session under a lease.
    pub(crate) async fn run(
        producer: &'a DuplicationProducer,
        state: ProducerState,
        claim: bool,
        stop: &'a CancellationToken,
    ) -> Result<SessionReport, ProducerError> {
        crash_point(CrashPoint::ProducerLeased);
        let mut loaded = state.load(claim).await?;
        let mut session = Self::new(producer, state, stop);
        let size = loaded.queue_size.take();
        let parts = session.load_parts(loaded).await?;
        let due = session.due_at_start();
        if due.is_empty() && parts.is_empty() && !session.runs.is_empty() {
            return Ok(SessionReport::new(SessionEnd::NotDue { next_run: session.next_run() }));
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
    pub(crate) fn new(producer: &'a DuplicationProducer, state: ProducerState, stop: &'a CancellationToken) -> Self {
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
            report: SessionReport::new(SessionEnd::Stopped),
            accounts: BTreeSet::new(),
            runs: BTreeMap::new(),
            open_morsels: BTreeMap::new(),
            missing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled_rows: BTreeMap::new(),
            queue_sizer: Mutex::new(QueueSizer::new(settings.queue_max, 0)),
            step_began: now,
            round: 0,
            begun: 0,
            next_due_check: None,
            accounts_failed: BTreeSet::new(),
            paused_morsels: BTreeMap::new(),
            failure_streaks: BTreeMap::new(),
            failures: SurveyFailures::default(),
            later_accounts: PendingDiscoveries::new(),
            background_reads: BackgroundReads::default(),
            shares: AccountShares::default(),
        }
    }

    /// How many listings are kept open.
    pub(crate) fn listings_open(&self) -> usize {
        self.open_morsels.len() + self.background_reads.morsels()
    }

    /// Reports the deletes that an earlier session of this run held.
    pub(super) async fn report_held_of_earlier(&mut self, morsels: &[Versioned<Morsel>]) -> Result<(), ProducerError> {
        if !morsels.iter().any(|morsel| matches!(morsel.record.deletes, DeleteProgress::Held { .. })) {
            return Ok(());
        }
        for held in self.deps.delete_lists.held().await? {
            if morsels.iter().any(|morsel| morsel.record.pair == held.pair) {
                self.report_held(&held);
            }
        }
        Ok(())
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
            warn!(%account, reason, "the account is passed over");
            self.report.accounts_failed.push((account.clone(), reason));
        }
    }

    pub(crate) fn space_failed(&mut self, pair: &SpacePair, error: &SpaceError) {
        self.run_failed(&pair.account);
        let reason = error_chain(error);
        warn!(account = %pair.account, space = %pair.space, source = %pair.source, destination = %pair.destination,
            reason, "the space is passed over");
        self.note_failure(SurveySubject::SpacePair(pair.clone()), &reason);
        self.report.spaces_failed.push(SpaceFailure {
            account: pair.account.clone(),
            space: Some(pair.space.clone()),
            source: pair.source.clone(),
            destination: Some(pair.destination.clone()),
            failure_kind: error.failure_kind(),
            reason,
        });
    }

    /// Reports that the spaces of a store are not known.
    pub(crate) fn store_failed(&mut self, account: &AccountId, store: &StoreId, error: &mill_ports::StoreError) {
        self.run_failed(account);
        let reason = error_chain(error);
        warn!(%account, %store, reason, "the spaces of the store are not known");
        let address = StoreAddress { account: account.clone(), store: store.clone() };
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

pub(crate) fn missing_key(row: &MissingSpace) -> (AccountId, StoreId, SpaceId) {
    (row.account.clone(), row.store.clone(), row.space.clone())
}
