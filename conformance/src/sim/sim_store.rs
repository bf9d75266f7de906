//! The stores: mill-engine's in memory, and each process's way to them, on which everything goes wrong.

mod bytes;
mod cache;
mod hidden;
mod other_name;
mod pages;

use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mill_engine::MemoryStore;
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, Monotonic, Properties, SpaceId, StoreAddress, StoreId, Version,
};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling, SourceStore, SpaceFacts,
    SpaceList, StoreError, StoreErrorKind, Stores,
};

pub(crate) use self::hidden::Hidden;
use self::other_name::OtherName;
use super::event::{Event, Print};
use super::fault::Fault;
use super::line::Line;
use super::policies::OTHER_NAME;
use super::watched;
use super::world::lock;

/// A store, and the trouble it is in.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) address: StoreAddress,
    pub(crate) inner: MemoryStore,
    /// Whether it states checksums of what it holds.
    pub(crate) checks: bool,
    trouble: Mutex<(Trouble, Monotonic)>,
    hidden: Mutex<Option<Hidden>>,
    cache: cache::Cache,
}

/// What is wrong with a store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// It does not answer at all.
    Gone,
    /// It answers and lists, but its items may not be looked at.
    Denied,
    /// It takes nothing more.
    Full,
    /// So many of a thousand calls are throttled.
    Storm(u32),
}

/// What a call does to a store, as far as troubles differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Space,
    Read,
    List,
    Write,
    Delete,
}

impl Shelf {
    pub(crate) fn new(address: StoreAddress, inner: MemoryStore, checks: bool) -> Arc<Self> {
        let trouble = Mutex::new((Trouble::Nothing, Monotonic::default()));
        Arc::new(Self { address, inner, checks, trouble, hidden: Mutex::default(), cache: cache::Cache::default() })
    }

    /// Is in trouble until then.
    pub(crate) fn trouble(&self, trouble: Trouble, until: Monotonic) {
        *lock(&self.trouble) = (trouble, until);
    }
}

/// A process's way to a store.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    line: Arc<Line>,
    shelf: Arc<Shelf>,
    /// Nothing ever goes wrong on it.
    quiet: bool,
}

/// What goes wrong with one call.
enum Meet {
    Nothing,
    Before(StoreErrorKind),
    After(StoreErrorKind),
}

impl Way {
    pub(crate) fn new(line: &Arc<Line>, shelf: &Arc<Shelf>, quiet: bool) -> Self {
        Self { line: line.clone(), shelf: shelf.clone(), quiet }
    }

    fn error(&self, op: &'static str, subject: &dyn Display, kind: StoreErrorKind) -> StoreError {
        let (store, subject) = (self.shelf.address.clone(), subject.to_string());
        StoreError { kind, op, store, subject, source: Some("the simulated world's doing".into()) }
    }

    /// The way there, and what waits at its end.
    async fn meet(&self, sort: Sort) -> Meet {
        if self.quiet {
            self.line.step().await;
            return Meet::Nothing;
        }
        self.line.enter().await;
        let (world, by) = (&self.line.world, &self.line.name);
        if world.is_calm() {
            return Meet::Nothing;
        }
        let (trouble, until) = *lock(&self.shelf.trouble);
        if world.now() < until {
            let unavailable = match trouble {
                Trouble::Gone => true,
                Trouble::Denied => sort == Sort::Read,
                Trouble::Full => sort == Sort::Write,
                Trouble::Nothing | Trouble::Storm(_) => false,
            };
            if unavailable {
                return Meet::Before(StoreErrorKind::Unavailable);
            }
            if let Trouble::Storm(share) = trouble
                && world.strikes(Fault::CallThrottled, share, by)
            {
                let wish = (world.dice.below(3) == 0).then(|| Duration::from_secs(world.dice.between(1, 20)));
                return Meet::Before(StoreErrorKind::Throttled { retry_after: wish });
            }
        }
        let rates = &world.swarm.rates;
        if world.strikes(Fault::StoreFailed, rates.store, by) {
            return Meet::Before(self.some_kind());
        }
        if world.strikes(Fault::StoreDoneButFailed, rates.store_done, by) {
            return Meet::After(self.some_kind());
        }
        Meet::Nothing
    }

    fn some_kind(&self) -> StoreErrorKind {
        let world = &self.line.world;
        if world.dice.happens(world.swarm.rates.unavailable) {
            StoreErrorKind::Unavailable
        } else {
            StoreErrorKind::Unexpected
        }
    }

