//! What a store takes at once holds over all workmen, by a book that they share.

use std::time::Duration;

use mill_engine::{FaultKind, InjectedFault, PortCall};
use mill_ports::TaskOutcome;
use mill_workman::{Heartbeat, StopSignal, Workman};

use crate::admission::{most_at_once, send};
use crate::probe::store_of;
use crate::shop::{Shop, secs};

/// Tasks take ten seconds; of account `slow` two may run at once, over all workmen.
fn shop() -> Shop {
    let shop = Shop::new(|clock, _| async move {
        clock.sleep(secs(10)).await;
        Ok(TaskOutcome::done())
    });
    shop.caps.set(&store_of("slow"), 2);
    shop
}

/// Two workmen, until they are told to stop.
async fn both_work(shop: &Shop, one: (Workman, Heartbeat), other: (Workman, Heartbeat)) {
    let (one_ended, (), other_ended, ()) =
        futures::join!(one.0.run(shop.stop.clone()), one.1.run(), other.0.run(shop.stop.clone()), other.1.run());
    one_ended.and(other_ended).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stores_cap_holds_over_all_workmen_and_is_used() {
    let mut shop = shop();
    shop.shares();
    send(&shop, "slow", 30).await;
    let (one, other) = (shop.another("one"), shop.another("other"));
    let both = both_work(&shop, one, other);
    let emptied = async {
        shop.emptied().await;
        shop.stop.gentle.cancel();
        shop.clock.monotonic().since_origin()
    };
    let ((), took) = futures::join!(both, emptied);
    assert_eq!(most_at_once(&shop.probe.events(), "slow"), 2);
    assert!(took < secs(15 * 10 + 60), "no permit lies idle while tasks wait for it: {took:?}");
    assert_eq!(shop.probe.begun().len(), 30, "none began twice");
}

#[tokio::test(start_paused = true)]
async fn permits_of_a_workman_that_died_are_used_again_once_they_have_run_out() {
    let mut shop = shop();
    shop.shares();
    send(&shop, "slow", 4).await;
    let (dead, heartbeat) = shop.another("dead");
    let death = shop.pass(secs(5));
    let lived = async { futures::join!(dead.run(StopSignal::default()), heartbeat.run()) };
    futures::future::select(Box::pin(lived), Box::pin(death)).await;
    assert_eq!(shop.probe.begun().len(), 2);
    shop.work_off().await.unwrap();
    assert_eq!(shop.probe.ended().len(), 4);
    let mut begun: Vec<u64> = (0..4).flat_map(|n| shop.probe.begun_at(&format!("slow/{n}"))).collect();
    begun.sort_unstable();
    assert!(begun.len() == 6 && (60..135).contains(&begun[2]), "not before they have surely run out: {begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workman_that_stops_leaves_its_permits_to_others_at_once() {
    let mut shop = shop();
    shop.shares();
    send(&shop, "slow", 10).await;
    shop.work(shop.pass(secs(15))).await.unwrap();
    let ended = shop.clock.monotonic();
    shop.stop = StopSignal::default();
    let (next, heartbeat) = shop.another("next");
    let soon = async {
        shop.pass(secs(5)).await;
        assert_eq!(shop.probe.begun().len(), 6, "{:?}", shop.clock.monotonic().since(ended));
        shop.stop.gentle.cancel();
    };
    futures::join!(next.run(shop.stop.clone()), heartbeat.run(), soon).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn permits_cost_no_row_a_task_and_none_where_a_store_has_no_cap() {
    let mut shop = shop();
    let book = shop.shares();
    send(&shop, "quick", 100).await;
    shop.work_off().await.unwrap();
    assert_eq!(book.calls(PortCall::GetRow).calls + book.calls(PortCall::PutRow).calls, 0);
    shop.stop = StopSignal::default();
    send(&shop, "slow", 60).await;
    let began = shop.clock.monotonic();
    shop.work_off().await.unwrap();
    let beats = shop.clock.monotonic().since(began).as_secs() / 20;
    let written = book.calls(PortCall::PutRow).calls;
    assert!(written <= beats + 3, "{written} writes in {beats} thirds of the timeout");
}

#[tokio::test(start_paused = true)]
async fn while_the_book_does_not_answer_tasks_of_capped_stores_wait_and_all_others_go_on() {
    let mut shop = shop();
    shop.shares();
    for nth in 1..60 {
        shop.plan.fail(PortCall::GetRow, nth, InjectedFault::Before(FaultKind::Unavailable));
    }
    send(&shop, "slow", 5).await;
    send(&shop, "quick", 20).await;
    shop.work_off().await.unwrap();
    let ended = shop.probe.ended();
    assert!(ended[..20].iter().all(|item| item.starts_with("quick")), "{ended:?}");
    assert_eq!((ended.len(), shop.letters().len()), (25, 0));
}

#[tokio::test(start_paused = true)]
async fn a_workman_that_cannot_keep_its_permits_lets_go_before_others_begin() {
    let mut shop = Shop::new(|clock, _| async move {
        clock.sleep(Duration::from_mins(5)).await;
        Ok(TaskOutcome::done())
    });
    shop.caps.set(&store_of("slow"), 1);
    shop.shares();
    send(&shop, "slow", 2).await;
    let (one, other) = (shop.another("one"), shop.another("other"));
    let both = both_work(&shop, one, other);
    let during = async {
        shop.pass(secs(30)).await;
        // From now on, nobody can write the row for a while.
        for nth in 1..300 {
            shop.plan.fail(PortCall::PutRow, nth, InjectedFault::Before(FaultKind::Unavailable));
        }
        shop.pass(secs(100)).await;
        assert_eq!(shop.probe.begun().len(), 1, "what was begun is let go, and nothing else begins");
        shop.plan.calm();
        shop.emptied().await;
        shop.stop.gentle.cancel();
    };
    futures::join!(both, during);
    assert_eq!(most_at_once(&shop.probe.events(), "slow"), 1);
    assert_eq!((shop.probe.ended().len(), shop.letters().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_lowered_beneath_what_runs_asks_the_book_no_more_often() {
    let mut shop = Shop::new(|clock, _| async move {
        clock.sleep(Duration::from_mins(10)).await;
        Ok(TaskOutcome::done())
    });
    shop.caps.set(&store_of("slow"), 3);
    let book = shop.shares();
    send(&shop, "slow", 5).await;
    shop.work(async {
        shop.pass(secs(5)).await;
        shop.caps.set(&store_of("slow"), 1);
        shop.emptied().await;
    })
    .await
    .unwrap();
    let minutes = shop.clock.monotonic().since_origin().as_secs() / 60;
    // Three beats a minute, and a question for those that wait every two seconds.
    assert!(
        book.calls(PortCall::PutRow).calls <= minutes * 35,
        "{:?} in {minutes} minutes",
        book.calls(PortCall::PutRow)
    );
}
