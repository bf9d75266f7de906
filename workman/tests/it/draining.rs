//! Dead letters are written to their table before they leave their queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::QueueName;
use mill_ports::{FailureClass, Table, TaskOutcome};
use mill_records::dead_letters::{DeadLetterFilter, DeadLetterState, DeadLetters, OperatorDecision};
use mill_testkit::{FaultInjector, FaultKind, InjectedFault, MemoryTable, PortCall};
use mill_workman::{DeadLetterDrain, DrainSettings, StopSignal};

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::failed;

pub(crate) fn drain(fixture: &Fixture) -> DeadLetterDrain {
    let table: Arc<dyn Table> = Arc::new(MemoryTable::new(DeadLetters::TABLE));
    DeadLetterDrain {
        queue: Arc::new(FaultInjector::new(
            fixture.queues.get(QueueName::DeadLetter) as Arc<dyn mill_ports::TaskQueue>,
            fixture.plan.clone(),
        )),
        dead_letters: DeadLetters::new(Arc::new(FaultInjector::new(table, fixture.plan.clone()))),
        registry: fixture.registry(),
        clock: fixture.clock.clone(),
        settings: DrainSettings { visibility: secs(60), poll_wait: secs(20) },
    }
}

async fn all(drain: &DeadLetterDrain) -> Vec<mill_records::dead_letters::DeadLetter> {
    drain.dead_letters.list(&DeadLetterFilter::default(), None, 100).await.unwrap().letters
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_listed_with_its_history_and_retried_to_where_it_came_from() {
    let fixture = Fixture::new(|_, call| async move {
        if call.attempt.envelope.history.len() < 3 {
            return Err(failed(FailureClass::Retryable, "not yet"));
        }
        Ok(TaskOutcome::done())
    });
    fixture.send(LOW, "a").await;
    fixture.send_body(HIGH, Bytes::from_static(b"\xff poison")).await;
    fixture.work_off().await.unwrap();
    let drain = drain(&fixture);
    assert_eq!(drain.once().await.unwrap(), 2);
    assert_eq!(fixture.bodies(QueueName::DeadLetter).len(), 0);
    let letters = all(&drain).await;
    let (poison, task) = (&letters[0], &letters[1]);
    assert_eq!((poison.origin, poison.account.is_none(), &poison.body[..]), (Some(HIGH), true, &b"\xff poison"[..]));
    assert_eq!((task.origin, task.subject.as_deref(), task.history.len()), (Some(LOW), Some("acct/a"), 3));
    let deciding = || OperatorDecision { by: "op".into(), at: fixture.clock.now() };
    let sent_to = drain.dead_letters.retry(&task.id, None, &fixture.queues.ports(), deciding()).await.unwrap();
    assert_eq!(sent_to, LOW);
    let again = fixture.open(&fixture.bodies(LOW)[0]);
    assert_eq!((again.failures, again.history.len()), (0, 3), "forgiven, not forgotten");
    drain.dead_letters.discard(&poison.id, "noise", deciding()).await.unwrap();
    assert!(matches!(drain.dead_letters.get(&poison.id).await.unwrap().state, DeadLetterState::Discarded { .. }));
    assert!(
        drain.dead_letters.retry(&poison.id, None, &fixture.queues.ports(), deciding()).await.is_err(),
        "decided already"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_workers_were_lost_says_so() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    fixture.send(LOW, "killer").await;
    for _ in 0..11 {
        fixture.receive(LOW).await;
        fixture.pass(secs(61)).await;
    }
    assert_eq!(fixture.bodies(QueueName::DeadLetter).len(), 1);
    let drain = drain(&fixture);
    drain.once().await.unwrap();
    let letter = &all(&drain).await[0];
    assert!(letter.reason.starts_with("worker lost"), "{}", letter.reason);
    assert_eq!((letter.origin, letter.subject.as_deref()), (Some(LOW), Some("acct/killer")));
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_acknowledged_only_when_it_is_written_and_has_one_row_however_often_it_comes() {
    let fixture = Fixture::new(|_, _| async { Err(failed(FailureClass::Permanent, "no")) });
    for n in 0..5 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    fixture.work_off().await.unwrap();
    let drain = drain(&fixture);
    fixture.plan.fail(PortCall::PutRow, 2, InjectedFault::Before(FaultKind::Unavailable));
    fixture.plan.fail(PortCall::PutRow, 4, InjectedFault::After(FaultKind::Unavailable));
    assert!(drain.once().await.is_err());
    assert_eq!(fixture.bodies(QueueName::DeadLetter).len(), 2, "those that were not surely written");
    fixture.pass(secs(61)).await;
    fixture.plan.fail(PortCall::Acknowledge, 1, InjectedFault::Before(FaultKind::Unavailable));
    assert!(drain.once().await.is_err());
    fixture.pass(secs(61)).await;
    let stop = StopSignal::default();
    let until = async {
        fixture.pass(Duration::from_mins(2)).await;
        stop.gentle.cancel();
    };
    futures::join!(async { drain.run(&stop).await.unwrap() }, until);
    assert_eq!(fixture.bodies(QueueName::DeadLetter).len(), 0);
    assert_eq!(all(&drain).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_gentle_stop_does_not_wait_for_letters_that_may_yet_come() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    let drain = drain(&fixture);
    let stop = StopSignal::default();
    let began = fixture.clock.monotonic();
    let until = async {
        fixture.pass(secs(5)).await;
        stop.gentle.cancel();
    };
    futures::join!(async { drain.run(&stop).await.unwrap() }, until);
    let took = fixture.clock.monotonic().since(began);
    assert!(took < secs(7), "a receive of 20 s was waited for: {took:?}");
}
