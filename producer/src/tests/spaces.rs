//! Spaces that are new, empty or missing.

use std::sync::Arc;
use std::time::Duration;

use mill_model::{Properties, StoreAddress};
use mill_records::delete_lists::{DeleteListError, HoldReason};
use mill_records::owners::DestinationSpace;
use mill_records::policies::PolicyRepository;

use super::world::{DEFAULT, ONE, World, address, is_finished, item, policy, space};
use crate::AbsentSource;

#[tokio::test(start_paused = true)]
async fn an_empty_space_arrives_too() {
    let world = World::new(DEFAULT);
    world.store("1").insert_space(&space("empty"));
    assert!(is_finished(&world.session().await));
    assert_eq!(world.ids(), ["/"]);
    assert_eq!(world.queue.sent()[0].pair.space, space("empty"));
}

#[tokio::test(start_paused = true)]
async fn internal_and_ignored_spaces_are_left_alone() {
    let world = World::new(
        r#"{ "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ], "spacesToIgnore": [ "ignored" ] }"#,
    );
    for name in ["ignored", "x-duracloud-admin", "s"] {
        world.store("1").insert(&item(name, "i"), "x", Properties::default());
    }
    world.session().await;
    assert!(world.queue.sent().iter().all(|task| task.pair.space == space("s")));
    assert_eq!(world.ids(), ["/", "i"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_not_the_primary_is_looped_over_too() {
    let world = World::new(r#"{ "defaultPolicies": [ { "srcStoreId": "3", "destStoreId": "2" } ] }"#);
    world.store("3").insert(&item("s", "i"), "x", Properties::default());
    world.session().await;
    assert_eq!(world.ids(), ["/", "i"]);
}

/// A space that was copied from store 1 to store 2 and is now missing at its source.
async fn orphaned(file: &str) -> World {
    let world = World::new(file);
    world.insert("2", "item", 30);
    world.own().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_space_that_is_only_at_the_destination_is_reported_and_kept() {
    for file in [ONE, DEFAULT] {
        let world = orphaned(file).await;
        let report = world.session().await;
        assert!(is_finished(&report) && world.ids().is_empty());
        assert_eq!((report.findings.held.len(), report.findings.held[0].count), (1, 30));
        assert!(!for_a_day(&report));
    }
}

/// Whether the held list states that the space is missing for a day.
fn for_a_day(report: &crate::SessionReport) -> bool {
    match report.findings.held[0].reason {
        HoldReason::SpaceMissing { for_a_day, .. } => for_a_day,
        _ => panic!("{report:?}"),
    }
}

/// Whether a person may confirm the held deletes.
async fn can_be_confirmed(world: &World) -> bool {
    let mut held = world.delete_lists.held().await.unwrap().remove(0);
    match world.delete_lists.grant(&mut held, "ann", mill_ports::Clock::now(&*world.clock)).await {
        Ok(()) => true,
        Err(DeleteListError::NotMissingForADay) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn missing_twice(world: &World, apart: Duration) {
    world.session().await;
    world.pass(apart).await;
}

#[tokio::test(start_paused = true)]
async fn a_space_missing_twice_a_day_apart_goes_when_a_person_confirms_it() {
    let world = orphaned(DEFAULT).await;
    missing_twice(&world, Duration::from_hours(24)).await;
    assert!(for_a_day(&world.session().await) && world.ids().is_empty());
    assert!(can_be_confirmed(&world).await);
    let report = world
        .session_with(|settings| {
            settings.looping.run_start = crate::RunStart::Now;
            settings.looping.nibble = std::num::NonZeroUsize::new(7).unwrap();
        })
        .await;
    assert!(is_finished(&report) && report.findings.held.is_empty(), "{report:?}");
    let ids = world.ids();
    assert_eq!(ids.len(), 31);
    assert_eq!(ids[30], "/", "the space itself comes last");
    assert!(world.queue.sent().is_empty(), "all of them are removes");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_does_not_make_a_space_missing_for_a_day() {
    let world = orphaned(DEFAULT).await;
    world.session().await;
    world.clock.set_wall_offset_millis(25 * 3_600_000);
    assert!(!for_a_day(&world.session().await));
    assert!(!can_be_confirmed(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_clock_once_far_ahead_does_not_put_the_next_run_off_for_ever() {
    let world = World::new(DEFAULT);
    world.insert("1", "item", 2);
    world.clock.set_wall_offset_millis(73 * 365 * 86_400_000);
    assert!(is_finished(&world.session().await));
    world.clock.set_wall_offset_millis(0);
    world.queue.drain().await;
    assert!(is_finished(&world.session().await));
    assert_eq!(world.ids_of("item"), 2);
}

#[tokio::test(start_paused = true)]
async fn less_than_a_day_proves_nothing() {
    let world = orphaned(DEFAULT).await;
    missing_twice(&world, Duration::from_hours(23)).await;
    assert!(!for_a_day(&world.session().await));
    assert!(!can_be_confirmed(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_space_that_was_there_in_between_begins_its_day_again() {
    let world = orphaned(DEFAULT).await;
    missing_twice(&world, Duration::from_hours(12)).await;
    world.insert("1", "item", 30);
    world.session().await;
    world.queue.drain().await;
    world.store("1").remove_space(&space("s"));
    world.pass(Duration::from_hours(13)).await;
    assert!(!for_a_day(&world.session().await));
    assert!(world.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_did_not_look_for_a_missing_space_breaks_the_chain() {
    let mut world = orphaned(DEFAULT).await;
    missing_twice(&world, Duration::from_hours(25)).await;
    let asking = world.policies.clone();
    let ignoring = DEFAULT.replace("] }", r#"], "spacesToIgnore": [ "s" ] }"#);
    world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", &ignoring)]));
    assert!(world.session().await.findings.held.is_empty());
    world.pass(Duration::from_hours(2)).await;
    world.policies = asking;
    // The space may have been there meanwhile, so it counts as missing for the first time.
    assert!(!for_a_day(&world.session().await));
    assert!(world.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_space_that_is_back_is_not_retired_any_further() {
    let world = orphaned(DEFAULT).await;
    missing_twice(&world, Duration::from_hours(25)).await;
    world.session().await;
    assert!(can_be_confirmed(&world).await);
    world.insert("1", "item", 30);
    assert!(is_finished(&world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await));
    // All 30 items are queued and none is deleted: both sides have the space.
    assert_eq!((world.ids().len(), world.queue.removes().len()), (30, 0));
    assert!(world.delete_lists.held().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_absent_source_of_a_mirror_is_an_error_and_deletes_nothing() {
    let world = orphaned(ONE).await;
    for _ in 0..3 {
        let report = world
            .session_with(|settings| {
                settings.absent_source = AbsentSource::Unknown;
                settings.looping.run_start = crate::RunStart::Now;
            })
            .await;
        assert_eq!(report.spaces_failed.len(), 1);
        assert!(report.spaces_failed[0].reason.contains("unknown"));
        assert!(world.queue.sent().is_empty());
        world.pass(Duration::from_hours(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_space_that_mill_did_not_make_is_no_business_of_ours() {
    let world = World::new(DEFAULT);
    world.insert("2", "item", 3);
    let report = world.session().await;
    assert!(is_finished(&report) && report.findings.held.is_empty() && world.queue.sent().is_empty());
    // Neither is one whose owner is another.
    let place = DestinationSpace { store: address("a", "2"), space: space("s") };
    let other: StoreAddress = address("b", "1");
    world.owners.claim(&place, &other).await.unwrap();
    let report = world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await;
    assert!(report.findings.held.is_empty() && world.queue.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_remove_vanished_a_space_that_is_gone_is_no_news() {
    let world = orphaned(&DEFAULT.replace("true", "false")).await;
    let report = world.session().await;
    assert!(report.findings.held.is_empty() && world.queue.sent().is_empty());
}
