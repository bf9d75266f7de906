use std::sync::Arc;

use mill_local::folder::{FolderHint, HintBatch, Rescan, RescanReason, RescanScope};
use mill_model::wire::{self, ReceiveContext};
use mill_model::{
    AccountId, AuditAction, AuditEvent, AuditTask, EventSource, ItemAddress, Properties, QueueName, StoreAddress,
    TaskArgs as _, TaskId, Timestamp,
};
use mill_records::audit_log::AuditLog;
use mill_records::audit_sender::AuditSender;
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, FaultyStore, MemoryQueue, MemoryStore, MemoryStores, MemoryTable,
    QueueBehavior, SeededRng, SimClock, StoreBehavior,
};
use tokio_util::sync::CancellationToken;

use super::reporter::HintReporter;
use super::*;

/// A reporter over a store and a queue that may fail.
struct Site {
    store: MemoryStore,
    store_faults: Arc<FaultPlan>,
    queue: Arc<MemoryQueue>,
    queue_faults: Arc<FaultPlan>,
    reporter: HintReporter,
}

fn site() -> Site {
    let clock = Arc::new(SimClock::new());
    let address = StoreAddress { account: "a".parse().unwrap(), store: "1".parse().unwrap() };
    let store = MemoryStore::new(address.clone(), StoreBehavior::default(), clock.clone());
    let plan = || FaultPlan::new(clock.clone(), Arc::new(SeededRng::new(1)));
    let (store_faults, queue_faults) = (plan(), plan());
    let stores = MemoryStores::default();
    stores.add(
        address.clone(),
        Arc::new(FaultyStore::new(Arc::new(store.clone()), address.clone(), store_faults.clone())),
    );
    let chance = Arc::new(SeededRng::new(2));
    let behavior = QueueBehavior::well_behaved();
    let queue = Arc::new(MemoryQueue::new(QueueName::Audit, behavior, clock.clone(), chance.clone(), None));
    let sender = AuditSender {
        queue: Arc::new(FaultInjector::new(queue.clone(), queue_faults.clone())),
        log: AuditLog::new(Arc::new(MemoryTable::new(AuditLog::TABLE))),
        clock: clock.clone(),
        chance: chance.clone(),
    };
    let reporter = HintReporter::new(address, Arc::new(stores), sender, (clock, chance));
    Site { store, store_faults, queue, queue_faults, reporter }
}

fn item(id: &str) -> ItemAddress {
    ItemAddress { space: "s".parse().unwrap(), id: id.parse().unwrap() }
}

fn batch(hints: Vec<FolderHint>) -> HintBatch {
    HintBatch { hints, directories: 1, left: 0 }
}

impl Site {
    async fn report(&mut self, hints: Vec<FolderHint>) {
        self.reporter.report(batch(hints), &CancellationToken::new()).await;
    }

    /// The events in the queue.
    fn events(&self) -> Vec<AuditEvent> {
        let read = |body: bytes::Bytes| {
            let context = ReceiveContext {
                id: TaskId::new(Timestamp::default(), [0; 10]),
                queue: QueueName::Audit,
                sent_at: Timestamp::default(),
            };
            let task = AuditTask::from_task(&wire::decode(&body, context).unwrap().task).unwrap();
            assert_eq!(task.account, "a".parse::<AccountId>().unwrap());
            task.events
        };
        self.queue.bodies().into_iter().flat_map(read).collect()
    }

    /// What the events say.
    fn words(&self) -> Vec<String> {
        let word = |event: &AuditEvent| {
            assert_eq!(event.source, EventSource::Watch);
            format!("{} {} {:?}", event.action, event.subject(), event.size)
        };
        self.events().iter().map(word).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_what_the_look_found_whatever_the_hint_said() {
    let mut site = site();
    site.store.insert(&item("there"), "12345", Properties::default());
    site.store.insert(&item("again"), "1", Properties::default());
    site.report(vec![
        FolderHint::SpaceAppeared("s".parse().unwrap()),
        FolderHint::Changed(item("there")),
        FolderHint::Changed(item("already gone")),
        FolderHint::Gone(item("again")),
        FolderHint::Gone(item("gone")),
    ])
    .await;
    assert_eq!(
        site.words(),
        [
            "create-space s None",
            "add-content s/there Some(5)",
            "delete-content s/already gone None",
            "add-content s/again Some(1)",
            "delete-content s/gone None"
        ]
    );
    assert_eq!(site.events()[0].action, AuditAction::CreateSpace);
}

#[tokio::test(start_paused = true)]
async fn an_item_of_a_space_that_is_gone_and_what_must_be_listed_send_nothing() {
    let mut site = site();
    let rescan = Rescan { scope: RescanScope::Whole, reason: RescanReason::Overflow };
    site.report(vec![
        FolderHint::Gone(item("x")),
        FolderHint::SpaceGone("s".parse().unwrap()),
        FolderHint::Rescan(rescan),
    ])
    .await;
    assert_eq!(site.words(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn changes_that_the_queue_does_not_take_are_sent_until_it_does() {
    let mut site = site();
    site.store.insert(&item("a"), "1", Properties::default());
    site.queue_faults.set_outage(Some(FaultKind::Unavailable));
    let plan = site.queue_faults.clone();
    let mends = async {
        tokio::time::sleep(Duration::from_mins(10)).await;
        plan.set_outage(None);
    };
    tokio::join!(site.report(vec![FolderHint::Changed(item("a"))]), mends);
    assert_eq!(site.words(), ["add-content s/a Some(1)"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_sending_to_a_queue_that_takes_nothing() {
    let mut site = site();
    site.store.insert(&item("a"), "1", Properties::default());
    site.queue_faults.set_outage(Some(FaultKind::Unavailable));
    let stop = CancellationToken::new();
    let stops = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.cancel();
    };
    tokio::join!(site.reporter.report(batch(vec![FolderHint::Changed(item("a"))]), &stop), stops);
    assert_eq!(site.words(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_asked_again_and_is_never_an_absence() {
    let mut site = site();
    site.store.insert(&item("a"), "1", Properties::default());
    site.store_faults.set_outage(Some(FaultKind::Unavailable));
    let plan = site.store_faults.clone();
    let mends = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        plan.set_outage(None);
    };
    tokio::join!(site.report(vec![FolderHint::Gone(item("a"))]), mends);
    assert_eq!(site.words(), ["add-content s/a Some(1)"]);
    // For good: it is said to be left to the loop.
    site.store_faults.set_outage(Some(FaultKind::Unavailable));
    site.report(vec![FolderHint::Gone(item("a"))]).await;
    assert_eq!(site.events().len(), 1);
}
