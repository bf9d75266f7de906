//! Which checksums destinations return after a write, so that Mill computes the same while the bytes pass. Each checksum costs
//! time, so Mill computes none that no store returns.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{Algorithm, Checksum, StoreAddress};
use parking_lot::Mutex;

/// The algorithms of the checksums that each store returned.
#[derive(Debug, Default)]
pub(super) struct ChecksumCapabilities(Mutex<BTreeMap<StoreAddress, BTreeSet<Algorithm>>>);

impl ChecksumCapabilities {
    /// The algorithms that a store is known to return.
    pub(super) fn of(&self, store: &StoreAddress) -> BTreeSet<Algorithm> {
        self.0.lock().get(store).cloned().unwrap_or_default()
    }

    /// Notes the checksums that a store returned.
    pub(super) fn note(&self, store: &StoreAddress, checksums: &[Checksum]) {
        if checksums.is_empty() {
            return;
        }
        let mut all = self.0.lock();
        let algorithms = checksums.iter().map(|checksum| checksum.algorithm);
        match all.get_mut(store) {
            Some(known) => known.extend(algorithms),
            None => drop(all.insert(store.clone(), algorithms.collect())),
        }
    }
}
