//! A survey accounts for every entry it lists, whatever interrupts it, and names the entries it leaves out.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{Properties, SpacePair, SurveySum};
use mill_ports::{DeletableStore, RefusalReason, SourceStore as _};
use mill_records::producer_state::{
    DeleteProgress, DuplicationRows, MorselRow as _, PairMorsel, PairSurvey, ProducerState,
};
use mill_testkit::PortCall;
use mill_testkit::{FaultKind, FaultPlan, FaultyStore, InjectedFault, SeededRng};
use tokio_util::sync::CancellationToken;

use super::world::{DEFAULT, DIFFERENCES, ONE, World, account, address, is_finished, item, space, store};
use crate::{AbsentSource, ClosingReport, DuplicationProducer, ProducerSettings, SessionEnd, SpaceFailureKind};

async fn surveys(world: &World) -> Vec<PairSurvey> {
    let state =
        ProducerState::<DuplicationRows>::to_read(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME);
    state.surveys().await.unwrap().into_iter().map(|kept| kept.record).collect()
}

/// Of 40 items 30 are proven in sync; and there are 3 links.
async fn half_in_sync(file: &str) -> World {
    let world = World::new(file);
    world.insert("1", "item", 40);
    world.insert("2", "item", 30);
    for number in 0..30 {
        world.add_sync_proof(&format!("item{number:05}")).await;
    }
    for name in ["a link", "item00012 link", "z link"] {
        world.store("1").insert_refused(&item("s", name), RefusalReason::SymbolicLink);
    }
    world.store("1").insert_refused(&item("s", ".mill-in-progress/"), RefusalReason::Reserved);
    world
}

/// A policy that compares everything and removes nothing.
const EVERYTHING_KEPT: &str = r#"{ "removeVanished": false,
    "spaceDuplicationStorePolicies": { "s": [ { "srcStoreId": "1", "destStoreId": "2" } ] } }"#;

const HALF: SurveySum = SurveySum { listed: 44, unchanged: 30, queued: 10, refused: 3, hidden: 0, ignored: 1 };

#[tokio::test(start_paused = true)]
async fn each_listed_entry_falls_into_exactly_one_class() {
    let world = half_in_sync(DIFFERENCES).await;
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed());
    assert_eq!((report.survey, world.ids().len()), (HALF, 10));
    assert_eq!(world.statistics.totals().sum.survey, HALF);
    let names: Vec<&str> = report.findings.named_first.iter().map(|named| &*named.shown).collect();
    assert_eq!(names, [".mill-in-progress/", "a link", "item00012 link", "z link"]);
    let everything = half_in_sync(ONE).await.session().await;
    assert_eq!(everything.survey, SurveySum { unchanged: 0, queued: 40, ..HALF });
}

