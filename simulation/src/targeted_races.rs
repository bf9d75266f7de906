//! Users who act at the worst possible moment of a task.

use std::sync::Arc;
use std::time::Duration;

use mill_model::ItemAddress;

use super::event::USERS;
use super::fault::SimFault;
use super::instrumented_processor;
use super::policies;
use super::sim_process::SimProcess;
use super::sim_store::{SimStore, StoreTrouble};
use super::users::Users;

/// Draws whether a user acts now: in `percent` of the moments that the rate of this world allows.
fn may_act(process: &SimProcess, percent: u32) -> bool {
    !process.world.is_calm()
        && instrumented_processor::running().is_some()
        && process.world.rng.happens(process.world.swarm.rates.spite * percent / 100)
}

fn is_theirs(sim_store: &SimStore) -> bool {
    ["1", "4"].contains(&sim_store.address.store.as_str())
}

/// A task found an item absent at its source.
pub(crate) fn item_found_absent(process: &Arc<SimProcess>, sim_store: &Arc<SimStore>, item: &ItemAddress) {
    if !(is_theirs(sim_store) && may_act(process, 35)) {
        return;
    }
    let world = &*process.world;
    if world.rng.below(20) < 13 {
        world.count(SimFault::ReturnedUnderDelete, USERS);
        Users { world, sim_store }.overwrite(item);
    } else {
        world.count(SimFault::PolicyChangedUnderDelete, USERS);
        policies::keep_what_vanished(world, &sim_store.address.account);
    }
}

/// A task that deletes found an item at its destination, and is about to look for it at its source. Returns how long the answer
/// takes if a user acts.
pub(crate) fn item_to_delete_found(
    process: &Arc<SimProcess>,
    sim_store: &Arc<SimStore>,
    item: &ItemAddress,
) -> Option<Duration> {
    let remove = instrumented_processor::running()?.remove.clone()?;
    if remove.pair.destination != sim_store.address.store || !may_act(process, 60) {
        return None;
    }
    let world = &*process.world;
    let source = world.sim_store(&remove.pair.account, &remove.pair.source).filter(|source| is_theirs(source))?;
    let users = Users { world, sim_store: source };
    match world.rng.below(20) {
        0..8 if users.hide_space(&item.space) => world.count(SimFault::SpaceGoneUnderDelete, USERS),
        0..8 => return None,
        8..14 => {
            world.count(SimFault::PolicyChangedUnderDelete, USERS);
            policies::keep_what_vanished(world, &remove.pair.account);
        }
        _ => {
            world.count(SimFault::ReturnedBehindDenial, USERS);
            users.overwrite(item);
            source.trouble(StoreTrouble::Denied, world.now().plus(Duration::from_mins(2)));
        }
    }
    Some(world.rng.duration(Duration::from_secs(1), Duration::from_secs(50)))
}

/// A task opened an item at its source.
pub(crate) fn item_opened(process: &Arc<SimProcess>, sim_store: &Arc<SimStore>, item: &ItemAddress) {
    if is_theirs(sim_store) && may_act(process, 20) {
        let world = &*process.world;
        world.count(SimFault::ChangedUnderRead, USERS);
        Users { world, sim_store }.overwrite(item);
    }
}

/// A delete arrives at a destination. If its source space is hidden, no user acts: only the task's own check may stop the delete.
pub(crate) fn delete_arrives(process: &Arc<SimProcess>, sim_store: &Arc<SimStore>, item: &ItemAddress) {
    let remove = instrumented_processor::running().and_then(|running| running.remove.clone());
    let source = remove.and_then(|remove| process.world.sim_store(&remove.pair.account, &remove.pair.source));
    if source.is_some_and(|source| source.hides(&item.space)) {
        return;
    }
    if sim_store.inner.content(item).is_some() && may_act(process, 100) {
        let world = &*process.world;
        world.count(SimFault::RewrittenUnderDelete, USERS);
        Users { world, sim_store }.overwrite(item);
    }
}
