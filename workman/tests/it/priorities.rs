//! The order of tasks, and the pauses when there are none.

use std::time::Duration;

use mill_ports::TaskOutcome;

use crate::fixture::{Fixture, HIGH, LOW, secs};

#[tokio::test(start_paused = true)]
async fn every_task_of_the_higher_queue_comes_first() {
    let mut fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    fixture.settings.workers = 1;
    for n in 0..15 {
        fixture.send(LOW, &format!("low {n}")).await;
        fixture.send(HIGH, &format!("high {n}")).await;
    }
    fixture.work_off().await.unwrap();
    let begun = fixture.probe.begun();
    assert_eq!(begun.len(), 30);
    assert!(begun[..15].iter().all(|item| item.starts_with("high")), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_becomes_free_is_offered_to_the_higher_queue_first() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(10)).await;
        Ok(TaskOutcome::done())
    });
    fixture.settings.workers = 2;
    for n in 0..8 {
        fixture.send(LOW, &format!("low {n}")).await;
    }
    fixture
        .work(async {
            fixture.pass(secs(15)).await;
            fixture.send(HIGH, "high").await;
            fixture.emptied().await;
        })
        .await
        .unwrap();
    assert_eq!(fixture.probe.begun_at("high"), [20], "the first slot after it came");
}

fn hours_long() -> Fixture {
    let mut fixture = Fixture::new(|clock, call| async move {
        clock.sleep(if call.item.starts_with("long") { Duration::from_hours(1) } else { secs(10) }).await;
        Ok(TaskOutcome::done())
    });
    (fixture.settings.workers, fixture.settings.reserved_high) = (4, 0.05);
    fixture
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_long_low_tasks_leaves_a_slot_to_a_high_one() {
    let fixture = hours_long();
    for n in 0..8 {
        fixture.send(LOW, &format!("long {n}")).await;
    }
    fixture
        .work(async {
            fixture.pass(secs(1_000)).await;
            fixture.send(HIGH, "high").await;
            fixture.emptied().await;
        })
        .await
        .unwrap();
    assert_eq!(fixture.probe.begun_at("high"), [1_000], "at once");
}

#[tokio::test(start_paused = true)]
async fn low_tasks_use_all_slots_that_are_not_reserved_without_a_pause() {
    let fixture = hours_long();
    for n in 0..300 {
        fixture.send(LOW, &format!("{n}")).await;
    }
    fixture
        .work(async {
            // Three at once, ten seconds each, plus the linger in between.
            fixture.pass(secs(1_001)).await;
            assert_eq!(fixture.probe.begun().len(), 300);
            fixture.emptied().await;
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_reserved_share_serves_the_lower_queue_while_the_higher_is_never_empty() {
    let mut fixture = Fixture::new(|clock, _| async move {
        clock.sleep(secs(1)).await;
        Ok(TaskOutcome::done())
    });
    (fixture.settings.workers, fixture.settings.reserved_low) = (4, 0.25);
    for n in 0..90 {
        fixture.send(HIGH, &format!("high {n}")).await;
    }
    for n in 0..9 {
        fixture.send(LOW, &format!("low {n}")).await;
    }
    fixture.work_off().await.unwrap();
    let begun = fixture.probe.begun();
    let low: Vec<usize> = (0..begun.len()).filter(|at| begun[*at].starts_with("low")).collect();
    assert!(low.iter().enumerate().all(|(nth, at)| *at < (nth + 1) * 5), "one in four: {low:?}");
    let without = {
        let mut fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
        fixture.settings.workers = 4;
        fixture.send(LOW, "low").await;
        for n in 0..20 {
            fixture.send(HIGH, &format!("high {n}")).await;
        }
        fixture.work_off().await.unwrap();
        fixture.probe.begun()
    };
    assert_eq!(without.last().map(String::as_str), Some("low"), "by default nothing is reserved");
}

#[tokio::test(start_paused = true)]
async fn the_lower_queue_is_left_alone_for_1_2_4_8_8_minutes_and_the_higher_is_served_at_once() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    fixture
        .work(async {
            fixture.send(LOW, "first").await;
            // Polled at 0, 1, 3, 7, 15 minutes while nothing more is found.
            fixture.pass(Duration::from_mins(7) + secs(30)).await;
            fixture.send(LOW, "low").await;
            fixture.pass(Duration::from_mins(10)).await;
            assert_eq!(fixture.probe.begun_at("low"), [15 * 60]);
            // Work has reset the pauses: polled until 15:00, then at 16:00, 18:00.
            fixture.send(LOW, "low 2").await;
            fixture.pass(secs(1)).await;
            assert_eq!(fixture.probe.begun_at("low 2"), [0; 0]);
            fixture.send(HIGH, "high").await;
            fixture.pass(secs(1)).await;
            assert_eq!(
                fixture.probe.begun_at("high"),
                [17 * 60 + 31],
                "served at once, and the low queue is asked again"
            );
            assert_eq!(fixture.probe.begun_at("low 2"), [17 * 60 + 31]);
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_task_of_all_is_found_within_a_minute() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    fixture
        .work(async {
            fixture.pass(Duration::from_mins(20) + secs(30)).await;
            fixture.send(LOW, "first").await;
            fixture.pass(Duration::from_mins(1)).await;
            assert_eq!(fixture.probe.begun_at("first"), [21 * 60]);
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_single_queue_is_listened_to_all_the_time() {
    let fixture = Fixture::new(|_, _| async { Ok(TaskOutcome::done()) });
    let (workman, heartbeat) = fixture.workman(&[LOW]);
    let during = async {
        fixture.pass(Duration::from_mins(20)).await;
        fixture.send(LOW, "late").await;
        fixture.pass(secs(1)).await;
        fixture.stop.gentle.cancel();
    };
    let (ended, (), ()) = futures::join!(workman.run(fixture.stop.clone()), heartbeat.run(), during);
    ended.unwrap();
    assert_eq!(fixture.probe.begun_at("late"), [20 * 60]);
}
