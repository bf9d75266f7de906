//! What this process knows about the receipts that it received.

use std::collections::BTreeMap;

use mill_model::Monotonic;
use mill_ports::Receipt;
use parking_lot::{Mutex, MutexGuard};

/// The state of one delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiptState {
    /// Taken before the receive request was sent.
    pub(super) received: Monotonic,
    /// Until when the message surely stays hidden; `None` once it was released or acknowledged.
    pub(super) deadline: Option<Monotonic>,
}

/// The receipts. An entry is dropped some time after its deadline; from then on the service decides on requests with that
/// receipt.
#[derive(Debug, Default)]
pub(super) struct ReceiptTable(Mutex<ReceiptMap>);

#[derive(Debug, Default)]
struct ReceiptMap {
    states: BTreeMap<Receipt, (ReceiptState, bool)>,
    /// The number of entries at which expired ones are dropped next.
    prune_at: usize,
}

impl ReceiptTable {
    fn lock(&self) -> MutexGuard<'_, ReceiptMap> {
        self.0.lock()
    }

    /// Adds a delivery.
    pub(super) fn insert(&self, receipt: &Receipt, state: ReceiptState, now: Monotonic) {
        const PRUNE_MIN: usize = 2048;
        let mut map = self.lock();
        if map.states.len() >= map.prune_at.max(PRUNE_MIN) {
            map.states.retain(|_, (state, _)| state.deadline.is_some_and(|deadline| deadline > now));
            map.prune_at = map.states.len() * 2;
        }
        map.states.insert(receipt.clone(), (state, false));
    }

    pub(super) fn get(&self, receipt: &Receipt) -> Option<ReceiptState> {
        self.lock().states.get(receipt).map(|(state, _)| *state)
    }

    /// Moves a deadline, unless the delivery was released or acknowledged meanwhile.
    pub(super) fn extend(&self, receipt: &Receipt, until: Monotonic) {
        if let Some((ReceiptState { deadline: Some(deadline), .. }, _)) = self.lock().states.get_mut(receipt) {
            *deadline = until;
        }
    }

    /// Notes that a delivery ended: released, or expired.
    pub(super) fn close(&self, receipt: &Receipt) {
        if let Some((state, _)) = self.lock().states.get_mut(receipt) {
            state.deadline = None;
        }
    }

    /// Notes that a delivery was acknowledged.
    pub(super) fn acknowledge(&self, receipt: &Receipt) {
        if let Some((state, acknowledged)) = self.lock().states.get_mut(receipt) {
            state.deadline = None;
            *acknowledged = true;
        }
    }

    pub(super) fn acknowledged(&self, receipt: &Receipt) -> bool {
        self.lock().states.get(receipt).is_some_and(|(_, acknowledged)| *acknowledged)
    }
}
