use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use mill_model::{ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts, SpaceList, StoreError,
    StoreErrorKind,
};

use super::streams::{self, MidFault};
use super::{Fault, FaultKind, FaultyStore};
use crate::op::Op;

/// What the errors played say of where they happened.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    store: StoreAddress,
    op: Op,
    subject: String,
}

impl Scene {
    pub(super) fn error(&self, kind: FaultKind) -> StoreError {
        let kind = match kind {
            FaultKind::Throttled => StoreErrorKind::Throttled { retry_after: None },
            FaultKind::Unavailable => StoreErrorKind::Unavailable,
            FaultKind::Unreachable => StoreErrorKind::Unreachable,
            FaultKind::Unexpected => StoreErrorKind::Unexpected,
        };
        StoreError {
            kind,
            op: self.op.as_str(),
            store: self.store.clone(),
            subject: self.subject.clone(),
            source: Some("a planned fault".into()),
        }
    }

    /// Makes a call, or not, and fails, or not. A call that is not awaited does nothing.
    async fn around<T>(
        &self,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            None => call.await,
            Some(Fault::Before(kind)) => Err(self.error(kind)),
            Some(fault) => {
                call.await?;
                Err(self.error(fault.kind()))
            }
        }
    }
}

impl<S: Send + Sync + ?Sized> FaultyStore<S> {
    fn scene(&self, op: Op, subject: &dyn Display) -> Scene {
        Scene { store: self.address.clone(), op, subject: subject.to_string() }
    }

    /// Where in a body of `size` bytes a fault strikes, if it is one that strikes there.
    fn mid(&self, fault: Option<Fault>, size: u64) -> Option<MidFault> {
        let fault = fault.filter(|fault| matches!(fault, Fault::Mid(_) | Fault::Truncate | Fault::Damage))?;
        Some(MidFault { fault, at: self.plan.below(size) })
    }

    /// Opens an item, or not, with what goes wrong while its bytes come.
    async fn opened(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        call: impl Future<Output = Result<Presence<OpenItem>, StoreError>> + Send,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let fault = self.plan.meet(Op::Open).await;
        let scene = self.scene(Op::Open, item);
        if !matches!(fault, Some(Fault::Mid(_) | Fault::Truncate | Fault::Damage)) {
            return scene.around(fault, call).await;
        }
        Ok(match call.await? {
            Presence::Absent => Presence::Absent,
            Presence::Present(OpenItem { facts, body }) => {
                let size = range.map_or(facts.size, |range| range.length.min(facts.size));
                let body = streams::body(body, self.mid(fault, size), scene);
                Presence::Present(OpenItem { facts, body })
            }
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SourceStore + ?Sized> SourceStore for FaultyStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        let fault = self.plan.meet(Op::Spaces).await;
        self.scene(Op::Spaces, &"").around(fault, self.inner.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let fault = self.plan.meet(Op::Space).await;
        self.scene(Op::Space, space).around(fault, self.inner.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let fault = self.plan.meet(Op::Head).await;
        self.scene(Op::Head, item).around(fault, self.inner.head(item)).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, range, self.inner.open(item, range, if_version)).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, None, self.inner.open_uncached(item, if_version)).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        let fault = self.plan.meet(Op::Places).await;
        self.scene(Op::Places, item).around(fault, self.inner.places(item)).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let fault = self.plan.meet(Op::FoldsNames).await;
        self.scene(Op::FoldsNames, space).around(fault, self.inner.folds_names(space)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let (plan, scene) = (Arc::clone(&self.plan), self.scene(Op::List, space));
        // The back end's own listing begins only when it is read, as a call does.
        let listing = self.inner.list(space, after);
        let met = async move {
            let fault = plan.meet(Op::List).await;
            let pages = plan.below(3);
            streams::listing(listing, fault, pages, scene)
        };
        stream::once(met).flatten().boxed()
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DestinationStore + ?Sized> DestinationStore for FaultyStore<S> {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let fault = self.plan.meet(Op::CreateSpace).await;
        self.scene(Op::CreateSpace, space).around(fault, self.inner.create_space(space)).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let fault = self.plan.meet(Op::Put).await;
        let scene = self.scene(Op::Put, item);
        match self.mid(fault, content.size) {
            None => scene.around(fault, self.inner.put(item, content, when, body)).await,
            mid => self.inner.put(item, content, when, streams::body(body, mid, scene)).await,
        }
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let fault = self.plan.meet(Op::Take).await;
        self.scene(Op::Take, item).around(fault, self.inner.server_side_copy(item, content, when, origin, going)).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let fault = self.plan.meet(Op::PutProperties).await;
        let scene = self.scene(Op::PutProperties, item);
        scene.around(fault, self.inner.put_properties(item, properties, when)).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let fault = self.plan.meet(Op::Respell).await;
        self.scene(Op::Respell, &respelling.from).around(fault, self.inner.respell(space, respelling)).await
    }

    async fn remove_stale_uploads(&self) {
        self.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for FaultyStore<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let fault = self.plan.meet(Op::RemoveEmptySpace).await;
        self.scene(Op::RemoveEmptySpace, space).around(fault, self.inner.remove_empty_space(space)).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let fault = self.plan.meet(Op::Delete).await;
        self.scene(Op::Delete, item).around(fault, self.inner.delete(item, when)).await
    }
}
