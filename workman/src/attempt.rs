//! One execution of a task, from its delivery to the decision what becomes of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{Envelope, SpaceId, StoreAddress};
use mill_ports::{
    Attempt, FailureClass, ItemOutcomeNote, ProcessorError, RngExt as _, StoreWait, TaskOutcome, TaskProcessor,
    error_chain,
};
use tokio::sync::mpsc;
use tracing::{Instrument as _, Span, debug, error, field, info, warn, warn_span};

use crate::admission::TurnEstimate;
use crate::crash_points;
use crate::disposition::{Disposition, DispositionBuilder};
use crate::in_flight::CancelCause;
use crate::run::{SlotGuard, WorkmanShared, subject_of};
use crate::settings::{OnUnavailable, WorkmanEndReason, WorkmanError};
use crate::stages::{DecodedTask, ExecutedTask, NoProcessor, ReceivedTask, SettledTask, panic_message};
use crate::store_backoff::BackoffReason;

/// A task whose permits were lost comes again after about half of this.
const PERMITS_LOST: Duration = Duration::from_secs(4);

/// How an execution ended.
enum AttemptResult {
    Answered(TaskOutcome),
    Failed(ProcessorError),
    Panicked(String),
    /// Not begun: one of its stores is backed off from for so long.
    Paused(Duration),
    Cancelled(CancelCause),
}

/// Executes a delivery's task and hands the disposition to the completer. Frees the slot when dropped.
pub(crate) async fn attempt(
    shared: Arc<WorkmanShared>,
    decoded: DecodedTask,
    (slot, stores): (SlotGuard, Vec<StoreAddress>),
    settled: mpsc::Sender<SettledTask>,
) {
    let task = execute(&shared, decoded, stores).await;
    // The completer outlives all attempts; were it gone, the queue would deliver the task again.
    let _ = settled.send(task).await;
    drop(slot);
}

async fn execute(shared: &WorkmanShared, decoded: DecodedTask, stores: Vec<StoreAddress>) -> SettledTask {
    let space = decoded.space();
    let DecodedTask { received, envelope, processor } = decoded;
    let span = warn_span!(
        "attempt",
        task.kind = %envelope.task.kind,
        task.id = %envelope.id,
        subject = field::Empty,
        queue = %shared.input_queues[received.queue_index].name(),
        receive_count = received.delivery.receive_count,
    );
    let attempt = Attempt {
        envelope,
        failures_max: shared.settings.failures_max,
        receive_count: received.delivery.receive_count,
        cancelled: received.in_flight().cancelled.clone(),
        lease: received.in_flight().lease.clone(),
        outcome: ItemOutcomeNote::default(),
    };
    crash_point(crash_points::WORKMAN_BEFORE_ATTEMPT);
    let work = Execution { processor, stores: &stores, space: space.as_ref() };
    let result = work.run(shared, &received, &attempt, &span).instrument(span.clone()).await;
    crash_point(crash_points::WORKMAN_ATTEMPTED);
    let task = Some(ExecutedTask::of(&attempt, &shared.statistics));
    let handler = ResultHandler { shared, received: &received, stores: &stores, space: space.as_ref() };
    let disposition = span.in_scope(|| handler.handle(attempt.envelope, result));
    SettledTask { received, disposition, task }
}

/// A processor that is about to run.
struct Execution<'a> {
    processor: Result<Box<dyn TaskProcessor>, NoProcessor>,
    stores: &'a [StoreAddress],
    space: Option<&'a SpaceId>,
}

