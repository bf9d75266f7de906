//! A dry run of a mirror: its ends are only read, and its state is a scratch copy.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use async_trait::async_trait;
use mill_model::{ContentId, ItemAddress, ItemFacts, SpaceId, StoreAddress, Version};
use mill_ports::{
    ByteRange, Capabilities, CopySource, Engine, ListPage, Listing, OpenItem, Place, Presence, SourceStore, SpaceFacts,
    SpaceList, StoreError,
};
use mill_wrappers::ReadOnlyStore;

use super::MirrorRequest;
use super::endpoint::Endpoint;
use super::pair::MirrorPair;
use crate::store_choice::OpenedStore;
use crate::store_registry::DestinationAccess;
use crate::wait_limit::WaitLimit;

impl MirrorPair {
    /// Opens a scratch copy of the state. A pair without a state gets an empty one.
    pub(super) async fn open_scratch(&self, wait_limit: &WaitLimit) -> Result<Arc<dyn Engine>> {
        self.look_at_state(&wait_limit.unlimited(), |state| {
            let engine = state.open_scratch(&state.remembered()?)?;
            // The copy is of no use if a run began meanwhile.
            state.ensure_idle()?;
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        })
        .await
    }

    /// How a dry run uses the destination. A folder that a run would make counts as empty.
    ///
    /// # Errors
    /// As a run: the folder was there at the last run, and is missing.
    pub(super) async fn look_at_destination(
        &self,
        (request, may_create): (&MirrorRequest, bool),
        wait_limit: &WaitLimit,
    ) -> Result<DestinationAccess> {
        let there = DestinationAccess::Read { taken_over: request.take_over };
        let Endpoint::Folder(destination) = &self.destination else { return Ok(there) };
        let look = move |path: &Path| {
            if path.is_dir() {
                return Ok(there);
            }
            if !may_create {
                bail!(super::pair::missing_destination(path));
            }
            Ok(DestinationAccess::Missing)
        };
        destination.look(wait_limit, look).await
    }
}

/// The two ends for a dry run: neither can be written.
pub(super) fn read_only(
    ends: (&OpenedStore, &OpenedStore),
    (source, destination): (StoreAddress, StoreAddress),
    access: DestinationAccess,
) -> (Arc<ReadOnlyStore>, Arc<ReadOnlyStore>) {
    let (from, to) = (ends.0.store.clone(), ends.1.store.clone());
    let to: Arc<dyn SourceStore> = match access {
        DestinationAccess::Missing => Arc::new(MissingFolder { capabilities: to.capabilities() }),
        DestinationAccess::Write | DestinationAccess::Read { .. } => to,
    };
    (Arc::new(ReadOnlyStore::new(from, source)), Arc::new(ReadOnlyStore::new(to, destination)))
}

/// A folder that is not there: as empty as a run would make it before it looks.
#[derive(Debug)]
struct MissingFolder {
    capabilities: Capabilities,
}

#[async_trait]
impl SourceStore for MissingFolder {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        Ok(SpaceList::default())
    }

    async fn space(&self, _: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        Ok(Presence::Present(SpaceFacts { identity: String::new() }))
    }

    async fn head(&self, _: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        Ok(Presence::Absent)
    }

    async fn open(
        &self,
        _: &ItemAddress,
        _: Option<ByteRange>,
        _: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        Ok(Presence::Absent)
    }

    async fn open_uncached(&self, _: &ItemAddress, _: Option<&Version>) -> Result<Presence<OpenItem>, StoreError> {
        Ok(Presence::Absent)
    }

    async fn places(&self, _: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        Ok(Vec::new())
    }

    fn list(&self, _: &SpaceId, _: Option<ContentId>) -> Listing {
        let place = Place { path: String::new(), identity: String::new() };
        let page = ListPage { entries: Vec::new(), places: vec![place], end: true };
        Box::pin(futures::stream::once(async { Ok(page) }))
    }

    fn copy_source(&self, _: &ItemAddress, _: &ItemFacts) -> Option<CopySource> {
        None
    }
}
