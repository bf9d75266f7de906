//! A crash at any instant repeats at most one nibble and loses nothing.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use mill_ports::TaskQueue;
use mill_testkit::PortCall;
use mill_testkit::{FaultInjector, FaultKind, FaultPlan, FaultRates, InjectedFault, SeededRng};
use tokio_util::sync::CancellationToken;

use super::world::{ONE, TWO, World, is_finished};
use crate::{DuplicationProducer, ProducerError, ProducerSettings, SessionEnd};

const NIBBLE: usize = 4;

fn small(settings: &mut ProducerSettings) {
    settings.looping.nibble = NonZeroUsize::new(NIBBLE).unwrap();
    settings.looping.sends_at_once = NonZeroUsize::MIN;
}

async fn world() -> World {
    let mut world = World::new(TWO);
    world.insert("1", "item", 11);
    world.insert("2", "gone", 3);
    world.insert("2", "item", 4);
    world.holders_dead = true;
    world.wrote_all().await;
    world
}

/// Whether a session that dies after `effects` had ended before.
async fn finishes(world: &World, effects: i64, change: impl FnOnce(&mut ProducerSettings)) -> bool {
    world.fuse.set(effects);
    let (stop, producer) = (CancellationToken::new(), world.producer_with(change));
    let finished = {
        let session = std::pin::pin!(producer.run_session(&stop));
        let blown = std::pin::pin!(world.fuse.blown.notified());
        match futures::future::select(blown, session).await {
            futures::future::Either::Left(_) => false,
            futures::future::Either::Right((report, _)) => is_finished(&report.unwrap()),
        }
    };
    world.fuse.set(i64::MAX);
    finished
}

