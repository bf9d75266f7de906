//! A process's calls on a queue, and the faults that they meet.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{AccountId, Envelope, Monotonic, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};

use super::SimQueue;
use crate::event::{DecodedBody, Event, OPERATOR};
use crate::fault::SimFault;
use crate::in_flight_bodies::InFlightBodies;
use crate::planted_calls;
use crate::sim_process::SimProcess;
use crate::trace::Hash;

/// A process's client of a queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueClient {
    pub(crate) process: Arc<SimProcess>,
    pub(crate) sim_queue: Arc<SimQueue>,
}

/// The fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueCallFault {
    Nothing,
    Before,
    After,
    /// Some entries fail and are reported.
    Partial,
    /// All entries take effect; some are reported as failed.
    PartialAfter,
}

impl QueueClient {
    fn error(&self, op: &'static str, kind: QueueErrorKind) -> QueueError {
        QueueError { kind, op, queue: self.sim_queue.name, source: Some("the simulated world's doing".into()) }
    }

    fn some_error(&self, op: &'static str) -> QueueError {
        let kind = match self.process.world.rng.below(4) {
            0 => QueueErrorKind::Throttled { retry_after: None },
            1 => QueueErrorKind::Unavailable,
            _ => QueueErrorKind::Unexpected,
        };
        self.error(op, kind)
    }

    async fn draw_fault(&self, entries: usize) -> QueueCallFault {
        self.process.enter().await;
        let draw_fault = self.draw_call_fault(entries);
        if draw_fault != QueueCallFault::Nothing {
            self.process.trouble_until(self.process.world.now());
        }
        draw_fault
    }

    fn draw_call_fault(&self, entries: usize) -> QueueCallFault {
        let (world, by) = (&self.process.world, &self.process.name);
        let rates = &world.swarm.rates;
        if world.inject(SimFault::QueueFailed, rates.queue, by) {
            return QueueCallFault::Before;
        }
        if entries > 0 && !world.is_calm() && world.now() < *self.sim_queue.deaf_until.lock() {
            world.count(SimFault::BatchNeverTaken, by);
            return QueueCallFault::Before;
        }
        let crowded = self.sim_queue.is_crowded();
        if !crowded && world.inject(SimFault::QueueDoneButFailed, rates.queue_done, by) {
            return QueueCallFault::After;
        }
        if entries > 0 && self.fails_in_a_row() {
            return QueueCallFault::Partial;
        }
        if entries > 0 && world.inject(SimFault::BatchPartial, rates.partial, by) {
            if world.rng.below(3) == 0 {
                self.process.partial_left.store(2, Relaxed);
            }
            return QueueCallFault::Partial;
        }
        if entries > 0 && !crowded && world.inject(SimFault::BatchDoneButFailed, rates.partial_done, by) {
            return QueueCallFault::PartialAfter;
        }
        QueueCallFault::Nothing
    }

    /// Whether this call fails in part as one of three in a row.
    fn fails_in_a_row(&self) -> bool {
        let left = self.process.partial_left.load(Relaxed);
        if left == 0 || self.process.world.is_calm() {
            return false;
        }
        self.process.partial_left.store(left - 1, Relaxed);
        if left == 1 {
            self.process.world.count(SimFault::BatchPartialThrice, &self.process.name);
        }
        true
    }

    /// Whether the queue refuses this entry each time, as long as the world's faults last. It refuses entries of workmen only
    /// for tasks that were tried before.
    fn refuses(&self, one: &OutgoingMessage) -> bool {
        let (world, by) = (&self.process.world, &self.process.name);
        if !world.swarm.refuses || world.is_calm() || by == OPERATOR {
            return false;
        }
        let decoded = DecodedBody::of(&one.body);
        let first = |envelope: &Envelope| envelope.failures == 0 && !by.starts_with("producer");
        if decoded.envelope.as_ref().is_some_and(first) || !is_refused_subject(&decoded) {
            return false;
        }
        world.count(SimFault::EntryRefused, by);
        self.process.trouble_until(world.now());
        true
    }

