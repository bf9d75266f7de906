//! A producer that stays, and how it sizes the queue.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::future::{Either, select};
use mill_ports::Clock as _;
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::{ProducerSettings, QueueSizing, SessionEnd, SessionPauses, SessionReport, WhenFull};

const ONE: &str = r#"{"spaceDuplicationStorePolicies": {"s": [{"srcStoreId": "1", "destStoreId": "2"}]}}"#;
const HOUR: Duration = Duration::from_hours(1);
const PAUSES: SessionPauses = SessionPauses { least: Duration::from_mins(1), most: Duration::from_mins(5) };

fn staying(settings: &mut ProducerSettings) {
    settings.looping.frequency = HOUR;
    settings.looping.nibble = NonZeroUsize::new(5).unwrap();
    settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(5), poll_most: Duration::from_secs(30) };
}

/// Runs a staying producer for `time`, and returns its reports.
async fn stay_for(world: &World, time: Duration, change: impl FnOnce(&mut ProducerSettings)) -> Vec<SessionEnd> {
    let producer = world.producer_with(|settings| {
        staying(settings);
        change(settings);
    });
    let (stop, mut told) = (CancellationToken::new(), Vec::new());
    let mut tell = |report: &SessionReport| told.push(report.ended.clone());
    let ending = async {
        world.pass(time).await;
        stop.cancel();
    };
    let (ended, ()) = futures::join!(producer.run_until_stopped(PAUSES, &stop, &mut tell), ending);
    ended.unwrap();
    told
}

fn loops(told: &[SessionEnd]) -> usize {
    told.iter().filter(|ended| matches!(ended, SessionEnd::Finished { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_begins_each_loop_when_it_is_due() {
    let world = World::new(ONE);
    world.insert("1", "item", 12);
    let began = world.clock.now();
    let told = stay_for(&world, HOUR * 3 + HOUR / 2, |_| {}).await;
    assert_eq!(loops(&told), 4, "{told:?}");
    assert_eq!(world.clock.now().since(began), HOUR * 3 + HOUR / 2, "it ends when it is told to");
    assert_eq!(world.ids_of("item"), 4 * 12);
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_asks_little_while_nothing_is_due() {
    let world = World::new(ONE);
    world.insert("1", "item", 12);
    stay_for(&world, HOUR / 2, |_| {}).await;
    world.queue.drain().await;
    world.fuse.set(1_000);
    let told = stay_for(&world, HOUR / 4, |_| {}).await;
    assert!(told.iter().all(|ended| matches!(ended, SessionEnd::NotDue { .. })), "{told:?}");
    let (sessions, writes) = (told.len() as u64, 1_000 - world.fuse.left());
    assert!((3..=5).contains(&sessions), "a look each five minutes: {sessions}");
    // The lease is acquired and released, each with an instant before and after.
    assert_eq!(writes, sessions.cast_signed() * 4);
    assert!(world.queue.asked().is_empty(), "the queue is not asked");
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_beside_one_that_stays_is_brought_to_its_end_by_it() {
    let world = World::new(ONE);
    world.insert("1", "item", 30);
    stay_for(&world, Duration::from_secs(1), |_| {}).await;
    world.queue.drain().await;
    let beside = world
        .session_with(|settings| {
            staying(settings);
            settings.looping.run_start = crate::RunStart::Now;
            settings.looping.queue_max = 10;
            settings.looping.when_full = WhenFull::Leave;
        })
        .await;
    assert_eq!(beside.ended, SessionEnd::QueueFull);
    assert!(world.ids_of("item") < 30);
    stay_for(&world, Duration::from_mins(10), |_| {}).await;
    assert_eq!(world.ids_of("item"), 30);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_stay_the_second_waits_and_takes_over_when_the_first_dies() {
    let world = World::new(ONE);
    world.insert("1", "item", 50);
    let full = |settings: &mut ProducerSettings| {
        staying(settings);
        settings.looping.queue_max = 10;
    };
    let (first, stop) = (world.producer_with(full), CancellationToken::new());
    let mut nothing = |_: &SessionReport| {};
    let at_work = Box::pin(first.run_until_stopped(PAUSES, &stop, &mut nothing));
    let second = Box::pin(async {
        world.pass(Duration::from_secs(1)).await;
        let other = |settings: &mut ProducerSettings| settings.looping.holder = "holder-1".into();
        stay_for(&world, Duration::from_mins(10), other).await
    });
    let Either::Right((told, at_work)) = select(at_work, second).await else { panic!("the first left") };
    let held = SessionEnd::HeldByAnother { holder: "holder-0".into() };
    assert!(told.len() > 3 && told.iter().all(|ended| *ended == held), "{told:?}");
    // Like a kill: it stops at once and keeps its lease.
    drop(at_work);
    let told = stay_for(&world, Duration::from_mins(10), |settings| settings.looping.holder = "holder-1".into()).await;
    assert_eq!(loops(&told), 1, "{told:?}");
    let queued: BTreeSet<String> = world.ids().into_iter().filter(|id| id.starts_with("item")).collect();
    assert_eq!(queued.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn wherever_one_that_stays_is_killed_the_next_queues_what_is_left() {
    let sized =
        |settings: &mut ProducerSettings| settings.looping.queue_sizing = QueueSizing::Lasting(Duration::from_mins(2));
    for effects in 0.. {
        let mut world = World::new(ONE);
        world.insert("1", "item", 12);
        world.fuse.set(effects);
        let blown = Box::pin(world.fuse.blown.notified());
        let stayed = Box::pin(stay_for(&world, HOUR / 2, sized));
        let whole = matches!(select(blown, stayed).await, Either::Right(_));
        world.fuse.set(i64::MAX);
        world.holders_dead = true;
        stay_for(&world, HOUR / 2, sized).await;
        let queued: BTreeSet<String> = world.ids().into_iter().filter(|id| id.starts_with("item")).collect();
        assert_eq!(queued.len(), 12, "killed after {effects} effects");
        if whole {
            assert!(effects > 20, "{effects}");
            break;
        }
    }
}

/// Sessions every ten minutes, as from cron, while a fleet takes at most so many tasks in between. Returns how many sessions queue
/// everything.
async fn sessions_needed(sizing: QueueSizing, drained: usize) -> (usize, usize) {
    let world = World::new(ONE);
    world.insert("1", "item", 2_000);
    let (mut sessions, mut most) = (0, 0);
    loop {
        let report = world
            .session_with(|settings| {
                staying(settings);
                (settings.looping.queue_max, settings.looping.queue_sizing) = (10, sizing);
                settings.looping.when_full = WhenFull::Leave;
            })
            .await;
        sessions += 1;
        if matches!(report.ended, SessionEnd::Finished { .. }) {
            return (sessions, most);
        }
        most = most.max(world.depth().await);
        world.queue.drain_most(drained).await;
        world.pass(Duration::from_mins(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_ran_dry_between_two_sessions_may_hold_more_the_next_time() {
    let lasting = QueueSizing::Lasting(Duration::from_mins(2));
    let (fixed, _) = sessions_needed(QueueSizing::Fixed, usize::MAX).await;
    let (sized, _) = sessions_needed(lasting, usize::MAX).await;
    assert!(fixed > 150 && sized < 8, "{fixed} and {sized} sessions");
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_no_more_than_lasts_until_the_next_session() {
    let (sessions, most) = sessions_needed(QueueSizing::Lasting(Duration::from_mins(2)), 100).await;
    // 100 go in ten minutes; a half more is held, and the step before may have been larger by four times.
    assert!((100..=640).contains(&most) && (17..=24).contains(&sessions), "{most} held, {sessions} sessions");
}
