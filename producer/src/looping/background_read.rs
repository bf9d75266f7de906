//! Reads of stores in the background. A read may take long: a store that does not answer, or a scan of a hundred million
//! items. So it runs beside the session. If it is not done soon, the turn ends and other morsels have theirs. Once it is done,
//! the turn starts again and finds the result.
//!
//! Only for futures without side effects that borrow nothing of the session.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};
use mill_model::{AccountId, StoreId, Timestamp};
use mill_policy::AccountPolicy;
use mill_records::Versioned;
use mill_records::producer_state::MorselSubject;
use tokio::task::{AbortHandle, JoinSet};
use tracing::info;

use super::plan::{MorselOf, MorselSubjectOf, Plan};
use super::report::ProducerError;
use super::{AccountDiscovery, RoundPriority, Session};

/// How many morsels of the same two stores may be read at once, while fewer than half of the allowed reads run.
const BETWEEN_TWO_MAX: usize = 4;

/// How long a turn waits for a read.
const WAITS: Duration = Duration::from_secs(1);

/// Identifies a read: what is read, and for which account or morsel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReadKey<S, R> {
    /// Which spaces a store of an account has.
    Spaces(AccountId, StoreId),
    /// One of the reads of a morsel.
    Morsel(S, R),
}

impl<S: MorselSubject, R> ReadKey<S, R> {
    pub(super) fn belongs_to(&self, of: &S) -> bool {
        self.subject() == Some(of)
    }

    fn subject(&self) -> Option<&S> {
        match self {
            Self::Spaces(..) => None,
            Self::Morsel(subject, _) => Some(subject),
        }
    }

    pub(super) fn account(&self) -> &AccountId {
        match self {
            Self::Spaces(account, _) => account,
            Self::Morsel(subject, _) => subject.account(),
        }
    }
}

/// The key of a plan's read.
type ReadKeyOf<P> = ReadKey<MorselSubjectOf<P>, <P as Plan>::Read>;

/// The state that a read depends on. Its result may be used only while that state is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadBasis<B> {
    Account(Arc<AccountPolicy>),
    Morsel(B),
}

/// The outcome of waiting for a read.
pub(crate) enum ReadOutcome<T> {
    Done(T),
    /// The read goes on; the turn ends.
    GoesOn,
    /// The session must stop.
    Stopped,
}

/// A store driver panicked. Only the read fails, not the session.
#[derive(Debug, thiserror::Error)]
#[error("Mill itself failed while it read the stores; please report this with the log")]
pub(crate) struct ReaderPanicked;

type ReadValue = Box<dyn Any + Send>;

/// A read that is running or done.
struct PendingRead<B> {
    nth: u64,
    run: u64,
    basis: ReadBasis<B>,
    began: Timestamp,
    /// The result, once there is one; `Err` if the driver panicked.
    answer: Option<Result<ReadValue, ReaderPanicked>>,
    /// Whether the log says that the read takes long.
    is_logged: bool,
    task: AbortHandle,
}

