//! A folder as a store: its spaces are directories, its items are files.
//!
//! **Promise.** An item appears whole or not at all, and is durable before its write is acknowledged. No symbolic link
//! is ever followed below the root. An entry that cannot be an item is refused by name, never skipped. A listing is
//! complete and in order, or fails; it keeps a bounded part of a directory's names in memory. A root that is missing,
//! or is not the one first seen, makes the store unavailable and never empty.
//!
//! Reading order: `item_path` (ids and paths), `error` (errnos), `failure_scope` (one item or the whole store),
//! `mounts`, `mount_boundary` and `file_system` (what identifies a directory), `overlap`, `file_state` (versions),
//! `root`, `properties`, `item_reader` with `uncached` and `mapped_writes`, `listing` over `sorted_names` and
//! `dirents`, then `flusher`, `temp_files`, `committer`, `root_lock`, `apply` and `undo`; `watch` hints at changes.
//!
//! **Invariant:** only the committer's thread changes anything outside of the directory for writes in progress, and
//! only under the root lock. A store that is only read is never written, not even to create that directory.

mod access_list;
mod apply;
mod attribute;
mod attribute_names;
mod blocking_pool;
mod buffer_budget;
mod committer;
mod directory_modes;
mod dirents;
mod error;
mod failure_scope;
mod file_state;
mod file_system;
mod flusher;
mod in_progress;
mod item_path;
mod item_reader;
mod listing;
mod mapped_writes;
mod mount_boundary;
mod mounted_space;
mod mounts;
mod overlap;
mod overlay_layers;
mod owner_mark;
mod pair_guard;
mod placement;
mod places;
mod properties;
mod respelling;
mod root;
mod root_lock;
mod sidecar;
mod sorted_names;
mod source;
mod spelling;
mod temp_files;
#[cfg(test)]
mod tests;
mod uncached;
mod uncarried;
mod undo;
mod watch;
mod writing;

use std::path::PathBuf;
use std::sync::{Arc, Once, OnceLock, Weak};

use mill_model::ids::escape_for_display;
use mill_model::{SpaceId, StoreAddress};
use mill_ports::{BoxError, Clock, RefusalReason, StoreError, StoreErrorKind, Table};
use parking_lot::Mutex;

use blocking_pool::BlockingPool;
use buffer_budget::BufferBudget;
use committer::Committer;
pub use directory_modes::mode_for_copy;
use error::FolderError;
use item_path::ItemPath;
pub use item_path::Layout;
use mapped_writes::MappedWrites;
use mounted_space::MountedSpaces;
pub use overlap::{Extent, Overlap, overlaps};
use pair_guard::PairGuard;
use root::{Root, RootDir};
use sidecar::Sidecar;
pub use watch::{
    FolderHint, FolderWatch, HintBatch, Rescan, RescanReason, RescanScope, WantedSpaces, WatchLimits, WatchPace,
    WatchSettings,
};

/// How a folder becomes a store.
#[derive(Debug)]
pub struct FolderSettings {
    /// The store's name.
    pub address: StoreAddress,
    /// The directory that holds everything.
    pub root: PathBuf,
    /// How the spaces lie under it.
    pub layout: Layout,
    /// The table for properties that a file cannot store. Without it, an item with such properties is refused.
    pub sidecars: Option<Arc<dyn Table>>,
    /// The clock, which decides whether a file's state is old enough to be trusted.
    pub clock: Arc<dyn Clock>,
}

/// A folder as a store, to be read and written.
///
/// Dropping it waits for the pending changes and removes its directory for writes in progress.
#[derive(Debug, Clone)]
pub struct FolderStore(Arc<FolderInner>);

#[derive(Debug)]
struct FolderInner {
    layout: Layout,
    root: Arc<Root>,
    /// The stores that are written from this one. A listing that meets one of them would copy the store into itself.
    destinations: Mutex<Vec<Weak<FolderInner>>>,
    /// The message of a listing that met one of them.
    met_destination: OnceLock<String>,
    /// The spaces that are mounts of their own.
    mounted: MountedSpaces,
    sidecar: Sidecar,
    clock: Arc<dyn Clock>,
    blocking_pool: BlockingPool,
    read_budget: BufferBudget,
    write_budget: BufferBudget,
    committer: Committer,
    mapped: MappedWrites,
    source_directories: directory_modes::RecentDirectories,
    /// The first uncached read flushes what an earlier run left unflushed.
    flushed_leftovers: Once,
}

