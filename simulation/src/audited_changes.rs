//! The changes of an audited store, on each back end: each makes exactly one event, also when its writer is killed at any call.
//!
//! A killed writer is a call that never goes on: its store, queue and table stay as they were at that moment.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_conformance::StoreSubject;
use mill_model::wire::{self, ReceiveContext};
use mill_model::{
    AccountId, AuditAction, AuditEvent, AuditTask, ContentId, EventCertainty, EventId, ItemAddress, ItemFacts,
    Properties, QueueName, SpaceId, StoreAddress, StoreId, TaskArgs as _, TaskId, Timestamp, Version,
};
use mill_ports::{
    DeletableStore, DestinationStore as _, Precondition, Presence, PutRequest, PutResult, StoreError, TaskQueue as _,
};
use mill_records::audit_intents::Intents;
use mill_records::audit_log::AuditLog;
use mill_records::audit_sender::AuditSender;
use mill_records::audited_store::AuditedStore;
use mill_testkit::{
    FaultInjector, FaultPlan, FaultyStore, InjectedFault, ManualClock, MemoryQueue, MemoryTable, PortCall,
    QueueBehavior, SeededRng,
};

/// Makes the tests of a back end, in one module.
///
/// ```ignore
/// audited_change_suite!(name, path::to::open, copies_by_itself: no);
/// ```
///
/// `open` gives a fresh [`StoreSubject`]; `copies_by_itself`: whether it copies an item within its service.
#[macro_export]
macro_rules! audited_change_suite {
    ($name:ident, $open:path, copies_by_itself: $copies:ident) => {
        mod $name {
            use $crate::audited_changes::{run, subject_copies_by_itself};

            #[test]
            fn the_declared_capability_is_its_own() {
                let copies = run(async { subject_copies_by_itself($open().await).await });
                assert_eq!(if copies { "yes" } else { "no" }, stringify!($copies));
            }

            #[test]
            fn each_action_makes_one_event_and_nothing_to_do_makes_none() {
                run($crate::audited_changes::each_action_makes_one_event_and_nothing_to_do_makes_none(|| $open()));
            }

            #[test]
            fn a_writer_killed_at_any_call_leaves_one_event_for_its_change_or_neither() {
                run($crate::audited_changes::a_writer_killed_at_any_call_leaves_one_event_for_its_change_or_neither(
                    || $open(),
                ));
            }
        }
    };
}

#[doc(hidden)]
pub use mill_conformance::subject::run;

/// The calls at which a writer is killed.
const CALLS: [PortCall; 12] = [
    PortCall::Query,
    PortCall::PutRow,
    PortCall::Head,
    PortCall::Space,
    PortCall::Put,
    PortCall::Take,
    PortCall::PutProperties,
    PortCall::Delete,
    PortCall::CreateSpace,
    PortCall::RemoveEmptySpace,
    PortCall::Send,
    PortCall::DeleteRow,
];

/// Each action makes one event of what it left. What is done already makes none.
pub async fn each_action_makes_one_event_and_nothing_to_do_makes_none(open: impl AsyncFn() -> StoreSubject) {
    let world = AuditedWorld::of(open().await).await;
    for action in world.actions() {
        let trial = world.trial().await;
        trial.act(action).await.unwrap();
        assert!(trial.is_done(action).await, "{action}");
        let events: Vec<AuditEvent> = world.events().await.into_values().collect();
        let [event] = &events[..] else { panic!("{action}: {events:?}") };
        assert_eq!((event.action, event.item.is_some()), (action, action.is_of_item()));
        if action == AuditAction::AddContent {
            let sums: Vec<String> = event.checksums.iter().map(ToString::to_string).collect();
            let sum = "sha256:8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92";
            assert!(sums.contains(&sum.to_owned()) && event.size == Some(6), "{event:?}");
        }
        if matches!(action, AuditAction::CreateSpace | AuditAction::DeleteSpace | AuditAction::DeleteContent) {
            trial.act(action).await.unwrap();
            assert_eq!(world.events().await.len(), 0, "{action}, with nothing to do");
        }
        assert_eq!(world.table.rows(), [], "{action}: its intent is gone");
    }
}

/// Kills a writer of each action at each of its calls, and lets another one try again or not.
pub async fn a_writer_killed_at_any_call_leaves_one_event_for_its_change_or_neither(
    open: impl AsyncFn() -> StoreSubject,
) {
    let world = AuditedWorld::of(open().await).await;
    let kills: Vec<_> =
        CALLS.into_iter().flat_map(|call| [(call, 1, false), (call, 1, true), (call, 2, false)]).collect();
    for action in world.actions() {
        let mut trials = Vec::new();
        for _ in &kills {
            trials.push(world.trial().await);
        }
        trials.last().unwrap().until_settled().await;
        let (mut killed, mut made) = (0, 0);
        for ((call, nth, again), trial) in kills.iter().zip(trials) {
            let came_to_it = world.killed_at(*call, *nth, trial.act(action)).await;
            killed += u32::from(came_to_it);
            made += u32::from(came_to_it && trial.is_done(action).await);
            if *again && !trial.is_done(action).await {
                trial.act(action).await.unwrap();
            }
            world.has_one_event_or_neither(&trial, action).await;
        }
        assert!(
            killed >= 8 && (1..killed).contains(&made),
            "{action}: {killed} were killed, {made} of them after the change"
        );
    }
}

