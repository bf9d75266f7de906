//! Stores that do not answer: about one space, or at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, Monotonic, Properties, SpaceId, SpacePair, StoreId, Version,
};
use mill_ports::{
    ByteRange, Capabilities, Clock, DeletableStore, DestinationStore, Listing, OpenItem, Place, Presence, SourceStore,
    SpaceFacts, SpaceList, StoreError, Stores,
};
use mill_testkit::MemoryStores;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::world::{Asked, DEFAULT, ONE, World, is_finished, item, space};
use crate::timed_stores::TimedStores;
use crate::{DuplicationProducer, SessionReport, SpaceFailureKind};

const PATIENCE: Duration = Duration::from_mins(5);

/// Which calls are never answered, and how often they were made.
#[derive(Debug, Default)]
struct Hush {
    spaces: Mutex<BTreeSet<SpaceId>>,
    is_over: Notify,
    asked: AtomicUsize,
    page_takes: Duration,
}

impl Hush {
    async fn about(&self, space: &SpaceId) {
        if self.spaces.lock().contains(space) {
            self.asked.fetch_add(1, SeqCst);
            self.is_over.notified().await;
        }
    }

    fn is_total(&self) -> bool {
        self.spaces.lock().contains(&everything())
    }

    fn end(&self) {
        self.spaces.lock().clear();
        self.is_over.notify_waiters();
    }
}

/// A store that is silent as a whole.
fn everything() -> SpaceId {
    space("everything")
}

