//! Destinations that tell an MD5 of what they wrote, so that the bytes on their way are digested for it too. MD5 costs
//! time, so it is not computed for those that tell none.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use mill_model::{Algorithm, Checksum, StoreAddress};

/// The stores that were seen to tell one.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeSet<StoreAddress>>);

impl Told {
    /// Whether an MD5 is known to be told.
    pub(super) fn md5(&self, store: &StoreAddress) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(store)
    }

    /// Notes what a store told.
    pub(super) fn note(&self, store: &StoreAddress, told: &[Checksum]) {
        if told.iter().any(|checksum| checksum.algorithm == Algorithm::Md5) && !self.md5(store) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(store.clone());
        }
    }
}
