//! When a run begins, which producer may work, and how far a failing account reaches.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mill_model::Properties;
use mill_policy::AccountPolicy;
use mill_ports::Clock as _;
use mill_records::policies::PolicyRepository;
use mill_testkit::MemoryStore;
use tokio_util::sync::CancellationToken;

use super::world::{DEFAULT, DIFFERENCES, ONE, TWO, World, account, is_finished, item, policy, space, store};
use crate::{ProducerError, ProducerSettings, SessionEnd, WhenFull};

fn seconds(world: &World) -> u64 {
    world.clock.monotonic().since_origin().as_secs()
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn the_next_run_is_due_a_frequency_after_the_last_one_began() {
    let world = World::new(ONE);
    world.insert("1", "item", 10);
    world.store("2").insert_space(&space("s"));
    let report = world.session().await;
    let SessionEnd::Finished { next_run } = report.ended else { panic!("{:?}", report.ended) };
    assert!(!report.resumed);
    world.queue.drain().await;
    world.pass(Duration::from_mins(59)).await;
    assert_eq!(world.session().await.ended, SessionEnd::NotDue { next_run });
    assert!(world.queue.sent().is_empty());
    world.pass(Duration::from_mins(1)).await;
    assert!(is_finished(&world.session().await));
    assert_eq!(world.ids().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lasts_longer_than_the_frequency_is_resumed_not_begun_again() {
    let world = World::new(ONE);
    world.insert("1", "item", 10);
    world.store("2").insert_space(&space("s"));
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
    };
    assert_eq!(world.session_with(slow).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    world.pass(2 * HOUR).await;
    let report = world.session_with(slow).await;
    assert!(report.resumed);
    assert_eq!(world.ids(), ["item00005", "item00006", "item00007", "item00008", "item00009"]);
}

#[tokio::test(start_paused = true)]
async fn now_begins_a_run_that_is_not_due() {
    let world = World::new(ONE);
    world.insert("1", "item", 3);
    world.session().await;
    world.queue.drain().await;
    assert!(is_finished(&world.session_with(|settings| settings.looping.run_start = crate::RunStart::Now).await));
    assert_eq!(world.ids_of("item"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_the_run_and_when_the_next_is_due() {
    let world = World::new(ONE);
    world.insert("1", "item", 10);
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
    };
    world.session_with(slow).await;
    world.queue.drain().await;
    world.producer().reset().await.unwrap();
    let report = world.session().await;
    assert!(is_finished(&report) && !report.resumed);
    assert_eq!(world.ids_of("item"), 10);
    world.producer().reset().await.unwrap();
    assert!(is_finished(&world.session().await));
}

#[tokio::test(start_paused = true)]
async fn of_two_producers_at_once_one_works_and_one_leaves() {
    let world = World::new(ONE);
    world.insert("1", "item", 50);
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.queue_max = 1;
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
    };
    let (one, other) =
        (world.producer_with(slow), world.producer_with(|settings| settings.looping.holder = "holder-1".into()));
    let stop = CancellationToken::new();
    let leaving = async {
        world.pass(Duration::from_mins(5)).await;
        let report = other.run_session(&CancellationToken::new()).await.unwrap();
        assert_eq!(report.ended, SessionEnd::HeldByAnother { holder: "holder-0".into() });
        let reset = other.reset().await;
        assert!(matches!(reset, Err(ProducerError::HeldByAnother { .. })));
        stop.cancel();
    };
    let (report, ()) = futures::join!(one.run_session(&stop), leaving);
    assert_eq!(report.unwrap().ended, SessionEnd::Stopped);
    assert!(is_finished(&other.run_session(&CancellationToken::new()).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_dead_producers_lease_is_taken_over_after_its_timeout_and_the_run_goes_on() {
    let world = World::new(ONE);
    world.insert("1", "item", 50);
    world.fuse.set(30);
    let producer = world.producer_with(|settings| settings.looping.nibble = NonZeroUsize::new(5).unwrap());
    let stop = CancellationToken::new();
    {
        let session = std::pin::pin!(producer.run_session(&stop));
        let _ = futures::future::select(std::pin::pin!(world.fuse.blown.notified()), session).await;
    }
    world.fuse.set(i64::MAX);
    let before = seconds(&world);
    let report = world.session_with(|settings| settings.looping.holder = "holder-1".into()).await;
    assert!(is_finished(&report) && report.resumed);
    assert!((60..70).contains(&(seconds(&world) - before)));
    assert_eq!(world.ids().into_iter().filter(|id| id != "/").collect::<std::collections::BTreeSet<_>>().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_producer_whose_lease_was_taken_over_saves_nothing_more() {
    let world = World::new(ONE);
    world.insert("1", "item", 50);
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
        settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
    };
    // The producer freezes in the middle of its run, like a suspended process, and wakes after another has worked.
    let sleeper = world.producer_with(slow);
    let stop = CancellationToken::new();
    let mut session = Box::pin(sleeper.run_session(&stop));
    for _ in 0..1_000 {
        assert!(futures::poll!(session.as_mut()).is_pending());
        if !world.queue.sent().is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(!world.queue.sent().is_empty());
    world.queue.drain().await;
    let other = world.session_with(|settings| settings.looping.holder = "holder-1".into()).await;
    assert!(is_finished(&other));
    world.queue.drain().await;
    let report = session.await.unwrap();
    assert_eq!(report.ended, SessionEnd::HeldByAnother { holder: "holder-1".into() });
    assert!(matches!(world.session().await.ended, SessionEnd::NotDue { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_over_fences_off_even_who_has_not_noticed() {
    let world = World::new(ONE);
    world.insert("1", "item", 50);
    let sleeper = world.producer_with(|settings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
        settings.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
        settings.looping.lease_timeout = Duration::from_hours(10); // No beat of it is due before its next save.
    });
    let stop = CancellationToken::new();
    let mut session = Box::pin(sleeper.run_session(&stop));
    while world.queue.sent().is_empty() {
        assert!(futures::poll!(session.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let other = |settings: &mut ProducerSettings| {
        settings.looping.holder = "holder-1".into();
        settings.looping.queue_max = 0;
    };
    assert_eq!(world.session_with(other).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    let woken = seconds(&world);
    assert!(matches!(session.await.unwrap().ended, SessionEnd::HeldByAnother { .. }));
    assert!(seconds(&world) - woken < 10, "it saved, and went on until its next beat was due");
    let report = world.session().await;
    assert!(is_finished(&report) && report.resumed);
}

/// Policy files in a space of store 3: those of account `a`, and of `b` whatever the test puts there.
pub(super) fn files(world: &mut World) -> MemoryStore {
    let files = world.store("3").clone();
    put(&files, "duplication-accounts.json", r#"["a", "b"]"#);
    let stores = r#"{ "stores": [ { "id": "1", "type": "folder", "root": "one", "primary": true },
        { "id": "2", "type": "folder", "root": "two" } ] }"#;
    for file in ["a-stores.json", "b-stores.json"] {
        put(&files, file, stores);
    }
    for file in ["a-duplication-policy.json", "b-duplication-policy.json"] {
        put(&files, file, "{}");
    }
    let store = Arc::new(files.clone());
    let repository = PolicyRepository::of_store(store, space("policies"), world.clock.clone(), Duration::from_mins(5));
    world.policies = Arc::new(repository);
    files
}

pub(super) fn put(files: &MemoryStore, name: &str, text: &str) {
    files.insert(&item("policies", name), text.to_owned(), Properties::default());
}

#[tokio::test(start_paused = true)]
async fn a_policy_edited_in_the_midst_of_a_session_is_obeyed_from_the_next_turn() {
    for (edited, all) in [(DIFFERENCES, false), ("{}", false), (ONE, true)] {
        let mut world = World::new(ONE);
        let files = files(&mut world);
        put(&files, "a-duplication-policy.json", ONE);
        world.insert("1", "item", 30);
        world.insert("2", "item", 30);
        for number in 0..30 {
            world.add_sync_proof(&format!("item{number:05}")).await;
        }
        let producer = world.producer_with(|settings| {
            settings.looping.nibble = NonZeroUsize::new(10).unwrap();
            settings.looping.queue_max = 1;
            settings.looping.when_full =
                WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
        });
        let stop = CancellationToken::new();
        let editing = async {
            world.pass(Duration::from_mins(1)).await;
            put(&files, "a-duplication-policy.json", edited);
            world.pass(Duration::from_mins(10)).await;
            let mut queued = 0;
            for _ in 0..3 {
                queued += world.queue.drain().await;
                world.pass(Duration::from_mins(1)).await;
            }
            queued
        };
        let (report, queued) = futures::join!(producer.run_session(&stop), editing);
        assert!(is_finished(&report.unwrap()));
        // The first turn was under the old policy; the second began when the queue had room again.
        assert_eq!(queued, if all { 30 } else { 10 }, "{edited}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_did_not_answer_is_made_up_for_without_repeating_the_rest() {
    let file = r#"{ "defaultPolicies": [
        { "srcStoreId": "1", "destStoreId": "2" }, { "srcStoreId": "1", "destStoreId": "3" } ] }"#;
    let world = World::new(file);
    world.insert("1", "item", 5);
    for id in ["2", "3"] {
        world.store(id).insert_space(&space("s"));
    }
    let plan = mill_testkit::FaultPlan::new(world.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    plan.set_outage(Some(mill_testkit::FaultKind::Unavailable));
    let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store("3").clone());
    let faulty = mill_testkit::FaultyStore::new(inner, super::world::address("a", "3"), plan.clone());
    world.replace("3", Arc::new(faulty));
    assert!(world.session().await.failed());
    assert!(world.queue.sent().iter().all(|task| task.pair.destination == store("2")));
    assert_eq!(world.queue.drain().await, 5);
    plan.calm();
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed());
    assert!(world.queue.sent().iter().all(|task| task.pair.destination == store("3")));
    assert_eq!(world.queue.drain().await, 5);
    assert!(matches!(world.session().await.ended, SessionEnd::NotDue { .. }));
}

/// A morsel that the last run skipped is in progress again, with an open listing, when the next run comes due.
#[tokio::test(start_paused = true)]
async fn a_run_begins_at_the_beginning_also_where_the_last_one_is_made_up_for() {
    let world =
        World::new(r#"{ "spaceDuplicationStorePolicies": { "s": [{ "srcStoreId": "1", "destStoreId": "2" }] } }"#);
    world.insert("1", "item", 30);
    world.store("2").insert_space(&space("s"));
    let settings = |settings: &mut ProducerSettings| {
        settings.looping.frequency = Duration::from_hours(1);
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 10;
    };
    let plan = mill_testkit::FaultPlan::new(world.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store("2").clone());
    world.replace("2", Arc::new(mill_testkit::FaultyStore::new(inner, super::world::address("a", "2"), plan.clone())));
    let stop = CancellationToken::new();
    let producer = world.producer_with(settings);
    plan.set_outage(Some(mill_testkit::FaultKind::Unavailable));
    let report = producer.run_session(&stop).await.unwrap();
    assert!(is_finished(&report) && report.failed(), "{report:?}");
    plan.calm();
    world.pass(Duration::from_mins(50)).await;
    let producer = world.producer_with(|all| {
        settings(all);
        all.looping.when_full = WhenFull::Wait { poll: Duration::from_secs(1), poll_most: Duration::from_secs(1) };
    });
    let draining = async {
        // The queue is full until the next run is due.
        world.pass(Duration::from_mins(15)).await;
        let mut drained = 0;
        for _ in 0..30 {
            drained += world.queue.drain().await;
            world.pass(Duration::from_secs(5)).await;
        }
        stop.cancel();
        drained
    };
    let (report, drained) = futures::join!(producer.run_session(&stop), draining);
    report.unwrap();
    assert_eq!(drained, 10 + 30, "ten of the last run, and all of the next");
}

#[tokio::test(start_paused = true)]
async fn a_failing_account_is_reported_and_the_others_go_on() {
    let mut world = World::of(vec![policy("a", DEFAULT), policy("b", DEFAULT), policy("c", DEFAULT)]);
    for id in ["1", "2"] {
        world.add_store("c", id);
    }
    // `b` has no store that can be used.
    world.insert("1", "item", 5);
    world.store_of("c", "1").insert(&item("s", "of c"), "x", Properties::default());
    let report = world.session().await;
    assert!(is_finished(&report) && report.failed());
    assert_eq!(world.ids_of("item"), 5);
    assert_eq!(world.ids_of("of c"), 1);
    let failed: Vec<String> = report.spaces_failed.iter().map(|failed| failed.account.to_string()).collect();
    assert_eq!(failed, ["b", "b"]);
    world.queue.drain().await;

    // Its stores work again: the run discovers the spaces that it could not know before, and no others.
    for id in ["1", "2"] {
        world.add_store("b", id);
    }
    world.store_of("b", "1").insert(&item("s", "of b"), "x", Properties::default());
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed() && report.resumed, "{report:?}");
    assert_eq!(world.ids(), ["/", "of b"]);
    assert!(matches!(world.session().await.ended, SessionEnd::NotDue { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_account_without_a_readable_policy_is_reported_once_and_others_go_on() {
    let mut world = World::new(DEFAULT);
    let files = files(&mut world);
    put(&files, "a-duplication-policy.json", DEFAULT);
    put(&files, "b-duplication-policy.json", "{");
    world.insert("1", "item", 5);
    let report = world.session().await;
    assert!(is_finished(&report));
    assert_eq!(world.ids_of("item"), 5);
    assert_eq!(report.accounts_failed.len(), 1);
    assert_eq!(report.accounts_failed[0].0, account("b"));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_store_fails_its_own_spaces_alone() {
    let world = World::new(TWO);
    world.insert("1", "item", 5);
    world.store("2").insert_space(&space("s"));
    let plan = mill_testkit::FaultPlan::new(world.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
    plan.set_outage(Some(mill_testkit::FaultKind::Unavailable));
    let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store("3").clone());
    world.replace("3", Arc::new(mill_testkit::FaultyStore::new(inner, super::world::address("a", "3"), plan)));
    let report = world.session().await;
    assert!(is_finished(&report));
    assert_eq!(world.ids().len(), 5);
    assert_eq!(report.spaces_failed.len(), 1);
    assert_eq!(report.spaces_failed[0].destination, Some(store("3")));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_tell_its_spaces_is_asked_until_its_time_is_up_and_others_go_on() {
    let trials = [("1", 4, true), ("2", 4, true), ("1", 6, false), ("2", 6, false)];
    for (id, away, finished) in trials {
        let mut world = World::of(vec![policy("a", DEFAULT), policy("b", DEFAULT)]);
        for id in ["1", "2"] {
            world.add_store("b", id);
        }
        let world = world;
        world.insert("1", "item", 5);
        world.store("1").insert_left_out("beside", mill_ports::RefusalReason::OutsideSpaces);
        world.store_of("b", "1").insert(&item("s", "of b"), "x", Properties::default());
        let plan = mill_testkit::FaultPlan::new(world.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
        plan.set_outage(Some(mill_testkit::FaultKind::Unreachable));
        let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store(id).clone());
        let faulty = mill_testkit::FaultyStore::new(inner, super::world::address("a", id), plan.clone());
        world.replace(id, Arc::new(faulty));
        let back = async {
            world.clock.sleep(Duration::from_mins(away)).await;
            assert_eq!(world.ids_of("of b"), 1);
            assert!(!world.statistics.store_waits().is_empty(), "it is said what is waited for");
            plan.calm();
        };
        let session = world.session_with(|settings| settings.looping.give_up_after = Duration::from_mins(5));
        let (report, ()) = tokio::join!(session, back);
        assert_eq!(!report.failed(), finished, "{id} {away} {report:?}");
        if finished {
            // Each pair of an account is counted once, however often a store was asked.
            assert_eq!((report.pairs, report.findings.left_out.count), (2, 1), "{report:?}");
            assert_eq!((report.survey.listed, world.ids_of("item")), (6, 5));
            assert!(world.statistics.store_waits().is_empty(), "{:?}", world.statistics.store_waits());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_whose_store_does_not_answer_is_tried_until_its_time_is_up_and_others_go_on() {
    for (away, finished) in [(Duration::from_mins(4), true), (Duration::from_mins(6), false)] {
        let world = World::new(TWO);
        world.insert("1", "item", 5);
        world.store("2").insert_space(&space("s"));
        let plan = mill_testkit::FaultPlan::new(world.clock.clone(), Arc::new(mill_testkit::SeededRng::new(1)));
        plan.set_outage(Some(mill_testkit::FaultKind::Unreachable));
        let inner: Arc<dyn mill_ports::DeletableStore> = Arc::new(world.store("3").clone());
        world.replace(
            "3",
            Arc::new(mill_testkit::FaultyStore::new(inner, super::world::address("a", "3"), plan.clone())),
        );
        let back = async {
            world.clock.sleep(away).await;
            assert_eq!(world.queue.sent().iter().filter(|task| task.pair.destination == store("2")).count(), 5);
            assert_eq!(world.statistics.store_waits().len(), 1, "it is said what is waited for");
            plan.calm();
        };
        let session = world.session_with(|settings| settings.looping.give_up_after = Duration::from_mins(5));
        let (report, ()) = tokio::join!(session, back);
        assert_eq!(!report.failed(), finished, "{away:?}: {report:?}");
        assert_eq!(world.queue.sent().iter().any(|task| task.pair.destination == store("3")), finished);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_edited_meanwhile_is_obeyed_by_the_resumed_run() {
    let mut world = World::new(TWO);
    world.insert("1", "item", 20);
    for id in ["2", "3"] {
        world.insert(id, "gone", 2);
        world.insert(id, "item", 20);
    }
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
    };
    assert_eq!(world.session_with(slow).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    // No policy covers store 2 any more; at store 3 nothing is removed any more.
    let edited = r#"{ "spaceDuplicationStorePolicies": { "s": [ { "srcStoreId": "1", "destStoreId": "3" } ] } }"#;
    world.policies = Arc::new(PolicyRepository::fixed(vec![with_nothing_removed(edited)]));
    assert!(is_finished(&world.session().await));
    assert!(world.queue.sent().iter().all(|task| task.pair.destination == store("3")));
    assert_eq!((world.ids_of("item"), world.ids_of("gone")), (20, 0));
}

fn with_nothing_removed(file: &str) -> AccountPolicy {
    let file = file.replacen('{', r#"{ "removeVanished": false, "#, 1);
    policy("a", &file)
}

#[tokio::test(start_paused = true)]
async fn an_account_no_longer_listed_is_dropped_from_the_run() {
    let mut world = World::of(vec![policy("a", ONE), policy("b", DEFAULT)]);
    for id in ["1", "2"] {
        world.add_store("b", id);
    }
    world.insert("1", "item", 20);
    world.store_of("b", "1").insert(&item("s", "of b"), "x", Properties::default());
    let slow = |settings: &mut ProducerSettings| {
        settings.looping.nibble = NonZeroUsize::new(5).unwrap();
        settings.looping.queue_max = 1;
    };
    assert_eq!(world.session_with(slow).await.ended, SessionEnd::QueueFull);
    world.queue.drain().await;
    world.policies = Arc::new(PolicyRepository::fixed(vec![policy("a", ONE)]));
    let report = world.session().await;
    assert!(is_finished(&report) && !report.failed());
    assert!(world.queue.sent().iter().all(|task| task.pair.account == account("a")));
}

#[tokio::test(start_paused = true)]
async fn a_space_that_belongs_to_another_source_is_passed_over() {
    let world = World::new(ONE);
    world.insert("1", "item", 5);
    world.insert("2", "other", 5);
    let place = mill_records::owners::DestinationSpace { store: super::world::address("a", "2"), space: space("s") };
    world.owners.claim(&place, &super::world::address("a", "3")).await.unwrap();
    let report = world.session().await;
    assert_eq!(report.spaces_failed.len(), 1);
    assert!(world.queue.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn refused_entries_are_named_and_counted_once_a_run() {
    let world = World::new(ONE);
    world.insert("1", "item", 5);
    world.insert("2", "item", 5);
    world.insert("2", "gone", 1);
    world.wrote_all().await;
    world.store("1").insert_refused(&item("s", "link"), mill_ports::RefusalReason::SymbolicLink);
    let report = world.session().await;
    assert_eq!(report.survey.refused, 1);
    assert_eq!(report.findings.named_first[0].shown, "link");
    assert_eq!(world.statistics.totals().refused(), 1);
    assert_eq!(world.ids().len(), 6);
}
