//! A process's calls on a queue, and what goes wrong with them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Monotonic, QueueName};
use mill_ports::{
    BatchReport, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError, QueueErrorKind,
    QueueLimits, Receipt, TaskQueue,
};

use super::Desk;
use crate::sim::event::{Event, OPERATOR, Sealed};
use crate::sim::fault::Fault;
use crate::sim::hands::Hands;
use crate::sim::line::Line;
use crate::sim::trace::Hash;
use crate::sim::world::lock;

/// A process's way to a queue.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) line: Arc<Line>,
    pub(crate) desk: Arc<Desk>,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meet {
    Nothing,
    Before,
    After,
    /// Some entries are not done, and are reported.
    Partial,
    /// All entries are done; some are reported as failed.
    PartialAfter,
}

impl Slot {
    fn error(&self, op: &'static str, kind: QueueErrorKind) -> QueueError {
        QueueError { kind, op, queue: self.desk.name, source: Some("the simulated world's doing".into()) }
    }

    fn some_error(&self, op: &'static str) -> QueueError {
        let kind = match self.line.world.dice.below(4) {
            0 => QueueErrorKind::Throttled { retry_after: None },
            1 => QueueErrorKind::Unavailable,
            _ => QueueErrorKind::Unexpected,
        };
        self.error(op, kind)
    }

    async fn meet(&self, entries: usize) -> Meet {
        self.line.enter().await;
        let meet = self.meeting(entries);
        if meet != Meet::Nothing {
            self.line.trouble_until(self.line.world.now());
        }
        meet
    }

    fn meeting(&self, entries: usize) -> Meet {
        let (world, by) = (&self.line.world, &self.line.name);
        let rates = &world.swarm.rates;
        if world.strikes(Fault::QueueFailed, rates.queue, by) {
            return Meet::Before;
        }
        if entries > 0 && !world.is_calm() && world.now() < *lock(&self.desk.deaf_until) {
            world.count(Fault::BatchNeverTaken, by);
            return Meet::Before;
        }
        let crowded = self.desk.is_crowded();
        if !crowded && world.strikes(Fault::QueueDoneButFailed, rates.queue_done, by) {
            return Meet::After;
        }
        if entries > 0 && self.fails_in_a_row() {
            return Meet::Partial;
        }
        if entries > 0 && world.strikes(Fault::BatchPartial, rates.partial, by) {
            if world.dice.below(3) == 0 {
                self.line.partial_left.store(2, Relaxed);
            }
            return Meet::Partial;
        }
        if entries > 0 && !crowded && world.strikes(Fault::BatchDoneButFailed, rates.partial_done, by) {
            return Meet::PartialAfter;
        }
        Meet::Nothing
    }

    /// Whether this call fails in part since those before it did, three in a row.
    fn fails_in_a_row(&self) -> bool {
        let left = self.line.partial_left.load(Relaxed);
        if left == 0 || self.line.world.is_calm() {
            return false;
        }
        self.line.partial_left.store(left - 1, Relaxed);
        if left == 1 {
            self.line.world.count(Fault::BatchPartialThrice, &self.line.name);
        }
        true
    }

    /// Whether the queue never takes this entry: something about it is wrong, and remains so while the world's faults last. Of
    /// those that come from workmen only what was tried before.
    fn refuses(&self, one: &OutgoingMessage) -> bool {
        let (world, by) = (&self.line.world, &self.line.name);
        if !world.swarm.refuses || world.is_calm() || by == OPERATOR {
            return false;
        }
        let sealed = Sealed::of(&one.body);
        let Some(envelope) = &sealed.envelope else { return false };
        let item = envelope.task.text("item").unwrap_or(&sealed.key);
        let first = envelope.failures == 0 && !by.starts_with("producer");
        if first || !Hash::of(item.as_bytes()).is_multiple_of(4) {
            return false;
        }
        world.count(Fault::EntryRefused, by);
        self.line.trouble_until(world.now());
        true
    }

    /// Which entries of a batch fail: at least one.
    fn failing(&self, entries: usize) -> Vec<bool> {
        let dice = &self.line.world.dice;
        let certain = dice.below(entries as u64) as usize;
        (0..entries).map(|at| at == certain || dice.below(2) == 0).collect()
    }

    /// Makes a batch entry by entry, and reports as the meeting says.
    async fn batch<'e, E: Sync, F: Future<Output = bool> + Send>(
        &'e self,
        op: &'static str,
        entries: &'e [E],
        make: impl Fn(&'e E) -> F + Send,
    ) -> Result<BatchReport, QueueError> {
        let meet = self.meet(entries.len()).await;
        if meet == Meet::Before {
            return Err(self.some_error(op));
        }
        let partial = matches!(meet, Meet::Partial | Meet::PartialAfter);
        let failing = if partial { self.failing(entries.len()) } else { Vec::new() };
        let mut report = BatchReport::default();
        for (at, entry) in entries.iter().enumerate() {
            let fails = failing.get(at).copied().unwrap_or(false);
            let done = (fails && meet == Meet::Partial) || make(entry).await;
            if fails {
                report.failed.push((at, self.some_error(op)));
            } else if !done {
                report.failed.push((at, self.error(op, QueueErrorKind::Unexpected)));
            }
        }
        self.line.leave().await;
        if meet == Meet::After { Err(self.some_error(op)) } else { Ok(report) }
    }

