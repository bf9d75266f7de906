//! The order of steps, and the queue's maximum before each.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use mill_model::Properties;
use mill_ports::SourceStore as _;
use tokio_util::sync::CancellationToken;

use super::world::{Asked, DEFAULT, ONE, TWO, World, is_finished, item, policy, space};
use crate::{ProducerSettings, SessionEnd, WhenFull};

/// The recorded calls as text: each step by its destination.
fn told(world: &World) -> Vec<String> {
    let mut steps: Vec<(String, usize)> = Vec::new();
    for asked in world.queue.asked() {
        let (name, items) = match asked {
            Asked::QueueDepth => ("depth".to_owned(), 1),
            Asked::Other(task) => (task.kind.to_string(), 1),
            Asked::Sent(task) => (format!("{} copies", task.pair.destination), 1),
            Asked::Removes(task) => (format!("{} deletes", task.pair.destination), world.row_ids(&task).len()),
        };
        match steps.last_mut() {
            Some((last, count)) if *last == name => *count += items,
            _ => steps.push((name, items)),
        }
    }
    steps.into_iter().map(|(name, count)| if name == "depth" { name } else { format!("{name} {count}") }).collect()
}

fn nibble(most: usize) -> impl FnOnce(&mut ProducerSettings) {
    move |settings| settings.looping.nibble = NonZeroUsize::new(most).unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_policies_on_one_space_take_turns_deletes_first() {
    let world = World::new(TWO);
    world.insert("1", "item", 2_500);
    for (id, gone) in [("2", 15), ("3", 12)] {
        world.insert(id, "gone", gone);
        world.insert(id, "item", 40);
    }
    world.wrote_all().await;
    let report = world.session().await;
    assert!(is_finished(&report));
    assert_eq!(report.queued, 2 * 2_500 + 2, "a task each for the copies and one a row of deletes");
    let expected = [
        ("2 deletes 15", "2 copies 1000"),
        ("3 deletes 12", "3 copies 1000"),
        ("2 copies 1000", "3 copies 1000"),
        ("2 copies 500", "3 copies 500"),
    ];
    let expected: Vec<&str> = expected.into_iter().flat_map(|(a, b)| ["depth", a, "depth", b]).collect();
    assert_eq!(told(&world), expected);
}

#[tokio::test(start_paused = true)]
async fn every_item_is_queued_once_and_in_order() {
    let world = World::new(ONE);
    world.insert("1", "item", 2_500);
    world.store("2").insert_space(&space("s"));
    world.session().await;
    let ids = world.ids();
    assert_eq!(ids.len(), 2_500);
    assert!(ids.is_sorted());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2_500);
    assert_eq!(world.statistics.totals().sum.survey.queued, 2_500);
    assert_eq!(world.statistics.bytes_queued.load(std::sync::atomic::Ordering::Relaxed), 2_500 * 9);
}

