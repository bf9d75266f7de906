//! A policy is emptied: nothing is copied any more, and nothing is deleted because of it.

use mill_model::{ItemAddress, StoreAddress, StoreId};

use crate::checker::listed;
use crate::desired_policies::DesiredPolicy;
use crate::policies;
use crate::quiescence::Quiescence;
use crate::users::Users;

pub(super) async fn run(quiescence: &mut Quiescence<'_>) -> Option<()> {
    let world = quiescence.world.clone();
    let account = world.rng.pick(&world.accounts).clone();
    // Some tasks are on their way when it happens.
    quiescence.session().await;
    let stores = ["2", "3"].map(|store| StoreAddress { account: account.clone(), store: StoreId::new(store).unwrap() });
    let standing = || -> Vec<_> {
        stores
            .iter()
            .flat_map(|store| world.spaces.iter().map(move |space| (store, space)))
            .map(|(store, space)| listed(&world, store, space))
            .collect()
    };
    world.note("drill", format_args!("the policy of {account} is emptied"));
    world.desired_policies.lock().0.insert(account.clone(), DesiredPolicy::default());
    policies::write_one(&world, &account, "emptied for a drill");
    quiescence.pass(world.swarm.refresh).await;
    let before = standing();
    let source = &world.sim_stores[&StoreAddress { account: account.clone(), store: StoreId::new("1").unwrap() }];
    let users = Users { world: &world, sim_store: source };
    for space in &world.spaces {
        for id in source.inner.contents(space).unwrap_or_default().into_keys() {
            users.delete(&ItemAddress { space: space.clone(), id });
        }
    }
    quiescence.empty_queues().await?;
    quiescence.one_loop().await?;
    if standing() != before {
        world.violated("an emptied policy deletes nothing", format!("copies of {account} changed"));
    }
    Some(())
}