    fn lateness(&self) -> Option<Duration> {
        let (world, by) = (&self.line.world, &self.line.name);
        let late = world.strikes(Fault::DeliveryLate, world.swarm.rates.late, by);
        late.then(|| {
            world.dice.duration(
                Duration::from_mins(1),
                *world.dice.pick(&[Duration::from_mins(20), Duration::from_hours(12)]),
            )
        })
    }

    /// A body that was delivered may be delivered once more, some time.
    async fn double(&self, delivery: &Delivery) {
        let (world, by) = (&self.line.world, &self.line.name);
        if self.desk.is_crowded() || !world.strikes(Fault::DeliveryDoubled, world.swarm.rates.doubled, by) {
            return;
        }
        let group = AccountId::new("doubled").unwrap();
        let delay = Duration::from_secs(*world.dice.pick(&[0, 1, 60]));
        let one = OutgoingMessage { group, body: delivery.body.clone(), delay };
        let late = self.lateness();
        self.desk.put(world, "queue", one, late).await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TaskQueue for Slot {
    fn name(&self) -> QueueName {
        self.desk.name
    }

    fn limits(&self) -> QueueLimits {
        self.desk.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let refused: Vec<bool> = out.iter().map(|one| self.refuses(one)).collect();
        let make = async |(at, one): &(usize, &OutgoingMessage)| {
            if refused[*at] {
                return false;
            }
            let late = self.lateness();
            self.desk.put(&self.line.world, &self.line.name, (*one).clone(), late).await
        };
        let entries: Vec<_> = out.iter().enumerate().collect();
        let mut report = self.batch("send", &entries, make).await?;
        for (_, error) in report.failed.iter_mut().filter(|(at, _)| refused[*at]) {
            *error = self.error("send", QueueErrorKind::TooLarge);
        }
        Ok(report)
    }

    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_but(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    async fn receive_but(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let meet = self.meet(0).await;
        if meet == Meet::Before {
            return Err(self.some_error("receive"));
        }
        let deliveries = self.desk.inner.receive_but(passed_over, max, visibility, wait).await?;
        let world = &self.line.world;
        if deliveries.len() > 1 && !world.is_calm() {
            world.count(Fault::DeliveriesShuffled, &self.line.name);
        }
        for delivery in &deliveries {
            let sealed = self.desk.note(delivery);
            if self.desk.name == QueueName::DeadLetter && !sealed.letter && !world.is_calm() {
                world.count(Fault::ReceivedTooOften, &self.line.name);
            }
            let (by, queue, count) = (&self.line.name, self.desk.name, delivery.receive_count);
            world.see(&Event::Received { by, queue, sealed: &sealed, count });
            // Of what is lost on its way nobody knows.
            let answered = meet == Meet::Nothing;
            Hands::received(&self.line, queue, delivery, answered.then_some(&sealed));
            self.double(delivery).await;
        }
        self.line.leave().await;
        if meet == Meet::After { Err(self.some_error("receive")) } else { Ok(deliveries) }
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        let meet = self.meet(receipts.len()).await;
        if meet == Meet::Before || self.line.is_starved() {
            return Err(self.some_error("extend"));
        }
        for receipt in receipts {
            Hands::touched(&self.line, self.desk.name, receipt);
        }
        let mut extended = self.desk.inner.extend(receipts, visibility).await?;
        if matches!(meet, Meet::Partial | Meet::PartialAfter) {
            for (answer, fails) in extended.iter_mut().zip(self.failing(receipts.len())) {
                if fails {
                    let answer: &mut Result<Monotonic, QueueError> = answer;
                    *answer = Err(self.some_error("extend"));
                }
            }
        }
        self.line.leave().await;
        if meet == Meet::After { Err(self.some_error("extend")) } else { Ok(extended) }
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let (world, by) = (&self.line.world, &self.line.name);
        if !receipts.is_empty() && !self.line.is_stopping() {
            world.violated(
                "what waits is put back by a send",
                format!(
                    "{by} released {} deliveries of {}, and nobody told it to stop",
                    receipts.len(),
                    self.desk.name
                ),
            );
        }
        let make = async |receipt: &Receipt| {
            Hands::touched(&self.line, self.desk.name, receipt);
            let released = self.desk.inner.release(std::slice::from_ref(receipt)).await;
            released.is_ok_and(|report| report.failed.is_empty())
        };
        self.batch("release", receipts, make).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let make = async |receipt: &Receipt| self.desk.acknowledge(&self.line.world, &self.line.name, receipt).await;
        self.batch("acknowledge", receipts, make).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        if matches!(self.meet(0).await, Meet::Before | Meet::After) {
            return Err(self.some_error("depth"));
        }
        let depth = self.desk.inner.depth().await?;
        Ok(QueueDepth { delayed: depth.delayed + lock(&self.desk.late).len() as u64, ..depth })
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        self.desk.inner.depth_of(group).await
    }
}
