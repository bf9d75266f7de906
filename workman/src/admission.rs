//! Which tasks may begin: a task needs room at all its stores. Decides only; does no IO.
//!
//! ```text
//!              room at all its stores
//! received ───────────────────────────────────────────────► begins (slot and permits in one step)
//!     │                                                        ▲
//!     ├─ its store is full ──► bench (lease kept, no slot) ────┘ one account after the other
//!     └─ the bench too ──────► back into the queue, for when its turn may have come
//! ```
//!
//! A requeued task [comes again](gate) when its turn may have come. Where no turn can be estimated, since the store's cap is not
//! known or other workmen have all permits, the task comes again after a longer time each time.
//!
//! A store without a cap always has room, so no task is benched for it.
//!
//! Where there are several accounts, an account whose tasks take long has at most [a share](Admission::share) of the slots that
//! the others leave, so that its stores, capped or not, never hold all slots. Its tasks are benched as for a full store.
//!
//! A receive [excludes accounts](exclusion) of which enough tasks wait here, where the queue can do that. So few tasks are
//! requeued, and no task waits behind them.

mod exclusion;
mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::{AccountId, Monotonic, StoreAddress};

pub use self::gate::AWAY_MAX;
pub(crate) use self::gate::TurnEstimate;
use self::gate::{CapacityGate, TURN_MAX, TURN_MIN};
use crate::permits::PermitNeed;

/// An account whose tasks take less than this, on average, may have all slots: others need not wait for long.
const SLOW: Duration = Duration::from_secs(2);

/// A task that may begin once its stores have room.
#[derive(Debug)]
pub(crate) struct WaitingTask<T> {
    pub(crate) task: T,
    pub(crate) account: AccountId,
    pub(crate) stores: Vec<StoreAddress>,
    /// Its position among all received tasks.
    order: u64,
}

impl<T> WaitingTask<T> {
    pub(crate) fn new(task: T, account: AccountId, stores: Vec<StoreAddress>) -> Self {
        Self { task, account, stores, order: 0 }
    }
}

/// The workman that an [`Admission`] decides for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmissionSettings {
    pub(crate) queues: usize,
    /// Slots.
    pub(crate) workers: u32,
    /// Whether no other workman uses the caps; otherwise this one has as many permits as [were noted](Admission::note_permits).
    pub(crate) alone: bool,
}

/// The waiting tasks of one queue: by account, then by the stores that they need, each in the order of arrival.
type BenchedTasks<T> = BTreeMap<AccountId, BTreeMap<Vec<StoreAddress>, VecDeque<WaitingTask<T>>>>;

#[derive(Debug)]
struct Bench<T> {
    benched: BenchedTasks<T>,
    /// The account that was served last.
    last: Option<AccountId>,
    recent: exclusion::RecentStores,
}

/// Decides which tasks of one workman may begin.
#[derive(Debug)]
pub(crate) struct Admission<T> {
    gates: BTreeMap<StoreAddress, CapacityGate>,
    accounts: BTreeMap<AccountId, CapacityGate>,
    /// Whether tasks of more than one account may come.
    several_accounts: bool,
    workers: u32,
    /// Tasks that have begun.
    begun: u32,
    /// By queue, highest first.
    benches: Vec<Bench<T>>,
    benched: usize,
    received: u64,
    /// How many permits a new store has.
    first_permits: u32,
    /// Whether nothing on the bench can begin before something changes.
    nothing_ready: bool,
}

/// What becomes of a received task.
#[derive(Debug)]
pub(crate) enum Placement<T> {
    /// It begins; its slot and permits are taken.
    Start(WaitingTask<T>),
    /// It waits here.
    Benched,
    /// It goes back into its queue until then, since too many tasks wait for one of its stores.
    Requeue(WaitingTask<T>, TurnEstimate),
}

impl<T> Admission<T> {
    pub(crate) fn new(AdmissionSettings { queues, workers, alone }: AdmissionSettings) -> Self {
        let bench = || Bench { benched: BTreeMap::new(), last: None, recent: BTreeMap::new() };
        Self {
            gates: BTreeMap::new(),
            accounts: BTreeMap::new(),
            several_accounts: true,
            workers,
            begun: 0,
            benches: std::iter::repeat_with(bench).take(queues).collect(),
            benched: 0,
            received: 0,
            first_permits: if alone { u32::MAX } else { 0 },
            nothing_ready: true,
        }
    }

    /// Notes how many tasks may use a store at once, as of now.
    pub(crate) fn note_cap(&mut self, store: &StoreAddress, cap: Option<NonZeroU32>, now: Monotonic) {
        let gate = self.gates.entry(store.clone()).or_insert_with(|| CapacityGate::new(self.first_permits, now));
        gate.unknown_since = None;
        if gate.cap != cap {
            gate.cap = cap;
            self.nothing_ready = false;
        }
    }

