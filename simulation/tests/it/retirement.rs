//! What is gone at its source, from the pass that misses it to the end of its copy: producer, people, queue and both
//! processors together, on back ends in memory and under paused time.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use mill_model::wire::{self, ReceiveContext};
use mill_model::{
    AccountId, ContentId, DeleteListId, DuplicateTask, Envelope, ItemAddress, Monotonic, Properties, QueueName,
    RemoveTask, SpaceId, SpacePair, StoreAddress, StoreId, Task, TaskArgs as _, TaskId,
};
use mill_policy::AccountPolicy;
use mill_ports::{
    Attempt, Clock, Delivery, DeliveryLease, ItemOutcomeNote, OutgoingMessage, Presence, Registry, SourceStore as _,
    Statistics, TaskOutcome, TaskQueue as _,
};
use mill_processors::ProcessorDeps;
use mill_producer::{
    AbsentSource, DuplicationProducer, HeldDeletes, LoopingDeps, LoopingSettings, ProducerDeps, ProducerSettings,
    SessionEnd, WhenFull,
};
use mill_records::delete_lists::{
    DeleteListError, DeleteListState, DeleteLists, DeleteThresholds, GrantedBy, HoldReason,
};
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_testkit::{
    MemoryQueue, MemoryStore, MemoryStores, MemoryTable, QueueBehavior, SeededRng, SimClock, StoreBehavior,
};
use tokio_util::sync::CancellationToken;

/// More than two rows of a delete list.
const ITEMS: usize = 600;

fn address(store: &str) -> StoreAddress {
    StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(store).unwrap() }
}

fn space() -> SpaceId {
    SpaceId::new("s").unwrap()
}

/// The first hundred lie in a directory of their own.
fn at(number: usize) -> ItemAddress {
    let directory = if number < 100 { "disk/" } else { "" };
    ItemAddress { space: space(), id: ContentId::new(format!("{directory}item{number:03}")).unwrap() }
}

fn pair() -> SpacePair {
    let (account, space) = (AccountId::new("a").unwrap(), space());
    SpacePair { account, source: address("1").store, destination: address("2").store, space }
}

/// Store 1 is copied to store 2, vanished items included.
struct Installation {
    clock: Arc<SimClock>,
    chance: Arc<SeededRng>,
    queue: Arc<MemoryQueue>,
    source: MemoryStore,
    destination: MemoryStore,
    stores: Arc<MemoryStores>,
    state: Arc<MemoryTable>,
    sync_proofs: SyncProofs,
    delete_lists: DeleteLists,
    owners: Owners,
    statistics: Arc<Statistics>,
    policies: Arc<PolicyRepository>,
}

