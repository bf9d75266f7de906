//! A destination's cache: what was written and never reached the disk reads back whole from it, until it is read from the
//! disk itself.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_model::ItemAddress;
use mill_ports::{OpenItem, PlantedBug, StoreError, StoreErrorKind, planted};

use super::{Shelf, Way};
use crate::sim::fault::Fault;
use crate::sim::world::lock;

/// What the cache holds of items whose bytes never reached the disk.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<BTreeMap<ItemAddress, Bytes>>);

impl Shelf {
    /// Whether the disk has other bytes of an item than the cache shows: those of its last write never reached it.
    pub(crate) fn is_cached_alone(&self, item: &ItemAddress) -> bool {
        let held = lock(&self.cache.0).get(item).cloned();
        // The bytes are held, so no others are ever found at their address.
        held.is_some_and(|held| self.inner.content(item).is_some_and(|(bytes, _)| bytes.as_ptr() == held.as_ptr()))
    }
}

impl Shelf {
    /// The cache knows an item by its new name.
    pub(super) fn respelled(&self, from: &ItemAddress, to: &ItemAddress) {
        let mut held = lock(&self.cache.0);
        if let Some(bytes) = held.remove(from) {
            held.insert(to.clone(), bytes);
        }
    }
}

impl Way {
    /// Brings what was written to the disk; or fails to, and says so. Only where the store itself states no checksum of its
    /// bytes: one that does has read them.
    pub(super) fn write_back(&self, item: &ItemAddress) -> Result<(), StoreError> {
        let Some((bytes, _)) = self.shelf.inner.content(item) else { return Ok(()) };
        let world = &self.line.world;
        if self.quiet || self.shelf.checks || bytes.is_empty() {
            return Ok(());
        }
        if !world.strikes(Fault::WriteBackFailed, world.swarm.rates.write_back, &self.line.name) {
            return Ok(());
        }
        lock(&self.shelf.cache.0).insert(item.clone(), bytes);
        if planted(PlantedBug::FailedFlushBelieved) {
            return Ok(());
        }
        Err(self.error("put", item, StoreErrorKind::Unexpected))
    }

    /// What is read past the cache.
    pub(super) fn past_cache(&self, item: &ItemAddress, reading: OpenItem) -> OpenItem {
        if !self.shelf.is_cached_alone(item) {
            return reading;
        }
        let size = usize::try_from(reading.facts.size).unwrap_or_default();
        OpenItem { body: stream::iter([Ok(Bytes::from(vec![0; size]))]).boxed(), ..reading }
    }
}
