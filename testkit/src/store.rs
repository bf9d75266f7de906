//! A store in memory, and the stores of several accounts.

mod items;
mod mounts;
mod name_folding;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    AccountId, Algorithm, ContentId, ItemAddress, ItemFacts, Properties, SpaceId, StoreAddress, StoreId, Version,
};
use mill_ports::{
    Attachments, Body, ByteRange, Capabilities, Clock, CopyProgress, CopySource, DeletableStore, DestinationStore,
    Listing, OpenItem, Place, Precondition, Presence, PutRequest, PutResult, RefusalReason, Respelling, SourceStore,
    SpaceFacts, SpaceList, StoreError, StoreErrorKind, Stores,
};
use parking_lot::Mutex;

use items::{StoredEntry, StoredItem, StoredSpaces};

/// Which freedoms of the contract a store uses.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is an independent option
pub struct StoreBehavior {
    /// Most entries in one page of a listing.
    pub page_entries_max: usize,
    /// Most bytes in one piece of a body.
    pub piece_bytes_max: usize,
    /// The checksums that the store computes and returns for each item.
    pub checksums: Vec<Algorithm>,
    /// Whether listings give properties.
    pub properties_in_listings: bool,
    /// Whether an open item is read as it was when opened, also if it changes meanwhile.
    pub reads_are_snapshots: bool,
    /// How long after a write a version is still unsettled.
    pub settles_after: Duration,
    /// The step of the clock that a version names: two writes of the same bytes within one step have the same version, as at S3.
    /// `None` if no two writes have the same one.
    pub version_tick: Option<Duration>,
    /// The number of its service. Stores of one service copy from each other on the server's side.
    pub service: Option<u32>,
    /// Which ids the store cannot hold.
    pub unholdable: Option<fn(&ContentId) -> bool>,
    /// Whether the store folds names that differ in case or normal form.
    pub folds_names: bool,
    /// Whether the store declares its ids to be paths. It accepts any id all the same.
    pub ids_are_paths: bool,
}

impl Default for StoreBehavior {
    /// Short pages and pieces, MD5 like many a provider, and no snapshots.
    fn default() -> Self {
        Self {
            page_entries_max: 7,
            piece_bytes_max: 16 << 10,
            checksums: vec![Algorithm::Md5],
            properties_in_listings: false,
            reads_are_snapshots: false,
            settles_after: Duration::ZERO,
            version_tick: None,
            service: None,
            unholdable: None,
            folds_names: false,
            ids_are_paths: false,
        }
    }
}

/// A store that keeps ids to the byte, writes atomically, and forgets everything with the process.
///
/// Clones share one store.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<MemoryStoreInner>);

#[derive(Debug)]
struct MemoryStoreInner {
    address: StoreAddress,
    behavior: StoreBehavior,
    clock: Arc<dyn Clock>,
    spaces: Mutex<StoredSpaces>,
    writes: AtomicU64,
}

