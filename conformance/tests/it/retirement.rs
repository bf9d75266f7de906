//! A space that is gone at its source, from the pass that misses it to the end of its copy: producer, queue and
//! processors together, on back ends in memory and under paused time.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use mill_engine::{
    MemoryQueue, MemoryStore, MemoryStores, MemoryTable, QueueHabits, SeededChance, SimClock, StoreHabits,
};
use mill_model::wire::{self, Arrival};
use mill_model::{
    AccountId, ContentId, Duplicate, Envelope, ItemAddress, Monotonic, Properties, QueueName, SpaceId, StoreAddress,
    StoreId, TaskId,
};
use mill_policy::AccountPolicy;
use mill_ports::{
    Attempt, Clock, Delivery, Lease, Outcome, Outgoing, Presence, SourceStore as _, TaskProcessorFactory as _,
    TaskQueue as _,
};
use mill_processors::{Deps as ProcessorDeps, DuplicateFactory};
use mill_producer::{AbsentSource, Deps, DuplicationProducer, Ended, HeldDeletes, Settings, WhenFull, WhyHeld};
use mill_records::owners::{DestinationSpace, Owners};
use mill_records::policies::PolicyBook;
use mill_records::seals::Seals;
use tokio_util::sync::CancellationToken;

const ITEMS: usize = 40;

fn address(store: &str) -> StoreAddress {
    StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new(store).unwrap() }
}

fn space() -> SpaceId {
    SpaceId::new("s").unwrap()
}

fn at(number: usize) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(format!("item{number:03}")).unwrap() }
}

/// Store 1 is copied to store 2, vanished items included.
struct Installation {
    clock: Arc<SimClock>,
    chance: Arc<SeededChance>,
    queue: Arc<MemoryQueue>,
    source: MemoryStore,
    destination: MemoryStore,
    stores: Arc<MemoryStores>,
    state: Arc<MemoryTable>,
    seals: Seals,
    owners: Owners,
    policies: Arc<PolicyBook>,
}

impl Installation {
    /// With a space of [`ITEMS`] items that was copied already. The queue repeats and shuffles.
    async fn in_step(seed: u64) -> Self {
        let clock = Arc::new(SimClock::new());
        let chance = Arc::new(SeededChance::new(seed));
        let policy = br#"{ "removeVanished": true, "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ] }"#;
        let stores = br#"{ "stores": [ { "id": "1", "type": "folder", "root": "one", "primary": true },
            { "id": "2", "type": "folder", "root": "two" } ] }"#;
        let policy = AccountPolicy::parse(AccountId::new("a").unwrap(), policy, stores).unwrap();
        let habits = QueueHabits { depth_error_percent: 0, max_receive_count: 100, ..QueueHabits::wild() };
        let store = |id| MemoryStore::new(address(id), StoreHabits::default(), clock.clone());
        let installation = Self {
            queue: Arc::new(MemoryQueue::new(QueueName::DuplicationLow, habits, clock.clone(), chance.clone(), None)),
            source: store("1"),
            destination: store("2"),
            stores: Arc::default(),
            state: Arc::new(MemoryTable::new("state")),
            seals: Seals::new(Arc::new(MemoryTable::new("seals"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            policies: Arc::new(PolicyBook::fixed(vec![policy])),
            clock,
            chance,
        };
        installation.stores.add(address("1"), Arc::new(installation.source.clone()));
        installation.stores.add(address("2"), Arc::new(installation.destination.clone()));
        for number in 0..ITEMS {
            installation.source.plant(&at(number), format!("{number}"), Properties::default());
        }
        assert_eq!(installation.produce(None).await, []);
        installation.work().await;
        assert_eq!(installation.source.contents(&space()), installation.destination.contents(&space()));
        installation
    }

    /// One run of the producer; gives what it holds back.
    async fn produce(&self, confirm_deletes: Option<u64>) -> Vec<HeldDeletes> {
        let deps = Deps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            queue: self.queue.clone(),
            state: self.state.clone(),
            seals: self.seals.clone(),
            owners: self.owners.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: Arc::default(),
            surely_dead: Arc::new(|_| false),
        };
        let settings = Settings {
            holder: "producer".into(),
            lease_timeout: Duration::from_mins(1),
            queue_max: 10_000,
            nibble: NonZeroUsize::new(7).unwrap(),
            frequency: Duration::ZERO,
            when_full: WhenFull::Leave,
            force: false,
            confirm_deletes,
            absent_source: AbsentSource::Retire,
            listings_open_max: 16,
            sends_at_once: NonZeroUsize::new(4).unwrap(),
        };
        let report = DuplicationProducer::new(deps, settings).session(&CancellationToken::new()).await.unwrap();
        assert!(matches!(report.ended, Ended::Finished { .. }) && !report.failed(), "{report:?}");
        report.held
    }

    /// Runs all tasks there are, each delivery of them, until none comes for a while.
    async fn work(&self) {
        let factory = DuplicateFactory::new(ProcessorDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            seals: self.seals.clone(),
            owners: self.owners.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: Arc::default(),
            refusals: Arc::default(),
        });
        let (max, visibility) = (NonZeroU32::new(10).unwrap(), Duration::from_mins(10));
        loop {
            let deliveries = self.queue.receive(max, visibility, Duration::from_mins(2)).await.unwrap();
            if deliveries.is_empty() {
                return;
            }
            for delivery in deliveries {
                self.settle(&factory, delivery).await;
            }
        }
    }

    async fn settle(&self, factory: &DuplicateFactory, delivery: Delivery) {
        let arrival = Arrival {
            id: TaskId::new(delivery.sent_at, [0; 10]),
            queue: QueueName::DuplicationLow,
            sent_at: delivery.sent_at,
        };
        let envelope = wire::open(&delivery.body, arrival).unwrap();
        let attempt = Attempt {
            envelope: envelope.clone(),
            failures_max: 3,
            receive_count: delivery.receive_count,
            cancelled: CancellationToken::new(),
            lease: Lease::until(self.clock.clone(), Monotonic::from_origin(Duration::from_hours(1_000))),
        };
        match factory.processor(envelope.task.clone()).unwrap().run(&attempt).await.unwrap() {
            Outcome::Snooze { delay, task } => self.send(&envelope.after_snooze(task), delay).await,
            Outcome::Done { follow_ups } => assert_eq!(follow_ups, []),
            Outcome::Discard { .. } => {}
        }
        let _ = self.queue.acknowledge(&[delivery.receipt]).await.unwrap();
    }

    async fn send(&self, envelope: &Envelope, delay: Duration) {
        let body = wire::seal(envelope).unwrap();
        let outgoing = Outgoing { group: envelope.task.account.clone(), body, delay };
        self.queue.send(&[outgoing]).await.unwrap().into_result().unwrap();
    }

    async fn destination_is_here(&self) -> bool {
        self.destination.space(&space()).await.unwrap() != Presence::Absent
    }

    async fn owner(&self) -> Option<StoreAddress> {
        self.owners.owner(&DestinationSpace { store: address("2"), space: space() }).await.unwrap()
    }
}