    /// Notes that a store's cap cannot be read now. The last known cap stays; without one, the cap is one task.
    pub(crate) fn note_unknown_cap(&mut self, store: &StoreAddress, now: Monotonic) {
        if !self.gates.contains_key(store) {
            self.note_cap(store, Some(NonZeroU32::MIN), now);
            self.for_each_store(std::slice::from_ref(store), |gate| gate.unknown_since = Some(now));
        }
    }

    /// Notes how many of the tasks that may use a store at once may run here.
    pub(crate) fn note_permits(&mut self, store: &StoreAddress, permits: u32) {
        self.for_each_store(std::slice::from_ref(store), |gate| gate.permits = permits);
        self.nothing_ready = false;
    }

    /// Notes whether tasks of more than one account may come.
    pub(crate) fn note_several_accounts(&mut self, several: bool) {
        if self.several_accounts != several {
            self.several_accounts = several;
            self.nothing_ready = false;
        }
    }

    /// How many slots an account may have; `None` for all. An account whose tasks take long, or of which no task has ended yet,
    /// may have three quarters of the slots that the others leave.
    fn share(&self, account: &AccountId) -> Option<NonZeroU32> {
        let gate = self.accounts.get(account);
        let slow = gate.and_then(|gate| gate.mean).is_none_or(|mean| mean >= SLOW);
        if !self.several_accounts || !slow {
            return None;
        }
        let others = self.begun.saturating_sub(gate.map_or(0, |gate| gate.in_use));
        let left = self.workers.saturating_sub(others);
        NonZeroU32::new(left - left.div_ceil(4)).or(Some(NonZeroU32::MIN))
    }

    fn account_has_room(&self, account: &AccountId) -> bool {
        let in_use = self.accounts.get(account).map_or(0, |gate| gate.in_use);
        self.share(account).is_none_or(|share| in_use < share.get())
    }

    /// The permits that each store with a cap needs.
    pub(crate) fn permit_needs(&self) -> Vec<PermitNeed> {
        let need = |(store, gate): (&StoreAddress, &CapacityGate)| {
            // Tasks of a store without a cap need no permit.
            let (cap, in_use, benched) = gate.cap.map_or((0, 0, 0), |cap| (cap.get(), gate.in_use, gate.benched));
            PermitNeed { store: store.clone(), cap, in_use, benched }
        };
        self.gates.iter().filter(|(_, gate)| gate.cap.is_some() || gate.permits > 0).map(need).collect()
    }

    /// Places a task that came from the queue at `queue_index`, whose receives bring up to `batch` tasks. `slot` says whether a
    /// slot is free.
    pub(crate) fn place(
        &mut self,
        queue_index: usize,
        mut waiting: WaitingTask<T>,
        (slot, batch): (bool, u32),
        now: Monotonic,
    ) -> Placement<T> {
        waiting.order = self.received;
        self.received += 1;
        self.update_share(&waiting.account, now);
        self.note_received(queue_index, &waiting, now);
        self.for_each_gate(&waiting.account, &waiting.stores, CapacityGate::note_arrival);
        let others_away = self.accounts.get(&waiting.account).is_some_and(|gate| !gate.requeued.is_empty());
        if others_away && is_planted(PlantedBug::PutBackInTurns) {
            self.requeue(&waiting, now);
            return Placement::Requeue(waiting, TurnEstimate::after(TURN_MAX));
        }
        let has_room = self.has_room(&waiting.account, &waiting.stores);
        if has_room && slot {
            self.admit(&waiting);
            return Placement::Start(waiting);
        }
        let full = |gate: &CapacityGate| gate.benched >= gate.bench_max(batch);
        let mut gates = waiting.stores.iter().filter_map(|store| self.gates.get(store));
        if !has_room && (gates.any(full) || self.accounts.get(&waiting.account).is_some_and(full)) {
            let turn = self.requeue(&waiting, now);
            return Placement::Requeue(waiting, turn);
        }
        self.bench(queue_index, waiting);
        Placement::Benched
    }

    /// Updates how many slots an account may have.
    fn update_share(&mut self, account: &AccountId, now: Monotonic) {
        let share = self.share(account);
        self.accounts.entry(account.clone()).or_insert_with(|| CapacityGate::new(u32::MAX, now)).cap = share;
    }

    fn has_room(&self, account: &AccountId, stores: &[StoreAddress]) -> bool {
        self.account_has_room(account)
            && stores.iter().filter_map(|store| self.gates.get(store)).all(CapacityGate::has_room)
    }

    /// Takes a slot and permits for a task, whether there is room or not.
    pub(crate) fn admit(&mut self, waiting: &WaitingTask<T>) {
        self.begun += 1;
        self.for_each_gate(&waiting.account, &waiting.stores, CapacityGate::note_begun);
    }

    /// Calls `act` for the gates of a task: of its account and of its stores.
    fn for_each_gate(&mut self, account: &AccountId, stores: &[StoreAddress], mut act: impl FnMut(&mut CapacityGate)) {
        self.accounts.get_mut(account).into_iter().for_each(&mut act);
        self.for_each_store(stores, act);
    }

