//! A list of a whole space: its items, and the space itself once they are settled.

use std::time::Duration;

use super::*;
use mill_ports::{StoreErrorKind, Table};
use mill_testkit::PortCall;
use mill_testkit::{FaultInjector, FaultKind, FaultPlan, InjectedFault};

/// A granted list of a space that is gone at its source: of two items in two rows.
async fn granted() -> Fixture {
    let site = orphaned(&["a", "b"]).await;
    site.list(
        DeletionScope::Space,
        DeleteListState::Granted { by: GrantedBy::Person("ann".into()), at: 1 },
        &[&["a"], &["b"]],
    )
    .await;
    site
}

async fn run(site: &Fixture, row: Option<u32>) -> Result<TaskOutcome, ProcessorError> {
    site.remove_under(policy(true), task(row), &site.attempt()).await
}

async fn rows(site: &Fixture) {
    for row in 0..2 {
        assert_eq!(run(site, Some(row)).await.unwrap(), TaskOutcome::done());
    }
}

async fn owner(site: &Fixture) -> Option<StoreAddress> {
    site.owners.owner(&Fixture::place()).await.unwrap()
}

/// Runs the task of the space until it waits no longer, and gives how long it waited.
async fn wait_out(site: &Fixture) -> Duration {
    let mut attempt = site.attempt();
    let mut waited = Duration::ZERO;
    loop {
        match site.remove_under(policy(true), task(None), &attempt).await.unwrap() {
            TaskOutcome::Snooze { delay, task: None } => waited += delay,
            outcome => break assert_eq!(outcome, TaskOutcome::done()),
        }
        attempt.envelope.snoozes += 1;
        assert!(attempt.envelope.snoozes < 100);
    }
    waited
}

fn person_done(deleted: u64) -> DeleteListState {
    DeleteListState::Done { by: GrantedBy::Person("ann".into()), deleted }
}

