//! The fixture: an account with in-memory stores, a queue that records its calls, and producers.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext};
use mill_model::{
    AccountId, ContentId, DuplicateTask, Envelope, ItemAddress, Properties, QueueName, RemoveTask, SpaceId, SpacePair,
    StoreAddress, StoreId, Task, TaskArgs as _, TaskId, Timestamp,
};
use mill_policy::AccountPolicy;
use mill_ports::{
    BatchReport, Clock, DeletableStore, Delivery, ExcludedAccounts, ExtendResults, KeyRange, OutgoingMessage,
    QueueDepth, QueueError, QueueLimits, Receipt, Row, RowKey, RowPage, RowPrecondition, RowVersion, SourceStore as _,
    Statistics, Table, TableError, TaskQueue,
};
use mill_records::account_counts::{AccountCounts, CountsByAccount, CountsWriter};
use mill_records::delete_lists::{DeleteLists, DeleteThresholds, RowResult};
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::{SyncProof, SyncProofs};
use mill_testkit::{
    MemoryQueue, MemoryStore, MemoryStores, MemoryTable, QueueBehavior, SeededRng, SimClock, StoreBehavior,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    AbsentSource, DuplicationProducer, LoopingDeps, LoopingSettings, ProducerDeps, ProducerSettings, QueueSizing,
    SessionEnd, SessionReport, WhenFull,
};

pub(super) fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

pub(super) fn store(name: &str) -> StoreId {
    StoreId::new(name).unwrap()
}

pub(super) fn space(name: &str) -> SpaceId {
    SpaceId::new(name).unwrap()
}

pub(super) fn content(name: &str) -> ContentId {
    ContentId::new(name).unwrap()
}

pub(super) fn address(owner: &str, id: &str) -> StoreAddress {
    StoreAddress { account: account(owner), store: store(id) }
}

pub(super) fn item(place: &str, id: &str) -> ItemAddress {
    ItemAddress { space: space(place), id: content(id) }
}

/// The calls of the queue, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    QueueDepth,
    Sent(DuplicateTask),
    Removes(RemoveTask),
    /// A task of a made-up kind.
    Other(Task),
}

/// Stops everything for good at a chosen instant, like a crash.
#[derive(Debug)]
pub(super) struct Fuse {
    left: AtomicI64,
    pub(super) blown: Notify,
    until_frozen: AtomicI64,
    pub(super) frozen: Notify,
    pub(super) thawed: Notify,
    /// The sort keys of rows that were put, one by one.
    written: Mutex<Vec<String>>,
}

impl Default for Fuse {
    fn default() -> Self {
        let never = || AtomicI64::new(i64::MAX);
        Self {
            left: never(),
            blown: Notify::new(),
            until_frozen: never(),
            frozen: Notify::new(),
            thawed: Notify::new(),
            written: Mutex::default(),
        }
    }
}

impl Fuse {
    pub(super) fn set(&self, effects: i64) {
        self.left.store(effects, SeqCst);
    }

    /// Freezes the caller of the next effect after `effects`, until it is thawed. All others go on.
    pub(super) fn freeze(&self, effects: i64) {
        self.until_frozen.store(effects, SeqCst);
    }

    pub(super) fn left(&self) -> i64 {
        self.left.load(SeqCst)
    }

