//! Stores, and spaces of stores, that are backed off from: they asked for it, or they cannot be used.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mill_model::{Monotonic, SpaceId, StoreAddress};
use mill_ports::{Backoff, Rng, RngExt as _};
use parking_lot::{Mutex, MutexGuard};

/// Why a store is backed off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackoffReason {
    /// It asked for it, perhaps with a `retry_after`.
    Throttled(Option<Duration>),
    /// It does not answer, which may pass by itself.
    Unreachable,
    /// It cannot be used until a person has acted.
    Unavailable,
}

/// What is backed off from: a space of a store, or the whole store.
type BackoffKey = (StoreAddress, Option<SpaceId>);

#[derive(Debug, Clone, Copy)]
struct StorePause {
    until: Monotonic,
    /// How many pauses there were in a row.
    repeats: u32,
    /// When a failure was noted last.
    noted: Monotonic,
}

/// The stores and spaces that are backed off from, and until when.
///
/// A failure concerns the space at which it was met: a service may fail at one bucket, or throttle it. It concerns the store if
/// two of its spaces fail and nothing of the store could be used in between.
#[derive(Debug, Default)]
pub(crate) struct StoreBackoff {
    /// Spares the lock while no store fails.
    any: AtomicBool,
    state: Mutex<BackoffState>,
}

#[derive(Debug, Default)]
struct BackoffState {
    backoff: BTreeMap<BackoffKey, StorePause>,
    /// When failing stores could be used last.
    used: BTreeMap<StoreAddress, Monotonic>,
    /// When old entries were forgotten last.
    forgot: Monotonic,
}

impl BackoffState {
    /// Backs off from a store or space. Returns for how long from now.
    fn back_off(&mut self, key: BackoffKey, reason: BackoffReason, now: Monotonic, chance: &dyn Rng) -> Duration {
        let new_entry = StorePause { until: Monotonic::default(), repeats: 0, noted: now };
        let pause = self.backoff.entry(key).or_insert(new_entry);
        pause.noted = now;
        if pause.until <= now {
            pause.repeats = pause.repeats.saturating_add(1);
            // Half of it is jitter, so that many workmen do not come back at once.
            pause.until = now.plus(chance.equal_jitter(reason.backoff().pause(pause.repeats)));
        }
        if let BackoffReason::Throttled(Some(retry_after)) = reason {
            pause.until = pause.until.max(now.plus(retry_after));
        }
        pause.until.since(now)
    }

    /// Whether another space of a store fails, and nothing of the store could be used since.
    fn affects_whole_store(&self, store: &StoreAddress, space: &SpaceId) -> bool {
        let used = self.used.get(store);
        self.backoff.iter().any(|((of, at), pause)| {
            let is_other = at.as_ref().is_some_and(|at| at != space);
            of == store && is_other && used.is_none_or(|used| *used < pause.noted)
        })
    }

    fn is_backed_off(&self, store: &StoreAddress) -> bool {
        let mut places = self.backoff.range((store.clone(), None)..);
        places.next().is_some_and(|((of, _), _)| of == store)
    }

    /// Forgets stores and spaces that have not been tried for long.
    fn forget_old(&mut self, now: Monotonic) {
        if now.since(self.forgot) < StoreBackoff::FORGOTTEN_AFTER / 4 {
            return;
        }
        self.forgot = now;
        self.backoff.retain(|_, pause| now.since(pause.until) < StoreBackoff::FORGOTTEN_AFTER);
        let used = std::mem::take(&mut self.used);
        self.used = used.into_iter().filter(|(store, _)| self.is_backed_off(store)).collect();
    }
}

impl BackoffReason {
    fn backoff(self) -> Backoff {
        let longest = match self {
            Self::Throttled(_) | Self::Unreachable => StoreBackoff::PASSING_MAX,
            Self::Unavailable => StoreBackoff::UNAVAILABLE_MAX,
        };
        Backoff::new(StoreBackoff::FIRST, longest)
    }
}

impl StoreBackoff {
    const FIRST: Duration = Duration::from_secs(1);
    const UNAVAILABLE_MAX: Duration = Duration::from_mins(5);
    /// A failure that passes by itself often passes soon, and people wait for it.
    const PASSING_MAX: Duration = Duration::from_secs(30);
    /// By then the snoozed tasks have come again, unless another workman has them.
    const FORGOTTEN_AFTER: Duration = Duration::from_mins(2);

    /// Notes a failure of a store, met at one of its spaces. Returns for how long the space is backed off from.
    ///
    /// Attempts that were under way when the pause began do not lengthen it.
    pub(crate) fn note_failure(
        &self,
        (store, space): (&StoreAddress, Option<&SpaceId>),
        reason: BackoffReason,
        now: Monotonic,
        chance: &dyn Rng,
    ) -> Duration {
        let mut state = self.lock();
        self.any.store(true, Ordering::Release);
        state.forget_old(now);
        // A failure that a person must fix concerns the store: the store itself has found that out.
        let Some(space) = space.filter(|_| reason != BackoffReason::Unavailable) else {
            return state.back_off((store.clone(), None), reason, now, chance);
        };
        let space_pause = state.back_off((store.clone(), Some(space.clone())), reason, now, chance);
        if !state.affects_whole_store(store, space) {
            return space_pause;
        }
        space_pause.max(state.back_off((store.clone(), None), reason, now, chance))
    }

