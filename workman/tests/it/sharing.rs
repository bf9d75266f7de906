//! A store's cap applies to all workmen together, by a table that they share.

use std::time::Duration;

use mill_ports::TaskOutcome;
use mill_testkit::{FaultKind, InjectedFault, PortCall};
use mill_workman::{Heartbeat, StopSignal, Workman};

use crate::admission::{most_at_once, send};
use crate::fixture::{Fixture, secs};
use crate::probe::store_of;

/// Tasks take ten seconds; of account `slow` two may run at once, across all workmen.
fn fixture() -> Fixture {
    let fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(10)).await;
        Ok(TaskOutcome::done())
    });
    fixture.caps.set(&store_of("slow"), 2);
    fixture
}

/// Two workmen, until they are told to stop.
async fn both_work(fixture: &Fixture, one: (Workman, Heartbeat), other: (Workman, Heartbeat)) {
    let (one_ended, (), other_ended, ()) =
        futures::join!(one.0.run(fixture.stop.clone()), one.1.run(), other.0.run(fixture.stop.clone()), other.1.run());
    one_ended.and(other_ended).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stores_cap_holds_over_all_workmen_and_is_used() {
    let mut fixture = fixture();
    fixture.shares();
    send(&fixture, "slow", 30).await;
    let (one, other) = (fixture.another("one"), fixture.another("other"));
    let both = both_work(&fixture, one, other);
    let emptied = async {
        fixture.emptied().await;
        fixture.stop.gentle.cancel();
        fixture.clock.monotonic().since_origin()
    };
    let ((), took) = futures::join!(both, emptied);
    assert_eq!(most_at_once(&fixture.probe.events(), "slow"), 2);
    assert!(took < secs(15 * 10 + 60), "no permit lies idle while tasks wait for it: {took:?}");
    assert_eq!(fixture.probe.begun().len(), 30, "none began twice");
}

#[tokio::test(start_paused = true)]
async fn permits_of_a_workman_that_died_are_used_again_once_they_have_run_out() {
    let mut fixture = fixture();
    fixture.shares();
    send(&fixture, "slow", 4).await;
    let (dead, heartbeat) = fixture.another("dead");
    let death = fixture.pass(secs(5));
    let lived = async { futures::join!(dead.run(StopSignal::default()), heartbeat.run()) };
    futures::future::select(Box::pin(lived), Box::pin(death)).await;
    assert_eq!(fixture.probe.begun().len(), 2);
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.ended().len(), 4);
    let mut begun: Vec<u64> = (0..4).flat_map(|n| fixture.probe.begun_at(&format!("slow/{n}"))).collect();
    begun.sort_unstable();
    assert!(begun.len() == 6 && (60..135).contains(&begun[2]), "not before they have surely run out: {begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workman_that_stops_leaves_its_permits_to_others_at_once() {
    let mut fixture = fixture();
    fixture.shares();
    send(&fixture, "slow", 10).await;
    fixture.work(fixture.pass(secs(15))).await.unwrap();
    let ended = fixture.clock.monotonic();
    fixture.stop = StopSignal::default();
    let (next, heartbeat) = fixture.another("next");
    let soon = async {
        fixture.pass(secs(5)).await;
        assert_eq!(fixture.probe.begun().len(), 6, "{:?}", fixture.clock.monotonic().since(ended));
        fixture.stop.gentle.cancel();
    };
    futures::join!(next.run(fixture.stop.clone()), heartbeat.run(), soon).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn permits_cost_no_row_a_task_and_none_where_a_store_has_no_cap() {
    let mut fixture = fixture();
    let table = fixture.shares();
    send(&fixture, "quick", 100).await;
    fixture.work_off().await.unwrap();
    assert_eq!(table.calls(PortCall::GetRow).calls + table.calls(PortCall::PutRow).calls, 0);
    fixture.stop = StopSignal::default();
    send(&fixture, "slow", 60).await;
    let began = fixture.clock.monotonic();
    fixture.work_off().await.unwrap();
    let beats = fixture.clock.monotonic().since(began).as_secs() / 20;
    let written = table.calls(PortCall::PutRow).calls;
    assert!(written <= beats + 3, "{written} writes in {beats} thirds of the timeout");
}

#[tokio::test(start_paused = true)]
async fn while_the_table_does_not_answer_tasks_of_capped_stores_wait_and_all_others_go_on() {
    let mut fixture = fixture();
    fixture.shares();
    for nth in 1..60 {
        fixture.plan.fail(PortCall::GetRow, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    send(&fixture, "slow", 5).await;
    send(&fixture, "quick", 20).await;
    fixture.work_off().await.unwrap();
    let ended = fixture.probe.ended();
    assert!(ended[..20].iter().all(|item| item.starts_with("quick")), "{ended:?}");
    assert_eq!((ended.len(), fixture.letters().len()), (25, 0));
}

#[tokio::test(start_paused = true)]
async fn a_workman_that_cannot_keep_its_permits_lets_go_before_others_begin() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(Duration::from_mins(5)).await;
        Ok(TaskOutcome::done())
    });
    fixture.caps.set(&store_of("slow"), 1);
    fixture.shares();
    send(&fixture, "slow", 2).await;
    let (one, other) = (fixture.another("one"), fixture.another("other"));
    let both = both_work(&fixture, one, other);
    let during = async {
        fixture.pass(secs(30)).await;
        // From now on, nobody can write the row for a while.
        for nth in 1..300 {
            fixture.plan.fail(PortCall::PutRow, nth, InjectedFault::Before(FaultKind::Unavailable));
        }
        fixture.pass(secs(100)).await;
        assert_eq!(fixture.probe.begun().len(), 1, "what was begun is let go, and nothing else begins");
        fixture.plan.calm();
        fixture.emptied().await;
        fixture.stop.gentle.cancel();
    };
    futures::join!(both, during);
    assert_eq!(most_at_once(&fixture.probe.events(), "slow"), 1);
    assert_eq!((fixture.probe.ended().len(), fixture.letters().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_lowered_beneath_what_runs_asks_the_table_no_more_often() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(Duration::from_mins(10)).await;
        Ok(TaskOutcome::done())
    });
    fixture.caps.set(&store_of("slow"), 3);
    let table = fixture.shares();
    send(&fixture, "slow", 5).await;
    fixture
        .work(async {
            fixture.pass(secs(5)).await;
            fixture.caps.set(&store_of("slow"), 1);
            fixture.emptied().await;
        })
        .await
        .unwrap();
    let minutes = fixture.clock.monotonic().since_origin().as_secs() / 60;
    // Three beats a minute, and one request every two seconds for waiting tasks.
    assert!(
        table.calls(PortCall::PutRow).calls <= minutes * 35,
        "{:?} in {minutes} minutes",
        table.calls(PortCall::PutRow)
    );
}