impl Execution<'_> {
    /// Runs the processor until it answers, panics, or is cancelled; then its future is dropped at once.
    async fn run(
        self,
        shared: &WorkmanShared,
        received: &ReceivedTask,
        attempt: &Attempt,
        span: &Span,
    ) -> AttemptResult {
        let Self { processor, stores, space } = self;
        let work = AssertUnwindSafe(async {
            let processor = match processor {
                Ok(processor) => processor,
                Err(NoProcessor::Failed(error)) => return AttemptResult::Failed(error),
                Err(NoProcessor::Panicked(reason)) => return AttemptResult::Panicked(reason),
            };
            if let Some(remaining) = shared.backoff.remaining(stores, space, shared.clock.monotonic()) {
                return AttemptResult::Paused(remaining);
            }
            if !span.is_disabled() {
                span.record("subject", processor.subject());
            }
            match processor.run(attempt).await {
                Ok(outcome) => AttemptResult::Answered(outcome),
                Err(error) => AttemptResult::Failed(error),
            }
        });
        let result = tokio::select! {
            biased;
            () = attempt.cancelled.cancelled() => return AttemptResult::Cancelled(received.in_flight().cause()),
            result = work.catch_unwind() => result,
        };
        result.unwrap_or_else(|panic| {
            if is_planted(PlantedBug::PanicNotCaught) {
                std::panic::resume_unwind(panic);
            }
            AttemptResult::Panicked(panic_message(panic.as_ref()))
        })
    }
}

/// Turns the result of an attempt into a disposition; counts and logs it.
struct ResultHandler<'a> {
    shared: &'a WorkmanShared,
    received: &'a ReceivedTask,
    /// The stores that the task uses.
    stores: &'a [StoreAddress],
    space: Option<&'a SpaceId>,
}

