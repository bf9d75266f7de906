//! How each back end and wrapper is opened for a case.

use std::sync::Arc;

use mill_conformance::{Keep, QueueSubject, StoreLimits, StoreSubject, TableSubject};
use mill_model::{AccountId, QueueName, StoreAddress, StoreId};
use mill_ports::{Clock, DeletableStore, Rng, Table, TaskQueue};
use mill_testkit::{
    CallRecorder, FaultInjector, FaultPlan, FaultyStore, ManualClock, MemoryQueues, MemoryStore, MemoryTable,
    QueueBehavior, SeededRng, StoreBehavior,
};
use mill_wrappers::{LimitedStore, TrackedStore};

fn chance() -> Arc<dyn Rng> {
    Arc::new(SeededRng::new(1))
}

fn quiet_plan(clock: &Arc<ManualClock>) -> Arc<FaultPlan> {
    FaultPlan::new(clock.clone(), chance())
}

fn queues(
    behavior: &QueueBehavior,
    wrap: impl Fn(Arc<dyn TaskQueue>, &Arc<ManualClock>) -> Arc<dyn TaskQueue>,
) -> QueueSubject {
    let hand = Arc::new(ManualClock::new());
    let clock: Arc<dyn Clock> = hand.clone();
    let queues = MemoryQueues::new(behavior, &clock, &chance());
    QueueSubject {
        queue: wrap(queues.get(QueueName::DuplicationLow), &hand),
        dead_letters: wrap(queues.get(QueueName::DeadLetter), &hand),
        max_receive_count: behavior.max_receive_count,
        duplicates: behavior.duplicates_per_mille > 0,
        time: Arc::new(move |by| hand.step(by)),
        keep: Keep::nothing(),
    }
}

/// The plainest.
pub(crate) async fn memory_queue() -> QueueSubject {
    queues(&QueueBehavior::well_behaved(), |queue, _| queue)
}

/// That tells accounts apart.
pub(crate) async fn accounts_queue() -> QueueSubject {
    queues(&telling(), |queue, _| queue)
}

fn telling() -> QueueBehavior {
    QueueBehavior { knows_accounts: true, ..QueueBehavior::well_behaved() }
}

/// With fenced receipts.
pub(crate) async fn fenced_queue() -> QueueSubject {
    queues(&QueueBehavior { fences_stale_receipts: true, ..QueueBehavior::well_behaved() }, |queue, _| queue)
}

/// With everything that a queue which delivers once may do.
pub(crate) async fn wild_queue() -> QueueSubject {
    queues(&QueueBehavior { duplicates_per_mille: 0, ..QueueBehavior::adversarial() }, |queue, _| queue)
}

/// With duplicates too, and so few receives that redrive comes into play: for the model.
pub(crate) async fn doubling_queue() -> QueueSubject {
    queues(
        &QueueBehavior { duplicates_per_mille: 200, max_receive_count: 3, ..QueueBehavior::adversarial() },
        |queue, _| queue,
    )
}

/// With so few receives that redrive comes into play: for the model.
pub(crate) async fn short_lived_queue() -> QueueSubject {
    queues(
        &QueueBehavior { max_receive_count: 3, short_receives_per_mille: 200, ..QueueBehavior::well_behaved() },
        |queue, _| queue,
    )
}

/// Counted.
pub(crate) async fn recording_queue() -> QueueSubject {
    queues(&telling(), |queue, _| Arc::new(CallRecorder::new(queue)))
}

/// With no faults planned.
pub(crate) async fn faulty_queue() -> QueueSubject {
    queues(&telling(), |queue, clock| Arc::new(FaultInjector::new(queue, quiet_plan(clock))))
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
    table(CallRecorder::new(inner))
}

/// With no faults planned.
pub(crate) async fn faulty_table() -> TableSubject {
    let inner: Arc<dyn Table> = Arc::new(MemoryTable::new("book"));
    table(FaultInjector::new(inner, quiet_plan(&Arc::new(ManualClock::new()))))
}

fn address() -> StoreAddress {
    StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() }
}

fn memory(behavior: StoreBehavior) -> Arc<dyn DeletableStore> {
    Arc::new(MemoryStore::new(address(), behavior, Arc::new(ManualClock::new())))
}

fn store(store: impl DeletableStore) -> StoreSubject {
    StoreSubject { store: Arc::new(store), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// The plainest.
pub(crate) async fn memory_store() -> StoreSubject {
    StoreSubject { store: memory(StoreBehavior::default()), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// Long pages, properties in them, reads of one moment, and ids that it cannot hold.
pub(crate) async fn choosy_store() -> StoreSubject {
    let behavior = StoreBehavior {
        page_entries_max: 1000,
        checksums: Vec::new(),
        properties_in_listings: true,
        reads_are_snapshots: true,
        unholdable: Some(|id| id.as_str().split('/').any(|part| part.is_empty() || part.starts_with('.'))),
        ..StoreBehavior::default()
    };
    StoreSubject { store: memory(behavior), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// One transfer at once.
pub(crate) async fn limited_store() -> StoreSubject {
    store(LimitedStore::new(memory(StoreBehavior::default()), 1))
}

/// With what it is asked noted.
pub(crate) async fn asked_store() -> StoreSubject {
    store(TrackedStore::new(memory(StoreBehavior::default()), address(), Arc::default(), Arc::new(ManualClock::new())))
}

/// Counted.
pub(crate) async fn recording_store() -> StoreSubject {
    store(CallRecorder::new(memory(StoreBehavior::default())))
}

/// With no faults planned.
pub(crate) async fn faulty_store() -> StoreSubject {
    let plan = quiet_plan(&Arc::new(ManualClock::new()));
    store(FaultyStore::new(memory(StoreBehavior::default()), address(), plan))
}

fn of_a_service() -> Arc<dyn DeletableStore> {
    memory(StoreBehavior { service: Some(1), ..StoreBehavior::default() })
}

/// One that takes items from its own service.
pub(crate) async fn memory_of_a_service() -> StoreSubject {
    StoreSubject { store: of_a_service(), limits: StoreLimits::NONE, keep: Keep::nothing() }
}

/// The same, limited.
pub(crate) async fn limited_of_a_service() -> StoreSubject {
    store(LimitedStore::new(of_a_service(), 1))
}

/// The same, with what it is asked noted.
pub(crate) async fn asked_of_a_service() -> StoreSubject {
    store(TrackedStore::new(of_a_service(), address(), Arc::default(), Arc::new(ManualClock::new())))
}

/// The same, counted.
pub(crate) async fn recording_of_a_service() -> StoreSubject {
    store(CallRecorder::new(of_a_service()))
}

/// The same, with no faults planned.
pub(crate) async fn faulty_of_a_service() -> StoreSubject {
    store(FaultyStore::new(of_a_service(), address(), quiet_plan(&Arc::new(ManualClock::new()))))
}