    /// One instant of the world, at which a crash may happen.
    pub(super) async fn instant(&self) {
        if self.until_frozen.fetch_sub(1, SeqCst) == 0 {
            self.frozen.notify_one();
            self.thawed.notified().await;
        }
        if self.left.fetch_sub(1, SeqCst) <= 0 {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// A queue that records its calls.
#[derive(Debug)]
pub(super) struct Trace {
    inner: MemoryQueue,
    asked: Mutex<Vec<Asked>>,
    fuse: Arc<Fuse>,
    /// Whether it can count the tasks of an account.
    tells: AtomicBool,
    /// The accounts of the tasks that were taken out.
    pub(super) drained: Mutex<CountsByAccount>,
}

impl Trace {
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub(super) fn sent(&self) -> Vec<DuplicateTask> {
        let sent = |asked| if let Asked::Sent(task) = asked { Some(task) } else { None };
        self.asked().into_iter().filter_map(sent).collect()
    }

    pub(super) fn removes(&self) -> Vec<RemoveTask> {
        let removes = |asked| if let Asked::Removes(task) = asked { Some(task) } else { None };
        self.asked().into_iter().filter_map(removes).collect()
    }

    pub(super) fn others(&self) -> Vec<Task> {
        let others = |asked| if let Asked::Other(task) = asked { Some(task) } else { None };
        self.asked().into_iter().filter_map(others).collect()
    }

    /// Takes all tasks out of the queue and forgets the record.
    pub(super) async fn drain(&self) -> usize {
        self.asked.lock().clear();
        self.drain_most(usize::MAX).await
    }

    /// Takes an account's tasks out of the queue and leaves those of others.
    pub(super) async fn drain_of(&self, account: &AccountId) -> usize {
        let mut drained = 0;
        let mut others = Vec::new();
        loop {
            let max = self.inner.limits().batch_max;
            let taken = self.inner.receive(max, Duration::from_mins(10), Duration::ZERO).await.unwrap();
            if taken.is_empty() {
                break;
            }
            for delivery in taken {
                self.count(&account_of(&delivery.body), false);
                if account_of(&delivery.body) == *account {
                    drained += 1;
                    self.count(account, true);
                    self.inner.acknowledge(&[delivery.receipt]).await.unwrap().into_result().unwrap();
                } else {
                    others.push(delivery.receipt);
                }
            }
        }
        for others in others.chunks(self.inner.limits().batch_max.get() as usize) {
            self.inner.release(others).await.unwrap().into_result().unwrap();
        }
        drained
    }

    fn count(&self, account: &AccountId, ended: bool) {
        let mut drained = self.drained.lock();
        let counted = drained.entry(account.clone()).or_default();
        if ended {
            counted.ended += 1;
        } else {
            counted.received += 1;
        }
    }

    fn depth_of_account(&self, account: &AccountId) -> u64 {
        self.inner.bodies().iter().filter(|body| account_of(body) == *account).count() as u64
    }

    /// Takes at most so many tasks out of the queue.
    pub(super) async fn drain_most(&self, most: usize) -> usize {
        let mut drained = 0;
        loop {
            let left = u32::try_from(most - drained).unwrap_or(u32::MAX);
            let Some(max) = NonZeroU32::new(left.min(self.inner.limits().batch_max.get())) else { return drained };
            let taken = self.inner.receive(max, Duration::from_mins(10), Duration::ZERO).await.unwrap();
            if taken.is_empty() {
                return drained;
            }
            drained += taken.len();
            let receipts: Vec<Receipt> = taken.into_iter().map(|delivery| delivery.receipt).collect();
            self.inner.acknowledge(&receipts).await.unwrap().into_result().unwrap();
        }
    }
}

fn envelope_of(body: &[u8]) -> Envelope {
    let arrival = ReceiveContext {
        id: TaskId::new(Timestamp::default(), [0; 10]),
        queue: QueueName::DuplicationLow,
        sent_at: Timestamp::default(),
    };
    wire::decode(body, arrival).unwrap()
}

fn account_of(body: &[u8]) -> AccountId {
    envelope_of(body).task.account
}

#[async_trait]
impl TaskQueue for Trace {
    fn name(&self) -> QueueName {
        self.inner.name()
    }

    fn limits(&self) -> QueueLimits {
        self.inner.limits()
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.fuse.instant().await;
        let report = self.inner.send(out).await?;
        for one in out {
            let envelope = envelope_of(&one.body);
            assert_eq!(one.group, envelope.task.account);
            let asked = match RemoveTask::from_task(&envelope.task) {
                Ok(remove) => Asked::Removes(remove),
                Err(_) => {
                    DuplicateTask::from_task(&envelope.task).map_or_else(|_| Asked::Other(envelope.task), Asked::Sent)
                }
            };
            self.asked.lock().push(asked);
        }
        self.fuse.instant().await;
        Ok(report)
    }

    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        hide: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.inner.receive_excluding(passed_over, max, hide, wait).await
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.inner.extend(receipts, visibility).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.inner.release(receipts).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.inner.acknowledge(receipts).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        self.asked.lock().push(Asked::QueueDepth);
        self.inner.depth().await
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        Ok(self.tells.load(SeqCst).then(|| self.depth_of_account(group)))
    }
}

/// A table with a possible crash before and after each write.
#[derive(Debug)]
struct Fused {
    inner: Arc<dyn Table>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl Table for Fused {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.fuse.instant().await;
        self.fuse.written.lock().push(key.sort.clone());
        let put = self.inner.put(key, value, when).await;
        self.fuse.instant().await;
        put
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        self.fuse.instant().await;
        let put = self.inner.put_many(rows).await;
        self.fuse.instant().await;
        put
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        self.fuse.instant().await;
        let deleted = self.inner.delete(key, when).await;
        self.fuse.instant().await;
        deleted
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        self.inner.query(partition, range, limit).await
    }
}

/// Everything that a producer needs.
pub(super) struct World {
    pub(super) clock: Arc<SimClock>,
    pub(super) queue: Arc<Trace>,
    pub(super) fuse: Arc<Fuse>,
    pub(super) stores: Arc<MemoryStores>,
    pub(super) state: Arc<dyn Table>,
    pub(super) sync_proofs: SyncProofs,
    pub(super) delete_lists: DeleteLists,
    lists_table: Arc<MemoryTable>,
    pub(super) counts: Arc<dyn Table>,
    pub(super) owners: Owners,
    pub(super) statistics: Arc<Statistics>,
    pub(super) policies: Arc<PolicyRepository>,
    pub(super) settings: ProducerSettings,
    pub(super) holders_dead: bool,
    chance: Arc<SeededRng>,
    memory: BTreeMap<StoreAddress, MemoryStore>,
}

/// The policy of one account over folder stores `1` (primary), `2` and `3`.
pub(super) fn policy(owner: &str, file: &str) -> AccountPolicy {
    let stores = r#"{ "stores": [
        { "id": "1", "type": "folder", "root": "one", "primary": true },
        { "id": "2", "type": "folder", "root": "two" },
        { "id": "3", "type": "folder", "root": "three" } ] }"#;
    AccountPolicy::parse(account(owner), file.as_bytes(), stores.as_bytes()).unwrap()
}

