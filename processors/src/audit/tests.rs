use mill_model::{EventSource, RemoveTask, Task, Timestamp};
use mill_ports::{DeletableStore as _, Precondition};
use mill_records::audit_log::entry::{ReadEntry, read_entry};
use mill_records::content_index::IndexedSpace;
use mill_records::policies::PolicyRepository;
use mill_transparency::{LogPath, LogVerifier, verify_log};

use super::*;
use crate::fixture::{Fixture, ProbeFault, account, at, audit_signer, audited_policy, fails, noted, space};

fn event(action: AuditAction, item: Option<&str>) -> AuditEvent {
    let at_time = Timestamp::from_millis(1_795_249_800_000);
    let facts = [action.as_str(), item.unwrap_or("-")];
    let item = item.map(|id| at(id).id);
    let subject = ("s".parse().unwrap(), space(), item);
    let mut event = AuditEvent::new(EventId::of_facts(at_time, &facts), subject, action, at_time, EventSource::Store);
    event.size = (action == AuditAction::AddContent).then_some(5);
    event
}

async fn record(fixture: &Fixture, events: Vec<AuditEvent>) -> Result<Vec<FollowUp>, ProcessorError> {
    record_under(fixture, audited_policy(true), events).await
}

async fn record_under(
    fixture: &Fixture,
    policies: PolicyRepository,
    events: Vec<AuditEvent>,
) -> Result<Vec<FollowUp>, ProcessorError> {
    let task = AuditTask { account: account(), events, stored: Vec::new() }.to_task().unwrap();
    match fixture.run_under(policies, &task).await? {
        TaskOutcome::Done { follow_ups } => Ok(follow_ups),
        other => panic!("{other:?}"),
    }
}