/// Whether a subject copies items within its service.
#[doc(hidden)]
pub async fn subject_copies_by_itself(subject: StoreSubject) -> bool {
    AuditedWorld::of(subject).await.copies
}

/// An audited store, and everything between it and its writer, where the writer can be killed.
struct AuditedWorld {
    clock: Arc<ManualClock>,
    plan: Arc<FaultPlan>,
    subject: StoreSubject,
    queue: Arc<MemoryQueue>,
    table: Arc<MemoryTable>,
    audited: AuditedStore,
    /// Whether it copies the origin by itself.
    copies: bool,
    trials: AtomicU32,
}

/// More than the smallest part of a copy in parts.
const ORIGIN_BYTES: usize = 6_000_000;

impl AuditedWorld {
    async fn of(subject: StoreSubject) -> Self {
        let subject = subject.with_space().await;
        let (clock, chance) = (Arc::new(ManualClock::new()), Arc::new(SeededRng::new(7)));
        let plan = FaultPlan::new(clock.clone(), chance.clone());
        let address = StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() };
        let behavior = QueueBehavior::well_behaved();
        let queue = Arc::new(MemoryQueue::new(QueueName::Audit, behavior, clock.clone(), chance.clone(), None));
        let table = Arc::new(MemoryTable::new(AuditLog::TABLE));
        let faulty_table = Arc::new(FaultInjector::new(table.clone(), plan.clone()));
        let sender = AuditSender {
            queue: Arc::new(FaultInjector::new(queue.clone(), plan.clone())),
            log: AuditLog::new(faulty_table.clone()),
            clock: clock.clone(),
            chance,
        };
        let inner = Arc::new(FaultyStore::new(subject.store.clone(), address.clone(), plan.clone()));
        let audited = AuditedStore::new(inner, address, None, (Intents::new(faulty_table), sender));
        let mut world = Self { clock, plan, subject, queue, table, audited, copies: false, trials: AtomicU32::new(0) };
        put(&*world.subject.store, &origin(), "o".repeat(ORIGIN_BYTES), &Precondition::Absent).await.unwrap();
        world.copies = world.copy(&*world.subject.store, &Self::item("probe")).await.unwrap().is_some();
        world
    }

    /// The actions that the back end has. No store has properties of spaces.
    fn actions(&self) -> impl Iterator<Item = AuditAction> {
        let copies = self.copies;
        AuditAction::ALL.into_iter().filter(move |action| match action {
            AuditAction::CopyContent => copies,
            other => *other != AuditAction::UpdateSpaceProperties,
        })
    }

    fn item(name: &str) -> ItemAddress {
        ItemAddress { space: mill_conformance::store::space(), id: ContentId::new(name).unwrap() }
    }

    /// Lets a store copy the origin by itself, if it can.
    async fn copy(&self, store: &dyn DeletableStore, to: &ItemAddress) -> Result<Option<PutResult>, StoreError> {
        let facts = self.subject.store.head(&origin()).await?.present().unwrap();
        let Some(source) = self.subject.store.copy_source(&origin(), &facts) else { return Ok(None) };
        let content = PutRequest::new(ORIGIN_BYTES as u64, properties("v"));
        store.server_side_copy(to, &content, &Precondition::Absent, &source, &|_| true).await
    }

    /// Fresh items and spaces to change.
    async fn trial(&self) -> ChangeTrial<'_> {
        let number = self.trials.fetch_add(1, Ordering::Relaxed);
        let trial = ChangeTrial { world: self, number, settled: AtomicBool::new(true) };
        put(&*self.subject.store, &trial.item("there"), "12345", &Precondition::Absent).await.unwrap();
        self.subject.store.create_space(&trial.space("empty")).await.unwrap();
        trial
    }

    /// Runs `writer` until it makes the `nth` call of a kind, and then no further. Returns whether it came to it.
    async fn killed_at(&self, call: PortCall, nth: u64, writer: impl Future<Output = Result<(), StoreError>>) -> bool {
        let kills = || self.plan.fired().get(&(call, "delay")).copied().unwrap_or_default();
        let before = kills();
        self.plan.fail(call, nth, InjectedFault::Delay(Duration::from_hours(100_000)));
        let killed = async {
            while kills() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let came_to_it = tokio::select! {
            ended = writer => { ended.unwrap(); false }
            () = killed => true,
        };
        self.plan.calm();
        came_to_it
    }

    /// Settles what a lost writer left, and asserts what is known of its change.
    async fn has_one_event_or_neither(&self, trial: &ChangeTrial<'_>, action: AuditAction) {
        let done = trial.is_done(action).await;
        self.clock.step(Intents::SENT_AFTER);
        self.audited.settle().await.unwrap();
        let mut events: Vec<AuditEvent> = self.events().await.into_values().collect();
        self.clock.step(Intents::WRITER_LOST_AFTER);
        self.audited.settle().await.unwrap();
        events.extend(self.events().await.into_values());
        let certain = events.iter().filter(|event| event.certainty == EventCertainty::Certain).count();
        if trial.settled.load(Ordering::Relaxed) {
            assert_eq!((certain, events.len()), (usize::from(done), usize::from(done)), "{action}: {events:?}");
        } else {
            // The store was not sure of the version before: nobody can know of each change whether it was made.
            assert!(certain <= usize::from(done) && usize::from(done) <= events.len(), "{action}: {events:?}");
        }
        assert_eq!(self.table.rows(), [], "{action}");
    }

    /// The events in the queue, each id once.
    async fn events(&self) -> BTreeMap<EventId, AuditEvent> {
        let (mut events, at_once) = (BTreeMap::new(), NonZeroU32::new(10).unwrap());
        loop {
            let deliveries = self.queue.receive(at_once, Duration::from_mins(1), Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                return events;
            }
            for delivery in deliveries {
                self.queue.acknowledge(&[delivery.receipt]).await.unwrap().into_result().unwrap();
                let (id, sent_at) = (TaskId::new(Timestamp::default(), [0; 10]), Timestamp::default());
                let context = ReceiveContext { id, queue: QueueName::Audit, sent_at };
                let task = AuditTask::from_task(&wire::decode(&delivery.body, context).unwrap().task).unwrap();
                events.extend(task.events.into_iter().map(|event| (event.id, event)));
            }
        }
    }
}

