//! Queues in memory that behave like SQS on purpose.

mod bodies;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Monotonic, QueueName};
use mill_ports::{
    BatchReport, Clock, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError,
    QueueErrorKind, QueueLimits, Receipt, Rng, TaskQueue,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::seeded_rng::{below, happens};
use bodies::{Bodies, ReceivedBody, SentBody};

/// Which freedoms of the contract a queue uses, and its limits.
#[derive(Debug, Clone)]
pub struct QueueBehavior {
    /// How many of a thousand receives of a message leave an independent second copy in the queue.
    pub duplicates_per_mille: u32,
    /// How many of a thousand receives return fewer messages than there are; with no `wait`, perhaps none.
    pub short_receives_per_mille: u32,
    /// How far the counts of `depth` may be off, in percent.
    pub depth_error_percent: u32,
    /// Whether a stale receipt has no effect. Otherwise it acts on the message's later delivery, as it may on SQS.
    pub fences_stale_receipts: bool,
    /// Whether the queue counts the messages of an account and can exclude accounts from a receive. SQS does neither.
    pub knows_accounts: bool,
    /// A message received this often goes to the dead-letter queue instead of being received once more.
    pub max_receive_count: u32,
    /// Most messages in one call.
    pub batch_max: NonZeroU32,
    /// Most bytes in one body.
    pub body_bytes_max: usize,
    /// How long a message may be in flight after one receive, however often that is extended.
    pub visibility_total_max: Duration,
}

impl QueueBehavior {
    /// No duplicates, exact depths; deliveries are shuffled and stale receipts are not fenced all the same.
    pub fn well_behaved() -> Self {
        Self {
            duplicates_per_mille: 0,
            short_receives_per_mille: 0,
            depth_error_percent: 0,
            fences_stale_receipts: false,
            knows_accounts: false,
            max_receive_count: 10,
            batch_max: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            body_bytes_max: 256 << 10,
            visibility_total_max: Duration::from_hours(12),
        }
    }

    /// As bad as the contract allows: one message in twenty comes twice, receives fall short, depths are inexact.
    pub fn adversarial() -> Self {
        Self {
            duplicates_per_mille: 50,
            short_receives_per_mille: 200,
            depth_error_percent: 20,
            ..Self::well_behaved()
        }
    }
}

/// A message in a queue, as a test's checker sees it.
#[derive(Debug, Clone)]
pub struct QueuedBody {
    /// Its number in this queue, with which its receipts begin.
    pub id: u64,
    /// The body.
    pub body: bytes::Bytes,
    /// Since when the message is visible, if it is visible now.
    pub visible_since: Option<Monotonic>,
    /// Whether the message is in flight.
    pub in_flight: bool,
}

/// A queue that shuffles, may deliver twice, and forgets everything with the process.
///
/// Its deadlines are points on its clock.
#[derive(Debug)]
pub struct MemoryQueue {
    name: QueueName,
    behavior: QueueBehavior,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
    dead_letters: Option<Arc<MemoryQueue>>,
    bodies: Mutex<Bodies>,
    changed: Notify,
}

impl MemoryQueue {
    const DELAY_MAX: Duration = Duration::from_mins(15);
    const VISIBILITY_MAX: Duration = Duration::from_hours(12);

    /// An empty queue. A message received too often goes to `dead_letters`, if given.
    pub fn new(
        name: QueueName,
        behavior: QueueBehavior,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Rng>,
        dead_letters: Option<Arc<MemoryQueue>>,
    ) -> Self {
        Self { name, behavior, clock, chance, dead_letters, bodies: Mutex::default(), changed: Notify::new() }
    }

    /// Every body in the queue, visible or not, in the order of the sends: for a test's checker.
    pub fn bodies(&self) -> Vec<bytes::Bytes> {
        self.bodies.lock().all()
    }

    /// Every message with its state, in the order of the sends: for a test's checker.
    pub fn snapshot(&self) -> Vec<QueuedBody> {
        let mut bodies = self.bodies.lock();
        bodies.wake(self.clock.monotonic());
        bodies.snapshot().collect()
    }

    /// Removes every message, visible or not, as an operator may, and returns the bodies.
    pub fn purge(&self) -> Vec<bytes::Bytes> {
        let purged = std::mem::take(&mut *self.bodies.lock());
        let all = purged.all();
        self.bodies.lock().continue_ids_after(&purged);
        all
    }

    fn error(&self, op: &'static str, kind: QueueErrorKind, why: &str) -> QueueError {
        QueueError { kind, op, queue: self.name, source: (!why.is_empty()).then(|| why.into()) }
    }

    /// Refuses a batch that is too large as a whole.
    fn check_batch(&self, op: &'static str, entries: usize) -> Result<(), QueueError> {
        if entries > self.behavior.batch_max.get() as usize {
            return Err(self.error(op, QueueErrorKind::Unexpected, "too many entries in one batch"));
        }
        Ok(())
    }

    /// Receives visible messages, without those of excluded accounts. Moves messages received too often to the dead
    /// letters.
    fn receive_now(
        &self,
        passed_over: &BTreeSet<AccountId>,
        (max, visibility): (usize, Duration),
        may_be_none: bool,
    ) -> Vec<Delivery> {
        let now = self.clock.monotonic();
        let (mut deliveries, mut dead) = (Vec::new(), Vec::new());
        {
            let mut bodies = self.bodies.lock();
            bodies.wake(now);
            let mut max = max.min(bodies.visible_but(passed_over));
            if max > 0 && happens(&*self.chance, self.behavior.short_receives_per_mille) {
                let least = usize::from(!may_be_none);
                max = least + below(&*self.chance, (max + 1 - least) as u64) as usize;
            }
            while deliveries.len() < max {
                let visible = bodies.visible_but(passed_over);
                if visible == 0 {
                    break;
                }
                let Some(at) = bodies.slot(below(&*self.chance, visible as u64) as usize, passed_over) else { break };
                if self.dead_letters.is_some() && bodies.receive_count(at) >= self.behavior.max_receive_count {
                    dead.extend(bodies.remove_visible(at));
                    continue;
                }
                if happens(&*self.chance, self.behavior.duplicates_per_mille) {
                    bodies.copy_visible(at);
                }
                deliveries.extend(bodies.receive_visible(at, now, visibility).map(ReceivedBody::into_delivery));
            }
        }
        if let Some(dead_letters) = &self.dead_letters
            && !dead.is_empty()
        {
            for dead in dead {
                dead_letters.bodies.lock().add(dead, dead_letters.clock.monotonic(), Duration::ZERO);
            }
            dead_letters.changed.notify_waiters();
        }
        deliveries
    }

    /// A count as `depth` returns it.
    fn inexact(&self, exact: u64) -> u64 {
        let most_off = exact * u64::from(self.behavior.depth_error_percent) / 100;
        exact - most_off + below(&*self.chance, 2 * most_off + 1)
    }

    /// Applies `change` to each delivery that still counts under its receipt.
    fn change_each(
        &self,
        op: &'static str,
        receipts: &[Receipt],
        mut change: impl FnMut(&mut Bodies, u64),
    ) -> Result<BatchReport, QueueError> {
        self.check_batch(op, receipts.len())?;
        let mut report = BatchReport::default();
        let mut bodies = self.bodies.lock();
        bodies.wake(self.clock.monotonic());
        for (index, receipt) in receipts.iter().enumerate() {
            match bodies.find(receipt, self.behavior.fences_stale_receipts) {
                Ok(Some(id)) => change(&mut bodies, id),
                Ok(None) => {}
                Err(why) => report.failed.push((index, self.error(op, QueueErrorKind::Unexpected, why))),
            }
        }
        Ok(report)
    }
}

#[async_trait]
impl TaskQueue for MemoryQueue {
    fn name(&self) -> QueueName {
        self.name
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            batch_max: self.behavior.batch_max,
            body_bytes_max: self.behavior.body_bytes_max,
            delay_max: Self::DELAY_MAX,
            visibility_max: Self::VISIBILITY_MAX,
            visibility_total_max: self.behavior.visibility_total_max,
            fences_stale_receipts: self.behavior.fences_stale_receipts,
            can_exclude_accounts: self.behavior.knows_accounts,
        }
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.check_batch("send", out.len())?;
        let (now, sent_at) = (self.clock.monotonic(), self.clock.now());
        let mut report = BatchReport::default();
        {
            let mut bodies = self.bodies.lock();
            for (index, one) in out.iter().enumerate() {
                if one.body.len() > self.behavior.body_bytes_max {
                    report.failed.push((index, self.error("send", QueueErrorKind::TooLarge, "")));
                } else if one.delay > Self::DELAY_MAX {
                    let error = self.error("send", QueueErrorKind::Unexpected, "the delay is too long");
                    report.failed.push((index, error));
                } else {
                    let sent = SentBody { group: one.group.clone(), body: one.body.clone(), sent_at };
                    bodies.add(sent, now, one.delay);
                }
            }
        }
        self.changed.notify_waiters();
        Ok(report)
    }

    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        if visibility > Self::VISIBILITY_MAX {
            return Err(self.error("receive", QueueErrorKind::Unexpected, "the visibility timeout is too long"));
        }
        let nobody = BTreeSet::new();
        let accounts = if self.behavior.knows_accounts { &passed_over.accounts } else { &nobody };
        let max = max.min(self.behavior.batch_max).get() as usize;
        let until = self.clock.monotonic().plus(wait);
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Enabled before the receive, so that a message sent in between wakes the wait.
            changed.as_mut().enable();
            let deliveries = self.receive_now(accounts, (max, visibility), wait.is_zero());
            let now = self.clock.monotonic();
            if !deliveries.is_empty() || now >= until || passed_over.over.is_cancelled() {
                return Ok(deliveries);
            }
            let next = self.bodies.lock().next_waking().map_or(until, |waking| waking.min(until));
            let sleep = self.clock.sleep(next.since(now));
            let over = std::pin::pin!(passed_over.over.cancelled());
            futures::future::select(changed, futures::future::select(sleep, over)).await;
        }
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.check_batch("extend", receipts.len())?;
        let now = self.clock.monotonic();
        let mut bodies = self.bodies.lock();
        bodies.wake(now);
        let extend = |receipt| -> Result<Monotonic, QueueError> {
            let expired = |why| self.error("extend", QueueErrorKind::ReceiptExpired, why);
            let id = bodies.find(receipt, self.behavior.fences_stale_receipts).map_err(expired)?;
            let id = id.ok_or_else(|| expired(""))?;
            let received = bodies.received(id).ok_or_else(|| expired(""))?;
            let deadline = now.plus(visibility);
            if deadline > received.plus(self.behavior.visibility_total_max) {
                let why = "the total time in flight would be too long";
                return Err(self.error("extend", QueueErrorKind::Unexpected, why));
            }
            bodies.hide_until(id, deadline);
            Ok(deadline)
        };
        let extended = receipts.iter().map(extend).collect();
        drop(bodies);
        // A deadline may be earlier now: waiting receivers must check again.
        self.changed.notify_waiters();
        Ok(extended)
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        let now = self.clock.monotonic();
        let report = self.change_each("release", receipts, |bodies, id| bodies.show(id, now))?;
        self.changed.notify_waiters();
        Ok(report)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.change_each("acknowledge", receipts, Bodies::remove)
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let mut bodies = self.bodies.lock();
        bodies.wake(self.clock.monotonic());
        Ok(QueueDepth {
            visible: self.inexact(bodies.visible() as u64),
            in_flight: self.inexact(bodies.in_flight() as u64),
            delayed: self.inexact(bodies.delayed() as u64),
            oldest_age: bodies.oldest().map(|sent_at| self.clock.now().since(sent_at)),
        })
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let exact = || self.bodies.lock().count_of(group);
        Ok(self.behavior.knows_accounts.then(|| self.inexact(exact())))
    }
}