    /// Draws which entries of a batch fail: at least one.
    fn failing(&self, entries: usize) -> Vec<bool> {
        let rng = &self.process.world.rng;
        let certain = rng.below(entries as u64) as usize;
        (0..entries).map(|at| at == certain || rng.below(2) == 0).collect()
    }

    /// Does a batch entry by entry, and reports failures as the drawn fault says.
    async fn batch<'e, E: Sync, F: Future<Output = bool> + Send>(
        &'e self,
        op: &'static str,
        entries: &'e [E],
        make: impl Fn(&'e E) -> F + Send,
    ) -> Result<BatchReport, QueueError> {
        let draw_fault = self.draw_fault(entries.len()).await;
        if draw_fault == QueueCallFault::Before {
            return Err(self.some_error(op));
        }
        let partial = matches!(draw_fault, QueueCallFault::Partial | QueueCallFault::PartialAfter);
        let failing = if partial { self.failing(entries.len()) } else { Vec::new() };
        let mut report = BatchReport::default();
        for (at, entry) in entries.iter().enumerate() {
            let fails = failing.get(at).copied().unwrap_or(false);
            let done = (fails && draw_fault == QueueCallFault::Partial) || make(entry).await;
            if fails {
                report.failed.push((at, self.some_error(op)));
            } else if !done {
                report.failed.push((at, self.error(op, QueueErrorKind::Unexpected)));
            }
        }
        self.process.leave().await;
        if draw_fault == QueueCallFault::After { Err(self.some_error(op)) } else { Ok(report) }
    }

    pub(crate) async fn send_now(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let refused: Vec<bool> = out.iter().map(|one| self.refuses(one)).collect();
        let make = async |(at, one): &(usize, &OutgoingMessage)| {
            if refused[*at] {
                return false;
            }
            let late = self.draw_lateness();
            self.sim_queue.put(&self.process.world, &self.process.name, (*one).clone(), late).await
        };
        let entries: Vec<_> = out.iter().enumerate().collect();
        let mut report = self.batch("send", &entries, make).await?;
        for (_, error) in report.failed.iter_mut().filter(|(at, _)| refused[*at]) {
            *error = self.error("send", QueueErrorKind::TooLarge);
        }
        Ok(report)
    }

    fn draw_lateness(&self) -> Option<Duration> {
        let (world, by) = (&self.process.world, &self.process.name);
        let late = world.inject(SimFault::DeliveryLate, world.swarm.rates.late, by);
        late.then(|| {
            world
                .rng
                .duration(Duration::from_mins(1), *world.rng.pick(&[Duration::from_mins(20), Duration::from_hours(12)]))
        })
    }

    /// May deliver a delivered body once more, now or later.
    async fn double(&self, delivery: &Delivery) {
        let (world, by) = (&self.process.world, &self.process.name);
        // What can never be put back is received until it was so too often. Doubled each time, it would never end.
        let again = world.swarm.refuses && delivery.receive_count > 1;
        if self.sim_queue.is_crowded() || again && is_refused_subject(&DecodedBody::of(&delivery.body)) {
            return;
        }
        if !world.inject(SimFault::DeliveryDoubled, world.swarm.rates.doubled, by) {
            return;
        }
        let group = AccountId::new("doubled").unwrap();
        let delay = Duration::from_secs(*world.rng.pick(&[0, 1, 60]));
        let one = OutgoingMessage { group, body: delivery.body.clone(), delay };
        let late = self.draw_lateness();
        self.sim_queue.put(world, "queue", one, late).await;
    }
}

