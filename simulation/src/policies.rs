//! The policy files of users: written, edited, emptied, broken.

use mill_model::{AccountId, ContentId, ItemAddress, Properties, SpaceId, StoreId};
use mill_policy::AccountPolicy;
use serde_json::json;

use super::desired_policies::{DesiredCopy, DesiredPolicy};
use super::event::{Event, USERS};
use super::fault::SimFault;
use super::world::World;

/// The space of the policy files.
pub(crate) fn space() -> SpaceId {
    SpaceId::new("policies").unwrap()
}

fn write(world: &World, file: String, text: String) {
    let item = ItemAddress { space: space(), id: ContentId::new(file).unwrap() };
    world.policy_store.inner.insert(&item, text, Properties::default());
}

/// The stores of an account. Users write to 1 and 4; 2 and 3 hold copies.
pub(crate) const STORES: [&str; 4] = ["1", "2", "3", "4"];

/// Another name of store 1, with other names for its spaces: an overlap that no name shows.
pub(crate) const OTHER_NAME: &str = "5";

/// Writes all files with the desired policies.
pub(crate) fn write_all(world: &World) {
    let accounts: Vec<&str> = world.accounts.iter().map(AccountId::as_str).collect();
    write(world, mill_policy::ACCOUNTS_FILE.to_owned(), json!(accounts).to_string());
    for account in &world.accounts {
        let stores: Vec<serde_json::Value> = STORES
            .iter()
            .chain([&OTHER_NAME])
            .map(|store| json!({ "id": store, "type": "folder", "root": format!("{}-{store}", account.as_str()), "primary": *store == "1" }))
            .collect();
        let file = match &world.audit {
            Some(audit) => audit.stores_file(account, stores),
            None => json!({ "stores": stores }),
        };
        write(world, AccountPolicy::stores_file_name(account), file.to_string());
        write_one(world, account, "written");
    }
}

/// Writes an account's policy file with its desired policy.
pub(crate) fn write_one(world: &World, account: &AccountId, what: &'static str) {
    let desired_policies = world.desired_policies.lock().clone();
    let file = desired_policies.0.get(account).cloned().unwrap_or_default().file();
    write(world, AccountPolicy::policy_file_name(account), file);
    {
        let mut journal = world.journal();
        journal.model.now = world.now();
        journal.model.set_policies(desired_policies);
    }
    world.see(&Event::Policies { what, account });
}

/// Draws the first policy of an account.
pub(crate) fn first_policy(world: &World) -> DesiredPolicy {
    let rng = &world.rng;
    let desired_copy = |source: &str, destination: &str| DesiredCopy {
        source: StoreId::new(source).unwrap(),
        destination: StoreId::new(destination).unwrap(),
        remove: rng.below(4) > 0,
        differences: rng.below(2) == 0,
    };
    let workers = rng.happens(world.swarm.capped).then(|| rng.between(1, 3) as u32);
    let mut desired_policy = DesiredPolicy { workers, ..DesiredPolicy::default() };
    match rng.below(6) {
        0 | 1 => desired_policy.defaults = vec![desired_copy("1", "2")],
        2 => desired_policy.defaults = vec![desired_copy("1", "2"), desired_copy("1", "3")],
        3 => desired_policy.defaults = vec![desired_copy("1", "2"), desired_copy("2", "3")],
        4 => {
            desired_policy.defaults = vec![desired_copy("1", "2")];
            desired_policy.own.insert(rng.pick(&world.spaces).clone(), vec![desired_copy("1", "3")]);
        }
        _ => desired_policy.defaults = vec![desired_copy("1", "2"), desired_copy("4", "3")],
    }
    if rng.below(8) == 0 {
        world.count(SimFault::CopiedIntoItself, USERS);
        desired_policy.defaults.push(desired_copy("1", OTHER_NAME));
    }
    desired_policy
}

/// Removes policies that copy a store into itself.
pub(crate) fn remove_self_copies(world: &World) {
    for desired_policy in world.desired_policies.lock().0.values_mut() {
        desired_policy.defaults.retain(|desired_copy| desired_copy.destination.as_str() != OTHER_NAME);
    }
}

/// Edits a random policy.
pub(crate) fn edit(world: &World) {
    let rng = &world.rng;
    let account = rng.pick(&world.accounts);
    let mut desired_policies = world.desired_policies.lock().clone();
    let desired_policy = desired_policies.0.entry(account.clone()).or_default();
    if rng.below(4) == 0 {
        world.count(SimFault::PolicyEmptied, USERS);
        *desired_policy = DesiredPolicy::default();
    } else {
        world.count(SimFault::PolicyEdited, USERS);
        match rng.below(if world.swarm.capped > 0 { 6 } else { 5 }) {
            5 => desired_policy.workers = rng.happens(world.swarm.capped).then(|| rng.between(1, 3) as u32),
            0 => desired_policy.all_mut().for_each(|desired_copy| desired_copy.remove = !desired_copy.remove),
            1 => desired_policy.all_mut().for_each(|desired_copy| desired_copy.differences = !desired_copy.differences),
            2 => {
                let space = rng.pick(&world.spaces);
                if !desired_policy.ignored.remove(space) {
                    desired_policy.ignored.insert(space.clone());
                }
            }
            3 => {
                // From now on another store is the source.
                let from = |desired_copy: &&mut DesiredCopy| desired_copy.source.as_str() == "1";
                let into_itself = |desired_copy: &&mut DesiredCopy| desired_copy.destination.as_str() == OTHER_NAME;
                for desired_copy in
                    desired_policy.all_mut().filter(|desired_copy| from(desired_copy) && !into_itself(desired_copy))
                {
                    desired_copy.source = StoreId::new("4").unwrap();
                }
            }
            _ => *desired_policy = first_policy(world),
        }
    }
    *world.desired_policies.lock() = desired_policies;
    write_one(world, account, "edited");
}

/// Edits an account's policy so that nothing is removed any more.
pub(crate) fn keep_what_vanished(world: &World, account: &AccountId) {
    if let Some(desired_policy) = world.desired_policies.lock().0.get_mut(account) {
        desired_policy.all_mut().for_each(|desired_copy| desired_copy.remove = false);
    }
    write_one(world, account, "keeps what vanished");
}

/// Breaks a policy file until it is written again.
pub(crate) fn break_one(world: &World) {
    world.count(SimFault::PolicyBroken, USERS);
    let account = world.rng.pick(&world.accounts);
    let text = *world.rng.pick(&[
        "",
        "{",
        "[]",
        "{\"defaultPolicies\": 7}",
        "null",
        "{\"defaultPolicies\": [{\"srcStoreId\": \"9\"}]}",
    ]);
    write(world, AccountPolicy::policy_file_name(account), text.to_owned());
    note_trouble(world);
    world.see(&Event::Policies { what: "broken", account });
}

/// Notes that from now on processes may use an old version of the policies.
pub(crate) fn note_trouble(world: &World) {
    let now = world.now();
    world.journal().model.policies_troubled = Some(now);
}
