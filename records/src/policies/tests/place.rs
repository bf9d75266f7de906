//! A store with one space of policy files, and a clock, both controlled by a test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, ItemState, Monotonic, SpaceId, StoreAddress, StoreId, Timestamp,
    Version,
};
use mill_ports::{
    ByteRange, Capabilities, Clock, Listing, OpenItem, Presence, SourceStore, SpaceFacts, SpaceList, StoreError,
    StoreErrorKind,
};
use parking_lot::{Mutex, MutexGuard};

#[derive(Debug)]
pub(super) struct Place {
    inner: Mutex<Inner>,
    released: tokio::sync::Notify,
    bytes_read: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, (Bytes, u64)>,
    passed: Duration,
    opens: usize,
    heads: usize,
    unsettled: bool,
    fail: Option<StoreErrorKind>,
    held: String,
    changes: u32,
}

impl Place {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), released: tokio::sync::Notify::new(), bytes_read: Arc::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        let mut inner = self.inner();
        let version = inner.files.get(file).map_or(0, |(_, version)| version + 1);
        inner.files.insert(file.to_owned(), (Bytes::copy_from_slice(text.as_bytes()), version));
    }

    /// A change that keeps the version, as is possible within a clock tick.
    pub(super) fn write_unseen(&self, file: &str, text: &str) {
        self.inner().files.get_mut(file).unwrap().0 = Bytes::copy_from_slice(text.as_bytes());
    }

    pub(super) fn remove(&self, file: &str) {
        self.inner().files.remove(file).unwrap();
    }

    /// Whether files are too young for their versions to prove anything.
    pub(super) fn unsettle(&self, unsettled: bool) {
        self.inner().unsettled = unsettled;
    }

    pub(super) fn bytes_read(&self) -> usize {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self, kind: Option<StoreErrorKind>) {
        self.inner().fail = kind;
    }

    /// This many reads find the item changed.
    pub(super) fn change_while_read(&self, times: u32) {
        self.inner().changes = times;
    }

    /// A read of this file blocks until another file is held.
    pub(super) fn hold(&self, file: &str) {
        file.clone_into(&mut self.inner().held);
        self.released.notify_waiters();
    }

    pub(super) fn pass(&self, time: Duration) {
        self.inner().passed += time;
    }

    /// How often items were opened, and how often only `head` was called.
    pub(super) fn calls(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.opens, inner.heads)
    }

    fn error(kind: StoreErrorKind, item: &ItemAddress) -> StoreError {
        let store = StoreAddress { account: AccountId::new("mill").unwrap(), store: StoreId::new("files").unwrap() };
        StoreError { kind, op: "read", store, subject: item.to_string(), source: None }
    }

    fn look(&self, item: &ItemAddress) -> Result<Presence<(ItemFacts, Bytes)>, StoreError> {
        let inner = self.inner();
        if let Some(kind) = inner.fail.clone() {
            return Err(Self::error(kind, item));
        }
        let Some((bytes, version)) = inner.files.get(item.id.as_str()) else { return Ok(Presence::Absent) };
        let token = version.to_string();
        let version = if inner.unsettled { Version::unsettled(token) } else { Version::settled_at(token) };
        let facts = ItemFacts {
            size: bytes.len() as u64,
            modified: None,
            version,
            checksums: Vec::new(),
            properties: None,
            state: ItemState::Online,
        };
        Ok(Presence::Present((facts, bytes.clone())))
    }
}

#[async_trait]
impl SourceStore for Place {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transfers_max: None,
            versions_in_listings: false,
            native_conditions: false,
            versions_identify_objects: false,
            ids_are_paths: false,
        }
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        unreachable!("policy files are named, not searched for")
    }

    async fn space(&self, _: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        unreachable!("policy files are named, not searched for")
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.inner().heads += 1;
        Ok(match self.look(item)? {
            Presence::Present((facts, _)) => Presence::Present(facts),
            Presence::Absent => Presence::Absent,
        })
    }

    async fn open(
        &self,
        item: &ItemAddress,
        _: Option<ByteRange>,
        _: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner().opens += 1;
        while self.inner().held == item.id.as_str() {
            self.released.notified().await;
        }
        let changed = {
            let mut inner = self.inner();
            let changed = inner.changes > 0;
            inner.changes = inner.changes.saturating_sub(1);
            changed.then(|| Self::error(StoreErrorKind::Changed, item))
        };
        let Presence::Present((facts, bytes)) = self.look(item)? else { return Ok(Presence::Absent) };
        let half = bytes.slice(..bytes.len() / 2);
        let end = changed.map_or(Ok(bytes.slice(bytes.len() / 2..)), Err);
        let read = Arc::clone(&self.bytes_read);
        let count = move |chunk: &Result<Bytes, StoreError>| {
            read.fetch_add(chunk.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        };
        let body = futures::stream::iter([Ok(half), end]).inspect(count).boxed();
        Ok(Presence::Present(OpenItem { facts, body, attachments: mill_ports::Attachments::default() }))
    }

    async fn places(&self, _: &ItemAddress) -> Result<Vec<mill_ports::Place>, StoreError> {
        unreachable!("nothing is deleted here")
    }

    fn list(&self, _: &SpaceId, _: Option<ContentId>) -> Listing {
        unreachable!("policy files are named, not searched for")
    }
}

#[async_trait]
impl Clock for Place {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_249_800_000).plus(self.inner().passed)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(self.inner().passed)
    }

    async fn sleep(&self, _: Duration) {
        unreachable!("nothing here waits for time to pass")
    }
}

/// The warnings during `work`, which must not wait for anything.
pub(super) fn warnings(work: impl Future<Output = ()>) -> Vec<String> {
    // Kept alive, so that a log line that another thread emits first without a listener is not disabled for all
    // threads.
    static LISTENS: OnceLock<tracing::Dispatch> = OnceLock::new();
    LISTENS.get_or_init(|| tracing::Dispatch::new(Said::default()));
    let said = Arc::new(Said::default());
    tracing::subscriber::with_default(Arc::clone(&said), || work.now_or_never().expect("it waits for nothing"));
    let said = said.0.lock();
    said.clone()
}

#[derive(Debug, Default)]
struct Said(Mutex<Vec<String>>);

impl tracing::Subscriber for Said {
    /// Each line is checked again: listeners differ between threads.
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}
