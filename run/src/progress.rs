//! The progress of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mill_model::{RunSum, RunTotals, StoreAddress};
use mill_ports::{Clock, Statistics, StoreWait};

/// How late a task may come that was put back until its turn: it is sent after that is decided, and queues deliver late.
const TURN_LATE: Duration = Duration::from_secs(12);

/// The progress of a run, summed over all its processes.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    /// What is done, for tasks of any run.
    pub totals: RunTotals,
    /// What the run's survey has listed so far, and the outcomes.
    pub run: RunSum,
    /// Tasks sent so far.
    pub sent: u64,
    /// Tasks ended so far. Tasks of other runs may be among them, and one that was delivered twice counts twice.
    pub ended: u64,
    /// Content bytes queued so far, as far as they were known.
    pub bytes_queued: u64,
    /// Bytes of transfers in flight.
    pub bytes_moving: u64,
    /// Whether work is still being found.
    pub producing: bool,
    /// Whether the producer waits for nothing but room in a full queue.
    pub waits_for_room: bool,
    /// How long it takes until all tasks have surely come again that were put back until their turn.
    pub turn_in: Duration,
    /// The larger transfers in flight: subject, bytes moved, size.
    pub in_hand: Vec<(String, u64, u64)>,
    /// The stores for which work waits.
    pub awaited: AwaitedStores,
    /// How often stores have answered.
    pub answers: u64,
    /// The stores with unanswered calls.
    pub asked: BTreeSet<StoreAddress>,
    /// The stores whose writes wait, and the longest wait of each.
    pub writes: BTreeMap<StoreAddress, Duration>,
    /// Whether Mill's own state cannot be written.
    pub still: Option<StateStandstill>,
}

/// The stores for which work waits, and why.
pub type AwaitedStores = BTreeMap<StoreAddress, StoreWait>;

/// A failure of all writes to Mill's own state.
#[derive(Debug, Clone)]
pub struct StateStandstill {
    /// The cause, and what to do.
    pub why: Arc<str>,
    /// How long ago the first of these writes failed.
    pub first_failed: Duration,
    /// How long ago the last of them failed.
    pub last_failed: Duration,
}

impl RunProgress {
    /// The progress of this process. The caller adds whether it still finds work and whether its state can be written.
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
            waits_for_room: statistics.waits_for_room(),
            turn_in: statistics.turns_until().map_or(Duration::ZERO, |at| at.plus(TURN_LATE).since(now)),
            in_hand: statistics
                .active_transfers()
                .iter()
                .map(|one| (one.subject.clone(), one.moved.load(Relaxed), one.size))
                .collect(),
            awaited: statistics.store_waits(),
            answers: statistics.answers.load(Relaxed),
            asked: statistics.pending_calls(),
            writes: statistics.pending_writes().into_iter().map(|(store, since)| (store, now.since(since))).collect(),
            still: None,
        }
    }
}
