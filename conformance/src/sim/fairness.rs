//! Tasks that wait for their turn: none waits without bound while its stores are well, wherever it is meanwhile.
//!
//! [`in_flight_bodies`](super::in_flight_bodies) judges each body by itself. A task that is put back is a body that has just come, and could be put back
//! for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_engine::QueuedBody;
use mill_model::{AccountId, Monotonic, QueueName, StoreAddress};

use super::attempts::Attempts;
use super::event::DecodedBody;
use super::in_flight_bodies::{InFlightBodies, SOON, ready_since, stores};
use super::world::{World, lock};

/// The promise.
const SERVED: &str = "no account waits without bound while its stores are well";
/// The longest for which what cannot begin is put back.
const PUT_BACK: Duration = Duration::from_mins(15);
/// The longest for which a store in trouble is left alone.
const LEFT_ALONE: Duration = Duration::from_mins(6);

/// The tasks that need the same stores, of one account.
type StoreSet = Vec<StoreAddress>;

/// Since when each party has waited with nothing begun, and when anything was last in the way.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    waiting: BTreeMap<StoreSet, Monotonic>,
    stores_troubled: BTreeMap<StoreAddress, Monotonic>,
    fleet_troubled: Monotonic,
}

impl Fairness {
    /// A task begins that needs these stores.
    pub(crate) fn begun(world: &World, stores: &[StoreAddress]) {
        lock(&world.fairness).waiting.remove(stores);
    }

    /// One of these stores could not be used: workmen leave it alone for a while.
    pub(crate) fn stores_troubled(world: &World, stores: &[StoreAddress]) {
        let troubled = &mut lock(&world.fairness).stores_troubled;
        troubled.extend(stores.iter().map(|store| (store.clone(), world.now())));
    }

    /// A process is in trouble until then: what it has in hand waits with it.
    pub(crate) fn fleet_troubled(world: &World, until: Monotonic) {
        let troubled = &mut lock(&world.fairness).fleet_troubled;
        *troubled = until.max(*troubled);
    }

    /// Judges all that wait.
    pub(crate) fn judge(world: &World) {
        let sim_queues = world.sim_queues.values().filter(|sim_queue| sim_queue.name != QueueName::DeadLetter);
        let standing = sim_queues
            .flat_map(|sim_queue| sim_queue.inner.snapshot().into_iter().map(|standing| (sim_queue.name, standing)));
        let store_sets: BTreeMap<StoreSet, AccountId> =
            standing.filter_map(|(queue, standing)| store_set(world, queue, &standing)).collect();
        let (mut waiting, now) = (std::mem::take(&mut lock(&world.fairness).waiting), world.now());
        waiting.retain(|store_set, _| store_sets.contains_key(store_set));
        for (store_set, account) in &store_sets {
            let since = *waiting.entry(store_set.clone()).or_insert(now);
            if let Some(waited) = waits_in_vain(world, store_set, account, since) {
                let what = format!("tasks for {store_set:?} have waited for {waited:?}, and nothing was in their way");
                world.violated(SERVED, what);
            }
        }
        lock(&world.fairness).waiting = waiting;
    }
}

/// The party of a task that waits as it was sent: what was tried has its delays.
fn store_set(world: &World, queue: QueueName, standing: &QueuedBody) -> Option<(StoreSet, AccountId)> {
    if standing.in_flight && InFlightBodies::is_begun(world, queue, standing.id) {
        return None;
    }
    let decoded = DecodedBody::of(&standing.body);
    let envelope = decoded.envelope.as_ref().filter(|envelope| envelope.failures == 0 && envelope.snoozes == 0)?;
    let store_set = stores(&decoded);
    (!store_set.is_empty()).then(|| (store_set, envelope.task.account.clone()))
}

/// For how long a party has waited since the last thing that was in its way, if that is too long.
fn waits_in_vain(world: &World, store_set: &StoreSet, account: &AccountId, since: Monotonic) -> Option<Duration> {
    let most = PUT_BACK + LEFT_ALONE + SOON * 2 + world.swarm.visibility * 2;
    let now = world.now();
    if now.since(since) <= most {
        return None;
    }
    let room = Attempts::room_since(world, store_set)?;
    let troubled = {
        let fairness = lock(&world.fairness);
        let of_store = |store| fairness.stores_troubled.get(store).copied();
        store_set.iter().filter_map(of_store).max().unwrap_or_default().max(fairness.fleet_troubled)
    };
    // Whoever has one of them in hand must have been able to begin it.
    let workmen = world.workmen();
    let ready: Option<Vec<Monotonic>> = workmen
        .iter()
        .map(|process| Some(ready_since(process)?.max(Attempts::share_since(process, account)?)))
        .collect();
    let ready = ready?.into_iter().max()?;
    let waited = now.since(since.max(room).max(troubled).max(ready));
    (waited > most).then_some(waited)
}
