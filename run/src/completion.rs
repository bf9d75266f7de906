//! When a run is over: there is nothing more to do, or it has waited in vain for too long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::Monotonic;
use mill_ports::QueueError;
use mill_workman::{AWAY_MAX, StopSignal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::progress::{AwaitedStores, RunProgress, StateStandstill};
use crate::silence::{IdleTimer, SilentStoresError, one_answer_max, throttled_run_max, time, whole_run_max};
use crate::until_done::{Remedy, RunDeps, RunWorkers};

/// Why a run's work ended before all was done.
#[derive(Debug)]
pub(crate) struct StuckReason {
    pub(crate) why: String,
    pub(crate) remedy: Remedy,
}

/// How long nothing may progress while tasks are snoozed, before the run counts as waiting for something that does not
/// pass by itself.
const NOTHING_MOVES: Duration = Duration::from_secs(12);

/// How long a failed write shows that no write succeeds; after that one may have succeeded.
const FAILS_NOW: Duration = Duration::from_secs(1);

/// How often the progress of a run is reported.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Watches until there is nothing more to do.
pub(crate) struct CompletionMonitor<'a, W> {
    pub(crate) deps: &'a RunDeps,
    pub(crate) workers: &'a W,
    /// Cancelled when the work must end gently, for any reason.
    pub(crate) workers_end: &'a CancellationToken,
    pub(crate) stopping: &'a StopSignal,
    pub(crate) produced: &'a AtomicBool,
    /// Cancelled when the producer is to end.
    pub(crate) producing: &'a CancellationToken,
    pub(crate) give_up_after: Duration,
}

/// What is known from one check to the next.
struct Looks {
    stillness: IdleTimer,
    shown: Monotonic,
    /// How many checks have found the queues empty since one found tasks.
    empty: u32,
    /// Since when each check has found that the producer waits for room.
    no_room_since: Option<Monotonic>,
    /// When the queues were last asked with success, or need not be asked.
    answered: Monotonic,
}

/// The result of one check.
enum CompletionCheck {
    GoOn,
    Over(Option<StuckReason>),
}

