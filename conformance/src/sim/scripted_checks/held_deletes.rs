//! Everything is deleted at the source: nothing goes at the destination until a person confirms it, and then all of it.

use mill_model::{ItemAddress, StoreAddress};

use crate::sim::checker::listed;
use crate::sim::people::People;
use crate::sim::rest::{Rest, wishes};

pub(super) async fn hold(rest: &mut Rest<'_>) -> Option<()> {
    let world = rest.world.clone();
    for (account, wish) in wishes(&world).0 {
        for space in &world.spaces {
            let removing = wish.of_space(space).iter().find(|copying| copying.remove && copying.source.as_str() != "2");
            let Some(copying) = removing else { continue };
            let source = StoreAddress { account: account.clone(), store: copying.source.clone() };
            let destination = StoreAddress { account: account.clone(), store: copying.destination.clone() };
            let (Some(there), Some(copies)) = (listed(&world, &source, space), listed(&world, &destination, space))
            else {
                continue;
            };
            if there.is_empty() {
                continue;
            }
            world.note("drill", format_args!("all items of {space} in {source} are deleted"));
            let people = People { world: &world, shelf: &world.shelves[&source] };
            for id in there.keys() {
                people.delete(&ItemAddress { space: space.clone(), id: id.clone() });
            }
            let held = rest.one_loop().await?;
            let key = (account.clone(), space.clone(), copying.source.clone(), copying.destination.clone());
            let count = held.get(&key).copied();
            if count != Some(copies.len() as u64) || listed(&world, &destination, space).as_ref() != Some(&copies) {
                let what = format!("{count:?} of {} deletes of {space} in {destination} are held", copies.len());
                world.violated("deletes of a whole space are held", what);
                return None;
            }
            rest.confirmed_loop().await?;
            if listed(&world, &destination, space).is_none_or(|left| !left.is_empty()) {
                world.violated("confirmed deletes are made", format!("{space} in {destination} is not empty"));
                return None;
            }
            return Some(());
        }
    }
    Some(())
}
