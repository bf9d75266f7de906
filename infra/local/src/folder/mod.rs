//! A folder as a store: its spaces are directories, its items are files.
//!
//! **Promise.** An item appears whole or not at all, durably before the answer: no write of it failed. No symbolic link is
//! ever followed below the root. What cannot be an item is refused by name, never skipped. A listing is complete and in
//! order, or fails, and holds a bounded part of a directory's names however many there are. A root that is not there, or is
//! not the one first seen, makes the store unavailable and never empty.
//!
//! Reading order: `item_path` (ids and paths), `faults` (errnos), `reach` (whom they concern), `mounts`, `boundary` and `file_system` (what tells a place
//! from others), `overlap`, `state` (versions), `root`, `kept` (properties), `reading` with `uncached` and `mapped`,
//! `listing` over `names` and `dirents`, then `flusher`, `staging`, `committer`, `lock`, `changes` and `undo`.
//!
//! **Invariant:** only the committer's thread changes anything outside of the directory for writes in progress, and only
//! under the lock. A store that is only read is not written, not even for that directory.

mod apply;
mod blocking_pool;
mod buffer_budget;
mod committer;
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
mod undo;
mod writing;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, Weak};

use mill_model::ids::escape_for_display;
use mill_model::{SpaceId, StoreAddress};
use mill_ports::{BoxError, Clock, RefusalReason, StoreError, StoreErrorKind, Table};

use blocking_pool::BlockingPool;
use buffer_budget::BufferBudget;
use committer::Committer;
use error::FolderError;
use item_path::ItemPath;
pub use item_path::Layout;
use mapped_writes::MappedWrites;
use mounted_space::MountedSpaces;
pub use overlap::{Extent, Overlap, overlaps};
pub use owner_mark::{OwnerMark, SpaceLocation, identity_at};
pub use pair_guard::PairGuard;
pub use root::RootFacts;
use root::{Root, RootDir};
use sidecar::Sidecar;

/// How a folder becomes a store.
#[derive(Debug)]
pub struct FolderSettings {
    /// The store's name.
    pub address: StoreAddress,
    /// The directory that holds everything.
    pub root: PathBuf,
    /// How the spaces lie under it.
    pub layout: Layout,
    /// The book that takes the properties which do not fit beside a file. Without it such an item is refused.
    pub sidecars: Option<Arc<dyn Table>>,
    /// The time, against which it is judged whether a file's state is old enough to be trusted.
    pub clock: Arc<dyn Clock>,
}

/// A folder as a store, to be read and written.
///
/// Dropping it waits for the changes under way and removes what it had made for writes in progress.
#[derive(Debug, Clone)]
pub struct FolderStore(Arc<FolderInner>);

#[derive(Debug)]
struct FolderInner {
    layout: Layout,
    root: Arc<Root>,
    /// The roots of the stores that are written from this one: a walk that meets one goes round.
    destinations: Mutex<Vec<Weak<FolderInner>>>,
    /// What a walk said that met one of them.
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
    /// What an earlier run left to be flushed was flushed before anything was read from the disk itself.
    flushed_leftovers: Once,
}

impl FolderStore {
    /// Opens a folder. Where its root is not there now, each call says so until it is.
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
            flushed_leftovers: Once::new(),
        }))
    }

    /// Waits until all changes asked for are made, and leaves nothing but items in the folder.
    pub async fn finish(self) {
        let folder = self.0;
        let finish = move || {
            folder.mounted.stores().iter().for_each(|store| store.0.committer.finish());
            folder.committer.finish();
        };
        let _ = tokio::task::spawn_blocking(finish).await;
    }

    /// The path of the root, as given.
    pub fn root_path(&self) -> &std::path::Path {
        self.0.root.path()
    }

    /// Forgets what was first seen at the root, so that what stands there next is taken for it.
    pub fn forget_root(&self) {
        self.0.root.forget();
    }

    /// That something cannot be done here.
    pub fn refused(&self, op: &'static str, refusal: RefusalReason) -> StoreError {
        self.0.error(op, "", FolderError::refused(refusal))
    }

    /// That a space cannot be used now.
    pub fn unavailable(&self, space: &SpaceId, why: BoxError) -> StoreError {
        self.0.error("use", &space_subject(space), FolderError::unavailable(why))
    }

    /// What stands at the root now.
    ///
    /// # Errors
    /// When it is not there, or is not the one first seen.
    pub async fn root_facts(&self) -> Result<RootFacts, StoreError> {
        let facts = self.on_root(|_, root| Ok(root.facts()));
        facts.await.map_err(|error| self.0.error("look", "", error))
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
    /// Where an item is read: its place, or that no such item can be there.
    fn item_path(&self, item: &mill_model::ItemAddress) -> Result<Result<ItemPath, RefusalReason>, FolderError> {
        let directory = self.layout.directory(&item.space).ok_or(StoreErrorKind::SpaceAbsent)?;
        Ok(ItemPath::of(directory, &item.id))
    }

    /// Where an item is written.
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
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        destinations.retain(|folder| folder.strong_count() > 0 && folder.as_ptr() != Arc::as_ptr(destination));
        destinations.push(Arc::downgrade(destination));
    }

    /// The marks of the stores that are written from this one, as far as they are there now.
    fn destination_marks(&self) -> Vec<u64> {
        let destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let folders = destinations.iter().filter_map(Weak::upgrade);
        let folders = folders.flat_map(|folder| {
            let mounted = folder.mounted.stores().into_iter().map(|store| store.0);
            mounted.chain([folder]).collect::<Vec<_>>()
        });
        folders.filter_map(|folder| folder.root.dir().ok()).map(|root| root.mark()).collect()
    }

    /// The error of a call, given what failed in it.
    fn error(&self, op: &'static str, subject: &str, error: FolderError) -> StoreError {
        let FolderError { kind, source, subject: other, .. } = error;
        // What is about all of the store is about its root.
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
