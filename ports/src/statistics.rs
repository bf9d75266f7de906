//! What a process has done so far, and what is in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use mill_model::{ItemOutcomes, Monotonic, RunSum, RunTotals, StoreAddress, SurveySum, TaskId, WorkCounts};
use parking_lot::Mutex;

use crate::item_events::ItemEvents;
use crate::task_ledger::{CountedAs, EndedTask, RunTasks};

/// Counters shared by everything that works in one process. Each is a sum since the start.
#[derive(Debug, Default)]
pub struct Statistics {
    survey: Mutex<SurveySum>,
    tasks: Mutex<RunTasks>,
    work: Mutex<WorkCounts>,
    /// Tasks that a producer has sent: of items, and of spaces.
    pub sent: AtomicU64,
    /// Tasks that ended, done or dead-lettered, and were acknowledged.
    pub ended: AtomicU64,
    /// Content bytes of the items queued, where the producer knew them.
    pub bytes_queued: AtomicU64,
    /// Content bytes of transfers begun and not yet ended.
    pub bytes_moving: AtomicU64,
    active: Mutex<BTreeMap<u64, Arc<ActiveTransfer>>>,
    next: AtomicU64,
    awaited: Mutex<BTreeMap<StoreAddress, StoreWait>>,
    /// How often stores have answered.
    pub answers: AtomicU64,
    /// The calls that wait for an answer, and the store of each.
    asked: Mutex<BTreeMap<u64, StoreAddress>>,
    /// For each store, the number of calls whose answer nobody waits for any more.
    left: Mutex<BTreeMap<StoreAddress, usize>>,
    /// The writes that wait for an answer: the store of each, and since when it is the store that makes the write wait.
    writes: Mutex<BTreeMap<u64, (StoreAddress, Option<Monotonic>)>>,
    waits_for_room: AtomicBool,
    turns_until: Mutex<Option<Monotonic>>,
    events: OnceLock<Arc<dyn ItemEvents>>,
}

/// Why work waits for a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreWait {
    /// The store's last answer.
    pub reason: String,
    /// Whether the failure may pass by itself. Else a person must act.
    pub may_pass: bool,
}

/// One transfer going on.
#[derive(Debug)]
pub struct ActiveTransfer {
    /// What is transferred: `account/space/item`.
    pub subject: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes moved so far.
    pub moved: AtomicU64,
}

impl Statistics {
    /// Tracks the tasks of the run that a producer [begins](Self::begin_run) in this process, until they have ended in
    /// it.
    pub fn follow_tasks(&self) {
        self.tasks.lock().follow();
    }

    /// Sets who learns what became of each entry. Only the first call counts.
    pub fn listen(&self, events: Arc<dyn ItemEvents>) {
        let _ = self.events.set(events);
    }

    /// Who learns what became of each entry, if anybody does.
    pub fn events(&self) -> Option<&Arc<dyn ItemEvents>> {
        self.events.get()
    }

    /// Begins a run: its survey starts from zero, and the outcomes of the tasks that it sends are counted separately.
    pub fn begin_run(&self) {
        self.tasks.lock().begin_run();
        *self.survey.lock() = SurveySum::default();
        self.bytes_queued.store(0, Relaxed);
        if let Some(events) = self.events() {
            events.begin_survey();
        }
    }

    /// Adds the survey's classes of some entries.
    pub fn add_survey(&self, sum: SurveySum) {
        *self.survey.lock() += sum;
    }

    /// Counts what is neither an entry's class nor an item's outcome.
    pub fn count(&self, count: impl FnOnce(&mut WorkCounts)) {
        count(&mut self.work.lock());
    }

    /// Records a task that is about to be sent, and whether it is about an item.
    pub fn open_task(&self, id: TaskId, of_item: bool) {
        self.tasks.lock().open(id, of_item);
    }

    /// Whether a task is one of this run's, about an item, and has not ended.
    pub fn is_open_item(&self, id: &TaskId) -> bool {
        self.tasks.lock().is_open_item(id)
    }

    /// Whether [`EndedTask::subject`] is needed when this task ends.
    pub fn asks_for_subject(&self, id: &TaskId) -> bool {
        self.tasks.lock().asks_for_subject(id)
    }

