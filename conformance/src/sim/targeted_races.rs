//! People who act in the very moment in which it hurts.

use std::sync::Arc;
use std::time::Duration;

use mill_model::ItemAddress;

use super::event::PEOPLE;
use super::fault::Fault;
use super::line::Line;
use super::people::People;
use super::policies;
use super::shelf::{Shelf, Trouble};
use super::watched;

/// Whether somebody acts now, in so many per cent of the moments in which people of this world do.
fn may_act(line: &Line, percent: u32) -> bool {
    !line.world.is_calm()
        && watched::running().is_some()
        && line.world.dice.happens(line.world.swarm.rates.spite * percent / 100)
}

fn is_theirs(shelf: &Shelf) -> bool {
    ["1", "4"].contains(&shelf.address.store.as_str())
}

/// A task found an item absent at its source.
pub(crate) fn item_found_absent(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) {
    if !(is_theirs(shelf) && may_act(line, 35)) {
        return;
    }
    let world = &*line.world;
    if world.dice.below(20) < 13 {
        world.count(Fault::ReturnedUnderDelete, PEOPLE);
        People { world, shelf }.overwrite(item);
    } else {
        world.count(Fault::PolicyChangedUnderDelete, PEOPLE);
        policies::keep_what_vanished(world, &shelf.address.account);
    }
}

/// A task that deletes found an item at its destination, and is about to look for it at its source. Gives how long the
/// answer then takes.
pub(crate) fn item_to_delete_found(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) -> Option<Duration> {
    let remove = watched::running()?.remove.clone()?;
    if remove.destination != shelf.address.store || !may_act(line, 60) {
        return None;
    }
    let world = &*line.world;
    let source = world.shelf(&remove.account, &remove.source).filter(|source| is_theirs(source))?;
    let people = People { world, shelf: source };
    match world.dice.below(20) {
        0..8 if people.hide_space(&item.space) => world.count(Fault::SpaceGoneUnderDelete, PEOPLE),
        0..8 => return None,
        8..14 => {
            world.count(Fault::PolicyChangedUnderDelete, PEOPLE);
            policies::keep_what_vanished(world, &remove.account);
        }
        _ => {
            world.count(Fault::ReturnedBehindDenial, PEOPLE);
            people.overwrite(item);
            source.trouble(Trouble::Denied, world.now().plus(Duration::from_mins(2)));
        }
    }
    Some(world.dice.duration(Duration::from_secs(1), Duration::from_secs(50)))
}

/// A task opened an item at its source.
pub(crate) fn item_opened(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) {
    if is_theirs(shelf) && may_act(line, 20) {
        let world = &*line.world;
        world.count(Fault::ChangedUnderRead, PEOPLE);
        People { world, shelf }.overwrite(item);
    }
}

/// A delete arrives at a destination. Where its source space is out of sight, nothing but the delete's own look is to stop it.
pub(crate) fn delete_arrives(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) {
    let remove = watched::running().and_then(|running| running.remove.clone());
    let source = remove.and_then(|remove| line.world.shelf(&remove.account, &remove.source));
    if source.is_some_and(|source| source.hides(&item.space)) {
        return;
    }
    if shelf.inner.content(item).is_some() && may_act(line, 100) {
        let world = &*line.world;
        world.count(Fault::RewrittenUnderDelete, PEOPLE);
        People { world, shelf }.overwrite(item);
    }
}
