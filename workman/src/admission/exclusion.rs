//! Whose tasks a receive is not to bring, since enough of them wait here.
//!
//! A queue knows whose a task is, and not its stores. So an account is passed over where nothing of it that a receive of late
//! brought could begin: else what waits for one store of it would hide what another is free for. *Of late* is a second: an
//! account that is passed over for longer is received once more, so that others of its tasks are found behind many for a
//! full store; what was brought for nothing is put back as ever.
//!
//! Enough is less than a bench holds, by one receive: what a receive brings then has room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, Monotonic, StoreAddress};

use super::{Admission, CapacityGate, WaitingTask};

/// What was received longer ago says nothing of what a receive would bring now.
const OF_LATE: Duration = Duration::from_secs(1);

/// The stores of the tasks that a queue gave of late, by account, each with when it last did.
pub(super) type RecentStores = BTreeMap<AccountId, BTreeMap<Vec<StoreAddress>, Monotonic>>;

impl CapacityGate {
    /// Whether as many wait for it as are begun next, and those after them.
    fn has_enough(&self) -> bool {
        self.cap.is_some_and(|cap| self.benched >= cap.get().saturating_mul(2))
    }
}

impl<T> Admission<T> {
    /// Takes note of what a queue gave.
    pub(super) fn note_received(&mut self, queue_index: usize, waiting: &WaitingTask<T>, now: Monotonic) {
        let recent = &mut self.benches[queue_index].recent;
        if let Some(at) = recent.get_mut(&waiting.account).and_then(|stores| stores.get_mut(&waiting.stores)) {
            *at = now;
        } else {
            recent.entry(waiting.account.clone()).or_default().insert(waiting.stores.clone(), now);
        }
    }

    /// The accounts of which a receive from the queue at `queue_index` is to bring nothing.
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

    /// Whether an account has all slots that it may have, and enough waits for them.
    fn account_has_enough(&self, account: &AccountId) -> bool {
        let enough = |share: std::num::NonZeroU32| {
            let benched = self.accounts.get(account).map_or(0, |gate| gate.benched);
            benched >= share.get().saturating_mul(2)
        };
        !self.account_has_room(account) && self.share(account).is_some_and(enough)
    }
}
