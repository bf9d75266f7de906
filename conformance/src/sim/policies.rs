//! People and their policy files: edited, emptied, broken.

use mill_model::{AccountId, ContentId, ItemAddress, Properties, SpaceId, StoreId};
use mill_policy::AccountPolicy;
use serde_json::json;

use super::event::{Event, PEOPLE};
use super::fault::Fault;
use super::wishes::{Copying, Wish};
use super::world::{World, lock};

/// The space of the policy files.
pub(crate) fn space() -> SpaceId {
    SpaceId::new("policies").unwrap()
}

fn write(world: &World, file: String, text: String) {
    let item = ItemAddress { space: space(), id: ContentId::new(file).unwrap() };
    world.policy_shelf.inner.insert(&item, text, Properties::default());
}

/// The stores of an account. People write to 1 and 4; 2 and 3 hold copies.
pub(crate) const STORES: [&str; 4] = ["1", "2", "3", "4"];

/// Another name of store 1, by which its spaces are called otherwise: what overlaps, and by no name shows it.
pub(crate) const OTHER_NAME: &str = "5";

/// Writes all files, as the wishes stand.
pub(crate) fn write_all(world: &World) {
    let accounts: Vec<&str> = world.accounts.iter().map(AccountId::as_str).collect();
    write(world, mill_policy::ACCOUNTS_FILE.to_owned(), json!(accounts).to_string());
    for account in &world.accounts {
        let stores: Vec<_> = STORES
            .iter()
            .chain([&OTHER_NAME])
            .map(|store| json!({ "id": store, "type": "folder", "root": format!("{}-{store}", account.as_str()), "primary": *store == "1" }))
            .collect();
        write(world, AccountPolicy::stores_file_name(account), json!({ "stores": stores }).to_string());
        write_one(world, account, "written");
    }
}

/// Writes an account's policy as its wish stands.
pub(crate) fn write_one(world: &World, account: &AccountId, what: &'static str) {
    let wishes = lock(&world.wishes).clone();
    let file = wishes.0.get(account).cloned().unwrap_or_default().file();
    write(world, AccountPolicy::policy_file_name(account), file);
    {
        let mut books = world.books();
        books.truth.now = world.now();
        books.truth.wish(wishes);
    }
    world.see(&Event::Policies { what, account });
}

/// A wish to begin with.
pub(crate) fn first_wish(world: &World) -> Wish {
    let dice = &world.dice;
    let copying = |source: &str, destination: &str| Copying {
        source: StoreId::new(source).unwrap(),
        destination: StoreId::new(destination).unwrap(),
        remove: dice.below(4) > 0,
        differences: dice.below(2) == 0,
    };
    let workers = dice.happens(world.swarm.capped).then(|| dice.between(1, 3) as u32);
    let mut wish = Wish { workers, ..Wish::default() };
    match dice.below(6) {
        0 | 1 => wish.defaults = vec![copying("1", "2")],
        2 => wish.defaults = vec![copying("1", "2"), copying("1", "3")],
        3 => wish.defaults = vec![copying("1", "2"), copying("2", "3")],
        4 => {
            wish.defaults = vec![copying("1", "2")];
            wish.own.insert(dice.pick(&world.spaces).clone(), vec![copying("1", "3")]);
        }
        _ => wish.defaults = vec![copying("1", "2"), copying("4", "3")],
    }
    if dice.below(8) == 0 {
        world.count(Fault::CopiedIntoItself, PEOPLE);
        wish.defaults.push(copying("1", OTHER_NAME));
    }
    wish
}

/// Nothing is copied into itself any more.
pub(crate) fn mend(world: &World) {
    for wish in lock(&world.wishes).0.values_mut() {
        wish.defaults.retain(|copying| copying.destination.as_str() != OTHER_NAME);
    }
}

/// People change their mind.
pub(crate) fn edit(world: &World) {
    let dice = &world.dice;
    let account = dice.pick(&world.accounts);
    let mut wishes = lock(&world.wishes).clone();
    let wish = wishes.0.entry(account.clone()).or_default();
    if dice.below(4) == 0 {
        world.count(Fault::PolicyEmptied, PEOPLE);
        *wish = Wish::default();
    } else {
        world.count(Fault::PolicyEdited, PEOPLE);
        match dice.below(if world.swarm.capped > 0 { 6 } else { 5 }) {
            5 => wish.workers = dice.happens(world.swarm.capped).then(|| dice.between(1, 3) as u32),
            0 => wish.all_mut().for_each(|copying| copying.remove = !copying.remove),
            1 => wish.all_mut().for_each(|copying| copying.differences = !copying.differences),
            2 => {
                let space = dice.pick(&world.spaces);
                if !wish.ignored.remove(space) {
                    wish.ignored.insert(space.clone());
                }
            }
            3 => {
                // Another store is the source from now on.
                let from = |copying: &&mut Copying| copying.source.as_str() == "1";
                let into_itself = |copying: &&mut Copying| copying.destination.as_str() == OTHER_NAME;
                for copying in wish.all_mut().filter(|copying| from(copying) && !into_itself(copying)) {
                    copying.source = StoreId::new("4").unwrap();
                }
            }
            _ => *wish = first_wish(world),
        }
    }
    *lock(&world.wishes) = wishes;
    write_one(world, account, "edited");
}

/// Nothing is to be removed any more.
pub(crate) fn keep_what_vanished(world: &World, account: &AccountId) {
    if let Some(wish) = lock(&world.wishes).0.get_mut(account) {
        wish.all_mut().for_each(|copying| copying.remove = false);
    }
    write_one(world, account, "keeps what vanished");
}

/// A file is broken until it is written again.
pub(crate) fn break_one(world: &World) {
    world.count(Fault::PolicyBroken, PEOPLE);
    let account = world.dice.pick(&world.accounts);
    let text = *world.dice.pick(&[
        "",
        "{",
        "[]",
        "{\"defaultPolicies\": 7}",
        "null",
        "{\"defaultPolicies\": [{\"srcStoreId\": \"9\"}]}",
    ]);
    write(world, AccountPolicy::policy_file_name(account), text.to_owned());
    trouble(world);
    world.see(&Event::Policies { what: "broken", account });
}

/// From now on an old version may be in use.
pub(crate) fn trouble(world: &World) {
    let now = world.now();
    world.books().truth.policies_troubled = Some(now);
}
