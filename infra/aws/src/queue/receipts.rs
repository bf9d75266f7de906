//! What this process knows of the receipts that it was given.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mill_model::Monotonic;
use mill_ports::Receipt;

/// One delivery, as its receiver sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiptState {
    /// Before the request that received it left.
    pub(super) received: Monotonic,
    /// Until when it surely stays hidden; `None` once it was given back or acknowledged.
    pub(super) deadline: Option<Monotonic>,
}

/// All of them. One is forgotten some time after its deadline: what is then asked of it, the service decides.
#[derive(Debug, Default)]
pub(super) struct ReceiptTable(Mutex<ReceiptMap>);

#[derive(Debug, Default)]
struct ReceiptMap {
    held: BTreeMap<Receipt, (ReceiptState, bool)>,
    /// At how many the old ones are looked for next.
    tidy_at: usize,
}

impl ReceiptTable {
    fn known(&self) -> MutexGuard<'_, ReceiptMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a delivery.
    pub(super) fn take(&self, receipt: &Receipt, holding: ReceiptState, now: Monotonic) {
        const TIDY_LEAST: usize = 2048;
        let mut known = self.known();
        if known.held.len() >= known.tidy_at.max(TIDY_LEAST) {
            known.held.retain(|_, (held, _)| held.deadline.is_some_and(|deadline| deadline > now));
            known.tidy_at = known.held.len() * 2;
        }
        known.held.insert(receipt.clone(), (holding, false));
    }

    pub(super) fn get(&self, receipt: &Receipt) -> Option<ReceiptState> {
        self.known().held.get(receipt).map(|(held, _)| *held)
    }

    /// Moves a deadline, unless the delivery was given back or acknowledged meanwhile.
    pub(super) fn extend(&self, receipt: &Receipt, until: Monotonic) {
        if let Some((ReceiptState { deadline: Some(deadline), .. }, _)) = self.known().held.get_mut(receipt) {
            *deadline = until;
        }
    }

    /// Notes that a delivery is over: given back, or lost.
    pub(super) fn end(&self, receipt: &Receipt) {
        if let Some((held, _)) = self.known().held.get_mut(receipt) {
            held.deadline = None;
        }
    }

    /// Notes that it is gone for good.
    pub(super) fn acknowledge(&self, receipt: &Receipt) {
        if let Some((held, acknowledged)) = self.known().held.get_mut(receipt) {
            held.deadline = None;
            *acknowledged = true;
        }
    }

    pub(super) fn acknowledged(&self, receipt: &Receipt) -> bool {
        self.known().held.get(receipt).is_some_and(|(_, acknowledged)| *acknowledged)
    }
}