/// All seven queues, with redrive into `dead-letter`.
#[derive(Debug, Clone)]
pub struct MemoryQueues(BTreeMap<QueueName, Arc<MemoryQueue>>);

impl MemoryQueues {
    /// Seven empty queues.
    pub fn new(behavior: &QueueBehavior, clock: &Arc<dyn Clock>, chance: &Arc<dyn Rng>) -> Self {
        let queue =
            |name, redrive| Arc::new(MemoryQueue::new(name, behavior.clone(), clock.clone(), chance.clone(), redrive));
        let dead_letters = queue(QueueName::DeadLetter, None);
        let mut queues: BTreeMap<_, _> = QueueName::ALL
            .into_iter()
            .filter(|name| *name != QueueName::DeadLetter)
            .map(|name| (name, queue(name, Some(dead_letters.clone()))))
            .collect();
        queues.insert(QueueName::DeadLetter, dead_letters);
        Self(queues)
    }

    /// One of them.
    pub fn get(&self, name: QueueName) -> Arc<MemoryQueue> {
        self.0[&name].clone()
    }

    /// All of them, as ports.
    pub fn ports(&self) -> BTreeMap<QueueName, Arc<dyn TaskQueue>> {
        self.0.iter().map(|(name, queue)| (*name, queue.clone() as Arc<dyn TaskQueue>)).collect()
    }
}

#[cfg(test)]
mod tests;
