//! A space that is gone at its source and whose copy a person let go.

use super::*;
use mill_ports::{Presence, SourceStore as _, StoreErrorKind};
use probe::Way;

async fn run(site: &Site, remove_vanished: bool, item: Option<&str>) -> Result<Outcome, ProcessorError> {
    site.run_under(policy(remove_vanished), &Site::task_of(item.map(at).as_ref(), true)).await
}

async fn destination_has_space(site: &Site) -> bool {
    site.destination.space(&space()).await.unwrap() != Presence::Absent
}

/// One item, `x`, of a space that was copied and is at the destination alone now.
async fn orphaned() -> Site {
    let site = Site::new();
    site.own().await;
    site.source.plant(&at("x"), "same", noted("n"));
    site.settle("x").await;
    assert!(site.sealed("x").await);
    site.source.uproot_space(&space());
    site
}

#[tokio::test(start_paused = true)]
async fn an_item_goes_with_its_space_when_a_person_confirmed_it() {
    let site = orphaned().await;
    assert_eq!(run(&site, true, Some("x")).await.unwrap(), Outcome::done());
    assert_eq!((site.destination.content(&at("x")), site.totals().deleted), (None, 1));
    assert!(!site.sealed("x").await);
    assert_eq!(run(&site, true, Some("x")).await.unwrap(), Outcome::done(), "twice is harmless");
    assert_eq!(site.source.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_of_a_space_that_is_gone_stays_unless_all_of_its_proofs_are_there() {
    // Not confirmed.
    let site = orphaned().await;
    assert!(is_discard(&site.run("x").await.unwrap(), "nothing is deleted for that"));
    // Not asked for by today's policy.
    assert_eq!(run(&site, false, Some("x")).await.unwrap(), Outcome::done());
    // The source store does not answer, at the first time of asking or at the second.
    for met in
        [vec![Way::Fails(StoreErrorKind::Unavailable)], vec![Way::Clear, Way::Fails(StoreErrorKind::Unavailable)]]
    {
        site.source_port.meet("space", met);
        let failed = class(run(&site, true, Some("x")).await);
        assert_eq!(failed, FailureClass::Unavailable { store: store_address("s") });
    }
    // The destination space is nobody's, or another's.
    site.owners.release(&Site::place()).await.unwrap();
    assert!(is_discard(&run(&site, true, Some("x")).await.unwrap(), "not this source's"));
    site.owners.claim(&Site::place(), &store_address("t")).await.unwrap();
    assert!(is_discard(&run(&site, true, Some("x")).await.unwrap(), "belongs to the source `a:t`"));
    assert!(site.destination.content(&at("x")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_space_is_back_is_brought_in_step_like_any_other() {
    let site = orphaned().await;
    site.source.plant(&at("x"), "changed", noted("n"));
    site.source.plant(&at("y"), "more", noted("n"));
    site.destination.plant(&at("z"), "vanished", noted("n"));
    for item in ["x", "y", "z"] {
        run(&site, true, Some(item)).await.unwrap();
    }
    assert!(site.in_step());
    assert_eq!(site.totals().deleted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_space_that_comes_back_while_an_item_is_looked_at_keeps_it() {
    let site = orphaned().await;
    let source = site.source.clone();
    let back = move || source.plant(&at("x"), "same", noted("n"));
    site.source_port.meet("space", [Way::Clear, Way::Before(Box::new(back))]);
    run(&site, true, Some("x")).await.unwrap();
    assert!(site.in_step());
    assert_eq!(site.totals().deleted, 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_somebody_changes_while_it_is_looked_at_is_looked_at_again() {
    let site = orphaned().await;
    let destination = site.destination.clone();
    let changed = move || destination.plant(&at("x"), "changed", noted("n"));
    site.destination_port.meet("delete", [Way::Before(Box::new(changed))]);
    run(&site, true, Some("x")).await.unwrap();
    let deletes = site.destination_port.calls().into_iter().filter(|call| *call == "delete");
    assert_eq!((deletes.count(), site.destination.content(&at("x"))), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_space_goes_only_when_confirmed_removable_gone_and_empty() {
    for (remove_vanished, retire, here, full, goes) in [
        (true, true, false, false, true),
        (false, true, false, false, false),
        (true, false, false, false, false),
        (true, true, true, false, false),
        (true, true, false, true, false),
    ] {
        let site = Site::new();
        site.own().await;
        if !here {
            site.source.uproot_space(&space());
        }
        if full {
            site.destination.plant(&at("x"), "same", noted(""));
        }
        site.run_under(policy(remove_vanished), &Site::task_of(None, retire)).await.unwrap();
        assert_eq!(destination_has_space(&site).await, !goes, "{remove_vanished} {retire} {here} {full}");
        assert_eq!(site.owners.owner(&Site::place()).await.unwrap().is_none(), goes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_waits_for_its_items_a_bounded_while() {
    let site = orphaned().await;
    let mut attempt = site.attempt();
    let mut waited = Duration::ZERO;
    loop {
        let processor = site.factory(policy(true)).processor(Site::task_of(None, true)).unwrap();
        match processor.run(&attempt).await.unwrap() {
            Outcome::Snooze { delay, task: None } => waited += delay,
            outcome => break assert_eq!(outcome, Outcome::done()),
        }
        attempt.envelope.snoozes += 1;
        assert!(attempt.envelope.snoozes < 100);
    }
    assert!((Duration::from_mins(10)..Duration::from_mins(20)).contains(&waited), "{waited:?}");
    assert!(destination_has_space(&site).await);
    run(&site, true, Some("x")).await.unwrap();
    run(&site, true, None).await.unwrap();
    assert!(!destination_has_space(&site).await);
}

#[tokio::test(start_paused = true)]
async fn a_space_that_cannot_be_asked_about_is_left_alone() {
    let site = Site::new();
    site.own().await;
    site.source.uproot_space(&space());
    site.source_port.meet("space", [Way::Fails(StoreErrorKind::Unavailable)]);
    let failed = class(run(&site, true, None).await);
    assert_eq!(failed, FailureClass::Unavailable { store: store_address("s") });
    assert!(destination_has_space(&site).await);
}

#[tokio::test(start_paused = true)]
async fn an_empty_space_that_is_anothers_or_nobodys_is_not_removed() {
    let site = Site::new();
    site.source.uproot_space(&space());
    assert!(is_discard(&run(&site, true, None).await.unwrap(), "not this source's"));
    site.owners.claim(&Site::place(), &store_address("t")).await.unwrap();
    assert!(is_discard(&run(&site, true, None).await.unwrap(), "belongs to the source `a:t`"));
    assert!(destination_has_space(&site).await);
}
