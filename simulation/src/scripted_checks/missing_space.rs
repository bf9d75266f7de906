//! A source space is gone: its copy stays for a day whatever a person confirms, then until a person confirms, then it is removed.

use std::time::Duration;

use mill_model::{SpaceId, StoreAddress};

use crate::checker::listed;
use crate::quiescence::{Quiescence, current_policies};
use crate::users::Users;
use crate::world::World;

pub(super) async fn run(quiescence: &mut Quiescence<'_>) -> Option<()> {
    let world = quiescence.world.clone();
    for (account, desired_policy) in current_policies(&world).0 {
        for space in &world.spaces {
            let removing = desired_policy
                .of_space(space)
                .iter()
                .find(|desired_copy| desired_copy.remove && desired_copy.source.as_str() != "2");
            let Some(desired_copy) = removing else { continue };
            let source = StoreAddress::of(&account, &desired_copy.source);
            let destination = StoreAddress::of(&account, &desired_copy.destination);
            let (Some(_), Some(copies)) = (listed(&world, &source, space), listed(&world, &destination, space)) else {
                continue;
            };
            if !owned(&world, &source, &destination, space) {
                // Nothing of it was ever copied, so Mill may remove nothing.
                continue;
            }
            world.note("drill", format_args!("the space {space} in {source} is removed"));
            Users { world: &world, sim_store: &world.sim_stores[&source] }.remove_space(space);
            let most = copies.len() as u64;
            quiescence.confirmed_loop().await?;
            let kept = |when| {
                let same = listed(&world, &destination, space).as_ref() == Some(&copies);
                if !same {
                    world.violated("a missing space's copy stays", format!("{space} in {destination} changed {when}"));
                }
                same.then_some(())
            };
            kept("when it was first missed")?;
            quiescence.pass(Duration::from_hours(25)).await;
            quiescence.one_loop().await?;
            kept("before anybody confirmed")?;
            if most == 0 {
                return Some(());
            }
            quiescence.confirmed_loop().await?;
            if listed(&world, &destination, space).is_some() {
                world.violated("a confirmed retirement is made", format!("{space} in {destination} is still there"));
                return None;
            }
            return Some(());
        }
    }
    Some(())
}

/// Whether the table of owners says that this source owns the copy.
fn owned(world: &World, source: &StoreAddress, destination: &StoreAddress, space: &SpaceId) -> bool {
    let key = format!("{}/{}", destination.account.as_str(), destination.store.as_str());
    let owner = format!("{}/{}", source.account.as_str(), source.store.as_str());
    let rows = world.tables["owners"].rows();
    rows.iter().any(|(row, value)| row.partition == key && row.sort == space.as_str() && **value == *owner.as_bytes())
}
