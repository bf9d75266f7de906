//! Outcomes of items are counted once for each task, when it is settled and acknowledged.

use mill_model::{ItemOutcome, ItemOutcomes};
use mill_ports::{FailureClass, TaskOutcome};
use mill_testkit::{FaultKind, InjectedFault, PortCall};

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::failed;

#[tokio::test(start_paused = true)]
async fn an_items_fate_counts_once_however_often_its_task_is_tried_or_delivered() {
    let fixture = Fixture::new(|_, call| async move {
        let (item, attempt) = (call.item.as_str(), &call.attempt);
        match item {
            "fails" => return Err(failed(FailureClass::Retryable, "it did not work")),
            "throttled" if attempt.envelope.snoozes == 0 => {
                attempt.outcome.note(ItemOutcome::Updated);
                return Ok(TaskOutcome::Snooze { delay: secs(5), task: None });
            }
            // The outcome of a failed attempt does not count.
            "late" if attempt.envelope.failures == 0 => {
                attempt.outcome.note(ItemOutcome::Updated);
                return Err(failed(FailureClass::Retryable, "it did not work"));
            }
            "refused" => attempt.outcome.note(ItemOutcome::Refused),
            _ => {
                attempt.outcome.note(if attempt.receive_count == 1 {
                    ItemOutcome::Copied
                } else {
                    ItemOutcome::Unchanged
                });
            }
        }
        Ok(TaskOutcome::done())
    });
    fixture.statistics.follow_tasks();
    fixture.statistics.begin_run();
    for item in ["fails", "throttled", "late", "refused", "a", "b", "c", "space"] {
        let envelope = fixture.envelope(HIGH, item);
        fixture.statistics.open_task(envelope.id, item != "space");
        fixture.send_body(HIGH, mill_model::wire::encode(&envelope).unwrap()).await;
    }
    // Nothing is acknowledged at first: everything is delivered again.
    for nth in 1..=3 {
        fixture.plan.fail(PortCall::Acknowledge, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    fixture.work_off().await.unwrap();
    assert!(fixture.probe.begun().len() > 12, "{:?}", fixture.probe.begun());
    let fates = fixture.statistics.totals_of_run().sum.outcomes;
    assert_eq!(fates.items(), 7, "{fates:?}");
    assert_eq!((fates.refused, fates.dead_lettered, fates.updated), (1, 1, 0), "{fates:?}");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_another_run_sent_are_told_apart() {
    let fixture = Fixture::new(|_, call| async move {
        call.attempt.outcome.note(if call.item == "both" { ItemOutcome::Copied } else { ItemOutcome::Unchanged });
        Ok(TaskOutcome::done())
    });
    fixture.statistics.follow_tasks();
    fixture.send(LOW, "both").await;
    fixture.send(LOW, "theirs").await;
    fixture.work_off().await.unwrap();
    fixture.statistics.begin_run();
    assert_eq!(fixture.statistics.totals_of_run().sum.outcomes, ItemOutcomes::default());
    assert_eq!(
        fixture.statistics.totals().sum.outcomes,
        ItemOutcomes { copied: 1, unchanged: 1, ..ItemOutcomes::default() }
    );
}
