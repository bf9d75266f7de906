//! Fairness: no task waits without bound while its stores are well, whether it is in a queue or held by a workman.
//!
//! [`in_flight_bodies`](super::in_flight_bodies) judges each body by itself. But a task that is put back is a new body each
//! time, and could be put back for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::{AccountId, Monotonic, QueueName, StoreAddress};
use mill_testkit::QueuedBody;

use super::attempts::Attempts;
use super::event::DecodedBody;
use super::in_flight_bodies::{InFlightBodies, SOON, ready_since, stores};
use super::world::World;

/// The promise.
const SERVED: &str = "no account waits without bound while its stores are well";
/// How long a task that cannot begin may be put back at most.
const PUT_BACK: Duration = Duration::from_mins(15);
/// How long workmen avoid a store in trouble at most.
const LEFT_ALONE: Duration = Duration::from_mins(6);

/// The stores of a task. All tasks of the same stores wait together.
type StoreSet = Vec<StoreAddress>;

/// Since when the tasks of each set of stores wait, and when something last blocked them.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    waiting: BTreeMap<StoreSet, Monotonic>,
    stores_troubled: BTreeMap<StoreAddress, Monotonic>,
    fleet_troubled: Monotonic,
}

impl Fairness {
    /// Notes that a task of these stores begins.
    pub(crate) fn begun(world: &World, stores: &[StoreAddress]) {
        world.fairness.lock().waiting.remove(stores);
    }

    /// Notes that one of these stores could not be used: workmen avoid it for a while.
    pub(crate) fn stores_troubled(world: &World, stores: &[StoreAddress]) {
        let troubled = &mut world.fairness.lock().stores_troubled;
        troubled.extend(stores.iter().map(|store| (store.clone(), world.now())));
    }

    /// Notes that a process is in trouble until then: the tasks it holds wait with it.
    pub(crate) fn fleet_troubled(world: &World, until: Monotonic) {
        let troubled = &mut world.fairness.lock().fleet_troubled;
        *troubled = until.max(*troubled);
    }

    /// Judges all waiting tasks.
    pub(crate) fn judge(world: &World) {
        let sim_queues = world.sim_queues.values().filter(|sim_queue| sim_queue.name != QueueName::DeadLetter);
        let standing = sim_queues
            .flat_map(|sim_queue| sim_queue.inner.snapshot().into_iter().map(|standing| (sim_queue.name, standing)));
        let store_sets: BTreeMap<StoreSet, AccountId> =
            standing.filter_map(|(queue, standing)| store_set(world, queue, &standing)).collect();
        let (mut waiting, now) = (std::mem::take(&mut world.fairness.lock().waiting), world.now());
        waiting.retain(|store_set, _| store_sets.contains_key(store_set));
        for (store_set, account) in &store_sets {
            let since = *waiting.entry(store_set.clone()).or_insert(now);
            if let Some(waited) = waits_in_vain(world, store_set, account, since) {
                let what = format!("tasks for {store_set:?} have waited for {waited:?}, and nothing was in their way");
                world.violated(SERVED, what);
            }
        }
        world.fairness.lock().waiting = waiting;
    }
}

/// The stores of a waiting task that was never tried: a task that was tried has its delays.
fn store_set(world: &World, queue: QueueName, standing: &QueuedBody) -> Option<(StoreSet, AccountId)> {
    if standing.in_flight && InFlightBodies::is_begun(world, queue, standing.id) {
        return None;
    }
    let decoded = DecodedBody::of(&standing.body);
    let envelope = decoded.envelope.as_ref().filter(|envelope| envelope.failures == 0 && envelope.snoozes == 0)?;
    let store_set = stores(&decoded);
    (!store_set.is_empty()).then(|| (store_set, envelope.task.account.clone()))
}

/// How long the tasks of these stores have waited since something last blocked them, if that is too long.
fn waits_in_vain(world: &World, store_set: &StoreSet, account: &AccountId, since: Monotonic) -> Option<Duration> {
    let most = PUT_BACK + LEFT_ALONE + SOON * 2 + world.swarm.visibility * 2;
    let now = world.now();
    if now.since(since) <= most {
        return None;
    }
    let room = Attempts::room_since(world, store_set)?;
    let troubled = {
        let fairness = world.fairness.lock();
        let of_store = |store| fairness.stores_troubled.get(store).copied();
        store_set.iter().filter_map(of_store).max().unwrap_or_default().max(fairness.fleet_troubled)
    };
    // Any workman may hold one of the tasks, so all must have been able to begin one.
    let workmen = world.workmen();
    let ready: Option<Vec<Monotonic>> = workmen
        .iter()
        .map(|process| Some(ready_since(process)?.max(Attempts::share_since(process, account)?)))
        .collect();
    let ready = ready?.into_iter().max()?;
    let waited = now.since(since.max(room).max(troubled).max(ready));
    (waited > most).then_some(waited)
}
