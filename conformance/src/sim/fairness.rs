//! Tasks that wait for their turn: none waits without bound while its stores are well, wherever it is meanwhile.
//!
//! [`hands`](super::hands) judges each body by itself. A task that is put back is a body that has just come, and could be put back
//! for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use mill_engine::QueuedBody;
use mill_model::{AccountId, Monotonic, QueueName, StoreAddress};

use super::attempts::Attempts;
use super::event::Sealed;
use super::hands::{Hands, SOON, ready_since, stores};
use super::world::{World, lock};

/// The promise.
const SERVED: &str = "no account waits without bound while its stores are well";
/// The longest for which what cannot begin is put back.
const PUT_BACK: Duration = Duration::from_mins(15);
/// The longest for which a store in trouble is left alone.
const LEFT_ALONE: Duration = Duration::from_mins(6);

/// The tasks that need the same stores, of one account.
type Party = Vec<StoreAddress>;

/// Since when each party has waited with nothing begun, and when anything was last in the way.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: BTreeMap<Party, Monotonic>,
    stores_troubled: BTreeMap<StoreAddress, Monotonic>,
    fleet_troubled: Monotonic,
}

impl Turns {
    /// A task begins that needs these stores.
    pub(crate) fn begun(world: &World, stores: &[StoreAddress]) {
        lock(&world.turns).waiting.remove(stores);
    }

    /// One of these stores could not be used: workmen leave it alone for a while.
    pub(crate) fn stores_troubled(world: &World, stores: &[StoreAddress]) {
        let troubled = &mut lock(&world.turns).stores_troubled;
        troubled.extend(stores.iter().map(|store| (store.clone(), world.now())));
    }

    /// A process is in trouble until then: what it has in hand waits with it.
    pub(crate) fn fleet_troubled(world: &World, until: Monotonic) {
        let troubled = &mut lock(&world.turns).fleet_troubled;
        *troubled = until.max(*troubled);
    }

    /// Judges all that wait.
    pub(crate) fn judge(world: &World) {
        let desks = world.desks.values().filter(|desk| desk.name != QueueName::DeadLetter);
        let standing = desks.flat_map(|desk| desk.inner.snapshot().into_iter().map(|standing| (desk.name, standing)));
        let parties: BTreeMap<Party, AccountId> =
            standing.filter_map(|(queue, standing)| party(world, queue, &standing)).collect();
        let (mut waiting, now) = (std::mem::take(&mut lock(&world.turns).waiting), world.now());
        waiting.retain(|party, _| parties.contains_key(party));
        for (party, account) in &parties {
            let since = *waiting.entry(party.clone()).or_insert(now);
            if let Some(waited) = waits_in_vain(world, party, account, since) {
                let what = format!("tasks for {party:?} have waited for {waited:?}, and nothing was in their way");
                world.violated(SERVED, what);
            }
        }
        lock(&world.turns).waiting = waiting;
    }
}

/// The party of a task that waits as it was sent: what was tried has its delays.
fn party(world: &World, queue: QueueName, standing: &QueuedBody) -> Option<(Party, AccountId)> {
    if standing.in_flight && Hands::is_begun(world, queue, standing.id) {
        return None;
    }
    let sealed = Sealed::of(&standing.body);
    let envelope = sealed.envelope.as_ref().filter(|envelope| envelope.failures == 0 && envelope.snoozes == 0)?;
    let party = stores(&sealed);
    (!party.is_empty()).then(|| (party, envelope.task.account.clone()))
}

/// For how long a party has waited since the last thing that was in its way, if that is too long.
fn waits_in_vain(world: &World, party: &Party, account: &AccountId, since: Monotonic) -> Option<Duration> {
    let most = PUT_BACK + LEFT_ALONE + SOON * 2 + world.swarm.visibility * 2;
    let now = world.now();
    if now.since(since) <= most {
        return None;
    }
    let room = Attempts::room_since(world, party)?;
    let troubled = {
        let turns = lock(&world.turns);
        let of_store = |store| turns.stores_troubled.get(store).copied();
        party.iter().filter_map(of_store).max().unwrap_or_default().max(turns.fleet_troubled)
    };
    // Whoever has one of them in hand must have been able to begin it.
    let workmen = world.workmen();
    let ready: Option<Vec<Monotonic>> =
        workmen.iter().map(|line| Some(ready_since(line)?.max(Attempts::share_since(line, account)?))).collect();
    let ready = ready?.into_iter().max()?;
    let waited = now.since(since.max(room).max(troubled).max(ready));
    (waited > most).then_some(waited)
}
