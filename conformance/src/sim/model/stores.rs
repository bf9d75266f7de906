//! Every state that the items of a store were ever in.

use std::collections::BTreeMap;

use mill_model::{ItemAddress, Monotonic, SpaceId};

use crate::sim::event::Print;

/// One state of an item.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// What it holds; `None` when it is not there.
    pub(crate) holds: Option<Print>,
    pub(crate) since: Monotonic,
}

/// One store.
#[derive(Debug, Default)]
pub(crate) struct ShelfTruth {
    /// Oldest state first.
    pub(crate) items: BTreeMap<ItemAddress, Vec<Life>>,
    /// Whether a space is there, and since when.
    pub(crate) spaces: BTreeMap<SpaceId, (bool, Monotonic)>,
}

impl ShelfTruth {
    pub(super) fn live(&mut self, item: &ItemAddress, life: Life) {
        self.items.entry(item.clone()).or_default().push(life);
    }

    pub(super) fn space(&mut self, space: &SpaceId, here: bool, now: Monotonic) {
        let known = self.spaces.entry(space.clone()).or_insert((!here, now));
        if known.0 != here {
            *known = (here, now);
        }
        if here {
            return;
        }
        for (_, lives) in self.items.iter_mut().filter(|(item, _)| item.space == *space) {
            if lives.last().is_some_and(|life| life.holds.is_some()) {
                lives.push(Life { holds: None, since: now });
            }
        }
    }

    /// All states of an item, oldest first.
    pub(crate) fn lives(&self, item: &ItemAddress) -> &[Life] {
        self.items.get(item).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn now(&self, item: &ItemAddress) -> Option<&Life> {
        self.lives(item).last()
    }

    /// Since when an item is there without a break; `None` when it is not there.
    pub(crate) fn live_since(&self, item: &ItemAddress) -> Option<Monotonic> {
        self.lives(item).iter().rev().take_while(|life| life.holds.is_some()).last().map(|life| life.since)
    }

    /// Since when a space is not there; `None` when it is, or never was.
    pub(crate) fn absent_since(&self, space: &SpaceId) -> Option<Monotonic> {
        self.spaces.get(space).filter(|(here, _)| !here).map(|(_, since)| *since)
    }

    /// The items that are there now.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&ItemAddress, &Life)> {
        self.items.iter().filter_map(|(item, lives)| Some((item, lives.last().filter(|life| life.holds.is_some())?)))
    }
}
