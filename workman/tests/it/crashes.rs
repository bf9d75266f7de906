//! Crashes at any moment: tasks repeat, and are never lost.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mill_model::QueueName;
use mill_ports::{FailureClass, FollowUp, RngExt as _, TaskOutcome};
use mill_testkit::{FaultRates, InjectedFault, PortCall, QueueBehavior};
use mill_workman::StopSignal;
use parking_lot::Mutex;

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::{failed, task};

/// Polls a future this many times, and then drops it.
struct CrashAfter<F> {
    running: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for CrashAfter<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.polls == 0 {
            return Poll::Ready(());
        }
        self.polls -= 1;
        self.running.as_mut().poll(context).map(|_| ())
    }
}

/// Items `0`… each have a follow-up; every fifth fails for good, every third once.
fn odd_jobs(seed: u64, done: &Arc<Mutex<BTreeSet<String>>>) -> Fixture {
    let done = done.clone();
    Fixture::with(
        seed,
        &QueueBehavior { max_receive_count: 1000, ..QueueBehavior::adversarial() },
        move |clock, call| {
            let done = done.clone();
            async move {
                clock.sleep(Duration::from_millis(50)).await;
                call.attempt.may_act()?;
                if call.item.starts_with("after") {
                    done.lock().insert(call.item);
                    return Ok(TaskOutcome::done());
                }
                let number: u32 = call.item.parse().unwrap();
                if number.is_multiple_of(5) || (number.is_multiple_of(3) && call.attempt.envelope.failures == 0) {
                    return Err(failed(FailureClass::Retryable, "odd"));
                }
                if number.is_multiple_of(7) && call.attempt.envelope.snoozes == 0 {
                    return Ok(TaskOutcome::Snooze { delay: secs(3), task: None });
                }
                let after = format!("after {}", call.item);
                done.lock().insert(call.item);
                Ok(TaskOutcome::Done { follow_ups: vec![FollowUp::now(HIGH, task(&after))] })
            }
        },
    )
}

const JOBS: u32 = 40;

/// Checks that each task is done with its follow-up, or is a dead letter with all its failures.
fn assert_nothing_lost(fixture: &Fixture, done: &Mutex<BTreeSet<String>>, seed: u64) {
    let dead: BTreeSet<String> = fixture
        .letters()
        .iter()
        .map(|letter| fixture.open(&letter.body))
        .inspect(|envelope| assert_eq!((envelope.failures, envelope.history.len()), (3, 3)))
        .map(|envelope| envelope.task.detail["item"].as_str().unwrap().to_owned())
        .collect();
    let done = done.lock();
    for number in 0..JOBS {
        let (item, after) = (number.to_string(), format!("after {number}"));
        if number.is_multiple_of(5) {
            assert!(dead.contains(&item) && !done.contains(&item), "seed {seed}: {item}");
        } else {
            assert!(done.contains(&item) && done.contains(&after), "seed {seed}: {item}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn crashes_and_faults_at_any_await_repeat_tasks_and_never_lose_one() {
    for seed in 0..25 {
        let done = Arc::default();
        let fixture = odd_jobs(seed, &done);
        for number in 0..JOBS {
            fixture.send(if number.is_multiple_of(2) { HIGH } else { LOW }, &number.to_string()).await;
        }
        fixture.plan.set_rates(FaultRates {
            before: 20,
            after: 40,
            partial: 50,
            partial_after: 50,
            delay: 100,
            delay_max: secs(2),
            throttled: 200,
            unavailable: 200,
            ..FaultRates::default()
        });
        for _ in 0..30 {
            let (workman, heartbeat) = fixture.workman(&[HIGH, LOW]);
            let polls = fixture.chance.jitter(Duration::from_millis(120)).as_millis() as u32;
            let running = Box::pin(workman.run(StopSignal::default()));
            futures::join!(CrashAfter { running, polls }, heartbeat.run());
            fixture.pass(fixture.chance.jitter(secs(90))).await;
        }
        fixture.work_off().await.unwrap();
        assert_nothing_lost(&fixture, &done, seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_send_and_acknowledge_repeats_but_never_loses() {
    let done = Arc::default();
    let fixture = odd_jobs(7, &done);
    for number in 0..JOBS {
        fixture.send(LOW, &number.to_string()).await;
    }
    for _ in 0..5 {
        for nth in 1..100 {
            fixture.plan.fail(PortCall::Acknowledge, nth, InjectedFault::Delay(Duration::from_hours(1)));
        }
        let (workman, heartbeat) = fixture.workman(&[HIGH, LOW]);
        let crash = fixture.pass(secs(20));
        let run = async {
            futures::future::select(Box::pin(workman.run(StopSignal::default())), Box::pin(crash)).await;
        };
        futures::join!(run, heartbeat.run());
        fixture.pass(secs(60)).await;
    }
    assert!(fixture.probe.begun().len() > 2 * JOBS as usize, "all the sends were made, no acknowledgement was");
    fixture.plan.calm();
    fixture.work_off().await.unwrap();
    assert_nothing_lost(&fixture, &done, 7);
    assert_eq!(fixture.bodies(QueueName::DuplicationLow).len(), 0);
}