impl<W: RunWorkers> CompletionMonitor<'_, W> {
    /// Returns how long it took, and what it waited for in vain, if it did.
    pub(crate) async fn until_done(&self, progress: mpsc::Sender<RunProgress>) -> (Duration, Option<StuckReason>) {
        let clock = &self.deps.clock;
        let began = clock.awake();
        let mut looks =
            Looks { stillness: IdleTimer::new(began), shown: began, empty: 0, no_room_since: None, answered: began };
        let stuck = loop {
            tokio::select! {
                biased;
                () = self.workers_end.cancelled() => break None,
                () = self.stopping.gentle.cancelled() => break None,
                () = clock.sleep(self.deps.polling.look_every) => {}
            }
            if let CompletionCheck::Over(stuck) = self.look(&mut looks, &progress).await {
                break stuck;
            }
        };
        self.workers_end.cancel();
        (clock.awake().since(began), stuck)
    }

    /// Checks once.
    async fn look(&self, looks: &mut Looks, progress: &mpsc::Sender<RunProgress>) -> CompletionCheck {
        let (snapshot, now) = (self.snapshot(), self.deps.clock.awake());
        if now.since(looks.shown) >= PROGRESS_EVERY {
            let _ = progress.try_send(snapshot.clone());
            looks.shown = now;
        }
        let (still, unanswered) = looks.stillness.look(&snapshot, now);
        if let Some(why) = self.state_in_vain(snapshot.still.as_ref()) {
            self.deps.state.abandon();
            self.producing.cancel();
            return CompletionCheck::Over(Some(why));
        }
        if let Some(why) = self.silent(&snapshot, (still, unanswered)) {
            return CompletionCheck::Over(Some(why));
        }
        self.look_at_queues(looks, &snapshot, (still, now)).await
    }

    /// Checks whether the queues are empty, or hold only what waits in vain.
    async fn look_at_queues(
        &self,
        looks: &mut Looks,
        snapshot: &RunProgress,
        (still, now): (Duration, Monotonic),
    ) -> CompletionCheck {
        looks.no_room_since = snapshot.waits_for_room.then(|| looks.no_room_since.unwrap_or(now));
        let producing = snapshot.producing && !is_planted(PlantedBug::EndsWhileProducing);
        let still = match looks.no_room_since {
            // Tasks that wait in vain may be what fills the queue.
            Some(since) if producing => still.min(now.since(since)),
            None if producing => {
                looks.answered = now;
                return CompletionCheck::GoOn;
            }
            _ => still,
        };
        let depth = self.depth().await;
        if depth.is_ok() {
            looks.answered = now;
        }
        match depth {
            Ok((0, 0)) if producing => {}
            Ok((0, 0)) => {
                looks.empty += 1;
                if looks.empty >= self.deps.polling.looks(snapshot.sent, snapshot.ended) {
                    return CompletionCheck::Over(None);
                }
            }
            Ok(left) => {
                looks.empty = 0;
                if let Some(why) = self.in_vain(still, left, snapshot) {
                    self.producing.cancel();
                    return CompletionCheck::Over(Some(why));
                }
            }
            // It shows nothing, so the checks that found them empty still count: a queue that fails now and then would
            // keep a run from its end.
            Err(error) => {
                let (why, unanswered) = (mill_ports::error_chain(&error), now.since(looks.answered));
                tracing::warn!("the queues do not answer: {why}");
                if unanswered > one_answer_max(self.give_up_after) {
                    self.producing.cancel();
                    let why = format!("the queues have not answered for {}: {why}", time(unanswered));
                    return CompletionCheck::Over(Some(StuckReason { why, remedy: Remedy::RunAgain }));
                }
            }
        }
        CompletionCheck::GoOn
    }

    fn snapshot(&self) -> RunProgress {
        let producing = !self.produced.load(Ordering::Acquire);
        let mut snapshot = RunProgress { producing, ..self.deps.snapshot() };
        self.workers.add_to(&mut snapshot);
        snapshot
    }

    /// Why the run gives up: nothing could be written to Mill's own state for too long.
    fn state_in_vain(&self, still: Option<&StateStandstill>) -> Option<StuckReason> {
        let still = still?;
        // Only while writes fail right now: otherwise the failure may have passed.
        if still.first_failed <= self.give_up_after || still.last_failed > FAILS_NOW {
            return None;
        }
        let why = format!("mill's own state could not be written for {}: {}", time(still.first_failed), still.why);
        Some(StuckReason { why, remedy: Remedy::SetRight })
    }

    /// The stores that the run gives up because they have not answered for too long. Ends the work that waits for them.
    fn silent(&self, snapshot: &RunProgress, (still, unanswered): (Duration, Duration)) -> Option<StuckReason> {
        let most = whole_run_max(self.give_up_after);
        let silent = SilentStoresError::after(unanswered, most, &snapshot.asked)?;
        // Work that waits for such an answer would not end gently.
        self.producing.cancel();
        self.stopping.immediate.cancel();
        Some(if snapshot.awaited.is_empty() {
            StuckReason { why: silent.to_string(), remedy: Remedy::RunAgain }
        } else {
            unusable(still, &snapshot.awaited)
        })
    }

    /// What the remaining tasks wait for in vain, if nothing has progressed for too long.
    fn in_vain(&self, still: Duration, (ready, put_off): (u64, u64), snapshot: &RunProgress) -> Option<StuckReason> {
        let awaited = &snapshot.awaited;
        if awaited.is_empty() {
            // What is not surveyed yet is lost to this run, so it waits longer.
            let most = if snapshot.producing { self.give_up_after.max(NOTHING_MOVES) } else { NOTHING_MOVES };
            let all_snoozed = ready == 0 && snapshot.turn_in.is_zero() && still > most;
            // Of many that come again at different times, some are always ready. No work that goes on takes so long without a call.
            let always_snoozed = still > most.max(self.give_up_after) + AWAY_MAX && snapshot.asked.is_empty();
            let full = if snapshot.producing { "the queue is full: " } else { "" };
            return (all_snoozed || always_snoozed).then(|| StuckReason {
                why: format!("{full}tasks were snoozed ({}); they stay queued", ready + put_off),
                remedy: Remedy::RunAgain,
            });
        }
        let may_pass = awaited.values().any(|awaited| awaited.may_pass);
        let most = if may_pass { throttled_run_max(self.give_up_after) } else { NOTHING_MOVES };
        (still > most).then(|| unusable(still, awaited))
    }

    /// The number of tasks that are visible or in flight, and of snoozed tasks.
    async fn depth(&self) -> Result<(u64, u64), QueueError> {
        let mut sum = (0, 0);
        for queue in &self.deps.queues {
            let depth = queue.depth().await?;
            sum.0 += depth.visible + depth.in_flight;
            if !is_planted(PlantedBug::SnoozedTakenAsDone) {
                sum.1 += depth.delayed;
            }
        }
        Ok(sum)
    }
}

/// The stores that could not be used, with their own messages.
fn unusable(still: Duration, awaited: &AwaitedStores) -> StuckReason {
    let stores = awaited.iter().map(|(store, awaited)| {
        let how = if awaited.may_pass { "has let nothing through" } else { "cannot be used" };
        format!("store `{store}` {how}: {}", awaited.reason)
    });
    let stores = stores.collect::<Vec<_>>().join("; ");
    let all_may_pass = awaited.values().all(|awaited| awaited.may_pass);
    let remedy = if all_may_pass { Remedy::RunAgain } else { Remedy::SetRight };
    StuckReason { why: format!("the run has ended, since nothing went on for {}: {stores}", time(still)), remedy }
}

#[cfg(test)]
mod tests;
