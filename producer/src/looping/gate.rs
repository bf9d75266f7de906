//! The gate before each step: whether it may begin, and how many tasks the queue may hold.

use std::time::Duration;

use mill_model::AccountId;
use mill_records::Versioned;
use mill_records::producer_state::QueueSize;
use parking_lot::MutexGuard;
use tracing::info;

use super::Session;
use super::plan::Plan;
use super::queue_sizer::QueueSizer;
use super::report::{ProducerError, SessionEnd};
use super::rounds::TurnOutcome;
use super::settings::{QueueSizing, WhenFull};

/// Whether a step may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Full,
    /// The queue is full, and another account's run has come due meanwhile.
    Due,
    Stopped,
}

impl<P: Plan> Session<'_, P> {
    /// Waits until the next step of an account may begin, and returns whether it may. Called before each step.
    pub(crate) async fn check_gate(&mut self, account: &AccountId) -> Result<Gate, ProducerError> {
        let (mut pause, mut room_wait) = (Duration::ZERO, None);
        loop {
            if self.stop.is_cancelled() {
                return Ok(Gate::Stopped);
            }
            let depth = self.task_sender.depth().await?;
            self.note_depth(depth, false);
            let max = self.queue_max();
            if depth < max || self.may_add_to_a_full_queue(account).await? {
                return Ok(Gate::Open);
            }
            let now = self.deps.clock.monotonic();
            let due = self.next_due_check.map(|look| look.since(now));
            if due.is_some_and(|due| due.is_zero()) {
                return Ok(Gate::Due);
            }
            match self.settings.when_full {
                WhenFull::Leave => {
                    info!(depth, max, "the queue is too full to nibble");
                    return Ok(Gate::Full);
                }
                WhenFull::Wait { poll, poll_most } => {
                    pause = (pause * 2).clamp(poll, poll_most.max(poll));
                    let pause = due.map_or(pause, |due| pause.min(due));
                    room_wait.get_or_insert_with(|| self.deps.statistics.begin_wait_for_room());
                    if self.unless_stopped(self.deps.clock.sleep(pause)).await.is_none() {
                        return Ok(Gate::Stopped);
                    }
                }
            }
        }
    }

    /// How a turn ends that the gate did not let through.
    pub(crate) fn outcome_at_gate(&self, room: Gate) -> TurnOutcome {
        match room {
            Gate::Open | Gate::Due => TurnOutcome::Later(self.deps.clock.monotonic()),
            Gate::Full => TurnOutcome::Full,
            Gate::Stopped => TurnOutcome::Stopped,
        }
    }

    /// How many tasks the queue may hold.
    pub(super) fn queue_max(&self) -> u64 {
        match self.settings.queue_sizing {
            QueueSizing::Fixed => self.settings.queue_max,
            QueueSizing::Lasting(_) => self.queue_sizer().max(),
        }
    }

    /// Resizes the queue by its depth, unless its size is fixed. `full`: no account may add to it.
    pub(super) fn note_depth(&self, depth: u64, full: bool) {
        if let QueueSizing::Lasting(lasting) = self.settings.queue_sizing {
            self.queue_sizer().observe(self.deps.clock.monotonic(), (depth, full), lasting);
        }
    }

    pub(super) fn queue_sizer(&self) -> MutexGuard<'_, QueueSizer> {
        self.queue_sizer.lock()
    }

    /// Sizes the queue by the size that earlier sessions found, and by its loss since the last session left it full.
    pub(super) async fn size_queue(
        &self,
        known: Option<Versioned<QueueSize>>,
    ) -> Result<Versioned<QueueSize>, ProducerError> {
        let fresh = || Versioned::unsaved(QueueSize { max: self.settings.queue_max, full: None });
        let size = known.unwrap_or_else(fresh);
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(size);
        }
        let mut queue_sizer = QueueSizer::new(size.record.max, 2 * self.settings.nibble.get() as u64);
        if let Some((left, held)) = size.record.full {
            let away = self.deps.clock.now().since(left);
            // The next session may come a little later than this one.
            let lasting = away + away / 2;
            queue_sizer.resize(away, (held, 0, self.task_sender.depth().await?), lasting);
        }
        *self.queue_sizer() = queue_sizer;
        Ok(size)
    }

    /// Saves for the next session how many tasks the queue may hold, and how many it holds if it is full.
    pub(super) async fn remember_size(&self, mut size: Versioned<QueueSize>) -> Result<(), ProducerError> {
        if self.settings.queue_sizing == QueueSizing::Fixed {
            return Ok(());
        }
        let full = match self.report.ended {
            SessionEnd::QueueFull => Some((self.deps.clock.now(), self.task_sender.depth().await?)),
            _ => None,
        };
        let before = std::mem::replace(&mut size.record, QueueSize { max: self.queue_sizer().max(), full });
        if size.record != before || size.is_unsaved() {
            self.state.save(&mut size).await?;
        }
        Ok(())
    }
}