impl<B> Drop for PendingRead<B> {
    /// A forgotten read is aborted.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All running reads, and the results that turns wait for.
///
/// At a time it reads a few morsels of the same two stores, and in all as many as may have open listings; each holds at most
/// one nibble and a page of either listing. So memory stays flat. An account of ten thousand spaces whose store hangs costs
/// other accounts a few waits, and a space or a destination that hangs does not block the account's other ones.
pub(super) struct BackgroundReads<P: Plan> {
    going_on: JoinSet<FinishedRead<P>>,
    asked: BTreeMap<ReadKeyOf<P>, PendingRead<P::Basis>>,
    nth: u64,
    /// The morsels whose turn ended while their read goes on.
    morsels: BTreeMap<MorselSubjectOf<P>, PlacedMorsel<P>>,
    /// The accounts whose stores are being listed.
    accounts: BTreeMap<AccountId, AccountDiscovery<MorselSubjectOf<P>>>,
}

/// A read that is done, the number under which it was begun, and its result.
type FinishedRead<P> = (ReadKeyOf<P>, u64, Result<ReadValue, ReaderPanicked>);

/// A morsel with its place in the rounds.
type PlacedMorsel<P> = (RoundPriority<MorselSubjectOf<P>>, Versioned<MorselOf<P>>);

impl<P: Plan> BackgroundReads<P> {
    pub(super) fn new() -> Self {
        let (asked, morsels, accounts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { going_on: JoinSet::new(), asked, nth: 0, morsels, accounts }
    }

    /// Whether no morsel and no account waits for a read.
    pub(super) fn is_idle(&self) -> bool {
        self.morsels.is_empty() && self.accounts.is_empty()
    }

    /// How many morsels wait for a read.
    pub(super) fn morsels(&self) -> usize {
        self.morsels.len()
    }

    /// Whether a morsel may have a turn, if at most `most` morsels may wait at once.
    pub(super) fn may_step(&self, subject: &MorselSubjectOf<P>, most: usize) -> bool {
        let is_same =
            |other: &&MorselSubjectOf<P>| other.account() == subject.account() && other.stores().eq(subject.stores());
        let same = self.morsels.keys().filter(is_same).count();
        let same_most = if self.morsels.len() < most / 2 { BETWEEN_TWO_MAX } else { 1 };
        let busy = self.morsels.len() >= most.max(1) || same >= same_most;
        !busy || self.has_result(subject)
    }

    /// Whether a result for this morsel is ready. The gate was open when its read began.
    pub(super) fn has_result(&self, subject: &MorselSubjectOf<P>) -> bool {
        self.asked.iter().any(|(read, asked)| asked.answer.is_some() && read.belongs_to(subject))
    }

    fn is_done(&self, read: &ReadKeyOf<P>) -> bool {
        self.asked.get(read).is_some_and(|asked| asked.answer.is_some())
    }

    /// Lets a morsel wait until its read is done.
    pub(super) fn wait_for_read(&mut self, place: RoundPriority<MorselSubjectOf<P>>, morsel: Versioned<MorselOf<P>>) {
        self.morsels.insert(place.2.clone(), (place, morsel));
    }

    /// Collects the finished reads. Returns the accounts with a result, and the morsels whose reads are all done.
    fn collect_done(&mut self) -> (Vec<AccountDiscovery<MorselSubjectOf<P>>>, Vec<PlacedMorsel<P>>) {
        while let Some(joined) = self.going_on.try_join_next() {
            // An error means that the read was forgotten and aborted.
            if let Ok(answer) = joined {
                self.store_value(answer);
            }
        }
        let goes_on = |subject: &MorselSubjectOf<P>| {
            self.asked.iter().any(|(read, asked)| read.belongs_to(subject) && asked.answer.is_none())
        };
        // One answer of an account's stores is enough to go on with.
        let tells = |account: &AccountId| {
            let of = |read: &ReadKeyOf<P>| matches!(read, ReadKey::Spaces(of, _) if of == account);
            let mut asked = self.asked.iter().filter(|(read, _)| of(read)).map(|(_, asked)| asked).peekable();
            asked.peek().is_none() || asked.any(|asked| asked.answer.is_some())
        };
        let accounts: Vec<AccountId> = self.accounts.keys().filter(|account| tells(account)).cloned().collect();
        let morsels: Vec<MorselSubjectOf<P>> =
            self.morsels.keys().filter(|subject| !goes_on(subject)).cloned().collect();
        (
            accounts.iter().filter_map(|account| self.accounts.remove(account)).collect(),
            morsels.iter().filter_map(|subject| self.morsels.remove(subject)).collect(),
        )
    }

    /// Forgets the reads that `of` selects, running or done.
    pub(super) fn forget(&mut self, of: impl Fn(&ReadKeyOf<P>) -> bool) {
        self.asked.retain(|read, _| !of(read));
    }

    /// Forgets the reads of an account.
    pub(super) fn forget_account(&mut self, account: &AccountId) {
        self.forget(|read| read.account() == account);
        self.morsels.retain(|subject, _| subject.account() != account);
        self.accounts.remove(account);
    }

    /// Waits until a read is done. Never returns if none is running.
    async fn wait_for_next(&mut self) {
        match self.going_on.join_next().await {
            Some(Ok(answer)) => self.store_value(answer),
            // It was forgotten and aborted. A panic is caught within the read.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// Logs, once per read, that it takes long.
    fn log_slow(&mut self, read: &ReadKeyOf<P>) {
        let Some(asked) = self.asked.get_mut(read).filter(|asked| !asked.is_logged) else { return };
        asked.is_logged = true;
        let account = read.account();
        if let Some(subject) = read.subject() {
            let destination = subject.destination().map(tracing::field::display);
            info!(%account, space = %subject.space(), source = %subject.store(), destination,
                "reading the stores takes long; others go on meanwhile");
        } else if let ReadKey::Spaces(_, store) = read {
            info!(%account, %store, "the store takes long to tell its spaces; others go on meanwhile");
        }
    }

    fn store_value(&mut self, (read, nth, answer): FinishedRead<P>) {
        // A read that was forgotten has no entry.
        if let Some(asked) = self.asked.get_mut(&read).filter(|asked| asked.nth == nth) {
            asked.answer = Some(answer);
        }
    }
}

impl<P: Plan> Session<'_, P> {
    /// Discovers an account again once one of its stores has listed its spaces.
    pub(super) fn rediscover_once_read(&mut self, known: AccountDiscovery<MorselSubjectOf<P>>) {
        let account = known.row.record.account.clone();
        if self.runs.contains_key(&account) {
            self.background_reads.accounts.insert(account, known);
        }
    }

    /// Resumes the morsels and accounts whose reads are done.
    pub(super) async fn resume_read(&mut self) -> Result<(), ProducerError> {
        let (accounts, morsels) = self.background_reads.collect_done();
        self.waiting.extend(morsels);
        for known in accounts {
            let account = known.row.record.account.clone();
            self.discover_account(known).await?;
            self.finish_if_done(&account).await?;
        }
        Ok(())
    }

    /// Waits for `time` or until a read is done. Returns `false` if the session must stop.
    pub(super) async fn pause(&mut self, time: Duration) -> bool {
        let (clock, stop) = (&self.deps.clock, self.stop);
        let (mut stopped, mut rested) = (pin!(stop.cancelled()), pin!(clock.sleep(time)));
        let resting = select(stopped.as_mut(), rested.as_mut());
        !matches!(
            select(resting, pin!(self.background_reads.wait_for_next())).await,
            Either::Left((Either::Left(_), _))
        )
    }

    /// Returns the result of `reading` if it is done soon, or if an earlier read with the same key, basis and run is done.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        read: ReadKeyOf<P>,
        basis: ReadBasis<P::Basis>,
        reading: impl Future<Output = T> + Send + 'static,
    ) -> Result<ReadOutcome<T>, ReaderPanicked> {
        let run = self.run_number(read.account());
        let is_asked = |asked: &PendingRead<P::Basis>| (asked.run, &asked.basis) == (run, &basis);
        if !self.background_reads.asked.get(&read).is_some_and(is_asked) {
            self.background_reads.nth += 1;
            let (of, nth, began) = (read.clone(), self.background_reads.nth, self.deps.clock.now());
            let reading = AssertUnwindSafe(reading).catch_unwind();
            let task = self.background_reads.going_on.spawn(async move {
                let answer = reading.await.map(|answer| Box::new(answer) as ReadValue).map_err(|_| ReaderPanicked);
                (of, nth, answer)
            });
            let asked = PendingRead { nth, run, basis, began, answer: None, is_logged: false, task };
            self.background_reads.asked.insert(read.clone(), asked);
        }
        let (clock, stop) = (&self.deps.clock, self.stop);
        let (mut stopped, mut waited) = (pin!(stop.cancelled()), pin!(clock.sleep(WAITS)));
        let mut patience = select(stopped.as_mut(), waited.as_mut());
        while !self.background_reads.is_done(&read) {
            let over = match select(&mut patience, pin!(self.background_reads.wait_for_next())).await {
                Either::Left((Either::Left(_), _)) => return Ok(ReadOutcome::Stopped),
                Either::Left((Either::Right(_), _)) => true,
                Either::Right(_) => false,
            };
            if over {
                self.background_reads.log_slow(&read);
                return Ok(ReadOutcome::GoesOn);
            }
        }
        let Some(mut asked) = self.background_reads.asked.remove(&read) else { return Ok(ReadOutcome::GoesOn) };
        let Some(answer) = asked.answer.take() else { return Ok(ReadOutcome::GoesOn) };
        // The result dates from when its read began.
        self.step_began = self.step_began.min(asked.began);
        answer?.downcast().map_or(Err(ReaderPanicked), |answer| Ok(ReadOutcome::Done(*answer)))
    }
}
