//! Places of the source: what is absent beneath one that changed may only be out of sight.

use super::*;

/// Runs the task of a row of `disk/x` and `y`, of which `disk/` is a mount, once `change` was made before a call.
async fn with(
    op: &'static str,
    nth: usize,
    change: impl FnOnce(&Fixture) + Send + 'static,
) -> (Vec<String>, RowResult) {
    let site = vanished(&["disk/x", "y"]).await;
    site.source.mount(&space(), "disk/", "disk one");
    site.granted(&["disk/x", "y"]).await;
    let changed = Fixture { source: site.source.clone(), ..Fixture::new() };
    if nth == 0 {
        change(&changed);
    } else {
        let waits = std::iter::repeat_with(|| ProbeFault::Clear).take(nth - 1);
        site.source_port.meet(op, waits.chain([ProbeFault::Before(Box::new(move || change(&changed)))]));
    }
    assert_eq!(site.remove().await.unwrap(), TaskOutcome::done());
    (site.left().unwrap(), site.result(0).await.unwrap())
}

/// The item on the mount is kept, the other is deleted.
fn kept_on_disk() -> (Vec<String>, RowResult) {
    (vec!["disk/x".to_owned()], RowResult { deleted: 1, kept: 1, ..RowResult::default() })
}

#[tokio::test(start_paused = true)]
async fn while_all_places_are_those_of_the_survey_both_are_deleted() {
    let (left, result) = with("head", 0, |_| {}).await;
    assert_eq!((left.len(), result), (0, deleted(2)));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_goes_before_during_or_after_the_look_keeps_what_lies_beneath() {
    // Ids are processed one after the other here; the first is on the mount.
    for (op, nth) in [("none", 0), ("places", 1), ("head", 1), ("places", 2)] {
        let done = with(op, nth, |site| site.source.set_mounted(&space(), "disk/", false)).await;
        assert_eq!(done, kept_on_disk(), "{op} {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_place_before_during_or_after_the_look_keeps_what_lies_beneath() {
    for (op, nth) in [("none", 0), ("places", 1), ("head", 1), ("places", 2)] {
        let done = with(op, nth, |site| site.source.mount(&space(), "disk/", "disk two")).await;
        assert_eq!(done, kept_on_disk(), "{op} {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_place_that_may_cover_what_was_there_keeps_what_lies_beneath() {
    for (op, nth) in [("none", 0), ("places", 1), ("head", 1), ("places", 2)] {
        let site = vanished(&["a/x", "y"]).await;
        site.granted(&["a/x", "y"]).await;
        let source = site.source.clone();
        let cover = move || source.mount(&space(), "a/", "fresh");
        if nth == 0 {
            cover();
        } else {
            let waits = std::iter::repeat_with(|| ProbeFault::Clear).take(nth - 1);
            site.source_port.meet(op, waits.chain([ProbeFault::Before(Box::new(cover))]));
        }
        site.remove().await.unwrap();
        assert_eq!(site.left().unwrap(), ["a/x"], "{op} {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_as_the_survey_saw_it_again_lets_its_items_go() {
    let site = vanished(&["disk/x"]).await;
    site.source.mount(&space(), "disk/", "disk one");
    site.granted(&["disk/x"]).await;
    site.source.set_mounted(&space(), "disk/", false);
    site.source.set_mounted(&space(), "disk/", true);
    site.remove().await.unwrap();
    assert_eq!(site.result(0).await, Some(deleted(1)));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_out_of_sight_beneath_a_mount_is_never_taken_for_gone() {
    // It is at the source all the time; only its mount disappears, at a different moment each time.
    for (op, nth) in [("none", 0), ("places", 1), ("head", 1), ("places", 2)] {
        let done = with(op, nth, |site| {
            site.source.insert(&at("disk/x"), "here", noted("n"));
            site.source.set_mounted(&space(), "disk/", false);
        })
        .await;
        assert_eq!(done, kept_on_disk(), "{op} {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_of_its_root_that_changed_keeps_the_items_of_a_space() {
    let site = orphaned(&["x"]).await;
    site.list(DeletionScope::Space, GRANTED, &[&["x"]]).await;
    let mut head = site.delete_lists.head(&Fixture::pair(), list_id()).await.unwrap().unwrap();
    assert_eq!(head.record.places.len(), 1);
    head.record.places[0].1 = "another root".into();
    site.delete_lists.save_head(&Fixture::pair(), list_id(), &mut head).await.unwrap();
    site.remove().await.unwrap();
    assert_eq!((site.left().unwrap(), site.result(0).await), (vec!["x".to_owned()], Some(kept(1))));
}
