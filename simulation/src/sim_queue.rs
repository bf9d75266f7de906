//! The queues: in-memory queues that deliver bodies twice and late, and each process's client of them.

mod calls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{Monotonic, QueueName};
use mill_ports::{Delivery, OutgoingMessage, Receipt, TaskQueue as _};
use mill_testkit::MemoryQueue;
use parking_lot::Mutex;

use super::event::{DecodedBody, Event, OPERATOR};
use super::world::World;

pub(crate) use self::calls::QueueClient;

/// A simulated queue.
pub(crate) struct SimQueue {
    pub(crate) name: QueueName,
    pub(crate) inner: Arc<MemoryQueue>,
    /// Bodies that arrive late, by arrival time.
    late: Mutex<BTreeMap<(Monotonic, u64), OutgoingMessage>>,
    /// Until when the queue takes no batch.
    pub(super) deaf_until: Mutex<Monotonic>,
    /// The received bodies, by receipt.
    received: Mutex<BTreeMap<Receipt, Arc<DecodedBody>>>,
}

impl fmt::Debug for SimQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimQueue").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SimQueue {
    pub(crate) fn new(name: QueueName, inner: Arc<MemoryQueue>) -> Arc<Self> {
        Arc::new(Self { name, inner, late: Mutex::default(), deaf_until: Mutex::default(), received: Mutex::default() })
    }

    /// Puts one body into the queue, now or late.
    async fn put(&self, world: &World, by: &str, one: OutgoingMessage, late: Option<Duration>) -> bool {
        let decoded = DecodedBody::of(&one.body);
        let due = world.now().plus(late.unwrap_or(one.delay));
        if let Some(late) = late {
            let until = world.now().plus(late);
            self.late.lock().insert((until, world.rng.next()), one);
        } else {
            let report = self.inner.send(std::slice::from_ref(&one)).await;
            if !report.is_ok_and(|report| report.failed.is_empty()) {
                return false;
            }
        }
        world.see(&Event::Sent { by, queue: self.name, decoded: &decoded, due });
        true
    }

    /// Sends a body that does not come from Mill.
    pub(crate) async fn put_strange(&self, world: &World, by: &str, one: OutgoingMessage) {
        self.put(world, by, one, None).await;
    }

    /// Sends a body that does not come from Mill and arrives after a while.
    pub(crate) fn put_late(&self, world: &World, by: &str, one: OutgoingMessage, late: Duration) {
        let (decoded, due) = (DecodedBody::of(&one.body), world.now().plus(late));
        self.late.lock().insert((due, world.rng.next()), one);
        world.see(&Event::Sent { by, queue: self.name, decoded: &decoded, due });
    }

    /// Lets late bodies arrive that are due. The model counts them as in the queue already.
    pub(crate) async fn arrive(&self, now: Monotonic) {
        loop {
            let due = {
                let mut late = self.late.lock();
                let first = late.first_key_value().map(|(key, _)| *key).filter(|(until, _)| *until <= now);
                first.and_then(|key| late.remove(&key))
            };
            let Some(due) = due else { return };
            let one = OutgoingMessage { delay: Duration::ZERO, ..due };
            let _ = self.inner.send(&[one]).await;
        }
    }

    /// Lets the queue take no batch until then.
    pub(crate) fn deaf_until(&self, until: Monotonic) {
        *self.deaf_until.lock() = until;
    }

    /// When the next late body arrives.
    pub(crate) fn next_late(&self) -> Option<Monotonic> {
        self.late.lock().first_key_value().map(|((until, _), _)| *until)
    }

    /// Whether the queue is too full to deliver bodies twice: a task that is snoozed again and again, and doubled more often than
    /// it is done, would multiply without limit.
    fn is_crowded(&self) -> bool {
        self.held() > 150
    }

    /// The number of all bodies, including late ones.
    pub(crate) fn held(&self) -> usize {
        self.inner.bodies().len() + self.late.lock().len()
    }

    /// All bodies, also late ones.
    pub(crate) fn all_bodies(&self) -> Vec<Bytes> {
        let late = self.late.lock().values().map(|one| one.body.clone()).collect::<Vec<_>>();
        self.inner.bodies().into_iter().chain(late).collect()
    }

    fn note(&self, delivery: &Delivery) -> Arc<DecodedBody> {
        let decoded = DecodedBody::of(&delivery.body);
        self.received.lock().insert(delivery.receipt.clone(), decoded.clone());
        decoded
    }

    /// Acknowledges one delivery. Records an event only if the body really left.
    async fn acknowledge(&self, world: &World, by: &str, receipt: &Receipt) -> bool {
        let before = self.inner.bodies().len();
        let done = self.inner.acknowledge(std::slice::from_ref(receipt)).await;
        if self.inner.bodies().len() < before {
            let decoded = self.received.lock().get(receipt).cloned();
            if let Some(decoded) = decoded {
                world.see(&Event::Acknowledged { by, queue: self.name, decoded: &decoded });
            }
        }
        done.is_ok_and(|report| report.failed.is_empty())
    }

    /// The operator purges the queue.
    pub(crate) fn purge(&self, world: &World) -> usize {
        let late = std::mem::take(&mut *self.late.lock()).into_values().map(|one| one.body);
        let all: Vec<Bytes> = self.inner.purge().into_iter().chain(late).collect();
        for body in &all {
            world.see(&Event::Purged { queue: self.name, decoded: &DecodedBody::of(body) });
        }
        world.note(OPERATOR, format_args!("{} purged of {} bodies", self.name, all.len()));
        all.len()
    }
}
