//! The rounds: which morsel has the next turn, what its current policy says, and what happens after a failure.

use std::time::Duration;

use mill_hooks::crash_point;
use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Backoff, StoreWait, error_chain};
use mill_records::Versioned;
use mill_records::policies::PolicyError;
use mill_records::producer_state::{MorselRow as _, MorselSubject as _};
use tracing::{info, warn};

use super::plan::{MorselCoverage, MorselError as _, MorselOf, MorselSubjectOf, Plan};
use super::report::{ProducerError, SessionEnd};
use super::settings::WhenFull;
use super::shares::NextCandidate;
use super::{Gate, RoundPriority, Session, StepError};
use crate::crash_points;

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

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnOutcome {
    /// More is left for its next turn.
    Again,
    /// Nothing is left in this run.
    Done,
    /// The next turn is at this time: the failure may pass.
    Later(Monotonic),
    /// It failed. The next session tries it again.
    PassedOver,
    /// A read of the stores takes long. The turn starts again once it is done.
    Reading,
    /// The queue is full.
    Full,
    /// The session must stop.
    Stopped,
}

/// The next morsel of the rounds.
enum NextMorsel<P: Plan> {
    Step(RoundPriority<MorselSubjectOf<P>>, Box<Versioned<MorselOf<P>>>),
    /// Each account that has work has its share of the queue.
    Full,
    /// No morsel is left, or the session must stop.
    None,
}

/// What is known of the current policy of a morsel.
pub(super) enum CurrentCoverage<P: Plan> {
    Known(MorselCoverage<P>),
    AccountFailed,
}

