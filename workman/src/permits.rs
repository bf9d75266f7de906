//! This workman's permits at capped stores, which hold over the whole fleet: when their book is asked, and what is theirs
//! meanwhile. Decides only; does no IO.
//!
//! Permits are kept across tasks while there is work, and a moment longer, so that no task costs a row. One that is not used for
//! that moment is given back, also while tasks wait for it: they may wait for another store besides, whose permits a workman
//! has that waits for this one. What is given back is
//! no longer used from before the book is asked; what is taken is used from after it has answered. Permits that could not be
//! kept are lost before any other workman may have them: [`DeliveryLease`]s say so at each deed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Monotonic, StoreAddress};
use mill_ports::{Clock, DeliveryLease, TableError};
use mill_records::permits::{GrantedPermits, PermitRepository, PermitRequest, WatchedHolders};

/// Permits that are not used are kept for so long.
const LINGER: Duration = Duration::from_secs(3);
/// A book that has not given enough, or fails, is asked again after so long.
const RETRY: Duration = Duration::from_secs(2);

/// What a store's tasks here need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PermitNeed {
    pub(crate) store: StoreAddress,
    /// Zero where no permit is needed any more.
    pub(crate) cap: u32,
    pub(crate) in_use: u32,
    /// Tasks that wait for it.
    pub(crate) benched: u32,
}

/// A question to the book.
#[derive(Debug)]
pub(crate) struct PermitCall {
    pub(crate) request: PermitRequest,
    pub(crate) watched: WatchedHolders,
}

/// What the book answered.
#[derive(Debug)]
pub(crate) struct PermitResult {
    pub(crate) store: StoreAddress,
    pub(crate) granted: Result<GrantedPermits, TableError>,
    pub(crate) watched: WatchedHolders,
}

