//! The counts that a workman writes for each account, for producers that divide the queue.

use std::collections::BTreeSet;

use mill_model::AccountId;
use mill_ports::{FailureClass, FollowUp, TaskOutcome};
use mill_records::account_counts::AccountCount;
use mill_testkit::{FaultKind, InjectedFault, PortCall};

use crate::admission::send;
use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::{failed, store_of, task};

/// All workmen's counts of an account.
async fn counted(fixture: &Fixture, account: &str) -> AccountCount {
    let account = AccountId::new(account).unwrap();
    let known: BTreeSet<_> = ["a", "b", "c", "slow"].map(|name| AccountId::new(name).unwrap()).into();
    fixture.counts.as_ref().unwrap().read(&known).await.unwrap().get(&account).copied().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn what_leaves_the_queue_is_counted_once_whatever_came_before() {
    let mut fixture = Fixture::new(|_, call| async move {
        let attempt = &call.attempt;
        match &*call.item {
            "a/retried" if attempt.envelope.failures < 2 => Err(failed(FailureClass::Retryable, "no")),
            "a/put-off" if attempt.envelope.snoozes < 2 => Ok(TaskOutcome::Snooze { delay: secs(5), task: None }),
            "a/given-up" => Err(failed(FailureClass::Permanent, "never")),
            "a/followed" => {
                let follow_up = FollowUp::now(HIGH, task("a/follow-up"));
                Ok(TaskOutcome::Done { follow_ups: vec![follow_up] })
            }
            _ => Ok(TaskOutcome::done()),
        }
    });
    fixture.counts();
    for item in ["a/done", "a/retried", "a/put-off", "a/given-up", "a/followed", "b/done"] {
        fixture.send(LOW, item).await;
    }
    fixture.send(HIGH, "a/high").await;
    fixture.work_off().await.unwrap();
    assert_eq!(counted(&fixture, "a").await, AccountCount { received: 9, ended: 5 }, "what is of the low queue");
    assert_eq!(counted(&fixture, "b").await, AccountCount { received: 1, ended: 1 });
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_put_back_are_received_and_have_not_ended() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(60)).await;
        Ok(TaskOutcome::done())
    });
    fixture.counts();
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 40).await;
    let stopped = async {
        fixture.pass(secs(90)).await;
        fixture.stop.gentle.cancel();
    };
    fixture.work(stopped).await.unwrap();
    let AccountCount { received, ended } = counted(&fixture, "slow").await;
    assert!(received >= 40 && ended <= 2, "{received} {ended}");
}

#[tokio::test(start_paused = true)]
async fn counts_cost_a_write_each_ten_seconds_however_many_tasks_there_are_and_none_while_idle() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(1)).await;
        Ok(TaskOutcome::done())
    });
    let table = fixture.counts();
    let working = async {
        for _ in 0..60 {
            for account in ["a", "b", "c"] {
                send(&fixture, account, 4).await;
            }
            fixture.pass(secs(1)).await;
        }
        fixture.emptied().await;
        fixture.pass(secs(15)).await;
        let busy = table.calls(PortCall::PutRow).calls;
        fixture.pass(secs(3_600)).await;
        let idle = table.calls(PortCall::PutRow).calls - busy;
        fixture.stop.gentle.cancel();
        (busy, idle)
    };
    let ((busy, idle), took) = {
        let seen = std::cell::Cell::new((0, 0));
        fixture.work(async { seen.set(working.await) }).await.unwrap();
        (seen.get(), fixture.clock.monotonic().since_origin().as_secs() - 3_600)
    };
    assert!(busy <= took / 10 + 1, "{busy} writes in {took} s");
    assert_eq!(idle, 0);
    let all: u64 = table.all().values().map(|calls| calls.calls).sum();
    assert_eq!(all, busy + 1, "and nothing but writes: the last says that nothing follows");
    assert_eq!(counted(&fixture, "a").await.ended, 240);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_counts_that_fails_holds_up_no_task_and_nothing_is_lost() {
    let mut fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    fixture.counts();
    for nth in 1..=3 {
        fixture.plan.fail(PortCall::PutRow, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    fixture.plan.fail(PortCall::PutRow, 4, InjectedFault::After(FaultKind::Unavailable));
    send(&fixture, "a", 10).await;
    let working = async {
        fixture.emptied().await;
        fixture.pass(secs(60)).await;
        assert_eq!(counted(&fixture, "a").await.ended, 10);
        fixture.stop.gentle.cancel();
    };
    fixture.work(working).await.unwrap();
    assert_eq!(counted(&fixture, "a").await, AccountCount { received: 10, ended: 10 });
}
