//! Spaces, their owners, and ids that cannot be stored.

use super::*;
use mill_ports::{Presence, RefusalReason, SourceStore as _, StoreErrorKind};

async fn run_space(site: &Fixture, remove_vanished: bool) -> TaskOutcome {
    site.run_under(policy(remove_vanished), &Fixture::task(None)).await.unwrap()
}

async fn destination_has_space(site: &Fixture) -> bool {
    site.destination.space(&space()).await.unwrap() != Presence::Absent
}

#[tokio::test(start_paused = true)]
async fn an_empty_source_space_arrives_and_belongs_to_its_source() {
    let site = Fixture::new();
    site.destination.remove_space(&space());
    assert_eq!(run_space(&site, false).await, TaskOutcome::done());
    assert!(destination_has_space(&site).await);
    let place = Fixture::place();
    assert_eq!(site.owners.owner(&place).await.unwrap(), Some(store_address("s")));
    assert_eq!(run_space(&site, false).await, TaskOutcome::done());
}

#[tokio::test(start_paused = true)]
async fn a_space_that_is_gone_at_its_source_stays_whatever_the_policy() {
    for remove_vanished in [true, false] {
        let site = Fixture::new();
        site.own().await;
        site.source.remove_space(&space());
        assert_eq!(run_space(&site, remove_vanished).await, TaskOutcome::done());
        assert!(destination_has_space(&site).await);
        assert_eq!(site.owners.owner(&Fixture::place()).await.unwrap(), Some(store_address("s")));
        assert_eq!(site.destination.writes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_whose_owner_was_released_while_its_claim_was_known_is_claimed_anew_when_it_is_made() {
    let site = Fixture::new();
    let registry = site.registry(policy(true));
    let make = async || registry.processor(Fixture::task(None)).unwrap().run(&site.attempt()).await.unwrap();
    make().await;
    // A `remove` task removes the space and its owner; then the source space is back.
    site.destination.remove_space(&space());
    site.owners.release(&Fixture::place()).await.unwrap();
    make().await;
    assert!(destination_has_space(&site).await);
    assert_eq!(site.owners.owner(&Fixture::place()).await.unwrap(), Some(store_address("s")));
}

#[tokio::test(start_paused = true)]
async fn a_missing_destination_space_is_made_when_an_item_needs_it() {
    let site = Fixture::new();
    site.destination.remove_space(&space());
    site.source.insert(&at("x"), "same", noted("n"));
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    assert_eq!(site.totals().copied, 1);
}

#[tokio::test(start_paused = true)]
async fn one_task_makes_a_missing_space_for_all_that_are_under_way() {
    // The second finds it gone again after it was seen: only the write shows that.
    for gone_again in [false, true] {
        let site = Fixture::new();
        let registry = site.registry(policy(true));
        let run = async |item: &str| {
            registry.processor(Fixture::task(Some(&at(item)))).unwrap().run(&site.attempt()).await.unwrap()
        };
        let items: Vec<String> = (0..20).map(|item| item.to_string()).collect();
        if gone_again {
            site.source.insert(&at("before"), "same", noted("n"));
            run("before").await;
        }
        site.destination.remove_space(&space());
        for item in &items {
            site.source.insert(&at(item), "same", noted("n"));
        }
        site.forget_counts();
        futures::future::join_all(items.iter().map(|item| run(item))).await;
        let count = |calls: Vec<&str>, of: &str| calls.iter().filter(|call| **call == of).count();
        let (opened, asked) = (count(site.source_port.calls(), "open"), site.destination_port.calls());
        assert_eq!(count(asked.clone(), "create_space"), 1, "{asked:?}");
        if !gone_again {
            assert_eq!((opened, count(asked, "put")), (20, 20), "nothing is read or sent twice");
        }
        assert_eq!(site.destination.contents(&space()).unwrap().len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_spaces_own_task_makes_it_once_more_only_where_it_is_gone_again() {
    let site = Fixture::new();
    let registry = site.registry(policy(true));
    let run = async |item: Option<&str>| {
        let item = item.map(at);
        registry.processor(Fixture::task(item.as_ref())).unwrap().run(&site.attempt()).await.unwrap();
        site.destination_port.calls().iter().filter(|call| **call == "create_space").count()
    };
    site.destination.remove_space(&space());
    site.source.insert(&at("x"), "same", noted("n"));
    assert_eq!((run(Some("x")).await, run(None).await), (1, 0));
    site.destination.remove_space(&space());
    assert_eq!(run(None).await, 1);
    assert!(site.destination.contents(&space()).is_some());
}

#[tokio::test(start_paused = true)]
async fn another_sources_space_is_never_written() {
    let site = Fixture::new();
    let place = Fixture::place();
    site.owners.claim(&place, &store_address("t")).await.unwrap();
    site.source.insert(&at("new"), "same", noted("n"));
    site.source.insert(&at("changed"), "same", noted("n"));
    site.destination.insert(&at("changed"), "same", noted("m"));
    site.destination.insert(&at("theirs"), "same", noted("n"));
    let before = site.destination.contents(&space());
    assert_eq!(site.run("theirs").await.unwrap(), TaskOutcome::done());
    for item in ["new", "changed"] {
        let outcome = site.run(item).await.unwrap();
        assert!(is_discard(&outcome, "belongs to the source `a:t`"), "{outcome:?}");
    }
    assert!(is_discard(&run_space(&site, true).await, "mill spaces release a d 'p'"));
    assert_eq!(site.destination.contents(&space()), before);
    assert_eq!(site.destination.writes(), 0);
    assert_eq!(site.totals().refused, 3);
}

#[tokio::test(start_paused = true)]
async fn stores_that_hold_something_in_common_are_never_written() {
    for item in [Some(at("x")), None] {
        let mut site = Fixture::new();
        site.destination.remove_space(&space());
        site.source.insert(&at("x"), "same", noted("n"));
        site.guard(Guards { apart: false, ..Guards::default() });
        let failed = class(site.run_under(policy(true), &Fixture::task(item.as_ref())).await);
        assert_eq!(failed, FailureClass::Unavailable { store: store_address("d") });
        assert_eq!((site.destination.writes(), site.owners.owner(&Fixture::place()).await.unwrap()), (0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_another_mill_keeps_in_sync_is_never_written() {
    for item in [Some(at("x")), None] {
        let mut site = Fixture::new();
        site.source.insert(&at("x"), "same", noted("n"));
        let guarded = site.guard(Guards { ours: false, ..Guards::default() });
        let outcome = site.run_under(policy(true), &Fixture::task(item.as_ref())).await.unwrap();
        assert!(is_discard(&outcome, "another"), "{outcome:?}");
        assert_eq!((site.destination.writes(), guarded.claims()), (0, vec![true]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_held_is_named_and_let_go() {
    let site = Fixture::of(plain(), StoreBehavior { unholdable: Some(|id| id.as_str() == "a//b"), ..plain() });
    site.source.insert(&at("a//b"), "same", noted("n"));
    site.source.insert_refused(&at("link"), RefusalReason::SymbolicLink);
    let outcome = site.run("a//b").await.unwrap();
    assert!(is_discard(&outcome, "cannot hold such an id"), "{outcome:?}");
    let outcome = site.run("link").await.unwrap();
    assert!(is_discard(&outcome, "a symbolic link"), "{outcome:?}");
    let totals = site.totals();
    assert_eq!((totals.refused, totals.examined), (2, 2));
    let kept = site.refusals.named();
    assert_eq!([&*kept[0].subject, &*kept[1].subject], ["a/p/a//b", "a/p/link"]);
}

/// Somebody's `a` is in the way of `a/b`.
fn blocked() -> Fixture {
    let site = Fixture::new();
    site.source.insert(&at("a/b"), "same", noted("n"));
    let taken = StoreErrorKind::Refused(RefusalReason::PathConflict("a file".into()));
    site.destination_port.meet("put", [ProbeFault::Fails(taken)]);
    site
}

async fn run_after(site: &Fixture, failures: u32, remove_vanished: bool) -> Result<TaskOutcome, ProcessorError> {
    let attempt = site.attempt_after(failures);
    site.attempted(&site.registry(policy(remove_vanished)), &Fixture::task(Some(&at("a/b"))), &attempt).await
}

#[tokio::test(start_paused = true)]
async fn an_item_in_whose_place_another_stands_waits_for_the_others_delete() {
    for failures in [0, 1] {
        let site = blocked();
        assert_eq!(class(run_after(&site, failures, true).await), FailureClass::Retryable);
        assert_eq!((site.totals().refused, site.totals().examined), (0, 0));
        // The other is gone now.
        assert_eq!(run_after(&site, failures + 1, true).await.unwrap(), TaskOutcome::done());
        assert!(site.in_sync());
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_in_whose_place_another_stays_is_named_and_let_go() {
    // On the last attempt; and at once where no delete can be on its way.
    for (failures, remove_vanished) in [(2, true), (0, false)] {
        let site = blocked();
        let outcome = run_after(&site, failures, remove_vanished).await.unwrap();
        assert!(is_discard(&outcome, "its place is taken by a file"), "{outcome:?}");
        assert_eq!((site.totals().refused, site.refusals.named().len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_spaces_owner_is_asked_once_in_a_while_and_not_for_each_item() {
    let site = Fixture::new();
    let registry = site.registry(policy(true));
    for n in 0..3 {
        let item = at(&n.to_string());
        site.source.insert(&item, "same", noted("n"));
        site.attempted(&registry, &Fixture::task(Some(&item)), &site.attempt()).await.unwrap();
        if n == 0 {
            let place = Fixture::place();
            site.owners.release(&place).await.unwrap();
            site.owners.claim(&place, &store_address("t")).await.unwrap();
        }
        if n == 1 {
            assert_eq!(site.totals().copied, 2);
            site.clock.sleep(Duration::from_secs(31)).await;
        }
    }
    assert_eq!((site.totals().copied, site.totals().refused), (2, 1));
}
