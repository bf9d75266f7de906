//! Which checksums destinations tell of what they wrote, so that the bytes on their way are digested for them too. Each costs
//! time, so none is computed that nobody tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mill_model::{Algorithm, Checksum, StoreAddress};

/// What each store was seen to tell.
#[derive(Debug, Default)]
pub(super) struct ChecksumCapabilities(Mutex<BTreeMap<StoreAddress, BTreeSet<Algorithm>>>);

impl ChecksumCapabilities {
    /// The algorithms of the checksums that a store is known to tell.
    pub(super) fn by(&self, store: &StoreAddress) -> BTreeSet<Algorithm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(store).cloned().unwrap_or_default()
    }

    /// Notes what a store told.
    pub(super) fn note(&self, store: &StoreAddress, told: &[Checksum]) {
        if told.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let algorithms = told.iter().map(|checksum| checksum.algorithm);
        match all.get_mut(store) {
            Some(known) => known.extend(algorithms),
            None => drop(all.insert(store.clone(), algorithms.collect())),
        }
    }
}
