//! Items whose store asks to slow down at each try, while it serves others: one key may be throttled for ever.
//!
//! A store that asks to slow down is left alone for a while, and no failure is counted: it is well. Where it says so of one
//! item for long, and others came through meanwhile, waiting is no use: the item is refused by name, and the next run tries it.
//! While many are told so it is the store that is busy, and all of them wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};

/// Items that are followed in one store. Of more it is the store that is busy.
const FOLLOWED_MAX: usize = 1_000;

/// For each further item that is told to wait so many others must have come through.
const SERVED_FOR_EACH: u64 = 10;

/// What is followed of each store that asked to slow down.
#[derive(Debug)]
pub(crate) struct SlowItems {
    give_up_after: Duration,
    /// Spares the lock where no store asks.
    any: AtomicBool,
    stores: Mutex<BTreeMap<StoreAddress, OfStore>>,
}

#[derive(Debug, Default)]
struct OfStore {
    served: u64,
    items: BTreeMap<String, Slow>,
}

/// An item that was told to wait at each try since then.
#[derive(Debug, Clone, Copy)]
struct Slow {
    since: Monotonic,
    last: Monotonic,
    served_before: u64,
}

impl SlowItems {
    /// Gives items up that wait for so long.
    pub(crate) fn new(give_up_after: Duration) -> Self {
        Self { give_up_after, any: AtomicBool::new(false), stores: Mutex::default() }
    }

    /// Notes that a store asked to slow down at an item. Says for how long it has done so, where the item is to be given up: a
    /// little before its time is up, since it would come again only after it.
    pub(crate) fn told_to_wait(&self, store: &StoreAddress, subject: &str, now: Monotonic) -> Option<Duration> {
        self.any.store(true, Ordering::Release);
        let mut stores = self.lock();
        let of_store = stores.entry(store.clone()).or_default();
        let (served, followed) = (of_store.served, of_store.items.len());
        let Some(slow) = of_store.items.get_mut(subject) else {
            if followed < FOLLOWED_MAX {
                of_store.items.insert(subject.to_owned(), Slow { since: now, last: now, served_before: served });
            }
            return None;
        };
        let (waited, next) = (now.since(slow.since), now.since(slow.last).saturating_mul(3));
        slow.last = now;
        let others = followed as u64 - 1;
        let alone = served - slow.served_before > others.saturating_mul(SERVED_FOR_EACH);
        if !alone || waited.saturating_add(next) < self.give_up_after {
            return None;
        }
        of_store.items.remove(subject);
        Some(waited)
    }

    /// Notes that stores did what was asked for an item.
    pub(crate) fn served(&self, stores_used: &[StoreAddress], subject: &str) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut stores = self.lock();
        for store in stores_used {
            if let Some(of_store) = stores.get_mut(store) {
                of_store.served += 1;
                of_store.items.remove(subject);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreAddress, OfStore>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;

    const GIVE_UP_AFTER: Duration = Duration::from_secs(100);

    fn store() -> StoreAddress {
        StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() }
    }

    /// Items that are told to wait every ten seconds, and so many others that come through after each time: when the first is
    /// given up, if ever.
    fn given_up(slow: usize, served: usize) -> Option<u64> {
        let items = SlowItems::new(GIVE_UP_AFTER);
        for seconds in (0..1_000).step_by(10) {
            for item in 0..slow {
                let now = Monotonic::from_origin(Duration::from_secs(seconds));
                if items.told_to_wait(&store(), &item.to_string(), now).is_some() {
                    return Some(seconds);
                }
            }
            for _ in 0..served {
                items.served(&[store()], "other");
            }
        }
        None
    }

    #[test]
    fn an_item_that_always_waits_while_others_are_served_is_given_up_in_time() {
        assert_eq!(given_up(1, 1), Some(70));
        assert_eq!(given_up(3, 10), Some(70));
    }

    #[test]
    fn while_a_store_serves_nobody_or_tells_many_to_wait_none_is_given_up() {
        assert_eq!(given_up(1, 0), None);
        assert_eq!(given_up(1_000, 10), None);
    }

    #[test]
    fn an_item_that_comes_through_begins_anew() {
        let items = SlowItems::new(GIVE_UP_AFTER);
        let at = |seconds| Monotonic::from_origin(Duration::from_secs(seconds));
        for seconds in [0, 50] {
            assert_eq!(items.told_to_wait(&store(), "x", at(seconds)), None);
            items.served(&[store()], "x");
        }
        assert_eq!(items.told_to_wait(&store(), "x", at(99)), None);
    }
}