/// Space `s` of account `a` from store 1 to store 2.
pub(super) const ONE: &str = r#"{ "removeVanished": true,
    "spaceDuplicationStorePolicies": { "s": [ { "srcStoreId": "1", "destStoreId": "2" } ] } }"#;

/// The same, comparing differences.
pub(super) const DIFFERENCES: &str = r#"{ "removeVanished": true, "compare": "differences",
    "spaceDuplicationStorePolicies": { "s": [ { "srcStoreId": "1", "destStoreId": "2" } ] } }"#;

/// Space `s` of account `a` from store 1 to stores 2 and 3.
pub(super) const TWO: &str = r#"{ "removeVanished": true, "spaceDuplicationStorePolicies": { "s": [
    { "srcStoreId": "1", "destStoreId": "2" }, { "srcStoreId": "1", "destStoreId": "3" } ] } }"#;

/// All spaces from store 1 to store 2.
pub(super) const DEFAULT: &str = r#"{ "removeVanished": true,
    "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ] }"#;

impl World {
    /// With account `a` under `file`.
    pub(super) fn new(file: &str) -> Self {
        Self::of(vec![policy("a", file)])
    }

    pub(super) fn of(policies: Vec<AccountPolicy>) -> Self {
        let clock = Arc::new(SimClock::new());
        let chance = Arc::new(SeededRng::new(7));
        let fuse = Arc::new(Fuse::default());
        let behavior = QueueBehavior { batch_max: NonZeroU32::new(10).unwrap(), ..QueueBehavior::well_behaved() };
        let inner = MemoryQueue::new(QueueName::DuplicationLow, behavior, clock.clone(), chance, None);
        let queue = Arc::new(Trace {
            inner,
            asked: Mutex::default(),
            fuse: fuse.clone(),
            tells: AtomicBool::new(true),
            drained: Mutex::default(),
        });
        let table = |name: &str| Arc::new(MemoryTable::with_pages_of(name, 3));
        let lists_table = table(DeleteLists::TABLE);
        let looping = LoopingSettings {
            holder: "holder-0".into(),
            lease_timeout: Duration::from_mins(1),
            queue_max: 10_000,
            queue_sizing: QueueSizing::Fixed,
            nibble: NonZeroUsize::new(1_000).unwrap(),
            frequency: Duration::from_hours(1),
            when_full: WhenFull::Leave,
            run_start: crate::RunStart::WhenDue,
            listings_open_max: 16,
            give_up_after: Duration::ZERO,
            silence_max: Duration::from_mins(5),
            sends_at_once: NonZeroUsize::new(4).unwrap(),
        };
        let (thresholds, absent_source) = (DeleteThresholds::default(), AbsentSource::Retire);
        let settings = ProducerSettings { looping, thresholds, absent_source };
        let mut world = Self {
            clock,
            queue,
            fuse: fuse.clone(),
            stores: Arc::default(),
            state: Arc::new(Fused { inner: table("state"), fuse: fuse.clone() }),
            sync_proofs: SyncProofs::new(table("seals")),
            delete_lists: DeleteLists::new(Arc::new(Fused { inner: lists_table.clone(), fuse })),
            lists_table,
            counts: table(AccountCounts::TABLE),
            owners: Owners::new(table("owners")),
            statistics: Arc::default(),
            policies: Arc::new(PolicyRepository::fixed(policies)),
            settings,
            holders_dead: false,
            chance: Arc::new(SeededRng::new(8)),
            memory: BTreeMap::new(),
        };
        for id in ["1", "2", "3"] {
            world.add_store("a", id);
        }
        world
    }

