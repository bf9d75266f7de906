//! Writes: completely or not at all.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use mill_model::digest::Digester;
use mill_model::{AccountId, Properties, StoreAddress, StoreId};
use mill_ports::{Body, Precondition, Presence, PutRequest, StoreError, StoreErrorKind};

use super::{StoredContent, body, item, pattern, properties, space};
use crate::subject::StoreSubject;

/// An error that no store makes by itself.
fn strange() -> StoreError {
    let store = StoreAddress { account: AccountId::new("strange").unwrap(), store: StoreId::new("7").unwrap() };
    let kind = StoreErrorKind::Changed;
    StoreError { kind, op: "strange", store, subject: "strange".into(), source: None }
}

/// Asserts that a `put` with the announced `size` fails, with and without an existing item.
async fn writes_nothing(subject: StoreSubject, size: u64, body: impl Fn() -> Body) -> Vec<StoreError> {
    let subject = subject.with_space().await;
    let content = PutRequest::new(size, properties(&[("k", "new")]));
    let old = subject.put("old", "old bytes", &[("k", "old")]).await;
    let mut errors = Vec::new();
    for (id, when) in
        [("old", Precondition::Always), ("new/item", Precondition::Always), ("new/item", Precondition::Absent)]
    {
        errors.push(subject.store.put(&item(id), &content, &when, body()).await.unwrap_err());
    }
    subject.assert_reads(&item("old"), &old).await;
    subject.assert_absent(&item("new/item")).await;
    assert_eq!(subject.ids().await, ["old"]);
    errors
}

/// A written item has its bytes, size and properties.
pub async fn an_item_reads_as_it_was_written(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("photos/1.jpg", pattern(1000, 1), &[("content-type", "image/jpeg")]).await;
    subject.assert_reads(&item("photos/1.jpg"), &written).await;
    assert_eq!(subject.facts(&item("photos/1.jpg")).await.unwrap().size, 1000);
}

/// An empty item is not an absent one.
pub async fn an_empty_item_is_an_item(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("empty", "", &[("k", "v")]).await;
    subject.assert_reads(&item("empty"), &written).await;
    assert_eq!(subject.ids().await, ["empty"]);
    let nothing = stream::empty().boxed();
    let content = PutRequest::new(0, Properties::default());
    subject.store.put(&item("none"), &content, &Precondition::Absent, nothing).await.unwrap();
    subject.assert_reads(&item("none"), &(Bytes::new(), Properties::default())).await;
}

/// The pieces of a body do not matter.
pub async fn a_large_item_in_odd_pieces_arrives_whole(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let bytes = pattern(3_000_017, 3);
    let (mut rest, mut pieces, mut size) = (bytes.clone(), Vec::new(), 1);
    while !rest.is_empty() {
        pieces.push(Ok(rest.split_to(size.min(rest.len()))));
        size = size * 3 % 200_003 + 1;
    }
    let content = PutRequest::new(bytes.len() as u64, Properties::default());
    let body = stream::iter(pieces).boxed();
    subject.store.put(&item("large"), &content, &Precondition::Always, body).await.unwrap();
    subject.assert_reads(&item("large"), &(bytes, Properties::default())).await;
}

/// A piece may be empty without being the end.
pub async fn empty_pieces_change_nothing(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let pieces = ["", "ab", "", "", "c", ""].map(|piece| Ok(Bytes::from(piece)));
    let content = PutRequest::new(3, Properties::default());
    subject.store.put(&item("a"), &content, &Precondition::Always, stream::iter(pieces).boxed()).await.unwrap();
    subject.assert_reads(&item("a"), &("abc".into(), Properties::default())).await;
}

/// An overwrite keeps neither bytes nor properties of the old item.
pub async fn replacing_leaves_nothing_of_the_old(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a", pattern(5000, 1), &[("old", "1"), ("both", "1")]).await;
    let shorter = subject.put("a", pattern(10, 2), &[("new", "2"), ("both", "2")]).await;
    subject.assert_reads(&item("a"), &shorter).await;
    let bare = subject.put("a", pattern(20, 3), &[]).await;
    subject.assert_reads(&item("a"), &bare).await;
    assert_eq!(subject.ids().await, ["a"]);
}

/// A failed body is reported as it is, and the item stays unchanged.
pub async fn a_failing_body_is_given_back_and_writes_nothing(subject: StoreSubject) {
    let body = || stream::iter([Ok(pattern(70_000, 1)), Err(strange())]).boxed();
    for error in writes_nothing(subject, 100_000, body).await {
        assert_eq!((error.op, error.kind), ("strange", StoreErrorKind::Changed));
    }
}

/// The same before the first byte, and for an empty body.
pub async fn a_body_that_fails_at_once_writes_nothing(subject: StoreSubject) {
    let body = || stream::iter([Err(strange())]).boxed();
    for error in writes_nothing(subject, 0, body).await {
        assert_eq!((error.op, error.kind), ("strange", StoreErrorKind::Changed));
    }
}

/// A body cut short is no item.
pub async fn too_short_a_body_writes_nothing(subject: StoreSubject) {
    writes_nothing(subject, 1001, || body(&pattern(1000, 1))).await;
}

