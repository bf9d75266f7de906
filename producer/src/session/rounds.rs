//! The rounds: whose turn is next, what today's policy says of it, and what becomes of one that failed.

use std::time::Duration;

use mill_model::{Monotonic, StoreAddress, StoreId};
use mill_policy::{Coverage, StorePolicy};
use mill_ports::{CrashPoint, StoreWait, crash_point, error_chain};
use mill_records::policies::PolicyError;
use mill_records::producer_state::{Kept, Morsel};
use mill_records::sync_proofs::SpacePair;
use tracing::{info, warn};

use super::shares::First;
use super::{Place, Room, Session, StepError};
use crate::ends::SpaceError;
use crate::report::{Ended, ProducerError};
use crate::settings::WhenFull;
use crate::turn::Turn;

/// A space, or an account's stores, that failed in a way that may pass.
pub(super) struct Failing {
    /// When they first did, of those in a row.
    pub(super) since: Monotonic,
    pub(super) tries: u32,
}

impl Failing {
    pub(super) fn since(since: Monotonic) -> Self {
        Self { since, tries: 0 }
    }
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
pub(super) enum Today {
    Covered(StorePolicy),
    NotCovered,
    AccountFailed,
    Stopped(String),
}

impl Session<'_> {
    /// What fails in a way that may pass is tried so often at least.
    const TRIES_MAX: u32 = 3;
    const PAUSE: Duration = Duration::from_secs(1);
    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// Turn after turn. `None` when no morsel is left but those that failed.
    pub(super) async fn rounds(&mut self) -> Result<Option<Ended>, ProducerError> {
        loop {
            let ((round, rank, pair), mut morsel) = match self.next_morsel().await? {
                Next::Turn(place, morsel) => (place, *morsel),
                Next::Full => return Ok(Some(Ended::QueueFull)),
                Next::None => break,
            };
            self.round = round;
            match self.whole_turn(&mut morsel).await? {
                Turn::Again => {
                    self.waiting.insert((round + 1, rank, pair), morsel);
                }
                Turn::Later(at) => drop(self.resting.insert((at, (round, rank, pair)), morsel)),
                Turn::Done => {
                    self.state.remove(&morsel).await?;
                    crash_point(CrashPoint::ProducerMorselRemoved);
                    self.morsel_over(&pair, false).await?;
                }
                Turn::PassedOver => self.morsel_over(&pair, true).await?,
                Turn::Reading => self.readings.leave((round, rank, pair), morsel),
                // What is being read for others would have to be read again. All others would find the queue full too.
                Turn::Full if !self.readings.is_idle() => {
                    self.waiting.insert((round, rank, pair), morsel);
                    if !self.rest(Self::PAUSE).await {
                        return Ok(Some(Ended::Stopped));
                    }
                }
                Turn::Full => return Ok(Some(Ended::QueueFull)),
                Turn::Stopped => return Ok(Some(Ended::Stopped)),
            }
        }
        Ok(self.stop.is_cancelled().then_some(Ended::Stopped))
    }

    /// The morsel whose turn comes next, once there is one: the first of an account that has not had its share of the queue.
    async fn next_morsel(&mut self) -> Result<Next, ProducerError> {
        let mut pause = Duration::ZERO;
        loop {
            self.begin_due().await?;
            let now = self.deps.clock.monotonic();
            while let Some(rested) = self.resting.first_entry().filter(|first| first.key().0 <= now) {
                let ((_, place), morsel) = rested.remove_entry();
                self.waiting.insert(place, morsel);
            }
            self.look_again(now).await?;
            self.take_up_read().await?;
            let full = match self.first_with_a_share().await? {
                First::Place(place) => {
                    let Some(morsel) = self.waiting.remove(&place) else { continue };
                    return Ok(Next::Turn(place, Box::new(morsel)));
                }
                First::Full => true,
                First::BeingRead => false,
            };
            let resting = self.resting.keys().next().map(|(until, _)| *until);
            let later = self.later_accounts.keys().next().map(|(until, _)| *until);
            let rested = match (full, resting.into_iter().chain(later).min()) {
                (false, None) if self.readings.is_idle() => return Ok(Next::None),
                (false, None) => Self::PAUSE_MAX,
                (false, Some(until)) => until.since(now),
                (true, _) => {
                    let depth = self.sending.depth().await?;
                    self.note_depth(depth, true);
                    let (poll, poll_most) = match self.settings.when_full {
                        WhenFull::Wait { poll, poll_most } => (poll, poll_most.max(poll)),
                        WhenFull::Leave if !self.readings.is_idle() => (Self::PAUSE, Self::PAUSE_MAX),
                        WhenFull::Leave => {
                            info!(depth, "each account has its share of the queue");
                            return Ok(Next::Full);
                        }
                    };
                    pause = (pause * 2).clamp(poll, poll_most);
                    pause
                }
            };
            let rested = self.next_look.map_or(rested, |look| rested.min(look.since(now)));
            if !self.rest(rested).await {
                return Ok(Next::None);
            }
        }
    }

    async fn whole_turn(&mut self, morsel: &mut Kept<Morsel>) -> Result<Turn, ProducerError> {
        let pair = morsel.row.pair.clone();
        // What was read for it is taken up at once, lest it be read again and again where the queue is full each time.
        if !self.readings.holds(&pair) {
            match self.room(&pair.account).await? {
                Room::Yes => {}
                other => return Ok(self.without_room(other)),
            }
        }
        // After the waiting: what is asked for may have changed meanwhile.
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
                // One that was broken off proves nothing: what it reads may fail once more.
                let read = matches!(turn, Turn::Again | Turn::Done);
                if read && self.failing.remove(&pair).is_some() {
                    let used = [&pair.source, &pair.destination].map(|store| address(&pair, store));
                    self.deps.statistics.used_stores(&used);
                }
                Ok(turn)
            }
            Err(StepError::Session(error)) => Err(error),
            Err(StepError::Space(error)) => {
                self.readings.forget(|read| read.is_of(&pair));
                if error.is_tried_again()
                    && let Some(at) = self.try_later(&pair, &error)
                {
                    return Ok(Turn::Later(at));
                }
                self.space_failed(&pair, &error);
                Ok(Turn::PassedOver)
            }
        }
    }

    pub(super) async fn today(&mut self, pair: &SpacePair) -> Today {
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
    fn try_later(&mut self, pair: &SpacePair, error: &SpaceError) -> Option<Monotonic> {
        let now = self.deps.clock.monotonic();
        let mut failing = self.failing.remove(pair).unwrap_or_else(|| Failing::since(now));
        let pause = self.patience(&mut failing, now)?;
        self.failing.insert(pair.clone(), failing);
        if let Some(error) = error.of_store() {
            self.deps
                .statistics
                .note_store_wait(&error.store, StoreWait { reason: error_chain(error), may_pass: true });
        }
        warn!(account = %pair.account, space = %pair.space, error = error_chain(error), "the space is tried again");
        Some(now.plus(pause))
    }

    /// How long what failed is left alone before it is tried again; `None` when it was tried for long enough.
    pub(super) fn patience(&self, failing: &mut Failing, now: Monotonic) -> Option<Duration> {
        failing.tries += 1;
        if failing.tries >= Self::TRIES_MAX && now.since(failing.since) >= self.settings.give_up_after {
            return None;
        }
        Some(Self::PAUSE.saturating_mul(1 << (failing.tries - 1).min(16)).min(Self::PAUSE_MAX))
    }
}

fn address(pair: &SpacePair, store: &StoreId) -> StoreAddress {
    StoreAddress { account: pair.account.clone(), store: store.clone() }
}
