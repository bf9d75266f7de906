//! One session: the rounds over all morsels, until the loop is complete or something ends it.
//!
//! ```text
//!   load ─▶ begin a run, if due ─▶ look accounts through ─▶ rounds ──▶ finished
//!     │                                                       │ ▲
//!     └─▶ resume the run going on ────────────────────────────┘ └─ turn of the morsel with the fewest nibbles:
//!                                                                  deletes (once), then one nibble of copies
//! ```

mod room;
mod rounds;
mod shares;
mod unanswered;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;

use futures::future::{Either, select};
use mill_model::{AccountId, DeleteListId, Monotonic, SpaceId, StoreId, SurveySum, Timestamp};
use mill_ports::{CrashPoint, chain, crash_point};
use mill_records::delete_lists::DeleteListError;
use mill_records::producer_state::{
    AccountRow, Deletes, Kept, Loaded, Missing, Morsel, ProducerState, Run, StateError,
};
use mill_records::seals::Pair;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::drain::Drain;
use crate::duplication::DuplicationProducer;
use crate::ends::SpaceError;
use crate::merge::MergeError;
use crate::report::{Ended, ProducerError, SessionReport, SpaceFailed};
use crate::sending::Sending;
use crate::settings::{Deps, Settings};
use crate::turn::Opened;

pub(crate) use self::room::Room;
use self::rounds::{Failing, Today};
use self::shares::Shares;
use self::unanswered::LaterAccounts;
pub(crate) use self::unanswered::Unanswered;

/// A morsel's place in the rounds: fewest nibbles first, then account by account, so that every account is served.
pub(crate) type Place = (u64, usize, Pair);

/// What one session has in hand.
pub(crate) struct Session<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) settings: &'a Settings,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) state: ProducerState,
    pub(crate) sending: Sending,
    pub(crate) report: SessionReport,
    pub(crate) run: Kept<Run>,
    pub(crate) opened: BTreeMap<Pair, Opened>,
    pub(crate) missing: BTreeMap<(AccountId, StoreId, SpaceId), Kept<Missing>>,
    pub(crate) waiting: BTreeMap<Place, Kept<Morsel>>,
    /// The rows of delete lists that had a result when this session first looked.
    pub(crate) settled_rows: BTreeMap<DeleteListId, BTreeSet<u32>>,
    /// How many tasks the queue may hold. Held only between awaits.
    pub(crate) drain: Mutex<Drain>,
    /// When the turn going on began.
    pub(crate) turn_began: Timestamp,
    /// Rows that stay in the book because their parts failed.
    failed: bool,
    accounts_failed: BTreeSet<AccountId>,
    /// The morsels that failed in a way that may pass, and from when on they may have another turn.
    resting: BTreeMap<(Monotonic, Place), Kept<Morsel>>,
    failing: BTreeMap<Pair, Failing>,
    later_accounts: LaterAccounts,
    shares: Shares,
}

/// Why a step went no further.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The space is passed over; others go on.
    Space(SpaceError),
    /// The session ends.
    Session(ProducerError),
}

impl From<SpaceError> for StepError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
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

impl From<StateError> for StepError {
    fn from(error: StateError) -> Self {
        Self::Session(error.into())
    }
}

impl<'a> Session<'a> {
    /// Does one session under a lease.
    pub(crate) async fn run(
        producer: &'a DuplicationProducer,
        state: ProducerState,
        claim: bool,
        stop: &'a CancellationToken,
    ) -> Result<SessionReport, ProducerError> {
        crash_point(CrashPoint::ProducerLeased);
        let loaded = state.load(claim).await?;
        let settings = &producer.settings;
        let now = producer.deps.clock.now();
        let next_run = |run: &Run| producer.next_run(run.started);
        let remains = !loaded.accounts.is_empty() || !loaded.morsels.is_empty();
        let begins = match &loaded.run {
            None => true,
            Some(run) if run.row.finished.is_none() => false,
            // A time in the future is none: the clock was wrong when it was written.
            Some(run) => settings.force || now >= next_run(&run.row) || run.row.started > now,
        };
        if let Some(run) = loaded.run.as_ref().filter(|run| !begins && !remains && run.row.finished.is_some()) {
            return Ok(SessionReport::new(Ended::NotDue { next_run: next_run(&run.row) }));
        }
        let mut loaded = loaded;
        let mut session = Self::new(producer, state, stop);
        let size = session.size_queue(loaded.queue_size.take()).await?;
        session.prepare(loaded, begins).await?;
        session.report.began = session.run.row.started;
        session.report.ended = if let Some(ended) = session.rounds().await? {
            ended
        } else {
            session.sum_up().await?;
            Ended::Finished { next_run: next_run(&session.run.row) }
        };
        session.remember_size(size).await?;
        Ok(session.report)
    }