    /// From now on the queue cannot count the tasks of an account, and workmen count.
    pub(super) fn queue_tells_no_accounts(&self) {
        self.queue.tells.store(false, SeqCst);
    }

    /// The table of the counts of workmen, if they count.
    pub(super) fn counts(&self) -> Option<AccountCounts> {
        let (table, clock, queue) = (self.counts.clone(), self.clock.clone(), QueueName::DuplicationLow);
        (!self.queue.tells.load(SeqCst)).then(|| AccountCounts { table, clock, queue })
    }

    /// How many rows of the producer's table were written whose keys begin with `prefix`.
    pub(super) fn writes_of(&self, prefix: &str) -> usize {
        self.fuse.written.lock().iter().filter(|sort| sort.starts_with(prefix)).count()
    }

    /// Saves the counts of the tasks that were taken out of the queue, as workmen do.
    pub(super) async fn write_counts(&self, writer: &mut CountsWriter) {
        let fresh = std::mem::take(&mut *self.queue.drained.lock());
        writer.add(&fresh, false).await.unwrap();
    }

    pub(super) fn add_store(&mut self, owner: &str, id: &str) {
        let behavior = StoreBehavior { page_entries_max: 50, ..StoreBehavior::default() };
        let memory = MemoryStore::new(address(owner, id), behavior, self.clock.clone());
        self.stores.add(address(owner, id), Arc::new(memory.clone()));
        self.memory.insert(address(owner, id), memory);
    }

    /// Replaces account `a`'s store `id` by an empty one that folds names.
    pub(super) fn fold(&mut self, id: &str) {
        let behavior = StoreBehavior { page_entries_max: 3, folds_names: true, ..StoreBehavior::default() };
        let memory = MemoryStore::new(address("a", id), behavior, self.clock.clone());
        self.stores.add(address("a", id), Arc::new(memory.clone()));
        self.memory.insert(address("a", id), memory);
    }

