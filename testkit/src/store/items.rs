//! The spaces and items of a memory store.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mill_model::digest::Digester;
use mill_model::{
    Algorithm, Checksum, ContentId, ItemAddress, ItemFacts, ItemState, Monotonic, Properties, SpaceId, StoreAddress,
    Timestamp, Version,
};
use mill_ports::{LeftOutEntries, Place, RefusalReason};

use super::mounts::{SimulatedMounts, root};

/// All spaces of a store, and the marks it has given out.
#[derive(Debug, Default)]
pub(super) struct StoredSpaces {
    /// See [`StoreBehavior::version_tick`](super::StoreBehavior::version_tick).
    version_tick: Option<Duration>,
    by_id: BTreeMap<SpaceId, StoredSpace>,
    /// The entries beside the spaces.
    pub(super) beside: LeftOutEntries,
    /// Never goes back, so no mark is given twice.
    marks: u64,
}

#[derive(Debug)]
pub(super) struct StoredSpace {
    /// Distinguishes this space from an earlier one of the same id.
    pub(super) number: u64,
    pub(super) entries: BTreeMap<ContentId, StoredEntry>,
    pub(super) mounts: SimulatedMounts,
}

/// The entry of an id.
#[derive(Debug)]
pub(super) enum StoredEntry {
    Item(StoredItem),
    Refused(RefusalReason),
}

#[derive(Debug, Clone)]
pub(super) struct StoredItem {
    pub(super) bytes: Bytes,
    pub(super) properties: Properties,
    /// When it was written, by the clock that never steps back.
    pub(super) written: Monotonic,
    /// The size in listings; [`MemoryStore::rot`](super::MemoryStore::rot) changes only the bytes.
    size: u64,
    modified: Timestamp,
    checksums: Vec<Checksum>,
    token: String,
}

impl StoredItem {
    pub(super) fn new(
        bytes: Bytes,
        properties: Properties,
        modified: Timestamp,
        written: Monotonic,
        algorithms: &[Algorithm],
    ) -> Self {
        let mut digester = Digester::new(algorithms);
        digester.update(&bytes);
        let size = bytes.len() as u64;
        Self { bytes, properties, written, size, modified, checksums: digester.finish(), token: String::new() }
    }

    pub(super) fn with_properties(&self, properties: Properties, modified: Timestamp, written: Monotonic) -> Self {
        Self { properties, written, modified, ..self.clone() }
    }

    /// Whether its bytes match its checksums.
    pub(super) fn is_sound(&self) -> bool {
        let algorithms: Vec<_> = self.checksums.iter().map(|checksum| checksum.algorithm).collect();
        let mut digester = Digester::new(&algorithms);
        digester.update(&self.bytes);
        digester.finish() == self.checksums
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn facts(&self, settled: bool) -> ItemFacts {
        ItemFacts {
            size: self.size,
            modified: Some(self.modified),
            version: if settled { Version::settled_at(&*self.token) } else { Version::unsettled(&*self.token) },
            checksums: self.checksums.clone(),
            properties: Some(self.properties.clone()),
            state: ItemState::Online,
        }
    }
}

impl StoredSpaces {
    pub(super) fn new(version_tick: Option<Duration>) -> Self {
        Self { version_tick, ..Self::default() }
    }

    pub(super) fn ids(&self) -> Vec<SpaceId> {
        self.by_id.keys().cloned().collect()
    }

    pub(super) fn space(&self, space: &SpaceId) -> Option<&StoredSpace> {
        self.by_id.get(space)
    }

    pub(super) fn create(&mut self, space: &SpaceId) {
        let number = self.mark();
        self.by_id.entry(space.clone()).or_insert_with(|| StoredSpace {
            number,
            entries: BTreeMap::new(),
            mounts: SimulatedMounts::default(),
        });
    }

    pub(super) fn remove_space(&mut self, space: &SpaceId) {
        self.by_id.remove(space);
    }

    pub(super) fn item(&self, item: &ItemAddress) -> Option<&StoredItem> {
        match self.by_id.get(&item.space)?.entries.get(&item.id)? {
            StoredEntry::Item(item) => Some(item),
            StoredEntry::Refused(_) => None,
        }
    }

    /// Writes an item into its space, if that exists, and returns the item with its new version.
    pub(super) fn insert(&mut self, item: &ItemAddress, mut made: StoredItem) -> StoredItem {
        made.token = match self.version_tick {
            Some(tick) => format!("{}.{}", md5(&made.bytes), tick_number(made.written, tick)),
            None => format!("m{}", self.mark()),
        };
        if let Some(space) = self.by_id.get_mut(&item.space) {
            space.entries.insert(item.id.clone(), StoredEntry::Item(made.clone()));
        }
        made
    }

    pub(super) fn insert_refused(&mut self, item: &ItemAddress, reason: RefusalReason) {
        if let Some(space) = self.by_id.get_mut(&item.space) {
            space.entries.insert(item.id.clone(), StoredEntry::Refused(reason));
        }
    }

    pub(super) fn remove(&mut self, item: &ItemAddress) {
        if let Some(space) = self.by_id.get_mut(&item.space) {
            space.entries.remove(&item.id);
        }
    }

    /// The places on the path to an item, whether or not it or its space exists.
    pub(super) fn places(&self, store: &StoreAddress, item: &ItemAddress) -> Vec<Place> {
        let all = self.by_id.get(&item.space).map_or_else(|| vec![root(store)], |space| space.places(store));
        all.into_iter().filter(|place| item.id.as_str().starts_with(&place.path)).collect()
    }

    pub(super) fn space_mut(&mut self, space: &SpaceId) -> Option<&mut StoredSpace> {
        self.by_id.get_mut(space)
    }

    pub(super) fn rot(&mut self, item: &ItemAddress, change: impl FnOnce(&mut Vec<u8>)) {
        let entry = self.by_id.get_mut(&item.space).and_then(|space| space.entries.get_mut(&item.id));
        if let Some(StoredEntry::Item(item)) = entry {
            let mut bytes = item.bytes.to_vec();
            change(&mut bytes);
            item.bytes = bytes.into();
        }
    }

    fn mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }
}

fn md5(bytes: &[u8]) -> Checksum {
    let mut digester = Digester::new(&[Algorithm::Md5]);
    digester.update(bytes);
    digester.finish().remove(0)
}

/// The number of the tick that a time lies in.
pub(super) fn tick_number(at: Monotonic, tick: Duration) -> u128 {
    at.since_origin().as_nanos() / tick.as_nanos().max(1)
}