impl MemoryStore {
    /// A store without spaces.
    pub fn new(address: StoreAddress, behavior: StoreBehavior, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(MemoryStoreInner {
            address,
            spaces: Mutex::new(StoredSpaces::new(behavior.version_tick)),
            behavior,
            clock,
            writes: AtomicU64::new(0),
        }))
    }

    /// The number of writing calls through its port, whether or not they succeeded.
    pub fn writes(&self) -> u64 {
        self.0.writes.load(Relaxed)
    }

    /// Creates a space, past the port.
    pub fn insert_space(&self, space: &SpaceId) {
        self.0.spaces.lock().create(space);
    }

    /// Inserts an item, past the port, with its space if that is missing.
    pub fn insert(&self, item: &ItemAddress, bytes: impl Into<Bytes>, properties: Properties) {
        let made = self.item(bytes.into(), properties);
        let mut spaces = self.0.spaces.lock();
        spaces.create(&item.space);
        spaces.insert(item, made);
    }

    /// Inserts an entry beside the spaces, which is in none of them.
    pub fn insert_left_out(&self, shown: &str, reason: RefusalReason) {
        self.0.spaces.lock().beside.add(|| shown.to_owned(), reason);
    }

    /// Inserts an entry that is listed as refused, past the port.
    pub fn insert_refused(&self, item: &ItemAddress, reason: RefusalReason) {
        let mut spaces = self.0.spaces.lock();
        spaces.create(&item.space);
        spaces.insert_refused(item, reason);
    }

    /// Removes an entry, past the port.
    pub fn remove(&self, item: &ItemAddress) {
        self.0.spaces.lock().remove(item);
    }

    /// Removes a space with all its entries, past the port.
    pub fn remove_space(&self, space: &SpaceId) {
        self.0.spaces.lock().remove_space(space);
    }

    /// Makes everything beneath `path` (which ends in `/`) a mount of its own, past the port.
    pub fn mount(&self, space: &SpaceId, path: &str, identity: &str) {
        if let Some(space) = self.0.spaces.lock().space_mut(space) {
            space.mounts.add(path, identity);
        }
    }

    /// Whether there is such a mount, mounted or not: for simulated users.
    pub fn has_mount(&self, space: &SpaceId, path: &str) -> bool {
        self.0.spaces.lock().space(space).is_some_and(|space| space.mounts.has(path))
    }

    /// Unmounts a mount with everything beneath it, or mounts it again, past the port.
    pub fn set_mounted(&self, space: &SpaceId, path: &str, mounted: bool) {
        if let Some(space) = self.0.spaces.lock().space_mut(space) {
            space.set_mounted(path, mounted);
        }
    }

    /// Changes an item's bytes as a failing disk would: its version, checksums and size in listings stay.
    pub fn rot(&self, item: &ItemAddress, change: impl FnOnce(&mut Vec<u8>)) {
        self.0.spaces.lock().rot(item, change);
    }

    /// An item's bytes and properties, if it exists: for a test's checker.
    pub fn content(&self, item: &ItemAddress) -> Option<(Bytes, Properties)> {
        self.0.spaces.lock().item(item).map(|item| (item.bytes.clone(), item.properties.clone()))
    }

    /// All items of a space with bytes and properties, `None` when there is no such space: for a test's checker.
    pub fn contents(&self, space: &SpaceId) -> Option<BTreeMap<ContentId, (Bytes, Properties)>> {
        let spaces = self.0.spaces.lock();
        let entries = &spaces.space(space)?.entries;
        let item = |(id, planted): (&ContentId, &StoredEntry)| match planted {
            StoredEntry::Item(item) => Some((id.clone(), (item.bytes.clone(), item.properties.clone()))),
            StoredEntry::Refused(_) => None,
        };
        Some(entries.iter().filter_map(item).collect())
    }

    /// The item on which a call for `item` would act: for a test's checker. It has another spelling only with the
    /// planted bug of a store that [folds names](StoreBehavior) unnoticed.
    pub fn resolve_name(&self, item: &ItemAddress) -> ItemAddress {
        self.0.resolve_name(&self.0.spaces.lock(), item)
    }

    fn item(&self, bytes: Bytes, properties: Properties) -> StoredItem {
        StoredItem::new(bytes, properties, self.0.clock.now(), self.0.clock.monotonic(), &self.0.behavior.checksums)
    }

    /// The planted bug of a failed write that leaves a temporary file.
    fn leave_behind(&self, item: &ItemAddress) {
        if is_planted(PlantedBug::TemporaryFileLeft)
            && let Ok(id) = ContentId::new(format!("{}.part", item.id.as_str()))
        {
            self.insert(&ItemAddress { space: item.space.clone(), id }, Bytes::new(), Properties::default());
        }
    }

    fn count_write(&self) {
        self.0.writes.fetch_add(1, Relaxed);
    }
}

impl MemoryStoreInner {
    fn error(&self, op: &'static str, subject: &dyn std::fmt::Display, kind: StoreErrorKind) -> StoreError {
        StoreError { kind, op, store: self.address.clone(), subject: subject.to_string(), source: None }
    }

    /// The facts of an item, with its version settled or not by its age.
    fn facts(&self, item: &StoredItem) -> ItemFacts {
        let now = self.clock.monotonic();
        let same_tick = |tick| items::tick_number(item.written, tick) == items::tick_number(now, tick);
        let settled = now.since(item.written) >= self.behavior.settles_after;
        item.facts(settled && !self.behavior.version_tick.is_some_and(same_tick))
    }