impl<P: Plan> Session<'_, P> {
    /// The least attempts while a failure may pass.
    const ATTEMPTS_MAX: u32 = 3;
    const PAUSE: Duration = Duration::from_secs(1);
    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// Gives morsels their turns. Returns `None` once all morsels are done or failed.
    pub(super) async fn rounds(&mut self) -> Result<Option<SessionEnd>, ProducerError> {
        loop {
            let ((round, rank, subject), mut morsel) = match self.next_morsel().await? {
                NextMorsel::Step(place, morsel) => (place, *morsel),
                NextMorsel::Full => return Ok(Some(SessionEnd::QueueFull)),
                NextMorsel::None => break,
            };
            self.round = round;
            match self.take_step(&mut morsel).await? {
                TurnOutcome::Again => {
                    self.waiting.insert((round + 1, rank, subject), morsel);
                }
                TurnOutcome::Later(at) => drop(self.paused_morsels.insert((at, (round, rank, subject)), morsel)),
                TurnOutcome::Done => {
                    self.state.remove(&morsel).await?;
                    crash_point(crash_points::PRODUCER_MORSEL_REMOVED);
                    self.finish_morsel(&subject, false).await?;
                }
                TurnOutcome::PassedOver => self.finish_morsel(&subject, true).await?,
                TurnOutcome::Reading => self.background_reads.wait_for_read((round, rank, subject), morsel),
                // Others wait for reads, which would be lost if the session ended. They would find the queue full too.
                TurnOutcome::Full if !self.background_reads.is_idle() => {
                    self.waiting.insert((round, rank, subject), morsel);
                    if !self.pause(Self::PAUSE).await {
                        return Ok(Some(SessionEnd::Stopped));
                    }
                }
                TurnOutcome::Full => return Ok(Some(SessionEnd::QueueFull)),
                TurnOutcome::Stopped => return Ok(Some(SessionEnd::Stopped)),
            }
        }
        Ok(self.stop.is_cancelled().then_some(SessionEnd::Stopped))
    }

    /// Waits for the next morsel that may have a turn: the first one of an account that has less than its share of the queue.
    async fn next_morsel(&mut self) -> Result<NextMorsel<P>, ProducerError> {
        let (mut pause, mut room_wait) = (Duration::ZERO, None);
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
            let next = resting.into_iter().chain(later).min();
            let only_room = full && next.is_none() && self.background_reads.is_idle();
            room_wait = only_room.then(|| room_wait.unwrap_or_else(|| self.deps.statistics.begin_wait_for_room()));
            let rested = match (full, next) {
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

    async fn take_step(&mut self, morsel: &mut Versioned<MorselOf<P>>) -> Result<TurnOutcome, ProducerError> {
        let subject = morsel.record.subject().clone();
        // A ready result is used at once. Otherwise it would be read again and again while the queue is full each time.
        if !self.background_reads.has_result(&subject) {
            match self.check_gate(subject.account()).await? {
                Gate::Open => {}
                other => return Ok(self.outcome_at_gate(other)),
            }
        }
        // The policy is read after the wait: it may have changed meanwhile.
        let order = match self.current_coverage(&subject).await {
            CurrentCoverage::Known(MorselCoverage::Covered(order)) => order,
            CurrentCoverage::Known(MorselCoverage::NotCovered) => {
                let destination = subject.destination().map(tracing::field::display);
                info!(account = %subject.account(), space = %subject.space(), source = %subject.store(), destination,
                    "no policy asks for this any more; dropped from the run");
                return Ok(TurnOutcome::Done);
            }
            CurrentCoverage::Known(MorselCoverage::Failed(error)) => {
                self.space_failed(&subject, &error);
                return Ok(TurnOutcome::PassedOver);
            }
            CurrentCoverage::AccountFailed => return Ok(TurnOutcome::PassedOver),
        };
        self.step_began = self.deps.clock.now();
        match P::take_turn(self, morsel, order).await {
            Ok(turn) => {
                // A turn that ended early proves nothing: its read may fail again.
                let read = matches!(turn, TurnOutcome::Again | TurnOutcome::Done);
                if read && self.failure_streaks.remove(&subject).is_some() {
                    let account = subject.account();
                    let used = subject.stores().map(|store| StoreAddress::of(account, store));
                    self.deps.statistics.clear_store_waits(&used.collect::<Vec<_>>());
                }
                Ok(turn)
            }
            Err(StepError::Session(error)) => Err(error),
            Err(StepError::Space(error)) => {
                self.background_reads.forget(|read| read.belongs_to(&subject));
                if error.is_tried_again()
                    && let Some(at) = self.schedule_retry(&subject, &error)
                {
                    return Ok(TurnOutcome::Later(at));
                }
                self.space_failed(&subject, &error);
                Ok(TurnOutcome::PassedOver)
            }
        }
    }

    pub(super) async fn current_coverage(&mut self, subject: &MorselSubjectOf<P>) -> CurrentCoverage<P> {
        if self.accounts_failed.contains(subject.account()) {
            return CurrentCoverage::AccountFailed;
        }
        match self.deps.policies.account(subject.account()).await {
            Ok(policy) => CurrentCoverage::Known(P::coverage(&policy, subject)),
            Err(PolicyError::NotListed { .. }) => CurrentCoverage::Known(MorselCoverage::NotCovered),
            Err(error) => {
                self.account_failed(subject.account(), &error);
                CurrentCoverage::AccountFailed
            }
        }
    }

    /// When a failed space gets another turn in this session; `None` if it gets none.
    fn schedule_retry(&mut self, subject: &MorselSubjectOf<P>, error: &P::Error) -> Option<Monotonic> {
        let now = self.deps.clock.monotonic();
        let mut streak = self.failure_streaks.remove(subject).unwrap_or_else(|| FailureStreak::since(now));
        let pause = self.next_retry_pause(&mut streak, now)?;
        self.failure_streaks.insert(subject.clone(), streak);
        if let Some(error) = error.of_store() {
            self.deps
                .statistics
                .note_store_wait(&error.store, StoreWait { reason: error_chain(error), may_pass: true });
        }
        warn!(account = %subject.account(), space = %subject.space(), error = error_chain(error), "the space is tried again");
        Some(now.plus(pause))
    }

    /// The pause before the next attempt; `None` after enough attempts over a long enough time.
    pub(super) fn next_retry_pause(&self, streak: &mut FailureStreak, now: Monotonic) -> Option<Duration> {
        streak.tries += 1;
        if streak.tries >= Self::ATTEMPTS_MAX && now.since(streak.since) >= self.settings.give_up_after {
            return None;
        }
        Some(Backoff::new(Self::PAUSE, Self::PAUSE_MAX).pause(streak.tries))
    }
}
