//! Two accounts and one queue: a slow one's tasks do not keep out the other's.

use std::num::NonZeroUsize;
use std::time::Duration;

use mill_model::Properties;
use tokio_util::sync::CancellationToken;

use super::world::{World, account, is_finished, item, policy};
use crate::{Ended, QueueSizing, Settings, WhenFull};

const ONE: &str = r#"{"spaceDuplicationStorePolicies": {"s": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
const MAX: u64 = 40;

/// So many items of account `a`, which is slow, and of `b`.
fn two(of_a: usize, of_b: usize) -> World {
    let mut world = World::of(vec![policy("a", ONE), policy("b", ONE)]);
    world.add_store("b", "1");
    world.add_store("b", "2");
    world.plant("1", "of a", of_a);
    for number in 0..of_b {
        world.store_of("b", "1").plant(&item("s", &format!("of b {number:04}")), "x", Properties::default());
    }
    world
}

fn small(settings: &mut Settings) {
    settings.queue_max = MAX;
    settings.nibble = NonZeroUsize::new(5).unwrap();
}

fn waiting(settings: &mut Settings) {
    small(settings);
    settings.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_tasks_are_slow_has_no_more_than_its_share_of_the_queue() {
    for sizing in [QueueSizing::Fixed, QueueSizing::Lasting(Duration::from_mins(2))] {
        let world = two(500, 300);
        let producer = world.producer_with(|settings| {
            waiting(settings);
            settings.queue_sizing = sizing;
        });
        let stop = CancellationToken::new();
        let working = async {
            let (mut done, mut most) = (0, 0);
            // The space, and its items.
            for _ in 0..600 {
                world.pass(Duration::from_secs(1)).await;
                if done < 301 {
                    most = most.max(world.depth_of(&account("a")));
                }
                done += world.queue.drain_of(&account("b")).await;
            }
            stop.cancel();
            (done, most)
        };
        let (report, (done, most)) = futures::join!(producer.session(&stop), working);
        let ended = report.unwrap().ended;
        assert_eq!(done, 301, "{sizing:?}: all of b is queued and done, while nothing of a is");
        if sizing == QueueSizing::Fixed {
            assert_eq!(ended, Ended::Stopped);
            assert!(most < MAX / 2 + 6, "{most} of a wait, and its share is {}", MAX / 2);
            let of_a = world.depth_of(&account("a"));
            assert!((MAX..MAX + 6).contains(&of_a), "where nobody else has work, all is its share: {of_a}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_from_cron_fills_the_share_of_each_and_leaves() {
    let world = two(100, 100);
    let report = world.session_with(small).await;
    assert_eq!(report.ended, Ended::QueueFull);
    for name in ["a", "b"] {
        let depth = world.depth_of(&account(name));
        assert!((MAX / 2 - 5..MAX / 2 + 6).contains(&depth), "{depth} of {name}");
    }
    // Nothing of a was done: the next one is b's alone.
    world.queue.drain_of(&account("b")).await;
    let before = world.depth_of(&account("a"));
    assert_eq!(world.session_with(small).await.ended, Ended::QueueFull);
    assert_eq!(world.depth_of(&account("a")), before);
    assert!(world.depth_of(&account("b")) >= MAX / 2 - 5);
}

#[tokio::test(start_paused = true)]
async fn each_account_may_have_a_nibble_however_many_there_are() {
    let world = two(20, 20);
    let producer = world.producer_with(|settings| {
        waiting(settings);
        settings.queue_max = 1;
    });
    let draining = async {
        for _ in 0..200 {
            world.pass(Duration::from_secs(1)).await;
            world.queue.drain().await;
        }
    };
    let stop = CancellationToken::new();
    let (report, ()) = futures::join!(producer.session(&stop), draining);
    assert!(is_finished(&report.unwrap()));
}