impl Installation {
    /// With a space of [`ITEMS`] items that was copied already. The queue repeats and shuffles.
    async fn in_sync(seed: u64) -> Self {
        let clock = Arc::new(SimClock::new());
        let chance = Arc::new(SeededRng::new(seed));
        let policy = br#"{ "removeVanished": true, "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ] }"#;
        let stores = br#"{ "stores": [ { "id": "1", "type": "folder", "root": "one", "primary": true },
            { "id": "2", "type": "folder", "root": "two" } ] }"#;
        let policy = AccountPolicy::parse(AccountId::new("a").unwrap(), policy, stores).unwrap();
        let behavior = QueueBehavior { depth_error_percent: 0, max_receive_count: 100, ..QueueBehavior::adversarial() };
        let store = |id| MemoryStore::new(address(id), StoreBehavior::default(), clock.clone());
        let installation = Self {
            queue: Arc::new(MemoryQueue::new(QueueName::DuplicationLow, behavior, clock.clone(), chance.clone(), None)),
            source: store("1"),
            destination: store("2"),
            stores: Arc::default(),
            state: Arc::new(MemoryTable::new("state")),
            sync_proofs: SyncProofs::new(Arc::new(MemoryTable::new("seals"))),
            delete_lists: DeleteLists::new(Arc::new(MemoryTable::new("delete-lists"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            statistics: Arc::default(),
            policies: Arc::new(PolicyRepository::fixed(vec![policy])),
            clock,
            chance,
        };
        installation.stores.add(address("1"), Arc::new(installation.source.clone()));
        installation.stores.add(address("2"), Arc::new(installation.destination.clone()));
        for number in 0..ITEMS {
            installation.source.insert(&at(number), format!("{number}"), Properties::default());
        }
        assert_eq!(installation.produce().await, []);
        installation.work().await;
        assert!(installation.is_in_sync());
        installation
    }

    /// One run of the producer; gives what it holds back.
    async fn produce(&self) -> Vec<HeldDeletes> {
        let looping = LoopingDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            queue: self.queue.clone(),
            state: self.state.clone(),
            counts: None,
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: Arc::default(),
            holder_is_dead: Arc::new(|_| false),
        };
        let deps = ProducerDeps {
            looping,
            sync_proofs: self.sync_proofs.clone(),
            delete_lists: self.delete_lists.clone(),
            owners: self.owners.clone(),
        };
        let looping = LoopingSettings {
            holder: "producer".into(),
            lease_timeout: Duration::from_mins(1),
            queue_max: 10_000,
            queue_sizing: mill_producer::QueueSizing::Fixed,
            nibble: NonZeroUsize::new(70).unwrap(),
            frequency: Duration::ZERO,
            when_full: WhenFull::Leave,
            run_start: mill_producer::RunStart::WhenDue,
            listings_open_max: 16,
            give_up_after: Duration::ZERO,
            silence_max: Duration::from_mins(5),
            sends_at_once: NonZeroUsize::new(4).unwrap(),
        };
        let settings =
            ProducerSettings { looping, thresholds: DeleteThresholds::default(), absent_source: AbsentSource::Retire };
        let report = DuplicationProducer::new(deps, settings).run_session(&CancellationToken::new()).await.unwrap();
        assert!(matches!(report.ended, SessionEnd::Finished { .. }) && !report.failed(), "{report:?}");
        report.findings.held
    }

    /// Runs all tasks there are, each delivery of them, until none comes for a while.
    async fn work(&self) {
        while self.work_on(10).await > 0 {}
    }

    /// Runs a few of the tasks there are, and gives how many.
    async fn work_on(&self, deliveries_max: u32) -> usize {
        let registry = self.registry();
        let (max, visibility) = (NonZeroU32::new(deliveries_max).unwrap(), Duration::from_mins(10));
        let deliveries = self.queue.receive(max, visibility, Duration::from_mins(2)).await.unwrap();
        let count = deliveries.len();
        for delivery in deliveries {
            self.settle(&registry, delivery).await;
        }
        count
    }

    fn registry(&self) -> Registry {
        mill_processors::registry(&ProcessorDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            delete_lists: self.delete_lists.clone(),
            sync_proofs: self.sync_proofs.clone(),
            owners: self.owners.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: self.statistics.clone(),
            refusals: Arc::default(),
            dry_run: false,
            another_source: false,
            give_up_after: Duration::MAX,
            audit: None,
        })
    }

    async fn settle(&self, registry: &Registry, delivery: Delivery) {
        let arrival = ReceiveContext {
            id: TaskId::new(delivery.sent_at, [0; 10]),
            queue: QueueName::DuplicationLow,
            sent_at: delivery.sent_at,
        };
        let envelope = wire::decode(&delivery.body, arrival).unwrap();
        let attempt = Attempt {
            envelope: envelope.clone(),
            failures_max: 3,
            receive_count: delivery.receive_count,
            cancelled: CancellationToken::new(),
            lease: DeliveryLease::until(self.clock.clone(), Monotonic::from_origin(Duration::from_hours(1_000))),
            outcome: ItemOutcomeNote::default(),
        };
        match registry.processor(envelope.task.clone()).unwrap().run(&attempt).await.unwrap() {
            TaskOutcome::Snooze { delay, task } => self.send(&envelope.snoozed(task), delay).await,
            TaskOutcome::Done { follow_ups } => assert_eq!(follow_ups, []),
            TaskOutcome::Discard { .. } => {}
        }
        let _ = self.queue.acknowledge(&[delivery.receipt]).await.unwrap();
    }

    async fn send(&self, envelope: &Envelope, delay: Duration) {
        let body = wire::encode(envelope).unwrap();
        let outgoing = OutgoingMessage { group: envelope.task.account.clone(), body, delay };
        self.queue.send(&[outgoing]).await.unwrap().into_result().unwrap();
    }

    async fn send_task(&self, task: Task) {
        let now = self.clock.now();
        let envelope = Envelope::new(TaskId::new(now, [0; 10]), QueueName::DuplicationLow, now, task);
        self.send(&envelope, Duration::ZERO).await;
    }

    /// A person confirms what a token names.
    async fn confirm(&self, token: &str) -> Result<DeleteListId, DeleteListError> {
        let mut held = self.delete_lists.by_token(token).await?;
        self.delete_lists.grant(&mut held, "ann", self.clock.now()).await?;
        Ok(held.list)
    }

    async fn state_of(&self, list: DeleteListId) -> DeleteListState {
        self.delete_lists.head(&pair(), list).await.unwrap().unwrap().record.state
    }

    /// The space is gone for a day, and a person let its copy go.
    async fn confirmed_gone(&self) -> DeleteListId {
        self.source.remove_space(&space());
        self.produce().await;
        self.clock.sleep(Duration::from_hours(24)).await;
        let held = self.produce().await;
        let list = self.confirm(&held[0].token).await.unwrap();
        assert_eq!(self.produce().await, []);
        list
    }

    fn is_in_sync(&self) -> bool {
        self.source.contents(&space()) == self.destination.contents(&space())
    }

    async fn destination_is_here(&self) -> bool {
        self.destination.space(&space()).await.unwrap() != Presence::Absent
    }

    async fn owner(&self) -> Option<StoreAddress> {
        self.owners.owner(&DestinationSpace { store: address("2"), space: space() }).await.unwrap()
    }
}