    /// How the outcome of a task would be counted if it ended now.
    pub fn counts_as(&self, ended: &EndedTask) -> Option<CountedAs> {
        self.tasks.lock().counts_as(ended)
    }

    /// Counts tasks that have ended: settled, and acknowledged.
    pub fn end_tasks(&self, ended: impl IntoIterator<Item = EndedTask>) {
        let mut tasks = self.tasks.lock();
        ended.into_iter().for_each(|ended| tasks.end(ended));
    }

    /// The sums of the run that was [begun](Self::begin_run); its outcomes are those of its own tasks.
    pub fn totals_of_run(&self) -> RunTotals {
        let outcomes = self.tasks.lock().outcomes();
        RunTotals { sum: RunSum { survey: *self.survey.lock(), outcomes }, work: *self.work.lock() }
    }

    /// The outcomes of items whose tasks another run had sent.
    pub fn outcomes_of_others(&self) -> ItemOutcomes {
        self.tasks.lock().others()
    }

    /// The sums now, of all tasks that ended here, whoever sent them.
    pub fn totals(&self) -> RunTotals {
        let mut totals = self.totals_of_run();
        totals.sum.outcomes += self.tasks.lock().others();
        totals
    }

    /// Records a transfer until the guard is dropped. Its bytes count as durable only by [`TransferGuard::durable`].
    pub fn begin_transfer(self: &Arc<Self>, subject: impl FnOnce() -> String, size: u64) -> TransferGuard {
        /// Smaller transfers end before anyone could read their names.
        const SHOWN_FROM_BYTES: u64 = 4 << 20;
        let key = self.next.fetch_add(1, Relaxed);
        let active = (size >= SHOWN_FROM_BYTES).then(|| {
            let entry = Arc::new(ActiveTransfer { subject: subject(), size, moved: AtomicU64::new(0) });
            self.active.lock().insert(key, entry.clone());
            entry
        });
        TransferGuard { statistics: self.clone(), key, active, moved: AtomicU64::new(0) }
    }

    /// Records that work waits for a store.
    pub fn note_store_wait(&self, store: &StoreAddress, awaited: StoreWait) {
        self.awaited.lock().insert(store.clone(), awaited);
    }

    /// Records that stores were used, so that nothing waits for them.
    pub fn clear_store_waits<'s>(&self, stores: impl IntoIterator<Item = &'s StoreAddress>) {
        let mut awaited = self.awaited.lock();
        stores.into_iter().for_each(|store| drop(awaited.remove(store)));
    }

    /// The stores for which work waits.
    pub fn store_waits(&self) -> BTreeMap<StoreAddress, StoreWait> {
        self.awaited.lock().clone()
    }

    /// Records that the producer waits for nothing but room in a full queue, until the guard is dropped.
    pub fn begin_wait_for_room(self: &Arc<Self>) -> RoomWait {
        self.waits_for_room.store(true, Relaxed);
        RoomWait(self.clone())
    }

    /// Whether the producer waits for nothing but room in a full queue.
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room.load(Relaxed)
    }

    /// Records that a task was put back until its turn comes, at `at`.
    pub fn note_turn(&self, at: Monotonic) {
        let mut until = self.turns_until.lock();
        *until = (*until).max(Some(at));
    }

    /// When all tasks that were put back until their turn have come again.
    pub fn turns_until(&self) -> Option<Monotonic> {
        *self.turns_until.lock()
    }

    /// Records a call to a store until the guard is dropped.
    pub fn begin_call(&self, store: &StoreAddress) -> PendingCall<'_> {
        let key = self.next.fetch_add(1, Relaxed);
        self.asked.lock().insert(key, store.clone());
        PendingCall { statistics: self, key }
    }

    /// Records that nobody waits for the answer to a call any more, until the guard is dropped together with the call.
    pub fn abandon_call(self: &Arc<Self>, store: &StoreAddress) -> AbandonedCall {
        *self.left.lock().entry(store.clone()).or_default() += 1;
        AbandonedCall { statistics: self.clone(), store: store.clone() }
    }

    /// The stores with unanswered calls for which somebody waits.
    pub fn pending_calls(&self) -> BTreeSet<StoreAddress> {
        let mut open: BTreeMap<StoreAddress, usize> = BTreeMap::new();
        for store in self.asked.lock().values() {
            *open.entry(store.clone()).or_default() += 1;
        }
        let left = self.left.lock();
        let is_awaited = |(store, open): &(StoreAddress, usize)| *open > left.get(store).copied().unwrap_or(0);
        open.into_iter().filter(is_awaited).map(|(store, _)| store).collect()
    }

    /// Records a write to a store until the guard is dropped.
    pub fn begin_write(self: &Arc<Self>, store: &StoreAddress, now: Monotonic) -> PendingWrite {
        let key = self.next.fetch_add(1, Relaxed);
        self.writes.lock().insert(key, (store.clone(), Some(now)));
        PendingWrite(WriteProgress { statistics: self.clone(), key })
    }

    /// The stores that make writes wait, and since when the longest of these writes waits.
    pub fn pending_writes(&self) -> BTreeMap<StoreAddress, Monotonic> {
        let mut oldest = BTreeMap::new();
        for (store, since) in self.writes.lock().values() {
            if let Some(since) = *since {
                oldest.entry(store.clone()).and_modify(|at: &mut Monotonic| *at = since.min(*at)).or_insert(since);
            }
        }
        oldest
    }

    /// The larger transfers in flight, oldest first.
    pub fn active_transfers(&self) -> Vec<Arc<ActiveTransfer>> {
        self.active.lock().values().cloned().collect()
    }
}

