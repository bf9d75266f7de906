//! Fair admission: a task takes a slot only with permits at all its stores, and a capped store slows only itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use mill_ports::{TaskOutcome, TaskQueue};
use mill_testkit::{CallRecorder, PortCall, QueueBehavior};
use mill_workman::Workman;
use parking_lot::Mutex;

use crate::fixture::{Fixture, HIGH, LOW, secs};
use crate::probe::{Event, store_of};

/// Tasks of account `slow` take ten seconds, all others no time.
fn fixture() -> Fixture {
    fixture_of(1, false)
}

/// Whether the queues can exclude accounts.
fn fixture_of(seed: u64, knows_accounts: bool) -> Fixture {
    Fixture::with(seed, &QueueBehavior { knows_accounts, ..QueueBehavior::well_behaved() }, |clock, call| async move {
        if call.item.starts_with("slow/") {
            clock.sleep(secs(10)).await;
        }
        Ok(TaskOutcome::done())
    })
}

/// The most concurrent tasks of an account.
pub(crate) fn most_at_once(events: &[Event], account: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for event in events {
        match event {
            Event::Begun(item) if item.starts_with(account) => now += 1,
            Event::Ended(item) | Event::Dropped(item) if item.starts_with(account) => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

pub(crate) async fn send(fixture: &Fixture, account: &str, tasks: u32) {
    for n in 0..tasks {
        fixture.send(LOW, &format!("{account}/{n}")).await;
    }
}

fn place(events: &[Event], of: impl Fn(&Event) -> bool) -> Vec<usize> {
    (0..events.len()).filter(|at| of(&events[*at])).collect()
}

#[tokio::test(start_paused = true)]
async fn a_capped_slow_account_does_not_hold_up_another() {
    for knows_accounts in [false, true] {
        let fixture = fixture_of(1, knows_accounts);
        fixture.caps.set(&store_of("slow"), 2);
        send(&fixture, "slow", 40).await;
        send(&fixture, "quick", 40).await;
        fixture.work_off().await.unwrap();
        let events = fixture.probe.events();
        let quick = place(&events, |event| matches!(event, Event::Ended(item) if item.starts_with("quick")));
        let slow = place(&events, |event| matches!(event, Event::Ended(item) if item.starts_with("slow")));
        assert_eq!((quick.len(), slow.len()), (40, 40));
        assert!(quick[39] < slow[2], "all of the quick account before the second pair of the slow one");
        assert_eq!(most_at_once(&events, "slow"), 2, "its cap holds, and is used");
    }
}

/// There is no cap, and hanging tasks never end.
#[tokio::test(start_paused = true)]
async fn an_account_whose_tasks_hang_leaves_slots_to_others() {
    for hanging in [1, 2] {
        let mut fixture = Fixture::new(|clock, call| async move {
            if call.item.starts_with("hung") {
                clock.sleep(secs(1_000_000)).await;
            }
            Ok(TaskOutcome::done())
        });
        fixture.settings.workers = 16;
        fixture.caps.several_accounts();
        for account in 0..hanging {
            send(&fixture, &format!("hung-{account}"), 200).await;
        }
        send(&fixture, "quick", 40).await;
        fixture
            .work(async {
                fixture.pass(secs(600)).await;
                let events = fixture.probe.events();
                let quick = place(&events, |event| matches!(event, Event::Ended(item) if item.starts_with("quick")));
                assert_eq!(quick.len(), 40, "{hanging}");
                let hung = most_at_once(&events, "hung");
                assert!(if hanging == 1 { hung == 12 } else { (12..16).contains(&hung) }, "{hung}");
                fixture.stop.immediate.cancel();
            })
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_has_all_slots_while_it_is_alone_or_quick() {
    for (several, lasting) in [(false, 10), (true, 1)] {
        let mut fixture = Fixture::new(move |clock, _| async move {
            clock.sleep(secs(lasting)).await;
            Ok(TaskOutcome::done())
        });
        fixture.settings.workers = 16;
        if several {
            fixture.caps.several_accounts();
        }
        send(&fixture, "only", 200).await;
        fixture.work_off().await.unwrap();
        assert_eq!(most_at_once(&fixture.probe.events(), "only"), 16, "{several}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_comes_again_as_it_was_and_is_never_buried() {
    for knows_accounts in [false, true] {
        let fixture = fixture_of(1, knows_accounts);
        fixture.caps.set(&store_of("slow"), 1);
        send(&fixture, "slow", 200).await;
        fixture.work_off().await.unwrap();
        assert_eq!(fixture.probe.ended().len(), 200);
        assert_eq!(fixture.letters().len(), 0);
        let took = fixture.clock.monotonic().since_origin();
        assert!(took < secs(200 * 10 + 300), "the store has always something to do: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_costs_neither_failures_nor_snoozes_nor_bytes() {
    let seen = Arc::new(Mutex::new(BTreeMap::<usize, u32>::new()));
    let noted = seen.clone();
    let fixture = Fixture::new(move |clock, call| {
        let noted = noted.clone();
        async move {
            let envelope = &call.attempt.envelope;
            assert_eq!((envelope.failures, envelope.snoozes, envelope.history.len()), (0, 0, 0));
            *noted.lock().entry(call.attempt.receive_count as usize).or_default() += 1;
            clock.sleep(secs(10)).await;
            Ok(TaskOutcome::done())
        }
    });
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 100).await;
    let bytes = fixture.bodies(LOW).iter().map(bytes::Bytes::len).max();
    fixture
        .work(async {
            fixture.pass(secs(600)).await;
            assert!(fixture.bodies(LOW).iter().map(bytes::Bytes::len).max() <= bytes);
            fixture.emptied().await;
        })
        .await
        .unwrap();
    assert_eq!(*seen.lock(), BTreeMap::from([(1, 100)]), "each was put back by a send of its own");
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_people_change_holds_from_the_next_moment_on() {
    let fixture = fixture();
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 20).await;
    fixture
        .work(async {
            fixture.pass(secs(35)).await;
            assert_eq!(fixture.probe.begun().len(), 4);
            fixture.caps.set(&store_of("slow"), 5);
            fixture.pass(secs(2)).await;
            assert_eq!(fixture.probe.begun().len(), 8, "four more at once");
            fixture.caps.set(&store_of("slow"), 0);
            fixture.pass(secs(2)).await;
            let running = fixture.probe.begun().len() - fixture.probe.ended().len();
            assert_eq!(running, 8, "as many as there are slots");
            fixture.emptied().await;
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn accounts_that_wait_begin_one_after_the_other() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(10)).await;
        Ok(TaskOutcome::done())
    });
    fixture.settings.workers = 3;
    for account in ["a", "b", "c"] {
        fixture.caps.set(&store_of(account), 1);
    }
    for account in ["a", "b", "c"] {
        send(&fixture, account, 8).await;
    }
    fixture.work_off().await.unwrap();
    let begun = fixture.probe.begun();
    for three in begun[3..].chunks(3) {
        let mut accounts: Vec<&str> = three.iter().map(|item| &item[..1]).collect();
        accounts.sort_unstable();
        assert_eq!(accounts, ["a", "b", "c"], "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_given_back_at_once_when_the_workman_stops() {
    let fixture = fixture();
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 10).await;
    fixture.work(fixture.pass(secs(5))).await.unwrap();
    assert_eq!(fixture.probe.ended().len(), 1, "what was begun is finished");
    let back = fixture.receive(LOW).await;
    assert_eq!((back.len(), back.iter().map(|one| one.receive_count).max()), (9, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_while_a_task_waits_and_what_was_lost_begins_nowhere() {
    let fixture = fixture();
    fixture.caps.set(&store_of("slow"), 1);
    send(&fixture, "slow", 12).await;
    fixture.work_off().await.unwrap();
    assert_eq!(fixture.probe.begun().len(), 12, "twice the visibility, and none came a second time");
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_one_capped_store_is_not_received_over_and_over() {
    for seed in 1..9 {
        let fixture = fixture_of(seed, seed % 2 == 0);
        fixture.caps.set(&store_of("slow"), 1);
        send(&fixture, "slow", 150).await;
        let mut deps = fixture.deps(&[HIGH, LOW]);
        let counted: Vec<_> = deps.queues.iter().map(|queue| Arc::new(CallRecorder::new(queue.clone()))).collect();
        deps.queues = counted.iter().map(|queue| queue.clone() as Arc<dyn TaskQueue>).collect();
        let (workman, heartbeat) = Workman::new(deps, fixture.settings.clone());
        let during = async {
            fixture.pass(secs(595)).await;
            fixture.stop.gentle.cancel();
        };
        let (ended, (), ()) = futures::join!(workman.run(fixture.stop.clone()), heartbeat.run(), during);
        ended.unwrap();
        assert_eq!(fixture.probe.ended().len(), 60, "its store always has something to do");
        let put_back = counted[1].calls(PortCall::Acknowledge).entries - 60;
        // Once when it is received past the limit, once before the duration of a task is known, and then not twice in
        // five minutes.
        assert!(put_back <= 4 * 150, "{put_back}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_cannot_be_told_now_is_the_last_that_was_known_or_one() {
    let fixture = fixture();
    fixture.caps.set(&store_of("slow"), 3);
    send(&fixture, "slow", 12).await;
    fixture
        .work(async {
            fixture.pass(secs(5)).await;
            fixture.caps.set(&store_of("slow"), u32::MAX);
            fixture.emptied().await;
        })
        .await
        .unwrap();
    assert_eq!(most_at_once(&fixture.probe.events(), "slow"), 3);
    let fixture = self::fixture();
    fixture.caps.set(&store_of("slow"), u32::MAX);
    send(&fixture, "slow", 4).await;
    fixture.work_off().await.unwrap();
    assert_eq!(most_at_once(&fixture.probe.events(), "slow"), 1);
}
