//! Delete safety: what may be queued unasked, and what proves nothing.

use std::sync::Arc;

use mill_engine::op::Op;
use mill_engine::{Fault, FaultKind, FaultPlan, FaultRates, FaultyStore, SeededChance};
use mill_ports::{DeletableStore, Refusal};

use super::world::{ONE, World, address, is_finished, item, space};
use crate::deletes::are_too_many;
use crate::{HeldDeletes, SessionReport, WhyHeld};

/// A source with `shared` items and a destination with them and `gone` more.
fn world(shared: usize, gone: usize) -> World {
    let world = World::new(ONE);
    world.plant("1", "item", shared);
    world.store("1").plant_space(&space("s"));
    world.plant("2", "item", shared);
    world.plant("2", "gone", gone);
    world
}

async fn queued(shared: usize, gone: usize) -> (usize, Vec<HeldDeletes>) {
    let world = world(shared, gone);
    let report = world.session().await;
    assert!(is_finished(&report));
    assert_eq!(world.ids_of("item"), shared, "copies go on");
    (world.ids_of("gone"), report.held)
}

#[test]
fn thresholds_stand_where_they_are_promised() {
    for (count, items_total, held) in [
        (0, 0, false),
        (0, 10, false),
        (1, 1, true), // the whole space
        (20, 20, true),
        (20, 21, false),
        (21, 2_099, true),  // more than 1 %
        (21, 2_100, false), // just 1 %
        (1_000, 100_000, false),
        (1_001, 1_000_000, true),
    ] {
        assert_eq!(are_too_many(count, items_total), held, "{count} of {items_total}");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_deletes_are_queued_and_twenty_one_are_held() {
    assert_eq!(queued(100, 20).await, (20, vec![]));
    let (gone, held) = queued(100, 21).await;
    assert_eq!(gone, 0);
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].count, held[0].items_total, held[0].why), (21, 121, WhyHeld::TooMany));
}

