//! What a turn reads of stores. It may take long: a listing that nobody answers, a survey of a hundred million items. So it
//! goes on beside the session, and where it is not done soon the turn is broken off and others have theirs meanwhile. Once
//! it is done the turn begins anew, and finds what was read.
//!
//! Only for what changes nothing, and needs nothing of the session.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};
use mill_model::{AccountId, ContentId, StoreId, Timestamp};
use mill_policy::{AccountPolicy, StorePolicy};
use mill_records::producer_state::{Kept, Morsel};
use mill_records::sync_proofs::SpacePair;
use tokio::task::{AbortHandle, JoinSet};
use tracing::info;

use super::{Place, Session, Unanswered};
use crate::report::ProducerError;

/// So many morsels between the same two stores may be read at once, while less than half of all that may be are.
const BETWEEN_TWO_MAX: usize = 4;

/// A turn waits for so long.
const WAITS: Duration = Duration::from_secs(1);

/// What is read, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Read {
    /// Which spaces a store of an account has.
    Spaces(AccountId, StoreId),
    /// Whether a pair's spaces are there.
    Ends(SpacePair),
    /// What vanished.
    Survey(SpacePair),
    /// What a space had that is gone.
    RetiringSurvey(SpacePair),
    /// The next items.
    Nibble(SpacePair),
}

impl Read {
    pub(super) fn is_of(&self, of: &SpacePair) -> bool {
        self.pair() == Some(of)
    }

    fn pair(&self) -> Option<&SpacePair> {
        match self {
            Self::Spaces(..) => None,
            Self::Ends(pair) | Self::Survey(pair) | Self::RetiringSurvey(pair) | Self::Nibble(pair) => Some(pair),
        }
    }

    pub(super) fn account(&self) -> &AccountId {
        match self {
            Self::Spaces(account, _) => account,
            Self::Ends(pair) | Self::Survey(pair) | Self::RetiringSurvey(pair) | Self::Nibble(pair) => &pair.account,
        }
    }
}

/// What was known when a reading began. What it gives is of use only where the same is known still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Basis {
    Account(Arc<AccountPolicy>),
    SpacePair {
        policy: StorePolicy,
        /// Which spaces are there, and whether the destination is this source's.
        found: Option<[bool; 3]>,
        marker: Option<ContentId>,
    },
}

/// What came of reading.
pub(crate) enum Reading<T> {
    Done(T),
    /// It goes on; the turn is broken off.
    GoesOn,
    /// The session is told to stop.
    Stopped,
}

/// A driver of a store panicked. That is an error of what it read, and of nothing else.
#[derive(Debug, thiserror::Error)]
#[error("Mill itself failed while it read the stores; please report this with the log")]
pub(crate) struct Broke;

type Answer = Box<dyn Any + Send>;

/// One reading, going on or done.
struct Asked {
    nth: u64,
    run: u64,
    basis: Basis,
    began: Timestamp,
    /// `Err` where it panicked.
    answer: Option<Result<Answer, Broke>>,
    /// Whether the log says that it takes long.
    is_told: bool,
    task: AbortHandle,
}

impl Drop for Asked {
    /// What is forgotten is read no further.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All that is being read, and what was read and is waited for by a turn.
///
/// A few morsels between two stores at a time, and so many in all as may have open listings: each holds a nibble and a page of
/// either listing at most. So memory stays flat, an account of ten thousand spaces whose store hangs costs the others a few
/// waits, and a space or a destination that hangs keeps the account's other ones no longer waiting.
#[derive(Default)]
pub(super) struct Readings {
    going_on: JoinSet<(Read, u64, Result<Answer, Broke>)>,
    asked: BTreeMap<Read, Asked>,
    nth: u64,
    /// The morsels whose turns were broken off.
    morsels: BTreeMap<SpacePair, (Place, Kept<Morsel>)>,
    /// The accounts that are being looked through.
    accounts: BTreeMap<AccountId, Unanswered>,
}

impl Readings {
    /// Whether nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.morsels.is_empty() && self.accounts.is_empty()
    }

