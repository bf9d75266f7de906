//! Listings: in order, complete or failed.

use futures::TryStreamExt as _;
use mill_ports::{ListEntry, Precondition};

use super::{item, kept, properties, space};
use crate::subject::StoreSubject;

/// Ids that folders, letters and UTF-16 would put in another order. None lies beneath another.
const SORTED: [&str; 15] = [
    "!",
    "B",
    "a-b",
    "a.b/c",
    "a/b",
    "a/c/d-e",
    "a/c/d/e",
    "a/c/d0",
    "a/ca",
    "a0",
    "b",
    "é",
    "日本",
    "\u{FF5E}",
    "\u{1F600}",
];

async fn with_sorted(subject: StoreSubject) -> StoreSubject {
    let subject = subject.with_space().await;
    for at in 0..SORTED.len() {
        // In an order that is neither the right one nor its reverse.
        let id = SORTED[at * 7 % SORTED.len()];
        subject.put(id, id, &[]).await;
    }
    subject
}

/// By the bytes of the whole id: `a-b` before `a/b` before `a0`.
pub async fn a_listing_is_in_order_of_bytes(subject: StoreSubject) {
    let subject = with_sorted(subject).await;
    // Every listing here checks the order; this case checks completeness.
    assert_eq!(subject.ids().await, SORTED);
}

/// The listing of an empty space is complete.
pub async fn an_empty_space_lists_nothing_and_ends(subject: StoreSubject) {
    let subject = subject.with_space().await;
    assert!(subject.list(&space(), None).await.is_empty());
    assert!(subject.list(&space(), Some("a")).await.is_empty());
}

/// A listing is complete, however many pages it has.
pub async fn a_listing_of_many_names_each_once_and_ends_once(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let mut expected: Vec<String> = (0..210).map(|number| format!("{}/{number}", number % 7)).collect();
    for id in &expected {
        subject.put(id, "", &[]).await;
    }
    expected.sort();
    assert_eq!(subject.ids().await, expected);
}

/// A listing begins after any id: present, absent, or with others beneath it.
pub async fn a_listing_begins_after_the_id_given(subject: StoreSubject) {
    let subject = with_sorted(subject).await;
    let others =
        [" ", "a", "a/", "a/a", "a/b/c", "a/c", "a/c/d", "a/c/d/", "a/c/d/e/f", "a/d", "a.b", "zz", "\u{10FFFF}"];
    for after in SORTED.into_iter().chain(others) {
        let expected: Vec<&str> = SORTED.into_iter().filter(|id| *id > after).collect();
        let listed: Vec<String> = subject.list(&space(), Some(after)).await.into_keys().collect();
        assert_eq!(listed, expected, "after {after:?}");
    }
}

/// The listed sizes are right.
pub async fn a_listing_tells_sizes(subject: StoreSubject) {
    let subject = with_sorted(subject).await;
    for (id, facts) in subject.list(&space(), None).await {
        assert_eq!(facts.size, id.len() as u64, "{id}");
    }
}

/// A version from a listing proves as much as one from `head`.
pub async fn a_listing_tells_the_versions_that_head_tells(subject: StoreSubject) {
    let subject = with_sorted(subject).await;
    for (id, facts) in subject.list(&space(), None).await {
        assert_eq!(subject.facts(&item(&id)).await.unwrap().version, facts.version, "{id}");
    }
}

/// Files that a write leaves beside the item are not listed.
pub async fn a_listing_does_not_name_what_is_written_elsewhere(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let other = mill_model::SpaceId::new("other").unwrap();
    subject.store.create_space(&other).await.unwrap();
    // The last are large enough to be kept apart from the item, where a store does that.
    for large in [100, 2000].map(|words| vec!["value"; words].join(" ")) {
        let fits = "x-large".len() + large.len() <= subject.limits.properties_bytes_max;
        let read = ("bytes".into(), properties(&[("x-large", &large)]));
        let answer = subject.put_when(&item("a"), &read, &Precondition::Always).await;
        assert_eq!(kept(answer, "large properties"), fits, "{} bytes", large.len());
        if fits {
            subject.assert_reads(&item("a"), &read).await;
        }
    }
    assert_eq!(subject.ids().await, ["a"]);
    assert!(subject.list(&other, None).await.is_empty());
    assert_eq!(subject.store.spaces().await.unwrap(), [other, space()]);
}

/// Items that stay are listed, while others come and go.
pub async fn an_item_there_all_the_while_is_listed_once(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for number in 0..60 {
        subject.put(&format!("{number:02}"), "", &[]).await;
    }
    let mut listing = subject.store.list(&space(), None);
    let (mut listed, mut end, mut step) = (Vec::new(), false, 0);
    while let Some(page) = listing.try_next().await.unwrap() {
        for entry in page.entries {
            let ListEntry::Item(id, _) = entry else { panic!("{entry:?}") };
            listed.push(id.as_str().to_owned());
        }
        end |= page.end;
        // The odd ones go and new ones come, before and after the current page.
        let odd = format!("{:02}", (step * 14 + 1) % 60);
        subject.store.delete(&item(&odd), &Precondition::Always).await.unwrap();
        subject.put(&format!("{:02}-new", step * 7 % 60), "", &[]).await;
        step += 1;
    }
    assert!(end);
    for number in (0..60).step_by(2) {
        let id = format!("{number:02}");
        assert_eq!(listed.iter().filter(|listed| **listed == id).count(), 1, "{id}");
    }
}
