//! Stopping: begun tasks are finished or released, nothing is lost, nothing hangs.

use std::time::Duration;

use mill_ports::TaskOutcome;
use mill_testkit::{InjectedFault, PortCall};
use mill_workman::WorkmanEndReason;

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::Event;

fn slow(task_seconds: u64) -> Fixture {
    Fixture::new(move |clock, _| async move {
        clock.sleep(secs(task_seconds)).await;
        Ok(TaskOutcome::done())
    })
}

async fn stopped_at(fixture: &Fixture, gentle: Duration, immediate: Option<Duration>) -> Duration {
    let (workman, heartbeat) = fixture.workman(&[HIGH, LOW]);
    let stopping = async {
        fixture.pass(gentle).await;
        fixture.stop.gentle.cancel();
        if let Some(immediate) = immediate {
            fixture.pass(immediate).await;
            fixture.stop.immediate.cancel();
        }
    };
    let run = async {
        assert_eq!(workman.run(fixture.stop.clone()).await.unwrap(), WorkmanEndReason::Stopped);
        fixture.clock.monotonic().since_origin()
    };
    futures::join!(run, heartbeat.run(), stopping).0
}

#[tokio::test(start_paused = true)]
async fn a_gentle_stop_takes_nothing_more_and_finishes_what_was_begun() {
    let fixture = slow(20);
    for n in 0..20 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    let took = stopped_at(&fixture, secs(5), None).await;
    assert!(took >= secs(20) && took < secs(22), "{took:?}");
    assert_eq!((fixture.probe.begun().len(), fixture.probe.ended().len()), (8, 8));
    assert_eq!(fixture.bodies(LOW).len(), 12, "what was not begun is in the queue");
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_period_the_rest_is_given_back_and_visible_at_once() {
    let fixture = slow(600);
    fixture.send(LOW, "a").await;
    let took = stopped_at(&fixture, secs(5), None).await;
    assert!(took >= secs(35) && took < secs(37), "{took:?}");
    let back = fixture.receive(LOW).await;
    assert_eq!((back.len(), back[0].receive_count), (1, 2), "released, not sent again");
    assert_eq!(fixture.probe.events().last(), Some(&Event::Dropped("a".into())));
}

#[tokio::test(start_paused = true)]
async fn an_immediate_stop_gives_everything_back_at_once() {
    let fixture = slow(600);
    for n in 0..5 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    let took = stopped_at(&fixture, secs(5), Some(secs(1))).await;
    assert!(took < secs(8), "{took:?}");
    assert_eq!(fixture.receive(LOW).await.len(), 5);
    assert_eq!(fixture.probe.ended(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_task_delivered_often_is_sent_anew_instead_of_spending_another_receive() {
    let fixture = slow(600);
    fixture.send(LOW, "a").await;
    for _ in 0..4 {
        let taken = fixture.receive(LOW).await;
        let receipt = taken[0].receipt.clone();
        mill_ports::TaskQueue::release(&*fixture.queues.get(LOW), &[receipt]).await.unwrap().into_result().unwrap();
    }
    stopped_at(&fixture, secs(5), Some(secs(1))).await;
    let back = fixture.receive(LOW).await;
    assert_eq!((back.len(), back[0].receive_count), (1, 1));
    assert_eq!(fixture.open(&back[0].body).failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_receive_brings_after_the_stop_is_given_back() {
    let fixture = slow(1);
    fixture.send(HIGH, "a").await;
    fixture.plan.fail(PortCall::Receive, 1, InjectedFault::Delay(Duration::from_millis(500)));
    stopped_at(&fixture, Duration::from_millis(100), None).await;
    assert_eq!(fixture.probe.begun(), [""; 0]);
    let back = fixture.receive(HIGH).await;
    assert_eq!((back.len(), back[0].receive_count), (1, 2), "taken, and visible again at once");
}

#[tokio::test(start_paused = true)]
async fn a_long_receive_does_not_hold_up_a_stop() {
    let fixture = slow(1);
    let took = stopped_at(&fixture, secs(30), None).await;
    assert!(took < secs(32), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_ends_with_its_workman_also_when_that_is_dropped() {
    let fixture = slow(1);
    let (workman, heartbeat) = fixture.workman(&[LOW]);
    drop(workman);
    heartbeat.run().await;
}

#[tokio::test(start_paused = true)]
async fn workman_heartbeat_and_drain_can_run_on_any_thread() {
    fn can_move<F: Future + Send>(_: &F) {}
    let fixture = slow(1);
    let (workman, heartbeat) = fixture.workman(&[LOW]);
    can_move(&workman.run(fixture.stop.clone()));
    can_move(&heartbeat.run());
    let drain = crate::draining::drain(&fixture);
    can_move(&drain.run(&fixture.stop));
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_reserved_slot_after_the_stop_is_given_back() {
    let mut fixture = slow(20);
    fixture.settings.reserved_high = 0.05;
    for n in 0..8 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    let late = async {
        fixture.pass(secs(5) + Duration::from_millis(500)).await;
        fixture.send(HIGH, "late").await;
    };
    let (took, ()) = futures::join!(stopped_at(&fixture, secs(5), None), late);
    assert!(took >= secs(20) && took < secs(22), "{took:?}");
    assert_eq!(fixture.probe.begun().len(), 7);
    let back = fixture.receive(HIGH).await;
    assert_eq!((back.len(), back[0].receive_count), (1, 2), "received, and released at once");
}