/// How many deletes wait for the space alone, and whether a confirmation counts.
fn held(held: &[HeldDeletes]) -> Option<(u64, bool)> {
    match held {
        [HeldDeletes { count, why: WhyHeld::SpaceMissing { proven, .. }, .. }] => Some((*count, *proven)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_gone_for_a_day_goes_from_its_copy_when_a_person_confirms_it_and_not_before() {
    for seed in 0..8 {
        let all = Installation::in_step(seed).await;
        all.source.uproot_space(&space());
        let (written, everything) = (all.source.writes(), all.destination.contents(&space()));

        assert_eq!(held(&all.produce(Some(1_000)).await), Some((ITEMS as u64, false)), "missing for the first time");
        all.clock.sleep(Duration::from_hours(24)).await;
        assert_eq!(held(&all.produce(None).await), Some((ITEMS as u64, true)), "missing for a day");
        assert_eq!(held(&all.produce(Some(ITEMS as u64 - 1)).await), Some((ITEMS as u64, true)), "too few confirmed");
        all.work().await;
        assert_eq!(all.destination.contents(&space()), everything);

        assert_eq!(all.produce(Some(ITEMS as u64)).await, []);
        all.work().await;
        assert!(!all.destination_is_here().await);
        assert_eq!(all.owner().await, None);
        assert_eq!(all.source.writes(), written, "the source is never written");
        assert_eq!(all.produce(Some(1_000)).await, [], "nothing is left of it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_comes_back_after_it_was_confirmed_is_copied_again_whatever_was_on_its_way() {
    for seed in 0..8 {
        let all = Installation::in_step(seed).await;
        all.source.uproot_space(&space());
        all.produce(None).await;
        all.clock.sleep(Duration::from_hours(24)).await;
        assert_eq!(all.produce(Some(ITEMS as u64)).await, []);
        for number in 0..=ITEMS {
            all.source.plant(&at(number), "back", Properties::default());
        }
        all.work().await;
        assert_eq!(all.destination.contents(&space()).unwrap().len(), ITEMS, "all were looked at, none deleted");
        all.produce(None).await;
        all.work().await;
        assert_eq!(all.source.contents(&space()), all.destination.contents(&space()));
        assert_eq!(all.owner().await, Some(address("1")));
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_nobody_confirmed_delete_nothing_of_a_space_that_is_gone() {
    let all = Installation::in_step(1).await;
    all.source.uproot_space(&space());
    let everything = all.destination.contents(&space());
    for item in (0..ITEMS).map(|number| Some(at(number).id)).chain([None]) {
        let task = Duplicate {
            account: AccountId::new("a").unwrap(),
            source: address("1").store,
            destination: address("2").store,
            space: space(),
            item,
            retire: false,
        };
        let id = TaskId::new(all.clock.now(), [0; 10]);
        all.send(&Envelope::new(id, QueueName::DuplicationLow, all.clock.now(), task.into_task()), Duration::ZERO)
            .await;
    }
    all.work().await;
    assert_eq!(all.destination.contents(&space()), everything);
}
