//! The stores of a producer: read-only, and with a limit on how long each call may take.
//!
//! A call that is not answered in time is abandoned, not cancelled: a call on a mount that hangs holds its thread until the
//! mount goes on. So no further call is made about a space with an abandoned call; otherwise each run would leave another one
//! behind. Whether the store as a whole is silent is found out by a probe of the store itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::{Either, select};
use mill_model::{
    AccountId, ContentId, ItemAddress, ItemFacts, Monotonic, SpaceId, SpacePair, StoreAddress, StoreId, Version,
};
use mill_ports::{
    ByteRange, Capabilities, Clock, CopySource, ListPage, Listing, OpenItem, Place, Presence, SourceStore, SpaceFacts,
    SpaceList, Statistics, StoreError, StoreErrorKind, Stores,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::looping::settings::LoopingDeps;

/// How many spaces of a store may be silent before the whole store counts as silent.
const SILENT_SPACES_MAX: usize = 64;

/// How long a store may take to answer a probe.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// A store has not answered for so long that the caller stopped waiting.
#[derive(Debug, thiserror::Error)]
#[error("no answer for {}", humantime::format_duration(Duration::from_secs(.0.as_secs())))]
pub(crate) struct SilenceError(Duration);

impl SilenceError {
    /// Whether silence is the cause of `error`.
    pub(crate) fn is_why(error: &StoreError) -> bool {
        error.source.as_ref().is_some_and(|source| source.is::<Self>())
    }
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Topic {
    /// The store as a whole.
    Store,
    Space(SpaceId),
    /// Whether the store is apart from this one.
    Apart(StoreAddress),
}

/// The store that a call goes to, and its topic.
type CallKey = (StoreAddress, Topic);

/// The stores of all accounts, for reading.
#[derive(Debug, Clone)]
pub(crate) struct TimedStores {
    stores: Arc<dyn Stores>,
    answer_timeout: Arc<AnswerTimeout>,
}

impl TimedStores {
    /// Wraps `stores`. Each call may take up to `silence_max`.
    pub(crate) fn new(deps: &LoopingDeps, stores: Arc<dyn Stores>, silence_max: Duration) -> Self {
        let (clock, statistics) = (deps.clock.clone(), deps.statistics.clone());
        let answer_timeout =
            AnswerTimeout { clock, statistics, silence_max, abandoned: Arc::default(), driving: Mutex::default() };
        Self { stores, answer_timeout: Arc::new(answer_timeout) }
    }

    /// As [`Stores::check_no_overlap`]. Probes both stores if the call is not answered.
    pub(crate) async fn ensure_no_overlap(&self, pair: &SpacePair) -> Result<(), StoreError> {
        let [source, destination] = [&pair.source, &pair.destination].map(|store| address(&pair.account, store));
        for end in [&source, &destination] {
            self.answer_timeout.ensure_not_silent(&(end.clone(), Topic::Store))?;
        }
        let (stores, of) = (self.stores.clone(), pair.clone());
        let apart = async move { stores.ensure_no_overlap(&of.account, &of.source, &of.destination).await };
        let answer = self.answer_timeout.call((destination, Topic::Apart(source)), apart).await;
        if answer.as_ref().is_err_and(SilenceError::is_why) {
            self.probe(&pair.account, &pair.source).await;
            self.probe(&pair.account, &pair.destination).await;
        }
        answer
    }

    /// Opens a store as a source.
    pub(crate) async fn source(
        &self,
        account: &AccountId,
        store: &StoreId,
    ) -> Result<Arc<dyn SourceStore>, StoreError> {
        Ok(Arc::new(self.open_source(account, store).await?))
    }

    async fn open_source(&self, account: &AccountId, store: &StoreId) -> Result<TimedStore, StoreError> {
        let (stores, of) = (self.stores.clone(), address(account, store));
        self.open(account, store, async move { stores.source(&of.account, &of.store).await }).await
    }

    /// Opens a store as a destination, with the type that cannot write.
    pub(crate) async fn destination(
        &self,
        account: &AccountId,
        store: &StoreId,
    ) -> Result<Arc<dyn SourceStore>, StoreError> {
        let (stores, of) = (self.stores.clone(), address(account, store));
        let opening = async move { Ok(stores.destination(&of.account, &of.store).await? as Arc<dyn SourceStore>) };
        Ok(Arc::new(self.open(account, store, opening).await?))
    }

    async fn open(
        &self,
        account: &AccountId,
        store: &StoreId,
        opening: impl Future<Output = Result<Arc<dyn SourceStore>, StoreError>> + Send + 'static,
    ) -> Result<TimedStore, StoreError> {
        let address = address(account, store);
        let store = self.answer_timeout.call((address.clone(), Topic::Store), opening).await?;
        Ok(TimedStore { store, address, answer_timeout: self.answer_timeout.clone() })
    }

    /// As [`Stores::ensure_owned`], without a claim.
    pub(crate) async fn is_kept(&self, pair: &SpacePair) -> Result<bool, StoreError> {
        let (stores, of) = (self.stores.clone(), pair.clone());
        let keeps = async move { stores.ensure_owned(&of, false).await };
        let key = (address(&pair.account, &pair.destination), Topic::Space(pair.space.clone()));
        let answer = self.answer_timeout.call(key, keeps).await;
        if answer.as_ref().is_err_and(SilenceError::is_why) {
            self.probe(&pair.account, &pair.destination).await;
        }
        answer
    }

    async fn probe(&self, account: &AccountId, store: &StoreId) {
        if let Ok(store) = self.open_source(account, store).await {
            store.probe().await;
        }
    }
}

fn address(account: &AccountId, store: &StoreId) -> StoreAddress {
    StoreAddress::of(account, store)
}

/// The limit on how long a call may take, and the abandoned calls.
#[derive(Debug)]
struct AnswerTimeout {
    clock: Arc<dyn Clock>,
    statistics: Arc<Statistics>,
    silence_max: Duration,
    abandoned: Arc<Mutex<AbandonedCalls>>,
    driving: Mutex<JoinSet<()>>,
}

/// The abandoned calls that are still open.
#[derive(Debug, Default)]
struct AbandonedCalls {
    calls: BTreeMap<u64, (CallKey, Monotonic)>,
    next: u64,
    /// When each store with abandoned calls last answered.
    answered: BTreeMap<StoreAddress, Monotonic>,
}

impl AbandonedCalls {
    /// Since when an abandoned call about the same topic or about the store is open, or about many spaces of the store.
    fn silent_since(&self, (store, topic): &CallKey) -> Option<Monotonic> {
        let of_store = || self.calls.values().filter(|((of, _), _)| of == store);
        let mut same = of_store().filter(|((_, about), _)| about == topic || *about == Topic::Store);
        let many = of_store().filter(|((_, about), _)| matches!(about, Topic::Space(_))).count() >= SILENT_SPACES_MAX;
        let any = || of_store().next().filter(|_| many);
        same.next().or_else(any).map(|(_, since)| *since)
    }
}

/// Removes an abandoned call once it ends, also if the driver panicked.
struct AbandonedCallGuard {
    abandoned: Arc<Mutex<AbandonedCalls>>,
    number: u64,
}

impl Drop for AbandonedCallGuard {
    fn drop(&mut self) {
        self.abandoned.lock().calls.remove(&self.number);
    }
}

impl AnswerTimeout {
    /// Returns the answer, or an error if none comes in time.
    async fn call<T: Send + 'static>(
        &self,
        key: CallKey,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call_within(self.silence_max, key, call).await
    }

    /// The same with a limit of its own.
    async fn call_within<T: Send + 'static>(
        &self,
        silence_max: Duration,
        key: CallKey,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ensure_not_silent(&key)?;
        let began = self.clock.monotonic();
        match select(Box::pin(call), self.clock.sleep(silence_max)).await {
            Either::Left((answer, _)) => {
                if !answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Unreachable) {
                    self.note_answer(&key.0);
                }
                answer
            }
            Either::Right(((), call)) => {
                self.abandon(key.clone(), began, call);
                Err(silence(key, self.clock.monotonic().since(began)))
            }
        }
    }

    /// Fails if an abandoned call about the same topic is open.
    fn ensure_not_silent(&self, key: &CallKey) -> Result<(), StoreError> {
        match self.abandoned.lock().silent_since(key) {
            Some(since) => Err(silence(key.clone(), self.clock.monotonic().since(since))),
            None => Ok(()),
        }
    }

    fn note_answer(&self, store: &StoreAddress) {
        let now = self.clock.monotonic();
        if let Some(answered) = self.abandoned.lock().answered.get_mut(store) {
            *answered = now;
        }
    }

    /// Whether a store has answered any call recently.
    fn has_answered(&self, store: &StoreAddress) -> bool {
        let now = self.clock.monotonic();
        self.abandoned.lock().answered.get(store).is_some_and(|answered| now.since(*answered) < PROBE_MAX)
    }

    /// Abandons a call: it runs to its end without a caller.
    fn abandon(&self, key: CallKey, began: Monotonic, call: impl Future<Output: Send> + Send + 'static) {
        let mut guards = vec![self.statistics.abandon_call(&key.0)];
        if let Topic::Apart(other) = &key.1 {
            guards.push(self.statistics.abandon_call(other));
        }
        let ended = {
            let mut abandoned = self.abandoned.lock();
            let number = abandoned.next;
            abandoned.next += 1;
            abandoned.answered.entry(key.0.clone()).or_default();
            abandoned.calls.insert(number, (key, began));
            AbandonedCallGuard { abandoned: self.abandoned.clone(), number }
        };
        let mut driving = self.driving.lock();
        while driving.try_join_next().is_some() {}
        driving.spawn(async move {
            let _ended = (ended, guards);
            drop(call.await);
        });
    }
}