    fn for_each_store(&mut self, stores: &[StoreAddress], mut act: impl FnMut(&mut CapacityGate)) {
        for store in stores {
            if let Some(gate) = self.gates.get_mut(store) {
                act(gate);
            }
        }
    }

    /// Notes that a begun task ended, and how long it took.
    pub(crate) fn note_ended(&mut self, account: &AccountId, stores: &[StoreAddress], took: Duration, now: Monotonic) {
        self.begun = self.begun.saturating_sub(1);
        self.for_each_gate(account, stores, |gate| gate.note_ended(took, now));
        self.nothing_ready = false;
    }

    fn bench(&mut self, queue_index: usize, waiting: WaitingTask<T>) {
        self.for_each_gate(&waiting.account, &waiting.stores, |gate| gate.benched += 1);
        self.benched += 1;
        self.nothing_ready = false;
        let of_account = self.benches[queue_index].benched.entry(waiting.account.clone()).or_default();
        of_account.entry(waiting.stores.clone()).or_default().push_back(waiting);
    }

    /// Estimates the turn of a task that is requeued, and notes when it comes again.
    fn requeue(&mut self, waiting: &WaitingTask<T>, now: Monotonic) -> TurnEstimate {
        let WaitingTask { account, stores, .. } = waiting;
        let mut turn = TurnEstimate::after(TURN_MIN);
        self.for_each_gate(account, stores, |gate| turn = turn.max(gate.estimate_turn(now)));
        let due = now.plus(turn.after / 2).since_origin().as_secs();
        self.for_each_gate(account, stores, |gate| *gate.requeued.entry(due).or_default() += 1);
        turn
    }

    /// How many tasks wait here.
    pub(crate) fn benched(&self) -> usize {
        self.benched
    }

    /// The stores that tasks wait for.
    pub(crate) fn awaited_stores(&self) -> Vec<StoreAddress> {
        self.gates.iter().filter(|(_, gate)| gate.benched > 0).map(|(store, _)| store.clone()).collect()
    }

    /// Takes a waiting task of a queue that can begin, with its slot and permits. Accounts come one after the other.
    ///
    /// Once no queue has such a task, call [`note_all_begun`](Self::note_all_begun).
    pub(crate) fn next_ready(&mut self, queue_index: usize) -> Option<WaitingTask<T>> {
        if self.nothing_ready || self.benches[queue_index].benched.is_empty() {
            return None;
        }
        let bench = &self.benches[queue_index];
        let behind = |account: &&AccountId| bench.last.as_ref().is_none_or(|last| *account > last);
        let (later, earlier): (Vec<_>, Vec<_>) = bench.benched.keys().partition(behind);
        let earlier = if is_planted(PlantedBug::AccountPassedOver) { Vec::new() } else { earlier };
        let ready = later.into_iter().chain(earlier).find_map(|account| {
            let by_stores = bench.benched.get(account)?.iter().filter(|(stores, _)| self.has_room(account, stores));
            // Of the tasks that can begin, the first to arrive.
            let (stores, _) = by_stores.min_by_key(|(_, of_stores)| of_stores.front().map(|waiting| waiting.order))?;
            Some((account.clone(), stores.clone()))
        });
        let (account, stores) = ready?;
        let waiting = self.unbench(queue_index, &account, &stores)?;
        self.admit(&waiting);
        self.benches[queue_index].last = Some(account);
        Some(waiting)
    }

    /// Notes that every task that can begin has begun.
    pub(crate) fn note_all_begun(&mut self) {
        self.nothing_ready = true;
    }

    fn unbench(
        &mut self,
        queue_index: usize,
        account: &AccountId,
        stores: &Vec<StoreAddress>,
    ) -> Option<WaitingTask<T>> {
        let benched = &mut self.benches[queue_index].benched;
        let of_account = benched.get_mut(account)?;
        let of_stores = of_account.get_mut(stores)?;
        let waiting = of_stores.pop_front();
        if of_stores.is_empty() {
            of_account.remove(stores);
        }
        if of_account.is_empty() {
            benched.remove(account);
        }
        if waiting.is_some() {
            self.benched -= 1;
            self.for_each_gate(account, stores, |gate| gate.benched = gate.benched.saturating_sub(1));
        }
        waiting
    }

    /// Removes the waiting tasks for which `ends` is true, with the indexes of their queues.
    pub(crate) fn remove_waiting(&mut self, mut ends: impl FnMut(&T) -> bool) -> Vec<(usize, WaitingTask<T>)> {
        let mut removed = Vec::new();
        for queue_index in 0..self.benches.len() {
            let benched = std::mem::take(&mut self.benches[queue_index].benched);
            for waiting in benched.into_values().flat_map(BTreeMap::into_values).flatten() {
                self.for_each_gate(&waiting.account, &waiting.stores, |gate| {
                    gate.benched = gate.benched.saturating_sub(1);
                });
                self.benched -= 1;
                if ends(&waiting.task) {
                    removed.push((queue_index, waiting));
                } else {
                    self.bench(queue_index, waiting);
                }
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests;
