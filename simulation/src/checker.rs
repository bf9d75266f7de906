//! An independent checker: it lists and hashes the stores itself, and takes the policies from the users.

use std::collections::BTreeMap;

use mill_model::{AccountId, ContentId, ItemAddress, SpaceId, StoreAddress, StoreId};

use super::desired_policies::DesiredCopy;
use super::event::ContentFingerprint;
use super::world::World;

/// The contents of a space, by the checker's own listing and hashing.
pub(crate) fn listed(
    world: &World,
    store: &StoreAddress,
    space: &SpaceId,
) -> Option<BTreeMap<ContentId, ContentFingerprint>> {
    let contents = world.sim_stores[store].inner.contents(space)?;
    Some(
        contents
            .into_iter()
            .map(|(id, (bytes, properties))| (id, ContentFingerprint::of(&bytes, &properties)))
            .collect(),
    )
}

/// Checks that each store holds exactly the items that were written there: no write shows before it is complete, and a failed
/// write leaves nothing.
pub(crate) fn scan(world: &World) {
    for store in world.sim_stores.keys() {
        for space in &world.spaces {
            for (id, fingerprint) in listed(world, store, space).unwrap_or_default() {
                let item = ItemAddress { space: space.clone(), id };
                let known = world.model(|model| {
                    model
                        .stores
                        .get(store)
                        .and_then(|store_model| store_model.now(&item))
                        .and_then(|snapshot| snapshot.holds)
                });
                if known != Some(fingerprint) {
                    let what = format!("{store} shows {fingerprint} as {item}, where {known:?} was written");
                    return world.violated("stores hold what was written", what);
                }
            }
        }
    }
}

/// The number of held deletes of each pair.
pub(crate) type HeldCounts = BTreeMap<(AccountId, SpaceId, StoreId, StoreId), u64>;

/// Checks that each destination equals what the policies say, except for held deletes.
pub(crate) fn compare(world: &World, held: &HeldCounts) -> Result<(), String> {
    scan(world);
    let desired_policies = world.desired_policies.lock().clone();
    for (account, desired_policy) in &desired_policies.0 {
        for space in &world.spaces {
            for desired_copy in desired_policy.of_space(space) {
                PairCheck { world, account, space, desired_copy, held }.compare()?;
            }
        }
    }
    Ok(())
}

/// Whether a store that folds names cannot tell the paths of two ids apart.
fn are_twins(one: &ContentId, other: &ContentId) -> bool {
    let names = |id: &ContentId| id.as_str().trim_end_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let differing = names(one).into_iter().zip(names(other)).find(|(one, other)| one != other);
    differing.is_some_and(|(one, other)| {
        mill_model::name_folding::fold_name(&one) == mill_model::name_folding::fold_name(&other)
    })
}

struct PairCheck<'w> {
    world: &'w World,
    account: &'w AccountId,
    space: &'w SpaceId,
    desired_copy: &'w DesiredCopy,
    held: &'w HeldCounts,
}

impl PairCheck<'_> {
    fn compare(&self) -> Result<(), String> {
        let Self { world, account, space, desired_copy, held } = self;
        let address = |store: &StoreId| StoreAddress { account: (*account).clone(), store: store.clone() };
        let (source, destination) = (address(&desired_copy.source), address(&desired_copy.destination));
        let key = ((*account).clone(), (*space).clone(), desired_copy.source.clone(), desired_copy.destination.clone());
        let held = held.get(&key).copied();
        let theirs = listed(world, &destination, space);
        let Some(ours) = listed(world, &source, space) else {
            // The source space is gone: its copy stays until a person confirms its removal.
            return Ok(());
        };
        let Some(theirs) = theirs else { return Err(format!("{destination} lacks the space {space} of {source}")) };
        let folds = world.swarm.folds;
        for (id, fingerprint) in &ours {
            let item = ItemAddress { space: (*space).clone(), id: id.clone() };
            match theirs.get(id) {
                Some(found) if found == fingerprint && world.sim_stores[&destination].is_cached_alone(&item) => {
                    return Err(format!("{destination} has {item} in its cache alone: its disk has other bytes"));
                }
                Some(found) if found == fingerprint => {}
                // An item may be missing only if the destination has another spelling of it.
                None if folds && theirs.keys().any(|other| are_twins(id, other)) => {}
                found => {
                    return Err(format!("{destination} has {found:?} as {space}/{id}, and {source} has {fingerprint}"));
                }
            }
        }
        let extra = theirs.iter().filter(|(id, _)| !ours.contains_key(*id)).count() as u64;
        // An item with the size of a twin at the source may be the renamed twin; that is known only once both are read.
        let may_be_twin = |(id, fingerprint): &(&ContentId, &ContentFingerprint)| {
            let mut twins = ours.iter().filter(|(other, _)| are_twins(id, other) && !theirs.contains_key(*other));
            !ours.contains_key(*id) && folds && twins.any(|(_, twin)| twin.size == fingerprint.size)
        };
        let twins = theirs.iter().filter(may_be_twin).count() as u64;
        if desired_copy.remove && !(extra - twins..=extra).contains(&held.unwrap_or(0)) {
            return Err(format!(
                "{destination} has {extra} items of {space} that {source} has not, and {held:?} are held"
            ));
        }
        Ok(())
    }
}
