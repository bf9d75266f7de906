//! Spaces whose own directory is a mount or a subvolume: each is written as a folder of its own.
//!
//! A file is prepared in a hidden directory and renamed to its path, and no rename crosses file systems. So files of
//! such a space are prepared under the space's own directory. The space is read like any other.

use std::collections::BTreeMap;

use mill_model::SpaceId;
use mill_ports::{DestinationStore as _, RootFacts, StoreError};
use parking_lot::Mutex;

use super::error::FolderError;
use super::item_path::Layout;
use super::mounts::MountWatch;
use super::{FolderSettings, FolderStore, failure_scope, places, space_subject};

/// The writers of a store's spaces, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct MountedSpaces(Mutex<SpaceWriters>);

#[derive(Debug, Default)]
struct SpaceWriters {
    watch: Option<MountWatch>,
    spaces: BTreeMap<SpaceId, SpaceWriter>,
}

/// Through which store a space is written.
#[derive(Debug, Clone)]
enum SpaceWriter {
    /// The store that contains the space.
    Parent,
    /// The store of the space's own mount. It is kept while that is not mounted, so that the bare mount point is not
    /// written.
    Mount(FolderStore),
}

impl MountedSpaces {
    fn get(&self, space: &SpaceId) -> Option<SpaceWriter> {
        let mut writers = self.0.lock();
        if writers.watch.as_ref().is_none_or(MountWatch::changed) {
            writers.spaces.retain(|_, writer| matches!(writer, SpaceWriter::Mount(_)));
            writers.watch = writers.watch.take().or_else(|| MountWatch::open().ok());
        }
        writers.spaces.get(space).cloned()
    }

    fn set(&self, space: &SpaceId, writer: SpaceWriter) -> SpaceWriter {
        let mut writers = self.0.lock();
        writers.spaces.entry(space.clone()).or_insert(writer).clone()
    }

    /// The stores of the spaces that are mounts.
    pub(super) fn stores(&self) -> Vec<FolderStore> {
        let writers = self.0.lock();
        let store = |writer: &SpaceWriter| match writer {
            SpaceWriter::Mount(store) => Some(store.clone()),
            SpaceWriter::Parent => None,
        };
        writers.spaces.values().filter_map(store).collect()
    }
}

impl FolderStore {
    /// The store through which a space is written: this one, or that of the space's own mount.
    pub(super) async fn writer(&self, space: &SpaceId) -> Result<Self, FolderError> {
        let (Layout::Spaces, Some(directory)) = (&self.0.layout, self.0.layout.directory(space)) else {
            return Ok(self.clone());
        };
        if let Some(writers) = self.0.mounted.get(space) {
            return Ok(self.through(writers));
        }
        let directory = directory.to_owned();
        let found = self.on_root(move |folder, root| {
            let own = failure_scope::retry_transient_call(|| places::is_own_mount(root, &directory))
                .map_err(|error| failure_scope::scope_listing_error(root, &directory, error))?;
            Ok(own.map(|own| own.then(|| folder.root.resolved().join(&directory))))
        });
        // A space that does not exist yet may become a mount: nothing is remembered.
        let Some(mounted) = found.await? else { return Ok(self.clone()) };
        let Some(path) = mounted else { return Ok(self.through(self.0.mounted.set(space, SpaceWriter::Parent))) };
        let opened = Self::open(FolderSettings {
            address: self.0.sidecar.store.clone(),
            root: path,
            layout: Layout::Single(space.clone()),
            sidecars: self.0.sidecar.table.clone(),
            clock: self.0.clock.clone(),
        });
        let writer = self.through(self.0.mounted.set(space, SpaceWriter::Mount(opened)));
        writer.remove_stale_uploads().await;
        Ok(writer)
    }

    fn through(&self, writer: SpaceWriter) -> Self {
        match writer {
            SpaceWriter::Parent => self.clone(),
            SpaceWriter::Mount(store) => store,
        }
    }

    /// The facts of a space's directory, which may be a mount of its own. `None` where there is none, or where the root
    /// itself is the space.
    ///
    /// # Errors
    /// When the root cannot be reached.
    pub(super) async fn facts_of_space(&self, space: &SpaceId) -> Result<Option<RootFacts>, StoreError> {
        let (Layout::Spaces, Some(directory)) = (&self.0.layout, self.0.layout.directory(space)) else {
            return Ok(None);
        };
        let directory = directory.to_owned();
        let path = self.0.root.path().join(space.as_str());
        let facts = self.on_root(move |_, root| places::space_root_facts(root, &directory, path));
        facts.await.map_err(|error| self.0.error("look", &space_subject(space), error))
    }
}