    /// Notes that stores could be used for a space. Returns the stores that were backed off from until now, and of which no
    /// space is any more.
    pub(crate) fn note_success(
        &self,
        stores: &[StoreAddress],
        space: Option<&SpaceId>,
        now: Monotonic,
    ) -> Vec<StoreAddress> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut state = self.lock();
        let backed_off: Vec<&StoreAddress> = stores.iter().filter(|store| state.is_backed_off(store)).collect();
        state.forget_old(now);
        for store in &backed_off {
            state.used.insert((*store).clone(), now);
            // An attempt that began before the pause proves nothing.
            state
                .backoff
                .retain(|(of, at), pause| of != *store || at.is_some() && at.as_ref() != space || pause.until > now);
        }
        self.any.store(!state.backoff.is_empty(), Ordering::Release);
        backed_off.into_iter().filter(|store| !state.is_backed_off(store)).cloned().collect()
    }

    /// The longest remaining pause of these stores and of this space of them.
    pub(crate) fn remaining(
        &self,
        stores: &[StoreAddress],
        space: Option<&SpaceId>,
        now: Monotonic,
    ) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let state = self.lock();
        let at = |store: &StoreAddress, space: Option<&SpaceId>| state.backoff.get(&(store.clone(), space.cloned()));
        stores
            .iter()
            .flat_map(|store| [at(store, None), space.and_then(|space| at(store, Some(space)))])
            .flatten()
            .map(|pause| pause.until.since(now))
            .max()
            .filter(|remaining| !remaining.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, BackoffState> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;

    #[derive(Debug)]
    struct Most;
    impl Rng for Most {
        fn next_u64(&self) -> u64 {
            0
        }
    }

    fn store(name: &str) -> StoreAddress {
        StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(name).unwrap() }
    }

    #[test]
    fn a_pause_grows_each_time_it_did_not_help_and_ends_when_the_store_answers() {
        let backoff = StoreBackoff::default();
        let mut now = Monotonic::default();
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let length = backoff.note_failure((&store("1"), None), BackoffReason::Unavailable, now, &Most);
            assert_eq!(
                backoff.note_failure((&store("1"), None), BackoffReason::Unavailable, now, &Most),
                length,
                "many at once count once"
            );
            assert!(
                backoff.remaining(&[store("1")], None, now).is_some()
                    && backoff.remaining(&[store("2")], None, now).is_none()
            );
            lengths.push(length.as_millis());
            now = now.plus(length);
        }
        assert_eq!(lengths[..4], [500, 1000, 2000, 4000]);
        assert_eq!(lengths[11], 150_000);
        assert_eq!(backoff.remaining(&[store("1")], None, now), None);
        backoff.note_success(&[store("1")], None, now);
        assert_eq!(backoff.note_failure((&store("1"), None), BackoffReason::Unavailable, now, &Most).as_millis(), 500);
    }

    #[test]
    fn a_throttling_store_gets_the_rest_it_asked_for() {
        let backoff = StoreBackoff::default();
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(
            backoff
                .note_failure((&store("1"), None), BackoffReason::Throttled(retry_after), Monotonic::default(), &Most)
                .as_secs(),
            7
        );
    }

    fn at<'s>(store: &'s StoreAddress, space: &'s SpaceId) -> (&'s StoreAddress, Option<&'s SpaceId>) {
        (store, Some(space))
    }

    #[test]
    fn trouble_at_one_space_leaves_the_others_of_its_store_alone() {
        for reason in [BackoffReason::Unreachable, BackoffReason::Throttled(None)] {
            let (backoff, store) = (StoreBackoff::default(), store("1"));
            let [ill, also_ill, well] = ["ill", "also-ill", "well"].map(|name| SpaceId::new(name).unwrap());
            let stores = std::slice::from_ref(&store);
            let mut now = Monotonic::default();
            for _ in 0..20 {
                now = now.plus(Duration::from_secs(40));
                for space in [&ill, &also_ill] {
                    backoff.note_failure(at(&store, space), reason, now, &Most);
                    assert!(backoff.remaining(stores, Some(space), now).is_some());
                    assert_eq!(backoff.remaining(stores, Some(&well), now), None, "{reason:?}");
                    assert_eq!(backoff.note_success(stores, Some(&well), now), [], "the others have trouble yet");
                }
            }
        }
    }

    #[test]
    fn trouble_at_two_spaces_with_no_answer_in_between_is_that_of_the_store() {
        let (backoff, store) = (StoreBackoff::default(), store("1"));
        let [first, second, third] = ["a", "b", "c"].map(|name| SpaceId::new(name).unwrap());
        let stores = std::slice::from_ref(&store);
        let now = Monotonic::default().plus(Duration::from_secs(1));
        backoff.note_failure(at(&store, &first), BackoffReason::Unreachable, now, &Most);
        assert_eq!(backoff.remaining(stores, Some(&third), now), None);
        backoff.note_failure(at(&store, &second), BackoffReason::Unreachable, now, &Most);
        assert!(backoff.remaining(stores, Some(&third), now).is_some());
        // Once it can be used again, each of its spaces is tried.
        let later = now.plus(Duration::from_secs(2));
        assert_eq!(backoff.note_success(stores, Some(&third), later), []);
        assert_eq!(backoff.note_success(stores, Some(&first), later), []);
        assert_eq!(backoff.note_success(stores, Some(&second), later), stores);
        assert_eq!(
            backoff.note_failure(at(&store, &second), BackoffReason::Unreachable, later, &Most).as_millis(),
            500
        );
    }

    #[test]
    fn what_a_person_must_see_to_is_the_stores_from_the_first_on() {
        let (backoff, store, now) = (StoreBackoff::default(), store("1"), Monotonic::default());
        let [met, other] = ["a", "b"].map(|name| SpaceId::new(name).unwrap());
        backoff.note_failure(at(&store, &met), BackoffReason::Unavailable, now, &Most);
        assert!(backoff.remaining(std::slice::from_ref(&store), Some(&other), now).is_some());
    }
}