/// Whether it is one of the subjects whose entries a queue refuses, where one refuses any.
fn is_refused_subject(decoded: &DecodedBody) -> bool {
    let Some(envelope) = &decoded.envelope else { return false };
    let item = envelope.task.detail.get("item").and_then(|item| item.as_str()).unwrap_or(&decoded.key);
    Hash::of(item.as_bytes()).is_multiple_of(4)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TaskQueue for QueueClient {
    fn name(&self) -> QueueName {
        self.sim_queue.name
    }

    fn limits(&self) -> QueueLimits {
        self.sim_queue.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        if planted_calls::sends_late(&self.process) {
            self.process.late_sends.lock().push((self.sim_queue.name, out.to_vec()));
            return Ok(BatchReport::default());
        }
        if self.sim_queue.name == QueueName::DeadLetter && is_planted(PlantedBug::LetterAfterAcknowledge) {
            for letter in out {
                planted_calls::acknowledge_at_once(&self.process, &DecodedBody::of(&letter.body).key).await;
            }
        }
        self.send_now(out).await
    }

    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_excluding(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let draw_fault = self.draw_fault(0).await;
        if draw_fault == QueueCallFault::Before {
            return Err(self.some_error("receive"));
        }
        let deliveries = self.sim_queue.inner.receive_excluding(passed_over, max, visibility, wait).await?;
        let world = &self.process.world;
        if deliveries.len() > 1 && !world.is_calm() {
            world.count(SimFault::DeliveriesShuffled, &self.process.name);
        }
        for delivery in &deliveries {
            let decoded = self.sim_queue.note(delivery);
            if self.sim_queue.name == QueueName::DeadLetter && !decoded.is_dead_letter && !world.is_calm() {
                world.count(SimFault::ReceivedTooOften, &self.process.name);
            }
            let (by, queue, count) = (&self.process.name, self.sim_queue.name, delivery.receive_count);
            world.see(&Event::Received { by, queue, decoded: &decoded, count });
            // If the answer is lost, the process never learns of the delivery.
            let answered = draw_fault == QueueCallFault::Nothing;
            InFlightBodies::received(&self.process, queue, delivery, answered.then_some(&decoded));
            self.double(delivery).await;
        }
        self.process.leave().await;
        if draw_fault == QueueCallFault::After {
            return Err(self.some_error("receive"));
        }
        if self.sim_queue.name == QueueName::DeadLetter && is_planted(PlantedBug::DrainAcknowledgesFirst) {
            let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
            let _ = self.acknowledge(&receipts).await;
        }
        Ok(deliveries)
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        let draw_fault = self.draw_fault(receipts.len()).await;
        if draw_fault == QueueCallFault::Before || self.process.is_starved() {
            return Err(self.some_error("extend"));
        }
        for receipt in receipts {
            InFlightBodies::touched(&self.process, self.sim_queue.name, receipt);
        }
        let mut extended = self.sim_queue.inner.extend(receipts, visibility).await?;
        if matches!(draw_fault, QueueCallFault::Partial | QueueCallFault::PartialAfter) {
            for (answer, fails) in extended.iter_mut().zip(self.failing(receipts.len())) {
                if fails {
                    let answer: &mut Result<Monotonic, QueueError> = answer;
                    *answer = Err(self.some_error("extend"));
                }
            }
        }
        self.process.leave().await;
        if draw_fault == QueueCallFault::After { Err(self.some_error("extend")) } else { Ok(extended) }
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let (world, by) = (&self.process.world, &self.process.name);
        if !receipts.is_empty() && !self.process.is_stopping() {
            world.violated(
                "what waits is put back by a send",
                format!(
                    "{by} released {} deliveries of {}, and nobody told it to stop",
                    receipts.len(),
                    self.sim_queue.name
                ),
            );
        }
        let make = async |receipt: &Receipt| {
            InFlightBodies::touched(&self.process, self.sim_queue.name, receipt);
            let released = self.sim_queue.inner.release(std::slice::from_ref(receipt)).await;
            released.is_ok_and(|report| report.failed.is_empty())
        };
        self.batch("release", receipts, make).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let make = async |receipt: &Receipt| {
            self.sim_queue.acknowledge(&self.process.world, &self.process.name, receipt).await
        };
        self.batch("acknowledge", receipts, make).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        if matches!(self.draw_fault(0).await, QueueCallFault::Before | QueueCallFault::After) {
            return Err(self.some_error("depth"));
        }
        let depth = self.sim_queue.inner.depth().await?;
        Ok(QueueDepth { delayed: depth.delayed + self.sim_queue.late.lock().len() as u64, ..depth })
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        self.sim_queue.inner.depth_of(group).await
    }
}