fn origin() -> ItemAddress {
    AuditedWorld::item("origin")
}

async fn put(
    store: &dyn DeletableStore,
    item: &ItemAddress,
    bytes: impl Into<Bytes>,
    when: &Precondition,
) -> Result<(), StoreError> {
    let bytes = bytes.into();
    let content = PutRequest::new(bytes.len() as u64, properties("v"));
    let body = stream::iter([Ok(bytes)]).boxed();
    store.put(item, &content, when, body).await.map(drop)
}

fn properties(value: &str) -> Properties {
    Properties([("k".to_owned(), value.to_owned())].into())
}

/// One action upon items and spaces that no other trial has.
struct ChangeTrial<'a> {
    world: &'a AuditedWorld,
    number: u32,
    /// Whether each writer found a settled version.
    settled: AtomicBool,
}

impl ChangeTrial<'_> {
    fn item(&self, name: &str) -> ItemAddress {
        AuditedWorld::item(&format!("{name} {}", self.number))
    }

    fn space(&self, name: &str) -> SpaceId {
        SpaceId::new(format!("{name}-{}", self.number)).unwrap()
    }

    /// What stands at the back end, seen past the wrapper.
    async fn facts(&self, name: &str) -> Option<ItemFacts> {
        self.world.subject.store.head(&self.item(name)).await.unwrap().present()
    }

    /// Waits until the version of its item is settled.
    async fn until_settled(&self) {
        while !self.facts("there").await.unwrap().version.settled() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Does an action. New content is one byte longer than what was there.
    async fn act(&self, action: AuditAction) -> Result<(), StoreError> {
        let (audited, there) = (&self.world.audited, self.item("there"));
        let version = self.facts("there").await.map(|facts| facts.version);
        self.settled.fetch_and(version.as_ref().is_none_or(Version::settled), Ordering::Relaxed);
        let when = version.map_or(Precondition::Absent, Precondition::VersionIs);
        match action {
            AuditAction::AddContent => put(audited, &there, "123456", &when).await,
            AuditAction::CopyContent => self.world.copy(audited, &self.item("copy")).await.map(drop),
            AuditAction::UpdateContentProperties => {
                audited.put_properties(&there, &properties("w"), &when).await.map(drop)
            }
            AuditAction::DeleteContent => audited.delete(&there, &when).await.map(drop),
            AuditAction::CreateSpace => audited.create_space(&self.space("new")).await,
            AuditAction::DeleteSpace => audited.remove_empty_space(&self.space("empty")).await,
            AuditAction::UpdateSpaceProperties => panic!("no store has it"),
        }
    }

    /// Whether an action has been done, by the back end alone.
    async fn is_done(&self, action: AuditAction) -> bool {
        let store = &self.world.subject.store;
        match action {
            AuditAction::AddContent => self.facts("there").await.is_some_and(|facts| facts.size == 6),
            AuditAction::CopyContent => self.facts("copy").await.is_some(),
            AuditAction::UpdateContentProperties => {
                let facts = self.facts("there").await.unwrap();
                facts.properties.unwrap().get("k") == Some("w")
            }
            AuditAction::DeleteContent => self.facts("there").await.is_none(),
            AuditAction::CreateSpace => {
                matches!(store.space(&self.space("new")).await.unwrap(), Presence::Present(_))
            }
            AuditAction::DeleteSpace => matches!(store.space(&self.space("empty")).await.unwrap(), Presence::Absent),
            AuditAction::UpdateSpaceProperties => false,
        }
    }
}
