//! Every state that the items of a store ever had.

use std::collections::BTreeMap;

use mill_model::{ItemAddress, Monotonic, SpaceId};

use crate::event::ContentFingerprint;

/// One state of an item.
#[derive(Debug, Clone)]
pub(crate) struct ItemSnapshot {
    /// The content; `None` if the item is absent.
    pub(crate) holds: Option<ContentFingerprint>,
    pub(crate) since: Monotonic,
}

/// The history of one store.
#[derive(Debug, Default)]
pub(crate) struct StoreModel {
    /// The states of each item, oldest first.
    pub(crate) items: BTreeMap<ItemAddress, Vec<ItemSnapshot>>,
    /// Whether a space is present, and since when.
    pub(crate) spaces: BTreeMap<SpaceId, (bool, Monotonic)>,
}

impl StoreModel {
    pub(super) fn record(&mut self, item: &ItemAddress, snapshot: ItemSnapshot) {
        self.items.entry(item.clone()).or_default().push(snapshot);
    }

    pub(super) fn space(&mut self, space: &SpaceId, here: bool, now: Monotonic) {
        let known = self.spaces.entry(space.clone()).or_insert((!here, now));
        if known.0 != here {
            *known = (here, now);
        }
        if here {
            return;
        }
        for (_, snapshots) in self.items.iter_mut().filter(|(item, _)| item.space == *space) {
            if snapshots.last().is_some_and(|snapshot| snapshot.holds.is_some()) {
                snapshots.push(ItemSnapshot { holds: None, since: now });
            }
        }
    }

    /// All states of an item, oldest first.
    pub(crate) fn snapshots(&self, item: &ItemAddress) -> &[ItemSnapshot] {
        self.items.get(item).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn now(&self, item: &ItemAddress) -> Option<&ItemSnapshot> {
        self.snapshots(item).last()
    }

    /// Since when an item is present without interruption; `None` if it is absent.
    pub(crate) fn present_since(&self, item: &ItemAddress) -> Option<Monotonic> {
        self.snapshots(item)
            .iter()
            .rev()
            .take_while(|snapshot| snapshot.holds.is_some())
            .last()
            .map(|snapshot| snapshot.since)
    }

    /// Since when a space is absent; `None` if it is present or never was.
    pub(crate) fn absent_since(&self, space: &SpaceId) -> Option<Monotonic> {
        self.spaces.get(space).filter(|(here, _)| !here).map(|(_, since)| *since)
    }

    /// The items that are present now.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&ItemAddress, &ItemSnapshot)> {
        self.items
            .iter()
            .filter_map(|(item, snapshots)| Some((item, snapshots.last().filter(|snapshot| snapshot.holds.is_some())?)))
    }
}