#[tokio::test(start_paused = true)]
async fn one_percent_is_queued_and_more_is_held() {
    assert_eq!(queued(2_079, 21).await.0, 21);
    assert_eq!(queued(2_078, 21).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn the_whole_space_is_held_however_few() {
    let (gone, held) = queued(0, 3).await;
    assert_eq!((gone, held[0].count, held[0].items_total), (0, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn held_deletes_are_let_through_by_a_confirmation_of_at_least_so_many() {
    let world = world(50, 2_345);
    let report = world.session_with(|settings| settings.confirm_deletes = Some(2_344)).await;
    assert_eq!((world.ids_of("gone"), report.held[0].count), (0, 2_345));
    assert_eq!(world.statistics.totals().held, 2_345);
    world.queue.drain().await;
    let report = world
        .session_with(|settings| {
            settings.force = true;
            settings.confirm_deletes = Some(2_345);
        })
        .await;
    assert!(is_finished(&report) && report.held.is_empty());
    assert_eq!((world.ids_of("gone"), world.ids_of("item")), (2_345, 50));
    assert_eq!(world.ids().len(), 2_395);
    // Deletes first.
    assert!(world.ids()[..2_345].iter().all(|id| id.starts_with("gone")));
}

#[tokio::test(start_paused = true)]
async fn confirmed_deletes_are_resumed_behind_their_own_marker() {
    let world = world(50, 2_345);
    let mut queued = 0;
    for session in 0..4 {
        world
            .session_with(|settings| {
                settings.queue_max = 1;
                settings.confirm_deletes = (session == 0).then_some(2_345);
            })
            .await;
        queued += world.ids_of("gone");
        world.queue.drain().await;
    }
    assert_eq!(queued, 2_345);
}

#[tokio::test(start_paused = true)]
async fn never_more_is_deleted_than_was_confirmed() {
    let world = world(50, 1_500);
    world
        .session_with(|settings| {
            settings.queue_max = 1;
            settings.confirm_deletes = Some(1_500);
        })
        .await;
    assert_eq!(world.ids_of("gone"), 1_000);
    world.queue.drain().await;
    world.plant("2", "gonf", 600);
    let report = world.session().await;
    assert_eq!((world.ids_of("gon"), world.ids_of("item")), (0, 50));
    assert_eq!(report.held.len(), 1);
    assert!(is_finished(&report));
}

#[tokio::test(start_paused = true)]
async fn held_deletes_are_reported_by_every_session_of_the_run() {
    let world = world(50, 30);
    let slow = |settings: &mut crate::Settings| {
        settings.queue_max = 1;
        settings.nibble = std::num::NonZeroUsize::new(10).unwrap();
    };
    assert_eq!(world.session_with(slow).await.held.len(), 1);
    world.queue.drain().await;
    assert_eq!(world.session_with(slow).await.held.len(), 1);
    world.queue.drain().await;
    let report = world.session_with(|settings| settings.confirm_deletes = Some(30)).await;
    assert_eq!(world.ids_of("gone"), 30, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn without_remove_vanished_nothing_is_deleted() {
    let mut world = world(50, 3);
    let file = ONE.replace("true", "false");
    world.policies = Arc::new(mill_records::policies::PolicyBook::fixed(vec![super::world::policy("a", &file)]));
    assert!(is_finished(&world.session().await));
    assert_eq!((world.ids_of("gone"), world.ids_of("item")), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn an_absent_destination_space_has_nothing_to_delete_and_is_made() {
    let world = World::new(ONE);
    world.plant("1", "item", 3);
    assert!(is_finished(&world.session().await));
    assert_eq!(world.ids()[0], "/");
    assert_eq!(world.ids_of("item"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_entry_may_hide_is_not_deleted() {
    let world = world(50, 1);
    world.store("1").plant_refused(&item("s", "locked"), Refusal::Unreadable);
    for id in ["locked", "locked/a", "locked/b/c", "lockedout", "lock"] {
        world.plant_one("2", id);
    }
    world.session().await;
    let mut deleted: Vec<String> = world.ids().into_iter().filter(|id| !id.starts_with("item")).collect();
    deleted.sort();
    assert_eq!(deleted, ["gone00000", "lock", "lockedout"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_unreadable_directory_hides_is_neither_deleted_nor_counted_even_when_deletes_are_confirmed() {
    let deep = format!("{}/", "\u{1}".repeat(150)); // Longer escaped than a message shows.
    for confirm_deletes in [None, Some(10_000)] {
        let world = world(50, 3);
        for directory in ["locked/", &deep] {
            world.store("1").plant_refused(&item("s", directory), Refusal::Unreadable);
            world.plant("2", directory, 2_000);
            world.plant_one("2", &format!("{directory}{}", "x".repeat(300)));
        }
        let report = world.session_with(|settings| settings.confirm_deletes = confirm_deletes).await;
        assert!(is_finished(&report) && report.held.is_empty(), "{report:?}");
        assert_eq!((world.ids_of("gone"), world.ids_of("locked"), world.ids_of(&deep)), (3, 0, 0));
    }
    let world = world(50, 0);
    world.plant("2", "gone", 1_500);
    world.store("1").plant_refused(&item("s", "locked/"), Refusal::Unreadable);
    world.plant("2", "locked/", 2_000);
    let report = world.session_with(|settings| settings.confirm_deletes = Some(1_500)).await;
    assert!(report.held.is_empty(), "{report:?}");
    assert_eq!((world.ids_of("gone"), world.ids_of("locked")), (1_500, 0));
}

/// A session in which each listing of one store goes wrong like that.
async fn with_listings_failing(id: &str, fault: Fault) -> (World, SessionReport) {
    let world = world(500, 3);
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededChance::new(1)));
    for nth in 1..100 {
        plan.fail(Op::List, nth, fault);
    }
    let inner: Arc<dyn DeletableStore> = Arc::new(world.store(id).clone());
    world.replace(id, Arc::new(FaultyStore::new(inner, address("a", id), plan.clone())));
    plan.set_rates(FaultRates::default());
    let report = world.session().await;
    assert!(is_finished(&report));
    (world, report)
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_or_breaks_off_at_either_side_deletes_nothing() {
    for id in ["1", "2"] {
        for fault in [
            Fault::Truncate,
            Fault::Mid(FaultKind::Unexpected),
            Fault::Mid(FaultKind::Throttled),
            Fault::Mid(FaultKind::Unavailable),
            Fault::Before(FaultKind::Unavailable),
        ] {
            let (world, report) = with_listings_failing(id, fault).await;
            assert_eq!(world.ids_of("gone"), 0, "store {id}, {fault:?}");
            assert_eq!(report.spaces_failed.len(), 1, "store {id}, {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_that_cannot_be_looked_at_deletes_nothing() {
    for id in ["1", "2"] {
        let world = world(50, 3);
        let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededChance::new(1)));
        plan.set_outage(Some(FaultKind::Unexpected));
        let inner: Arc<dyn DeletableStore> = Arc::new(world.store(id).clone());
        world.replace(id, Arc::new(FaultyStore::new(inner, address("a", id), plan)));
        let report = world.session().await;
        assert!(world.queue.sent().is_empty());
        assert_eq!(report.spaces_failed.len(), 1);
    }
}
