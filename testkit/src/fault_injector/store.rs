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
use super::{FaultKind, FaultyStore, InjectedFault};
use crate::port_call::PortCall;

/// The store, call and subject of an injected error.
#[derive(Debug, Clone)]
pub(super) struct InjectedErrorContext {
    store: StoreAddress,
    op: PortCall,
    subject: String,
}

impl InjectedErrorContext {
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

    /// Makes a call with its planned fault. A call that is not awaited has no effect.
    async fn call_with_fault<T>(
        &self,
        fault: Option<InjectedFault>,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            None => call.await,
            Some(InjectedFault::Before(kind)) => Err(self.error(kind)),
            Some(fault) => {
                call.await?;
                Err(self.error(fault.kind()))
            }
        }
    }
}

impl<S: Send + Sync + ?Sized> FaultyStore<S> {
    fn context(&self, op: PortCall, subject: &dyn Display) -> InjectedErrorContext {
        InjectedErrorContext { store: self.address.clone(), op, subject: subject.to_string() }
    }

    /// Where in a body of `size` bytes the fault happens, if it is a fault of a body.
    fn mid(&self, fault: Option<InjectedFault>, size: u64) -> Option<MidFault> {
        let fault = fault
            .filter(|fault| matches!(fault, InjectedFault::Mid(_) | InjectedFault::Truncate | InjectedFault::Damage))?;
        Some(MidFault { fault, at: self.plan.below(size) })
    }

    /// Opens an item with its planned fault, which may be one of its body.
    async fn opened(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        call: impl Future<Output = Result<Presence<OpenItem>, StoreError>> + Send,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let fault = self.plan.next_fault(PortCall::Open).await;
        let context = self.context(PortCall::Open, item);
        if !matches!(fault, Some(InjectedFault::Mid(_) | InjectedFault::Truncate | InjectedFault::Damage)) {
            return context.call_with_fault(fault, call).await;
        }
        Ok(match call.await? {
            Presence::Absent => Presence::Absent,
            Presence::Present(OpenItem { facts, body, attachments }) => {
                let size = range.map_or(facts.size, |range| range.length.min(facts.size));
                let body = streams::body(body, self.mid(fault, size), context);
                Presence::Present(OpenItem { facts, body, attachments })
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
        let fault = self.plan.next_fault(PortCall::Spaces).await;
        self.context(PortCall::Spaces, &"").call_with_fault(fault, self.inner.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let fault = self.plan.next_fault(PortCall::Space).await;
        self.context(PortCall::Space, space).call_with_fault(fault, self.inner.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let fault = self.plan.next_fault(PortCall::Head).await;
        self.context(PortCall::Head, item).call_with_fault(fault, self.inner.head(item)).await
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
        let fault = self.plan.next_fault(PortCall::Places).await;
        self.context(PortCall::Places, item).call_with_fault(fault, self.inner.places(item)).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let fault = self.plan.next_fault(PortCall::FoldsNames).await;
        self.context(PortCall::FoldsNames, space).call_with_fault(fault, self.inner.folds_names(space)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let (plan, context) = (Arc::clone(&self.plan), self.context(PortCall::List, space));
        // The back end's own listing begins only when it is read, as a call does.
        let listing = self.inner.list(space, after);
        let met = async move {
            let fault = plan.next_fault(PortCall::List).await;
            let pages = plan.below(3);
            streams::listing(listing, fault, pages, context)
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
        let fault = self.plan.next_fault(PortCall::CreateSpace).await;
        self.context(PortCall::CreateSpace, space).call_with_fault(fault, self.inner.create_space(space)).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let fault = self.plan.next_fault(PortCall::Put).await;
        let of_call = self.context(PortCall::Put, item);
        match self.mid(fault, content.size) {
            None => of_call.call_with_fault(fault, self.inner.put(item, content, when, body)).await,
            mid => self.inner.put(item, content, when, streams::body(body, mid, of_call)).await,
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
        let fault = self.plan.next_fault(PortCall::Take).await;
        self.context(PortCall::Take, item)
            .call_with_fault(fault, self.inner.server_side_copy(item, content, when, origin, going))
            .await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let fault = self.plan.next_fault(PortCall::PutProperties).await;
        let context = self.context(PortCall::PutProperties, item);
        context.call_with_fault(fault, self.inner.put_properties(item, properties, when)).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let fault = self.plan.next_fault(PortCall::Respell).await;
        self.context(PortCall::Respell, &respelling.from)
            .call_with_fault(fault, self.inner.respell(space, respelling))
            .await
    }

    async fn remove_stale_uploads(&self) {
        self.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for FaultyStore<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let fault = self.plan.next_fault(PortCall::RemoveEmptySpace).await;
        self.context(PortCall::RemoveEmptySpace, space)
            .call_with_fault(fault, self.inner.remove_empty_space(space))
            .await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let fault = self.plan.next_fault(PortCall::Delete).await;
        self.context(PortCall::Delete, item).call_with_fault(fault, self.inner.delete(item, when)).await
    }
}
