//! A store in memory that counts what it is asked for, and in which a test can put things in the way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use mill_engine::{MemoryStore, SeededRng};
use mill_model::{ContentId, ItemAddress, ItemFacts, ItemState, Properties, SpaceId, StoreAddress, Version};
use mill_ports::{
    Body, ByteRange, Capabilities, CopyProgress, CopySource, DeletableStore, DestinationStore, Listing, OpenItem,
    Place, Precondition, Presence, PutRequest, PutResult, Respelling, Rng as _, SourceStore, SpaceFacts, SpaceList,
    StoreError, StoreErrorKind,
};

/// What a test puts in the way of one call.
pub(crate) enum Way {
    /// It fails and has done nothing.
    Fails(StoreErrorKind),
    /// It is done and yet fails.
    DoneAndFails(StoreErrorKind),
    /// Something else happens first.
    Before(Box<dyn FnOnce() + Send>),
    /// The body that it opens ends early.
    Cut,
    /// One bit of the body that it opens is another.
    Flipped,
    /// It tells other checksums than those of what it wrote.
    Lies,
    /// It writes one bit otherwise than it is given, and tells the checksums of that.
    Damaged,
    /// Nothing.
    Clear,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fails(_) => "Fails",
            Self::DoneAndFails(_) => "DoneAndFails",
            Self::Before(_) => "Before",
            Self::Cut => "Cut",
            Self::Flipped => "Flipped",
            Self::Lies => "Lies",
            Self::Damaged => "Damaged",
            Self::Clear => "Clear",
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Probe(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: MemoryStore,
    address: StoreAddress,
    ways: Mutex<BTreeMap<&'static str, VecDeque<Way>>>,
    calls: Mutex<Vec<&'static str>>,
    bytes_read: Arc<AtomicU64>,
    /// Changes what `head` and `open` tell of items.
    facts: Mutex<Option<fn(&mut ItemFacts)>>,
    /// By what others go on before a call, a few times or not at all.
    shuffle: Mutex<Option<SeededRng>>,
}

pub(crate) fn archived(facts: &mut ItemFacts) {
    facts.state = ItemState::Archived("DEEP_ARCHIVE".to_owned());
}

pub(crate) fn without_properties(facts: &mut ItemFacts) {
    facts.properties = None;
}

impl Probe {
    pub(crate) fn new(store: MemoryStore, address: StoreAddress) -> Self {
        Self(Arc::new(Inner {
            store,
            address,
            ways: Mutex::default(),
            calls: Mutex::default(),
            bytes_read: Arc::default(),
            facts: Mutex::default(),
            shuffle: Mutex::default(),
        }))
    }

    /// The next calls of `op` meet these, one after the other.
    pub(crate) fn meet(&self, op: &'static str, ways: impl IntoIterator<Item = Way>) {
        self.0.ways.lock().unwrap().entry(op).or_default().extend(ways);
    }

    /// Takes everything out of the way.
    pub(crate) fn clear(&self) {
        self.0.ways.lock().unwrap().clear();
    }

    pub(crate) fn tell(&self, facts: fn(&mut ItemFacts)) {
        *self.0.facts.lock().unwrap() = Some(facts);
    }

    /// From now on tasks that run at once take turns by chance.
    pub(crate) fn shuffle(&self, seed: u64) {
        *self.0.shuffle.lock().unwrap() = Some(SeededRng::new(seed));
    }

    /// The calls since this was last asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.0.bytes_read.swap(0, Relaxed)
    }

    async fn called(&self, op: &'static str) -> Result<Way, StoreError> {
        let turns = self.0.shuffle.lock().unwrap().as_ref().map_or(0, |chance| chance.next_u64() % 4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.0.calls.lock().unwrap().push(op);
        let way = self.0.ways.lock().unwrap().get_mut(op).and_then(VecDeque::pop_front).unwrap_or(Way::Clear);
        match way {
            Way::Fails(kind) => Err(self.error(op, kind)),
            Way::Before(happens) => {
                happens();
                Ok(Way::Clear)
            }
            other => Ok(other),
        }
    }

    fn done<T>(&self, op: &'static str, way: Way, done: T) -> Result<T, StoreError> {
        match way {
            Way::DoneAndFails(kind) => Err(self.error(op, kind)),
            _ => Ok(done),
        }
    }

    fn error(&self, op: &'static str, kind: StoreErrorKind) -> StoreError {
        StoreError { kind, op, store: self.0.address.clone(), subject: "probed".into(), source: None }
    }

    fn opened(&self, way: &Way, opened: Presence<OpenItem>) -> Presence<OpenItem> {
        let Presence::Present(reading) = opened else { return Presence::Absent };
        let (counter, half) = (self.0.bytes_read.clone(), reading.facts.size / 2);
        let body = reading.body.inspect(move |chunk| {
            counter.fetch_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64), Relaxed);
        });
        let body = match way {
            Way::Cut => cut(body.boxed(), half),
            Way::Flipped => flipped(body.boxed()),
            _ => body.boxed(),
        };
        Presence::Present(OpenItem { facts: self.told(reading.facts), body })
    }

    fn told(&self, mut facts: ItemFacts) -> ItemFacts {
        if let Some(change) = *self.0.facts.lock().unwrap() {
            change(&mut facts);
        }
        facts
    }
}