/// How many deletes wait for the space alone, and whether a person may let them go.
fn held(held: &[HeldDeletes]) -> Option<(u64, bool)> {
    match held {
        [HeldDeletes { count, reason: HoldReason::SpaceMissing { for_a_day, .. }, .. }] => Some((*count, *for_a_day)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_gone_for_a_day_goes_from_its_copy_when_a_person_confirms_it_and_not_before() {
    for seed in 0..2 {
        let all = Installation::in_sync(seed).await;
        all.source.remove_space(&space());
        let (written, everything) = (all.source.writes(), all.destination.contents(&space()));

        let missing = all.produce().await;
        assert_eq!(held(&missing), Some((ITEMS as u64, false)), "missing for the first time");
        let refused = all.confirm(&missing[0].token).await.unwrap_err();
        assert!(matches!(refused, DeleteListError::NotMissingForADay), "{refused}");
        all.clock.sleep(Duration::from_hours(24)).await;
        let missing = all.produce().await;
        assert_eq!(held(&missing), Some((ITEMS as u64, true)), "missing for a day");
        all.confirm("600-0123456789abcdef").await.unwrap_err();
        all.work().await;
        assert_eq!(all.destination.contents(&space()), everything, "held, and nothing more");

        let list = all.confirm(&missing[0].token).await.unwrap();
        assert_eq!(all.produce().await, []);
        all.work().await;
        assert!(!all.destination_is_here().await);
        assert_eq!(all.owner().await, None);
        let done = DeleteListState::Done { by: GrantedBy::Person("ann".into()), deleted: ITEMS as u64 };
        assert_eq!(all.state_of(list).await, done);
        assert_eq!(all.statistics.totals().work.deleted, ITEMS as u64);
        assert_eq!(all.source.writes(), written, "the source is never written");
        assert_eq!(all.produce().await, [], "nothing is left of it");
        all.work().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_comes_back_after_it_was_confirmed_is_copied_again_whatever_was_on_its_way() {
    for seed in 0..2 {
        let all = Installation::in_sync(seed).await;
        let list = all.confirmed_gone().await;
        for number in 0..=ITEMS {
            all.source.insert(&at(number), "back", Properties::default());
        }
        all.work().await;
        assert_eq!(all.destination.contents(&space()).unwrap().len(), ITEMS, "all were looked at, none deleted");
        assert_eq!(all.produce().await, []);
        assert_eq!(all.state_of(list).await, DeleteListState::Withdrawn);
        all.work().await;
        assert!(all.is_in_sync());
        assert_eq!((all.owner().await, all.statistics.totals().work.deleted), (Some(address("1")), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_comes_back_halfway_gets_its_copy_again() {
    let mut halfway = 0;
    for seed in 0..4 {
        let all = Installation::in_sync(seed).await;
        all.confirmed_gone().await;
        all.work_on(2).await;
        let left = all.destination.contents(&space()).unwrap().len();
        halfway += u32::from(left > 0 && left < ITEMS);
        for number in 0..ITEMS {
            all.source.insert(&at(number), format!("{number}"), Properties::default());
        }
        all.work().await;
        assert_eq!(all.destination.contents(&space()).unwrap().len(), left, "no row deletes any more");
        assert_eq!(all.owner().await, Some(address("1")));
        assert_eq!(all.produce().await, []);
        all.work().await;
        assert!(all.is_in_sync());
    }
    assert!(halfway > 0);
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_into_a_space_that_was_confirmed_is_held_under_another_list() {
    let all = Installation::in_sync(1).await;
    let list = all.confirmed_gone().await;
    all.destination.insert(&at(3), "theirs", Properties::default());
    all.work().await;
    assert_eq!(all.destination.contents(&space()).unwrap().len(), 1);
    let done = DeleteListState::Done { by: GrantedBy::Person("ann".into()), deleted: ITEMS as u64 - 1 };
    assert_eq!((all.state_of(list).await, all.owner().await), (done, Some(address("1"))));
    let rest = all.produce().await;
    assert_eq!(held(&rest), Some((1, true)));
    all.confirm(&rest[0].token).await.unwrap();
    all.produce().await;
    all.work().await;
    assert!(!all.destination_is_here().await);
}

#[tokio::test(start_paused = true)]
async fn vanished_items_go_as_exactly_they_were_confirmed() {
    for seed in 0..2 {
        let all = Installation::in_sync(seed).await;
        for number in 0..500 {
            all.source.remove(&at(number));
        }
        let many = all.produce().await;
        assert_eq!((many.len(), many[0].count, &many[0].reason), (1, 500, &HoldReason::TooMany { unasked_today: 0 }));
        all.work().await;
        assert_eq!(all.destination.contents(&space()).unwrap().len(), ITEMS);
        let list = all.confirm(&many[0].token).await.unwrap();
        // Ten of them are back, and ten others vanish.
        for number in 0..10 {
            all.source.insert(&at(number), format!("{number}"), Properties::default());
            all.source.remove(&at(500 + number));
        }
        assert_eq!(all.produce().await, []);
        all.work().await;
        let left = all.destination.contents(&space()).unwrap();
        assert_eq!(left.len(), 110, "those that are back, and those that no list named");
        assert!((0..10).chain(500..ITEMS).all(|number| left.contains_key(&at(number).id)));
        assert!(matches!(all.state_of(list).await, DeleteListState::Granted { .. }));
        // The next survey ends the list; ten of 110 are few enough for the rule.
        assert_eq!(all.produce().await, []);
        let done = DeleteListState::Done { by: GrantedBy::Person("ann".into()), deleted: 490 };
        assert_eq!(all.state_of(list).await, done);
        all.work().await;
        assert!(all.is_in_sync());
        assert_eq!(all.statistics.totals().work.deleted, 500);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_goes_after_the_survey_loses_nothing_and_is_held_by_the_next() {
    for seed in 0..2 {
        let all = Installation::in_sync(seed).await;
        all.source.mount(&space(), "disk/", "disk one");
        assert_eq!(all.produce().await, []);
        all.work().await;
        for number in [3, 4, 103, 104] {
            all.source.remove(&at(number));
        }
        assert_eq!(all.produce().await, []);
        all.source.set_mounted(&space(), "disk/", false);
        all.work().await;
        let left = all.destination.contents(&space()).unwrap();
        assert_eq!(left.len(), ITEMS - 2);
        assert!(left.contains_key(&at(3).id) && !left.contains_key(&at(103).id), "gone, and out of sight");
        for _ in 0..2 {
            let out_of_sight = all.produce().await;
            let changed = HoldReason::PlaceChanged { path: "disk/".into() };
            assert_eq!((out_of_sight[0].count, &out_of_sight[0].reason), (100, &changed));
            all.work().await;
            assert_eq!(all.destination.contents(&space()).unwrap().len(), ITEMS - 2);
        }
        all.source.set_mounted(&space(), "disk/", true);
        all.produce().await;
        all.work().await;
        assert_eq!(all.destination.contents(&space()).unwrap().len(), ITEMS - 2, "two are held, since they were");
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_nobody_confirmed_delete_nothing_of_a_space_that_is_gone() {
    let all = Installation::in_sync(1).await;
    all.source.remove_space(&space());
    let everything = all.destination.contents(&space());
    all.produce().await;
    let list = all.delete_lists.held().await.unwrap()[0].list;
    for item in (0..ITEMS).map(|number| Some(at(number).id)).chain([None]) {
        let task = DuplicateTask::of(pair(), item).to_task().unwrap();
        all.send_task(task.clone()).await;
        // As an earlier version confirmed it.
        let mut retiring = task;
        retiring.detail.insert("retire".into(), true.into());
        all.send_task(retiring).await;
    }
    for row in [Some(0), Some(1), Some(2), Some(3), None] {
        all.send_task(RemoveTask { pair: pair(), list, row }.to_task().unwrap()).await;
    }
    all.work().await;
    assert_eq!(all.destination.contents(&space()), everything);
    assert_eq!(all.owner().await, Some(address("1")));
}
