//! This workman's permits at stores whose caps hold for the whole fleet: when the repository is called, and which permits are
//! usable meanwhile. Decides only; does no IO.
//!
//! Permits are kept across tasks while there is work, and a moment longer, so that no task costs a row. A permit that is unused
//! for that moment is released, also while tasks wait for it: they may also wait for another store, whose permits are held by a
//! workman that waits for this store. A released permit is unused from before the call on; a granted one is used only after the
//! repository has answered. Permits that could not be renewed are lost before another workman may have them: a
//! [`DeliveryLease`] says so before each action.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Clock, DeliveryLease, TableError};
use mill_records::permits::{GrantedPermits, PermitRepository, PermitRequest, WatchedHolders};

/// How long unused permits are kept.
const UNUSED_KEPT_FOR: Duration = Duration::from_secs(3);
/// The pause before the next call after one that failed or granted too few permits.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The permits that a store's tasks here need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PermitNeed {
    pub(crate) store: StoreAddress,
    /// Zero where no permit is needed any more.
    pub(crate) cap: u32,
    pub(crate) in_use: u32,
    /// Tasks that wait for it.
    pub(crate) benched: u32,
}

/// A call to the repository.
#[derive(Debug)]
pub(crate) struct PermitCall {
    pub(crate) request: PermitRequest,
    pub(crate) watched: WatchedHolders,
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct PermitResult {
    pub(crate) store: StoreAddress,
    pub(crate) granted: Result<GrantedPermits, TableError>,
    pub(crate) watched: WatchedHolders,
}

impl PermitCall {
    pub(crate) async fn run(mut self, repository: PermitRepository) -> PermitResult {
        let granted = repository.hold(&self.request, &mut self.watched).await;
        PermitResult { store: self.request.store, granted, watched: self.watched }
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // four facts that are independent of each other
struct StorePermits {
    held: u32,
    lease: DeliveryLease,
    /// Whether a call is under way.
    in_call: bool,
    /// When the permits are renewed, although nothing has changed.
    renew_at: Monotonic,
    /// When more permits may be requested.
    retry_at: Monotonic,
    /// Whether the last call failed, so that it is not known what the repository holds.
    unknown: bool,
    /// Whether all workmen together exceed a lowered cap.
    over: bool,
    /// Since when more permits are held than are in use.
    unused_since: Option<Monotonic>,
    /// Whether the call under way releases permits; then others get some time to take them.
    gives_back: bool,
    watched: WatchedHolders,
}

/// Keeps the permits of one workman.
#[derive(Debug)]
pub(crate) struct PermitKeeper {
    holder: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    stores: BTreeMap<StoreAddress, StorePermits>,
}

impl PermitKeeper {
    pub(crate) fn new(holder: String, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { holder, timeout, clock, stores: BTreeMap::new() }
    }

    /// Whether there is anything to keep.
    pub(crate) fn is_idle(&self) -> bool {
        self.stores.values().all(|permits| permits.held == 0 && !permits.in_call && !permits.unknown)
    }

    /// How many permits are held at a store.
    pub(crate) fn held(&self, store: &StoreAddress) -> u32 {
        self.stores.get(store).map_or(0, |permits| permits.held)
    }

    /// The leases of the permits at these stores.
    pub(crate) fn leases(&self, stores: &[StoreAddress]) -> Vec<DeliveryLease> {
        let permits = stores.iter().filter_map(|store| self.stores.get(store));
        permits.filter(|permits| permits.held > 0).map(|permits| permits.lease.clone()).collect()
    }

    /// Drops permits whose lease has run out. Returns their stores.
    pub(crate) fn note_expired(&mut self) -> Vec<StoreAddress> {
        let lost = self.stores.iter_mut().filter(|(_, permits)| permits.held > 0 && !permits.lease.is_ahead());
        lost.map(|(store, permits)| {
            permits.held = 0;
            store.clone()
        })
        .collect()
    }

    /// The call that is due for a store now, if any.
    pub(crate) fn next_call(&mut self, need: &PermitNeed, now: Monotonic) -> Option<PermitCall> {
        let PermitNeed { store, cap, in_use, benched } = need;
        let wanted = in_use.saturating_add(*benched).min(*cap).max(*in_use);
        let permits = self.stores.entry(store.clone()).or_insert_with(|| StorePermits {
            held: 0,
            lease: DeliveryLease::until(self.clock.clone(), now),
            in_call: false,
            renew_at: now,
            retry_at: now,
            unknown: false,
            over: false,
            unused_since: None,
            gives_back: false,
            watched: WatchedHolders::default(),
        });
        permits.unused_since = (permits.held > *in_use).then(|| permits.unused_since.unwrap_or(now));
        let unused_for_long = permits.unused_since.is_some_and(|since| now.since(since) >= UNUSED_KEPT_FOR);
        let fewer = permits.held > *in_use && (unused_for_long || permits.over);
        let more = wanted > permits.held && permits.retry_at <= now;
        let is_renewal_due = permits.held > 0 && permits.renew_at <= now;
        let again = permits.unknown && permits.retry_at <= now;
        if permits.in_call || !(fewer || more || is_renewal_due || again) {
            return None;
        }
        if fewer {
            permits.held = *in_use;
        }
        (permits.in_call, permits.gives_back) = (true, fewer);
        let request = PermitRequest {
            store: store.clone(),
            holder: self.holder.clone(),
            held: permits.held,
            wanted: if fewer { permits.held } else { wanted.max(permits.held) },
            cap: *cap,
        };
        Some(PermitCall { request, watched: std::mem::take(&mut permits.watched) })
    }

    /// Notes the result of a call. Returns whether permits in use were lost.
    pub(crate) fn note_result(
        &mut self,
        result: PermitResult,
        jitter: Duration,
        now: Monotonic,
    ) -> Result<bool, TableError> {
        let Some(permits) = self.stores.get_mut(&result.store) else { return Ok(false) };
        let pause = if permits.gives_back { jitter * 8 } else { jitter };
        (permits.in_call, permits.watched, permits.retry_at) = (false, result.watched, now.plus(RETRY_PAUSE + pause));
        permits.unknown = result.granted.is_err();
        let granted = result.granted.inspect_err(|_| permits.renew_at = permits.retry_at)?;
        let lost = granted.permits < permits.held;
        (permits.held, permits.over) = (granted.permits, granted.over);
        permits.renew_at = now.plus(self.timeout / 3);
        // Tasks are bound to the old lease; once it is lost, it must not last longer for them.
        if lost {
            permits.lease = DeliveryLease::until(self.clock.clone(), granted.until);
        } else {
            permits.lease.extend(granted.until);
        }
        Ok(lost)
    }

    /// The calls that release all permits.
    pub(crate) fn release_all(&mut self) -> Vec<PermitCall> {
        let all = std::mem::take(&mut self.stores);
        let mine = all.into_iter().filter(|(_, permits)| permits.held > 0 || permits.in_call || permits.unknown);
        mine.map(|(store, permits)| {
            let request = PermitRequest { store, holder: self.holder.clone(), held: 0, wanted: 0, cap: 0 };
            PermitCall { request, watched: permits.watched }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};
    use mill_testkit::SimClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_waits_for_that_of_another_store_is_given_back() {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let mut keeper = PermitKeeper::new("one".into(), Duration::from_mins(1), clock.clone());
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
        let need = PermitNeed { store: store.clone(), cap: 1, in_use: 0, benched: 5 };
        let result = |permits| PermitResult {
            store: store.clone(),
            granted: Ok(GrantedPermits { permits, until: clock.monotonic().plus(Duration::from_mins(1)), over: false }),
            watched: WatchedHolders::default(),
        };
        assert_eq!(keeper.next_call(&need, clock.monotonic()).map(|call| call.request.wanted), Some(1));
        keeper.note_result(result(1), Duration::ZERO, clock.monotonic()).unwrap();
        assert!(keeper.next_call(&need, clock.monotonic()).is_none(), "it is there for what waits");
        clock.sleep(UNUSED_KEPT_FOR).await;
        let call = keeper.next_call(&need, clock.monotonic()).unwrap();
        assert_eq!((call.request.held, call.request.wanted), (0, 0));
        keeper.note_result(result(0), Duration::from_secs(1), clock.monotonic()).unwrap();
        clock.sleep(RETRY_PAUSE).await;
        assert!(keeper.next_call(&need, clock.monotonic()).is_none(), "others have their turn");
        clock.sleep(Duration::from_secs(8)).await;
        assert!(keeper.next_call(&need, clock.monotonic()).is_some());
    }
}
