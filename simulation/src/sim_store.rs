//! The stores: in-memory stores, and each process's client of them, which injects faults.

mod alias;
mod cache;
mod faulty_body;
mod faulty_listing;
mod hidden_space;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    AccountId, AuditAction, ContentId, ItemAddress, ItemFacts, Monotonic, Properties, SpaceId, StoreAddress, StoreId,
    Version,
};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling, SourceStore, SpaceFacts,
    SpaceList, StoreError, StoreErrorKind, Stores,
};
use mill_testkit::MemoryStore;
use parking_lot::Mutex;

use self::alias::AliasedStore;
pub(crate) use self::hidden_space::HiddenSpace;
use super::audit_world::{is_audited, is_log};
use super::event::{ContentFingerprint, Event};
use super::fault::SimFault;
use super::instrumented_processor;
use super::planted_calls;
use super::policies::OTHER_NAME;
use super::sim_process::SimProcess;

/// A simulated store and its current trouble.
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) address: StoreAddress,
    pub(crate) inner: MemoryStore,
    /// Whether the store states checksums of its items.
    pub(crate) checks: bool,
    trouble: Mutex<(StoreTrouble, Monotonic)>,
    hidden: Mutex<Option<HiddenSpace>>,
    cache: cache::Cache,
}

/// A fault of a store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreTrouble {
    Nothing,
    /// The store does not answer at all.
    Gone,
    /// The store answers and lists, but its items cannot be read.
    Denied,
    /// The store is full.
    Full,
    /// The store takes calls and does not answer them until its trouble is over.
    Silent,
    /// So many of a thousand calls are throttled.
    Storm(u32),
}

/// The kind of a call, as far as troubles depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Space,
    Read,
    List,
    Write,
    Delete,
}

impl SimStore {
    pub(crate) fn new(address: StoreAddress, inner: MemoryStore, checks: bool) -> Arc<Self> {
        let trouble = Mutex::new((StoreTrouble::Nothing, Monotonic::default()));
        Arc::new(Self { address, inner, checks, trouble, hidden: Mutex::default(), cache: cache::Cache::default() })
    }

    /// Puts the store in trouble until then.
    pub(crate) fn trouble(&self, trouble: StoreTrouble, until: Monotonic) {
        *self.trouble.lock() = (trouble, until);
    }
}

/// A process's client of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreClient {
    pub(crate) process: Arc<SimProcess>,
    sim_store: Arc<SimStore>,
    /// Whether no fault is ever injected.
    quiet: bool,
}

/// The fault of one call.
enum StoreCallFault {
    Nothing,
    Before(StoreErrorKind),
    After(StoreErrorKind),
}

impl StoreClient {
    pub(crate) fn new(process: &Arc<SimProcess>, sim_store: &Arc<SimStore>, quiet: bool) -> Self {
        Self { process: process.clone(), sim_store: sim_store.clone(), quiet }
    }

    pub(crate) fn address(&self) -> &StoreAddress {
        &self.sim_store.address
    }

    fn error(&self, op: &'static str, subject: &dyn Display, kind: StoreErrorKind) -> StoreError {
        let (store, subject) = (self.sim_store.address.clone(), subject.to_string());
        StoreError { kind, op, store, subject, source: Some("the simulated world's doing".into()) }
    }

    /// Waits while the store does not answer.
    async fn wait_for_answer(&self) {
        let world = &self.process.world;
        loop {
            let (trouble, until) = *self.sim_store.trouble.lock();
            if world.is_calm() || trouble != StoreTrouble::Silent || until <= world.now() {
                return;
            }
            self.process.trouble_until(until);
            world.sleep(until.since(world.now()).min(Duration::from_secs(15))).await;
        }
    }

    /// Delays the call and draws its fault.
    async fn draw_fault(&self, call_kind: CallKind) -> StoreCallFault {
        if self.quiet {
            self.process.step().await;
            return StoreCallFault::Nothing;
        }
        self.process.enter().await;
        self.wait_for_answer().await;
        let (world, by) = (&self.process.world, &self.process.name);
        if world.is_calm() {
            return StoreCallFault::Nothing;
        }
        let (trouble, until) = *self.sim_store.trouble.lock();
        if world.now() < until {
            let unavailable = match trouble {
                StoreTrouble::Gone => true,
                StoreTrouble::Denied => call_kind == CallKind::Read,
                StoreTrouble::Full => call_kind == CallKind::Write,
                StoreTrouble::Nothing | StoreTrouble::Storm(_) | StoreTrouble::Silent => false,
            };
            if unavailable {
                return StoreCallFault::Before(StoreErrorKind::Unavailable);
            }
            if let StoreTrouble::Storm(share) = trouble
                && world.inject(SimFault::CallThrottled, share, by)
            {
                let retry_after = (world.rng.below(3) == 0).then(|| Duration::from_secs(world.rng.between(1, 20)));
                return StoreCallFault::Before(StoreErrorKind::Throttled { retry_after });
            }
        }
        let rates = &world.swarm.rates;
        if world.inject(SimFault::StoreFailed, rates.store, by) {
            return StoreCallFault::Before(self.some_kind());
        }
        if world.inject(SimFault::StoreDoneButFailed, rates.store_done, by) {
            return StoreCallFault::After(self.some_kind());
        }
        StoreCallFault::Nothing
    }