#[tokio::test(start_paused = true)]
async fn a_runs_sum_is_that_of_all_its_sessions() {
    for nibble in [1, 3, 7] {
        let world = half_in_sync(DIFFERENCES).await;
        let slow = move |settings: &mut ProducerSettings| {
            settings.looping.nibble = NonZeroUsize::new(nibble).unwrap();
            settings.looping.queue_max = 1;
        };
        let mut sessions = 0;
        let report = loop {
            let report = world.session_with(slow).await;
            world.queue.drain().await;
            sessions += 1;
            if is_finished(&report) {
                break report;
            }
            assert_eq!(report.ended, SessionEnd::QueueFull);
        };
        assert!(sessions > 1);
        assert_eq!(report.survey, HALF, "nibbles of {nibble}");
        let [survey] = &surveys(&world).await[..] else { panic!("one pair") };
        assert_eq!((survey.sum, survey.in_sync), (HALF, None));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_sleeper_writes_late_count_for_nothing_in_the_run() {
    let world = half_in_sync(DIFFERENCES).await;
    let little = |settings: &mut ProducerSettings| settings.looping.queue_max = 0;
    assert_eq!(world.session_with(little).await.ended, SessionEnd::QueueFull);
    let state =
        ProducerState::<DuplicationRows>::new(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME, 1);
    let pair = SpacePair { account: account("a"), space: space("s"), source: store("1"), destination: store("2") };
    let late = PairMorsel {
        nibbles: 3,
        deletes: DeleteProgress::Done,
        marker: Some(item("s", "item00035").id),
        sum: SurveySum { listed: 9, unchanged: 9, ..SurveySum::default() },
        ..PairMorsel::fresh(pair, 0)
    };
    state.add_morsels(&account("a"), &[late]).await.unwrap();
    world.queue.drain().await;
    let report = world.session().await;
    assert!(is_finished(&report) && report.resumed);
    assert_eq!(report.survey, HALF);
}

#[tokio::test(start_paused = true)]
async fn a_pair_whose_survey_finds_nothing_to_do_is_in_sync_as_of_its_beginning() {
    let world = World::new(DIFFERENCES);
    world.insert("1", "item", 5);
    world.insert("2", "item", 5);
    for number in 0..5 {
        world.add_sync_proof(&format!("item{number:05}")).await;
    }
    world.pass(Duration::from_hours(2)).await;
    let began = mill_ports::Clock::now(&*world.clock);
    world.session().await;
    let [survey] = &surveys(&world).await[..] else { panic!("one pair") };
    assert_eq!((survey.in_sync, survey.sum.listed), (Some(began), 5));
    // The next run forgets a pair that no policy covers any more.
    world.pass(Duration::from_hours(2)).await;
    let mut world = world;
    world.policies = Arc::new(mill_records::policies::PolicyRepository::fixed(Vec::new()));
    assert!(world.session().await.no_account());
    assert_eq!(surveys(&world).await, []);
}

#[tokio::test(start_paused = true)]
async fn where_everything_is_queued_a_pair_is_in_sync_by_what_is_proven() {
    for nibble in [2, 1_000] {
        let world = World::new(ONE);
        world.insert("1", "item", 5);
        world.insert("2", "item", 5);
        for number in 0..5 {
            world.add_sync_proof(&format!("item{number:05}")).await;
        }
        let loops = async |expected: u64| {
            world.pass(Duration::from_hours(2)).await;
            world.queue.drain().await;
            let began = mill_ports::Clock::now(&*world.clock);
            let report =
                world.session_with(|settings| settings.looping.nibble = NonZeroUsize::new(nibble).unwrap()).await;
            assert!(is_finished(&report) && !report.failed());
            let [survey] = &surveys(&world).await[..] else { panic!("one pair") };
            assert_eq!((survey.sum.queued, survey.sum.unchanged, survey.unproven), (5, 0, expected));
            assert_eq!(survey.in_sync, (expected == 0).then_some(began));
        };
        loops(0).await;
        // A proof of an earlier version of either side proves nothing.
        world.plant_one("2", "item00001");
        loops(1).await;
        world.plant_one("1", "item00002");
        loops(2).await;
        world.add_sync_proof("item00001").await;
        world.sync_proofs.remove(&World::pair(), &super::world::content("item00004")).await.unwrap();
        world.store("2").remove(&item("s", "item00000"));
        loops(3).await;
        for number in [1, 2, 4] {
            world.add_sync_proof(&format!("item{number:05}")).await;
        }
        loops(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_everything_is_queued_no_trouble_with_proofs_keeps_it_from_that() {
    for fault in [
        InjectedFault::Truncate,
        InjectedFault::Before(FaultKind::Unavailable),
        InjectedFault::Mid(FaultKind::Unexpected),
    ] {
        let world = World::new(EVERYTHING_KEPT);
        world.insert("1", "item", 120);
        world.insert("2", "item", 120);
        for number in 0..120 {
            world.add_sync_proof(&format!("item{number:05}")).await;
        }
        let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
        (1..100).for_each(|nth| plan.fail(PortCall::List, nth, fault));
        let inner: Arc<dyn DeletableStore> = Arc::new(world.store("2").clone());
        world.replace("2", Arc::new(FaultyStore::new(inner, address("a", "2"), plan)));
        let report = world.session().await;
        assert!(is_finished(&report) && !report.failed(), "{fault:?}: {report:?}");
        let [survey] = &surveys(&world).await[..] else { panic!("one pair") };
        assert_eq!((survey.sum.queued, survey.in_sync), (120, None), "{fault:?}");
        assert!(survey.unproven > 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_tasks_is_no_longer_queued_once_a_run_is_in_sync() {
    let world = half_in_sync(ONE).await;
    world.session().await;
    let [before] = &surveys(&world).await[..] else { panic!("one pair") };
    assert_eq!((before.unproven, before.in_sync), (10, None));
    world.producer().note_in_sync(&|_| 2).await.unwrap();
    let [after] = &surveys(&world).await[..] else { panic!("one pair") };
    let sum = SurveySum { unchanged: 38, queued: 0, refused: 5, ..HALF };
    assert_eq!((after.sum, after.unproven, after.in_sync), (sum, 0, Some(after.began)));
    assert_eq!(after.sum.check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_leaves_out_is_named_once_with_the_rule() {
    let world = World::new(
        r#"{ "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" } ], "spacesToIgnore": [ "scratch" ],
             "spaceDuplicationStorePolicies": { "x-named": [ { "srcStoreId": "1", "destStoreId": "2" } ] } }"#,
    );
    for name in ["x-rays", "scratch", "s"] {
        world.store("1").insert(&item(name, "i"), "x", Properties::default());
    }
    // An item that only the destination has is no entry of a source.
    world.store("2").insert_space(&space("x-theirs"));
    for n in 0..120 {
        world.store("1").insert_left_out(&format!("loose {n:03}"), RefusalReason::OutsideSpaces);
    }
    let report = world.session().await;
    assert_eq!(
        (report.findings.left_out.count, report.findings.left_out.first.len(), report.failed()),
        (123, 100, false)
    );
    let world = World::new(DEFAULT);
    world.store("1").insert(&item("x-rays", "i"), "x", Properties::default());
    world.store("1").insert_left_out("loose", RefusalReason::OutsideSpaces);
    let report = world.session().await;
    let told: Vec<_> =
        report.findings.left_out.first.iter().map(|entry| (&*entry.shown, entry.is_space, &*entry.rule)).collect();
    let rule = "never duplicated, since by DuraCloud's rule ids that begin with `x-` are internal";
    assert_eq!(told, [("loose", false, "it lies in no space"), ("x-rays", true, rule)]);
    assert!(report.leaves_out() && world.statistics.totals().work.left_out == 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_configured_contradictory_defaults_and_absent_sources_are_told() {
    let nothing = World::of(Vec::new()).session().await;
    assert!(nothing.no_account());
    let idle = World::new("{}").session().await;
    assert_eq!((idle.accounts_idle.len(), idle.accounts, idle.pairs), (1, 1, 0));
    let stopped = World::new(
        r#"{ "defaultPolicies": [ { "srcStoreId": "1", "destStoreId": "2" }, { "srcStoreId": "2", "destStoreId": "1" } ] }"#,
    );
    let report = stopped.session().await;
    assert!(report.accounts_idle[0].1.starts_with("stopped: "), "{:?}", report.accounts_idle);
    stopped.store("1").insert_space(&space("s"));
    let stopped = stopped.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await;
    assert!(stopped.findings.left_out.first[0].rule.starts_with("stopped: "), "{:?}", stopped.findings.left_out);
    let mistyped = World::new(ONE).session().await;
    assert_eq!(mistyped.findings.sources_absent.len(), 1);
    assert!(mistyped.leaves_out() && !mistyped.failed());
}

async fn closing(world: &World, is_refused: &(dyn Fn(&str) -> bool + Sync)) -> ClosingReport {
    let refused = |_: &SpacePair, id: &mill_model::ContentId| is_refused(id.as_str());
    world.producer().closing_survey(&refused, &CancellationToken::new()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_closing_survey_finds_every_entry_proven_or_names_it() {
    for file in [DIFFERENCES, ONE] {
        let world = half_in_sync(file).await;
        world.session().await;
        let report = closing(&world, &|_| false).await;
        assert!(!report.is_in_sync());
        assert_eq!(report.sum, HALF);
        assert_eq!((report.missing_first.len(), report.missing_first[0].id.as_str()), (10, "item00030"));
        // Copied by this pair and too young for a proof: the closing survey trusts the copy.
        world.insert("2", "item", 40);
        for number in 0..40 {
            let id = item("s", &format!("item{number:05}"));
            let [from, to] = [world.store("1"), world.store("2")]
                .map(|store| async { store.head(&id).await.unwrap().present().unwrap() });
            let (from, to) = (from.await, to.await);
            if number != 7 {
                world.sync_proofs.put_copied(&World::pair(), &id.id, &from.version, &to.version).await.unwrap();
            }
        }
        let report = closing(&world, &|_| false).await;
        let missing: Vec<&str> = report.missing_first.iter().map(|missing| missing.id.as_str()).collect();
        assert_eq!((missing, report.is_in_sync()), (vec!["item00007"], false));
        let report = closing(&world, &|id| id == "item00007").await;
        assert_eq!(report.sum, SurveySum { unchanged: 39, refused: 4, queued: 0, ..HALF });
        assert!(report.is_in_sync());
        let [survey] = &surveys(&world).await[..] else { panic!("one pair") };
        assert_eq!(survey.in_sync, Some(survey.began));
        assert_eq!(world.store("1").writes() + world.store("2").writes(), 0);
        // An item that changed at either side is no copy any more.
        world.plant_one("1", "item00009");
        assert_eq!(closing(&world, &|_| false).await.sum.queued, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closing_survey_that_cannot_see_a_source_says_so() {
    let world = World::new(DIFFERENCES);
    world.insert("1", "item", 5);
    world.session().await;
    world.store("1").remove_space(&space("s"));
    let report = closing(&world, &|_| false).await;
    assert!(!report.is_in_sync());
    assert!(report.session.spaces_failed[0].failure_kind == SpaceFailureKind::SourceAbsent, "{:?}", report.session);
    let one_off = world.session_with(|settings| {
        settings.absent_source = AbsentSource::Unknown;
        settings.looping.run_start = crate::RunStart::Now;
    });
    assert!(one_off.await.spaces_failed[0].failure_kind == SpaceFailureKind::SourceAbsent);
    assert_eq!(report.session.spaces_failed[0].account, account("a"));
    assert_eq!(report.session.spaces_failed[0].source, store("1"));
}
