//! What becomes of a task, by the result of its processor.

use std::time::Duration;

use bytes::Bytes;
use mill_model::wire;
use mill_model::{QueueName, TaskKind};
use mill_ports::{FailureClass, FollowUp, TaskOutcome};
use mill_testkit::{FaultKind, InjectedFault, PortCall};
use mill_workman::{OnFinalFailure, OnUnavailable, WorkmanEndReason, WorkmanError};

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::{failed, store, task};

fn retryable() -> crate::probe::Answer {
    Err(failed(FailureClass::Retryable, "it did not work"))
}

#[tokio::test(start_paused = true)]
async fn follow_ups_are_sent_and_the_task_is_gone() {
    let fixture = Fixture::new(|_, call| async move {
        let follow_up = |item: &str, queue| FollowUp::now(queue, task(item));
        Ok(match call.item.as_str() {
            "first" => TaskOutcome::Done { follow_ups: vec![follow_up("second", LOW), follow_up("third", HIGH)] },
            _ => TaskOutcome::done(),
        })
    });
    fixture.send(LOW, "first").await;
    fixture.work_off().await.unwrap();
    let mut ended = fixture.probe.ended();
    ended.sort();
    assert_eq!(ended, ["first", "second", "third"]);
    assert!(fixture.clock.monotonic().since_origin() < secs(3), "the workman's own sends are not slept through");
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_comes_again_with_its_history_and_is_dead_lettered_at_the_third_failure() {
    let fixture = Fixture::new(|_, _| async { retryable() });
    fixture.send(LOW, "a").await;
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun_at("a"), [0, 10, 110], "the retry delays");
    let (envelope, reason) = fixture.only_letter();
    assert_eq!((envelope.failures, envelope.history.len(), envelope.origin), (3, 3, LOW));
    assert_eq!(reason, "it did not work: as the test wants");
    assert_eq!(envelope.history[0].workman, "w1");
    assert_eq!(fixture.statistics.totals().work.failed, 3);
    assert_eq!(fixture.statistics.totals().work.dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_succeeds_at_last_is_no_dead_letter() {
    let fixture =
        Fixture::new(
            |_, call| async move { if call.attempt.is_last() { Ok(TaskOutcome::done()) } else { retryable() } },
        );
    fixture.send(HIGH, "a").await;
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.probe.begun().len(), fixture.letters().len()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_and_an_unknown_kind_are_dead_lettered_at_once() {
    let fixture = Fixture::new(|_, _| async { Err(failed(FailureClass::Permanent, "never")) });
    fixture.send(LOW, "a").await;
    let mut stranger = fixture.envelope(LOW, "b");
    stranger.task.kind = TaskKind::new("dance");
    fixture.send_body(LOW, wire::encode(&stranger).unwrap()).await;
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun(), ["a"]);
    let mut reasons: Vec<String> = fixture.letters().into_iter().map(|letter| letter.given_up.reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["never: as the test wants", "no processor is registered for tasks of kind `dance`"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_any_other_and_the_workman_lives() {
    let fixture = Fixture::new(|_, call| async move {
        assert!(call.item != "bad", "no such luck");
        Ok(TaskOutcome::done())
    });
    fixture.send(LOW, "bad").await;
    fixture.send(LOW, "good").await;
    fixture.work_off().await.unwrap();
    let (envelope, reason) = fixture.only_letter();
    assert_eq!((envelope.failures, reason.as_str()), (3, "the processor panicked: no such luck"));
    assert_eq!(fixture.probe.ended(), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_envelope_is_dead_lettered_as_it_is_with_the_reason() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    let poison = Bytes::from_static(b"\xff\xfe poison");
    fixture.send_body(HIGH, poison.clone()).await;
    fixture.work_off().await.unwrap();
    let letters = fixture.letters();
    assert_eq!((&letters[0].body, letters[0].origin, letters[0].receive_count), (&poison, HIGH, 1));
    assert!(letters[0].given_up.reason.contains("neither"), "{}", letters[0].given_up.reason);
}

#[tokio::test(start_paused = true)]
async fn a_letter_moved_back_by_the_queues_own_tools_is_opened() {
    let fixture = Fixture::new(|_, call| async move {
        if call.attempt.receive_count == 1 && call.attempt.envelope.failures == 0 {
            return Err(failed(FailureClass::Permanent, "no"));
        }
        Ok(TaskOutcome::done())
    });
    fixture.send(LOW, "a").await;
    fixture.work_off().await.unwrap();
    let letter = fixture.bodies(QueueName::DeadLetter)[0].clone();
    let again = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    again.send_body(LOW, letter).await;
    again.work_off().await.unwrap();
    assert_eq!(again.probe.ended(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_snoozed_task_comes_later_perhaps_changed_and_has_not_failed() {
    let fixture = Fixture::new(|_, call| async move {
        Ok(match call.item.as_str() {
            "part 1" => TaskOutcome::Snooze { delay: secs(300), task: Some(task("part 2")) },
            _ if call.attempt.envelope.snoozes == 1 => {
                TaskOutcome::Snooze { delay: Duration::from_hours(5), task: None }
            }
            _ => TaskOutcome::done(),
        })
    });
    fixture.send(LOW, "part 1").await;
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun_at("part 2"), [300, 1200], "a delay is capped to what the queue takes");
    assert_eq!(fixture.statistics.totals().work.failed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_task_is_gone() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::Discard { reason: "no policy covers it".into() }) });
    fixture.send(LOW, "a").await;
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.probe.begun().len(), fixture.letters().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn throttling_never_counts_and_rests_the_store() {
    let fixture = Fixture::new(|clock, _| async move {
        if clock.monotonic().since_origin() < secs(600) {
            let class = FailureClass::Throttled { store: store(), retry_after: Some(secs(60)) };
            return Err(failed(class, "slow down"));
        }
        Ok(TaskOutcome::done())
    });
    for n in 0..50 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.letters().len(), fixture.statistics.totals().work.failed), (0, 0));
    let ended = fixture.probe.ended().len();
    assert!(ended < 50 + 8 * 11, "at most one row of workers a minute asks the store in vain: {ended}");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_store_never_counts_and_its_tasks_are_not_begun() {
    let fixture = Fixture::new(|clock, _| async move {
        if clock.monotonic().since_origin() < Duration::from_hours(6) {
            return Err(failed(FailureClass::Unavailable { store: store() }, "the disk is full"));
        }
        Ok(TaskOutcome::done())
    });
    for n in 0..20 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.letters().len(), fixture.statistics.totals().work.failed), (0, 0));
    let begun = fixture.probe.begun().len();
    assert!(begun < 20 + 8 * 180, "pauses grow to five minutes: {begun}");
}

#[tokio::test(start_paused = true)]
async fn a_one_off_run_stops_at_an_unavailable_store_and_says_which() {
    let mut fixture = Fixture::new(|_, _| async { Err(failed(FailureClass::Unavailable { store: store() }, "full")) });
    fixture.settings.on_unavailable = OnUnavailable::Stop;
    fixture.send(LOW, "a").await;
    let ended = fixture.work_to_its_end().await;
    let Ok(WorkmanEndReason::StoreUnavailable { store: at, reason }) = ended else { panic!("{ended:?}") };
    assert_eq!((at, reason.as_str()), (store(), "full: as the test wants"));
    assert_eq!(fixture.receive(LOW).await.len(), 1, "the task is back");
}

#[tokio::test(start_paused = true)]
async fn a_one_off_run_waits_for_a_store_that_does_not_answer_and_says_so() {
    let mut fixture = Fixture::new(|clock, _| async move {
        if clock.monotonic().since_origin() < Duration::from_mins(3) {
            return Err(failed(FailureClass::Unreachable { store: store() }, "no answer"));
        }
        Ok(TaskOutcome::done())
    });
    fixture.settings.on_unavailable = OnUnavailable::Stop;
    for n in 0..20 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    fixture.work_off().await.unwrap();
    assert_eq!((fixture.letters().len(), fixture.statistics.totals().work.failed), (0, 0));
    assert_eq!(fixture.statistics.store_waits(), std::collections::BTreeMap::new(), "it was used since");
}

#[tokio::test(start_paused = true)]
async fn a_fatal_failure_gives_the_task_back_and_stops() {
    let fixture = Fixture::new(|_, _| async { Err(failed(FailureClass::Fatal, "no home")) });
    fixture.send(LOW, "a").await;
    let ended = fixture.work_to_its_end().await;
    let Err(WorkmanError::Fatal { subject, reason }) = ended else { panic!("{ended:?}") };
    assert_eq!((subject.as_str(), reason.as_str()), ("acct/a", "no home: as the test wants"));
    assert_eq!(fixture.receive(LOW).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn fail_fast_stops_at_the_first_dead_letter_and_drain_goes_on() {
    for (on_final_failure, done) in [(OnFinalFailure::FailFast, false), (OnFinalFailure::Drain, true)] {
        let mut fixture = Fixture::new(|clock, call| async move {
            if call.item == "bad" {
                return Err(failed(FailureClass::Permanent, "bad"));
            }
            clock.sleep(secs(1)).await;
            Ok(TaskOutcome::done())
        });
        (fixture.settings.on_final_failure, fixture.settings.workers) = (on_final_failure, 1);
        fixture.send(HIGH, "bad").await;
        for n in 0..10 {
            fixture.send(LOW, &format!("good {n}")).await;
        }
        let ended = fixture.work_off_or_end().await.unwrap();
        assert_eq!(matches!(ended, WorkmanEndReason::FailedFast { .. }), !done);
        assert_eq!(fixture.probe.ended().len() == 11, done);
        assert_eq!(fixture.letters().len(), 1);
    }
}

impl Fixture {
    /// Like `work_off`, for a workman that may end by itself before.
    async fn work_off_or_end(&self) -> Result<WorkmanEndReason, WorkmanError> {
        let (workman, heartbeat) = self.workman(&[HIGH, LOW]);
        let run = async {
            let ended = workman.run(self.stop.clone()).await;
            self.stop.immediate.cancel();
            ended
        };
        let emptied = async {
            let emptied = std::pin::pin!(self.emptied());
            futures::future::select(emptied, std::pin::pin!(self.stop.immediate.cancelled())).await;
            self.stop.gentle.cancel();
        };
        futures::join!(run, heartbeat.run(), emptied).0
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_dropped_without_any_move() {
    let fixture = Fixture::new(|_, call| async move {
        match call.attempt.receive_count {
            1 => Err(failed(FailureClass::LeaseLost, "lost")),
            _ => Ok(TaskOutcome::done()),
        }
    });
    fixture.send(HIGH, "a").await;
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun_at("a"), [0, 60], "only the visibility timeout brings it back");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_retry_cannot_be_sent_is_not_acknowledged() {
    let fixture = Fixture::new(|_, call| async move {
        if call.attempt.receive_count == 1 { retryable() } else { Ok(TaskOutcome::done()) }
    });
    fixture.send(HIGH, "a").await;
    for nth in 1..=3 {
        fixture.plan.fail(PortCall::Send, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun_at("a"), [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_batch_that_fail_are_settled_again_and_no_others() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    for n in 0..10 {
        fixture.send(HIGH, &format!("{n}")).await;
    }
    fixture.plan.fail(PortCall::Acknowledge, 1, InjectedFault::Partial(FaultKind::Unexpected));
    fixture.plan.fail(PortCall::Acknowledge, 2, InjectedFault::PartialAfter(FaultKind::Throttled));
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun().len(), 10, "none was done twice");
    assert!(fixture.clock.monotonic().since_origin() < secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_has_no_queue_here_makes_a_dead_letter_of_its_parent() {
    let fixture = Fixture::new(|_, _| async {
        Ok(TaskOutcome::Done { follow_ups: vec![FollowUp::now(QueueName::BitReport, task("b"))] })
    });
    fixture.send(LOW, "a").await;
    fixture.work_off().await.unwrap();
    assert!(fixture.only_letter().1.contains("no queue `bit-report`"));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_denied_ends_the_workman_with_its_name() {
    use std::sync::Arc;
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    let mut deps = fixture.deps(&[HIGH]);
    deps.queues.push(Arc::new(Denied(fixture.queues.get(LOW))));
    let (workman, heartbeat) = mill_workman::Workman::new(deps, fixture.settings.clone());
    let (ended, ()) = futures::join!(workman.run(fixture.stop.clone()), heartbeat.run());
    assert!(matches!(ended, Err(WorkmanError::Queue { queue: LOW, .. })), "{ended:?}");
}

/// A queue from which nothing may be received.
#[derive(Debug)]
struct Denied(std::sync::Arc<mill_testkit::MemoryQueue>);

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl mill_ports::TaskQueue for Denied {
    fn name(&self) -> QueueName {
        self.0.name()
    }
    fn limits(&self) -> mill_ports::QueueLimits {
        self.0.limits()
    }
    async fn send(
        &self,
        out: &[mill_ports::OutgoingMessage],
    ) -> Result<mill_ports::BatchReport, mill_ports::QueueError> {
        self.0.send(out).await
    }
    async fn receive(
        &self,
        _: std::num::NonZeroU32,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<mill_ports::Delivery>, mill_ports::QueueError> {
        let kind = mill_ports::QueueErrorKind::Denied;
        Err(mill_ports::QueueError { kind, op: "receive", queue: self.name(), source: None })
    }
    async fn receive_excluding(
        &self,
        _: &mill_ports::ExcludedAccounts,
        max: std::num::NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<mill_ports::Delivery>, mill_ports::QueueError> {
        self.receive(max, visibility, wait).await
    }
    async fn extend(
        &self,
        receipts: &[mill_ports::Receipt],
        visibility: Duration,
    ) -> Result<mill_ports::ExtendResults, mill_ports::QueueError> {
        self.0.extend(receipts, visibility).await
    }
    async fn release(
        &self,
        receipts: &[mill_ports::Receipt],
    ) -> Result<mill_ports::BatchReport, mill_ports::QueueError> {
        self.0.release(receipts).await
    }
    async fn acknowledge(
        &self,
        receipts: &[mill_ports::Receipt],
    ) -> Result<mill_ports::BatchReport, mill_ports::QueueError> {
        self.0.acknowledge(receipts).await
    }
    async fn depth(&self) -> Result<mill_ports::QueueDepth, mill_ports::QueueError> {
        self.0.depth().await
    }
    async fn depth_of(&self, group: &mill_model::AccountId) -> Result<Option<u64>, mill_ports::QueueError> {
        self.0.depth_of(group).await
    }
}
