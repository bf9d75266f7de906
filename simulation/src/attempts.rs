//! The running attempts of all processes: no store has more of them than its cap, each has its permits, and each taken slot
//! runs a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, Monotonic, StoreAddress};
use mill_ports::{Attempt, DeliveryLease, RowKey};
use mill_records::permits::PermitRepository;

use super::fairness::Fairness;
use super::fault::SimFault;
use super::in_flight_bodies::InFlightBodies;
use super::model::back;
use super::sim_process::SimProcess;
use super::world::World;

/// The running attempts, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    next: u64,
    running: BTreeMap<u64, RunningAttempt>,
    /// When a store last had as many attempts as its lowest possible cap.
    stores_full: BTreeMap<StoreAddress, Monotonic>,
    /// When the slots of a workman were last full.
    slots_full: BTreeMap<String, Monotonic>,
    /// When an account last had its share of the slots of a workman.
    shares_full: BTreeMap<(String, AccountId), Monotonic>,
    /// How many slots each workman reports as taken, and since when these are more than its attempts.
    slots: BTreeMap<String, (u32, Option<Monotonic>)>,
}

#[derive(Debug)]
struct RunningAttempt {
    process: Arc<SimProcess>,
    account: AccountId,
    stores: Vec<StoreAddress>,
    lease: DeliveryLease,
    began: Monotonic,
}

/// A running attempt; it ends when the guard is dropped.
pub(crate) struct AttemptGuard {
    world: Arc<World>,
    key: u64,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let mut attempts = self.world.attempts.lock();
        attempts.note_full(&self.world, self.key);
        let Some(ended) = attempts.running.remove(&self.key) else { return };
        drop(attempts);
        let swarm = &self.world.swarm;
        let held = self.world.now().since(ended.began) + swarm.visibility >= swarm.held_max;
        if held && !ended.process.is_dead() && !self.world.is_calm() {
            self.world.count(SimFault::HeldTooLong, &ended.process.name);
        }
    }
}

/// How long after the refresh time a new policy may take to apply: it is read by calls that may be slow.
const READING: Duration = Duration::from_mins(10);

impl Attempts {
    /// Notes that an attempt begins, and judges whether it may.
    pub(crate) fn begin(process: &Arc<SimProcess>, stores: &[StoreAddress], attempt: &Attempt) -> AttemptGuard {
        let world = process.world.clone();
        InFlightBodies::begun(process, &attempt.envelope.id.to_string());
        Fairness::begun(&world, stores);
        let key = {
            let mut attempts = world.attempts.lock();
            attempts.next += 1;
            let key = attempts.next;
            let (lease, began) = (attempt.lease.clone(), world.now());
            let account = attempt.envelope.task.account.clone();
            let (process, stores) = (process.clone(), stores.to_vec());
            attempts.running.insert(key, RunningAttempt { process, account, stores, lease, began });
            attempts.note_full(&world, key);
            key
        };
        if let Err(what) = Self::judge_slots_of(&world, &process.name) {
            world.violated("no slot is held by a task that waits", what);
        }
        for store in stores {
            if let Err((promise, what)) = Self::judge(&world, store) {
                world.violated(promise, what);
            }
        }
        AttemptGuard { world, key }
    }

    /// Judges whether at most as many attempts act at a store as its cap allows. Attempts without a lease and those of dead
    /// processes do not count: they do nothing more.
    fn judge(world: &World, store: &StoreAddress) -> Result<(), (&'static str, String)> {
        let attempts = world.attempts.lock();
        let at_store = |running: &&RunningAttempt| {
            running.stores.contains(store) && running.lease.holds() && !running.process.is_dead()
        };
        let acting: Vec<&RunningAttempt> = attempts.running.values().filter(at_store).collect();
        let Some(since) = acting.iter().map(|running| running.began).min() else { return Ok(()) };
        let by: Vec<&str> = acting.iter().map(|running| running.process.name.as_str()).collect();
        let Some(cap) = cap_since(world, store, since) else { return Ok(()) };
        if acting.len() as u64 > u64::from(cap) {
            let what = format!("{} tasks run at {store}, of {by:?}, where at most {cap} may", acting.len());
            return Err(("no store has more tasks than its cap", what));
        }
        let permits = permits(world, store);
        for holder in &by {
            let (run, may) = (by.iter().filter(|other| *other == holder).count(), permits.get(*holder).copied());
            if run as u64 > may.unwrap_or(0) {
                let what = format!("{run} tasks of {holder} run at {store}, and the book gives it {may:?} permits");
                return Err(("each task has its permits", what));
            }
        }
        Ok(())
    }

    /// Notes which stores, slots and shares are full while this attempt runs.
    fn note_full(&mut self, world: &World, key: u64) {
        let Some(RunningAttempt { process, account, stores, .. }) = self.running.get(&key) else { return };
        let now = world.now();
        for store in stores {
            let running = self.running.values().filter(|running| running.stores.contains(store)).count();
            if least_cap(world, store).is_some_and(|cap| running as u64 >= u64::from(cap)) {
                self.stores_full.insert(store.clone(), now);
            }
        }
        if self.of(&process.name) >= slots_for_any(world) {
            self.slots_full.insert(process.name.clone(), now);
        }
        if self.has_share(world, &process.name, account) {
            self.shares_full.insert((process.name.clone(), account.clone()), now);
        }
    }