#[tokio::test(start_paused = true)]
async fn a_space_waits_for_all_its_rows_then_goes_and_releases_its_owner() {
    let site = granted().await;
    for row in 0..2 {
        assert!(matches!(run(&site, None).await.unwrap(), TaskOutcome::Snooze { task: None, .. }), "before row {row}");
        assert_eq!(run(&site, Some(row)).await.unwrap(), TaskOutcome::done());
    }
    assert_eq!(site.left().unwrap(), [""; 0]);
    assert_eq!(owner(&site).await, Some(store_address("s")));
    assert_eq!(run(&site, None).await.unwrap(), TaskOutcome::done());
    assert_eq!((site.left(), owner(&site).await), (None, None));
    assert_eq!(site.state().await, person_done(2));
    assert!(is_discard(&run(&site, None).await.unwrap(), "not granted"), "twice is harmless");
    assert_eq!(site.source.writes(), 0);
    // Another source may claim it now.
    site.owners.claim(&Fixture::place(), &store_address("t")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_space_goes_without_any_row() {
    let site = orphaned(&[]).await;
    site.list(DeletionScope::Space, GRANTED, &[]).await;
    assert_eq!(run(&site, None).await.unwrap(), TaskOutcome::done());
    assert_eq!((site.left(), owner(&site).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_space_that_is_back_keeps_its_items_and_itself() {
    let site = granted().await;
    site.source.insert_space(&space());
    rows(&site).await;
    assert_eq!((site.result(0).await, site.result(1).await), (Some(kept(1)), Some(kept(1))));
    assert!(is_discard(&run(&site, None).await.unwrap(), "its source space is back"));
    assert_eq!(site.left().unwrap(), ["a", "b"]);
    assert_eq!(owner(&site).await, Some(store_address("s")));
    assert_eq!(site.destination.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_space_that_comes_back_while_its_rows_are_done_keeps_what_is_left() {
    let site = granted().await;
    run(&site, Some(0)).await.unwrap();
    let source = site.source.clone();
    site.source_port.meet("space", [ProbeFault::Before(Box::new(move || source.insert_space(&space())))]);
    run(&site, Some(1)).await.unwrap();
    assert_eq!((site.left().unwrap(), site.result(1).await), (vec!["b".to_owned()], Some(kept(1))));
    // A space that is back when all its items are gone stays, empty.
    let site = granted().await;
    rows(&site).await;
    site.source.insert_space(&space());
    assert!(is_discard(&run(&site, None).await.unwrap(), "its source space is back"));
    assert_eq!((site.left().unwrap().len(), owner(&site).await), (0, Some(store_address("s"))));
}

#[tokio::test(start_paused = true)]
async fn a_space_that_was_back_and_is_gone_again_keeps_what_its_rows_kept() {
    let site = granted().await;
    site.source.insert_space(&space());
    rows(&site).await;
    site.source.remove_space(&space());
    rows_have_results(&site).await;
    wait_out(&site).await;
    assert_eq!(site.left().unwrap(), ["a", "b"]);
    assert_eq!(site.state().await, person_done(0), "what is left needs another list, and another grant");
    assert_eq!(owner(&site).await, Some(store_address("s")));
}

async fn rows_have_results(site: &Fixture) {
    for row in 0..2 {
        assert!(is_discard(&run(site, Some(row)).await.unwrap(), "has its result already"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_waits_for_its_rows_a_bounded_while_and_its_list_stays_granted() {
    let site = granted().await;
    let waited = wait_out(&site).await;
    assert!((Duration::from_mins(10)..Duration::from_mins(20)).contains(&waited), "{waited:?}");
    assert_eq!(site.left().unwrap(), ["a", "b"]);
    assert!(matches!(site.state().await, DeleteListState::Granted { .. }), "its rows are sent again by the next run");
    rows(&site).await;
    run(&site, None).await.unwrap();
    assert_eq!(site.left(), None);
}

#[tokio::test(start_paused = true)]
async fn the_waits_double_up_to_a_minute() {
    let site = granted().await;
    for (snoozes, delay) in [(0, 1), (1, 2), (4, 16), (5, 32), (6, 60), (19, 60)] {
        let mut attempt = site.attempt();
        attempt.envelope.snoozes = snoozes;
        let outcome = site.remove_under(policy(true), task(None), &attempt).await.unwrap();
        assert_eq!(outcome, TaskOutcome::Snooze { delay: Duration::from_secs(delay), task: None });
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_in_which_something_else_stands_stays_with_its_owner_and_ends_its_list() {
    let site = granted().await;
    site.destination.insert(&at("new"), "theirs", noted("n"));
    rows(&site).await;
    let waited = wait_out(&site).await;
    assert!((Duration::from_mins(10)..Duration::from_mins(20)).contains(&waited), "{waited:?}");
    assert_eq!(site.left().unwrap(), ["new"]);
    assert_eq!((owner(&site).await, site.state().await), (Some(store_address("s")), person_done(2)));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_items_removes_no_space() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.remove().await.unwrap();
    site.source.remove_space(&space());
    assert!(is_discard(&run(&site, None).await.unwrap(), "of items, not of the space"));
    assert_eq!(site.left().unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_space_goes_only_by_grant_policy_and_owner() {
    for case in ["held", "withdrawn", "policy keeps", "not covered", "nobody's", "another's"] {
        let site = granted().await;
        rows(&site).await;
        let mut repository = policy(true);
        match case {
            "held" => {
                let reason = HoldReason::SpaceMissing { since: 1, for_a_day: true };
                site.set_state(DeleteListState::Held { reason }).await;
            }
            "withdrawn" => site.set_state(DeleteListState::Withdrawn).await,
            "policy keeps" => repository = policy(false),
            "not covered" => repository = NoPolicy::CoversNothing.repository(),
            "nobody's" => drop(site.owners.release(&Fixture::place()).await.unwrap()),
            _ => {
                site.owners.release(&Fixture::place()).await.unwrap();
                site.owners.claim(&Fixture::place(), &store_address("t")).await.unwrap();
            }
        }
        let before = (owner(&site).await, site.state().await);
        let outcome = site.remove_under(repository, task(None), &site.attempt()).await.unwrap();
        assert!(is_discard(&outcome, ""), "{case} {outcome:?}");
        assert!(site.left().is_some(), "{case}");
        assert_eq!((owner(&site).await, site.state().await), before, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_error_of_either_side_removes_a_space() {
    for kind in every_error() {
        for (port, op) in [("s", "space"), ("d", "remove_empty_space")] {
            let site = granted().await;
            rows(&site).await;
            let probe = if port == "s" { &site.source_port } else { &site.destination_port };
            probe.meet(op, fails(&kind, 3));
            let _ = run(&site, None).await;
            assert!(site.left().is_some(), "{port} {op} {kind:?}");
            assert_eq!(owner(&site).await, Some(store_address("s")));
            assert!(matches!(site.state().await, DeleteListState::Granted { .. }));
            probe.clear();
            assert_eq!(run(&site, None).await.unwrap(), TaskOutcome::done());
            assert_eq!((site.left(), owner(&site).await), (None, None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_ended_removes_no_space() {
    let site = granted().await;
    rows(&site).await;
    let attempt = site.attempt();
    attempt.lease.extend(site.clock.monotonic());
    let answer = site.remove_under(policy(true), task(None), &attempt).await;
    assert_eq!(class(answer), FailureClass::LeaseLost);
    assert!(site.left().is_some());
}

fn failing_once(site: &Fixture, op: PortCall) -> Arc<FaultPlan> {
    let plan = FaultPlan::new(site.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    plan.fail(op, 1, InjectedFault::Before(FaultKind::Unavailable));
    plan
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_could_not_be_released_is_released_by_the_next_attempt() {
    let mut site = granted().await;
    rows(&site).await;
    let table: Arc<dyn Table> = Arc::new(mill_testkit::MemoryTable::new("owners"));
    site.owners =
        Owners::new(Arc::new(FaultInjector::<dyn Table>::new(table, failing_once(&site, PortCall::DeleteRow))));
    site.own().await;
    assert_eq!(class(run(&site, None).await), FailureClass::Retryable);
    assert_eq!((site.left(), owner(&site).await), (None, Some(store_address("s"))));
    assert_eq!(run(&site, None).await.unwrap(), TaskOutcome::done());
    assert_eq!((owner(&site).await, site.state().await), (None, person_done(2)));
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_end_could_not_be_noted_does_nothing_more() {
    let mut site = granted().await;
    rows(&site).await;
    let table: Arc<dyn Table> = site.lists_table.clone();
    site.delete_lists =
        DeleteLists::new(Arc::new(FaultInjector::<dyn Table>::new(table, failing_once(&site, PortCall::PutRow))));
    assert_eq!(class(run(&site, None).await), FailureClass::Retryable);
    assert_eq!((site.left(), owner(&site).await), (None, None));
    // The space is copied again, and gone again.
    site.own().await;
    site.destination.insert(&at("a"), "a", noted("n"));
    rows_have_results(&site).await;
    wait_out(&site).await;
    assert_eq!((site.left().unwrap(), site.state().await), (vec!["a".to_owned()], person_done(2)));
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_is_lost_is_made_again() {
    let site = granted().await;
    rows(&site).await;
    site.destination_port.meet("remove_empty_space", [ProbeFault::DoneAndFails(StoreErrorKind::Unexpected)]);
    assert_eq!(run(&site, None).await.unwrap(), TaskOutcome::done());
    assert_eq!((site.left(), owner(&site).await, site.state().await), (None, None, person_done(2)));
}