impl ResultHandler<'_> {
    fn handle(&self, envelope: Envelope, result: AttemptResult) -> Disposition {
        let builder = DispositionBuilder { shared: self.shared, received: self.received };
        match result {
            AttemptResult::Answered(outcome) => {
                let over = self.shared.backoff.note_success(self.stores, self.space, self.shared.clock.monotonic());
                self.shared.statistics.clear_store_waits(&over);
                match outcome {
                    TaskOutcome::Done { .. } if is_planted(PlantedBug::FollowUpsForgotten) => {
                        DispositionBuilder::discard()
                    }
                    TaskOutcome::Done { follow_ups } if follow_ups.is_empty() => DispositionBuilder::discard(),
                    TaskOutcome::Done { follow_ups } => builder.complete(envelope, follow_ups),
                    TaskOutcome::Snooze { delay, task } => {
                        debug!(?delay, "snoozed");
                        builder.snooze(envelope, builder.align_delay(delay), task)
                    }
                    TaskOutcome::Discard { reason } => {
                        debug!(reason, "discarded");
                        DispositionBuilder::discard()
                    }
                }
            }
            AttemptResult::Failed(error) => self.handle_failure(envelope, &error),
            AttemptResult::Panicked(reason) => self.retry(envelope, &reason),
            // A workman that ends gives the task back, for others to take at once. One that goes on waits the pause out: it would
            // only receive the task again.
            AttemptResult::Paused(_) if self.shared.is_ending() => builder.give_back(Some(&envelope.task.account)),
            AttemptResult::Paused(remaining) => self.snooze(envelope, remaining),
            AttemptResult::Cancelled(CancelCause::LeaseLost) if is_planted(PlantedBug::StaleReceiptAcknowledged) => {
                DispositionBuilder::discard()
            }
            AttemptResult::Cancelled(CancelCause::LeaseLost) => DispositionBuilder::abandon(),
            AttemptResult::Cancelled(CancelCause::PermitsLost) => {
                builder.requeue(&envelope.task.account, TurnEstimate::after(PERMITS_LOST))
            }
            AttemptResult::Cancelled(CancelCause::HeldTooLong) => self.snooze(envelope, Duration::ZERO),
            AttemptResult::Cancelled(CancelCause::Stopping) => builder.give_back(Some(&envelope.task.account)),
        }
    }

    fn handle_failure(&self, envelope: Envelope, error: &ProcessorError) -> Disposition {
        let builder = DispositionBuilder { shared: self.shared, received: self.received };
        match &error.class {
            FailureClass::Retryable => self.retry(envelope, &error_chain(error)),
            FailureClass::Permanent if is_planted(PlantedBug::PermanentErrorRetried) => {
                self.retry(envelope, &error_chain(error))
            }
            FailureClass::Permanent => {
                self.shared.statistics.count(|work| work.failed += 1);
                builder.dead_letter(envelope, &error_chain(error))
            }
            FailureClass::Throttled { .. } if is_planted(PlantedBug::ThrottlingCountsAsFailure) => {
                self.retry(envelope, &error_chain(error))
            }
            FailureClass::Throttled { store, retry_after } => {
                let pause = self.back_off(store, BackoffReason::Throttled(*retry_after), error);
                self.snooze(envelope, pause)
            }
            FailureClass::Unreachable { store } => {
                let pause = self.back_off(store, BackoffReason::Unreachable, error);
                self.snooze(envelope, pause)
            }
            FailureClass::Unavailable { store } => {
                let pause = self.back_off(store, BackoffReason::Unavailable, error);
                if self.shared.settings.on_unavailable == OnUnavailable::Wait {
                    return self.snooze(envelope, pause);
                }
                self.shared
                    .end(Ok(WorkmanEndReason::StoreUnavailable { store: store.clone(), reason: error_chain(error) }));
                builder.give_back(Some(&envelope.task.account))
            }
            FailureClass::Fatal => {
                let subject = subject_of(&self.shared.registry, &envelope.task);
                let subject = subject.unwrap_or_else(|| format!("task `{}`", envelope.id));
                let reason = error_chain(error);
                error!(reason, "no task can be run here");
                self.shared.end(Err(WorkmanError::Fatal { subject, reason }));
                builder.give_back(Some(&envelope.task.account))
            }
            FailureClass::LeaseLost => match self.received.in_flight().cancel_cause_if_any() {
                Some(CancelCause::Stopping) => builder.give_back(Some(&envelope.task.account)),
                Some(CancelCause::PermitsLost) => {
                    builder.requeue(&envelope.task.account, TurnEstimate::after(PERMITS_LOST))
                }
                // The processor noticed the loss before its workman did.
                None if self.received.in_flight().lease.lacks_permits() => {
                    builder.requeue(&envelope.task.account, TurnEstimate::after(PERMITS_LOST))
                }
                _ => DispositionBuilder::abandon(),
            },
        }
    }

    fn retry(&self, envelope: Envelope, reason: &str) -> Disposition {
        self.shared.statistics.count(|work| work.failed += 1);
        if let Some(suppressed) = self.shared.warnings.due("failed", self.shared.clock.monotonic()) {
            let failures = envelope.failures + 1;
            warn!(reason, failures, failures_max = self.shared.settings.failures_max, suppressed, "a task failed");
        } else {
            debug!(reason, "a task failed");
        }
        DispositionBuilder { shared: self.shared, received: self.received }.retry_or_dead_letter(envelope, reason)
    }

    /// Snoozes the task for `delay` and some jitter, so that tasks do not all come again at one moment.
    fn snooze(&self, envelope: Envelope, delay: Duration) -> Disposition {
        let jitter = self.shared.chance.jitter((delay / 4).min(Duration::from_secs(10)));
        DispositionBuilder { shared: self.shared, received: self.received }.snooze(envelope, delay + jitter, None)
    }

    fn back_off(&self, store: &StoreAddress, sort: BackoffReason, error: &ProcessorError) -> Duration {
        let now = self.shared.clock.monotonic();
        let pause = self.shared.backoff.note_failure((store, self.space), sort, now, self.shared.chance.as_ref());
        let seconds = pause.as_secs();
        let may_pass = sort != BackoffReason::Unavailable;
        let reason = error.source.as_ref().map_or_else(|| error_chain(error), |source| error_chain(&**source));
        self.shared.statistics.note_store_wait(store, StoreWait { reason, may_pass });
        match sort {
            BackoffReason::Throttled(_) => {
                if let Some(suppressed) = self.shared.warnings.due("throttled", now) {
                    info!(%store, seconds, suppressed, "a store asks to slow down");
                }
            }
            BackoffReason::Unreachable => {
                if let Some(suppressed) = self.shared.warnings.due("unreachable", now) {
                    warn!(%store, seconds, reason = error_chain(error), suppressed, "a store does not answer; its tasks wait");
                }
            }
            BackoffReason::Unavailable => {
                if let Some(suppressed) = self.shared.warnings.due("unavailable", now) {
                    warn!(target: mill_ports::REPORTED, %store, seconds, reason = error_chain(error), suppressed,
                        "a store cannot be used; its tasks wait");
                }
            }
        }
        pause
    }
}