    /// How many morsels wait for what is read of them.
    pub(super) fn morsels(&self) -> usize {
        self.morsels.len()
    }

    /// Whether a morsel may have a turn, where so many may wait at once.
    pub(super) fn may_turn(&self, pair: &SpacePair, most: usize) -> bool {
        let stores = |pair: &SpacePair| (pair.account.clone(), pair.source.clone(), pair.destination.clone());
        let same = self.morsels.keys().filter(|other| stores(other) == stores(pair)).count();
        let same_most = if self.morsels.len() < most / 2 { BETWEEN_TWO_MAX } else { 1 };
        let busy = self.morsels.len() >= most.max(1) || same >= same_most;
        !busy || self.holds(pair)
    }

    /// Whether something was read for a morsel's turn that was broken off. It had room when it began.
    pub(super) fn holds(&self, pair: &SpacePair) -> bool {
        self.asked.iter().any(|(read, asked)| asked.answer.is_some() && read.is_of(pair))
    }

    fn is_done(&self, read: &Read) -> bool {
        self.asked.get(read).is_some_and(|asked| asked.answer.is_some())
    }

    /// Leaves a morsel until what is read of it is done.
    pub(super) fn leave(&mut self, place: Place, morsel: Kept<Morsel>) {
        self.morsels.insert(place.2.clone(), (place, morsel));
    }

    /// Takes in all that is done by now, and gives the accounts of which something was read, and the morsels of which nothing
    /// is being read any more.
    fn take_up(&mut self) -> (Vec<Unanswered>, Vec<(Place, Kept<Morsel>)>) {
        while let Some(joined) = self.going_on.try_join_next() {
            // Else it was forgotten, and ended for that.
            if let Ok(answer) = joined {
                self.take_in(answer);
            }
        }
        let goes_on =
            |pair: &SpacePair| self.asked.iter().any(|(read, asked)| read.is_of(pair) && asked.answer.is_none());
        // Of an account's stores one tells enough to go on with.
        let tells = |account: &AccountId| {
            let of = |read: &Read| matches!(read, Read::Spaces(of, _) if of == account);
            let mut asked = self.asked.iter().filter(|(read, _)| of(read)).map(|(_, asked)| asked).peekable();
            asked.peek().is_none() || asked.any(|asked| asked.answer.is_some())
        };
        let accounts: Vec<AccountId> = self.accounts.keys().filter(|account| tells(account)).cloned().collect();
        let morsels: Vec<SpacePair> = self.morsels.keys().filter(|pair| !goes_on(pair)).cloned().collect();
        (
            accounts.iter().filter_map(|account| self.accounts.remove(account)).collect(),
            morsels.iter().filter_map(|pair| self.morsels.remove(pair)).collect(),
        )
    }

    /// Forgets what was read, or is being read, for whom `of` tells.
    pub(super) fn forget(&mut self, of: impl Fn(&Read) -> bool) {
        self.asked.retain(|read, _| !of(read));
    }

    /// Forgets all that is of an account.
    pub(super) fn forget_account(&mut self, account: &AccountId) {
        self.forget(|read| read.account() == account);
        self.morsels.retain(|pair, _| pair.account != *account);
        self.accounts.remove(account);
    }

