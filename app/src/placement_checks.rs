//! Stores that may not be used where they stand: a source and a destination that hold the same content, a destination that
//! is not where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mill_local::folder::{FolderStore, Overlap, PairGuard};
use mill_model::StoreAddress;
use mill_ports::{StoreError, StoreErrorKind};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::aws::S3Handle;
use crate::destination_places::MovedDestination;
use crate::result_code::ResultCode;
use crate::store_registry::StoreHandle;

/// The answer of a witness object about two stores: that they are apart, or why they are not.
type WitnessResult = Result<(), String>;

/// Two stores in S3, by their names.
type NamedPair = (String, String);

/// What a process found misplaced, for its exit code and its last words.
#[derive(Debug, Default)]
pub struct PlacementChecks {
    overlaps: Mutex<BTreeSet<String>>,
    /// Destinations that are not where they were.
    moved: Mutex<BTreeSet<String>>,
    guards: Mutex<BTreeMap<(StoreAddress, StoreAddress), Arc<PairGuard>>>,
    /// The answers of witness objects, by the two stores.
    witnessed: Mutex<BTreeMap<NamedPair, Arc<OnceCell<WitnessResult>>>>,
    /// Whether this process writes: only then anything is put to a store to tell it apart from another.
    writes: AtomicBool,
}

impl PlacementChecks {
    /// Makes sure that two stores hold nothing in common now. A folder and a store in S3 are taken to be apart.
    pub(crate) async fn apart(
        &self,
        (source, from): (&StoreAddress, &StoreHandle),
        (destination, to): (&StoreAddress, &StoreHandle),
    ) -> Result<(), StoreError> {
        match (from, to) {
            (StoreHandle::Folder(from), StoreHandle::Folder(to)) => {
                self.folders_apart((source, from), (destination, to)).await
            }
            (StoreHandle::S3(from), StoreHandle::S3(to)) => self.remotes_apart(from, (destination, to)).await,
            _ => Ok(()),
        }
    }

    async fn folders_apart(
        &self,
        (source, from): (&StoreAddress, &FolderStore),
        (destination, to): (&StoreAddress, &FolderStore),
    ) -> Result<(), StoreError> {
        let guard = self.guard((source, from), (destination, to)).map_err(|error| StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "look for what is mounted in",
            store: destination.clone(),
            subject: to.root_path().display().to_string(),
            source: Some(error.into()),
        })?;
        let checked = guard.check().await;
        if let Err(error) = &checked
            && let Some(overlap) = error.source.as_ref().and_then(|source| source.downcast_ref::<Overlap>())
        {
            self.note(overlapping(overlap));
        }
        checked
    }

    fn note(&self, overlap: String) {
        self.overlaps.lock().insert(overlap);
    }

    /// Notes that this process will write.
    pub(crate) fn will_write(&self) {
        self.writes.store(true, Ordering::Relaxed);
    }

    /// Makes sure that two stores in S3 hold no objects in common: by their names each time, and by a witness once, before
    /// the first write.
    async fn remotes_apart(
        &self,
        source: &S3Handle,
        (destination, to): (&StoreAddress, &S3Handle),
    ) -> Result<(), StoreError> {
        let refused = |why: &str| {
            self.note(overlapping(&why));
            StoreError {
                kind: StoreErrorKind::NotConfigured,
                op: "use as a copy",
                store: destination.clone(),
                subject: to.name(),
                source: Some(why.into()),
            }
        };
        if let Some(why) = to.overlap(source) {
            return Err(refused(&why));
        }
        if !self.writes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let known = {
            let mut witnessed = self.witnessed.lock();
            witnessed.entry((source.name(), to.name())).or_default().clone()
        };
        // Where nothing is known yet, it is asked again before the next write.
        let told = known.get_or_try_init(async || match to.witness(source).await {
            Ok(told) => told.ok_or(None),
            Err(error) => Err(Some(error)),
        });
        match told.await {
            Ok(Ok(())) | Err(None) => Ok(()),
            Ok(Err(why)) => Err(refused(why)),
            Err(Some(error)) => Err(error),
        }
    }

    fn guard(
        &self,
        (source, from): (&StoreAddress, &FolderStore),
        (destination, to): (&StoreAddress, &FolderStore),
    ) -> std::io::Result<Arc<PairGuard>> {
        let mut guards = self.guards.lock();
        let key = (source.clone(), destination.clone());
        if let Some(guard) = guards.get(&key).filter(|guard| guard.is_of(from, to)) {
            return Ok(guard.clone());
        }
        let guard = Arc::new(PairGuard::begin(from, to)?);
        guards.insert(key, guard.clone());
        Ok(guard)
    }

    /// Notes a destination that is not where it was; `way_out` is the command that accepts it there.
    pub(crate) fn noted<T>(&self, found: Result<T, StoreError>, way_out: &str) -> Result<T, StoreError> {
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

    /// What there is to say at the end.
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

/// What is said of two stores that hold the same content.
pub fn overlapping(overlap: &impl fmt::Display) -> String {
    format!("{overlap}; one cannot be a copy of the other, so nothing is done. Give them separate places")
}