    /// Replaces account `a`'s store `id` by an empty one whose ids are paths.
    pub(super) fn ids_are_paths(&mut self, id: &str) {
        let behavior = StoreBehavior { page_entries_max: 3, ids_are_paths: true, ..StoreBehavior::default() };
        let memory = MemoryStore::new(address("a", id), behavior, self.clock.clone());
        self.stores.add(address("a", id), Arc::new(memory.clone()));
        self.memory.insert(address("a", id), memory);
    }

    pub(super) fn store(&self, id: &str) -> &MemoryStore {
        &self.memory[&address("a", id)]
    }

    pub(super) fn store_of(&self, owner: &str, id: &str) -> &MemoryStore {
        &self.memory[&address(owner, id)]
    }

    /// Replaces account `a`'s store `id`.
    pub(super) fn replace(&self, id: &str, by: Arc<dyn DeletableStore>) {
        self.stores.add(address("a", id), by);
    }

    /// Plants items `{prefix}00000`, `{prefix}00001`, … in space `s`.
    pub(super) fn insert(&self, id: &str, prefix: &str, count: usize) {
        for number in 0..count {
            self.plant_one(id, &format!("{prefix}{number:05}"));
        }
    }

    pub(super) fn plant_one(&self, id: &str, name: &str) {
        self.store(id).insert(&item("s", name), name.to_owned(), Properties::default());
    }

    pub(super) fn producer(&self) -> DuplicationProducer {
        self.producer_with(|_| {})
    }

    pub(super) fn producer_with(&self, change: impl FnOnce(&mut ProducerSettings)) -> DuplicationProducer {
        let (sync_proofs, delete_lists) = (self.sync_proofs.clone(), self.delete_lists.clone());
        let deps =
            ProducerDeps { looping: self.looping_deps(), sync_proofs, delete_lists, owners: self.owners.clone() };
        let mut settings = self.settings.clone();
        change(&mut settings);
        DuplicationProducer::new(deps, settings)
    }

    /// What a producer of any plan has.
    pub(super) fn looping_deps(&self) -> LoopingDeps {
        let dead = self.holders_dead;
        LoopingDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            queue: self.queue.clone(),
            state: self.state.clone(),
            counts: self.counts(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: self.statistics.clone(),
            holder_is_dead: Arc::new(move |_| dead),
        }
    }

    pub(super) async fn session(&self) -> SessionReport {
        self.session_with(|_| {}).await
    }

    pub(super) async fn session_with(&self, change: impl FnOnce(&mut ProducerSettings)) -> SessionReport {
        self.producer_with(change).run_session(&CancellationToken::new()).await.unwrap()
    }

    /// How many tasks of an account the queue holds.
    pub(super) fn depth_of(&self, account: &AccountId) -> u64 {
        self.queue.depth_of_account(account)
    }

    /// How many tasks the queue holds.
    pub(super) async fn depth(&self) -> usize {
        self.queue.inner.depth().await.unwrap().total() as usize
    }

    /// The queued ids in order, also those in the rows of delete lists; `/` for the space itself.
    pub(super) fn ids(&self) -> Vec<String> {
        let ids = |asked: Asked| match asked {
            Asked::QueueDepth | Asked::Other(_) => Vec::new(),
            Asked::Sent(task) => vec![task.items().first().map_or_else(|| "/".to_owned(), |id| id.as_str().to_owned())],
            Asked::Removes(RemoveTask { row: None, .. }) => vec!["/".to_owned()],
            Asked::Removes(remove) => self.row_ids(&remove),
        };
        self.queue.asked().into_iter().flat_map(ids).collect()
    }

    /// The queued tasks as text, without the ids of tasks and lists.
    pub(super) fn told(&self) -> Vec<String> {
        let told = |asked: Asked| match asked {
            Asked::QueueDepth | Asked::Other(_) => Vec::new(),
            Asked::Sent(task) => vec![format!("{task:?}")],
            Asked::Removes(remove) => {
                self.row_ids(&remove).iter().map(|id| format!("{}: {id} goes", remove.pair.destination)).collect()
            }
        };
        self.queue.asked().into_iter().flat_map(told).collect()
    }

