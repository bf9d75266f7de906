//! Destinations that fold names: an item is replaced only under its own name.

use futures::TryStreamExt as _;
use mill_ports::{RefusalReason, SourceStore as _};

use super::*;

fn folding() -> Fixture {
    Fixture::of(StoreBehavior::default(), StoreBehavior { folds_names: true, ..StoreBehavior::default() })
}

fn at_destination(site: &Fixture) -> Vec<(String, String)> {
    let contents = site.destination.contents(&space()).unwrap();
    contents
        .into_iter()
        .map(|(id, (bytes, _))| (id.as_str().to_owned(), String::from_utf8(bytes.to_vec()).unwrap()))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, bytes)| ((*id).to_owned(), (*bytes).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn of_two_items_that_are_one_name_there_the_second_is_refused_by_name() {
    for bytes in ["same", "other"] {
        let site = folding();
        site.source.insert(&at("README"), "same", noted(""));
        site.source.insert(&at("readme"), bytes, noted(""));
        site.run("README").await.unwrap();
        let outcome = site.run("readme").await.unwrap();
        assert!(is_discard(&outcome, "takes its name for that of `README`"), "{outcome:?}");
        assert!(is_discard(&outcome, "the source has both"), "{outcome:?}");
        assert_eq!(at_destination(&site), pairs(&[("README", "same")]));
        assert_eq!(site.totals().refused, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_changes_only_case_renames_the_copy_under_each_policy() {
    for removes in [true, false] {
        let site = folding();
        site.destination.insert(&at("README"), "same", noted("old"));
        site.source.insert(&at("readme"), "same", noted("new"));
        site.run_under(policy(removes), &Fixture::task(Some(&at("readme")))).await.unwrap();
        assert!(site.in_sync());
        let calls = site.destination_port.calls();
        assert!(calls.contains(&"respell") && !calls.contains(&"delete"), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn directories_are_renamed_level_by_level_and_their_items_go_with_them() {
    let site = folding();
    for id in ["Photos/Deep/a", "Photos/Deep/b", "Photos/c", "Photos"] {
        if id != "Photos" {
            site.destination.insert(&at(id), id.to_lowercase(), noted(""));
            site.source.insert(&at(&id.to_lowercase()), id.to_lowercase(), noted(""));
        }
    }
    site.run("photos/deep/a").await.unwrap();
    assert_eq!(
        at_destination(&site),
        pairs(&[("photos/c", "photos/c"), ("photos/deep/a", "photos/deep/a"), ("photos/deep/b", "photos/deep/b")])
    );
    for id in ["photos/deep/b", "photos/c"] {
        site.run(id).await.unwrap();
    }
    assert!(site.in_sync());
    assert_eq!(site.totals().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_and_a_directory_of_one_name_never_drag_each_other_along() {
    for (there, here, left) in
        [("a", "A", "a/b"), ("a/b", "A/b", "a"), ("c", "C", "c/"), ("c/", "C/", "c"), ("d/c", "D/c", "d")]
    {
        let site = folding();
        let bytes = |id: &str| if id.ends_with('/') { "" } else { "same" };
        site.destination.insert(&at(there), bytes(there), noted("old"));
        site.destination.insert(&at(left), bytes(left), noted(""));
        site.source.insert(&at(here), bytes(here), noted("new"));
        site.run(here).await.unwrap();
        let mut expected = pairs(&[(here, bytes(here)), (left, bytes(left))]);
        expected.sort();
        assert_eq!(at_destination(&site), expected, "{there} is now {here}");
        assert_eq!(site.destination.content(&at(here)).unwrap().1, noted("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn other_bytes_are_never_put_in_the_place_of_an_item_that_is_gone_at_the_source() {
    for (there, here) in [("README", "readme"), ("Photos/a", "photos/a")] {
        for bytes in ["anothers", "of another size"] {
            let site = folding();
            site.destination.insert(&at(there), "original", noted(""));
            site.source.insert(&at(here), bytes, noted(""));
            // Its delete may be on its way.
            assert_eq!(class(site.run(here).await), FailureClass::Retryable);
            let last = site.attempt_after(2);
            let task = Fixture::task(Some(&at(here)));
            for removes in [true, false] {
                let outcome = site.registry(policy(removes)).processor(task.clone()).unwrap().run(&last).await.unwrap();
                assert!(is_discard(&outcome, "takes its name for that of"), "{outcome:?}");
            }
            assert_eq!(at_destination(&site), pairs(&[(there, "original")]));
            // The producer must learn that a read found the two items to be different.
            let version = site.destination.head(&at(there)).await.unwrap().present().unwrap().version;
            let known: Vec<_> = site.sync_proofs.stream(&Fixture::pair(), None).try_collect().await.unwrap();
            let told = known.iter().any(|(id, row)| id.as_str() == there && row.is_no_twin(&version));
            assert_eq!(told, bytes.len() == "original".len());
            // Once that is deleted, the name is free.
            site.destination.remove(&at(there));
            site.run(here).await.unwrap();
            assert!(site.in_sync());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_the_source_still_has_keeps_its_name() {
    let site = folding();
    site.destination.insert(&at("Photos/a"), "same", noted(""));
    site.source.insert(&at("Photos/other"), "same", noted(""));
    site.source.insert(&at("photos/a"), "same", noted(""));
    let outcome = site.run("photos/a").await.unwrap();
    assert!(is_discard(&outcome, "the source has both"), "{outcome:?}");
    for (id, reason) in [("Photos/x", RefusalReason::Unreadable), ("Photos", RefusalReason::SymbolicLink)] {
        let site = folding();
        site.destination.insert(&at("Photos/a"), "same", noted(""));
        site.source.insert_refused(&at(id), reason);
        site.source.insert(&at("photos/a"), "same", noted(""));
        let outcome = site.run("photos/a").await.unwrap();
        assert!(is_discard(&outcome, "the source has both"), "what cannot be looked into may be there: {outcome:?}");
        assert_eq!(at_destination(&site), pairs(&[("Photos/a", "same")]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_source_is_no_absence() {
    for kind in every_error() {
        let site = folding();
        site.destination.insert(&at("README"), "same", noted(""));
        site.source.insert(&at("readme"), "same", noted(""));
        site.source_port.meet("head", fails(&kind, 3));
        let _ = site.run("readme").await;
        assert!(!site.destination_port.calls().contains(&"respell"), "{kind:?}");
        assert_eq!(at_destination(&site), pairs(&[("README", "same")]), "{kind:?}");
    }
}
