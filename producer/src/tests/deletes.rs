//! Delete safety: which deletes are queued unasked, and which evidence proves nothing.

use std::sync::Arc;
use std::time::Duration;

use mill_model::Properties;
use mill_ports::{DeletableStore, RefusalReason, SourceStore as _};
use mill_records::delete_lists::HoldReason;
use mill_testkit::PortCall;
use mill_testkit::{FaultKind, FaultPlan, FaultRates, FaultyStore, InjectedFault, SeededRng};

use super::world::{ONE, World, address, is_finished, item, space};
use crate::{HeldDeletes, ProducerSettings, SessionReport};

/// A source with `shared` items and a destination with them and `gone` more, all of them written by this pair.
async fn world(shared: usize, gone: usize) -> World {
    let world = World::new(ONE);
    world.insert("1", "item", shared);
    world.store("1").insert_space(&space("s"));
    world.insert("2", "item", shared);
    world.insert("2", "gone", gone);
    world.wrote_all().await;
    world
}

async fn queued(shared: usize, gone: usize) -> (usize, Vec<HeldDeletes>) {
    let world = world(shared, gone).await;
    let report = world.session().await;
    assert!(is_finished(&report));
    assert_eq!(world.ids_of("item"), shared, "copies go on");
    (world.removed().len(), report.findings.held)
}

fn again(settings: &mut ProducerSettings) {
    settings.looping.run_start = crate::RunStart::Now;
}

#[tokio::test(start_paused = true)]
async fn twenty_deletes_are_queued_and_twenty_one_are_held() {
    assert_eq!(queued(100, 20).await, (20, vec![]));
    let (gone, held) = queued(100, 21).await;
    assert_eq!(gone, 0);
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].count, held[0].items_total), (21, 121));
    assert_eq!(held[0].reason, HoldReason::TooMany { unasked_today: 0 });
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
async fn half_of_a_space_is_held_however_few() {
    assert_eq!(queued(6, 5).await.0, 5);
    let (gone, held) = queued(5, 5).await;
    assert_eq!((gone, held[0].count, held[0].items_total), (0, 5, 10));
}