    /// The next that is done. Never returns where nothing is being read.
    async fn next(&mut self) {
        match self.going_on.join_next().await {
            Some(Ok(answer)) => self.take_in(answer),
            // It was forgotten, and ended for that. None panics.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// Says, once, whose answer is waited for.
    fn tell(&mut self, read: &Read) {
        let Some(asked) = self.asked.get_mut(read).filter(|asked| !asked.is_told) else { return };
        asked.is_told = true;
        let account = read.account();
        if let Some(SpacePair { space, source, destination, .. }) = read.pair() {
            info!(%account, %space, %source, %destination, "reading the stores takes long; others go on meanwhile");
        } else if let Read::Spaces(_, store) = read {
            info!(%account, %store, "the store takes long to tell its spaces; others go on meanwhile");
        }
    }

    fn take_in(&mut self, (read, nth, answer): (Read, u64, Result<Answer, Broke>)) {
        // Else it was forgotten.
        if let Some(asked) = self.asked.get_mut(&read).filter(|asked| asked.nth == nth) {
            asked.answer = Some(answer);
        }
    }
}

impl Session<'_> {
    /// Looks an account through again once one of its stores has told its spaces.
    pub(crate) fn looked_through_later(&mut self, known: Unanswered) {
        let account = known.row.row.account.clone();
        if self.runs.contains_key(&account) {
            self.readings.accounts.insert(account, known);
        }
    }

    /// Takes up the turns for which all is read by now.
    pub(super) async fn take_up_read(&mut self) -> Result<(), ProducerError> {
        let (accounts, morsels) = self.readings.take_up();
        self.waiting.extend(morsels);
        for known in accounts {
            let account = known.row.row.account.clone();
            self.look_through(known).await?;
            self.finish_if_done(&account).await?;
        }
        Ok(())
    }

    /// Waits for so long, or until something is read. `false` when the session is told to stop.
    pub(super) async fn rest(&mut self, time: Duration) -> bool {
        let (clock, stop) = (&self.deps.clock, self.stop);
        let (mut stopped, mut rested) = (pin!(stop.cancelled()), pin!(clock.sleep(time)));
        let resting = select(stopped.as_mut(), rested.as_mut());
        !matches!(select(resting, pin!(self.readings.next())).await, Either::Left((Either::Left(_), _)))
    }

    /// What `reading` gives, if it is done soon, or was done meanwhile on the same basis and in the same run.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        read: Read,
        basis: Basis,
        reading: impl Future<Output = T> + Send + 'static,
    ) -> Result<Reading<T>, Broke> {
        let run = self.run_number(read.account());
        let is_asked = |asked: &Asked| (asked.run, &asked.basis) == (run, &basis);
        if !self.readings.asked.get(&read).is_some_and(is_asked) {
            self.readings.nth += 1;
            let (of, nth, began) = (read.clone(), self.readings.nth, self.deps.clock.now());
            let reading = AssertUnwindSafe(reading).catch_unwind();
            let task = self.readings.going_on.spawn(async move {
                let answer = reading.await.map(|answer| Box::new(answer) as Answer).map_err(|_| Broke);
                (of, nth, answer)
            });
            let asked = Asked { nth, run, basis, began, answer: None, is_told: false, task };
            self.readings.asked.insert(read.clone(), asked);
        }
        let (clock, stop) = (&self.deps.clock, self.stop);
        let (mut stopped, mut waited) = (pin!(stop.cancelled()), pin!(clock.sleep(WAITS)));
        let mut patience = select(stopped.as_mut(), waited.as_mut());
        while !self.readings.is_done(&read) {
            let over = match select(&mut patience, pin!(self.readings.next())).await {
                Either::Left((Either::Left(_), _)) => return Ok(Reading::Stopped),
                Either::Left((Either::Right(_), _)) => true,
                Either::Right(_) => false,
            };
            if over {
                self.readings.tell(&read);
                return Ok(Reading::GoesOn);
            }
        }
        let Some(mut asked) = self.readings.asked.remove(&read) else { return Ok(Reading::GoesOn) };
        let Some(answer) = asked.answer.take() else { return Ok(Reading::GoesOn) };
        // What is found is of when its reading began.
        self.turn_began = self.turn_began.min(asked.began);
        answer?.downcast().map_or(Err(Broke), |answer| Ok(Reading::Done(*answer)))
    }
}
