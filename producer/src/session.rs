//! One session: the rounds over the morsels of all accounts, until their loops are complete or something ends it.
//!
//! ```text
//!   load ─▶ begin the runs that are due ─▶ look their accounts through ─▶ rounds ──▶ each finished
//!     │                                                       ▲           │ ▲
//!     └─▶ resume those going on ──────────────────────────────┼───────────┘ └─ turn of the morsel with the fewest turns:
//!                                                             │                deletes (once), then one nibble of copies
//!                       an account whose next run is due, or that is new
//! ```

mod accounts;
mod failures;
mod reading;
mod room;
mod rounds;
mod runs;
mod shares;
mod unanswered;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;

use futures::future::{Either, select};
use mill_model::{AccountId, DeleteListId, Monotonic, SpaceId, StoreAddress, StoreId, Timestamp};
use mill_ports::{CrashPoint, crash_point, error_chain};
use mill_records::delete_lists::DeleteListError;
use mill_records::producer_state::{
    DeleteProgress, Kept, MissingSpace, Morsel, ProducerState, StateError, SurveySubject,
};
use mill_records::sync_proofs::SpacePair;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::drain::Drain;
use crate::duplication::DuplicationProducer;
use crate::ends::SpaceError;
use crate::merge::MergeError;
use crate::report::{Ended, ProducerError, SessionReport, SpaceFailed, Trouble};
use crate::sending::Sending;
use crate::settings::{Deps, Settings};
use crate::stores::{ReadStores, Silence};
use crate::turn::Opened;

pub(crate) use self::failures::Failures;
use self::reading::Readings;
pub(crate) use self::reading::{Basis, Broke, Read, Reading};
pub(crate) use self::room::Room;
use self::rounds::Failing;
pub(crate) use self::runs::ActiveRun;
use self::shares::Shares;
use self::unanswered::LaterAccounts;
pub(crate) use self::unanswered::Unanswered;

/// A morsel's place in the rounds: its round first, then account by account, so that every account is served.
pub(crate) type Place = (u64, usize, SpacePair);

/// What one session has in hand.
pub(crate) struct Session<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) settings: &'a Settings,
    pub(crate) stores: &'a ReadStores,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) state: ProducerState,
    pub(crate) sending: Sending,
    pub(crate) report: SessionReport,
    /// The accounts that are listed.
    accounts: BTreeSet<AccountId>,
    /// The run of each account that is going on, or its last one.
    pub(crate) runs: BTreeMap<AccountId, ActiveRun>,
    pub(crate) opened: BTreeMap<SpacePair, Opened>,
    pub(crate) missing: BTreeMap<(AccountId, StoreId, SpaceId), Kept<MissingSpace>>,
    pub(crate) waiting: BTreeMap<Place, Kept<Morsel>>,
    /// The rows of delete lists that had a result when this session first looked.
    pub(crate) settled_rows: BTreeMap<DeleteListId, BTreeSet<u32>>,
    /// How many tasks the queue may hold. Held only between awaits.
    pub(crate) drain: Mutex<Drain>,
    /// When the turn going on began.
    pub(crate) turn_began: Timestamp,
    /// The round that is going on.
    round: u64,
    /// How many runs this session has begun.
    begun: u32,
    /// When it is next looked whether an account's run is due, if it is in this session.
    next_look: Option<Monotonic>,
    accounts_failed: BTreeSet<AccountId>,
    /// The morsels that failed in a way that may pass, and from when on they may have another turn.
    resting: BTreeMap<(Monotonic, Place), Kept<Morsel>>,
    failing: BTreeMap<SpacePair, Failing>,
    /// What was not surveyed since it last was, for who asks how it stands.
    pub(crate) failures: Failures,
    later_accounts: LaterAccounts,
    readings: Readings,
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

impl From<Broke> for StepError {
    fn from(error: Broke) -> Self {
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
        let mut loaded = state.load(claim).await?;
        let mut session = Self::new(producer, state, stop);
        let size = loaded.queue_size.take();
        let parts = session.take_in(loaded).await?;
        let due = session.due_at_first();
        if due.is_empty() && parts.is_empty() && !session.runs.is_empty() {
            return Ok(SessionReport::new(Ended::NotDue { next_run: session.next_run() }));
        }
        let size = session.size_queue(size).await?;
        session.prepare(parts, due).await?;
        session.report.ended = match session.rounds().await? {
            Some(ended) => ended,
            None => Ended::Finished { next_run: session.next_run() },
        };
        session.report_sums();
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
            stores: &producer.stores,
            stop,
            state,
            sending,
            report: SessionReport::new(Ended::Stopped),
            accounts: BTreeSet::new(),
            runs: BTreeMap::new(),
            opened: BTreeMap::new(),
            missing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled_rows: BTreeMap::new(),
            drain: Mutex::new(Drain::new(settings.queue_max, 0)),
            turn_began: now,
            round: 0,
            begun: 0,
            next_look: None,
            accounts_failed: BTreeSet::new(),
            resting: BTreeMap::new(),
            failing: BTreeMap::new(),
            failures: Failures::default(),
            later_accounts: LaterAccounts::new(),
            readings: Readings::default(),
            shares: Shares::default(),
        }
    }

    /// How many listings are kept open.
    pub(crate) fn listings_open(&self) -> usize {
        self.opened.len() + self.readings.morsels()
    }

    /// Names what an earlier session of this run held.
    async fn report_what_is_held(&mut self, morsels: &[Kept<Morsel>]) -> Result<(), ProducerError> {
        if !morsels.iter().any(|morsel| matches!(morsel.row.deletes, DeleteProgress::Held { .. })) {
            return Ok(());
        }
        for held in self.deps.delete_lists.held().await? {
            if morsels.iter().any(|morsel| morsel.row.pair == held.pair) {
                self.report_held(&held);
            }
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
        self.report.spaces_failed.push(SpaceFailed {
            account: pair.account.clone(),
            space: Some(pair.space.clone()),
            source: pair.source.clone(),
            destination: Some(pair.destination.clone()),
            trouble: error.trouble(),
            reason,
        });
    }

    /// Notes that the spaces of a store are not known.
    pub(crate) fn store_failed(&mut self, account: &AccountId, store: &StoreId, error: &mill_ports::StoreError) {
        self.run_failed(account);
        let reason = error_chain(error);
        warn!(%account, %store, reason, "the spaces of the store are not known");
        let address = StoreAddress { account: account.clone(), store: store.clone() };
        self.note_failure(SurveySubject::Store(address), &reason);
        let (account, source) = (account.clone(), store.clone());
        let (space, destination) = (None, None);
        let trouble = match error.kind.may_pass() {
            _ if Silence::is_why(error) => Trouble::Silent,
            true => Trouble::MayPass,
            false => Trouble::Stays,
        };
        let failed = SpaceFailed { account, space, source, destination, trouble, reason };
        self.report.spaces_failed.push(failed);
    }
}

pub(crate) fn missing_key(row: &MissingSpace) -> (AccountId, StoreId, SpaceId) {
    (row.account.clone(), row.store.clone(), row.space.clone())
}