    /// Finds an item. A missing space and a refused entry are errors.
    fn find<'a>(
        &self,
        op: &'static str,
        spaces: &'a StoredSpaces,
        item: &ItemAddress,
    ) -> Result<Option<&'a StoredItem>, StoreError> {
        let Some(space) = spaces.space(&item.space) else {
            return Err(self.error(op, item, StoreErrorKind::SpaceAbsent));
        };
        match space.entries.get(&item.id) {
            Some(StoredEntry::Item(found)) => Ok(Some(found)),
            Some(StoredEntry::Refused(reason)) => Err(self.error(op, item, StoreErrorKind::Refused(reason.clone()))),
            None => Ok(None),
        }
    }

    /// Finds the item that a write would replace. Fails if the precondition does not hold.
    fn find_when<'a>(
        &self,
        op: &'static str,
        spaces: &'a StoredSpaces,
        item: &ItemAddress,
        when: &Precondition,
    ) -> Result<Option<&'a StoredItem>, StoreError> {
        if self.behavior.unholdable.is_some_and(|unholdable| unholdable(&item.id)) {
            let refusal = RefusalReason::UnrepresentableId("as its habits say".into());
            return Err(self.error(op, item, StoreErrorKind::Refused(refusal)));
        }
        self.name_must_be_own(op, spaces, item)?;
        let found = self.find(op, spaces, item)?;
        let holds = match (when, found) {
            (Precondition::Always, _) | (Precondition::Absent, None) => true,
            (Precondition::Absent, Some(_)) | (Precondition::VersionIs(_), None) => false,
            (Precondition::VersionIs(version), Some(found)) => found.token() == version.token(),
        };
        if holds { Ok(found) } else { Err(self.error(op, item, StoreErrorKind::Precondition)) }
    }

    fn written(&self, item: &StoredItem) -> PutResult {
        let facts = self.facts(item);
        let tags = mill_ports::TagsWritten::None;
        PutResult { version: facts.version, checksums: facts.checksums, at: facts.modified, tags }
    }
}

#[async_trait]
impl SourceStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transfers_max: None,
            versions_in_listings: true,
            native_conditions: true,
            versions_identify_objects: false,
            ids_are_paths: self.0.behavior.ids_are_paths,
        }
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        let spaces = self.0.spaces.lock();
        Ok(SpaceList { spaces: spaces.ids(), left_out: spaces.beside.clone() })
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let spaces = self.0.spaces.lock();
        Ok(spaces.space(space).map_or(Presence::Absent, |space| {
            Presence::Present(SpaceFacts { identity: format!("memory-{}", space.number) })
        }))
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let spaces = self.0.spaces.lock();
        let found = self.0.find("head", &spaces, &self.0.resolve_name(&spaces, item))?;
        Ok(found.map_or(Presence::Absent, |found| Presence::Present(self.0.facts(found))))
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let spaces = self.0.spaces.lock();
        let item = &self.0.resolve_name(&spaces, item);
        let Some(found) = self.0.find("open", &spaces, item)? else {
            return Ok(Presence::Absent);
        };
        if if_version.is_some_and(|version| found.token() != version.token()) {
            return Err(self.0.error("open", item, StoreErrorKind::Changed));
        }
        let facts = self.0.facts(found);
        let body = streams::body(streams::BodyReader {
            store: self.clone(),
            item: item.clone(),
            token: found.token().to_owned(),
            bytes: streams::slice_range(&found.bytes, range),
            damaged: found.bytes.len() as u64 != facts.size,
        });
        Ok(Presence::Present(OpenItem { facts, body, attachments: Attachments::default() }))
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        Ok(self.0.spaces.lock().places(&self.0.address, item))
    }

    async fn folds_names(&self, _: &SpaceId) -> Result<bool, StoreError> {
        Ok(self.0.behavior.folds_names)
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        streams::listing(self.clone(), space.clone(), after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        let kept = self.0.behavior.service.is_some() && !facts.checksums.is_empty();
        let token = facts.version.token().to_owned();
        kept.then(|| CopySource::new(MemoryCopySource { store: self.clone(), item: item.clone(), token }))
    }
}

/// The source of a copy by another store of the same service.
struct MemoryCopySource {
    store: MemoryStore,
    item: ItemAddress,
    token: String,
}

