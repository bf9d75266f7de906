//! How each back end and wrapper is opened for a case.

use std::sync::Arc;

use mill_conformance::{Keep, QueueSubject, StoreLimits, StoreSubject, TableSubject};
use mill_engine::{
    AskedStore, FaultPlan, Faulty, FaultyStore, HandClock, Limited, MemoryQueues, MemoryStore, MemoryTable,
    QueueHabits, Recording, SeededChance, StoreHabits,
};
use mill_model::{AccountId, QueueName, StoreAddress, StoreId};
use mill_ports::{Clock, DeletableStore, Rng, Table, TaskQueue};

fn chance() -> Arc<dyn Rng> {
    Arc::new(SeededChance::new(1))
}

fn quiet_plan(clock: &Arc<HandClock>) -> Arc<FaultPlan> {
    FaultPlan::new(clock.clone(), chance())
}

fn queues(
    habits: &QueueHabits,
    wrap: impl Fn(Arc<dyn TaskQueue>, &Arc<HandClock>) -> Arc<dyn TaskQueue>,
) -> QueueSubject {
    let hand = Arc::new(HandClock::new());
    let clock: Arc<dyn Clock> = hand.clone();
    let queues = MemoryQueues::new(habits, &clock, &chance());
    QueueSubject {
        queue: wrap(queues.get(QueueName::DuplicationLow), &hand),
        dead_letters: wrap(queues.get(QueueName::DeadLetter), &hand),
        max_receive_count: habits.max_receive_count,
        duplicates: habits.duplicates_per_mille > 0,
        time: hand,
        keep: Keep::nothing(),
    }
}

/// The plainest.
pub(crate) async fn memory_queue() -> QueueSubject {
    queues(&QueueHabits::tidy(), |queue, _| queue)
}

/// That tells accounts apart.
pub(crate) async fn accounts_queue() -> QueueSubject {
    queues(&telling(), |queue, _| queue)
}

fn telling() -> QueueHabits {
    QueueHabits { knows_accounts: true, ..QueueHabits::tidy() }
}

/// With fenced receipts.
pub(crate) async fn fenced_queue() -> QueueSubject {
    queues(&QueueHabits { fences_stale_receipts: true, ..QueueHabits::tidy() }, |queue, _| queue)
}

/// With everything that a queue which delivers once may do.
pub(crate) async fn wild_queue() -> QueueSubject {
    queues(&QueueHabits { duplicates_per_mille: 0, ..QueueHabits::wild() }, |queue, _| queue)
}

/// With duplicates too, and so few receives that redrive comes into play: for the model.
pub(crate) async fn doubling_queue() -> QueueSubject {
    queues(&QueueHabits { duplicates_per_mille: 200, max_receive_count: 3, ..QueueHabits::wild() }, |queue, _| queue)
}

/// With so few receives that redrive comes into play: for the model.
pub(crate) async fn short_lived_queue() -> QueueSubject {
    queues(&QueueHabits { max_receive_count: 3, short_receives_per_mille: 200, ..QueueHabits::tidy() }, |queue, _| {
        queue
    })
}

/// Counted.
pub(crate) async fn recording_queue() -> QueueSubject {
    queues(&telling(), |queue, _| Arc::new(Recording::new(queue)))
}

/// With no faults planned.
pub(crate) async fn faulty_queue() -> QueueSubject {
    queues(&telling(), |queue, clock| Arc::new(Faulty::new(queue, quiet_plan(clock))))
}

fn table(table: impl Table) -> TableSubject {
    TableSubject { table: Arc::new(table), keep: Keep::nothing() }
}

/// The plainest.
pub(crate) async fn memory_table() -> TableSubject {
    table(MemoryTable::new("book"))
}

/// In pages as short as can be.
pub(crate) async fn short_paged_table() -> TableSubject {
    table(MemoryTable::with_pages_of("book", 1))
}

/// Counted.
pub(crate) async fn recording_table() -> TableSubject {
    let inner: Arc<dyn Table> = Arc::new(MemoryTable::new("book"));
    table(Recording::new(inner))
}

/// With no faults planned.
pub(crate) async fn faulty_table() -> TableSubject {
    let inner: Arc<dyn Table> = Arc::new(MemoryTable::new("book"));
    table(Faulty::new(inner, quiet_plan(&Arc::new(HandClock::new()))))
}

fn address() -> StoreAddress {
    StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() }
}

fn memory(habits: StoreHabits) -> Arc<dyn DeletableStore> {
    Arc::new(MemoryStore::new(address(), habits, Arc::new(HandClock::new())))
}

fn store(store: impl DeletableStore) -> StoreSubject {
    StoreSubject { store: Arc::new(store), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// The plainest.
pub(crate) async fn memory_store() -> StoreSubject {
    StoreSubject { store: memory(StoreHabits::default()), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// Long pages, properties in them, reads of one moment, and ids that it cannot hold.
pub(crate) async fn choosy_store() -> StoreSubject {
    let habits = StoreHabits {
        page_entries_max: 1000,
        checksums: Vec::new(),
        properties_in_listings: true,
        reads_are_snapshots: true,
        unholdable: Some(|id| id.as_str().split('/').any(|part| part.is_empty() || part.starts_with('.'))),
        ..StoreHabits::default()
    };
    StoreSubject { store: memory(habits), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// One transfer at once.
pub(crate) async fn limited_store() -> StoreSubject {
    store(Limited::new(memory(StoreHabits::default()), 1))
}

/// With what it is asked noted.
pub(crate) async fn asked_store() -> StoreSubject {
    store(AskedStore::new(memory(StoreHabits::default()), address(), Arc::default(), Arc::new(HandClock::new())))
}

/// Counted.
pub(crate) async fn recording_store() -> StoreSubject {
    store(Recording::new(memory(StoreHabits::default())))
}

/// With no faults planned.
pub(crate) async fn faulty_store() -> StoreSubject {
    let plan = quiet_plan(&Arc::new(HandClock::new()));
    store(FaultyStore::new(memory(StoreHabits::default()), address(), plan))
}

fn of_a_service() -> Arc<dyn DeletableStore> {
    memory(StoreHabits { service: Some(1), ..StoreHabits::default() })
}

/// One that takes items from its own service.
pub(crate) async fn memory_of_a_service() -> StoreSubject {
    StoreSubject { store: of_a_service(), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// The same, limited.
pub(crate) async fn limited_of_a_service() -> StoreSubject {
    store(Limited::new(of_a_service(), 1))
}

/// The same, with what it is asked noted.
pub(crate) async fn asked_of_a_service() -> StoreSubject {
    store(AskedStore::new(of_a_service(), address(), Arc::default(), Arc::new(HandClock::new())))
}

/// The same, counted.
pub(crate) async fn recording_of_a_service() -> StoreSubject {
    store(Recording::new(of_a_service()))
}

/// The same, with no faults planned.
pub(crate) async fn faulty_of_a_service() -> StoreSubject {
    store(FaultyStore::new(of_a_service(), address(), quiet_plan(&Arc::new(HandClock::new()))))
}