fn tasks<A: TaskArgs>(follow_ups: &[FollowUp]) -> Vec<A> {
    follow_ups.iter().filter_map(|follow_up| A::from_task(&follow_up.task).ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_logged_indexed_duplicated_at_once_and_soon_published() {
    let fixture = Fixture::new();
    fixture.source.insert(&at("x"), "12345", noted(""));
    let added = event(AuditAction::AddContent, Some("x"));
    let follow_ups = record(&fixture, vec![added.clone()]).await.unwrap();
    let copies: Vec<DuplicateTask> = tasks(&follow_ups);
    assert_eq!(copies, [DuplicateTask::of(Fixture::pair(), Some(at("x").id))]);
    assert_eq!(follow_ups[0].queue, QueueName::DuplicationHigh);
    let publish: Vec<PublishLogTask> = tasks(&follow_ups);
    assert_eq!((publish.len(), follow_ups.len()), (1, 2));
    let row = fixture.index.get(&indexed(), &at("x").id).await.unwrap().unwrap();
    assert_eq!((row.event, row.size), (added.id, Some(5)));

    let published = fixture.run_under(audited_policy(true), &publish[0].to_task().unwrap()).await.unwrap();
    assert_eq!(published, TaskOutcome::done());
    assert_eq!(log_entries(&fixture), [added.id]);

    // A repeat of the task makes no second entry, and asks once more for the copy.
    let again = record(&fixture, vec![added.clone()]).await.unwrap();
    assert_eq!(tasks::<DuplicateTask>(&again).len(), 1);
    for task in tasks::<PublishLogTask>(&again) {
        fixture.run_under(audited_policy(true), &task.to_task().unwrap()).await.unwrap();
    }
    assert_eq!(log_entries(&fixture), [added.id]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_overtaken_waits_and_has_not_failed() {
    let fixture = Fixture::new();
    let added = event(AuditAction::AddContent, Some("x"));
    let follow_ups = record(&fixture, vec![added.clone()]).await.unwrap();
    let task = tasks::<PublishLogTask>(&follow_ups)[0].to_task().unwrap();
    let checkpoint = ItemAddress { space: "x-audit-log".parse().unwrap(), id: "checkpoint".parse().unwrap() };
    let (store, item) = (fixture.destination.clone(), checkpoint.clone());
    let overtaken = ProbeFault::Before(Box::new(move || store.insert(&item, "another's", noted(""))));
    // The entry and its tile are written first, each again once there is a space.
    fixture.destination_port.meet("put", std::iter::repeat_with(|| ProbeFault::Clear).take(4));
    fixture.destination_port.meet("put", [overtaken]);
    let outcome = fixture.run_under(audited_policy(true), &task).await.unwrap();
    assert!(matches!(outcome, TaskOutcome::Snooze { .. }), "{outcome:?}");
    fixture.destination.delete(&checkpoint, &Precondition::Always).await.unwrap();
    assert_eq!(fixture.run_under(audited_policy(true), &task).await.unwrap(), TaskOutcome::done());
    assert_eq!(log_entries(&fixture), [added.id]);
}

fn indexed() -> IndexedSpace {
    IndexedSpace { account: account(), store: "s".parse().unwrap(), space: space() }
}

/// The ids of the events in the published log, which is verified.
fn log_entries(fixture: &Fixture) -> Vec<EventId> {
    let contents = fixture.destination.contents(&"x-audit-log".parse().unwrap()).unwrap();
    let read = |path: LogPath| contents.get(&path.to_string().parse().unwrap()).map(|(bytes, _)| bytes.to_vec());
    let verifier = LogVerifier::new(vec![audit_signer().public().clone()]).unwrap();
    let checkpoint = verifier.open(&read(LogPath::Checkpoint).unwrap()).unwrap().checkpoint;
    let mut ids = Vec::new();
    let visit = |_, entry: &[u8]| match read_entry(entry).unwrap() {
        ReadEntry::Whole(entry) => ids.push(entry.event.id),
        ReadEntry::Beside(large) => ids.push(large.id),
    };
    verify_log(&checkpoint, None, |path| Ok::<_, ()>(read(path)), visit).unwrap();
    ids
}

#[tokio::test(start_paused = true)]
async fn without_a_log_a_change_is_indexed_and_duplicated_all_the_same() {
    let fixture = Fixture::new();
    let follow_ups =
        record_under(&fixture, crate::fixture::policy(true), vec![event(AuditAction::AddContent, Some("x"))])
            .await
            .unwrap();
    assert_eq!((tasks::<DuplicateTask>(&follow_ups).len(), follow_ups.len()), (1, 1));
    assert!(fixture.index.get(&indexed(), &at("x").id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_an_account_that_is_not_listed_is_a_dead_letter_and_not_forgotten() {
    let fixture = Fixture::new();
    let nobody = PolicyRepository::fixed(Vec::new());
    let failure = record_under(&fixture, nobody, vec![event(AuditAction::AddContent, Some("x"))]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(mill_ports::error_chain(&failure).contains("list it again and retry this"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn events_of_a_space_or_of_other_stores_make_the_tasks_that_follow_from_them() {
    let fixture = Fixture::new();
    let space_tasks = |action| {
        let fixture = &fixture;
        async move { tasks::<DuplicateTask>(&record(fixture, vec![event(action, None)]).await.unwrap()) }
    };
    assert_eq!(space_tasks(AuditAction::CreateSpace).await, [DuplicateTask::of(Fixture::pair(), None)]);
    assert_eq!(space_tasks(AuditAction::UpdateSpaceProperties).await.len(), 1);
    assert_eq!(space_tasks(AuditAction::DeleteSpace).await.len(), 0);
    let mut of_copy = event(AuditAction::AddContent, Some("x"));
    of_copy.store = "d".parse().unwrap();
    assert_eq!(tasks::<DuplicateTask>(&record(&fixture, vec![of_copy]).await.unwrap()).len(), 0);
    // The log does not record itself.
    let mut of_log = event(AuditAction::AddContent, Some("checkpoint"));
    (of_log.store, of_log.space) = ("d".parse().unwrap(), "x-audit-log".parse().unwrap());
    assert_eq!(record(&fixture, vec![of_log]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_looked_at_leaves_the_index_as_it_was() {
    let fixture = Fixture::new();
    let first = event(AuditAction::AddContent, Some("x"));
    record(&fixture, vec![first.clone()]).await.unwrap();
    for kind in crate::fixture::every_error() {
        if kind == StoreErrorKind::SpaceAbsent {
            continue;
        }
        fixture.source_port.meet("head", fails(&kind, 3));
        let failure = record(&fixture, vec![event(AuditAction::DeleteContent, Some("x"))]).await;
        assert!(failure.is_err(), "{kind:?}");
        let row = fixture.index.get(&indexed(), &at("x").id).await.unwrap().unwrap();
        assert_eq!((row.event, row.deleted), (first.id, false), "{kind:?}");
        fixture.source_port.clear();
    }
}

/// A fixture in which the pair has copied these items, and a survey knows the places.
async fn in_sync(items: usize) -> Fixture {
    let fixture = Fixture::new();
    fixture.own().await;
    for number in 0..items {
        let id = format!("{number:03}");
        fixture.source.insert(&at(&id), "12345", noted(""));
        fixture.run(&id).await.unwrap();
    }
    let mut state = fixture.delete_lists.pair(&Fixture::pair()).await.unwrap();
    let places = mill_ports::SourceStore::places(&fixture.source, &at("000")).await.unwrap();
    state.record.accept_places(places, &[]);
    fixture.delete_lists.save_pair(&Fixture::pair(), &mut state).await.unwrap();
    fixture
}

async fn delete(fixture: &Fixture, id: &str) -> Vec<Task> {
    fixture.source.remove(&at(id));
    let follow_ups = record(fixture, vec![event(AuditAction::DeleteContent, Some(id))]).await.unwrap();
    tasks::<RemoveTask>(&follow_ups).iter().map(|task| task.to_task().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deleted_item_goes_from_the_copy_by_a_list_of_its_own() {
    let fixture = in_sync(10).await;
    let removes = delete(&fixture, "003").await;
    assert_eq!(removes.len(), 1);
    // The same event has the same list: nothing more is granted.
    assert_eq!(delete(&fixture, "003").await, removes);
    let mut state = fixture.delete_lists.pair(&Fixture::pair()).await.unwrap();
    assert_eq!(state.record.unasked_today(&*fixture.clock), 1);
    fixture.run_under(audited_policy(true), &removes[0]).await.unwrap();
    assert!(fixture.in_sync());
    assert_eq!(delete(&fixture, "003").await, removes, "and its task finds its result");
}

#[tokio::test(start_paused = true)]
async fn deletes_beyond_the_rule_s_few_are_left_to_the_survey() {
    let fixture = in_sync(60).await;
    let mut granted = 0;
    for number in 0..30 {
        granted += delete(&fixture, &format!("{number:03}")).await.len();
    }
    assert_eq!(granted, 20);
    let small = in_sync(5).await;
    let mut granted = 0;
    for number in 0..5 {
        granted += delete(&small, &format!("{number:03}")).await.len();
    }
    assert!(granted < 3, "less than half of a space: {granted}");
}

#[tokio::test(start_paused = true)]
async fn no_delete_is_granted_in_any_doubt() {
    // It is back, or was never gone.
    let fixture = in_sync(10).await;
    let event_of = |id| vec![event(AuditAction::DeleteContent, Some(id))];
    assert_eq!(tasks::<RemoveTask>(&record(&fixture, event_of("001")).await.unwrap()), []);
    // The copy is not what this pair wrote.
    fixture.destination.insert(&at("001"), "other", noted(""));
    assert_eq!(delete(&fixture, "001").await, []);
    // The policy keeps what vanished.
    fixture.source.remove(&at("002"));
    let kept = record_under(&fixture, audited_policy(false), event_of("002")).await.unwrap();
    assert_eq!(tasks::<RemoveTask>(&kept), []);
    // No survey has seen the places, or they are others now.
    for change in [false, true] {
        let fixture = in_sync(10).await;
        let mut state = fixture.delete_lists.pair(&Fixture::pair()).await.unwrap();
        let other = mill_ports::Place { path: String::new(), identity: "another disk".into() };
        state.record.accept_places(change.then_some(other), &[]);
        fixture.delete_lists.save_pair(&Fixture::pair(), &mut state).await.unwrap();
        assert_eq!(delete(&fixture, "003").await, [], "{change}");
    }
    // The source space is not there.
    let fixture = in_sync(10).await;
    fixture.source.remove_space(&space());
    assert_eq!(delete(&fixture, "003").await, []);
    assert_eq!(fixture.destination.contents(&space()).unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_a_person_must_confirm_is_not_gone_round() {
    let fixture = in_sync(10).await;
    let mut state = fixture.delete_lists.pair(&Fixture::pair()).await.unwrap();
    let list = mill_model::DeleteListId::new(Timestamp::default(), [3; 10]);
    state.record.set_list(Some(list));
    fixture.delete_lists.save_pair(&Fixture::pair(), &mut state).await.unwrap();
    assert_eq!(delete(&fixture, "003").await, []);
}