impl PermitCall {
    pub(crate) async fn ask(mut self, book: PermitRepository) -> PermitResult {
        let granted = book.hold(&self.request, &mut self.watched).await;
        PermitResult { store: self.request.store, granted, watched: self.watched }
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // four facts that are independent of each other
struct StorePermits {
    held: u32,
    lease: DeliveryLease,
    /// Whether the book is being asked.
    asked: bool,
    /// When it is asked again although nothing has changed.
    beat_at: Monotonic,
    /// When it may be asked for more.
    retry_at: Monotonic,
    /// Whether it is not known what the book says.
    unsure: bool,
    /// Whether a lowered cap is exceeded by all together.
    over: bool,
    /// Since when there are more than are in use.
    unused_since: Option<Monotonic>,
    /// Whether it is giving back, and leaves some time to others.
    yields: bool,
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
        self.stores.values().all(|kept| kept.held == 0 && !kept.asked && !kept.unsure)
    }

    /// How many permits are held at a store.
    pub(crate) fn held(&self, store: &StoreAddress) -> u32 {
        self.stores.get(store).map_or(0, |kept| kept.held)
    }

    /// The leases of the permits at these stores.
    pub(crate) fn leases(&self, stores: &[StoreAddress]) -> Vec<DeliveryLease> {
        let kept = stores.iter().filter_map(|store| self.stores.get(store));
        kept.filter(|kept| kept.held > 0).map(|kept| kept.lease.clone()).collect()
    }

    /// Takes note of permits that have run out, and names their stores.
    pub(crate) fn lose(&mut self) -> Vec<StoreAddress> {
        let lost = self.stores.iter_mut().filter(|(_, kept)| kept.held > 0 && !kept.lease.is_ahead());
        lost.map(|(store, kept)| {
            kept.held = 0;
            store.clone()
        })
        .collect()
    }

    /// What the book is to be asked for a store now, if anything.
    pub(crate) fn question(&mut self, need: &PermitNeed, now: Monotonic) -> Option<PermitCall> {
        let PermitNeed { store, cap, in_use, benched } = need;
        let wanted = in_use.saturating_add(*benched).min(*cap).max(*in_use);
        let kept = self.stores.entry(store.clone()).or_insert_with(|| StorePermits {
            held: 0,
            lease: DeliveryLease::until(self.clock.clone(), now),
            asked: false,
            beat_at: now,
            retry_at: now,
            unsure: false,
            over: false,
            unused_since: None,
            yields: false,
            watched: WatchedHolders::default(),
        });
        kept.unused_since = (kept.held > *in_use).then(|| kept.unused_since.unwrap_or(now));
        let lingered = kept.unused_since.is_some_and(|since| now.since(since) >= LINGER);
        let fewer = kept.held > *in_use && (lingered || kept.over);
        let more = wanted > kept.held && kept.retry_at <= now;
        let beats = kept.held > 0 && kept.beat_at <= now;
        let again = kept.unsure && kept.retry_at <= now;
        if kept.asked || !(fewer || more || beats || again) {
            return None;
        }
        if fewer {
            kept.held = *in_use;
        }
        (kept.asked, kept.yields) = (true, fewer);
        let request = PermitRequest {
            store: store.clone(),
            holder: self.holder.clone(),
            held: kept.held,
            wanted: if fewer { kept.held } else { wanted.max(kept.held) },
            cap: *cap,
        };
        Some(PermitCall { request, watched: std::mem::take(&mut kept.watched) })
    }

    /// Takes in an answer. Says whether permits that are in use were lost.
    pub(crate) fn answer(
        &mut self,
        answer: PermitResult,
        jitter: Duration,
        now: Monotonic,
    ) -> Result<bool, TableError> {
        let Some(kept) = self.stores.get_mut(&answer.store) else { return Ok(false) };
        let pause = if kept.yields { jitter * 8 } else { jitter };
        (kept.asked, kept.watched, kept.retry_at) = (false, answer.watched, now.plus(RETRY + pause));
        kept.unsure = answer.granted.is_err();
        let granted = answer.granted.inspect_err(|_| kept.beat_at = kept.retry_at)?;
        let lost = granted.permits < kept.held;
        (kept.held, kept.over) = (granted.permits, granted.over);
        kept.beat_at = now.plus(self.timeout / 3);
        // A lease that tasks were bound to and that is lost must not last longer for them.
        if lost {
            kept.lease = DeliveryLease::until(self.clock.clone(), granted.until);
        } else {
            kept.lease.extend(granted.until);
        }
        Ok(lost)
    }

    /// What gives everything back.
    pub(crate) fn give_back(&mut self) -> Vec<PermitCall> {
        let all = std::mem::take(&mut self.stores);
        let mine = all.into_iter().filter(|(_, kept)| kept.held > 0 || kept.asked || kept.unsure);
        mine.map(|(store, kept)| {
            let request = PermitRequest { store, holder: self.holder.clone(), held: 0, wanted: 0, cap: 0 };
            PermitCall { request, watched: kept.watched }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use mill_engine::SimClock;
    use mill_model::{AccountId, StoreId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_waits_for_that_of_another_store_is_given_back() {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let mut keeper = PermitKeeper::new("one".into(), Duration::from_mins(1), clock.clone());
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("1").unwrap() };
        let need = PermitNeed { store: store.clone(), cap: 1, in_use: 0, benched: 5 };
        let answer = |permits| PermitResult {
            store: store.clone(),
            granted: Ok(GrantedPermits { permits, until: clock.monotonic().plus(Duration::from_mins(1)), over: false }),
            watched: WatchedHolders::default(),
        };
        assert_eq!(keeper.question(&need, clock.monotonic()).map(|question| question.request.wanted), Some(1));
        keeper.answer(answer(1), Duration::ZERO, clock.monotonic()).unwrap();
        assert!(keeper.question(&need, clock.monotonic()).is_none(), "it is there for what waits");
        clock.sleep(LINGER).await;
        let question = keeper.question(&need, clock.monotonic()).unwrap();
        assert_eq!((question.request.held, question.request.wanted), (0, 0));
        keeper.answer(answer(0), Duration::from_secs(1), clock.monotonic()).unwrap();
        clock.sleep(RETRY).await;
        assert!(keeper.question(&need, clock.monotonic()).is_none(), "others have their turn");
        clock.sleep(Duration::from_secs(8)).await;
        assert!(keeper.question(&need, clock.monotonic()).is_some());
    }
}