#[async_trait]
impl SourceStore for Probe {
    fn capabilities(&self) -> Capabilities {
        self.0.store.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.0.store.list_spaces().await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        self.called("space").await?;
        self.0.store.space(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.called("head").await?;
        Ok(match self.0.store.head(item).await? {
            Presence::Present(facts) => Presence::Present(self.told(facts)),
            Presence::Absent => Presence::Absent,
        })
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let way = self.called("open").await?;
        let opened = self.0.store.open(item, range, if_version).await?;
        Ok(self.opened(&way, opened))
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let way = self.called("open_uncached").await?;
        let opened = self.0.store.open_uncached(item, if_version).await?;
        Ok(self.opened(&way, opened))
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.called("places").await?;
        self.0.store.places(item).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        self.0.store.list(space, after)
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.0.store.copy_source(item, facts)
    }
}

fn cut(body: Body, after: u64) -> Body {
    let cut = body.scan(after, |left, chunk| {
        let whole = chunk.unwrap();
        let piece = whole.slice(..whole.len().min(*left as usize));
        *left -= piece.len() as u64;
        std::future::ready((!piece.is_empty()).then_some(Ok(piece)))
    });
    cut.boxed()
}

fn flipped(body: Body) -> Body {
    let mut first = true;
    body.map(move |chunk| {
        let mut bytes = chunk?.to_vec();
        bytes[0] ^= u8::from(std::mem::take(&mut first));
        Ok(Bytes::from(bytes))
    })
    .boxed()
}

#[async_trait]
impl DestinationStore for Probe {
    async fn create_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let way = self.called("create_space").await?;
        let done = self.0.store.create_space(space).await?;
        self.done("create_space", way, done)
    }

    async fn put(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        body: Body,
    ) -> Result<PutResult, StoreError> {
        let way = self.called("put").await?;
        let body = if let Way::Damaged = way { flipped(body) } else { body };
        let mut done = self.0.store.put(item, content, when, body).await?;
        if let Way::Lies = way {
            done.checksums.iter_mut().for_each(|checksum| checksum.value[0] ^= 1);
        }
        self.done("put", way, done)
    }

    async fn server_side_copy(
        &self,
        item: &ItemAddress,
        content: &PutRequest,
        when: &Precondition,
        origin: &CopySource,
        going: CopyProgress<'_>,
    ) -> Result<Option<PutResult>, StoreError> {
        let way = self.called("take").await?;
        let Some(mut done) = self.0.store.server_side_copy(item, content, when, origin, going).await? else {
            return Ok(None);
        };
        if let Way::Lies = way {
            done.checksums.iter_mut().for_each(|checksum| checksum.value[0] ^= 1);
        }
        self.done("take", way, done).map(Some)
    }

    async fn put_properties(
        &self,
        item: &ItemAddress,
        properties: &Properties,
        when: &Precondition,
    ) -> Result<PutResult, StoreError> {
        let way = self.called("put_properties").await?;
        let done = self.0.store.put_properties(item, properties, when).await?;
        self.done("put_properties", way, done)
    }

    async fn respell(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let way = self.called("respell").await?;
        let done = self.0.store.respell(space, respelling).await?;
        self.done("respell", way, done)
    }
}

#[async_trait]
impl DeletableStore for Probe {
    async fn remove_empty_space(&self, space: &SpaceId) -> Result<(), StoreError> {
        let way = self.called("remove_empty_space").await?;
        let done = self.0.store.remove_empty_space(space).await?;
        self.done("remove_empty_space", way, done)
    }

    async fn delete(&self, item: &ItemAddress, when: &Precondition) -> Result<Presence<()>, StoreError> {
        let way = self.called("delete").await?;
        let done = self.0.store.delete(item, when).await?;
        self.done("delete", way, done)
    }
}