    /// A session in which nothing is known yet.
    pub(crate) fn new(producer: &'a DuplicationProducer, state: ProducerState, stop: &'a CancellationToken) -> Self {
        let (deps, settings) = (&producer.deps, &producer.settings);
        let sending = Sending {
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
            stop,
            state,
            sending,
            report: SessionReport::new(Ended::Stopped),
            run: Kept::fresh(Run { number: 0, started: now, listed: false, finished: None }),
            opened: BTreeMap::new(),
            missing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled_rows: BTreeMap::new(),
            drain: Mutex::new(Drain::new(settings.queue_max, 0)),
            turn_began: now,
            failed: false,
            accounts_failed: BTreeSet::new(),
            resting: BTreeMap::new(),
            failing: BTreeMap::new(),
            later_accounts: LaterAccounts::new(),
            shares: Shares::default(),
        }
    }

    async fn prepare(&mut self, loaded: Loaded, begins: bool) -> Result<(), ProducerError> {
        let Loaded { run, accounts, morsels, missing, queue_size: _, shares } = loaded;
        self.shares = Shares::of(shares);
        let mut accounts = accounts;
        if begins {
            self.begin(run, &accounts, &morsels, missing).await?;
            accounts = Vec::new();
        } else {
            self.report.resumed = true;
            self.missing.extend(missing.into_iter().map(|kept| (missing_key(&kept.row), kept)));
            if let Some(run) = run {
                self.run = run;
            }
            info!(started = %self.run.row.started, morsels = morsels.len(), "resumes a run");
            self.report_what_is_held(&morsels).await?;
            self.line_up(morsels);
        }
        if !self.run.row.listed {
            accounts = self.list_accounts().await?;
        }
        for account in accounts {
            if self.stop.is_cancelled() {
                break;
            }
            self.look_through(self.first_look(account)).await?;
        }
        Ok(())
    }

    /// Begins a run: what is left of the one before is forgotten.
    async fn begin(
        &mut self,
        last: Option<Kept<Run>>,
        accounts: &[Kept<AccountRow>],
        morsels: &[Kept<Morsel>],
        missing: Vec<Kept<Missing>>,
    ) -> Result<(), ProducerError> {
        let last_number = last.as_ref().map(|run| run.row.number);
        // A space that the last run did not find missing may have been there since.
        let (kept, stale): (Vec<_>, Vec<_>) = missing.into_iter().partition(|row| Some(row.row.run) == last_number);
        self.state.remove_all(&stale).await?;
        self.missing.extend(kept.into_iter().map(|kept| (missing_key(&kept.row), kept)));
        let run = Run { number: self.state.epoch(), started: self.deps.clock.now(), listed: false, finished: None };
        self.run = match last {
            Some(mut last) => {
                last.row = run;
                last
            }
            None => Kept::fresh(run),
        };
        // Only whose run it is may forget what is left: another may have begun one since this was read. Until it is forgotten
        // its morsels are taken for fresh ones.
        self.state.save(&mut self.run).await?;
        crash_point(CrashPoint::ProducerRunBegun);
        self.state.remove_all(accounts).await?;
        self.state.remove_all(morsels).await?;
        crash_point(CrashPoint::ProducerCleared);
        self.deps.statistics.begin_run();
        info!(run = self.run.row.number, "begins a run");
        Ok(())
    }

