//! The rounds: which morsel has the next turn, what its current policy says, and what happens after a failure.

use std::time::Duration;

use mill_model::{Monotonic, SpacePair, StoreAddress, StoreId};
use mill_policy::{Coverage, StorePolicy};
use mill_ports::{CrashPoint, StoreWait, crash_point, error_chain};
use mill_records::Versioned;
use mill_records::policies::PolicyError;
use mill_records::producer_state::Morsel;
use tracing::{info, warn};

use super::shares::NextCandidate;
use super::{Gate, RoundPriority, Session, StepError};
use crate::duplication::endpoints::SpaceError;
use crate::duplication::morsel_step::MorselStepOutcome;
use crate::report::{ProducerError, SessionEnd};
use crate::settings::WhenFull;

/// Failures in a row of a space, or of an account's stores, that may pass.
pub(super) struct FailureStreak {
    /// When the first failure was.
    pub(super) since: Monotonic,
    pub(super) tries: u32,
}

impl FailureStreak {
    pub(super) fn since(since: Monotonic) -> Self {
        Self { since, tries: 0 }
    }
}

/// The next morsel of the rounds.
enum NextMorsel {
    Step(RoundPriority, Box<Versioned<Morsel>>),
    /// Each account that has work has its share of the queue.
    Full,
    /// No morsel is left, or the session must stop.
    None,
}

/// What the current policy says about a morsel.
pub(super) enum CurrentCoverage {
    Covered(StorePolicy),
    NotCovered,
    AccountFailed,
    Stopped(String),
}