    fn some_kind(&self) -> StoreErrorKind {
        let world = &self.process.world;
        if world.rng.happens(world.swarm.rates.unavailable) {
            StoreErrorKind::Unavailable
        } else {
            StoreErrorKind::Unexpected
        }
    }

    async fn call<T>(
        &self,
        call_kind: CallKind,
        (op, subject): (&'static str, &(dyn Display + Sync)),
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.draw_fault(call_kind).await {
            StoreCallFault::Before(kind) => return Err(self.error(op, subject, kind)),
            StoreCallFault::After(kind) => {
                call.await?;
                self.process.leave().await;
                return Err(self.error(op, subject, kind));
            }
            StoreCallFault::Nothing => {}
        }
        let answer = call.await;
        if !self.quiet {
            self.process.leave().await;
        }
        answer
    }

    async fn open_with_faults(
        &self,
        item: &ItemAddress,
        call: impl Future<Output = Result<Presence<OpenItem>, StoreError>> + Send,
    ) -> Result<Presence<OpenItem>, StoreError> {
        Ok(match self.call(CallKind::Read, ("open", item), call).await? {
            Presence::Present(OpenItem { facts, body, attachments }) if !self.quiet => {
                super::targeted_races::item_opened(&self.process, &self.sim_store, item);
                let body = self.read_body(item, &facts, body);
                Presence::Present(OpenItem { facts, body, attachments })
            }
            other => other,
        })
    }

    /// Records that a call begins that may change the store. Returns when. The files of a log are not judged by leases: they
    /// follow from what was committed.
    fn report_call(&self, op: &'static str, space: &SpaceId, subject: &dyn Display) -> Monotonic {
        if is_log(space) {
            return self.process.world.now();
        }
        let leased = instrumented_processor::running().map(|running| running.is_leased());
        self.process.world.see(&Event::Calls {
            by: &self.process.name,
            op,
            store: &self.sim_store.address,
            subject,
            leased,
        });
        self.process.world.now()
    }

    /// Records what `item` holds now; `item` is the spelling that the store has.
    fn report_item(&self, item: &ItemAddress, called: Monotonic, first: bool, damaged: bool) {
        if is_log(&item.space) {
            return self.report_log_file(item);
        }
        let holds =
            self.sim_store.inner.content(item).map(|(bytes, properties)| ContentFingerprint::of(&bytes, &properties));
        let (by, store) = (&self.process.name, &self.sim_store.address);
        self.process.world.see(&Event::Item { by, store, item, holds, called, first, damaged });
    }

    /// Writes a file of a log that a bug on purpose kept back.
    pub(crate) async fn write_log_file(&self, item: &ItemAddress, bytes: Bytes) -> Result<(), StoreError> {
        let content = PutRequest::new(bytes.len() as u64, Properties::default());
        let body = stream::iter([Ok(bytes)]).boxed();
        let call = async {
            self.sim_store.inner.put(item, &content, &Precondition::Always, body).await?;
            self.report_log_file(item);
            Ok(())
        };
        self.call(CallKind::Write, ("put", item), call).await
    }

    fn report_log_file(&self, item: &ItemAddress) {
        let Some((bytes, _)) = self.sim_store.inner.content(item) else { return };
        let (by, store) = (&self.process.name, &self.sim_store.address);
        self.process.world.see(&Event::LogFile { by, store, path: item.id.as_str(), bytes: &bytes });
    }

    /// Records a change that the audit log must tell.
    fn report_change(&self, space: &SpaceId, item: Option<&ContentId>, action: AuditAction) {
        let (world, store) = (&self.process.world, &self.sim_store.address);
        if world.audit.is_some() && is_audited(store) && !is_log(space) {
            world.see(&Event::Changed { by: &self.process.name, store, space, item, action });
        }
    }

    fn count_twin<T>(&self, written: &Result<T, StoreError>) {
        if matches!(written, Err(error) if matches!(error.kind, StoreErrorKind::Refused(RefusalReason::Twin(_)))) {
            self.process.world.count(SimFault::TwinRefused, &self.process.name);
        }
    }

    fn report_space(&self, space: &SpaceId, here: bool) {
        if is_log(space) {
            return;
        }
        let (by, store) = (&self.process.name, &self.sim_store.address);
        self.process.world.see(&Event::Space { by, store, space, here });
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for StoreClient {
    fn capabilities(&self) -> Capabilities {
        self.sim_store.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.call(CallKind::Space, ("spaces", &""), self.sim_store.inner.list_spaces()).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        Ok(self.list_spaces().await?.spaces)
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.call(CallKind::Space, ("space", space), self.sim_store.inner.space(space)).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let answer = self.call(CallKind::Read, ("head", item), self.sim_store.inner.head(item)).await;
        match &answer {
            Ok(Presence::Absent) if !self.quiet => {
                super::targeted_races::item_found_absent(&self.process, &self.sim_store, item);
            }
            Ok(Presence::Present(_)) if !self.quiet => {
                if let Some(long) = super::targeted_races::item_to_delete_found(&self.process, &self.sim_store, item) {
                    self.process.world.sleep(long).await;
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
        self.open_with_faults(item, self.sim_store.inner.open(item, range, if_version)).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let opened = self.open_with_faults(item, self.sim_store.inner.open_uncached(item, if_version)).await?;
        Ok(match opened {
            Presence::Present(reading) => Presence::Present(self.read_past_cache(item, reading)),
            Presence::Absent => Presence::Absent,
        })
    }

    /// Answers at once and without faults: real stores answer from a service's name or a few system calls.
    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.process.step().await;
        self.sim_store.inner.places(item).await
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        self.call(CallKind::Space, ("folds_names", space), self.sim_store.inner.folds_names(space)).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.listing(space, after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.sim_store.inner.copy_source(item, facts)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DestinationStore for StoreClient {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.report_call("create_space", space, space);
        let call = async {
            let is_new = self.sim_store.inner.contents(space).is_none();
            self.sim_store.inner.create_space(space).await?;
            self.report_space(space, true);
            if is_new {
                self.report_change(space, None, AuditAction::CreateSpace);
            }
            Ok(())
        };
        self.call(CallKind::Write, ("create_space", space), call).await
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let body = if is_log(&item.space) && is_planted(PlantedBug::CheckpointBeforeFiles) {
            match planted_calls::log_file_kept(self, item, body).await? {
                Ok(kept) => return Ok(kept),
                Err(body) => body,
            }
        } else {
            body
        };
        let called = self.report_call("put", &item.space, item);
        let (body, damaged) = self.written_body(item, content, body);
        let call = async {
            let written = self.sim_store.inner.put(item, content, when, body).await;
            self.count_twin(&written);
            let written = written?;
            let met = self.sim_store.inner.resolve_name(item);
            self.report_item(&met, called, true, damaged.load(std::sync::atomic::Ordering::Relaxed));
            self.report_change(&item.space, Some(&item.id), AuditAction::AddContent);
            self.write_back(&met)?;
            Ok(written)
        };
        let written = self.call(CallKind::Write, ("put", item), call).await?;
        if is_log(&item.space) && is_planted(PlantedBug::CheckpointBeforeFiles) {
            planted_calls::write_kept_files(self, item).await?;
        }
        Ok(written)
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let called = self.report_call("take", &item.space, item);
        let call = async {
            let written = self.sim_store.inner.server_side_copy(item, content, when, origin, going).await;
            self.count_twin(&written);
            let written = written?;
            if written.is_some() {
                self.report_item(&self.sim_store.inner.resolve_name(item), called, true, false);
                self.report_change(&item.space, Some(&item.id), AuditAction::CopyContent);
            }
            Ok(written)
        };
        self.call(CallKind::Write, ("take", item), call).await
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let called = self.report_call("put_properties", &item.space, item);
        let call = async {
            let written = self.sim_store.inner.put_properties(item, properties, when).await?;
            self.report_item(&self.sim_store.inner.resolve_name(item), called, true, false);
            self.report_change(&item.space, Some(&item.id), AuditAction::UpdateContentProperties);
            Ok(written)
        };
        self.call(CallKind::Write, ("put_properties", item), call).await
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let Respelling { from, to, .. } = respelling;
        let called = self.report_call("respell", space, &format_args!("{space}/{from} to {to}"));
        let call = async {
            let before = self.sim_store.inner.contents(space).unwrap_or_default();
            let done = self.sim_store.inner.respell(space, respelling).await?;
            let after = self.sim_store.inner.contents(space).unwrap_or_default();
            let gone: Vec<_> = before.into_keys().filter(|id| !after.contains_key(id)).collect();
            if done && gone.is_empty() {
                self.report_change(space, None, AuditAction::UpdateSpaceProperties);
            }
            for (id, old) in gone.iter().filter_map(|old| {
                let id = ContentId::new(format!("{to}{}", old.as_str().strip_prefix(from)?)).ok()?;
                Some((id, old))
            }) {
                let Some((bytes, properties)) = after.get(&id) else { continue };
                let (by, store, item) =
                    (&*self.process.name, &self.sim_store.address, &ItemAddress { space: space.clone(), id });
                self.process.world.count(SimFault::TwinRespelled, by);
                self.sim_store.respelled(&ItemAddress { space: space.clone(), id: old.clone() }, item);
                let holds = ContentFingerprint::of(bytes, properties);
                self.process.world.see(&Event::Respelled { by, store, item, from: old, path: to, holds, called });
                self.report_change(space, Some(&item.id), AuditAction::CopyContent);
                self.report_change(space, Some(old), AuditAction::DeleteContent);
            }
            Ok(done)
        };
        self.call(CallKind::Write, ("respell", &from), call).await
    }

    async fn remove_stale_uploads(&self) {
        self.sim_store.inner.remove_stale_uploads().await;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeletableStore for StoreClient {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.report_call("remove_empty_space", space, space);
        let call = async {
            self.sim_store.inner.remove_empty_space(space).await?;
            self.report_space(space, false);
            self.report_change(space, None, AuditAction::DeleteSpace);
            Ok(())
        };
        self.call(CallKind::Delete, ("remove_empty_space", space), call).await
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let called = self.report_call("delete", &item.space, item);
        let first = instrumented_processor::running().is_none_or(|running| running.first_delete());
        let call = async {
            let asked = item;
            let item = &self.sim_store.inner.resolve_name(item);
            super::targeted_races::delete_arrives(&self.process, &self.sim_store, item);
            let gone = self.sim_store.inner.delete(item, when).await?;
            if gone == Presence::Present(()) {
                self.report_item(item, called, first, false);
                self.report_change(&asked.space, Some(&asked.id), AuditAction::DeleteContent);
            }
            Ok(gone)
        };
        self.call(CallKind::Delete, ("delete", item), call).await
    }
}

/// A process's client of all stores.
#[derive(Debug)]
pub(crate) struct StoreClients(pub(crate) Arc<SimProcess>);

impl StoreClients {
    fn client(&self, account: &AccountId, store: &StoreId) -> Result<StoreClient, StoreError> {
        match self.0.world.sim_store(account, store) {
            Some(found) => Ok(StoreClient::new(&self.0, found, false)),
            None => Err(not_configured("opening", account, store)),
        }
    }

    fn open(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        Ok(match Self::other_name_of(store) {
            Some(store) => Arc::new(AliasedStore(self.client(account, &store)?)),
            None => self.recorded(self.client(account, store)?),
        })
    }

    /// The store, which records its changes if it is audited.
    fn recorded(&self, client: StoreClient) -> Arc<dyn DeletableStore> {
        let Some(audit) = &self.0.world.audit else { return Arc::new(client) };
        match audit.audited(&self.0, client) {
            Ok(audited) => Arc::new(audited),
            Err(client) => Arc::new(client),
        }
    }

    /// The store that a name is another name of.
    fn other_name_of(store: &StoreId) -> Option<StoreId> {
        (store.as_str() == OTHER_NAME).then(|| StoreId::new("1").unwrap())
    }
}

fn not_configured(op: &'static str, account: &AccountId, store: &StoreId) -> StoreError {
    let (store, subject) = (StoreAddress::of(account, store), String::new());
    StoreError { kind: StoreErrorKind::NotConfigured, op, store, subject, source: None }
}

#[async_trait]
impl Stores for StoreClients {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(match (Self::other_name_of(store), &self.0.world.audit) {
            (None, Some(_)) => Arc::new(self.client(account, store)?),
            _ => self.open(account, store)?,
        })
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.open(account, store)?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        self.open(account, store)
    }

    /// Compares the stores that were opened, as real stores compare mounts, addresses and witness objects.
    async fn check_no_overlap(
        &self,
        account: &AccountId,
        source: &StoreId,
        destination: &StoreId,
    ) -> Result<(), StoreError> {
        self.0.step().await;
        let opened = |store: &StoreId| Self::other_name_of(store).unwrap_or_else(|| store.clone());
        if opened(source) == opened(destination) {
            return Err(not_configured("use as a copy", account, destination));
        }
        Ok(())
    }
}
