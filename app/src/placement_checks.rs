//! Stores that may not be used where they are: a source and a destination that overlap, or a destination that is not at
//! its remembered place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mill_local::OsRng;
use mill_model::StoreAddress;
use mill_ports::{PlacedStore, SharedContentError, StoreError, StorePairGuard};
use parking_lot::Mutex;

use crate::destination_places::MovedDestination;
use crate::result_code::ResultCode;

/// The overlaps and moved destinations that a process found, for its exit code and its summary.
#[derive(Debug, Default)]
pub struct PlacementChecks {
    overlaps: Mutex<BTreeSet<String>>,
    /// Destinations that are not at their remembered places.
    moved: Mutex<BTreeSet<String>>,
    guards: Mutex<BTreeMap<(StoreAddress, StoreAddress), Arc<dyn StorePairGuard>>>,
    /// Whether this process writes: only then a witness object may be written to distinguish stores.
    writes: AtomicBool,
}

impl PlacementChecks {
    /// Checks that two stores do not overlap now. Stores of different back ends are assumed not to.
    pub(crate) async fn check_no_overlap(
        &self,
        source: (&StoreAddress, &Arc<dyn PlacedStore>),
        destination: (&StoreAddress, &Arc<dyn PlacedStore>),
    ) -> Result<(), StoreError> {
        let Some(guard) = self.guard(source, destination)? else { return Ok(()) };
        let checked = guard.check(self.writes.load(Ordering::Relaxed)).await;
        if let Err(error) = &checked
            && let Some(shared) = error.source.as_ref().and_then(|source| source.downcast_ref::<SharedContentError>())
        {
            self.note(overlapping(shared));
        }
        checked
    }

    fn note(&self, overlap: String) {
        self.overlaps.lock().insert(overlap);
    }

    /// Records that this process will write.
    pub(crate) fn will_write(&self) {
        self.writes.store(true, Ordering::Relaxed);
    }

    fn guard(
        &self,
        (source, from): (&StoreAddress, &Arc<dyn PlacedStore>),
        (destination, to): (&StoreAddress, &Arc<dyn PlacedStore>),
    ) -> Result<Option<Arc<dyn StorePairGuard>>, StoreError> {
        let mut guards = self.guards.lock();
        let key = (source.clone(), destination.clone());
        if let Some(guard) = guards.get(&key).filter(|guard| guard.is_of(&**from, &**to)) {
            return Ok(Some(guard.clone()));
        }
        let guard = to.clone().guard_pair(from.clone(), Arc::new(OsRng))?;
        if let Some(guard) = &guard {
            guards.insert(key, guard.clone());
        }
        Ok(guard)
    }

    /// Records a destination that is not at its remembered place. `way_out` is the command that accepts its new place.
    pub(crate) fn record_moved<T>(&self, found: Result<T, StoreError>, way_out: &str) -> Result<T, StoreError> {
        if let Err(error) = &found
            && let Some(elsewhere) = MovedDestination::of(error)
        {
            let words = format!(
                "store `{}`: {elsewhere}. Nothing was written there. Mount what was there; if this is meant: {way_out}",
                error.store
            );
            self.moved.lock().insert(words);
        }
        found
    }

    fn overlaps(&self) -> Vec<String> {
        let guards = self.guards.lock();
        let met = guards.values().filter_map(|guard| guard.met_destination());
        let overlaps = self.overlaps.lock();
        overlaps.iter().cloned().chain(met).collect()
    }

    /// The messages for the end of the command.
    pub fn remarks(&self) -> Vec<String> {
        let moved = self.moved.lock().clone();
        self.overlaps().into_iter().chain(moved).collect()
    }

    /// The exit code of a command that would have ended with `exit`.
    pub fn exit(&self, exit: ResultCode) -> ResultCode {
        if !self.overlaps().is_empty() {
            ResultCode::BadArguments
        } else if !self.remarks().is_empty() {
            ResultCode::Error
        } else {
            exit
        }
    }
}

/// The message for two stores that overlap.
pub fn overlapping(overlap: &impl fmt::Display) -> String {
    format!("{overlap}; one cannot be a copy of the other, so nothing is done. Give them separate places")
}
