//! The queues: mill-engine's in memory, and each process's way to them. Here bodies are doubled and come late.

mod calls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mill_engine::MemoryQueue;
use mill_model::{Monotonic, QueueName};
use mill_ports::{Delivery, OutgoingMessage, Receipt, TaskQueue as _};

use super::event::{Event, OPERATOR, Sealed};
use super::world::{World, lock};

pub(crate) use self::calls::Slot;

/// A queue.
pub(crate) struct Desk {
    pub(crate) name: QueueName,
    pub(crate) inner: Arc<MemoryQueue>,
    /// Bodies that are on their way for hours, by when they arrive.
    late: Mutex<BTreeMap<(Monotonic, u64), OutgoingMessage>>,
    /// Until when it takes no batch.
    pub(super) deaf_until: Mutex<Monotonic>,
    /// What was received, by receipt.
    received: Mutex<BTreeMap<Receipt, Arc<Sealed>>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(name: QueueName, inner: Arc<MemoryQueue>) -> Arc<Self> {
        Arc::new(Self { name, inner, late: Mutex::default(), deaf_until: Mutex::default(), received: Mutex::default() })
    }

    /// Puts one body into the queue, at once or by and by.
    async fn put(&self, world: &World, by: &str, one: OutgoingMessage, late: Option<Duration>) -> bool {
        let sealed = Sealed::of(&one.body);
        let due = world.now().plus(late.unwrap_or(one.delay));
        if let Some(late) = late {
            let until = world.now().plus(late);
            lock(&self.late).insert((until, world.dice.next()), one);
        } else {
            let report = self.inner.send(std::slice::from_ref(&one)).await;
            if !report.is_ok_and(|report| report.failed.is_empty()) {
                return false;
            }
        }
        world.see(&Event::Sent { by, queue: self.name, sealed: &sealed, due });
        true
    }

    /// A body that no task of Mill's sent.
    pub(crate) async fn put_strange(&self, world: &World, by: &str, one: OutgoingMessage) {
        self.put(world, by, one, None).await;
    }

    /// Lets late bodies arrive whose time has come. They are in the queue's books already.
    pub(crate) async fn arrive(&self, now: Monotonic) {
        loop {
            let due = {
                let mut late = lock(&self.late);
                let first = late.first_key_value().map(|(key, _)| *key).filter(|(until, _)| *until <= now);
                first.and_then(|key| late.remove(&key))
            };
            let Some(due) = due else { return };
            let one = OutgoingMessage { delay: Duration::ZERO, ..due };
            let _ = self.inner.send(&[one]).await;
        }
    }

    /// Takes no batch until then.
    pub(crate) fn deaf_until(&self, until: Monotonic) {
        *lock(&self.deaf_until) = until;
    }

    /// When the next late body arrives.
    pub(crate) fn next_late(&self) -> Option<Monotonic> {
        lock(&self.late).first_key_value().map(|((until, _), _)| *until)
    }

    /// Whether so much is in it that nothing more should be doubled: a task that is put off again and again, and doubled
    /// more often than it is done, would become any number of tasks.
    fn is_crowded(&self) -> bool {
        self.held() > 150
    }

    /// All bodies, wherever they are.
    pub(crate) fn held(&self) -> usize {
        self.inner.bodies().len() + lock(&self.late).len()
    }

    fn note(&self, delivery: &Delivery) -> Arc<Sealed> {
        let sealed = Sealed::of(&delivery.body);
        lock(&self.received).insert(delivery.receipt.clone(), sealed.clone());
        sealed
    }

    /// Acknowledges one delivery; an event only if its body really left.
    async fn acknowledge(&self, world: &World, by: &str, receipt: &Receipt) -> bool {
        let before = self.inner.bodies().len();
        let done = self.inner.acknowledge(std::slice::from_ref(receipt)).await;
        if self.inner.bodies().len() < before {
            let sealed = lock(&self.received).get(receipt).cloned();
            if let Some(sealed) = sealed {
                world.see(&Event::Acknowledged { by, queue: self.name, sealed: &sealed });
            }
        }
        done.is_ok_and(|report| report.failed.is_empty())
    }

    /// The operator throws everything away.
    pub(crate) fn purge(&self, world: &World) -> usize {
        let late = std::mem::take(&mut *lock(&self.late)).into_values().map(|one| one.body);
        let all: Vec<Bytes> = self.inner.purge().into_iter().chain(late).collect();
        for body in &all {
            world.see(&Event::Purged { queue: self.name, sealed: &Sealed::of(body) });
        }
        world.note(OPERATOR, format_args!("{} purged of {} bodies", self.name, all.len()));
        all.len()
    }
}