#[tokio::test(start_paused = true)]
async fn deletes_made_unasked_today_count_until_both_clocks_say_a_day() {
    let world = world(100, 15).await;
    world.session().await;
    assert_eq!(world.removed().len(), 15);
    world.carry_out().await;
    world.insert("2", "more", 6);
    world.wrote_all().await;
    let report = world.session_with(again).await;
    assert_eq!(report.findings.held[0].reason, HoldReason::TooMany { unasked_today: 15 });
    // The wall clock alone does not prove that a day has passed.
    world.clock.set_wall_offset_millis(25 * 3_600_000);
    let report = world.session_with(again).await;
    assert_eq!(report.findings.held[0].reason, HoldReason::TooMany { unasked_today: 15 });
    world.pass(Duration::from_hours(25)).await;
    world.queue.drain().await;
    let report = world.session_with(again).await;
    assert_eq!((report.findings.held.len(), world.removed().len()), (1, 0), "what is held stays held");
    world.confirm().await;
    world.session_with(again).await;
    assert_eq!(world.removed().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn copies_that_this_pair_did_not_write_are_held() {
    let world = world(100, 3).await;
    world.insert("2", "theirs", 2);
    let report = world.session().await;
    assert_eq!(report.findings.held[0].reason, HoldReason::Unproven { count: 2 });
    assert!(world.removed().is_empty());
    // Items that somebody rewrote are not deleted either.
    let world = self::world(100, 3).await;
    world.insert("2", "gone", 1);
    let report = world.session().await;
    assert_eq!(report.findings.held[0].reason, HoldReason::Unproven { count: 1 });
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_only_as_exactly_it_is_confirmed() {
    let world = world(50, 2_345).await;
    let report = world.session().await;
    assert_eq!((world.removed().len(), report.findings.held[0].count), (0, 2_345));
    assert_eq!(world.statistics.totals().work.held, 2_345);
    let lists = &world.delete_lists;
    assert!(lists.by_token("2345-0000000000000000").await.is_err());
    assert_eq!(lists.by_token(&report.findings.held[0].token).await.unwrap().count(), 2_345);
    world.confirm().await;
    assert!(lists.held().await.unwrap().is_empty() && lists.by_token(&report.findings.held[0].token).await.is_err());
    // Items that vanished since are not in the list.
    world.insert("2", "later", 3);
    world.queue.drain().await;
    let report = world.session_with(again).await;
    assert!(is_finished(&report) && report.findings.held.is_empty());
    let mut removed = world.removed();
    removed.sort();
    assert_eq!((removed.len(), world.ids_of("gone"), world.ids_of("item")), (2_345, 2_345, 50));
    // Deletes first.
    assert!(world.ids()[..2_345].iter().all(|id| id.starts_with("gone")));
    world.carry_out().await;
    let report = world.session_with(again).await;
    assert_eq!((report.findings.held.len(), report.findings.held[0].count), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_held_list_keeps_its_token_over_runs() {
    for gone in [30, 2_000] {
        let world = world(50, gone).await;
        let first = world.session().await.findings.held;
        let second = world.session_with(again).await.findings.held;
        assert_eq!((first.len(), &first), (1, &second));
        world.insert("2", "later", 1);
        let third = world.session_with(again).await.findings.held;
        assert_eq!((third.len(), third[0].count), (1, first[0].count + 1));
        assert_ne!(third[0].token, first[0].token);
        assert!(world.delete_lists.by_token(&first[0].token).await.is_err(), "another list took its place");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_only_when_all_that_it_names_is_back() {
    let world = world(100, 30).await;
    assert_eq!(world.session().await.findings.held[0].count, 30);
    // All items but one are back. That one is within every threshold and is held all the same.
    world.insert("1", "gone", 29);
    let report = world.session_with(again).await;
    assert_eq!((report.findings.held[0].count, world.removed().len()), (1, 0));
    world.insert("1", "gone", 30);
    assert!(world.session_with(again).await.findings.held.is_empty());
    assert!(world.delete_lists.held().await.unwrap().is_empty());
    world.insert("2", "other", 1);
    world.wrote_all().await;
    world.queue.drain().await;
    world.session_with(again).await;
    assert_eq!(world.removed(), ["other00000"]);
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_a_list_that_a_person_dropped_is_held_again_however_few() {
    let world = world(100, 30).await;
    world.session().await;
    world.insert("1", "gone", 29);
    let first = world.session_with(again).await.findings.held;
    let mut held = world.delete_lists.by_token(&first[0].token).await.unwrap();
    world.delete_lists.withdraw(&mut held).await.unwrap();
    for _ in 0..2 {
        let report = world.session_with(again).await;
        assert_eq!((report.findings.held.len(), report.findings.held[0].count), (1, 1));
        assert_eq!(report.findings.held[0].reason, HoldReason::ListWithdrawn);
        assert_ne!(report.findings.held[0].token, first[0].token, "whoever has the old token confirms nothing");
        assert!(world.removed().is_empty());
    }
    world.insert("1", "gone", 30);
    assert!(world.session_with(again).await.findings.held.is_empty());
    world.store("1").remove(&item("s", "gone00007"));
    world.session_with(again).await;
    assert_eq!(world.removed(), ["gone00007"], "it was back since then");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_and_goes_out_of_sight_is_not_taken_for_back() {
    let world = world(100, 0).await;
    world.insert("2", "locked/", 30);
    world.wrote_all().await;
    let first = world.session().await.findings.held;
    assert_eq!(first[0].count, 30);
    world.store("1").insert_refused(&item("s", "locked/"), RefusalReason::Unreadable);
    world.insert("2", "other", 2);
    world.wrote_all().await;
    for _ in 0..2 {
        let report = world.session_with(again).await;
        assert_eq!((&report.findings.held, world.removed().len()), (&first, 0), "the list stays as it is");
        assert!(world.delete_lists.by_token(&first[0].token).await.is_ok());
    }
    world.store("1").remove(&item("s", "locked/"));
    world.insert("1", "locked/", 29);
    let report = world.session_with(again).await;
    assert_eq!((report.findings.held[0].count, world.removed().len()), (3, 0), "one of those, and the two others");
    // An unreadable directory without items of the list does not keep the hold.
    world.store("1").insert_refused(&item("s", "lost+found/"), RefusalReason::Unreadable);
    world.insert("1", "locked/", 30);
    world.insert("1", "other", 2);
    assert!(world.session_with(again).await.findings.held.is_empty());
    assert!(world.delete_lists.held().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_held_list_that_fell_out_of_the_index_is_found_again() {
    let world = world(100, 30).await;
    let held = world.session().await.findings.held;
    let list = world.delete_lists.held().await.unwrap()[0].list;
    world.delete_lists.note_not_held(&World::pair(), list).await.unwrap();
    assert!(world.delete_lists.by_token(&held[0].token).await.is_err());
    assert_eq!(world.session_with(again).await.findings.held, held);
    assert_eq!(world.delete_lists.by_token(&held[0].token).await.unwrap().list, list);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_granted_list_are_sent_again_until_they_are_settled() {
    let world = world(100, 20).await;
    world.session().await;
    assert_eq!(world.removed().len(), 20);
    world.queue.drain().await;
    // The tasks are lost with the queue: the next run sends them again and writes no second list.
    let report = world.session_with(again).await;
    assert_eq!((world.removed().len(), report.findings.held.len()), (20, 0));
    world.carry_out().await;
    world.session_with(again).await;
    assert!(world.removed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn confirmed_deletes_are_resumed_behind_their_own_marker() {
    let world = world(50, 2_345).await;
    world.session().await;
    world.confirm().await;
    world.queue.drain().await;
    let mut removed = Vec::new();
    for session in 0..20 {
        world
            .session_with(|settings| {
                settings.looping.run_start = if session == 0 { crate::RunStart::Now } else { crate::RunStart::WhenDue };
                settings.looping.queue_max = 1;
            })
            .await;
        removed.extend(world.removed());
        world.queue.drain().await;
    }
    removed.sort();
    removed.dedup();
    assert_eq!(removed.len(), 2_345);
}

#[tokio::test(start_paused = true)]
async fn held_deletes_are_reported_by_every_session_of_the_run() {
    let world = world(50, 30).await;
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.queue_max = 1;
        settings.looping.nibble = std::num::NonZeroUsize::new(10).unwrap();
    };
    assert_eq!(world.session_with(slow).await.findings.held.len(), 1);
    world.queue.drain().await;
    assert_eq!(world.session_with(slow).await.findings.held.len(), 1);
    world.queue.drain().await;
    world.confirm().await;
    let report = world.session().await;
    assert_eq!(world.removed().len(), 30, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_when_a_source_is_seen_for_the_first_time_is_held() {
    // As after an upgrade, or if nothing was to be removed until now.
    let mut world = world(100, 3).await;
    world.delete_lists =
        mill_records::delete_lists::DeleteLists::new(Arc::new(mill_testkit::MemoryTable::new("lists")));
    let report = world.session().await;
    assert_eq!(report.findings.held[0].reason, HoldReason::PlacesUnknown);
    let keeps = World::new(&ONE.replace("true", "false"));
    keeps.insert("1", "disk/", 3);
    keeps.store("1").mount(&space("s"), "disk/", "disk one");
    keeps.session().await;
    let state = keeps.delete_lists.pair(&World::pair()).await.unwrap();
    keeps.store("1").set_mounted(&space("s"), "disk/", false);
    let places = mill_ports::SourceStore::places(keeps.store("1"), &item("s", "x")).await.unwrap();
    assert_eq!(state.record.changed_places(&places), ["disk/"], "a run that only copies remembers them too");
}

#[tokio::test(start_paused = true)]
async fn what_vanished_beneath_a_mount_that_is_gone_is_held_however_few() {
    let world = world(100, 0).await;
    world.insert("1", "disk/", 10);
    world.store("1").mount(&space("s"), "disk/", "disk one");
    world.insert("2", "disk/", 10);
    world.wrote_all().await;
    world.session().await;
    world.store("1").set_mounted(&space("s"), "disk/", false);
    for _ in 0..2 {
        let report = world.session_with(again).await;
        assert_eq!(report.findings.held[0].reason, HoldReason::PlaceChanged { path: "disk/".into() });
        assert!(world.removed().is_empty());
    }
    // The place is back, and with it the held items.
    world.store("1").set_mounted(&space("s"), "disk/", true);
    assert!(world.session_with(again).await.findings.held.is_empty());
    // Another disk is mounted there and lacks some items.
    world.store("1").remove(&item("s", "disk/00003"));
    world.store("1").mount(&space("s"), "disk/", "disk two");
    let report = world.session_with(again).await;
    assert_eq!(
        (report.findings.held[0].count, &report.findings.held[0].reason),
        (1, &HoldReason::PlaceChanged { path: "disk/".into() })
    );
    // A person accepts the place with the list.
    world.confirm().await;
    world.queue.drain().await;
    world.session_with(again).await;
    assert_eq!(world.removed(), ["disk/00003"]);
    world.carry_out().await;
    world.store("1").remove(&item("s", "disk/00004"));
    world.session_with(again).await;
    assert_eq!(world.removed(), ["disk/00004"], "the place is the known one now");
}

#[tokio::test(start_paused = true)]
async fn what_vanished_beneath_a_new_mount_may_be_covered_by_it_and_is_held() {
    let world = world(100, 0).await;
    world.insert("2", "a/", 3);
    world.insert("1", "a/", 3);
    world.wrote_all().await;
    world.session().await;
    for number in 0..3 {
        world.store("1").remove(&item("s", &format!("a/{number:05}")));
    }
    world.store("1").mount(&space("s"), "a/", "fresh disk");
    let report = world.session_with(again).await;
    assert_eq!(report.findings.held[0].reason, HoldReason::PlaceChanged { path: "a/".into() });
    assert!(world.removed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_remove_vanished_nothing_is_deleted() {
    let mut world = world(50, 3).await;
    let file = ONE.replace("true", "false");
    world.policies = Arc::new(mill_records::policies::PolicyRepository::fixed(vec![super::world::policy("a", &file)]));
    assert!(is_finished(&world.session().await));
    assert_eq!((world.ids_of("gone"), world.ids_of("item")), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn an_absent_destination_space_has_nothing_to_delete_and_is_made() {
    let world = World::new(ONE);
    world.insert("1", "item", 3);
    assert!(is_finished(&world.session().await));
    assert_eq!(world.ids()[0], "/");
    assert_eq!(world.ids_of("item"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_entry_may_hide_is_not_deleted() {
    let world = world(50, 1).await;
    world.store("1").insert_refused(&item("s", "locked"), RefusalReason::Unreadable);
    for id in ["locked", "locked/a", "locked/b/c", "lockedout", "lock"] {
        world.plant_one("2", id);
    }
    world.wrote_all().await;
    world.session().await;
    let mut deleted = world.removed();
    deleted.sort();
    assert_eq!(deleted, ["gone00000", "lock", "lockedout"]);
}

#[tokio::test(start_paused = true)]
async fn items_beneath_an_unreadable_directory_are_not_deleted_even_when_deletes_are_confirmed() {
    let deep = format!("{}/", "\u{1}".repeat(150)); // Longer escaped than a message shows.
    let world = world(50, 3).await;
    for directory in ["locked/", &deep] {
        world.store("1").insert_refused(&item("s", directory), RefusalReason::Unreadable);
        world.insert("2", directory, 2_000);
        world.plant_one("2", &format!("{directory}{}", "x".repeat(300)));
    }
    world.wrote_all().await;
    let report = world.session().await;
    assert!(is_finished(&report) && report.findings.held.is_empty(), "{report:?}");
    assert_eq!((world.ids_of("gone"), world.ids_of("locked"), world.ids_of(&deep)), (3, 0, 0));

    let world = self::world(50, 0).await;
    world.insert("2", "gone", 1_500);
    world.store("1").insert_refused(&item("s", "locked/"), RefusalReason::Unreadable);
    world.insert("2", "locked/", 2_000);
    world.session().await;
    world.confirm().await;
    world.queue.drain().await;
    let report = world.session_with(again).await;
    assert!(report.findings.held.is_empty(), "{report:?}");
    assert_eq!((world.ids_of("gone"), world.ids_of("locked")), (1_500, 0));
}

/// A session in which each listing of one store fails in this way.
async fn with_listings_failing(id: &str, fault: InjectedFault) -> (World, SessionReport) {
    let world = world(500, 3).await;
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    for nth in 1..100 {
        plan.fail(PortCall::List, nth, fault);
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
            InjectedFault::Truncate,
            InjectedFault::Mid(FaultKind::Unexpected),
            InjectedFault::Mid(FaultKind::Throttled),
            InjectedFault::Mid(FaultKind::Unavailable),
            InjectedFault::Before(FaultKind::Unavailable),
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
        let world = world(50, 3).await;
        let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
        plan.set_outage(Some(FaultKind::Unexpected));
        let inner: Arc<dyn DeletableStore> = Arc::new(world.store(id).clone());
        world.replace(id, Arc::new(FaultyStore::new(inner, address("a", id), plan)));
        let report = world.session().await;
        assert!(world.queue.sent().is_empty());
        assert_eq!(report.spaces_failed.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_changes_only_case_is_no_delete_at_a_destination_that_folds_names() {
    for folds in [true, false] {
        let mut world = World::new(ONE);
        if folds {
            world.fold("2");
        }
        world.insert("1", "kept", 100);
        world.insert("2", "kept", 100);
        for number in 0..12 {
            world.store("2").insert(
                &item("s", &format!("Photos/IMG{number}")),
                format!("{number:03}"),
                Properties::default(),
            );
            world.store("1").insert(
                &item("s", &format!("photos/img{number}")),
                format!("{number:03}"),
                Properties::default(),
            );
        }
        // Gone, whatever its folded name: the item at the source has another size.
        world.store("2").insert(&item("s", "Photos/gone"), "gone", Properties::default());
        world.store("1").insert(&item("s", "photos/GONE"), "another", Properties::default());
        world.wrote_all().await;
        let report = world.session().await;
        assert!(is_finished(&report));
        let gone = if folds { 1 } else { 13 };
        assert_eq!((world.removed().len(), report.findings.held.len()), (gone, 0), "folds: {folds}");
        assert!(world.removed().contains(&"Photos/gone".to_owned()));
        assert_eq!(world.ids_of("photos/"), 13, "each is looked at");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_at_a_destination_that_folds_names_is_held_without_what_was_only_renamed() {
    let mut world = World::new(ONE);
    world.fold("2");
    world.insert("1", "kept", 10);
    world.insert("2", "kept", 10);
    world.insert("2", "gone", 50);
    world.insert("2", "Renamed", 50);
    for number in 0..50 {
        world.store("1").insert(
            &item("s", &format!("renamed{number:05}")),
            format!("Renamed{number:05}"),
            Properties::default(),
        );
    }
    world.wrote_all().await;
    let report = world.session().await;
    assert_eq!((report.findings.held.len(), report.findings.held[0].count), (1, 50));
    assert_eq!(world.removed(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_a_reading_told_from_its_twin_is_gone() {
    let mut world = World::new(ONE);
    world.fold("2");
    world.insert("1", "kept", 100);
    world.insert("2", "kept", 100);
    for name in ["README", "NOTES"] {
        world.plant_one("2", name);
        world.store("1").insert(&item("s", &name.to_lowercase()), name.to_owned(), Properties::default());
    }
    world.wrote_all().await;
    let there = world.store("2").head(&item("s", "README")).await.unwrap().present().unwrap();
    world.sync_proofs.put_no_twin(&World::pair(), &item("s", "README").id, &there.version).await.unwrap();
    assert!(is_finished(&world.session().await));
    assert_eq!(world.removed(), ["README"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_stays_held_while_the_source_has_another_spelling_of_its_name() {
    let mut world = World::new(ONE);
    world.fold("2");
    world.insert("1", "kept", 100);
    world.insert("2", "kept", 100);
    world.insert("2", "gone", 30);
    world.wrote_all().await;
    let held = world.session().await.findings.held;
    assert_eq!((held.len(), held[0].count), (1, 30));
    // Of the same size, but nobody has read it yet: it may be the same item or another one.
    let twin = |number: u32| item("s", &format!("GONE{number:05}"));
    for number in 0..30 {
        world.store("1").insert(&twin(number), format!("gone{number:05}"), Properties::default());
    }
    let still = world.session_with(again).await;
    assert_eq!(still.findings.held, held);
    let id = item("s", "gone00007").id;
    let there = world.store("2").head(&item("s", "gone00007")).await.unwrap().present().unwrap();
    world.sync_proofs.put_no_twin(&World::pair(), &id, &there.version).await.unwrap();
    for number in (0..30).filter(|number| *number != 7) {
        world.store("1").remove(&twin(number));
        world.store("2").remove(&item("s", &format!("gone{number:05}")));
    }
    let still = world.session_with(again).await;
    assert_eq!(
        (still.findings.held.len(), still.findings.held[0].count, world.removed().len()),
        (1, 1, 0),
        "another after all"
    );
}
