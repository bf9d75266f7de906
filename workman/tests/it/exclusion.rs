//! Accounts with enough waiting tasks are excluded, so that tasks of others come past them, and their stores never
//! become idle because of it.

use std::sync::Arc;
use std::time::Duration;

use mill_model::QueueName;
use mill_ports::{TaskOutcome, TaskQueue};
use mill_testkit::{CallRecorder, PortCall, QueueBehavior};
use mill_workman::Workman;

use crate::admission::send;
use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::store_of;

/// Tasks of account `slow` take this long, all others no time; the queues can exclude accounts.
fn fixture(slow: Duration) -> Fixture {
    let behavior = QueueBehavior { knows_accounts: true, ..QueueBehavior::well_behaved() };
    Fixture::with(1, &behavior, move |clock, call| async move {
        if call.item.starts_with("slow/") {
            clock.sleep(slow).await;
        }
        Ok(TaskOutcome::done())
    })
}

/// Runs a workman over these queues while `during` runs, and returns the queues with their call counts.
async fn work(
    fixture: &Fixture,
    names: &[QueueName],
    during: impl Future<Output = ()>,
) -> Vec<Arc<CallRecorder<dyn TaskQueue>>> {
    let mut deps = fixture.deps(names);
    let counted: Vec<_> = deps.queues.iter().map(|queue| Arc::new(CallRecorder::new(queue.clone()))).collect();
    deps.queues = counted.iter().map(|queue| queue.clone() as Arc<dyn TaskQueue>).collect();
    let (workman, heartbeat) = Workman::new(deps, fixture.settings.clone());
    let during = async {
        during.await;
        fixture.stop.gentle.cancel();
    };
    let (ended, (), ()) = futures::join!(workman.run(fixture.stop.clone()), heartbeat.run(), during);
    ended.unwrap();
    counted
}

async fn ended(fixture: &Fixture, account: &str, tasks: usize) {
    while fixture.probe.ended().iter().filter(|item| item.starts_with(account)).count() < tasks {
        assert!(fixture.clock.monotonic().since_origin() < secs(3600), "{account}");
        fixture.pass(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_accounts_tasks_come_past_thousands_of_one_whose_bench_is_full() {
    let fixture = fixture(secs(10));
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 3_000).await;
    send(&fixture, "quick", 20).await;
    let counted = work(&fixture, &[HIGH, LOW], ended(&fixture, "quick", 20)).await;
    let received = counted[1].calls(PortCall::Receive).entries;
    assert!(received < 200, "{received} were received for 20");
}

#[tokio::test(start_paused = true)]
async fn an_account_without_a_cap_that_has_its_share_is_passed_over_too() {
    let fixture = fixture(secs(1_000));
    fixture.caps.several_accounts();
    send(&fixture, "slow", 3_000).await;
    send(&fixture, "quick", 20).await;
    let counted = work(&fixture, &[HIGH, LOW], ended(&fixture, "quick", 20)).await;
    let received = counted[1].calls(PortCall::Receive).entries;
    assert!(received < 200, "{received} were received for 20");
}

#[tokio::test(start_paused = true)]
async fn a_capped_store_of_short_tasks_always_has_one_to_do() {
    for names in [&[HIGH, LOW][..], &[LOW]] {
        let fixture = fixture(Duration::from_millis(20));
        fixture.caps.set(&store_of("slow"), 2);
        send(&fixture, "slow", 5_000).await;
        work(&fixture, names, fixture.emptied()).await;
        let took = fixture.clock.monotonic().since_origin();
        // Half of them one after the other; the last few may have been snoozed.
        assert!(took < secs(52), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_are_passed_over_nobody_asks_again_and_again() {
    let fixture = fixture(secs(10));
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 3_000).await;
    let counted = work(&fixture, &[HIGH, LOW], fixture.pass(secs(595))).await;
    assert_eq!(fixture.probe.ended().len(), 60, "its store always has something to do");
    let calls = counted.iter().map(|queue| queue.calls(PortCall::Receive).calls).sum::<u64>();
    assert!(calls < 600 * 6, "{calls} receives in 600 s");
}