    async fn call<T>(
        &self,
        sort: Sort,
        (op, subject): (&'static str, &(dyn Display + Sync)),
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.meet(sort).await {
            Meet::Before(kind) => return Err(self.error(op, subject, kind)),
            Meet::After(kind) => {
                call.await?;
                self.line.leave().await;
                return Err(self.error(op, subject, kind));
            }
            Meet::Nothing => {}
        }
        let answer = call.await;
        if !self.quiet {
            self.line.leave().await;
        }
        answer
    }

    async fn opened(
        &self,
        item: &ItemAddress,
        call: impl Future<Output = Result<Presence<OpenItem>, StoreError>> + Send,
    ) -> Result<Presence<OpenItem>, StoreError> {
        Ok(match self.call(Sort::Read, ("open", item), call).await? {
            Presence::Present(OpenItem { facts, body }) if !self.quiet => {
                super::spite::item_opened(&self.line, &self.shelf, item);
                let body = self.read_body(item, &facts, body);
                Presence::Present(OpenItem { facts, body })
            }
            other => other,
        })
    }

    /// A call that may change the store begins.
    fn calls(&self, op: &'static str, subject: &dyn Display) -> Monotonic {
        let leased = watched::running().map(|running| running.is_leased());
        self.line.world.see(&Event::Calls { by: &self.line.name, op, store: &self.shelf.address, subject, leased });
        self.line.world.now()
    }

    /// `item` is the one that the call met.
    fn now_holds(&self, item: &ItemAddress, called: Monotonic, first: bool, damaged: bool) {
        let holds = self.shelf.inner.content(item).map(|(bytes, properties)| Print::of(&bytes, &properties));
        let (by, store) = (&self.line.name, &self.shelf.address);
        self.line.world.see(&Event::Item { by, store, item, holds, called, first, damaged });
    }

    fn count_twin<T>(&self, written: &Result<T, StoreError>) {
        if matches!(written, Err(error) if matches!(error.kind, StoreErrorKind::Refused(RefusalReason::Twin(_)))) {
            self.line.world.count(Fault::TwinRefused, &self.line.name);
        }
    }

    fn space_is(&self, space: &SpaceId, here: bool) {
        let (by, store) = (&self.line.name, &self.shelf.address);
        self.line.world.see(&Event::Space { by, store, space, here });
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for Way {
    fn capabilities(&self) -> Capabilities {
        self.shelf.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.call(Sort::Space, ("spaces", &""), self.shelf.inner.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.call(Sort::Space, ("space", space), self.shelf.inner.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let answer = self.call(Sort::Read, ("head", item), self.shelf.inner.head(item)).await;
        match &answer {
            Ok(Presence::Absent) if !self.quiet => super::spite::item_found_absent(&self.line, &self.shelf, item),
            Ok(Presence::Present(_)) if !self.quiet => {
                if let Some(long) = super::spite::item_to_delete_found(&self.line, &self.shelf, item) {
                    self.line.world.sleep(long).await;
                }
            }
            _ => {}
        }
        answer
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.opened(item, self.shelf.inner.open(item, range, if_version)).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let opened = self.opened(item, self.shelf.inner.open_uncached(item, if_version)).await?;
        Ok(match opened {
            Presence::Present(reading) => Presence::Present(self.past_cache(item, reading)),
            Presence::Absent => Presence::Absent,
        })
    }

    /// Told at once by what is at hand, as by a service's name or a few calls of the system.
    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.line.step().await;
        self.shelf.inner.places(item).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.call(Sort::Space, ("folds_names", space), self.shelf.inner.folds_names(space)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.listing(space, after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.shelf.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DestinationStore for Way {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.calls("create_space", space);
        let call = async {
            self.shelf.inner.create_space(space).await?;
            self.space_is(space, true);
            Ok(())
        };
        self.call(Sort::Write, ("create_space", space), call).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let called = self.calls("put", item);
        let (body, damaged) = self.written_body(item, content, body);
        let call = async {
            let written = self.shelf.inner.put(item, content, when, body).await;
            self.count_twin(&written);
            let written = written?;
            let met = self.shelf.inner.resolve_name(item);
            self.now_holds(&met, called, true, damaged.load(std::sync::atomic::Ordering::Relaxed));
            self.write_back(&met)?;
            Ok(written)
        };
        self.call(Sort::Write, ("put", item), call).await
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let called = self.calls("take", item);
        let call = async {
            let written = self.shelf.inner.server_side_copy(item, content, when, origin, going).await;
            self.count_twin(&written);
            let written = written?;
            if written.is_some() {
                self.now_holds(&self.shelf.inner.resolve_name(item), called, true, false);
            }
            Ok(written)
        };
        self.call(Sort::Write, ("take", item), call).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let called = self.calls("put_properties", item);
        let call = async {
            let written = self.shelf.inner.put_properties(item, properties, when).await?;
            self.now_holds(&self.shelf.inner.resolve_name(item), called, true, false);
            Ok(written)
        };
        self.call(Sort::Write, ("put_properties", item), call).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let Respelling { from, to, .. } = respelling;
        let called = self.calls("respell", &format_args!("{space}/{from} to {to}"));
        let call = async {
            let before = self.shelf.inner.contents(space).unwrap_or_default();
            let done = self.shelf.inner.respell(space, respelling).await?;
            let after = self.shelf.inner.contents(space).unwrap_or_default();
            let gone: Vec<_> = before.into_keys().filter(|id| !after.contains_key(id)).collect();
            for (id, old) in gone.iter().filter_map(|old| {
                let id = ContentId::new(format!("{to}{}", old.as_str().strip_prefix(from)?)).ok()?;
                Some((id, old))
            }) {
                let Some((bytes, properties)) = after.get(&id) else { continue };
                let (by, store, item) =
                    (&*self.line.name, &self.shelf.address, &ItemAddress { space: space.clone(), id });
                self.line.world.count(Fault::TwinRespelled, by);
                self.shelf.respelled(&ItemAddress { space: space.clone(), id: old.clone() }, item);
                let holds = Print::of(bytes, properties);
                self.line.world.see(&Event::Respelled { by, store, item, from: old, path: to, holds, called });
            }
            Ok(done)
        };
        self.call(Sort::Write, ("respell", &from), call).await
    }

    async fn remove_stale_uploads(&self) {
        self.shelf.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeletableStore for Way {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.calls("remove_empty_space", space);
        let call = async {
            self.shelf.inner.remove_empty_space(space).await?;
            self.space_is(space, false);
            Ok(())
        };
        self.call(Sort::Delete, ("remove_empty_space", space), call).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let called = self.calls("delete", item);
        let first = watched::running().is_none_or(|running| running.first_delete());
        let call = async {
            let item = &self.shelf.inner.resolve_name(item);
            super::spite::delete_arrives(&self.line, &self.shelf, item);
            let gone = self.shelf.inner.delete(item, when).await?;
            if gone == Presence::Present(()) {
                self.now_holds(item, called, first, false);
            }
            Ok(gone)
        };
        self.call(Sort::Delete, ("delete", item), call).await
    }
}

/// A process's way to all stores.
#[derive(Debug)]
pub(crate) struct Ways(pub(crate) Arc<Line>);

impl Ways {
    fn way(&self, account: &AccountId, store: &StoreId) -> Result<Way, StoreError> {
        match self.0.world.shelf(account, store) {
            Some(found) => Ok(Way::new(&self.0, found, false)),
            None => Err(not_configured("opening", account, store)),
        }
    }

    fn open(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        Ok(match Self::other_name_of(store) {
            Some(store) => Arc::new(OtherName(self.way(account, &store)?)),
            None => Arc::new(self.way(account, store)?),
        })
    }

    /// The store that a name is another name of.
    fn other_name_of(store: &StoreId) -> Option<StoreId> {
        (store.as_str() == OTHER_NAME).then(|| StoreId::new("1").unwrap())
    }
}

fn not_configured(op: &'static str, account: &AccountId, store: &StoreId) -> StoreError {
    let (store, subject) = (StoreAddress { account: account.clone(), store: store.clone() }, String::new());
    StoreError { kind: StoreErrorKind::NotConfigured, op, store, subject, source: None }
}

#[async_trait]
impl Stores for Ways {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(self.open(account, store)?)
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.open(account, store)?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        self.open(account, store)
    }

    /// By what was opened, as mounts, addresses and witnesses tell it in the world outside.
    async fn apart(&self, account: &AccountId, source: &StoreId, destination: &StoreId) -> Result<(), StoreError> {
        self.0.step().await;
        let opened = |store: &StoreId| Self::other_name_of(store).unwrap_or_else(|| store.clone());
        if opened(source) == opened(destination) {
            return Err(not_configured("use as a copy", account, destination));
        }
        Ok(())
    }
}
