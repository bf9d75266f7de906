//! All items are deleted at the source: nothing is deleted at the destination until a person confirms, and then everything is.

use mill_model::{ItemAddress, StoreAddress};

use crate::checker::listed;
use crate::quiescence::{Quiescence, current_policies};
use crate::users::Users;

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
            let (Some(there), Some(copies)) = (listed(&world, &source, space), listed(&world, &destination, space))
            else {
                continue;
            };
            if there.is_empty() {
                continue;
            }
            world.note("drill", format_args!("all items of {space} in {source} are deleted"));
            let users = Users { world: &world, sim_store: &world.sim_stores[&source] };
            for id in there.keys() {
                users.delete(&ItemAddress { space: space.clone(), id: id.clone() });
            }
            let held = quiescence.one_loop().await?;
            let key = (account.clone(), space.clone(), desired_copy.source.clone(), desired_copy.destination.clone());
            let count = held.get(&key).copied();
            if count != Some(copies.len() as u64) || listed(&world, &destination, space).as_ref() != Some(&copies) {
                let what = format!("{count:?} of {} deletes of {space} in {destination} are held", copies.len());
                world.violated("deletes of a whole space are held", what);
                return None;
            }
            quiescence.confirmed_loop().await?;
            if listed(&world, &destination, space).is_none_or(|left| !left.is_empty()) {
                world.violated("confirmed deletes are made", format!("{space} in {destination} is not empty"));
                return None;
            }
            return Some(());
        }
    }
    Some(())
}
