//! Stores that note what they are asked and have not answered, so that a server that is silent, or a mount that hangs, is told
//! from a survey that takes long.
//!
//! Only questions that change nothing are noted. How long a write may be silent nobody can say: a disk may take minutes
//! to make a large file durable.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use mill_model::{AccountId, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, StoreId, Version};

use mill_ports::{
    Body, ByteRange, Capabilities, Content, DeletableStore, DestinationStore, Going, Listing, Origin, Place, Presence,
    Reading, Respelling, SourceStore, SpaceFacts, SpaceList, Statistics, StoreError, StoreErrorKind, Stores, When,
    Written,
};

/// The stores of a process, with what they are asked noted in its [`Statistics`].
#[derive(Debug)]
pub struct AskedStores {
    /// The stores.
    pub stores: Arc<dyn Stores>,
    /// Where it is noted.
    pub statistics: Arc<Statistics>,
}

impl AskedStores {
    fn note(&self, account: &AccountId, store: &StoreId) -> Note {
        let address = StoreAddress { account: account.clone(), store: store.clone() };
        Note { address, statistics: self.statistics.clone() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stores for AskedStores {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        let note = self.note(account, store);
        let store = note.of(self.stores.source(account, store)).await?;
        Ok(Arc::new(AskedStore { store, note }))
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        let note = self.note(account, store);
        let store = note.of(self.stores.destination(account, store)).await?;
        Ok(Arc::new(AskedStore { store, note }))
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        let note = self.note(account, store);
        let store = note.of(self.stores.deletable(account, store)).await?;
        Ok(Arc::new(AskedStore { store, note }))
    }

    /// Asks both, so each is noted: which of them is silent is not known.
    async fn apart(&self, account: &AccountId, source: &StoreId, destination: &StoreId) -> Result<(), StoreError> {
        let (from, to) = (self.note(account, source), self.note(account, destination));
        from.of(to.of(self.stores.apart(account, source, destination))).await
    }

    async fn keep(
        &self,
        account: &AccountId,
        destination: &StoreId,
        space: &SpaceId,
        claim: bool,
    ) -> Result<bool, StoreError> {
        self.note(account, destination).of(self.stores.keep(account, destination, space, claim)).await
    }
}

/// A store, and where it is noted what it is asked.
#[derive(Debug)]
pub struct AskedStore<S: ?Sized> {
    store: Arc<S>,
    note: Note,
}

impl<S: ?Sized> AskedStore<S> {
    /// `store`, which is known by `address`.
    pub fn new(store: Arc<S>, address: StoreAddress, statistics: Arc<Statistics>) -> Self {
        Self { store, note: Note { address, statistics } }
    }

    /// What was opened, each piece of it a question.
    fn noted(&self, opened: Presence<Reading>) -> Presence<Reading> {
        let note = |Reading { facts, body }| Reading { facts, body: self.note.clone().each(body) };
        match opened {
            Presence::Here(reading) => Presence::Here(note(reading)),
            Presence::Absent => Presence::Absent,
        }
    }
}

#[derive(Debug, Clone)]
struct Note {
    address: StoreAddress,
    statistics: Arc<Statistics>,
}

impl Note {
    /// What the store answers, noted as a question until it does.
    async fn of<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let question = self.statistics.ask(&self.address);
        let answer = asked.await;
        // That nobody answered is no answer.
        if !answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Unreachable) {
            question.answered();
        }
        answer
    }

    /// Each that comes of a stream, noted as a question from when it is asked for.
    fn each<T: Send + 'static>(
        self,
        stream: BoxStream<'static, Result<T, StoreError>>,
    ) -> BoxStream<'static, Result<T, StoreError>> {
        let next = |(note, mut stream): (Self, BoxStream<'static, Result<T, StoreError>>)| async move {
            let answer = note.of(async { stream.next().await.transpose() }).await.transpose()?;
            Some((answer, (note, stream)))
        };
        futures::stream::unfold((self, stream), next).boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SourceStore + ?Sized> SourceStore for AskedStore<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.note.of(self.store.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.note.of(self.store.spaces()).await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.note.of(self.store.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.note.of(self.store.head(item)).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<Reading>, StoreError> {
        let opened = self.note.of(self.store.open(item, range, if_version)).await?;
        Ok(self.noted(opened))
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<Reading>, StoreError> {
        let opened = self.note.of(self.store.open_uncached(item, if_version)).await?;
        Ok(self.noted(opened))
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.note.of(self.store.places(item)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.note.clone().each(self.store.list(space, after))
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.note.of(self.store.folds_names(space)).await
    }

    fn origin(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<Origin> {
        self.store.origin(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DestinationStore + ?Sized> DestinationStore for AskedStore<S> {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.store.create_space(space).await
    }

    async fn put(&self, item: &ItemAddress, content: &Content, when: &When, body: Body) -> Result<Written, StoreError> {
        self.store.put(item, content, when, body).await
    }

    async fn take(
        &self,
        item: &ItemAddress,
        content: &Content,
        when: &When,
        origin: &Origin,
        going: Going<'_>,
    ) -> Result<Option<Written>, StoreError> {
        self.store.take(item, content, when, origin, going).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &When,
    ) -> Result<Written, StoreError> {
        self.store.put_properties(item, properties, when).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.store.respell(space, respelling).await
    }

    async fn tidy(&self) {
        self.store.tidy().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: DeletableStore + ?Sized> DeletableStore for AskedStore<S> {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.store.remove_empty_space(space).await
    }

    async fn delete(&self, item: &ItemAddress, when: &When) -> Result<Presence<()>, StoreError> {
        self.store.delete(item, when).await
    }
}
