//! Two accounts and one queue: the tasks of a slow account do not keep out those of the other.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_model::Properties;
use mill_ports::Table;
use mill_records::account_counts::CountsWriter;
use mill_testkit::{CallRecorder, FaultInjector, FaultKind, FaultPlan, SeededRng};
use tokio_util::sync::CancellationToken;

use super::world::{World, account, is_finished, item, policy};
use crate::{ProducerSettings, QueueSizing, SessionEnd, WhenFull};

const ONE: &str = r#"{"spaceDuplicationStorePolicies": {"s": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
const MAX: u64 = 40;

/// Items of account `a`, which is slow, and of `b`.
fn two(of_a: usize, of_b: usize) -> World {
    let mut world = World::of(vec![policy("a", ONE), policy("b", ONE)]);
    world.add_store("b", "1");
    world.add_store("b", "2");
    world.insert("1", "of a", of_a);
    for number in 0..of_b {
        world.store_of("b", "1").insert(&item("s", &format!("of b {number:04}")), "x", Properties::default());
    }
    world
}

fn small(settings: &mut ProducerSettings) {
    settings.looping.queue_max = MAX;
    settings.looping.nibble = NonZeroUsize::new(5).unwrap();
}

fn waiting(settings: &mut ProducerSettings) {
    small(settings);
    settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
}

/// Whether the queue counts the tasks of an account, or workmen do.
const TELLS: [bool; 2] = [true, false];

fn telling(tells: bool, of_a: usize, of_b: usize) -> World {
    let world = two(of_a, of_b);
    if !tells {
        world.queue_tells_no_accounts();
    }
    world
}

