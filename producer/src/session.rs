//! One session: the rounds over all morsels, until the loop is complete or something ends it.
//!
//! ```text
//!   load ─▶ begin a run, if due ─▶ look accounts through ─▶ rounds ──▶ finished
//!     │                                                       │ ▲
//!     └─▶ resume the run going on ────────────────────────────┘ └─ turn of the morsel with the fewest nibbles:
//!                                                                  deletes (once), then one nibble of copies
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use mill_model::{AccountId, DeleteListId, Monotonic, SpaceId, StoreAddress, StoreId, SurveySum, Timestamp};
use mill_policy::{Coverage, StorePolicy};
use mill_ports::{Awaited, CrashPoint, chain, crash_point};
use mill_records::delete_lists::DeleteListError;
use mill_records::policies::PolicyError;
use mill_records::producer_state::{
    AccountRow, Deletes, Kept, Loaded, Missing, Morsel, ProducerState, QueueSize, Run, StateError,
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
use crate::settings::{Deps, QueueSizing, Settings, WhenFull};
use crate::turn::{Opened, Turn};

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
}

/// A space that failed in a way that may pass.
struct Failing {
    /// When it first did, of those in a row.
    since: Monotonic,
    tries: u32,
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

/// Whether a step may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    Full,
    Stopped,
}

/// What comes next in the rounds.
enum Next {
    Turn(Place, Box<Kept<Morsel>>),
    /// Each account that has work has its share of the queue.
    Full,
    /// Nothing is left, or it was told to stop.
    None,
}

/// What today's policy says of a morsel.
enum Today {
    Covered(StorePolicy),
    NotCovered,
    AccountFailed,
    Stopped(String),
}

