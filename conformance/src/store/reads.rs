//! Reads: one version, completely.

use bytes::Bytes;
use futures::TryStreamExt as _;
use mill_model::Properties;
use mill_ports::{Body, ByteRange, Precondition, StoreError, StoreErrorKind};

use super::{assert_kind, item, pattern};
use crate::subject::StoreSubject;

async fn whole(body: Body) -> Result<Bytes, StoreError> {
    body.try_collect::<Vec<Bytes>>().await.map(|pieces| pieces.concat().into())
}

/// An absent item in a present space is reported as absent.
pub async fn an_absent_item_is_absent_and_no_error(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a/b", "bytes", &[]).await;
    for absent in ["b", "a", "a/", "a/bb", "a/b/", "a/b/c", "A/B", "/a/b", "a//b"] {
        subject.assert_absent(&item(absent)).await;
    }
}

/// `head` and `open` return the same facts.
pub async fn head_and_open_tell_the_same(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a", pattern(100, 1), &[("k", "v")]).await;
    let head = subject.facts(&item("a")).await.unwrap();
    let open = subject.store.open(&item("a"), None, None).await.unwrap().present().unwrap().facts;
    assert_eq!((head.size, head.version, head.checksums), (open.size, open.version, open.checksums));
    assert_eq!(head.properties, open.properties);
}

/// A range returns its bytes; the facts are those of the whole item.
pub async fn ranges_are_read_exactly(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (bytes, _) = subject.put("a", pattern(200_000, 1), &[]).await;
    for (offset, length) in [(0, 1), (0, 200_000), (199_999, 1), (65_535, 2), (1000, 150_000)] {
        let range = ByteRange { offset, length };
        let reading = subject.store.open(&item("a"), Some(range), None).await.unwrap().present().unwrap();
        assert_eq!(reading.facts.size, 200_000);
        let expected = bytes.slice(offset as usize..(offset + length) as usize);
        assert!(whole(reading.body).await.unwrap() == expected, "{range:?}");
    }
}

/// An uncached read returns the written bytes, in the expected version.
pub async fn uncached_readings_give_what_was_written(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for (n, size) in [0, 1, 4_095, 4_096, 4_097, 262_143, 262_144, 262_145, 1_000_000].into_iter().enumerate() {
        let id = n.to_string();
        let (bytes, _) = subject.put(&id, pattern(size, 1), &[("k", "v")]).await;
        let head = subject.facts(&item(&id)).await.unwrap();
        for wanted in [None, Some(&head.version)] {
            let reading = subject.store.open_uncached(&item(&id), wanted).await.unwrap().present().unwrap();
            assert_eq!((&reading.facts.properties, &reading.facts.version), (&head.properties, &head.version));
            assert!(whole(reading.body).await.unwrap() == bytes, "{size}");
        }
        // Another size each time: a store with times in seconds distinguishes versions by it.
        subject.put(&id, pattern(size + 1, 2), &[("k", "w")]).await;
        assert_kind(subject.store.open_uncached(&item(&id), Some(&head.version)).await, &StoreErrorKind::Changed);
    }
    assert!(subject.store.open_uncached(&item("none"), None).await.unwrap().present().is_none());
}

/// A read of the current version returns it.
pub async fn opening_in_the_expected_state_opens(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (bytes, _) = subject.put("a", pattern(100, 1), &[]).await;
    let seen = subject.facts(&item("a")).await.unwrap().version;
    let reading = subject.store.open(&item("a"), None, Some(&seen)).await.unwrap().present().unwrap();
    assert_eq!(whole(reading.body).await.unwrap(), bytes);
}

/// A read of another version fails.
pub async fn opening_in_another_state_is_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.put("a", pattern(100, 1), &[]).await;
    let stale = subject.facts(&item("a")).await.unwrap().version;
    subject.put("a", pattern(101, 2), &[]).await;
    let range = Some(ByteRange { offset: 0, length: 10 });
    assert_kind(subject.store.open(&item("a"), None, Some(&stale)).await, &StoreErrorKind::Changed);
    assert_kind(subject.store.open(&item("a"), range, Some(&stale)).await, &StoreErrorKind::Changed);
}

/// Opens an item, reads a piece, and reads on after a change: returns the old content or an error.
async fn one_state_or_an_error(subject: &StoreSubject, change: impl AsyncFnOnce()) {
    let (bytes, _) = subject.put("a", pattern(2_000_000, 1), &[]).await;
    let mut body = subject.store.open(&item("a"), None, None).await.unwrap().present().unwrap().body;
    let first = body.try_next().await.unwrap().unwrap();
    change().await;
    match whole(body).await {
        Ok(rest) => assert!([first, rest].concat() == bytes, "a mixture of two states"),
        Err(error) => assert_eq!(error.kind, StoreErrorKind::Changed, "{error:?}"),
    }
}

/// A read never mixes two versions.
pub async fn an_item_overwritten_while_read_is_one_state_or_an_error(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let new = (pattern(2_000_000, 2), Properties::default());
    one_state_or_an_error(&subject, async || {
        subject.put_when(&item("a"), &new, &Precondition::Always).await.unwrap();
    })
    .await;
    subject.assert_reads(&item("a"), &new).await;
}

/// A read of a deleted item is whole or fails.
pub async fn an_item_deleted_while_read_is_one_state_or_an_error(subject: StoreSubject) {
    let subject = subject.with_space().await;
    one_state_or_an_error(&subject, async || {
        subject.store.delete(&item("a"), &Precondition::Always).await.unwrap();
    })
    .await;
    subject.assert_absent(&item("a")).await;
}

/// Readers may stop anywhere, any number of times.
pub async fn a_body_can_be_left_unread(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("a", pattern(500_000, 1), &[]).await;
    for _ in 0..50 {
        let mut body = subject.store.open(&item("a"), None, None).await.unwrap().present().unwrap().body;
        body.try_next().await.unwrap().unwrap();
    }
    subject.assert_reads(&item("a"), &written).await;
}

/// Reading changes nothing.
pub async fn readers_at_once_read_the_same(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("a", pattern(300_000, 1), &[]).await;
    let (address, written) = (&item("a"), &written);
    futures::future::join_all((0..8).map(|_| subject.assert_reads(address, written))).await;
}
