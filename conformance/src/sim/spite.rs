//! People who act in the very moment in which it hurts.

use std::sync::Arc;

use mill_model::ItemAddress;

use super::event::PEOPLE;
use super::fault::Fault;
use super::line::Line;
use super::people::People;
use super::policies;
use super::shelf::Shelf;
use super::watched;

fn may_act(line: &Line, shelf: &Shelf, one_in: u32) -> bool {
    let theirs = ["1", "4"].contains(&shelf.address.store.as_str());
    theirs
        && !line.world.is_calm()
        && watched::running().is_some()
        && line.world.dice.happens(line.world.swarm.rates.spite / one_in)
}

/// A task found an item absent at its source.
pub(crate) fn item_found_absent(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) {
    if !may_act(line, shelf, 1) {
        return;
    }
    let world = &*line.world;
    if world.dice.below(2) == 0 {
        world.count(Fault::ReturnedUnderDelete, PEOPLE);
        People { world, shelf }.overwrite(item);
    } else {
        world.count(Fault::PolicyChangedUnderDelete, PEOPLE);
        policies::keep_what_vanished(world, &shelf.address.account);
    }
}

/// A task opened an item at its source.
pub(crate) fn item_opened(line: &Arc<Line>, shelf: &Arc<Shelf>, item: &ItemAddress) {
    if may_act(line, shelf, 5) {
        let world = &*line.world;
        world.count(Fault::ChangedUnderRead, PEOPLE);
        People { world, shelf }.overwrite(item);
    }
}