    /// Adds what earlier sessions of this run surveyed, and forgets what is known of pairs that no policy covers any more.
    async fn sum_up(&mut self) -> Result<(), ProducerError> {
        if !self.report.resumed && self.failed {
            return Ok(());
        }
        let surveys = self.state.surveys().await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            surveys.into_iter().partition(|kept| kept.row.run == self.run.row.number);
        if self.report.resumed {
            self.report.survey = SurveySum::default();
            self.report.pairs = ours.len() as u64;
            for kept in &ours {
                self.report.survey += kept.row.sum;
            }
        }
        if !self.failed {
            let mut gone = Vec::new();
            for kept in others {
                if matches!(self.today(&kept.row.pair).await, Today::NotCovered) {
                    gone.push(kept);
                }
            }
            self.state.remove_all(&gone).await?;
        }
        Ok(())
    }

    /// Names what an earlier session of this run held.
    async fn report_what_is_held(&mut self, morsels: &[Kept<Morsel>]) -> Result<(), ProducerError> {
        if !morsels.iter().any(|morsel| matches!(morsel.row.deletes, Deletes::Held { .. })) {
            return Ok(());
        }
        for held in self.deps.delete_lists.held().await? {
            if morsels.iter().any(|morsel| morsel.row.pair == held.pair) {
                self.report_held(&held);
            }
        }
        Ok(())
    }

    /// Puts morsels into their places in the rounds.
    pub(crate) fn line_up(&mut self, morsels: Vec<Kept<Morsel>>) {
        let mut ranks: BTreeMap<AccountId, usize> = BTreeMap::new();
        let mut morsels = morsels;
        morsels.sort_by(|a, b| {
            let (a, b) = (&a.row.pair, &b.row.pair);
            (&a.space, &a.source, &a.destination).cmp(&(&b.space, &b.source, &b.destination))
        });
        for mut morsel in morsels {
            // A producer that slept may write rows of an earlier run after this one has begun. What they count is not of this one.
            if morsel.row.run != self.run.row.number {
                morsel.row = Morsel::fresh(morsel.row.pair, self.run.row.number);
            }
            let rank = ranks.entry(morsel.row.pair.account.clone()).or_default();
            *rank += 1;
            self.waiting.insert((morsel.row.nibbles, *rank, morsel.row.pair.clone()), morsel);
        }
    }

    /// What `reading` gives, unless the session is told to stop before. Only for what changes nothing.
    pub(crate) async fn unless_stopped<R: Future>(&self, reading: R) -> Option<R::Output> {
        match select(pin!(self.stop.cancelled()), pin!(reading)).await {
            Either::Left(((), _)) => None,
            Either::Right((read, _)) => Some(read),
        }
    }

    /// Notes, once, that an account is passed over.
    pub(crate) fn account_failed(&mut self, account: &AccountId, error: &(dyn std::error::Error + 'static)) {
        self.failed = true;
        if self.accounts_failed.insert(account.clone()) {
            let reason = chain(error);
            warn!(%account, reason, "the account is passed over");
            self.report.accounts_failed.push((account.clone(), reason));
        }
    }

    pub(crate) fn space_failed(&mut self, pair: &Pair, error: &SpaceError) {
        self.failed = true;
        let reason = chain(error);
        warn!(account = %pair.account, space = %pair.space, source = %pair.source, destination = %pair.destination,
            reason, "the space is passed over");
        self.report.spaces_failed.push(SpaceFailed {
            account: pair.account.clone(),
            space: Some(pair.space.clone()),
            source: pair.source.clone(),
            destination: Some(pair.destination.clone()),
            source_absent: matches!(error, SpaceError::SourceAbsent),
            refused: error.is_refused(),
            may_pass: error.may_pass(),
            reason,
        });
    }

    /// Notes that the spaces of a store are not known.
    pub(crate) fn store_failed(&mut self, account: &AccountId, store: &StoreId, error: &mill_ports::StoreError) {
        self.failed = true;
        let reason = chain(error);
        warn!(%account, %store, reason, "the spaces of the store are not known");
        let (account, source) = (account.clone(), store.clone());
        let (space, destination, source_absent, refused) = (None, None, false, false);
        let may_pass = error.kind.may_pass();
        let failed = SpaceFailed { account, space, source, destination, source_absent, refused, may_pass, reason };
        self.report.spaces_failed.push(failed);
    }
}

pub(crate) fn missing_key(row: &Missing) -> (AccountId, StoreId, SpaceId) {
    (row.account.clone(), row.store.clone(), row.space.clone())
}
