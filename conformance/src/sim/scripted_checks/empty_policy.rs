//! A policy is emptied: nothing is copied any more, and nothing is deleted for that.

use mill_model::{ItemAddress, StoreAddress, StoreId};

use crate::sim::checker::listed;
use crate::sim::people::People;
use crate::sim::policies;
use crate::sim::rest::Rest;
use crate::sim::wishes::Wish;
use crate::sim::world::lock;

pub(super) async fn hold(rest: &mut Rest<'_>) -> Option<()> {
    let world = rest.world.clone();
    let account = world.dice.pick(&world.accounts).clone();
    // Some tasks are on their way when it happens.
    rest.session().await;
    let stores = ["2", "3"].map(|store| StoreAddress { account: account.clone(), store: StoreId::new(store).unwrap() });
    let standing = || -> Vec<_> {
        stores
            .iter()
            .flat_map(|store| world.spaces.iter().map(move |space| (store, space)))
            .map(|(store, space)| listed(&world, store, space))
            .collect()
    };
    world.note("drill", format_args!("the policy of {account} is emptied"));
    lock(&world.wishes).0.insert(account.clone(), Wish::default());
    policies::write_one(&world, &account, "emptied for a drill");
    rest.pass(world.swarm.refresh).await;
    let before = standing();
    let source = &world.shelves[&StoreAddress { account: account.clone(), store: StoreId::new("1").unwrap() }];
    let people = People { world: &world, shelf: source };
    for space in &world.spaces {
        for id in source.inner.contents(space).unwrap_or_default().into_keys() {
            people.delete(&ItemAddress { space: space.clone(), id });
        }
    }
    rest.empty_queues().await?;
    rest.one_loop().await?;
    if standing() != before {
        world.violated("an emptied policy deletes nothing", format!("copies of {account} changed"));
    }
    Some(())
}