#[tokio::test(start_paused = true)]
async fn where_every_account_has_its_share_the_producer_says_that_it_waits_for_room() {
    for tells in TELLS {
        let world = telling(tells, 500, 500);
        let producer = world.producer_with(waiting);
        let stop = CancellationToken::new();
        let looking = async {
            world.pass(Duration::from_mins(2)).await;
            assert!(world.statistics.waits_for_room(), "{tells}");
            stop.cancel();
        };
        let (report, ()) = futures::join!(producer.run_session(&stop), looking);
        assert_eq!(report.unwrap().ended, SessionEnd::Stopped);
        assert!(!world.statistics.waits_for_room(), "{tells}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_tasks_are_slow_has_no_more_than_its_share_of_the_queue() {
    for (tells, sizing) in TELLS
        .into_iter()
        .flat_map(|tells| [(tells, QueueSizing::Fixed), (tells, QueueSizing::Lasting(Duration::from_mins(2)))])
    {
        let world = telling(tells, 500, 300);
        let producer = world.producer_with(|settings| {
            waiting(settings);
            settings.looping.queue_sizing = sizing;
        });
        let stop = CancellationToken::new();
        let working = async {
            let (mut done, mut most) = (0, 0);
            let mut writer = world.counts().map(|counts| CountsWriter::new(counts, "workman".to_owned()));
            // The space, and its items.
            for second in 0..1_200 {
                world.pass(Duration::from_secs(1)).await;
                if done < 301 {
                    most = most.max(world.depth_of(&account("a")));
                    done += world.queue.drain_of(&account("b")).await;
                }
                if let Some(writer) = writer.as_mut().filter(|_| second % 10 == 0) {
                    world.write_counts(writer).await;
                }
            }
            stop.cancel();
            (done, most)
        };
        let (report, (done, most)) = futures::join!(producer.run_session(&stop), working);
        let ended = report.unwrap().ended;
        assert_eq!(done, 301, "{tells} {sizing:?}: all of b is queued and done, while nothing of a is");
        if sizing == QueueSizing::Fixed {
            assert_eq!(ended, SessionEnd::Stopped);
            assert!(most < MAX / 2 + 6, "{tells}: {most} of a wait, and its share is {}", MAX / 2);
            let of_a = world.depth_of(&account("a"));
            assert!((MAX..MAX + 6).contains(&of_a), "where nobody else has work, all is its share: {of_a}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_from_cron_fills_the_share_of_each_and_leaves() {
    for tells in TELLS {
        let world = telling(tells, 100, 100);
        let report = world.session_with(small).await;
        assert_eq!(report.ended, SessionEnd::QueueFull);
        for name in ["a", "b"] {
            let depth = world.depth_of(&account(name));
            assert!((MAX / 2 - 5..MAX / 2 + 6).contains(&depth), "{depth} of {name}");
        }
        // Nothing of a was done: the next one is b's alone.
        world.queue.drain_of(&account("b")).await;
        if let Some(counts) = world.counts() {
            world.write_counts(&mut CountsWriter::new(counts, "workman".to_owned())).await;
        }
        let before = world.depth_of(&account("a"));
        assert_eq!(world.session_with(small).await.ended, SessionEnd::QueueFull);
        assert_eq!(world.depth_of(&account("a")), before);
        assert!(world.depth_of(&account("b")) >= MAX / 2 - 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_outlives_the_producer_that_filled_it() {
    let mut sent = 0;
    for effects in 1..60 {
        let mut world = telling(false, 500, 500);
        world.holders_dead = true;
        let mut writer = CountsWriter::new(world.counts().unwrap(), "workman".to_owned());
        for _ in 0..8 {
            world.fuse.set(effects);
            let producer = world.producer_with(small);
            let stop = CancellationToken::new();
            let (session, blown) =
                (std::pin::pin!(producer.run_session(&stop)), std::pin::pin!(world.fuse.blown.notified()));
            drop(futures::future::select(blown, session).await);
            world.fuse.set(i64::MAX);
            sent += world.queue.drain_of(&account("b")).await;
            world.write_counts(&mut writer).await;
            world.pass(Duration::from_secs(30)).await;
        }
        let of_a = world.depth_of(&account("a"));
        assert!(of_a < MAX / 2 + 6, "killed after {effects}: {of_a} of a, and its share is {}", MAX / 2);
    }
    assert!(sent > 2_000, "b goes on meanwhile: {sent}");
}

#[tokio::test(start_paused = true)]
async fn counts_that_cannot_be_read_stop_nothing() {
    let mut world = telling(false, 100, 100);
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    world.counts = Arc::new(FaultInjector::<dyn Table>::new(world.counts.clone(), plan.clone()));
    plan.set_outage(Some(FaultKind::Unavailable));
    let producer = world.producer_with(waiting);
    let draining = async {
        for _ in 0..400 {
            world.pass(Duration::from_secs(1)).await;
            world.queue.drain().await;
        }
    };
    let stop = CancellationToken::new();
    let (report, ()) = futures::join!(producer.run_session(&stop), draining);
    assert!(is_finished(&report.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn shares_cost_a_write_a_nibble_and_a_read_in_five_seconds() {
    let mut world = telling(false, 1_000, 1_000);
    let counts = Arc::new(CallRecorder::<dyn Table>::new(world.counts.clone()));
    world.counts = counts.clone();
    let recorded = world.session_with(|settings| settings.looping.nibble = NonZeroUsize::new(100).unwrap()).await;
    assert!(is_finished(&recorded));
    // Twenty nibbles and two spaces, which are not there yet.
    assert_eq!(world.writes_of("share/"), 22);
    let all: u64 = counts.all().values().map(|calls| calls.calls).sum();
    assert_eq!(all, 1, "all of it took no time");
}

#[tokio::test(start_paused = true)]
async fn each_account_may_have_a_nibble_however_many_there_are() {
    let world = two(20, 20);
    let producer = world.producer_with(|settings| {
        waiting(settings);
        settings.looping.queue_max = 1;
    });
    let draining = async {
        for _ in 0..200 {
            world.pass(Duration::from_secs(1)).await;
            world.queue.drain().await;
        }
    };
    let stop = CancellationToken::new();
    let (report, ()) = futures::join!(producer.run_session(&stop), draining);
    assert!(is_finished(&report.unwrap()));
}