#[tokio::test(start_paused = true)]
async fn an_account_with_many_spaces_does_not_keep_another_waiting() {
    let mut world = World::of(vec![policy("a", DEFAULT), policy("b", DEFAULT)]);
    world.add_store("b", "1");
    world.add_store("b", "2");
    for number in 0..20 {
        for id in 0..5 {
            let item = item(&format!("s{number:02}"), &format!("i{id}"));
            world.store("1").insert(&item, "x", Properties::default());
        }
    }
    for id in 0..5 {
        world.store_of("b", "1").insert(&item("z", &format!("i{id}")), "x", Properties::default());
    }
    world.session_with(nibble(2)).await;
    let accounts: Vec<String> = world.queue.sent().iter().map(|task| task.pair.account.to_string()).collect();
    let first_of_b = accounts.iter().position(|account| account == "b").unwrap();
    assert!(first_of_b <= 3, "b waits for {first_of_b} tasks of a");
    assert_eq!(accounts.iter().filter(|account| *account == "b").count(), 6); // five items and the space
    assert_eq!(accounts.len(), 20 * 6 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_ends_the_session_and_the_next_goes_on_at_the_marker() {
    let world = World::new(TWO);
    world.insert("1", "item", 100);
    world.insert("2", "gone", 3);
    world.insert("2", "item", 50);
    world.wrote_all().await;
    let settings = |settings: &mut ProducerSettings| {
        nibble(10)(settings);
        settings.looping.queue_max = 25;
    };
    let mut sent = BTreeSet::new();
    let mut sessions = 0;
    loop {
        let report = world.session_with(settings).await;
        sessions += 1;
        for task in world.told() {
            assert!(sent.insert(task.clone()), "sent twice although nothing crashed: {task}");
        }
        // A step begins below the maximum, so it ends less than one step above.
        assert!(world.queue.drain().await < 25 + 11);
        match report.ended {
            SessionEnd::QueueFull => assert!(sessions < 20),
            SessionEnd::Finished { .. } => break,
            other => panic!("{other:?}"),
        }
        assert_eq!(report.resumed, sessions > 1);
    }
    assert!(sessions >= 6);
    assert_eq!(sent.len(), 200 + 3 + 1); // store 3 has no such space yet
}

#[tokio::test(start_paused = true)]
async fn no_step_begins_when_the_queue_holds_its_maximum() {
    let world = World::new(ONE);
    world.insert("1", "item", 30);
    world.store("2").insert_space(&space("s"));
    for (queue_max, queued) in [(10, 10), (11, 20), (0, 0)] {
        world.producer().reset().await.unwrap();
        world.queue.drain().await;
        let report = world
            .session_with(|settings| {
                nibble(10)(settings);
                settings.looping.queue_max = queue_max;
            })
            .await;
        assert_eq!((report.ended, world.ids().len()), (SessionEnd::QueueFull, queued));
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_cut_short_serve_every_morsel() {
    let world = World::new(DEFAULT);
    for name in ["s1", "s2", "s3", "s4"] {
        for id in 0..40 {
            world.store("1").insert(&item(name, &format!("i{id:02}")), "x", Properties::default());
        }
        world.store("2").insert_space(&space(name));
    }
    // Each session may do one step: no space is served again before all were served once.
    let mut turns = Vec::new();
    for _ in 0..8 {
        world
            .session_with(|settings| {
                nibble(10)(settings);
                settings.looping.queue_max = 1;
            })
            .await;
        let spaces: BTreeSet<String> = world.queue.sent().iter().map(|task| task.pair.space.to_string()).collect();
        turns.extend(spaces);
        world.queue.drain().await;
    }
    let served: BTreeSet<&String> = turns.iter().take(4).collect();
    assert_eq!(served.len(), 4, "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_goes_on_when_there_is_some() {
    let world = World::new(ONE);
    world.insert("1", "item", 100);
    let producer = world.producer_with(|settings| {
        nibble(10)(settings);
        settings.looping.queue_max = 10;
        settings.looping.when_full =
            WhenFull::Wait { poll: Duration::from_millis(50), poll_most: Duration::from_millis(50) };
    });
    let stop = CancellationToken::new();
    let draining = async {
        let mut drained = 0;
        while drained < 101 {
            world.pass(Duration::from_millis(20)).await;
            drained += world.queue.drain().await;
        }
    };
    let (report, ()) = futures::join!(producer.run_session(&stop), draining);
    assert!(is_finished(&report.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_waiting_and_nothing_is_lost() {
    let world = World::new(ONE);
    world.insert("1", "item", 100);
    let producer = world.producer_with(|settings| {
        nibble(10)(settings);
        settings.looping.queue_max = 10;
        settings.looping.when_full =
            WhenFull::Wait { poll: Duration::from_millis(50), poll_most: Duration::from_millis(50) };
    });
    let stop = CancellationToken::new();
    let (report, ()) = futures::join!(producer.run_session(&stop), async {
        world.pass(Duration::from_secs(2)).await;
        assert!(world.statistics.waits_for_room());
        stop.cancel();
    });
    assert_eq!(report.unwrap().ended, SessionEnd::Stopped);
    assert!(!world.statistics.waits_for_room());
    let report = world.session().await;
    assert!(is_finished(&report) && report.resumed);
    assert_eq!(world.ids_of("item"), 100);
}

#[tokio::test(start_paused = true)]
async fn more_morsels_than_listings_may_be_open_are_all_served() {
    let world = World::new(DEFAULT);
    for number in 0..12 {
        for id in 0..7 {
            world.store("1").insert(&item(&format!("s{number:02}"), &format!("i{id}")), "x", Properties::default());
        }
    }
    let report = world
        .session_with(|settings| {
            nibble(2)(settings);
            settings.looping.listings_open_max = 3;
        })
        .await;
    assert!(is_finished(&report));
    assert_eq!(world.ids_of("i"), 12 * 7);
    assert_eq!(world.ids_of("/"), 12);
}

#[tokio::test(start_paused = true)]
async fn no_store_is_written() {
    let world = World::new(TWO);
    world.insert("1", "item", 30);
    world.insert("2", "gone", 3);
    world.insert("2", "item", 30);
    world.session().await;
    for id in ["1", "2", "3"] {
        assert_eq!(world.store(id).writes(), 0);
    }
    assert!(world.store("1").spaces().await.unwrap().contains(&space("s")));
}