    /// Whether an account has its share of a workman's slots. The share of long tasks is three quarters of the slots that other
    /// accounts leave.
    fn has_share(&self, world: &World, workman: &str, account: &AccountId) -> bool {
        let of_workman = self.running.values().filter(|running| running.process.name == workman);
        let (its, others): (Vec<_>, Vec<_>) = of_workman.partition(|running| running.account == *account);
        let left = world.swarm.workers.saturating_sub(others.len() as u32);
        its.len() as u32 >= (left * 3 / 4).max(1)
    }

    /// Since when an account has had less than its share of a workman's slots.
    pub(crate) fn share_since(process: &SimProcess, account: &AccountId) -> Option<Monotonic> {
        let attempts = process.world.attempts.lock();
        let full = attempts.shares_full.get(&(process.name.clone(), account.clone())).copied().unwrap_or_default();
        (!attempts.has_share(&process.world, &process.name, account)).then_some(full)
    }

    fn of(&self, workman: &str) -> u32 {
        self.running.values().filter(|running| running.process.name == workman).count() as u32
    }

    /// Since when each of these stores has room for one more attempt; `None` if one is full.
    pub(crate) fn room_since(world: &World, stores: &[StoreAddress]) -> Option<Monotonic> {
        let attempts = world.attempts.lock();
        let mut since = Monotonic::default();
        for store in stores {
            let Some(cap) = least_cap(world, store) else { continue };
            let running = attempts.running.values().filter(|running| running.stores.contains(store)).count();
            let full = attempts.stores_full.get(store).copied().unwrap_or_default();
            if running as u64 >= u64::from(cap) {
                return None;
            }
            since = since.max(full);
        }
        Some(since)
    }

    /// Since when a workman has had a slot free for any queue.
    pub(crate) fn slots_since(process: &SimProcess) -> Option<Monotonic> {
        let attempts = process.world.attempts.lock();
        let free = attempts.of(&process.name) < slots_for_any(&process.world);
        free.then(|| attempts.slots_full.get(&process.name).copied().unwrap_or_default())
    }

    /// Takes a workman's report of how many of its slots are taken.
    pub(crate) fn observe_slots(world: &World, workman: &str, taken: u32) {
        let told = Self::judge_slots_of(world, workman);
        world.attempts.lock().slots.entry(workman.to_owned()).or_default().0 = taken;
        if let Err(what) = told.and_then(|()| Self::judge_slots_of(world, workman)) {
            world.violated("no slot is held by a task that waits", what);
        }
    }

    /// Judges whether each workman that is well runs a task in each taken slot.
    pub(crate) fn judge_slots(world: &World) -> Result<(), String> {
        world.workmen().iter().try_for_each(|process| Self::judge_slots_of(world, &process.name))
    }

    /// A finished task is handed on before its slot is free, which may wait for slow calls.
    fn judge_slots_of(world: &World, workman: &str) -> Result<(), String> {
        const AT_ONCE: Duration = Duration::from_secs(1);
        let now = world.now();
        let well =
            world.workmen().iter().find(|process| process.name == workman).and_then(|process| process.well_since());
        let mut attempts = world.attempts.lock();
        let running = attempts.of(workman);
        let Some((taken, idle_since)) = attempts.slots.get_mut(workman) else { return Ok(()) };
        *idle_since = (*taken > running).then(|| idle_since.unwrap_or(now));
        match (idle_since, well) {
            (Some(since), Some(well)) if now.since((*since).max(well)) > AT_ONCE => Err(format!(
                "{workman} has {taken} of its slots taken for {:?}, and runs {running} tasks",
                now.since(*since)
            )),
            _ => Ok(()),
        }
    }
}

/// The slots of a workman that any queue may fill.
fn slots_for_any(world: &World) -> u32 {
    const SOME: u32 = 4;
    let workers = world.swarm.workers;
    if workers < SOME { workers } else { workers - 1 }
}

/// The permits of each workman at a store, by the table.
fn permits(world: &World, store: &StoreAddress) -> BTreeMap<String, u64> {
    let key = RowKey::new(format!("account/{}", store.account.as_str()), store.store.as_str());
    let row = world.tables[PermitRepository::TABLE].rows().into_iter().find(|(of, _)| *of == key);
    let row = row.and_then(|(_, value)| serde_json::from_slice::<serde_json::Value>(&value).ok()).unwrap_or_default();
    let holders = row["holders"].as_object().into_iter().flatten();
    holders.map(|(name, entry)| (name.clone(), entry["permits"].as_u64().unwrap_or(0))).collect()
}

/// The lowest cap of a store that a process may apply now; `None` if there is no cap.
fn least_cap(world: &World, store: &StoreAddress) -> Option<u32> {
    world.model(|model| {
        if model.policies_troubled.is_some() {
            // A process that knows no cap applies one.
            return Some(1);
        }
        let oldest = back(world.now(), model.tolerances.refresh + READING);
        model
            .policies_since(oldest)
            .filter_map(|desired_policies| desired_policies.0.get(&store.account)?.workers)
            .min()
    })
}

/// The highest cap of a store that a process may have applied since then; `None` if one may have known no cap.
fn cap_since(world: &World, store: &StoreAddress, since: Monotonic) -> Option<u32> {
    world.model(|model| {
        let slack = model.tolerances.refresh + READING;
        let oldest = if model.policies_troubled.is_some() { Monotonic::default() } else { back(since, slack) };
        let mut most = Some(0);
        for desired_policies in model.policies_since(oldest) {
            let cap = desired_policies.0.get(&store.account).and_then(|desired_policy| desired_policy.workers);
            most = most.zip(cap).map(|(most, cap): (u32, u32)| most.max(cap));
        }
        most
    })
}
