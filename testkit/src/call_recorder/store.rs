use async_trait::async_trait;
use futures::StreamExt as _;
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
};

use super::CallRecorder;
use crate::port_call::PortCall;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SourceStore + ?Sized> SourceStore for CallRecorder<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.log.call(PortCall::Spaces, 1);
        self.inner.list_spaces().await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.log.call(PortCall::Space, 1);
        self.inner.space(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.log.call(PortCall::Head, 1);
        self.inner.head(item).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.log.call(PortCall::Open, 1);
        self.inner.open(item, range, if_version).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.log.call(PortCall::Open, 1);
        self.inner.open_uncached(item, if_version).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.log.call(PortCall::Places, 1);
        self.inner.places(item).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.log.call(PortCall::FoldsNames, 1);
        self.inner.folds_names(space).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.log.call(PortCall::List, 0);
        let log = self.log.clone();
        let note = move |page: &Result<mill_ports::ListPage, StoreError>| {
            if let Ok(page) = page {
                log.entries(PortCall::List, page.entries.len());
            }
        };
        self.inner.list(space, after).inspect(note).boxed()
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DestinationStore + ?Sized> DestinationStore for CallRecorder<S> {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.log.call(PortCall::CreateSpace, 1);
        self.inner.create_space(space).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        self.log.call(PortCall::Put, 1);
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
        self.log.call(PortCall::Take, 1);
        self.inner.server_side_copy(item, content, when, origin, going).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        self.log.call(PortCall::PutProperties, 1);
        self.inner.put_properties(item, properties, when).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.log.call(PortCall::Respell, 1);
        self.inner.respell(space, respelling).await
    }

    async fn remove_stale_uploads(&self) {
        self.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for CallRecorder<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.log.call(PortCall::RemoveEmptySpace, 1);
        self.inner.remove_empty_space(space).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        self.log.call(PortCall::Delete, 1);
        self.inner.delete(item, when).await
    }
}