#[async_trait]
impl DestinationStore for MemoryStore {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.count_write();
        self.0.spaces.lock().create(space);
        Ok(())
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        mut body: Body,
    ) -> Result<PutResult, StoreError> {
        self.count_write();
        let item = &self.resolve_name(item);
        // A write that cannot succeed should not cost its body.
        self.0.find_when("put", &self.0.spaces.lock(), item, when)?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.inspect_err(|_| self.leave_behind(item))?);
            if is_planted(PlantedBug::WriteNotAtomic) {
                self.insert(item, bytes.clone(), content.properties.clone());
            }
            if bytes.len() as u64 > content.size {
                break;
            }
        }
        if bytes.len() as u64 != content.size {
            return Err(self.0.error("put", item, StoreErrorKind::Damaged));
        }
        let made = self.item(bytes.freeze(), content.properties.clone());
        let mut spaces = self.0.spaces.lock();
        self.0.find_when("put", &spaces, item, when)?;
        Ok(self.0.written(&spaces.insert(item, made)))
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let item = &self.resolve_name(item);
        let behavior = &self.0.behavior;
        let ours =
            |from: &&MemoryCopySource| behavior.service.is_some() && from.store.0.behavior.service == behavior.service;
        let Some(from) = origin.place::<MemoryCopySource>().filter(ours) else { return Ok(None) };
        self.count_write();
        let found = from.store.0.spaces.lock().item(&from.item).filter(|found| found.token() == from.token).cloned();
        let Some(found) = found else {
            return Err(self.0.error("take", item, StoreErrorKind::Precondition));
        };
        if !found.is_sound() || found.bytes.len() as u64 != content.size {
            return Err(self.0.error("take", item, StoreErrorKind::Damaged));
        }
        if !(going(content.size) && going(0)) {
            return Err(self.0.error("take", item, StoreErrorKind::Unexpected));
        }
        let made = self.item(found.bytes, content.properties.clone());
        let mut spaces = self.0.spaces.lock();
        self.0.find_when("take", &spaces, item, when)?;
        Ok(Some(self.0.written(&spaces.insert(item, made))))
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        self.count_write();
        let mut spaces = self.0.spaces.lock();
        let item = &self.0.resolve_name(&spaces, item);
        let Some(found) = self.0.find_when("put_properties", &spaces, item, when)? else {
            return Err(self.0.error("put_properties", item, StoreErrorKind::Precondition));
        };
        let made = found.with_properties(properties.clone(), self.0.clock.now(), self.0.clock.monotonic());
        Ok(self.0.written(&spaces.insert(item, made)))
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        self.count_write();
        self.0.respell(space, respelling)
    }
}

#[async_trait]
impl DeletableStore for MemoryStore {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.count_write();
        let mut spaces = self.0.spaces.lock();
        if spaces.space(space).is_some_and(|space| !space.entries.is_empty()) {
            return Err(self.0.error("remove_empty_space", space, StoreErrorKind::Precondition));
        }
        spaces.remove_space(space);
        Ok(())
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        self.count_write();
        let mut spaces = self.0.spaces.lock();
        let item = &self.0.resolve_name(&spaces, item);
        if self.0.find("delete", &spaces, item)?.is_none() {
            return Ok(Presence::Absent);
        }
        self.0.find_when("delete", &spaces, item, when)?;
        spaces.remove(item);
        Ok(Presence::Present(()))
    }
}

/// The stores of any accounts, by address.
#[derive(Debug, Default)]
pub struct MemoryStores(Mutex<BTreeMap<StoreAddress, Arc<dyn DeletableStore>>>);

impl MemoryStores {
    /// Adds a store, of whatever back end, or puts it in the place of the one that has its address.
    pub fn add(&self, address: StoreAddress, store: Arc<dyn DeletableStore>) {
        self.0.lock().insert(address, store);
    }

    fn find(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        let address = StoreAddress::of(account, store);
        self.0.lock().get(&address).cloned().ok_or_else(|| StoreError {
            kind: StoreErrorKind::NotConfigured,
            op: "find",
            subject: String::new(),
            store: address,
            source: None,
        })
    }
}

#[async_trait]
impl Stores for MemoryStores {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        self.find(account, store).map(|store| store as Arc<dyn SourceStore>)
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        Ok(self.find(account, store)?)
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        self.find(account, store)
    }
}

#[cfg(test)]
mod tests;
