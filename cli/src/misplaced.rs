//! Stores that may not be used where they stand: a source and a destination that hold the same files, a destination that
//! is not where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use mill_local::folder::{FolderStore, Overlap, PairGuard};
use mill_model::StoreAddress;
use mill_ports::{StoreError, StoreErrorKind};

use crate::exit::Exit;
use crate::places::NotWhereItWas;

/// What a process found misplaced, for its exit code and its last words.
#[derive(Debug, Default)]
pub(crate) struct Misplaced {
    overlaps: Mutex<BTreeSet<String>>,
    /// Destinations that are not where they were.
    moved: Mutex<BTreeSet<String>>,
    guards: Mutex<BTreeMap<(StoreAddress, StoreAddress), Arc<PairGuard>>>,
}

impl Misplaced {
    /// Makes sure that two folders hold no files in common now.
    pub(crate) async fn apart(
        &self,
        (source, from): (&StoreAddress, &FolderStore),
        (destination, to): (&StoreAddress, &FolderStore),
    ) -> Result<(), StoreError> {
        let guard = self.guard((source, from), (destination, to)).map_err(|error| StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "look for what is mounted in",
            store: destination.clone(),
            subject: String::new(),
            source: Some(error.into()),
        })?;
        let checked = guard.check().await;
        if let Err(error) = &checked
            && let Some(overlap) = error.source.as_ref().and_then(|source| source.downcast_ref::<Overlap>())
        {
            let mut overlaps = self.overlaps.lock().unwrap_or_else(PoisonError::into_inner);
            overlaps.insert(overlapping(overlap));
        }
        checked
    }

    fn guard(
        &self,
        (source, from): (&StoreAddress, &FolderStore),
        (destination, to): (&StoreAddress, &FolderStore),
    ) -> std::io::Result<Arc<PairGuard>> {
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source.clone(), destination.clone());
        if let Some(guard) = guards.get(&key).filter(|guard| guard.is_of(from, to)) {
            return Ok(guard.clone());
        }
        let guard = Arc::new(PairGuard::begin(from, to)?);
        guards.insert(key, guard.clone());
        Ok(guard)
    }

    /// Notes a destination that is not where it was; `way_out` is the command that accepts it there.
    pub(crate) fn noted(&self, found: Result<(), StoreError>, way_out: &str) -> Result<(), StoreError> {
        if let Err(error) = &found
            && let Some(elsewhere) = NotWhereItWas::of(error)
        {
            let words = format!(
                "store `{}`: {elsewhere}. Nothing was written there. Mount what was there; if this is meant: {way_out}",
                error.store
            );
            self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(words);
        }
        found
    }

    fn overlaps(&self) -> Vec<String> {
        let guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        let met = guards.values().filter_map(|guard| guard.met());
        let overlaps = self.overlaps.lock().unwrap_or_else(PoisonError::into_inner);
        overlaps.iter().cloned().chain(met).collect()
    }

    /// What there is to say at the end.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.overlaps().into_iter().chain(moved).collect()
    }

    /// The exit code of a command that would have ended with `exit`.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        if !self.overlaps().is_empty() {
            Exit::BadArguments
        } else if !self.remarks().is_empty() {
            Exit::Error
        } else {
            exit
        }
    }
}

/// What is said of two folders that hold the same files.
pub(crate) fn overlapping(overlap: &Overlap) -> String {
    format!("{overlap}; one cannot be a copy of the other, so nothing is done. Give them separate places")
}