#[derive(Debug)]
struct HushedStores {
    inner: Arc<MemoryStores>,
    hush: Arc<Hush>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Stores for HushedStores {
    async fn source(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn SourceStore>, StoreError> {
        let inner = self.inner.source(account, store).await?;
        Ok(Arc::new(Hushed { inner, hush: self.hush.clone(), clock: self.clock.clone() }))
    }

    async fn destination(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DestinationStore>, StoreError> {
        self.inner.destination(account, store).await
    }

    async fn deletable(&self, account: &AccountId, store: &StoreId) -> Result<Arc<dyn DeletableStore>, StoreError> {
        self.inner.deletable(account, store).await
    }

    /// Like a folder, whose root is checked.
    async fn check_no_overlap(&self, _: &AccountId, _: &StoreId, _: &StoreId) -> Result<(), StoreError> {
        if self.hush.is_total() {
            self.hush.about(&everything()).await;
        }
        Ok(())
    }
}

/// A store that lists its spaces, unless it is silent as a whole, and never answers about its silent spaces.
#[derive(Debug)]
struct Hushed {
    inner: Arc<dyn SourceStore>,
    hush: Arc<Hush>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl SourceStore for Hushed {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.inner.list_spaces().await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.hush.about(&everything()).await;
        self.inner.spaces().await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        if self.hush.is_total() {
            self.hush.about(&everything()).await;
        }
        self.inner.space(space).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        self.inner.head(item).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        self.inner.open(item, range, if_version).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        self.inner.places(item).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let (pages, hush, clock) = (self.inner.list(space, after), self.hush.clone(), self.clock.clone());
        let space = if hush.is_total() { everything() } else { space.clone() };
        let next = move |page| {
            let (hush, clock, space) = (hush.clone(), clock.clone(), space.clone());
            async move {
                hush.about(&space).await;
                clock.sleep(hush.page_takes).await;
                page
            }
        };
        pages.then(next).boxed()
    }
}

/// A producer over `spaces` spaces with three items each, whose source is silent as `hush` says.
fn of(spaces: usize, hush: Hush) -> (World, Arc<Hush>, DuplicationProducer) {
    with_policy(DEFAULT, spaces, hush)
}

fn with_policy(file: &str, spaces: usize, hush: Hush) -> (World, Arc<Hush>, DuplicationProducer) {
    let world = World::new(file);
    for number in 0..spaces {
        for name in ["a", "b", "c"] {
            world.store("1").insert(&item(&format!("s{number:03}"), name), "x", Properties::default());
        }
    }
    let hush = Arc::new(hush);
    let mut producer = world.producer_with(|settings| settings.looping.frequency = Duration::ZERO);
    let stores = HushedStores { inner: world.stores.clone(), hush: hush.clone(), clock: world.clock.clone() };
    producer.looping.stores = TimedStores::new(&producer.looping.deps, Arc::new(stores), PATIENCE);
    (world, hush, producer)
}

fn hushed(spaces: &[&str]) -> Hush {
    Hush { spaces: Mutex::new(spaces.iter().map(|name| space(name)).collect()), ..Hush::default() }
}

async fn session(producer: &DuplicationProducer) -> SessionReport {
    let stop = CancellationToken::new();
    let session = tokio::time::timeout(Duration::from_hours(24), producer.run_session(&stop));
    session.await.expect("it comes to no end").unwrap()
}

fn took(world: &World, began: Monotonic) -> Duration {
    world.clock.monotonic().since(began)
}

/// The spaces of which tasks were queued since the last call.
async fn queued(world: &World) -> usize {
    let spaces: BTreeSet<SpaceId> = world.queue.sent().into_iter().map(|task| task.pair.space).collect();
    world.queue.drain().await;
    spaces.len()
}

#[tokio::test(start_paused = true)]
async fn spaces_that_hang_are_passed_over_and_keep_no_other_from_its_loops() {
    let silent = ["s000", "s001", "s002", "s003", "s004", "s007"];
    let (world, hush, producer) = of(10, hushed(&silent));
    let began = world.clock.monotonic();
    let report = session(&producer).await;
    assert!(is_finished(&report), "{report:?}");
    let failed: Vec<_> = report.spaces_failed.iter().map(|failed| failed.space.clone().unwrap().to_string()).collect();
    assert_eq!(failed, silent);
    assert!(report.spaces_failed.iter().all(|failed| failed.failure_kind == SpaceFailureKind::Silent), "{report:?}");
    assert!(report.spaces_failed[0].reason.contains("does not answer: no answer for 5m"), "{report:?}");
    assert_eq!(queued(&world).await, 4);
    assert!(took(&world, began) < PATIENCE * 2 + Duration::from_mins(1), "{:?}", took(&world, began));
    // The next run makes no call about the silent spaces, and so waits for nothing.
    let began = world.clock.monotonic();
    let report = session(&producer).await;
    assert!(is_finished(&report) && report.spaces_failed.len() == silent.len(), "{report:?}");
    assert!(took(&world, began) < Duration::from_mins(1), "{:?}", took(&world, began));
    assert_eq!(hush.asked.load(SeqCst), silent.len());
    hush.end();
    world.pass(Duration::from_secs(1)).await;
    let report = session(&producer).await;
    assert!(is_finished(&report) && report.spaces_failed.is_empty(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_as_a_whole_is_given_up_after_one_wait() {
    let (world, hush, producer) = of(300, hushed(&["everything"]));
    let began = world.clock.monotonic();
    let report = session(&producer).await;
    assert!(is_finished(&report), "{report:?}");
    assert_eq!((report.spaces_failed.len(), queued(&world).await), (300, 0));
    assert!(took(&world, began) < PATIENCE + Duration::from_mins(1), "{:?}", took(&world, began));
    assert!(hush.asked.load(SeqCst) < 10, "{hush:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closing_survey_that_waits_for_an_answer_ends_once_it_is_told_to() {
    for file in [DEFAULT, ONE] {
        let (world, hush, producer) = with_policy(file, 1, Hush::default());
        session(&producer).await;
        hush.spaces.lock().insert(everything());
        let (stop, began) = (CancellationToken::new(), world.clock.monotonic());
        let is_refused = |_: &SpacePair, _: &ContentId| false;
        let stopping = async {
            world.pass(Duration::from_secs(10)).await;
            stop.cancel();
        };
        let (report, ()) = futures::join!(producer.closing_survey(&is_refused, &stop), stopping);
        assert!(!report.unwrap().is_in_sync() && took(&world, began) < Duration::from_secs(15), "{file}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_whose_pages_come_slowly_is_not_given_up() {
    let (world, _, producer) = of(1, Hush { page_takes: PATIENCE.mul_f64(0.9), ..Hush::default() });
    for number in 0..200 {
        world.store("1").insert(&item("s000", &format!("x{number}")), "x", Properties::default());
    }
    let began = world.clock.monotonic();
    let report = session(&producer).await;
    assert!(is_finished(&report) && report.spaces_failed.is_empty(), "{report:?}");
    assert!(took(&world, began) > PATIENCE * 3, "{:?}", took(&world, began));
}

#[tokio::test(start_paused = true)]
async fn a_session_from_cron_asks_a_full_queue_seldom_while_a_store_is_read() {
    let (world, _, mut producer) = of(60, hushed(&["s000"]));
    producer.looping.settings.queue_max = 5;
    session(&producer).await;
    let asked = world.queue.asked().into_iter().filter(|asked| matches!(asked, Asked::QueueDepth)).count();
    assert!((100..1_000).contains(&asked), "{asked} looks in five minutes");
}