fn counts(sent: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for task in sent {
        *counts.entry(task).or_default() += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_instant_repeats_at_most_one_nibble_and_loses_nothing() {
    let whole = world().await;
    assert!(is_finished(&whole.session_with(small).await));
    let expected = counts(whole.told());
    assert_eq!(expected.len(), 2 * 11 + 3 + 1);
    let mut instants = 0;
    for effects in 0.. {
        let world = world().await;
        let finished = finishes(&world, effects, small).await;
        let report = world.session_with(small).await;
        let sent = counts(world.told());
        assert_eq!(sent.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "crash after {effects}");
        let repeated: usize = sent.values().map(|count| count - 1).sum();
        // The task of the absent space is sent with its first nibble.
        assert!(repeated <= NIBBLE + 1, "crash after {effects} effects repeats {repeated}");
        if finished {
            assert!(matches!(report.ended, SessionEnd::NotDue { .. }));
            break;
        }
        assert!(matches!(report.ended, SessionEnd::Finished { .. } | SessionEnd::NotDue { .. }), "{:?}", report.ended);
        instants += 1;
    }
    assert!(instants > 40, "only {instants} instants");
}

/// A hundred items, of which thirty vanished and were held; all but five of them are back.
async fn mostly_back() -> World {
    let mut world = World::new(ONE);
    world.holders_dead = true;
    world.insert("1", "item", 100);
    world.insert("2", "item", 100);
    world.insert("2", "gone", 30);
    world.wrote_all().await;
    assert_eq!(world.session().await.findings.held[0].count, 30);
    world.insert("1", "gone", 25);
    world
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_instant_forgets_no_hold() {
    let again = |settings: &mut ProducerSettings| settings.looping.run_start = crate::RunStart::Now;
    let mut instants = 0;
    for effects in 0.. {
        let world = mostly_back().await;
        let finished = finishes(&world, effects, again).await;
        for _ in 0..2 {
            world.session_with(again).await;
            assert!(world.removed().is_empty(), "crash after {effects}");
        }
        let held = world.delete_lists.held().await.unwrap();
        assert_eq!(
            held.iter().map(mill_records::delete_lists::HeldList::count).collect::<Vec<_>>(),
            [5],
            "crash after {effects}"
        );
        if finished {
            break;
        }
        instants += 1;
    }
    assert!(instants > 20, "only {instants} instants");
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_people_can_see_stays_wherever_its_run_was_killed() {
    let again = |settings: &mut ProducerSettings| settings.looping.run_start = crate::RunStart::Now;
    let (mut instants, mut seen) = (0, 0);
    for effects in 0.. {
        let mut world = World::new(ONE);
        world.holders_dead = true;
        world.insert("1", "item", 100);
        world.insert("2", "item", 100);
        world.insert("2", "gone", 30);
        world.wrote_all().await;
        let finished = finishes(&world, effects, again).await;
        let visible = !world.delete_lists.held().await.unwrap().is_empty();
        // So few are left that the rule would grant them.
        world.insert("1", "gone", 25);
        // The first session may end the killed one's run, which was surveyed before.
        world.session_with(again).await;
        let removed = world.removed().len();
        let report = world.session_with(again).await;
        if visible {
            assert_eq!(
                (removed + world.removed().len(), report.findings.held[0].count),
                (0, 5),
                "crash after {effects}"
            );
            seen += 1;
        }
        if finished {
            break;
        }
        instants += 1;
    }
    assert!(instants > 10 && seen > 1, "only {instants} instants, {seen} with a hold");
}

fn over(world: &World, queue: std::sync::Arc<dyn TaskQueue>) -> DuplicationProducer {
    let mut producer = world.producer_with(small);
    producer.looping.deps.queue = queue;
    producer
}

#[tokio::test(start_paused = true)]
async fn entries_that_a_queue_refuses_for_now_are_sent_again() {
    let world = world().await;
    let plan = FaultPlan::new(world.clock.clone(), std::sync::Arc::new(SeededRng::new(3)));
    plan.fail(PortCall::Send, 1, InjectedFault::Partial(FaultKind::Throttled));
    plan.fail(PortCall::Send, 2, InjectedFault::Before(FaultKind::Unavailable));
    plan.fail(PortCall::Send, 4, InjectedFault::After(FaultKind::Unexpected));
    plan.fail(PortCall::Depth, 2, InjectedFault::Before(FaultKind::Unavailable));
    let queue = std::sync::Arc::new(FaultInjector::<dyn TaskQueue>::new(world.queue.clone(), plan.clone()));
    let report = over(&world, queue).run_session(&CancellationToken::new()).await.unwrap();
    assert!(is_finished(&report));
    assert_eq!(counts(world.told()).len(), 2 * 11 + 3 + 1);
    assert_eq!(plan.fired().values().sum::<u64>(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_takes_nothing_ends_the_session_with_an_error_and_the_marker_stays() {
    let world = world().await;
    let plan = FaultPlan::new(world.clock.clone(), std::sync::Arc::new(SeededRng::new(3)));
    let queue = std::sync::Arc::new(FaultInjector::<dyn TaskQueue>::new(world.queue.clone(), plan.clone()));
    for nth in 3..20 {
        plan.fail(PortCall::Send, nth, InjectedFault::Partial(FaultKind::Unavailable));
    }
    let error = over(&world, queue).run_session(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, ProducerError::Queue(_)), "{error:?}");
    assert!(is_finished(&world.session_with(small).await));
    assert_eq!(counts(world.told()).len(), 2 * 11 + 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn faults_of_queue_table_and_stores_change_the_time_taken_and_never_the_result() {
    for seed in 0..20 {
        let mut world = world().await;
        world.settings.looping.frequency = Duration::from_hours(10_000);
        let chance = std::sync::Arc::new(SeededRng::new(seed));
        let plan = FaultPlan::new(world.clock.clone(), chance);
        plan.set_rates(FaultRates {
            before: 60,
            after: 60,
            mid: 60,
            truncate: 60,
            partial: 60,
            partial_after: 60,
            throttled: 300,
            unavailable: 300,
            ..FaultRates::default()
        });
        let queue = std::sync::Arc::new(FaultInjector::<dyn TaskQueue>::new(world.queue.clone(), plan.clone()));
        world.state =
            std::sync::Arc::new(FaultInjector::<dyn mill_ports::Table>::new(world.state.clone(), plan.clone()));
        for id in ["1", "2", "3"] {
            let inner: std::sync::Arc<dyn mill_ports::DeletableStore> = std::sync::Arc::new(world.store(id).clone());
            let address = super::world::address("a", id);
            world.replace(id, std::sync::Arc::new(mill_testkit::FaultyStore::new(inner, address, plan.clone())));
        }
        let producer = over(&world, queue);
        let mut sessions = 0;
        loop {
            sessions += 1;
            assert!(sessions < 200, "seed {seed} comes to no end");
            match producer.run_session(&CancellationToken::new()).await {
                Ok(report) if is_finished(&report) && !report.failed() => break,
                Ok(report) if matches!(report.ended, SessionEnd::NotDue { .. }) => break,
                Ok(_) | Err(_) => world.pass(Duration::from_mins(5)).await,
            }
        }
        assert_eq!(counts(world.told()).len(), 2 * 11 + 3 + 1, "seed {seed}");
    }
}