    /// The ids in a task's row.
    pub(super) fn row_ids(&self, remove: &RemoveTask) -> Vec<String> {
        let sort = format!("list/{}/row/{:08}", remove.list, remove.row.unwrap());
        let rows = self.lists_table.rows();
        let (_, value) = rows.into_iter().find(|(key, _)| key.sort == sort).expect("a row is written before its task");
        let pairs: Vec<(String, String)> = serde_json::from_slice(&value).unwrap();
        pairs.into_iter().map(|(id, _)| id).collect()
    }

    /// The ids that the queued delete rows name, in order of their tasks.
    pub(super) fn removed(&self) -> Vec<String> {
        self.queue
            .removes()
            .iter()
            .filter(|remove| remove.row.is_some())
            .flat_map(|remove| self.row_ids(remove))
            .collect()
    }

    /// Carries out the queued deletes, as a workman would, and records the results of their rows.
    pub(super) async fn carry_out(&self) {
        for remove in self.queue.removes() {
            let Some(row) = remove.row else { continue };
            let ids = self.row_ids(&remove);
            for id in &ids {
                self.store("2").remove(&item("s", id));
            }
            let result = RowResult { deleted: ids.len() as u64, ..RowResult::default() };
            self.delete_lists.record(&Self::pair(), remove.list, row, &result).await.unwrap();
        }
        self.queue.drain().await;
    }

    /// A person confirms all held deletes.
    pub(super) async fn confirm(&self) {
        for mut held in self.delete_lists.held().await.unwrap() {
            self.delete_lists.grant(&mut held, "ann", self.clock.now()).await.unwrap();
        }
    }

    /// Records the places of store 1 as known from an earlier run.
    pub(super) async fn know_places(&self) {
        let places = self.store("1").places(&item("s", "x")).await.unwrap();
        for destination in ["2", "3"] {
            let pair = SpacePair { destination: store(destination), ..Self::pair() };
            let mut state = self.delete_lists.pair(&pair).await.unwrap();
            state.record.add_places(&places);
            self.delete_lists.save_pair(&pair, &mut state).await.unwrap();
        }
    }

    /// Records that the items of space `s` in stores 2 and 3 were written from store 1.
    pub(super) async fn wrote_all(&self) {
        self.know_places().await;
        for destination in ["2", "3"] {
            let pair = SpacePair { destination: store(destination), ..Self::pair() };
            for id in self.store(destination).contents(&space("s")).unwrap_or_default().into_keys() {
                let item = ItemAddress { space: space("s"), id };
                let found = self.store(destination).head(&item).await.unwrap().present().unwrap();
                self.sync_proofs.put_written(&pair, &item.id, &found.version).await.unwrap();
            }
        }
    }

    /// How many queued ids begin with `prefix`.
    pub(super) fn ids_of(&self, prefix: &str) -> usize {
        self.ids().iter().filter(|id| id.starts_with(prefix)).count()
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    pub(super) fn pair() -> SpacePair {
        SpacePair { account: account("a"), source: store("1"), destination: store("2"), space: space("s") }
    }

    /// Records store 1 as the owner of space `s` of store 2.
    pub(super) async fn own(&self) {
        let place = DestinationSpace { store: address("a", "2"), space: space("s") };
        self.owners.claim(&place, &address("a", "1")).await.unwrap();
    }

    /// Records an item of space `s` as proven in sync in stores 1 and 2.
    pub(super) async fn add_sync_proof(&self, id: &str) {
        let source = self.store("1").head(&item("s", id)).await.unwrap().present().unwrap();
        let destination = self.store("2").head(&item("s", id)).await.unwrap().present().unwrap();
        let proof = SyncProof::of(&source.version, &destination.version, &source.checksums[0]).unwrap();
        self.sync_proofs.put(&Self::pair(), &content(id), &proof).await.unwrap();
    }
}

pub(super) fn is_finished(report: &SessionReport) -> bool {
    matches!(report.ended, SessionEnd::Finished { .. })
}
