//! The accounts of which a receive brings no task, since enough of theirs wait here.
//!
//! A queue knows the account of a task, and not its stores. So an account is excluded only where none of its recently received
//! tasks could begin: otherwise tasks for one full store would hide tasks for another store that is free. *Recently* is within a
//! second. An account that is excluded for longer is received once more, so that its other tasks are found behind many for a
//! full store; tasks that came in vain are requeued as usual.
//!
//! Enough is one receive less than a bench holds, so that the tasks of the next receive have room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, Monotonic, StoreAddress};

use super::{Admission, CapacityGate, WaitingTask};

/// Tasks received longer ago say nothing of what a receive would bring now.
const OF_LATE: Duration = Duration::from_secs(1);

/// The stores of recently received tasks, by account, each with the last time.
pub(super) type RecentStores = BTreeMap<AccountId, BTreeMap<Vec<StoreAddress>, Monotonic>>;

impl CapacityGate {
    /// Whether enough tasks wait here: those that begin next, and those after them.
    fn has_enough(&self) -> bool {
        self.cap.is_some_and(|cap| self.benched >= cap.get().saturating_mul(2))
    }
}

impl<T> Admission<T> {
    /// Notes a task that was received from a queue.
    pub(super) fn note_received(&mut self, queue_index: usize, waiting: &WaitingTask<T>, now: Monotonic) {
        let recent = &mut self.benches[queue_index].recent;
        if let Some(at) = recent.get_mut(&waiting.account).and_then(|stores| stores.get_mut(&waiting.stores)) {
            *at = now;
        } else {
            recent.entry(waiting.account.clone()).or_default().insert(waiting.stores.clone(), now);
        }
    }

    /// The accounts of which a receive from the queue at `queue_index` must bring nothing.
    pub(crate) fn excluded_accounts(&mut self, queue_index: usize, now: Monotonic) -> BTreeSet<AccountId> {
        let mut recent = std::mem::take(&mut self.benches[queue_index].recent);
        recent.retain(|_, by_stores| {
            by_stores.retain(|_, at| now.since(*at) < OF_LATE);
            !by_stores.is_empty()
        });
        let has_enough = |stores: &Vec<StoreAddress>| {
            stores.iter().filter_map(|store| self.gates.get(store)).any(CapacityGate::has_enough)
        };
        let excluded = recent
            .iter()
            .filter(|(account, by_stores)| self.account_has_enough(account) || by_stores.keys().all(has_enough));
        let excluded = excluded.map(|(account, _)| account.clone()).collect();
        self.benches[queue_index].recent = recent;
        excluded
    }

    /// Whether an account has all slots that it may have, and enough of its tasks wait.
    fn account_has_enough(&self, account: &AccountId) -> bool {
        let enough = |share: std::num::NonZeroU32| {
            let benched = self.accounts.get(account).map_or(0, |gate| gate.benched);
            benched >= share.get().saturating_mul(2)
        };
        !self.account_has_room(account) && self.share(account).is_some_and(enough)
    }
}
