//! Where a run stands, over everything that goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mill_local::Standstill;
use mill_model::{RunSum, RunTotals, StoreAddress};
use mill_ports::{Clock, Statistics, StoreWait};

use crate::local_state;
use crate::run_until_done::silence::time;

/// Where a run stands, summed over all its processes.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    /// What is done, for whichever run its tasks were sent.
    pub totals: RunTotals,
    /// What the run's survey has listed so far, and what became of that.
    pub run: RunSum,
    /// Tasks sent so far.
    pub sent: u64,
    /// Tasks ended so far. Others' may be among them, and one that was delivered twice counts twice.
    pub ended: u64,
    /// Content bytes queued so far, as far as they were known.
    pub bytes_queued: u64,
    /// Bytes of transfers going on.
    pub bytes_moving: u64,
    /// Whether work is still being found.
    pub producing: bool,
    /// The larger transfers going on: what, bytes moved, size.
    pub in_hand: Vec<(String, u64, u64)>,
    /// The stores for which work waits.
    pub awaited: AwaitedStores,
    /// How often stores have answered.
    pub answers: u64,
    /// The stores that have not answered all that they were asked.
    pub asked: BTreeSet<StoreAddress>,
    /// The stores that are waited for to write, and for how long at the longest.
    pub writes: BTreeMap<StoreAddress, Duration>,
    /// Whether Mill's own state cannot be written.
    pub still: Option<Standstill>,
}

/// The stores for which work waits, and why.
pub type AwaitedStores = BTreeMap<StoreAddress, StoreWait>;

impl RunProgress {
    /// Where this process stands; whether it still finds work is the caller's to say.
    pub fn of(statistics: &Statistics, clock: &dyn Clock) -> Self {
        let now = clock.monotonic();
        Self {
            totals: statistics.totals(),
            run: statistics.totals_of_run().sum,
            sent: statistics.sent.load(Relaxed),
            ended: statistics.ended.load(Relaxed),
            bytes_queued: statistics.bytes_queued.load(Relaxed),
            bytes_moving: statistics.bytes_moving.load(Relaxed),
            producing: false,
            in_hand: statistics
                .active_transfers()
                .iter()
                .map(|one| (one.subject.clone(), one.moved.load(Relaxed), one.size))
                .collect(),
            awaited: statistics.store_waits(),
            answers: statistics.answers.load(Relaxed),
            asked: statistics.pending_calls(),
            writes: statistics.pending_writes().into_iter().map(|(store, since)| (store, now.since(since))).collect(),
            still: local_state::standstill(),
        }
    }
}

/// A write is said to be waited for from then on. It may take long: that ends no run.
const LONG_WRITE: Duration = Duration::from_secs(30);

/// The stores that are waited for to write for so long that it is said, and what is said.
pub fn long_writes(writes: &BTreeMap<StoreAddress, Duration>) -> impl Iterator<Item = (&StoreAddress, String)> {
    let long = writes.iter().filter(|(_, waited)| **waited >= LONG_WRITE);
    long.map(|(store, waited)| (store, format!("waits for store `{store}` to write ({})", time(*waited))))
}

/// Says in the log, once each time, that a store is waited for to write: where nothing shows it.
#[derive(Debug, Default)]
pub struct WriteLog {
    said: BTreeSet<StoreAddress>,
}

impl WriteLog {
    /// Looks at the writes that are waited for now.
    pub fn look(&mut self, writes: &BTreeMap<StoreAddress, Duration>) {
        let long: BTreeMap<&StoreAddress, String> = long_writes(writes).collect();
        self.said.retain(|store| long.contains_key(store));
        for (store, said) in long {
            if self.said.insert(store.clone()) {
                tracing::warn!("{said}");
            }
        }
    }
}