impl Session<'_> {
    /// The least attempts while a failure may pass.
    const ATTEMPTS_MAX: u32 = 3;
    const PAUSE: Duration = Duration::from_secs(1);
    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// Gives morsels their turns. Returns `None` once all morsels are done or failed.
    pub(super) async fn rounds(&mut self) -> Result<Option<SessionEnd>, ProducerError> {
        loop {
            let ((round, rank, pair), mut morsel) = match self.next_morsel().await? {
                NextMorsel::Step(place, morsel) => (place, *morsel),
                NextMorsel::Full => return Ok(Some(SessionEnd::QueueFull)),
                NextMorsel::None => break,
            };
            self.round = round;
            match self.take_step(&mut morsel).await? {
                MorselStepOutcome::Again => {
                    self.waiting.insert((round + 1, rank, pair), morsel);
                }
                MorselStepOutcome::Later(at) => drop(self.paused_morsels.insert((at, (round, rank, pair)), morsel)),
                MorselStepOutcome::Done => {
                    self.state.remove(&morsel).await?;
                    crash_point(CrashPoint::ProducerMorselRemoved);
                    self.finish_morsel(&pair, false).await?;
                }
                MorselStepOutcome::PassedOver => self.finish_morsel(&pair, true).await?,
                MorselStepOutcome::Reading => self.background_reads.wait_for_read((round, rank, pair), morsel),
                // Others wait for reads, which would be lost if the session ended. They would find the queue full too.
                MorselStepOutcome::Full if !self.background_reads.is_idle() => {
                    self.waiting.insert((round, rank, pair), morsel);
                    if !self.pause(Self::PAUSE).await {
                        return Ok(Some(SessionEnd::Stopped));
                    }
                }
                MorselStepOutcome::Full => return Ok(Some(SessionEnd::QueueFull)),
                MorselStepOutcome::Stopped => return Ok(Some(SessionEnd::Stopped)),
            }
        }
        Ok(self.stop.is_cancelled().then_some(SessionEnd::Stopped))
    }

    /// Waits for the next morsel that may have a turn: the first one of an account that has less than its share of the queue.
    async fn next_morsel(&mut self) -> Result<NextMorsel, ProducerError> {
        let mut pause = Duration::ZERO;
        loop {
            self.begin_due().await?;
            let now = self.deps.clock.monotonic();
            while let Some(rested) = self.paused_morsels.first_entry().filter(|first| first.key().0 <= now) {
                let ((_, place), morsel) = rested.remove_entry();
                self.waiting.insert(place, morsel);
            }
            self.rediscover_due(now).await?;
            self.resume_read().await?;
            let full = match self.next_candidate().await? {
                NextCandidate::Morsel(place) => {
                    let Some(morsel) = self.waiting.remove(&place) else { continue };
                    return Ok(NextMorsel::Step(place, Box::new(morsel)));
                }
                NextCandidate::Full => true,
                NextCandidate::BeingRead => false,
            };
            let resting = self.paused_morsels.keys().next().map(|(until, _)| *until);
            let later = self.later_accounts.keys().next().map(|(until, _)| *until);
            let rested = match (full, resting.into_iter().chain(later).min()) {
                (false, None) if self.background_reads.is_idle() => return Ok(NextMorsel::None),
                (false, None) => Self::PAUSE_MAX,
                (false, Some(until)) => until.since(now),
                (true, _) => {
                    let depth = self.task_sender.depth().await?;
                    self.note_depth(depth, true);
                    let (poll, poll_most) = match self.settings.when_full {
                        WhenFull::Wait { poll, poll_most } => (poll, poll_most.max(poll)),
                        WhenFull::Leave if !self.background_reads.is_idle() => (Self::PAUSE, Self::PAUSE_MAX),
                        WhenFull::Leave => {
                            info!(depth, "each account has its share of the queue");
                            return Ok(NextMorsel::Full);
                        }
                    };
                    pause = (pause * 2).clamp(poll, poll_most);
                    pause
                }
            };
            let rested = self.next_due_check.map_or(rested, |look| rested.min(look.since(now)));
            if !self.pause(rested).await {
                return Ok(NextMorsel::None);
            }
        }
    }

    async fn take_step(&mut self, morsel: &mut Versioned<Morsel>) -> Result<MorselStepOutcome, ProducerError> {
        let pair = morsel.record.pair.clone();
        // A ready result is used at once. Otherwise it would be read again and again while the queue is full each time.
        if !self.background_reads.has_result(&pair) {
            match self.check_gate(&pair.account).await? {
                Gate::Open => {}
                other => return Ok(self.outcome_at_gate(other)),
            }
        }
        // The policy is read after the wait: it may have changed meanwhile.
        let policy = match self.current_coverage(&pair).await {
            CurrentCoverage::Covered(policy) => policy,
            CurrentCoverage::NotCovered => {
                info!(account = %pair.account, space = %pair.space, source = %pair.source,
                    destination = %pair.destination, "no policy asks for this any more; dropped from the run");
                return Ok(MorselStepOutcome::Done);
            }
            CurrentCoverage::AccountFailed => return Ok(MorselStepOutcome::PassedOver),
            CurrentCoverage::Stopped(reason) => {
                self.space_failed(&pair, &SpaceError::Stopped { reason });
                return Ok(MorselStepOutcome::PassedOver);
            }
        };
        match self.step_morsel(morsel, policy).await {
            Ok(turn) => {
                // A turn that ended early proves nothing: its read may fail again.
                let read = matches!(turn, MorselStepOutcome::Again | MorselStepOutcome::Done);
                if read && self.failure_streaks.remove(&pair).is_some() {
                    let used = [&pair.source, &pair.destination].map(|store| address(&pair, store));
                    self.deps.statistics.clear_store_waits(&used);
                }
                Ok(turn)
            }
            Err(StepError::Session(error)) => Err(error),
            Err(StepError::Space(error)) => {
                self.background_reads.forget(|read| read.belongs_to(&pair));
                if error.is_tried_again()
                    && let Some(at) = self.schedule_retry(&pair, &error)
                {
                    return Ok(MorselStepOutcome::Later(at));
                }
                self.space_failed(&pair, &error);
                Ok(MorselStepOutcome::PassedOver)
            }
        }
    }

    pub(super) async fn current_coverage(&mut self, pair: &SpacePair) -> CurrentCoverage {
        if self.accounts_failed.contains(&pair.account) {
            return CurrentCoverage::AccountFailed;
        }
        match self.deps.policies.account(&pair.account).await {
            Ok(policy) => match policy.coverage(&pair.space, &pair.source, &pair.destination) {
                Coverage::Covered(policy) => CurrentCoverage::Covered(policy),
                Coverage::NotCovered => CurrentCoverage::NotCovered,
                Coverage::Stopped => CurrentCoverage::Stopped(policy.for_space(&pair.space).rule.to_string()),
            },
            Err(PolicyError::NotListed { .. }) => CurrentCoverage::NotCovered,
            Err(error) => {
                self.account_failed(&pair.account, &error);
                CurrentCoverage::AccountFailed
            }
        }
    }

    /// When a failed space gets another turn in this session; `None` if it gets none.
    fn schedule_retry(&mut self, pair: &SpacePair, error: &SpaceError) -> Option<Monotonic> {
        let now = self.deps.clock.monotonic();
        let mut streak = self.failure_streaks.remove(pair).unwrap_or_else(|| FailureStreak::since(now));
        let pause = self.next_retry_pause(&mut streak, now)?;
        self.failure_streaks.insert(pair.clone(), streak);
        if let Some(error) = error.of_store() {
            self.deps
                .statistics
                .note_store_wait(&error.store, StoreWait { reason: error_chain(error), may_pass: true });
        }
        warn!(account = %pair.account, space = %pair.space, error = error_chain(error), "the space is tried again");
        Some(now.plus(pause))
    }

    /// The pause before the next attempt; `None` after enough attempts over a long enough time.
    pub(super) fn next_retry_pause(&self, streak: &mut FailureStreak, now: Monotonic) -> Option<Duration> {
        streak.tries += 1;
        if streak.tries >= Self::ATTEMPTS_MAX && now.since(streak.since) >= self.settings.give_up_after {
            return None;
        }
        Some(Self::PAUSE.saturating_mul(1 << (streak.tries - 1).min(16)).min(Self::PAUSE_MAX))
    }
}

fn address(pair: &SpacePair, store: &StoreId) -> StoreAddress {
    StoreAddress { account: pair.account.clone(), store: store.clone() }
}
