//! A store with a limit of concurrent transfers.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
};
use tokio::sync::Semaphore;

/// Caps the transfers of a store: so many items open for reading, and as many writes.
///
/// A read counts from before the item is opened until its body is dropped, a write until it returns. Reads and writes
/// are counted separately, and a caller with a running write starts no further read. So two stores that are copied into
/// one another cannot deadlock.
///
/// ```
/// use std::sync::Arc;
///
/// use mill_model::{SpaceId, StoreAddress};
/// use mill_ports::{DestinationStore as _, SourceStore as _};
/// use mill_testkit::{ManualClock, MemoryStore, StoreBehavior};
/// use mill_wrappers::LimitedStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let address = StoreAddress { account: "archive".parse()?, store: "1".parse()? };
/// let store = MemoryStore::new(address, StoreBehavior::default(), Arc::new(ManualClock::new()));
/// let limited = LimitedStore::new(Arc::new(store), 4);
///
/// let space: SpaceId = "photos".parse()?;
/// limited.create_space(&space).await?;
/// assert!(limited.space(&space).await?.present().is_some());
/// assert_eq!(limited.capabilities().transfers_max, Some(4));
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct LimitedStore<S: ?Sized> {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    transfers_max: u32,
    inner: Arc<S>,
}

impl<S: ?Sized> LimitedStore<S> {
    /// Caps `inner` at `transfers_max` (at least one) in each direction.
    pub fn new(inner: Arc<S>, transfers_max: u32) -> Self {
        let transfers_max = transfers_max.max(1);
        let permits = || Arc::new(Semaphore::new(transfers_max as usize));
        Self { reads: permits(), writes: permits(), transfers_max, inner }
    }

    async fn opened(
        &self,
        call: impl Future<Output = Result<Presence<OpenItem>, StoreError>>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        // Nobody closes the semaphore, so there is always a permit in the end.
        let permit = self.reads.clone().acquire_owned().await.ok();
        Ok(match call.await? {
            Presence::Absent => Presence::Absent,
            Presence::Present(OpenItem { facts, body, attachments }) => {
                let held = stream::unfold((body, permit), |(mut body, permit)| async move {
                    body.next().await.map(|piece| (piece, (body, permit)))
                });
                Presence::Present(OpenItem { facts, body: held.boxed(), attachments })
            }
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SourceStore + ?Sized> SourceStore for LimitedStore<S> {
    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        let transfers_max = inner.transfers_max.map_or(self.transfers_max, |most| most.min(self.transfers_max));
        Capabilities { transfers_max: Some(transfers_max), ..inner }
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
        self.opened(self.inner.open(item, range, if_version)).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(self.inner.open_uncached(item, if_version)).await
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
impl<S: DestinationStore + ?Sized> DestinationStore for LimitedStore<S> {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.inner.create_space(space).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let _permit = self.writes.acquire().await.ok();
        self.inner.put(item, content, when, body).await
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let _permit = self.writes.acquire().await.ok();
        self.inner.server_side_copy(item, content, when, origin, going).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        self.inner.put_properties(item, properties, when).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.inner.respell(space, respelling).await
    }

    async fn remove_stale_uploads(&self) {
        self.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for LimitedStore<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.inner.remove_empty_space(space).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        self.inner.delete(item, when).await
    }
}

#[cfg(test)]
mod tests;
