//! A destination's cache: bytes that were written and never reached the disk read back whole from the cache, but not from the
//! disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::ItemAddress;
use mill_ports::{OpenItem, StoreError, StoreErrorKind};
use parking_lot::Mutex;

use super::{SimStore, StoreClient};
use crate::audit_world::is_log;
use crate::fault::SimFault;

/// The cached bytes of items whose bytes never reached the disk.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<BTreeMap<ItemAddress, Bytes>>);

impl SimStore {
    /// Whether the bytes of an item are in the cache alone: its last write never reached the disk.
    pub(crate) fn is_cached_alone(&self, item: &ItemAddress) -> bool {
        let held = self.cache.0.lock().get(item).cloned();
        // The cache keeps the bytes alive, so no other bytes have their address.
        held.is_some_and(|held| self.inner.content(item).is_some_and(|(bytes, _)| bytes.as_ptr() == held.as_ptr()))
    }
}

impl SimStore {
    /// Moves the cached bytes of an item to its new name.
    pub(super) fn respelled(&self, from: &ItemAddress, to: &ItemAddress) {
        let mut held = self.cache.0.lock();
        if let Some(bytes) = held.remove(from) {
            held.insert(to.clone(), bytes);
        }
    }
}

impl StoreClient {
    /// Writes the item to the disk, or fails and reports that. Fails only in stores that state no checksums: one that does has
    /// read the bytes.
    pub(super) fn write_back(&self, item: &ItemAddress) -> Result<(), StoreError> {
        let Some((bytes, _)) = self.sim_store.inner.content(item) else { return Ok(()) };
        let world = &self.process.world;
        if self.quiet || self.sim_store.checks || bytes.is_empty() || is_log(&item.space) {
            return Ok(());
        }
        if !world.inject(SimFault::WriteBackFailed, world.swarm.rates.write_back, &self.process.name) {
            return Ok(());
        }
        self.sim_store.cache.0.lock().insert(item.clone(), bytes);
        if is_planted(PlantedBug::FailedFlushBelieved) {
            return Ok(());
        }
        Err(self.error("put", item, StoreErrorKind::Unexpected))
    }

    /// Returns the item as the disk has it.
    pub(super) fn read_past_cache(&self, item: &ItemAddress, reading: OpenItem) -> OpenItem {
        if !self.sim_store.is_cached_alone(item) {
            return reading;
        }
        let size = usize::try_from(reading.facts.size).unwrap_or_default();
        OpenItem { body: stream::iter([Ok(Bytes::from(vec![0; size]))]).boxed(), ..reading }
    }
}