/// A body longer than announced is no item.
pub async fn too_long_a_body_writes_nothing(subject: StoreSubject) {
    writes_nothing(subject, 999, || body(&pattern(1000, 1))).await;
}

/// A write that is dropped midway leaves no trace.
pub async fn an_abandoned_write_leaves_what_was_there(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let old = subject.put("old", "old bytes", &[]).await;
    for id in ["old", "new/item"] {
        let content = PutRequest::new(200_000, Properties::default());
        let started = Arc::new(tokio::sync::Notify::new());
        let begun = started.clone();
        let pieces = stream::iter([Ok(pattern(100_000, 1))]);
        let then_never = stream::once(async move {
            begun.notify_one();
            std::future::pending().await
        });
        let address = item(id);
        let write = subject.store.put(&address, &content, &Precondition::Always, pieces.chain(then_never).boxed());
        futures::future::select(write, started.notified().boxed()).await;
    }
    subject.assert_reads(&item("old"), &old).await;
    subject.assert_absent(&item("new/item")).await;
    assert_eq!(subject.ids().await, ["old"]);
}

/// Bytes and properties come from the same write.
pub async fn writes_at_once_leave_one_of_them_whole(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let writes: Vec<StoredContent> = (0..8)
        .map(|writer: usize| (pattern(10_000 + writer, writer), properties(&[("writer", &writer.to_string())])))
        .collect();
    let (subject, address) = (&subject, &item("a/b"));
    let put = |read| async move { subject.put_slowly(address, read, &Precondition::Always).await.unwrap() };
    futures::future::join_all(writes.iter().map(put)).await;
    let winner: usize = subject.read(address).await.unwrap().1.get("writer").unwrap().parse().unwrap();
    subject.assert_reads(address, &writes[winner]).await;
    assert_eq!(subject.ids().await, ["a/b"]);
}

/// Many properties, long and short, are kept.
pub async fn all_properties_are_kept(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject
        .put(
            "a",
            "bytes",
            &[
                ("content-type", "text/plain; charset=utf-8"),
                ("x-note", "two words, 100 % 'quoted' = \"kept\""),
                ("x-long", &["value"; 100].join(" ")),
                ("x-creator", "admin"),
            ],
        )
        .await;
    subject.assert_reads(&item("a"), &written).await;
}

/// Properties alone can change.
pub async fn writing_properties_replaces_all_and_keeps_the_bytes(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (bytes, _) = subject.put("a", pattern(5000, 1), &[("old", "1"), ("both", "1")]).await;
    for pairs in [&[("both", "2"), ("new", "2")][..], &[]] {
        subject.store.put_properties(&item("a"), &properties(pairs), &Precondition::Always).await.unwrap();
        subject.assert_reads(&item("a"), &(bytes.clone(), properties(pairs))).await;
    }
    assert_eq!(subject.ids().await, ["a"]);
}

/// A store need not state checksums; stated ones match the bytes.
pub async fn checksums_told_are_true(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let bytes = pattern(5000, 1);
    let read = (bytes.clone(), Properties::default());
    let written = subject.put_when(&item("a"), &read, &Precondition::Always).await.unwrap();
    let told = subject.facts(&item("a")).await.unwrap().checksums;
    for checksum in told.into_iter().chain(written.checksums) {
        let mut digester = Digester::new(&[checksum.algorithm]);
        digester.update(&bytes);
        assert_eq!(digester.finish(), [checksum]);
    }
}

/// A delete removes exactly one id.
pub async fn a_deleted_item_is_gone_and_its_neighbours_are_not(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for id in ["a/b", "a/bc", "a/b-", "ab"] {
        subject.put(id, "bytes", &[]).await;
    }
    assert_eq!(subject.store.delete(&item("a/b"), &Precondition::Always).await.unwrap(), Presence::Present(()));
    subject.assert_absent(&item("a/b")).await;
    assert_eq!(subject.ids().await, ["a/b-", "a/bc", "ab"]);
}

/// A second delete is no error.
pub async fn deleting_what_is_absent_tells_so(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a", "bytes", &[]).await;
    for absent in ["b", "b/c", "aa"] {
        assert_eq!(
            subject.store.delete(&item(absent), &Precondition::Always).await.unwrap(),
            Presence::Absent,
            "{absent}"
        );
    }
    subject.store.delete(&item("a"), &Precondition::Always).await.unwrap();
    assert_eq!(subject.store.delete(&item("a"), &Precondition::Always).await.unwrap(), Presence::Absent);
}

/// A directory that an item needed is no item.
pub async fn deleting_the_last_item_beneath_a_prefix_leaves_nothing(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a/b/c", "bytes", &[]).await;
    subject.put("a/d", "bytes", &[]).await;
    subject.store.delete(&item("a/b/c"), &Precondition::Always).await.unwrap();
    assert_eq!(subject.ids().await, ["a/d"]);
    subject.store.delete(&item("a/d"), &Precondition::Always).await.unwrap();
    assert!(subject.list(&space(), None).await.is_empty());
    subject.put("a", "bytes", &[]).await;
    assert_eq!(subject.ids().await, ["a"]);
}
