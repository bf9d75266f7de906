use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use futures::stream;
use mill_model::wire::{self, ReceiveContext};
use mill_model::{AuditTask, QueueName, TaskArgs as _, TaskId, Timestamp};
use mill_ports::TaskQueue as _;
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, FaultyStore, InjectedFault, MemoryQueue, MemoryStore, MemoryTable, PortCall,
    QueueBehavior, SeededRng, SimClock, StoreBehavior,
};

use super::*;
use crate::audit_log::AuditLog;

/// A store, its audited wrapper, and everything between that can fail.
struct Fixture {
    clock: Arc<SimClock>,
    plan: Arc<FaultPlan>,
    store: MemoryStore,
    queue: Arc<MemoryQueue>,
    table: Arc<MemoryTable>,
    audited: AuditedStore,
}

const ACTIONS: [AuditAction; 6] = [
    AuditAction::AddContent,
    AuditAction::CopyContent,
    AuditAction::UpdateContentProperties,
    AuditAction::DeleteContent,
    AuditAction::CreateSpace,
    AuditAction::DeleteSpace,
];

impl Fixture {
    fn new(checksums: Vec<Algorithm>) -> Self {
        Self::on(StoreBehavior { checksums, service: Some(1), ..StoreBehavior::default() })
    }

    fn on(behavior: StoreBehavior) -> Self {
        let clock = Arc::new(SimClock::new());
        let chance = Arc::new(SeededRng::new(7));
        let plan = FaultPlan::new(clock.clone(), chance.clone());
        let address = address();
        let store = MemoryStore::new(address.clone(), behavior, clock.clone());
        let queue = Arc::new(MemoryQueue::new(
            QueueName::Audit,
            QueueBehavior::well_behaved(),
            clock.clone(),
            chance.clone(),
            None,
        ));
        let table = Arc::new(MemoryTable::new("audit"));
        let faulty_table = Arc::new(FaultInjector::new(table.clone(), plan.clone()));
        let sender = AuditSender {
            queue: Arc::new(FaultInjector::new(queue.clone(), plan.clone())),
            log: AuditLog::new(faulty_table.clone()),
            clock: clock.clone(),
            chance,
        };
        let inner = Arc::new(FaultyStore::new(Arc::new(store.clone()), address.clone(), plan.clone()));
        let audited = AuditedStore::new(inner, address, Some(space("x-log")), (Intents::new(faulty_table), sender));
        store.insert_space(&space("s"));
        store.insert_space(&space("empty"));
        for id in ["there", "origin"] {
            store.insert(&item(id), "12345", Properties::default());
        }
        Self { clock, plan, store, queue, table, audited }
    }

    /// Does one action. The new content is one more byte long than what was there.
    async fn act(&self, action: AuditAction) -> Result<(), StoreError> {
        let content = || PutRequest::new(6, Properties([("k".to_owned(), "v".to_owned())].into()));
        match action {
            AuditAction::AddContent => {
                let body = stream::iter([Ok("123".into()), Ok("456".into())]).boxed();
                self.audited.put(&item("there"), &content(), &self.now_there().await, body).await.map(drop)
            }
            AuditAction::CopyContent => {
                let Presence::Present(facts) = self.store.head(&item("origin")).await? else { panic!("it is there") };
                let origin = self.store.copy_source(&item("origin"), &facts).expect("of the same service");
                let content = PutRequest::new(5, Properties([("k".to_owned(), "v".to_owned())].into()));
                let (to, going) = (item("copy"), |_| true);
                self.audited.server_side_copy(&to, &content, &Precondition::Absent, &origin, &going).await.map(drop)
            }
            AuditAction::UpdateContentProperties => {
                let properties = Properties([("k".to_owned(), "w".to_owned())].into());
                self.audited.put_properties(&item("there"), &properties, &self.now_there().await).await.map(drop)
            }
            AuditAction::DeleteContent => self.audited.delete(&item("there"), &self.now_there().await).await.map(drop),
            AuditAction::CreateSpace => self.audited.create_space(&space("new")).await,
            AuditAction::DeleteSpace => self.audited.remove_empty_space(&space("empty")).await,
            AuditAction::UpdateSpaceProperties => panic!("no store has it"),
        }
    }

