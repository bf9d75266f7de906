//! All deliveries in flight, each from its receive until it is settled, so that their leases can be kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Clock, Delivery, DeliveryLease, Receipt};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Why an attempt was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelCause {
    /// Another workman may have the task by now.
    LeaseLost,
    /// The queue lets no delivery be held for longer.
    HeldTooLong,
    /// The permits at a store ran out: another workman may have them by now.
    PermitsLost,
    /// The workman stops.
    Stopping,
}

/// One delivery in flight: its lease, and the token of its attempt.
#[derive(Debug)]
pub(crate) struct InFlightTask {
    /// Index of the queue that the delivery came from.
    pub(crate) queue_index: usize,
    pub(crate) receipt: Receipt,
    pub(crate) lease: DeliveryLease,
    pub(crate) cancelled: CancellationToken,
    /// From when the queue counts how long the delivery is held.
    pub(crate) received_at: Monotonic,
    cause: OnceLock<CancelCause>,
    /// The stores at which the task has permits, once its attempt has begun.
    pub(crate) stores: OnceLock<Vec<StoreAddress>>,
    /// Whether an extension is under way.
    pub(crate) extending: AtomicBool,
}

impl InFlightTask {
    /// Cancels the attempt. The first cause stays.
    pub(crate) fn cancel(&self, cause: CancelCause) {
        let _ = self.cause.set(cause);
        self.cancelled.cancel();
    }

    /// Why the attempt was cancelled, if it was.
    pub(crate) fn cancel_cause_if_any(&self) -> Option<CancelCause> {
        self.cause.get().copied()
    }

    /// Why the attempt was cancelled.
    pub(crate) fn cause(&self) -> CancelCause {
        self.cancel_cause_if_any().unwrap_or(CancelCause::LeaseLost)
    }
}

/// All deliveries in flight.
#[derive(Debug)]
pub(crate) struct InFlightTasks {
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    tasks: Mutex<BTreeMap<u64, Arc<InFlightTask>>>,
}

impl InFlightTasks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, next: AtomicU64::new(0), tasks: Mutex::default() }
    }

    /// Registers a delivery. Its lease is kept until the returned guard is dropped.
    pub(crate) fn register(
        self: &Arc<Self>,
        queue_index: usize,
        delivery: &Delivery,
        visibility: Duration,
    ) -> InFlightGuard {
        let task = Arc::new(InFlightTask {
            queue_index,
            receipt: delivery.receipt.clone(),
            lease: DeliveryLease::until(self.clock.clone(), delivery.deadline),
            cancelled: CancellationToken::new(),
            received_at: Monotonic::from_origin(delivery.deadline.since_origin().saturating_sub(visibility)),
            cause: OnceLock::new(),
            stores: OnceLock::new(),
            extending: AtomicBool::new(false),
        });
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(key, task.clone());
        InFlightGuard { key, task, registry: self.clone() }
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The deliveries in flight now.
    pub(crate) fn tasks(&self) -> Vec<Arc<InFlightTask>> {
        self.lock().values().cloned().collect()
    }

    /// Cancels every attempt.
    pub(crate) fn cancel_all(&self, cause: CancelCause) {
        for task in self.tasks() {
            task.cancel(cause);
        }
    }

    /// Cancels every attempt that has a permit at a store.
    pub(crate) fn cancel_users_of(&self, store: &StoreAddress) {
        let has_permit = |task: &Arc<InFlightTask>| task.stores.get().is_some_and(|stores| stores.contains(store));
        self.tasks().iter().filter(|entry| has_permit(entry)).for_each(|entry| entry.cancel(CancelCause::PermitsLost));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<InFlightTask>>> {
        self.tasks.lock()
    }
}

/// Keeps one delivery's lease until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    key: u64,
    pub(crate) task: Arc<InFlightTask>,
    registry: Arc<InFlightTasks>,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}
