//! Keeps the leases of all deliveries in flight, and cancels an attempt whose lease cannot be kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::Monotonic;
use mill_ports::{Clock, QueueErrorKind, Receipt, TaskQueue};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::crash_points;
use crate::in_flight::{CancelCause, InFlightTask, InFlightTasks};
use crate::warnings::Warnings;

/// The heartbeat of one workman. It is a future of its own, so that it can run on a runtime of its own, where busy attempts do
/// not delay it.
///
/// It must run while the workman runs. A workman without it loses every task that takes longer than the visibility
/// timeout: [`Attempt::may_act`](mill_ports::Attempt::may_act) refuses from then on.
#[derive(Debug)]
pub struct Heartbeat {
    pub(crate) in_flight: Arc<InFlightTasks>,
    pub(crate) queues: Vec<Arc<dyn TaskQueue>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) visibility: Duration,
    pub(crate) over: CancellationToken,
    pub(crate) warnings: Warnings,
}

impl Heartbeat {
    /// Keeps the leases until the workman has ended.
    pub async fn run(self) {
        let beating = async {
            futures::join!(self.extend_periodically(), self.cancel_expired());
        };
        let over = self.over.clone();
        futures::pin_mut!(beating);
        let over = over.cancelled();
        futures::pin_mut!(over);
        futures::future::select(over, beating).await;
    }

    /// Runs twice in each third of the visibility timeout. So each lease is extended after a third of it, at the latest after
    /// half, and a failed extension is tried twice more.
    async fn extend_periodically(&self) {
        loop {
            let pause =
                if is_planted(PlantedBug::HeartbeatTooRare) { self.visibility * 2 } else { self.visibility / 6 };
            self.clock.sleep(pause).await;
            self.extend_due().await;
        }
    }

    async fn extend_due(&self) {
        let now = self.clock.monotonic();
        let tasks = self.in_flight.tasks();
        let mut calls = FuturesUnordered::new();
        for (queue_index, queue) in self.queues.iter().enumerate() {
            let limits = queue.limits();
            let visibility = self.visibility.min(limits.visibility_max);
            let mut due = Vec::new();
            for task in tasks.iter().filter(|task| task.queue_index == queue_index && !task.cancelled.is_cancelled()) {
                if task.lease.deadline().since(now) > visibility * 2 / 3 {
                    continue;
                }
                let end = task.received_at.plus(limits.visibility_total_max);
                if end.since(now) <= visibility / 3 && !is_planted(PlantedBug::HeldBeyondTotal) {
                    self.cancel_held_too_long(task, queue_index);
                } else if !task.extending.swap(true, Ordering::AcqRel) {
                    due.push(task.clone());
                }
            }
            for batch in due.chunks(limits.batch_max.get() as usize) {
                // Never beyond the longest time that the queue lets any of these be held, counted from when the call arrives.
                let end = batch.iter().map(|task| task.received_at.plus(limits.visibility_total_max)).min();
                let most = end.map_or(visibility, |end| end.since(now).saturating_sub(visibility / 12));
                calls.push(self.extend(queue, batch.to_vec(), most.min(visibility)));
            }
        }
        while calls.next().await.is_some() {}
    }

    async fn extend(&self, queue: &Arc<dyn TaskQueue>, batch: Vec<Arc<InFlightTask>>, visibility: Duration) {
        let receipts: Vec<Receipt> = batch.iter().map(|task| task.receipt.clone()).collect();
        crash_point(crash_points::WORKMAN_BEFORE_EXTEND);
        match queue.extend(&receipts, visibility).await {
            Ok(answers) => {
                for (task, answer) in batch.iter().zip(answers) {
                    match answer {
                        Ok(deadline) if is_planted(PlantedBug::LeaseBelievedTooLong) => {
                            task.lease.extend(deadline.plus(visibility));
                        }
                        Ok(deadline) => task.lease.extend(deadline),
                        Err(error) if error.kind == QueueErrorKind::ReceiptExpired => {
                            debug!(queue = %queue.name(), "a lease is lost");
                            task.cancel(CancelCause::LeaseLost);
                        }
                        Err(error) => self.warn_not_extended(queue, &error),
                    }
                }
            }
            Err(error) => self.warn_not_extended(queue, &error),
        }
        for task in &batch {
            task.extending.store(false, Ordering::Release);
        }
    }

    fn warn_not_extended(&self, queue: &Arc<dyn TaskQueue>, error: &mill_ports::QueueError) {
        if let Some(suppressed) = self.warnings.due("extend", self.clock.monotonic()) {
            warn!(queue = %queue.name(), error = mill_ports::error_chain(error), suppressed, "leases could not be extended");
        }
    }

    fn cancel_held_too_long(&self, task: &InFlightTask, queue_index: usize) {
        let queue = self.queues[queue_index].name();
        warn!(%queue, "a task was held for as long as its queue allows; it is put back and begins anew");
        task.cancel(CancelCause::HeldTooLong);
    }

    /// Cancels attempts whose deadline has passed, also while an extension is under way.
    async fn cancel_expired(&self) {
        loop {
            let now = self.clock.monotonic();
            let mut next: Option<Monotonic> = None;
            for task in self.in_flight.tasks() {
                if task.cancelled.is_cancelled() {
                    continue;
                }
                let deadline = task.lease.deadline();
                if deadline <= now {
                    info!(queue = %self.queues[task.queue_index].name(), "a lease ran out");
                    task.cancel(CancelCause::LeaseLost);
                } else {
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                }
            }
            let most = self.visibility / 6;
            let wait = next.map_or(most, |next| next.since(now).min(most));
            self.clock.sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}