    async fn now_there(&self) -> Precondition {
        match self.store.head(&item("there")).await.unwrap() {
            Presence::Present(facts) => Precondition::VersionIs(facts.version),
            Presence::Absent => Precondition::Absent,
        }
    }

    /// Whether the action has been done, by the store alone.
    async fn is_done(&self, action: AuditAction) -> bool {
        let content = |id| self.store.content(&item(id));
        match action {
            AuditAction::AddContent => content("there").is_some_and(|(bytes, _)| bytes.len() == 6),
            AuditAction::CopyContent => content("copy").is_some(),
            AuditAction::UpdateContentProperties => content("there").unwrap().1.get("k") == Some("w"),
            AuditAction::DeleteContent => content("there").is_none(),
            AuditAction::CreateSpace => matches!(self.store.space(&space("new")).await, Ok(Presence::Present(_))),
            AuditAction::DeleteSpace => matches!(self.store.space(&space("empty")).await, Ok(Presence::Absent)),
            AuditAction::UpdateSpaceProperties => false,
        }
    }

    /// The events in the queue, each id once.
    async fn events(&self) -> BTreeMap<mill_model::EventId, AuditEvent> {
        let mut events = BTreeMap::new();
        let at_once = NonZeroU32::new(10).unwrap();
        loop {
            let deliveries = self.queue.receive(at_once, Duration::from_mins(1), Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                return events;
            }
            for delivery in deliveries {
                self.queue.acknowledge(&[delivery.receipt]).await.unwrap().into_result().unwrap();
                let context = ReceiveContext {
                    id: TaskId::new(Timestamp::default(), [0; 10]),
                    queue: QueueName::Audit,
                    sent_at: Timestamp::default(),
                };
                let task = AuditTask::from_task(&wire::decode(&delivery.body, context).unwrap().task).unwrap();
                events.extend(task.events.into_iter().map(|event| (event.id, event)));
            }
        }
    }
}

fn address() -> StoreAddress {
    StoreAddress { account: "a".parse().unwrap(), store: "2".parse().unwrap() }
}

fn space(name: &str) -> SpaceId {
    SpaceId::new(name).unwrap()
}

fn item(id: &str) -> ItemAddress {
    ItemAddress { space: space("s"), id: ContentId::new(id).unwrap() }
}

#[tokio::test(start_paused = true)]
async fn each_action_makes_one_event_with_what_it_left() {
    for action in ACTIONS {
        let fixture = Fixture::new(vec![Algorithm::Md5]);
        fixture.act(action).await.unwrap();
        assert!(fixture.is_done(action).await, "{action}");
        let events: Vec<AuditEvent> = fixture.events().await.into_values().collect();
        let [event] = &events[..] else { panic!("{action}: {events:?}") };
        assert_eq!((event.action, event.source), (action, EventSource::Mill));
        assert_eq!(event.item.is_some(), action.is_of_item());
        if action == AuditAction::AddContent {
            let sums: Vec<String> = event.checksums.iter().map(ToString::to_string).collect();
            assert_eq!(sums[0], "sha256:8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92");
            assert_eq!(sums[1], "md5:e10adc3949ba59abbe56e057f20f883e");
            assert!(event.version.is_some() && event.size == Some(6));
        }
        assert!(event.version.is_some(), "{action}: what it left or deleted has a version, by which a repeat is known");
        assert_eq!(fixture.table.rows(), [], "{action}: its intent is gone");
        // Nothing to do makes no event.
        if matches!(action, AuditAction::CreateSpace | AuditAction::DeleteSpace | AuditAction::DeleteContent) {
            fixture.act(action).await.unwrap();
            assert_eq!(fixture.events().await.len(), 0, "{action}");
        }
    }
}

