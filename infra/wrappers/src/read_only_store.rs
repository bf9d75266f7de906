//! A destination that cannot be changed, for a dry run.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
    StoreErrorKind,
};

/// A store that answers as the store behind it, and refuses each change.
///
/// It has the store behind it as a [`SourceStore`], which has no method that writes: nothing can be changed through it, by
/// its type.
///
/// ```
/// use std::sync::Arc;
///
/// use mill_model::{SpaceId, StoreAddress};
/// use mill_ports::{DestinationStore as _, SourceStore as _};
/// use mill_testkit::{ManualClock, MemoryStore, StoreBehavior};
/// use mill_wrappers::ReadOnlyStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let address = StoreAddress { account: "archive".parse()?, store: "1".parse()? };
/// let store = MemoryStore::new(address.clone(), StoreBehavior::default(), Arc::new(ManualClock::new()));
/// let read_only = ReadOnlyStore::new(Arc::new(store), address);
///
/// let space: SpaceId = "photos".parse()?;
/// assert!(read_only.create_space(&space).await.is_err());
/// assert!(read_only.space(&space).await?.present().is_none());
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct ReadOnlyStore {
    inner: Arc<dyn SourceStore>,
    address: StoreAddress,
}

impl ReadOnlyStore {
    /// Makes `inner` a destination that cannot be changed. `address` is for its refusals.
    pub fn new(inner: Arc<dyn SourceStore>, address: StoreAddress) -> Self {
        Self { inner, address }
    }

    fn refusal(&self, op: &'static str, subject: &dyn fmt::Display) -> StoreError {
        StoreError {
            kind: StoreErrorKind::NotConfigured,
            op,
            store: self.address.clone(),
            subject: subject.to_string(),
            source: Some("a dry run changes nothing".into()),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for ReadOnlyStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.inner.list_spaces().await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.inner.spaces().await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.inner.space(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.inner.head(item).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner.open(item, range, if_version).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner.open_uncached(item, if_version).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.inner.places(item).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.inner.folds_names(space).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.inner.list(space, after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DestinationStore for ReadOnlyStore {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        Err(self.refusal("create", space))
    }

    async fn put(
        &self,
        item: &ItemAddress,
        _: &PutRequest,
        _: &Precondition,
        _: Body,
    ) -> Result<PutResult, StoreError> {
        Err(self.refusal("write", item))
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        _: &PutRequest,
        _: &Precondition,
        _: &CopySource,
        _: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        Err(self.refusal("copy", item))
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        _: &Properties,
        _: &Precondition,
    ) -> Result<PutResult, StoreError> {
        Err(self.refusal("write properties", item))
    }

    async fn respell(&self, space: &SpaceId, _: &Respelling) -> Result<bool, StoreError> {
        Err(self.refusal("rename", space))
    }

    async fn remove_stale_uploads(&self) {}
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeletableStore for ReadOnlyStore {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        Err(self.refusal("remove", space))
    }

    async fn delete(&self, item: &ItemAddress, _: &Precondition) -> Result<Presence<()>, StoreError> {
        Err(self.refusal("delete", item))
    }
}
