//! The decision table of the kind, row by row.

use std::time::Duration;

use super::*;
use mill_ports::StoreErrorKind;

#[tokio::test(start_paused = true)]
async fn what_a_granted_list_names_is_deleted_and_nothing_else() {
    for by in [GrantedBy::Rule, GrantedBy::Person("ann".into())] {
        let site = vanished(&["a", "a/b", "b", "ü"]).await;
        site.list(DeletionScope::Items, DeleteListState::Granted { by, at: 1 }, &[&["a", "b"], &["ü"]]).await;
        assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
        assert_eq!(site.left().unwrap(), ["a/b", "ü"], "the second row has a task of its own");
        assert_eq!((site.result(0).await, site.result(1).await), (Some(deleted(2)), None));
        assert_eq!(site.known().await, ["a/b", "ü"], "what is known of a deleted item goes with it");
        assert_eq!(site.totals(), Totals { deleted: 2, ..Totals::default() });
        assert_eq!(site.source.writes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_granted_deletes_nothing() {
    let held = DeleteListState::Held { reason: HoldReason::TooMany { unasked_today: 0 } };
    let done = DeleteListState::Done { by: GrantedBy::Rule, deleted: 0 };
    for state in [held, DeleteListState::Withdrawn, done] {
        let site = vanished(&["x"]).await;
        site.list(DeletionScope::Items, state, &[&["x"]]).await;
        assert!(is_discard(&site.remove().await.unwrap(), "not granted"));
        site.assert_untouched(&["x"]).await;
        assert!(site.source_port.calls().is_empty() && site.destination_port.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn rows_without_a_head_delete_nothing() {
    let site = vanished(&["x"]).await;
    let seen = VersionDigest::of(&site.version("x").await);
    let row = DeleteListRow { ids: vec![ListedId { id: at("x").id, seen }] };
    site.delete_lists.put_row(&Fixture::pair(), list_id(), 0, &row).await.unwrap();
    assert!(is_discard(&site.remove().await.unwrap(), "not granted"));
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_granted_for_one_pair_lets_go_nothing_of_another() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let other = SpacePair { space: SpaceId::new("q").unwrap(), ..Fixture::pair() };
    let place = DestinationSpace { store: store_address("d"), space: other.space.clone() };
    site.owners.claim(&place, &store_address("s")).await.unwrap();
    let elsewhere = RemoveTask { pair: other.clone(), list: list_id(), row: Some(0) }.to_task().unwrap();
    let outcome = site.remove_under(policy_of(other, true), elsewhere, &site.attempt()).await.unwrap();
    assert!(is_discard(&outcome, "not granted"), "{outcome:?}");
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_has_its_result_deletes_nothing() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.delete_lists.record(&Fixture::pair(), list_id(), 0, &kept(1)).await.unwrap();
    assert!(is_discard(&site.remove().await.unwrap(), "has its result already"));
    assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["x".to_owned()], Some(kept(1))));
    assert!(site.source_port.calls().is_empty() && site.destination_port.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_ask_for_it_deletes_nothing() {
    for (repository, discards) in [
        (policy(false), true),
        (NoPolicy::CoversNothing.repository(), true),
        (NoPolicy::NotListed.repository(), true),
        (NoPolicy::ContradictsItself.repository(), false),
    ] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        let outcome = site.remove_under(repository, row_task(0), &site.attempt()).await.unwrap();
        let waits = matches!(outcome, TaskOutcome::Snooze { task: None, .. });
        assert!(is_discard(&outcome, "") == discards && waits != discards, "{outcome:?}");
        site.assert_untouched(&["x"]).await;
    }
}

/// Runs the task of a row whose last item is delayed, while `change` edits the policy.
async fn while_policy_changes(change: impl FnOnce(&PolicyFilesFixture) + Send + 'static) -> (Fixture, TaskOutcome) {
    let site = vanished(&["a", "b"]).await;
    let files = PolicyFilesFixture::of(&site);
    site.granted(&["a", "b"]).await;
    let repository = files.repository(&site);
    // The store's `retry_after` lets time pass, so that the policy is read again.
    let retry_after = Some(Duration::from_secs(4));
    site.source_port.meet("head", [ProbeFault::Clear, ProbeFault::Fails(StoreErrorKind::Throttled { retry_after })]);
    site.destination_port.meet("delete", [ProbeFault::Before(Box::new(move || change(&files)))]);
    let outcome = site.remove_under(repository, row_task(0), &site.attempt()).await.unwrap();
    (site, outcome)
}

#[tokio::test(start_paused = true)]
async fn policy_is_asked_again_right_before_each_delete() {
    let (site, outcome) = while_policy_changes(|_| {}).await;
    assert_eq!((outcome, site.result(0).await), (TaskOutcome::done(), Some(deleted(2))));
    let changes: [fn(&PolicyFilesFixture); 2] =
        [|files| files.removes(false), |files| files.write("duplication-accounts.json", "[]")];
    for (at, change) in changes.into_iter().enumerate() {
        let (site, outcome) = while_policy_changes(change).await;
        assert_eq!((site.left().unwrap(), site.totals().deleted), (vec!["b".to_owned()], 1), "{at}");
        assert_eq!(site.result(0).await, None, "what is left of the row may be asked for again");
        assert!(is_discard(&outcome, ""), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_space_of_another_source_loses_nothing() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.owners.release(&Fixture::place()).await.unwrap();
    site.owners.claim(&Fixture::place(), &store_address("t")).await.unwrap();
    assert!(is_discard(&site.remove().await.unwrap(), "belongs to the source `a:t`"));
    site.assert_untouched(&["x"]).await;
    assert!(site.source_port.calls().is_empty() && site.destination_port.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_space_of_nobody_is_claimed_for_what_the_list_names() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.owners.release(&Fixture::place()).await.unwrap();
    site.remove().await.unwrap();
    assert_eq!(site.totals().deleted, 1);
    assert_eq!(site.owners.owner(&Fixture::place()).await.unwrap(), Some(store_address("s")));
}

#[tokio::test(start_paused = true)]
async fn a_space_of_nobody_is_not_claimed_by_a_worker_whose_lease_ended_nor_for_a_list_that_is_held() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.owners.release(&Fixture::place()).await.unwrap();
    let attempt = site.attempt();
    attempt.cancelled.cancel();
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
    assert_eq!(site.owners.owner(&Fixture::place()).await.unwrap(), None);
    site.set_state(DeleteListState::Held { reason: HoldReason::TooMuchHidden }).await;
    site.remove().await.unwrap();
    assert_eq!(site.owners.owner(&Fixture::place()).await.unwrap(), None);
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn stores_that_hold_something_in_common_lose_nothing() {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.guard(Guards { apart: false, ..Guards::default() });
    assert_eq!(class(site.remove().await), FailureClass::Unavailable { store: store_address("d") });
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_another_mill_keeps_in_sync_loses_nothing() {
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.guard(Guards { ours: false, ..Guards::default() });
    assert!(is_discard(&site.remove().await.unwrap(), "another"));
    site.assert_untouched(&["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_is_claimed_for_items_that_a_list_names_and_not_to_go_as_a_whole() {
    for (of, claims) in [(DeletionScope::Items, [true]), (DeletionScope::Space, [false])] {
        let mut site = vanished(&["x"]).await;
        site.list(of, GRANTED, &[&["x"]]).await;
        let guarded = site.guard(Guards::default());
        site.remove().await.unwrap();
        assert_eq!(guarded.claims(), claims);
    }
    let mut site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    let guarded = site.guard(Guards::default());
    let attempt = site.attempt();
    attempt.cancelled.cancel();
    assert_eq!(class(site.remove_under(policy(true), row_task(0), &attempt).await), FailureClass::LeaseLost);
    assert_eq!(guarded.claims(), [true; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_changed_at_the_destination_since_it_was_listed_is_kept() {
    for bytes in ["written anew", "x"] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        site.destination.insert(&at("x"), bytes, noted("n"));
        assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
        assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["x".to_owned()], Some(kept(1))));
        assert_eq!(site.destination_port.calls(), ["head"]);
        assert_eq!(site.known().await, ["x"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_already_is_counted_and_forgotten() {
    for with_space in [false, true] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        site.destination.remove(&at("x"));
        if with_space {
            site.destination.remove_space(&space());
        }
        assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
        assert_eq!((site.result(0).await, site.totals().deleted), (Some(gone(1)), 0));
        assert_eq!(site.known().await, [""; 0]);
        assert_eq!(site.destination.writes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_back_at_the_source_is_kept() {
    let site = vanished(&["a", "b"]).await;
    site.granted(&["a", "b"]).await;
    site.source.insert(&at("a"), "another", noted("else"));
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    let result = RowResult { deleted: 1, kept: 1, ..RowResult::default() };
    assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["a".to_owned()], Some(result)));
    assert_eq!(site.known().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_or_is_refused_while_the_row_is_done_is_kept() {
    // Between the calls that check it.
    for (op, back) in [("places", true), ("head", true), ("head", false)] {
        let site = vanished(&["x"]).await;
        site.granted(&["x"]).await;
        let source = site.source.clone();
        let happens = move || {
            if back {
                source.insert(&at("x"), "back", noted("n"));
            } else {
                source.insert_refused(&at("x"), mill_ports::RefusalReason::Unreadable);
            }
        };
        site.source_port.meet(op, [ProbeFault::Before(Box::new(happens))]);
        assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
        assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["x".to_owned()], Some(kept(1))), "{op} {back}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_space_that_is_absent_keeps_all_items_of_a_list() {
    let site = vanished(&["a", "b"]).await;
    site.granted(&["a", "b"]).await;
    site.source.remove_space(&space());
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    assert_eq!((site.left().unwrap().len(), site.result(0).await), (2, Some(kept(2))));
    assert_eq!(site.destination.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_id_is_asked_about_once_at_the_destination_and_once_at_the_source() {
    let site = vanished(&["x"]).await;
    site.granted(&["x"]).await;
    site.remove().await.unwrap();
    assert_eq!(site.destination_port.calls(), ["head", "delete"]);
    assert_eq!(site.source_port.calls(), ["places", "head", "places"], "places before and after the look");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_makes_no_sense_is_permanently_failed() {
    let site = Fixture::new();
    let registry = site.registry(policy(true));
    for (member, value) in [("list", None), ("list", Some("x".into())), ("row", Some((-1).into())), ("space", None)] {
        let mut task = row_task(0);
        match value {
            Some(value) => drop(task.detail.insert(member.into(), value)),
            None => drop(task.detail.remove(member)),
        }
        let error = registry.processor(task).err().unwrap();
        assert_eq!(
            (error.class, &*error.message),
            (FailureClass::Permanent, "the task cannot be understood"),
            "{member}"
        );
    }
    let processor = registry.processor(row_task(7)).unwrap();
    assert_eq!(processor.subject(), "a/p (deletes, row 7)");
    assert_eq!(processor.stores(), [store_address("s"), store_address("d")]);
    assert_eq!(registry.processor(task(None)).unwrap().subject(), "a/p");
}