/// The calls after whose beginning a writer can be killed.
const CALLS: [PortCall; 10] = [
    PortCall::Query,
    PortCall::PutRow,
    PortCall::Head,
    PortCall::Space,
    PortCall::Put,
    PortCall::Take,
    PortCall::PutProperties,
    PortCall::Delete,
    PortCall::Send,
    PortCall::DeleteRow,
];

#[tokio::test(start_paused = true)]
async fn a_writer_killed_at_any_call_leaves_no_change_without_its_event_and_no_event_without_its_change() {
    let spaces = [PortCall::CreateSpace, PortCall::RemoveEmptySpace];
    let mut killed = 0;
    for action in ACTIONS {
        for call in CALLS.into_iter().chain(spaces) {
            for (nth, checksums) in [(1, vec![]), (1, vec![Algorithm::Md5]), (2, vec![Algorithm::Md5])] {
                for again in [false, true] {
                    if action == AuditAction::CopyContent && checksums.is_empty() {
                        continue;
                    }
                    let fixture = Fixture::new(checksums.clone());
                    let hang = InjectedFault::Delay(Duration::from_hours(1000));
                    fixture.plan.fail(call, nth, hang);
                    let ended = tokio::time::timeout(Duration::from_secs(100), fixture.act(action)).await;
                    killed += u32::from(ended.is_err());
                    fixture.plan.calm();
                    if again && !fixture.is_done(action).await {
                        // A retry finds the intent, and does it.
                        fixture.act(action).await.unwrap();
                    }
                    let done = fixture.is_done(action).await;
                    tokio::time::advance(Intents::SENT_AFTER).await;
                    fixture.audited.settle().await.unwrap();
                    let events = fixture.events().await;
                    assert_eq!(events.len(), usize::from(done), "{action} killed at {call} {nth}, again: {again}");
                    tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
                    fixture.audited.settle().await.unwrap();
                    assert_eq!(fixture.events().await.len(), 0);
                    assert_eq!(fixture.table.rows(), [], "{action} killed at {call} {nth}, again: {again}");
                }
            }
        }
    }
    assert!(killed > 100, "{killed}");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_has_one_event_also_when_it_is_tried_again() {
    for action in ACTIONS {
        for call in CALLS.into_iter().chain([PortCall::CreateSpace, PortCall::RemoveEmptySpace]) {
            for fault in [InjectedFault::After(FaultKind::Unexpected), InjectedFault::Before(FaultKind::Unexpected)] {
                let fixture = Fixture::new(vec![Algorithm::Md5]);
                fixture.plan.fail(call, 1, fault);
                let ended = fixture.act(action).await;
                let done = fixture.is_done(action).await;
                assert!(done || ended.is_err(), "{action}, {call} {fault:?}");
                if !done {
                    fixture.act(action).await.unwrap();
                }
                tokio::time::advance(Intents::SENT_AFTER).await;
                fixture.audited.settle().await.unwrap();
                assert_eq!(fixture.events().await.len(), 1, "{action}, {call} {fault:?}");
                tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
                fixture.audited.settle().await.unwrap();
                assert_eq!(
                    (fixture.events().await.len(), fixture.table.rows()),
                    (0, vec![]),
                    "{action}, {call} {fault:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_something_else_stands_the_entry_says_that_the_outcome_is_unknown() {
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    let hang = InjectedFault::Delay(Duration::from_hours(1000));
    fixture.plan.fail(PortCall::Send, 1, hang);
    let ended = tokio::time::timeout(Duration::from_secs(100), fixture.act(AuditAction::AddContent)).await;
    assert!(ended.is_err());
    fixture.plan.calm();
    fixture.store.insert(&item("there"), "something else", Properties::default());
    tokio::time::advance(Intents::SENT_AFTER).await;
    fixture.audited.settle().await.unwrap();
    assert_eq!(fixture.events().await.len(), 0, "its writer may be alive, and be refused");
    tokio::time::advance(Intents::SUPERSEDED_AFTER).await;
    fixture.audited.settle().await.unwrap();
    let events: Vec<AuditEvent> = fixture.events().await.into_values().collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].certainty, EventCertainty::Superseded);
    let _ = &fixture.clock;
}

#[tokio::test(start_paused = true)]
async fn what_a_later_writer_leaves_is_not_taken_for_the_change_of_a_lost_one() {
    // A writer is killed before it deletes what is there. Somebody replaces that, and another writer deletes the new item.
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    fixture.plan.fail(PortCall::Delete, 1, InjectedFault::Delay(Duration::from_hours(1000)));
    let ended = tokio::time::timeout(Duration::from_secs(100), fixture.act(AuditAction::DeleteContent)).await;
    assert!(ended.is_err());
    fixture.plan.calm();
    fixture.store.insert(&item("there"), "something else", Properties::default());
    fixture.act(AuditAction::DeleteContent).await.unwrap();
    tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
    fixture.audited.settle().await.unwrap();
    let events = fixture.events().await;
    let certain = events.values().filter(|event| event.certainty == EventCertainty::Certain).count();
    assert_eq!((certain, events.len()), (1, 2));
    assert_eq!(fixture.table.rows(), []);
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_lost_at_once_neither_is_said_to_have_certainly_made_the_one_change() {
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    let hang = InjectedFault::Delay(Duration::from_hours(1000));
    fixture.plan.fail(PortCall::Delete, 1, hang);
    fixture.plan.fail(PortCall::Send, 1, hang);
    // Both have written their intents before either of them goes on.
    let both = async { tokio::join!(fixture.act(AuditAction::DeleteContent), fixture.act(AuditAction::DeleteContent)) };
    assert!(tokio::time::timeout(Duration::from_secs(100), both).await.is_err());
    fixture.plan.calm();
    assert!(fixture.is_done(AuditAction::DeleteContent).await);
    tokio::time::advance(Intents::SUPERSEDED_AFTER + Duration::from_secs(1)).await;
    fixture.audited.settle().await.unwrap();
    let events = fixture.events().await;
    assert!(events.values().all(|event| event.certainty == EventCertainty::Superseded), "{events:?}");
    assert_eq!((events.len(), fixture.table.rows()), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_others_have_undone_and_made_again_is_not_forgotten() {
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    let (new, content) = (item("new"), PutRequest::new(1, Properties::default()));
    let put = || {
        let body = stream::iter([Ok("1".into())]).boxed();
        fixture.audited.put(&new, &content, &Precondition::Absent, body)
    };
    fixture.plan.fail(PortCall::Send, 1, InjectedFault::Delay(Duration::from_hours(1000)));
    assert!(tokio::time::timeout(Duration::from_secs(30), put()).await.is_err());
    fixture.plan.calm();
    let Presence::Present(facts) = fixture.store.head(&new).await.unwrap() else { panic!("it is there") };
    fixture.audited.delete(&new, &Precondition::VersionIs(facts.version)).await.unwrap();
    put().await.unwrap();
    tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
    fixture.audited.settle().await.unwrap();
    assert_eq!((fixture.events().await.len(), fixture.table.rows()), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_well_and_is_refused_has_no_event() {
    // One writer stands still before its write; another one makes the same change, and a third one looks.
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    let (new, content) = (item("new"), PutRequest::new(1, Properties::default()));
    let put = || {
        let body = stream::iter([Ok("1".into())]).boxed();
        fixture.audited.put(&new, &content, &Precondition::Absent, body)
    };
    fixture.plan.fail(PortCall::Put, 1, InjectedFault::Delay(Duration::from_secs(10)));
    let others = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        fixture.store.insert(&new, "1", Properties::default());
        put().await
    };
    let (slow, third) = tokio::join!(put(), others);
    assert!(slow.is_err() && third.is_err());
    tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
    fixture.audited.settle().await.unwrap();
    assert_eq!((fixture.events().await.len(), fixture.table.rows()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_looked_at_keeps_no_other_waiting() {
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    for action in [AuditAction::AddContent, AuditAction::CopyContent] {
        fixture.plan.fail(PortCall::Send, 1, InjectedFault::Delay(Duration::from_hours(1000)));
        assert!(tokio::time::timeout(Duration::from_secs(100), fixture.act(action)).await.is_err());
    }
    tokio::time::advance(Intents::SENT_AFTER).await;
    fixture.plan.fail(PortCall::Head, 1, InjectedFault::Before(FaultKind::Unexpected));
    assert!(fixture.audited.settle().await.is_err());
    assert_eq!(fixture.events().await.len(), 1);
    fixture.audited.settle().await.unwrap();
    assert_eq!(fixture.events().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_its_intent_cannot_be() {
    let fixture = Fixture::new(vec![Algorithm::Md5]);
    for action in ACTIONS {
        fixture.plan.fail(PortCall::PutRow, 1, InjectedFault::Before(FaultKind::Unavailable));
        assert!(fixture.act(action).await.is_err(), "{action}");
        assert!(!fixture.is_done(action).await, "{action}");
    }
    assert_eq!(fixture.events().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_respelled_makes_two_events_for_each_item_in_it() {
    let clock = Arc::new(SimClock::new());
    let fixture = Fixture::new(vec![]);
    let behavior = StoreBehavior { folds_names: true, ids_are_paths: true, ..StoreBehavior::default() };
    let store = MemoryStore::new(address(), behavior, clock);
    store.insert_space(&space("s"));
    for id in ["Dir/a", "Dir/b", "other"] {
        store.insert(&item(id), "1", Properties::default());
    }
    let Presence::Present(facts) = store.head(&item("Dir/a")).await.unwrap() else { panic!("it is there") };
    let (intents, sender) = (fixture.audited.intents.clone(), fixture.audited.sender.clone());
    let audited = AuditedStore::new(Arc::new(store.clone()), address(), None, (intents, sender));
    let respelling = Respelling {
        from: "Dir/".into(),
        to: "dir/".into(),
        compared: ContentId::new("Dir/a").unwrap(),
        version: facts.version,
    };
    assert!(audited.respell(&space("s"), &respelling).await.unwrap());
    let mut found: Vec<String> =
        fixture.events().await.into_values().map(|event| format!("{} {}", event.action, event.subject())).collect();
    found.sort();
    let expected = ["copy-content s/dir/a", "copy-content s/dir/b", "delete-content s/Dir/a", "delete-content s/Dir/b"];
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn the_log_does_not_record_itself() {
    let fixture = Fixture::new(vec![]);
    let log = space("x-log");
    let file = ItemAddress { space: log.clone(), id: ContentId::new("checkpoint").unwrap() };
    fixture.audited.create_space(&log).await.unwrap();
    let put = PutRequest::new(1, Properties::default());
    let body = stream::iter([Ok("1".into())]).boxed();
    fixture.audited.put(&file, &put, &Precondition::Absent, body).await.unwrap();
    fixture.audited.put_properties(&file, &Properties::default(), &Precondition::Always).await.unwrap();
    fixture.audited.delete(&file, &Precondition::Always).await.unwrap();
    fixture.audited.remove_empty_space(&log).await.unwrap();
    assert_eq!((fixture.events().await.len(), fixture.table.rows()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_a_process_left_that_is_known_to_be_dead_is_settled_at_once() {
    for call in [PortCall::Put, PortCall::Send] {
        let fixture = Fixture::new(vec![]);
        let dead = |name: &str, is_dead: bool| {
            let intents = fixture.audited.intents.clone().of_writer(name.into(), Arc::new(move |_| is_dead));
            AuditedStore::new(fixture.audited.inner.clone(), address(), None, (intents, fixture.audited.sender.clone()))
        };
        fixture.plan.fail(call, 1, InjectedFault::Delay(Duration::from_hours(1000)));
        let ended = tokio::time::timeout(Duration::from_secs(9), fixture.act(AuditAction::AddContent)).await;
        assert!(ended.is_err());
        fixture.plan.calm();
        assert_eq!(dead("other", false).settle().await.unwrap(), 0);
        assert_eq!(dead("other", true).settle().await.unwrap(), u64::from(call == PortCall::Send));
        assert_eq!(fixture.table.rows(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_whose_check_does_not_hold_any_more_after_the_intent() {
    for action in ACTIONS {
        let fixture = Fixture::new(vec![Algorithm::Md5]);
        let asked = fixture.table.clone();
        // The intent is written by then.
        let check: mill_ports::DeedCheck = Arc::new(move || {
            let written = asked.rows().len();
            Box::pin(async move { written == 0 })
        });
        let refused = mill_ports::with_deed_check(check, fixture.act(action)).await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::Precondition, "{action}");
        assert!(!fixture.is_done(action).await, "{action}");
        assert_eq!((fixture.events().await.len(), fixture.table.rows()), (0, vec![]), "{action}");
    }
}

/// S3 gives two states of one second and the same bytes one version.
#[tokio::test(start_paused = true)]
async fn a_lost_change_within_the_tick_of_the_version_before_it_is_said_to_be_unknown_and_never_forgotten() {
    let behavior = || StoreBehavior { version_tick: Some(Duration::from_mins(10)), ..StoreBehavior::default() };
    for (call, made) in [(PortCall::Send, true), (PortCall::PutProperties, false)] {
        let fixture = Fixture::on(behavior());
        fixture.plan.fail(call, 1, InjectedFault::Delay(Duration::from_hours(1000)));
        let action = AuditAction::UpdateContentProperties;
        assert!(tokio::time::timeout(Duration::from_secs(10), fixture.act(action)).await.is_err());
        fixture.plan.calm();
        assert_eq!(fixture.is_done(action).await, made);
        tokio::time::advance(Intents::SENT_AFTER).await;
        fixture.audited.settle().await.unwrap();
        assert_eq!(fixture.events().await.len(), 0, "it may be either");
        tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
        fixture.audited.settle().await.unwrap();
        let certainties: Vec<_> = fixture.events().await.into_values().map(|event| event.certainty).collect();
        assert_eq!(certainties, vec![EventCertainty::Superseded; usize::from(made)]);
        assert_eq!(fixture.table.rows(), []);
    }
    // A second writer of the same tick does not take the change of the lost one for not made.
    let fixture = Fixture::on(behavior());
    fixture.plan.fail(PortCall::Send, 1, InjectedFault::Delay(Duration::from_hours(1000)));
    let action = AuditAction::UpdateContentProperties;
    assert!(tokio::time::timeout(Duration::from_secs(10), fixture.act(action)).await.is_err());
    fixture.plan.calm();
    fixture.act(AuditAction::DeleteContent).await.unwrap();
    tokio::time::advance(Intents::WRITER_LOST_AFTER).await;
    fixture.audited.settle().await.unwrap();
    let certainties: Vec<_> =
        fixture.events().await.into_values().map(|event| (event.action, event.certainty)).collect();
    let expected = [(action, EventCertainty::Superseded), (AuditAction::DeleteContent, EventCertainty::Certain)];
    assert_eq!(certainties.len(), 2, "{certainties:?}");
    assert!(expected.iter().all(|one| certainties.contains(one)), "{certainties:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_leaves_the_version_before_it_does_not_pass_for_the_change_that_made_that_version() {
    let behavior = StoreBehavior { version_tick: Some(Duration::from_mins(10)), ..StoreBehavior::default() };
    let fixture = Fixture::on(behavior);
    fixture.act(AuditAction::AddContent).await.unwrap();
    fixture.act(AuditAction::UpdateContentProperties).await.unwrap();
    let index = crate::content_index::ContentIndex::new(Arc::new(MemoryTable::new("content-index")));
    let found = fixture.store.head(&item("there")).await.unwrap();
    let events = fixture.events().await;
    assert_eq!(events.len(), 2);
    for event in events.values() {
        let applied = index.apply(&address().account, event, Some(&found)).await.unwrap();
        assert_eq!(applied, crate::content_index::Applied::Current, "{event:?}");
    }
}
