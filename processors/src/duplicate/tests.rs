//! What the kind promises, on stores in memory and under paused time.

mod decisions;
mod faults;
mod order;
mod policies;
mod probe;
mod reading;
mod retirement;
mod spaces;
mod taken;

use std::time::Duration;

use mill_engine::{MemoryStore, MemoryStores, MemoryTable, SeededChance, SimClock, StoreHabits};
use mill_model::{
    Algorithm, ContentId, Envelope, Monotonic, Properties, QueueName, SpaceId, TaskId, Timestamp, Totals,
};
use mill_ports::Lease;
use tokio_util::sync::CancellationToken;

use super::*;
use mill_policy::{AccountPolicy, Compare};
use probe::Probe;

/// Two stores, the books, and one policy over both.
struct Site {
    clock: Arc<SimClock>,
    source: MemoryStore,
    destination: MemoryStore,
    source_port: Probe,
    destination_port: Probe,
    seals: Seals,
    owners: Owners,
    statistics: Arc<Statistics>,
    refusals: Arc<Refusals>,
    stores: Arc<MemoryStores>,
}

fn store_address(id: &str) -> StoreAddress {
    StoreAddress { account: account(), store: StoreId::new(id).unwrap() }
}

fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

fn space() -> SpaceId {
    SpaceId::new("p").unwrap()
}

fn at(id: &str) -> ItemAddress {
    ItemAddress { space: space(), id: ContentId::new(id).unwrap() }
}

fn noted(note: &str) -> Properties {
    let pairs = [("note", note)].into_iter().filter(|(_, value)| !value.is_empty());
    Properties(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Stores that tell no checksums, like plain folders.
fn plain() -> StoreHabits {
    StoreHabits { checksums: Vec::new(), ..StoreHabits::default() }
}

fn telling(algorithm: Algorithm) -> StoreHabits {
    StoreHabits { checksums: vec![algorithm], ..StoreHabits::default() }
}

impl Site {
    fn new() -> Self {
        Self::of(StoreHabits::default(), StoreHabits::default())
    }

    fn of(source: StoreHabits, destination: StoreHabits) -> Self {
        let clock = Arc::new(SimClock::new());
        let source = MemoryStore::new(store_address("s"), source, clock.clone());
        let destination = MemoryStore::new(store_address("d"), destination, clock.clone());
        let source_port = Probe::new(source.clone(), store_address("s"));
        let destination_port = Probe::new(destination.clone(), store_address("d"));
        let stores = Arc::new(MemoryStores::default());
        stores.add(store_address("s"), Arc::new(source_port.clone()));
        stores.add(store_address("d"), Arc::new(destination_port.clone()));
        source.plant_space(&space());
        destination.plant_space(&space());
        Self {
            source,
            destination,
            source_port,
            destination_port,
            seals: Seals::new(Arc::new(MemoryTable::new("seals"))),
            owners: Owners::new(Arc::new(MemoryTable::new("owners"))),
            statistics: Arc::default(),
            refusals: Arc::default(),
            stores,
            clock,
        }
    }

    fn factory(&self, policies: PolicyBook) -> DuplicateFactory {
        DuplicateFactory::new(Deps {
            policies: Arc::new(policies),
            stores: self.stores.clone(),
            seals: self.seals.clone(),
            owners: self.owners.clone(),
            clock: self.clock.clone(),
            chance: Arc::new(SeededChance::new(1)),
            statistics: self.statistics.clone(),
            refusals: self.refusals.clone(),
        })
    }

    fn pair() -> Pair {
        Pair {
            account: account(),
            source: store_address("s").store,
            destination: store_address("d").store,
            space: space(),
        }
    }

    fn task(item: Option<&ItemAddress>) -> Task {
        Self::task_of(item, false)
    }

    fn task_of(item: Option<&ItemAddress>, retire: bool) -> Task {
        let Pair { account, source, destination, space } = Self::pair();
        Duplicate { account, source, destination, space, item: item.map(|item| item.id.clone()), retire }.into_task()
    }

    /// Says that the destination space is the source's.
    async fn own(&self) {
        self.owners.claim(&Self::place(), &store_address("s")).await.unwrap();
    }

    fn place() -> mill_records::owners::DestinationSpace {
        mill_records::owners::DestinationSpace { store: store_address("d"), space: space() }
    }

    fn attempt(&self) -> Attempt {
        let id = TaskId::new(Timestamp::from_millis(0), [0; 10]);
        Attempt {
            envelope: Envelope::new(id, QueueName::DuplicationLow, Timestamp::from_millis(0), Self::task(None)),
            failures_max: 3,
            receive_count: 1,
            cancelled: CancellationToken::new(),
            lease: Lease::until(self.clock.clone(), Monotonic::from_origin(Duration::from_hours(1_000))),
        }
    }

    /// Runs the task of an item under a policy that removes what vanished.
    async fn run(&self, item: &str) -> Result<Outcome, ProcessorError> {
        self.run_under(policy(true), &Self::task(Some(&at(item)))).await
    }

    async fn run_under(&self, policies: PolicyBook, task: &Task) -> Result<Outcome, ProcessorError> {
        self.factory(policies).processor(task.clone())?.run(&self.attempt()).await
    }

    /// Runs it, and lets time pass until everything there is old enough to prove something.
    async fn settle(&self, item: &str) {
        self.run(item).await.unwrap();
        self.clock.sleep(Duration::from_mins(1)).await;
        self.run(item).await.unwrap();
        self.forget_counts();
    }

    fn forget_counts(&self) {
        for port in [&self.source_port, &self.destination_port] {
            port.calls();
            port.bytes_read();
        }
    }

    async fn sealed(&self, item: &str) -> bool {
        self.seals.get(&Self::pair(), &at(item).id).await.unwrap().is_some()
    }

    fn in_step(&self) -> bool {
        self.source.contents(&space()) == self.destination.contents(&space())
    }

    fn totals(&self) -> Totals {
        self.statistics.totals()
    }
}

fn policy(remove_vanished: bool) -> PolicyBook {
    let Pair { account, source, destination, space } = Site::pair();
    let compare = Compare::Differences;
    PolicyBook::fixed(vec![AccountPolicy::mirror(account, space, source, destination, compare, remove_vanished)])
}

fn class(result: Result<Outcome, ProcessorError>) -> FailureClass {
    result.unwrap_err().class
}

fn is_discard(outcome: &Outcome, with: &str) -> bool {
    matches!(outcome, Outcome::Discard { reason } if reason.contains(with))
}