impl<'a> Session<'a> {
    const SPACE_TRIES_MAX: u32 = 3;
    const SPACE_PAUSE: Duration = Duration::from_secs(1);
    const SPACE_PAUSE_MAX: Duration = Duration::from_secs(30);

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
        }
    }

    async fn prepare(&mut self, loaded: Loaded, begins: bool) -> Result<(), ProducerError> {
        let Loaded { run, accounts, morsels, missing, queue_size: _ } = loaded;
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
            self.look_through(account).await?;
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

    /// Turn after turn. `None` when no morsel is left but those that failed.
    async fn rounds(&mut self) -> Result<Option<Ended>, ProducerError> {
        loop {
            let ((nibbles, rank, pair), mut morsel) = match self.next_morsel().await? {
                Next::Turn(place, morsel) => (place, *morsel),
                Next::Full => return Ok(Some(Ended::QueueFull)),
                Next::None => break,
            };
            match self.whole_turn(&mut morsel).await? {
                Turn::Again => {
                    self.waiting.insert((morsel.row.nibbles, rank, pair), morsel);
                }
                Turn::Later(at) => drop(self.resting.insert((at, (nibbles, rank, pair)), morsel)),
                Turn::Done => {
                    self.state.remove(&morsel).await?;
                    crash_point(CrashPoint::ProducerMorselRemoved);
                }
                Turn::PassedOver => self.failed = true,
                Turn::Full => return Ok(Some(Ended::QueueFull)),
                Turn::Stopped => return Ok(Some(Ended::Stopped)),
            }
        }
        if self.stop.is_cancelled() {
            return Ok(Some(Ended::Stopped));
        }
        if self.run.row.finished.is_none() {
            crash_point(CrashPoint::ProducerBeforeFinish);
            self.run.row.finished = Some(self.deps.clock.now());
            self.state.save(&mut self.run).await?;
            crash_point(CrashPoint::ProducerFinished);
        }
        if self.failed {
            warn!("the loop is complete but for what failed; that is tried again in the next session");
        }
        Ok(None)
    }

    /// The morsel whose turn comes next, once there is one: the first of an account that has not had its share of the queue.
    async fn next_morsel(&mut self) -> Result<Next, ProducerError> {
        let mut pause = Duration::ZERO;
        loop {
            let now = self.deps.clock.monotonic();
            while let Some(rested) = self.resting.first_entry().filter(|first| first.key().0 <= now) {
                let ((_, place), morsel) = rested.remove_entry();
                self.waiting.insert(place, morsel);
            }
            if let Some(place) = self.first_with_a_share().await? {
                let Some(morsel) = self.waiting.remove(&place) else { continue };
                return Ok(Next::Turn(place, Box::new(morsel)));
            }
            let rested = match (self.waiting.is_empty(), self.resting.first_key_value()) {
                (true, None) => return Ok(Next::None),
                (true, Some(((until, _), _))) => until.since(now),
                (false, _) => {
                    let depth = self.sending.depth().await?;
                    self.note_depth(depth, true);
                    let WhenFull::Wait { poll, poll_most } = self.settings.when_full else {
                        info!(depth, "each account has its share of the queue");
                        return Ok(Next::Full);
                    };
                    pause = (pause * 2).clamp(poll, poll_most.max(poll));
                    pause
                }
            };
            if self.unless_stopped(self.deps.clock.sleep(rested)).await.is_none() {
                return Ok(Next::None);
            }
        }
    }

    /// The first place of an account of which the queue holds less than its share: a slow one's tasks are not to keep out those
    /// of others.
    async fn first_with_a_share(&self) -> Result<Option<Place>, ProducerError> {
        let accounts = |places: &mut dyn Iterator<Item = &Place>| -> BTreeSet<AccountId> {
            places.map(|(_, _, pair)| pair.account.clone()).collect()
        };
        let with_work = accounts(&mut self.waiting.keys().chain(self.resting.keys().map(|(_, place)| place)));
        if with_work.len() < 2 {
            return Ok(self.waiting.keys().next().cloned());
        }
        let share = (self.queue_max() / with_work.len() as u64).max(self.settings.nibble.get() as u64);
        let mut over = BTreeSet::new();
        for place in self.waiting.keys() {
            let account = &place.2.account;
            if over.contains(account) {
                continue;
            }
            match self.sending.depth_of(account).await? {
                Some(depth) if depth >= share => over.insert(account.clone()),
                _ => return Ok(Some(place.clone())),
            };
        }
        Ok(None)
    }

    async fn whole_turn(&mut self, morsel: &mut Kept<Morsel>) -> Result<Turn, ProducerError> {
        match self.room().await? {
            Room::Yes => {}
            Room::Full => return Ok(Turn::Full),
            Room::Stopped => return Ok(Turn::Stopped),
        }
        // After the waiting: what is asked for may have changed meanwhile.
        let pair = morsel.row.pair.clone();
        let policy = match self.today(&pair).await {
            Today::Covered(policy) => policy,
            Today::NotCovered => {
                info!(account = %pair.account, space = %pair.space, source = %pair.source,
                    destination = %pair.destination, "no policy asks for this any more; dropped from the run");
                return Ok(Turn::Done);
            }
            Today::AccountFailed => return Ok(Turn::PassedOver),
            Today::Stopped(reason) => {
                self.space_failed(&pair, &SpaceError::Stopped { reason });
                return Ok(Turn::PassedOver);
            }
        };
        match self.turn(morsel, policy).await {
            Ok(turn) => {
                if self.failing.remove(&pair).is_some() {
                    let used = [&pair.source, &pair.destination].map(|store| address(&pair, store));
                    self.deps.statistics.used_stores(&used);
                }
                Ok(turn)
            }
            Err(StepError::Session(error)) => Err(error),
            Err(StepError::Space(error)) => {
                if error.may_pass()
                    && let Some(at) = self.try_later(&pair, &error)
                {
                    return Ok(Turn::Later(at));
                }
                self.space_failed(&pair, &error);
                Ok(Turn::PassedOver)
            }
        }
    }

    async fn today(&mut self, pair: &Pair) -> Today {
        if self.accounts_failed.contains(&pair.account) {
            return Today::AccountFailed;
        }
        match self.deps.policies.account(&pair.account).await {
            Ok(policy) => match policy.coverage(&pair.space, &pair.source, &pair.destination) {
                Coverage::Covered(policy) => Today::Covered(policy),
                Coverage::NotCovered => Today::NotCovered,
                Coverage::Stopped => Today::Stopped(policy.for_space(&pair.space).rule.to_string()),
            },
            Err(PolicyError::NotListed { .. }) => Today::NotCovered,
            Err(error) => {
                self.account_failed(&pair.account, &error);
                Today::AccountFailed
            }
        }
    }

    /// When a space that failed gets another turn in this session, if it does. Others have theirs meanwhile.
    fn try_later(&mut self, pair: &Pair, error: &SpaceError) -> Option<Monotonic> {
        let now = self.deps.clock.monotonic();
        let failing = self.failing.entry(pair.clone()).or_insert(Failing { since: now, tries: 0 });
        failing.tries += 1;
        if failing.tries >= Self::SPACE_TRIES_MAX && now.since(failing.since) >= self.settings.give_up_after {
            return None;
        }
        if let Some(error) = error.of_store() {
            self.deps.statistics.await_store(&error.store, Awaited { reason: chain(error), may_pass: true });
        }
        warn!(account = %pair.account, space = %pair.space, error = chain(error), "the space is tried again");
        let pause = Self::SPACE_PAUSE.saturating_mul(1 << (failing.tries - 1).min(16)).min(Self::SPACE_PAUSE_MAX);
        Some(now.plus(pause))
    }

    /// Whether the next step may begin: asked before each.
    pub(crate) async fn room(&self) -> Result<Room, ProducerError> {
        let mut pause = Duration::ZERO;
        loop {
            if self.stop.is_cancelled() {
                return Ok(Room::Stopped);
            }
            let depth = self.sending.depth().await?;
            self.note_depth(depth, false);
            let max = self.queue_max();
            if depth < max {
                return Ok(Room::Yes);
            }
            match self.settings.when_full {
                WhenFull::Leave => {
                    info!(depth, max, "the queue is too full to nibble");
                    return Ok(Room::Full);
                }
                WhenFull::Wait { poll, poll_most } => {
                    pause = (pause * 2).clamp(poll, poll_most.max(poll));
                    if self.unless_stopped(self.deps.clock.sleep(pause)).await.is_none() {
                        return Ok(Room::Stopped);
                    }
                }
            }
        }
    }

    /// How many tasks the queue may hold.
    fn queue_max(&self) -> u64 {
        match self.settings.queue_sizing {
            QueueSizing::Fixed => self.settings.queue_max,
            QueueSizing::Lasting(_) => self.drain().max(),
        }
    }

    /// Sizes the queue anew, where that is to be found out, now that it holds so many tasks; `full` where no account may have
    /// more in it.
    fn note_depth(&self, depth: u64, full: bool) {
        if let QueueSizing::Lasting(lasting) = self.settings.queue_sizing {
            self.drain().looked(self.deps.clock.monotonic(), (depth, full), lasting);
        }
    }

    pub(crate) fn drain(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sizes the queue by what earlier sessions found, and by what it has lost since the last one left it full.
    async fn size_queue(&self, known: Option<Kept<QueueSize>>) -> Result<Kept<QueueSize>, ProducerError> {
        let fresh = || Kept::fresh(QueueSize { max: self.settings.queue_max, full: None });
        let size = known.unwrap_or_else(fresh);
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(size);
        }
        let mut drain = Drain::new(size.row.max, 2 * self.settings.nibble.get() as u64);
        if let Some((left, held)) = size.row.full {
            let away = self.deps.clock.now().since(left);
            // The next session may come a little later than this one did.
            let lasting = away + away / 2;
            drain.measured(away, (held, 0, self.sending.depth().await?), lasting);
        }
        *self.drain() = drain;
        Ok(size)
    }

    /// Remembers for the next session how many tasks the queue may hold, and how many it holds if it is full.
    async fn remember_size(&self, mut size: Kept<QueueSize>) -> Result<(), ProducerError> {
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(());
        }
        let full = match self.report.ended {
            Ended::QueueFull => Some((self.deps.clock.now(), self.sending.depth().await?)),
            _ => None,
        };
        let before = std::mem::replace(&mut size.row, QueueSize { max: self.drain().max(), full });
        if size.row != before || size.is_fresh() {
            self.state.save(&mut size).await?;
        }
        Ok(())
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
            reason,
        });
    }

    /// Notes that the spaces of a store are not known.
    pub(crate) fn store_failed(&mut self, account: &AccountId, store: &StoreId, error: &mill_ports::StoreError) {
        self.failed = true;
        let reason = chain(error);
        warn!(%account, %store, reason, "the spaces of the store are not known");
        let (account, source) = (account.clone(), store.clone());
        let failed = SpaceFailed { account, space: None, source, destination: None, source_absent: false, reason };
        self.report.spaces_failed.push(failed);
    }
}

fn address(pair: &Pair, store: &StoreId) -> StoreAddress {
    StoreAddress { account: pair.account.clone(), store: store.clone() }
}

pub(crate) fn missing_key(row: &Missing) -> (AccountId, StoreId, SpaceId) {
    (row.account.clone(), row.store.clone(), row.space.clone())
}