impl FolderStore {
    /// Opens a folder. While its root is missing, each call fails.
    pub fn open(settings: FolderSettings) -> Self {
        let FolderSettings { address, root, layout, sidecars, clock } = settings;
        let root = Arc::new(Root::new(root));
        Self(Arc::new(FolderInner {
            layout,
            destinations: Mutex::default(),
            met_destination: OnceLock::new(),
            mounted: MountedSpaces::default(),
            sidecar: Sidecar { table: sidecars, store: address },
            blocking_pool: BlockingPool::default(),
            read_budget: BufferBudget::default(),
            write_budget: BufferBudget::default(),
            committer: Committer::new(Arc::clone(&root), Arc::clone(&clock)),
            root,
            clock,
            mapped: MappedWrites::default(),
            source_directories: directory_modes::RecentDirectories::default(),
            flushed_leftovers: Once::new(),
        }))
    }

    /// Waits for all pending changes, and removes everything but items from the folder.
    pub async fn finish(self) {
        let folder = self.0;
        let finish = move || {
            folder.mounted.stores().iter().for_each(|store| store.0.committer.finish());
            folder.committer.finish();
        };
        let _ = tokio::task::spawn_blocking(finish).await;
    }

    /// Runs a blocking call on the root.
    async fn on_root<T: Send + 'static>(
        &self,
        call: impl FnOnce(&FolderInner, &RootDir) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let folder = Arc::clone(&self.0);
        self.0.blocking_pool.run(move || call(&folder, &*folder.root.dir()?)).await
    }
}

impl FolderInner {
    /// The path from which an item is read, or why no folder can hold the item.
    fn item_path(&self, item: &mill_model::ItemAddress) -> Result<Result<ItemPath, RefusalReason>, FolderError> {
        let directory = self.layout.directory(&item.space).ok_or(StoreErrorKind::SpaceAbsent)?;
        Ok(ItemPath::of(directory, &item.id))
    }

    /// The path to which an item is written.
    fn item_path_to_write(&self, item: &mill_model::ItemAddress) -> Result<ItemPath, FolderError> {
        self.item_path(item)?.map_err(FolderError::refused)
    }

    /// The directory of a space to be made or removed.
    fn space_to_write(&self, space: &SpaceId) -> Result<String, FolderError> {
        match (&self.layout, self.layout.directory(space)) {
            (Layout::Spaces, Some(directory)) => Ok(directory.to_owned()),
            (Layout::Spaces, None) => Err(FolderError::refused(RefusalReason::Reserved)),
            (Layout::Single(_), _) => Err(FolderError::refused(RefusalReason::UnrepresentableId(
                "the folder itself is the store's one space".to_owned(),
            ))),
        }
    }

    /// Notes that another store is written from this one.
    fn add_destination(&self, destination: &Arc<Self>) {
        let mut destinations = self.destinations.lock();
        destinations.retain(|folder| folder.strong_count() > 0 && folder.as_ptr() != Arc::as_ptr(destination));
        destinations.push(Arc::downgrade(destination));
    }

    /// The marks of the stores that are written from this one, as far as their roots exist now.
    fn destination_marks(&self) -> Vec<u64> {
        let destinations = self.destinations.lock().clone();
        let folders = destinations.iter().filter_map(Weak::upgrade);
        let folders = folders.flat_map(|folder| {
            let mounted = folder.mounted.stores().into_iter().map(|store| store.0);
            mounted.chain([folder]).collect::<Vec<_>>()
        });
        folders.filter_map(|folder| folder.root.dir().ok()).map(|root| root.mark()).collect()
    }

    /// The error of a call, from the error of a step of it.
    fn error(&self, op: &'static str, subject: &str, error: FolderError) -> StoreError {
        let FolderError { kind, source, subject: other, .. } = error;
        // The subject of an error about the whole store is its root.
        let root = self.root.path().to_string_lossy();
        let subject = if subject.is_empty() { escape_for_display(&root) } else { subject.to_owned() };
        let subject = other.map_or_else(|| subject.clone(), |other| format!("{subject}: {other}"));
        StoreError { kind, op, store: self.sidecar.store.clone(), subject, source }
    }

    fn wrong_size(&self, subject: &str, words: &'static str) -> StoreError {
        self.error("put", subject, FolderError::unexpected(BoxError::from(words)))
    }
}

/// The subject of an error about a space.
fn space_subject(space: &SpaceId) -> String {
    escape_for_display(space.as_str())
}