fn silence((store, topic): CallKey, waited: Duration) -> StoreError {
    let (op, subject) = match topic {
        Topic::Space(space) => ("look", space.to_string()),
        Topic::Store => ("opening", store.store.to_string()),
        Topic::Apart(other) => ("comparing the place with that", other.to_string()),
    };
    StoreError { kind: StoreErrorKind::Unreachable, op, store, subject, source: Some(SilenceError(waited).into()) }
}

/// A store for reading, whose calls have a time limit.
#[derive(Debug, Clone)]
struct TimedStore {
    store: Arc<dyn SourceStore>,
    address: StoreAddress,
    answer_timeout: Arc<AnswerTimeout>,
}

impl TimedStore {
    /// Makes a call about a space, or about the store, and returns the answer if it comes in time.
    async fn ask<T, F>(
        &self,
        space: Option<&SpaceId>,
        call: impl FnOnce(Arc<dyn SourceStore>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let topic = space.map_or(Topic::Store, |space| Topic::Space(space.clone()));
        let answer = self.answer_timeout.call((self.address.clone(), topic), call(self.store.clone())).await;
        if space.is_some() && answer.as_ref().is_err_and(SilenceError::is_why) {
            self.probe().await;
        }
        answer
    }

    /// Finds out whether the store answers at all. If it does not, later calls fail at once.
    async fn probe(&self) {
        if self.answer_timeout.has_answered(&self.address) {
            return;
        }
        let (store, key) = (self.store.clone(), (self.address.clone(), Topic::Store));
        let most = self.answer_timeout.silence_max.min(PROBE_MAX);
        // Only whether it answers matters, not what.
        drop(self.answer_timeout.call_within(most, key, async move { store.spaces().await }).await);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SourceStore for TimedStore {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn list_spaces(&self) -> Result<SpaceList, StoreError> {
        self.ask(None, |store| async move { store.list_spaces().await }).await
    }

    async fn spaces(&self) -> Result<Vec<SpaceId>, StoreError> {
        self.ask(None, |store| async move { store.spaces().await }).await
    }

    async fn space(&self, space: &SpaceId) -> Result<Presence<SpaceFacts>, StoreError> {
        let of = space.clone();
        self.ask(Some(space), |store| async move { store.space(&of).await }).await
    }

    async fn head(&self, item: &ItemAddress) -> Result<Presence<ItemFacts>, StoreError> {
        let of = item.clone();
        self.ask(Some(&item.space), |store| async move { store.head(&of).await }).await
    }

    async fn open(
        &self,
        item: &ItemAddress,
        range: Option<ByteRange>,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let (of, version) = (item.clone(), if_version.cloned());
        self.ask(Some(&item.space), |store| async move { store.open(&of, range, version.as_ref()).await }).await
    }

    async fn open_uncached(
        &self,
        item: &ItemAddress,
        if_version: Option<&Version>,
    ) -> Result<Presence<OpenItem>, StoreError> {
        let (of, version) = (item.clone(), if_version.cloned());
        self.ask(Some(&item.space), |store| async move { store.open_uncached(&of, version.as_ref()).await }).await
    }

    async fn places(&self, item: &ItemAddress) -> Result<Vec<Place>, StoreError> {
        let of = item.clone();
        self.ask(Some(&item.space), |store| async move { store.places(&of).await }).await
    }

    fn list(&self, space: &SpaceId, after: Option<ContentId>) -> Listing {
        let pages = self.store.list(space, after);
        futures::stream::unfold((self.clone(), space.clone(), Some(pages)), next_page).boxed()
    }

    async fn folds_names(&self, space: &SpaceId) -> Result<bool, StoreError> {
        let of = space.clone();
        self.ask(Some(space), |store| async move { store.folds_names(&of).await }).await
    }

    fn copy_source(&self, item: &ItemAddress, facts: &ItemFacts) -> Option<CopySource> {
        self.store.copy_source(item, facts)
    }
}

type TimedPages = (TimedStore, SpaceId, Option<Listing>);

/// Returns the next page, or an error if it does not come in time. The listing ends after an error.
async fn next_page((store, space, pages): TimedPages) -> Option<(Result<ListPage, StoreError>, TimedPages)> {
    let mut pages = pages?;
    let next = |_| async move { Ok((pages.next().await, pages)) };
    match store.ask(Some(&space), next).await {
        Ok((page, pages)) => Some((page?, (store, space, Some(pages)))),
        Err(error) => Some((Err(error), (store, space, None))),
    }
}
