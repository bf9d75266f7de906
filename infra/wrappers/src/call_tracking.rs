//! Stores that track their pending calls, so that a silent server or a hanging mount can be distinguished from a long
//! scan.
//!
//! Only pending reads may end a run. Nobody knows how long a write may be silent: a disk may take minutes to make a
//! large file durable. So writes are tracked separately, and only shown.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, SpacePair, StoreAddress, StoreId, Version,
};
use mill_ports::{
    Body, ByteRange, Capabilities, Clock, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing,
    OpenItem, PendingWrite, Place, Precondition, Presence, PutRequest, PutResult, Respelling, SourceStore, SpaceFacts,
    SpaceList, Statistics, StoreError, StoreErrorKind, Stores, WriteProgress,
};

/// The stores of a process, whose pending calls are tracked in its [`Statistics`].
#[derive(Debug)]
pub struct TrackedStores {
    /// The stores.
    pub stores: Arc<dyn Stores>,
    /// Where pending calls are tracked.
    pub statistics: Arc<Statistics>,
    /// The clock, for the duration of writes.
    pub clock: Arc<dyn Clock>,
}

impl TrackedStores {
    fn tracker(&self, account: &AccountId, store: &StoreId) -> CallTracker {
        let address = StoreAddress::of(account, store);
        CallTracker { address, statistics: self.statistics.clone(), clock: self.clock.clone() }
    }

    /// The store that `opening` returns, which is itself tracked as a call.
    async fn open_tracked<S: ?Sized>(
        &self,
        (account, store): (&AccountId, &StoreId),
        opening: impl Future<Output = Result<Arc<S>, StoreError>>,
    ) -> Result<Arc<TrackedStore<S>>, StoreError> {
        let tracker = self.tracker(account, store);
        let store = tracker.track(opening).await?;
        Ok(Arc::new(TrackedStore { store, tracker }))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stores for TrackedStores {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(self.open_tracked((account, store), self.stores.source(account, store)).await?)
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.open_tracked((account, store), self.stores.destination(account, store)).await?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        Ok(self.open_tracked((account, store), self.stores.deletable(account, store)).await?)
    }

    /// Tracked as a call of both stores: which of them is silent is not known.
    async fn check_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        let (from, to) = (self.tracker(account, source), self.tracker(account, destination));
        from.track(to.track(self.stores.check_no_overlap(account, source, destination))).await
    }

    async fn ensure_owned(&self, pair: &SpacePair, claim: bool) -> Result<bool, StoreError> {
        self.tracker(&pair.account, &pair.destination).track(self.stores.ensure_owned(pair, claim)).await
    }
}

/// A store whose pending calls are tracked.
#[derive(Debug)]
pub struct TrackedStore<S: ?Sized> {
    store: Arc<S>,
    tracker: CallTracker,
}

impl<S: ?Sized> TrackedStore<S> {
    /// Tracks the calls of `store` under `address`.
    pub fn new(store: Arc<S>, address: StoreAddress, statistics: Arc<Statistics>, clock: Arc<dyn Clock>) -> Self {
        Self { store, tracker: CallTracker { address, statistics, clock } }
    }

    /// Tracks each piece of an opened item as a call.
    fn tracked(&self, open_tracked: Presence<OpenItem>) -> Presence<OpenItem> {
        let tracker = |reading: OpenItem| OpenItem { body: self.tracker.clone().track_stream(reading.body), ..reading };
        match open_tracked {
            Presence::Present(reading) => Presence::Present(tracker(reading)),
            Presence::Absent => Presence::Absent,
        }
    }
}

#[derive(Debug, Clone)]
struct CallTracker {
    address: StoreAddress,
    statistics: Arc<Statistics>,
    clock: Arc<dyn Clock>,
}

impl CallTracker {
    /// Tracks a call until the store answers.
    async fn track<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let question = self.statistics.begin_call(&self.address);
        let answer = asked.await;
        // `Unreachable` means that nobody answered.
        if !answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Unreachable) {
            question.answered();
        }
        answer
    }

    /// Tracks each element of a stream as a call, from when it is polled.
    fn track_stream<T: Send + 'static>(
        self,
        stream: BoxStream<'static, Result<T, StoreError>>,
    ) -> BoxStream<'static, Result<T, StoreError>> {
        let next = |(tracker, mut stream): (Self, BoxStream<'static, Result<T, StoreError>>)| async move {
            let answer = tracker.track(async { stream.next().await.transpose() }).await.transpose()?;
            Some((answer, (tracker, stream)))
        };
        futures::stream::unfold((self, stream), next).boxed()
    }

    /// Tracks a write.
    fn track_write(&self) -> PendingWrite {
        self.statistics.begin_write(&self.address, self.clock.monotonic())
    }

    /// The body of a write. While it fetches a piece, the write waits for its source, not for the store.
    fn track_body(&self, write: &PendingWrite, body: Body) -> Body {
        let next = |(mut body, progress, clock): (Body, WriteProgress, Arc<dyn Clock>)| async move {
            progress.rests();
            let piece = body.next().await;
            progress.moved(clock.monotonic());
            Some((piece?, (body, progress, clock)))
        };
        futures::stream::unfold((body, write.progress(), self.clock.clone()), next).boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SourceStore + ?Sized> SourceStore for TrackedStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.tracker.track(self.store.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.tracker.track(self.store.spaces()).await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.tracker.track(self.store.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.tracker.track(self.store.head(item)).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let open_tracked = self.tracker.track(self.store.open(item, range, if_version)).await?;
        Ok(self.tracked(open_tracked))
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let open_tracked = self.tracker.track(self.store.open_uncached(item, if_version)).await?;
        Ok(self.tracked(open_tracked))
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.tracker.track(self.store.places(item)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.tracker.clone().track_stream(self.store.list(space, after))
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.tracker.track(self.store.folds_names(space)).await
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.store.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DestinationStore + ?Sized> DestinationStore for TrackedStore<S> {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let _write = self.tracker.track_write();
        self.store.create_space(space).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let write = self.tracker.track_write();
        self.store.put(item, content, when, self.tracker.track_body(&write, body)).await
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let write = self.tracker.track_write();
        let progress = write.progress();
        let moving = |bytes| {
            progress.moved(self.tracker.clock.monotonic());
            going(bytes)
        };
        self.store.server_side_copy(item, content, when, origin, &moving).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let _write = self.tracker.track_write();
        self.store.put_properties(item, properties, when).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let _write = self.tracker.track_write();
        self.store.respell(space, respelling).await
    }

    async fn remove_stale_uploads(&self) {
        let _write = self.tracker.track_write();
        self.store.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for TrackedStore<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let _write = self.tracker.track_write();
        self.store.remove_empty_space(space).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let _write = self.tracker.track_write();
        self.store.delete(item, when).await
    }
}

#[cfg(test)]
mod tests;
