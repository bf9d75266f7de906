//! Items that their store throttles at each try while it serves others: one key may be throttled for ever.
//!
//! A store that throttles is backed off from, and no failure is counted. If it throttles one item for long while others
//! succeed, waiting is of no use: the item is refused by name, and the next run tries it again. While many items are throttled,
//! the store is busy, and all of them wait.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::{Monotonic, SpaceId, StoreAddress};
use parking_lot::{Mutex, MutexGuard};

/// If more items than this are throttled, the store is busy.
const TRACKED_MAX: usize = 100;

/// How many other items must have succeeded for each further throttled item.
const SERVED_FOR_EACH: u64 = 10;

/// Tracks throttled items for each space of a store: a service may throttle one bucket and serve others.
#[derive(Debug)]
pub(crate) struct SlowItems {
    give_up_after: Duration,
    known: Mutex<ThrottleState>,
}

#[derive(Debug, Default)]
struct ThrottleState {
    spaces: BTreeMap<(StoreAddress, SpaceId), SpaceThrottling>,
    /// When idle spaces were forgotten last.
    forgot: Monotonic,
}

impl ThrottleState {
    /// The entry of a space. Forgets spaces that have had no task for long.
    fn of(
        &mut self,
        (store, space): (&StoreAddress, &SpaceId),
        now: Monotonic,
        long: Duration,
    ) -> &mut SpaceThrottling {
        if now.since(self.forgot) >= long.saturating_mul(2) {
            self.forgot = now;
            for of_space in self.spaces.values_mut() {
                of_space.items.retain(|_, slow| now.since(slow.last) < long.saturating_mul(2));
            }
            let is_recent = |of: &SpaceThrottling| now.since(of.served.since) < long.saturating_mul(2);
            self.spaces.retain(|_, of| !of.items.is_empty() || is_recent(of));
        }
        self.spaces.entry((store.clone(), space.clone())).or_default()
    }
}

#[derive(Debug, Default)]
struct SpaceThrottling {
    served: ServedCounts,
    /// The items that were throttled at each try.
    items: BTreeMap<String, SlowItem>,
}

/// How many items succeeded in this period and in the one before.
#[derive(Debug, Default, Clone, Copy)]
struct ServedCounts {
    since: Monotonic,
    now: u64,
    before: u64,
}

/// When an item was throttled first and last.
#[derive(Debug, Clone, Copy)]
struct SlowItem {
    since: Monotonic,
    last: Monotonic,
}

impl ServedCounts {
    /// Begins a new period if this one is `long`.
    fn roll_over(&mut self, now: Monotonic, long: Duration) {
        let gone = now.since(self.since);
        if gone >= long {
            let before = if gone < long.saturating_mul(2) { self.now } else { 0 };
            *self = Self { since: now, now: 0, before };
        }
    }
}

impl SlowItems {
    /// Items are given up once they were throttled for so long.
    pub(crate) fn new(give_up_after: Duration) -> Self {
        Self { give_up_after, known: Mutex::default() }
    }

    /// Notes that a store throttled an item. Returns for how long it has done so if the item is to be given up: a little before
    /// the time is up, since the item would come again only after that.
    pub(crate) fn note_throttled(
        &self,
        (store, space): (&StoreAddress, &SpaceId),
        subject: &str,
        now: Monotonic,
    ) -> Option<Duration> {
        let mut known = self.lock();
        let SpaceThrottling { served, items } = known.of((store, space), now, self.give_up_after);
        served.roll_over(now, self.give_up_after);
        let tracked = items.len();
        let Some(slow) = items.get_mut(subject) else {
            if tracked < TRACKED_MAX {
                items.insert(subject.to_owned(), SlowItem { since: now, last: now });
            }
            return None;
        };
        let (waited, next) = (now.since(slow.since), now.since(slow.last).saturating_mul(2));
        slow.last = now;
        let others = tracked as u64 - 1;
        let alone = tracked < TRACKED_MAX && served.before + served.now > others * SERVED_FOR_EACH;
        if !alone || waited.saturating_add(next) < self.give_up_after {
            return None;
        }
        items.remove(subject);
        Some(waited)
    }

    /// Notes that the task of an item succeeded at these stores.
    pub(crate) fn note_served(&self, (stores, space): (&[StoreAddress], &SpaceId), subject: &str, now: Monotonic) {
        let mut known = self.lock();
        for store in stores {
            let SpaceThrottling { served, items } = known.of((store, space), now, self.give_up_after);
            served.roll_over(now, self.give_up_after);
            served.now += 1;
            items.remove(subject);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleState> {
        self.known.lock()
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;

    const GIVE_UP_AFTER: Duration = Duration::from_secs(100);

    fn space() -> SpaceId {
        SpaceId::new("s").unwrap()
    }

    fn store() -> StoreAddress {
        StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_origin(Duration::from_secs(seconds))
    }

    /// Items that are told to wait every ten seconds from the hundredth on, and so many others that came through before, and
    /// come through after each time: after how many seconds the first is given up, if ever.
    fn given_up(slow: usize, before: usize, served: usize) -> Option<u64> {
        let items = SlowItems::new(GIVE_UP_AFTER);
        let serve = |seconds| items.note_served((&[store()], &space()), "other", at(seconds));
        (0..before).for_each(|_| serve(99));
        for seconds in (0..1_000).step_by(10) {
            for item in 0..slow {
                if items.note_throttled((&store(), &space()), &item.to_string(), at(100 + seconds)).is_some() {
                    return Some(seconds);
                }
            }
            (0..served).for_each(|_| serve(100 + seconds));
        }
        None
    }

    #[test]
    fn an_item_that_always_waits_while_others_are_served_is_given_up_in_time() {
        assert_eq!(given_up(1, 0, 1), Some(80));
        assert_eq!(given_up(1, 1, 0), Some(80));
        assert_eq!(given_up(3, 0, 10), Some(80));
    }

    #[test]
    fn while_a_store_serves_nobody_or_tells_many_to_wait_none_is_given_up() {
        assert_eq!(given_up(1, 0, 0), None);
        assert_eq!(given_up(3, 10, 0), None);
        assert_eq!(given_up(TRACKED_MAX, 0, 10_000), None);
    }

    #[test]
    fn an_item_that_comes_through_begins_anew() {
        let items = SlowItems::new(GIVE_UP_AFTER);
        for seconds in [0, 50] {
            assert_eq!(items.note_throttled((&store(), &space()), "x", at(seconds)), None);
            items.note_served((&[store()], &space()), "x", at(seconds));
        }
        assert_eq!(items.note_throttled((&store(), &space()), "x", at(99)), None);
    }
}
