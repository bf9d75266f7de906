//! Spaces whose own directory is a mount or a subvolume: each is written as a folder of its own.
//!
//! A file is prepared out of sight and renamed to its place, and no rename goes from one file system into another. So what
//! is written into such a space is prepared there, under the space's own directory. It is read as any other space is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mill_model::SpaceId;
use mill_ports::{DestinationStore as _, StoreError};

use super::faults::Fault;
use super::mounts::MountWatch;
use super::place::Layout;
use super::{FolderSettings, FolderStore, RootFacts, places, space_subject};

/// What is known of the spaces of a store.
#[derive(Debug, Default)]
pub(super) struct MountedSpaces(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    watch: Option<MountWatch>,
    /// The store of each that is a mount; `None` for those that are not. A store is kept also while it is not mounted: what
    /// stands in its place then is not written.
    spaces: BTreeMap<SpaceId, Option<FolderStore>>,
}

impl MountedSpaces {
    fn get(&self, space: &SpaceId) -> Option<Option<FolderStore>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.watch.as_ref().is_none_or(MountWatch::changed) {
            known.spaces.retain(|_, store| store.is_some());
            known.watch = known.watch.take().or_else(|| MountWatch::open().ok());
        }
        known.spaces.get(space).cloned()
    }

    fn set(&self, space: &SpaceId, store: Option<FolderStore>) -> Option<FolderStore> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.spaces.entry(space.clone()).or_insert(store).clone()
    }

    /// The stores of those that are mounts.
    pub(super) fn stores(&self) -> Vec<FolderStore> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.spaces.values().flatten().cloned().collect()
    }
}

impl FolderStore {
    /// The store through which a space is written: this one, or that of the space's own mount.
    pub(super) async fn writer(&self, space: &SpaceId) -> Result<Self, Fault> {
        let (Layout::Spaces, Some(directory)) = (&self.0.layout, self.0.layout.directory(space)) else {
            return Ok(self.clone());
        };
        if let Some(known) = self.0.mounted.get(space) {
            return Ok(known.unwrap_or_else(|| self.clone()));
        }
        let directory = directory.to_owned();
        let found = self.on_root(move |folder, root| {
            let own = places::is_own_mount(root, &directory)?;
            Ok(own.map(|own| own.then(|| folder.root.resolved().join(&directory))))
        });
        // One that is not there yet is no mount either, and may become one.
        let Some(mounted) = found.await? else { return Ok(self.clone()) };
        let opened = mounted.map(|path| {
            Self::open(FolderSettings {
                address: self.0.sidecar.store.clone(),
                root: path,
                layout: Layout::Single(space.clone()),
                sidecars: self.0.sidecar.table.clone(),
                clock: self.0.clock.clone(),
            })
        });
        let fresh = opened.is_some();
        let writer = self.0.mounted.set(space, opened);
        if let (true, Some(writer)) = (fresh, &writer) {
            writer.tidy().await;
        }
        Ok(writer.unwrap_or_else(|| self.clone()))
    }

    /// What stands at a space's directory, which may be a mount of its own. `None` where there is none, or where the root
    /// itself is the space.
    ///
    /// # Errors
    /// When the root cannot be reached.
    pub async fn space_root_facts(&self, space: &SpaceId) -> Result<Option<RootFacts>, StoreError> {
        let (Layout::Spaces, Some(directory)) = (&self.0.layout, self.0.layout.directory(space)) else {
            return Ok(None);
        };
        let directory = directory.to_owned();
        let facts = self.on_root(move |_, root| places::space_root_facts(root, &directory));
        facts.await.map_err(|fault| self.0.error("look", &space_subject(space), fault))
    }
}
