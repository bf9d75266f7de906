//! A store that is reached under another name, with other names for its spaces: like a bucket behind an access point, or a
//! folder that is mounted twice.

use async_trait::async_trait;
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
};

use super::StoreClient;

/// A client of a store under its other name.
#[derive(Debug)]
pub(super) struct AliasedStore(pub(super) StoreClient);

/// Maps a space to its name under the other name, and back.
fn space(space: &SpaceId) -> SpaceId {
    match space.as_str() {
        "photos" => SpaceId::new("texts").unwrap(),
        "texts" => SpaceId::new("photos").unwrap(),
        _ => space.clone(),
    }
}

fn item(item: &ItemAddress) -> ItemAddress {
    ItemAddress { space: space(&item.space), id: item.id.clone() }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for AliasedStore {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        let mut list = self.0.list_spaces().await?;
        list.spaces = list.spaces.iter().map(space).collect();
        list.spaces.sort();
        Ok(list)
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, id: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.0.space(&space(id)).await
    }

    async fn head(&self, at: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.0.head(&item(at)).await
    }

    async fn open(
        &self,
        at: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.0.open(&item(at), range, if_version).await
    }

    async fn open_uncached(
        &self,
        at: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.0.open_uncached(&item(at), if_version).await
    }

    async fn places(&self, at: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.0.places(&item(at)).await
    }

    async fn folds_names(&self, id: &SpaceId) -> Result<bool, StoreError> {
        self.0.folds_names(&space(id)).await
    }

    fn list(&self, id: &SpaceId, after: Option<ContentId>) -> Listing {
        self.0.list(&space(id), after)
    }

    fn copy_source(&self, at: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.0.copy_source(&item(at), facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DestinationStore for AliasedStore {
    async fn create_space(&self, id: &SpaceId) -> Result<(), StoreError> {
        self.0.create_space(&space(id)).await
    }

    async fn put(
        &self,
        at: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        self.0.put(&item(at), content, when, body).await
    }

    async fn server_side_copy(
        &self,
        at: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        self.0.server_side_copy(&item(at), content, when, origin, going).await
    }

    async fn put_properties(
        &self,
        at: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        self.0.put_properties(&item(at), properties, when).await
    }

    async fn respell(&self, id: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.0.respell(&space(id), respelling).await
    }

    async fn remove_stale_uploads(&self) {
        self.0.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeletableStore for AliasedStore {
    async fn remove_empty_space(&self, id: &SpaceId) -> Result<(), StoreError> {
        self.0.remove_empty_space(&space(id)).await
    }

    async fn delete(&self, at: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        self.0.delete(&item(at), when).await
    }
}
