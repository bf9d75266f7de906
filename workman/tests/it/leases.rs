//! Leases: received tasks stay hidden from others, and a workman stops in time if it cannot extend them.

use std::sync::Arc;
use std::time::Duration;

use mill_model::Monotonic;
use mill_ports::{FailureClass, TaskOutcome};
use mill_testkit::{FaultKind, InjectedFault, PortCall, QueueBehavior};
use parking_lot::Mutex;

use crate::fixture::{Fixture, HIGH, secs};
use crate::probe::{Event, failed};

#[tokio::test(start_paused = true)]
async fn the_heartbeat_keeps_long_tasks_from_coming_again() {
    let fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(3600)).await;
        Ok(TaskOutcome::done())
    });
    for n in 0..20 {
        fixture.send(HIGH, &format!("{n}")).await;
    }
    // Now and then the queue does not answer; each lease has more than one chance.
    for nth in (1..2000).step_by(3) {
        fixture.plan.fail(PortCall::Extend, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.probe.begun().len(), fixture.probe.ended().len()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn extensions_go_in_batches_and_only_for_long_tasks() {
    let fixture = Fixture::new(|clock, call| async move {
        clock.sleep(secs(if call.item == "long" { 100 } else { 15 })).await;
        Ok(TaskOutcome::done())
    });
    for n in 0..30 {
        fixture.send(HIGH, &format!("{n}")).await;
    }
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun().len(), 30);
    assert!(fixture.plan.fired().is_empty());
}

/// The receive count, when it acted, and until when it was allowed to.
type Acts = Arc<Mutex<Vec<(u32, Monotonic, Monotonic)>>>;

/// Acts each second as long as it may, and records when.
fn acting(acts: &Acts) -> Fixture {
    let acts = acts.clone();
    Fixture::new(move |clock, call| {
        let acts = acts.clone();
        async move {
            for _ in 0..300 {
                clock.sleep(secs(1)).await;
                call.attempt.may_act()?;
                let lease = call.attempt.lease.deadline();
                acts.lock().push((call.attempt.receive_count, clock.monotonic(), lease));
            }
            Ok(TaskOutcome::done())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_attempt_before_its_next_side_effect() {
    let acts = Acts::default();
    let fixture = acting(&acts);
    fixture.send(HIGH, "a").await;
    fixture
        .work(async {
            for nth in 1..40 {
                fixture.plan.fail(PortCall::Extend, nth, InjectedFault::Before(FaultKind::Unavailable));
            }
            // Three fail while the first attempt has its lease; then the queue answers again.
            fixture.pass(secs(61)).await;
            fixture.plan.calm();
            fixture.emptied().await;
        })
        .await
        .unwrap();
    let acts = acts.lock();
    let first: Vec<_> = acts.iter().filter(|(receive, _, _)| *receive == 1).collect();
    assert!(first.len() >= 55 && first.len() < 60, "it acted as long as it might: {}", first.len());
    assert!(acts.iter().all(|(_, at, deadline)| at < deadline));
    let second = acts.iter().find(|(receive, _, _)| *receive == 2).unwrap();
    assert!(first.iter().all(|(_, at, _)| *at < second.1), "never two at once");
    assert_eq!(acts.iter().filter(|(receive, _, _)| *receive == 2).count(), 300);
}

#[tokio::test(start_paused = true)]
async fn without_a_heartbeat_an_attempt_may_not_act_beyond_its_lease() {
    let acts = Acts::default();
    let fixture = acting(&acts);
    fixture.send(HIGH, "a").await;
    let (workman, _heartbeat) = fixture.workman(&[HIGH]);
    let stop = async {
        fixture.pass(secs(59)).await;
        fixture.stop.gentle.cancel();
    };
    futures::join!(workman.run(fixture.stop.clone()), stop).0.unwrap();
    assert!(acts.lock().iter().all(|(_, at, deadline)| at < deadline));
}

#[tokio::test(start_paused = true)]
async fn a_task_held_for_as_long_as_the_queue_allows_begins_anew() {
    let fixture = Fixture::new(|clock, call| async move {
        if call.attempt.envelope.snoozes == 0 {
            clock.sleep(Duration::from_hours(20)).await;
        }
        Ok(TaskOutcome::done())
    });
    fixture.send(HIGH, "a").await;
    fixture.work_off().await.unwrap();
    let begun = fixture.probe.begun_at("a");
    assert_eq!(begun.len(), 2);
    assert!((11 * 3600..12 * 3600).contains(&begun[1]), "before the queue would show it to others: {begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_held_for_as_long_as_a_slow_queue_allows_begins_anew_too() {
    for total in 170..200 {
        let behavior = QueueBehavior { visibility_total_max: secs(total), ..QueueBehavior::well_behaved() };
        let fixture = Fixture::with(1, &behavior, |clock, call| async move {
            if call.attempt.envelope.snoozes == 0 {
                clock.sleep(Duration::from_hours(1)).await;
            }
            Ok(TaskOutcome::done())
        });
        for nth in 1..1_000 {
            fixture.plan.fail(PortCall::Extend, nth, InjectedFault::Delay(secs(1)));
        }
        fixture.send(HIGH, "a").await;
        fixture.work_off().await.unwrap();
        let begun = fixture.probe.begun_at("a");
        assert_eq!(begun.len(), 2, "of {total} s: {begun:?}");
        assert!(begun[1] < total, "before the queue would show it to others: {begun:?} of {total} s");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_lease_runs_out_is_dropped_then_and_not_when_it_next_asks() {
    let fixture = Fixture::new(|clock, call| async move {
        clock.sleep(secs(if call.attempt.receive_count == 1 { 3000 } else { 1 })).await;
        Ok(TaskOutcome::done())
    });
    fixture.send(HIGH, "a").await;
    for nth in 1..=6 {
        fixture.plan.fail(PortCall::Extend, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    fixture
        .work(async {
            fixture.pass(secs(61)).await;
            assert!(fixture.probe.events().contains(&Event::Dropped("a".into())), "after a minute, not after fifty");
            fixture.emptied().await;
        })
        .await
        .unwrap();
    assert_eq!(fixture.probe.ended(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_found_after_the_lease_is_not_settled_a_second_time() {
    let fixture = Fixture::new(|clock, call| async move {
        if call.attempt.receive_count == 1 {
            clock.sleep(secs(90)).await;
            return Err(failed(FailureClass::Retryable, "too late"));
        }
        Ok(TaskOutcome::done())
    });
    fixture.send(HIGH, "a").await;
    // Without its heartbeat the workman does not know before it settles.
    let (workman, _heartbeat) = fixture.workman(&[HIGH]);
    let until = async {
        fixture.pass(secs(300)).await;
        fixture.stop.gentle.cancel();
    };
    futures::join!(workman.run(fixture.stop.clone()), until).0.unwrap();
    assert_eq!((fixture.probe.begun_at("a"), fixture.bodies(HIGH).len()), (vec![0, 60], 0));
}
