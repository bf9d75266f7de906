//! Stores that are left alone for a while: they asked for it, or they cannot be used.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Chance, ChanceExt as _};

/// Why a store is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It asked for it; with its own wish, if it has one.
    Throttled(Option<Duration>),
    /// It does not answer, which may pass by itself.
    Unreachable,
    /// It cannot be used until a person has acted.
    Unavailable,
}

#[derive(Debug)]
struct Pause {
    until: Monotonic,
    /// Pauses in a row.
    strikes: u32,
}

/// The stores that are left alone, and until when.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// Spares the lock where no store has trouble.
    any: AtomicBool,
    stores: Mutex<BTreeMap<StoreAddress, Pause>>,
}

impl Pauses {
    const FIRST: Duration = Duration::from_secs(1);
    const UNAVAILABLE_MAX: Duration = Duration::from_mins(5);
    /// What passes by itself often passes soon, and people wait for it.
    const PASSING_MAX: Duration = Duration::from_secs(30);

    /// Notes trouble with a store, and says for how long it is left alone from now.
    ///
    /// Attempts that were under way when the pause began do not lengthen it.
    pub(crate) fn note(&self, store: &StoreAddress, sort: Sort, now: Monotonic, chance: &dyn Chance) -> Duration {
        let mut stores = self.lock();
        self.any.store(true, Ordering::Release);
        let pause = stores.entry(store.clone()).or_insert(Pause { until: Monotonic::default(), strikes: 0 });
        let wish = match sort {
            Sort::Throttled(wish) => wish,
            Sort::Unreachable | Sort::Unavailable => None,
        };
        if pause.until <= now {
            let most = match sort {
                Sort::Throttled(_) | Sort::Unreachable => Self::PASSING_MAX,
                Sort::Unavailable => Self::UNAVAILABLE_MAX,
            };
            let grown = Self::FIRST.saturating_mul(1 << pause.strikes.min(16)).min(most);
            // Half of it is chance, so that many workmen do not come back at once.
            let length = grown / 2 + chance.jitter(grown / 2);
            pause.until = now.plus(length);
            pause.strikes += 1;
        }
        if let Some(wish) = wish {
            pause.until = pause.until.max(now.plus(wish));
        }
        pause.until.since(now)
    }

    /// Notes that stores could be used. Says whether any of them was left alone until then.
    pub(crate) fn well(&self, stores: &[StoreAddress], now: Monotonic) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut paused = self.lock();
        let before = paused.len();
        for store in stores {
            // An attempt that began before the pause proves nothing.
            if paused.get(store).is_some_and(|pause| pause.until <= now) {
                paused.remove(store);
            }
        }
        self.any.store(!paused.is_empty(), Ordering::Release);
        paused.len() < before
    }

    /// The longest remaining pause of these stores, if any of them is left alone now.
    pub(crate) fn remaining(&self, stores: &[StoreAddress], now: Monotonic) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let paused = self.lock();
        stores
            .iter()
            .filter_map(|store| paused.get(store))
            .map(|pause| pause.until.since(now))
            .max()
            .filter(|remaining| !remaining.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreAddress, Pause>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;

    #[derive(Debug)]
    struct Most;
    impl Chance for Most {
        fn next_u64(&self) -> u64 {
            0
        }
    }

    fn store(name: &str) -> StoreAddress {
        StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(name).unwrap() }
    }

    #[test]
    fn a_pause_grows_each_time_it_did_not_help_and_ends_when_the_store_answers() {
        let pauses = Pauses::default();
        let mut now = Monotonic::default();
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let length = pauses.note(&store("1"), Sort::Unavailable, now, &Most);
            assert_eq!(pauses.note(&store("1"), Sort::Unavailable, now, &Most), length, "many at once count once");
            assert!(pauses.remaining(&[store("1")], now).is_some() && pauses.remaining(&[store("2")], now).is_none());
            lengths.push(length.as_millis());
            now = now.plus(length);
        }
        assert_eq!(lengths[..4], [500, 1000, 2000, 4000]);
        assert_eq!(lengths[11], 150_000);
        assert_eq!(pauses.remaining(&[store("1")], now), None);
        pauses.well(&[store("1")], now);
        assert_eq!(pauses.note(&store("1"), Sort::Unavailable, now, &Most).as_millis(), 500);
    }

    #[test]
    fn a_throttling_store_gets_the_rest_it_asked_for() {
        let pauses = Pauses::default();
        let wish = Some(Duration::from_secs(7));
        assert_eq!(pauses.note(&store("1"), Sort::Throttled(wish), Monotonic::default(), &Most).as_secs(), 7);
    }
}