/// The producer waits for room in a full queue until this is dropped.
#[derive(Debug)]
pub struct RoomWait(Arc<Statistics>);

impl Drop for RoomWait {
    fn drop(&mut self) {
        self.0.waits_for_room.store(false, Relaxed);
    }
}

/// A call whose answer nobody waits for any more.
#[derive(Debug)]
pub struct AbandonedCall {
    statistics: Arc<Statistics>,
    store: StoreAddress,
}

impl Drop for AbandonedCall {
    fn drop(&mut self) {
        let mut left = self.statistics.left.lock();
        if let Some(count) = left.get_mut(&self.store) {
            *count -= 1;
            if *count == 0 {
                left.remove(&self.store);
            }
        }
    }
}

/// A call to a store, pending until this is dropped.
#[derive(Debug)]
pub struct PendingCall<'s> {
    statistics: &'s Statistics,
    key: u64,
}

impl PendingCall<'_> {
    /// Counts the answer.
    pub fn answered(self) {
        self.statistics.answers.fetch_add(1, Relaxed);
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.statistics.asked.lock().remove(&self.key);
    }
}

/// A write to a store, pending until this is dropped.
#[derive(Debug)]
pub struct PendingWrite(WriteProgress);

impl PendingWrite {
    /// The handle that records the write's progress.
    pub fn progress(&self) -> WriteProgress {
        self.0.clone()
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        self.0.statistics.writes.lock().remove(&self.0.key);
    }
}

/// Records a write's progress. Has no effect after its end.
#[derive(Debug, Clone)]
pub struct WriteProgress {
    statistics: Arc<Statistics>,
    key: u64,
}

impl WriteProgress {
    /// Records that bytes arrived: from now on the write waits for the store.
    pub fn moved(&self, now: Monotonic) {
        self.waits_since(Some(now));
    }

    /// Records that the write waits for its source, not for the store.
    pub fn rests(&self) {
        self.waits_since(None);
    }

    fn waits_since(&self, at: Option<Monotonic>) {
        if let Some((_, since)) = self.statistics.writes.lock().get_mut(&self.key) {
            *since = at;
        }
    }
}

/// Keeps a transfer among those in flight until it is dropped.
#[derive(Debug)]
pub struct TransferGuard {
    statistics: Arc<Statistics>,
    key: u64,
    active: Option<Arc<ActiveTransfer>>,
    moved: AtomicU64,
}

impl TransferGuard {
    /// Counts bytes that have passed.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Relaxed);
        self.statistics.bytes_moving.fetch_add(bytes, Relaxed);
        if let Some(active) = &self.active {
            active.moved.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts the transfer's bytes as durably written.
    pub fn durable(&self, bytes: u64) {
        self.statistics.count(|work| work.bytes += bytes);
    }
}

impl Drop for TransferGuard {
    fn drop(&mut self) {
        self.statistics.bytes_moving.fetch_sub(self.moved.load(Relaxed), Relaxed);
        if self.active.is_some() {
            self.statistics.active.lock().remove(&self.key);
        }
    }
}
