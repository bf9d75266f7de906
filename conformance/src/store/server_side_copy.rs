//! Items that the service behind a store copies by itself. The cases copy within one store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use mill_ports::{CopySource, Precondition, PutRequest, PutResult, StoreError, StoreErrorKind};

use super::{StoredContent, assert_kind, item, pattern, properties};
use crate::subject::StoreSubject;

/// Large enough for services that leave small items to their callers.
const BYTES: usize = 6_000_017;

impl StoreSubject {
    /// Writes the item `from`, and returns its bytes and its copy source.
    async fn origin(&self, seed: usize) -> (Bytes, CopySource) {
        let (bytes, _) = self.put("from", pattern(BYTES, seed), &[("k", "from")]).await;
        let facts = self.facts(&item("from")).await.unwrap();
        (bytes, self.store.copy_source(&item("from"), &facts).expect("it has a place that its service knows"))
    }

    /// Copies to the item `to`, with its own properties.
    async fn take(&self, note: &str, when: &Precondition, origin: &CopySource) -> Result<PutResult, StoreError> {
        let content = PutRequest::new(BYTES as u64, properties(&[("note", note)]));
        Ok(self
            .store
            .server_side_copy(&item("to"), &content, when, origin, &|_| true)
            .await?
            .expect("it is of the same service"))
    }

    async fn assert_taken(&self, bytes: &Bytes, note: &str) {
        let expected: StoredContent = (bytes.clone(), properties(&[("note", note)]));
        self.assert_reads(&item("to"), &expected).await;
    }
}

/// The copy has the source's bytes and the given properties.
pub async fn what_is_taken_has_the_bytes_of_its_origin_and_the_properties_given(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (bytes, origin) = subject.origin(1).await;
    let written = subject.take("a", &Precondition::Absent, &origin).await.unwrap();
    subject.assert_taken(&bytes, "a").await;
    let facts = subject.facts(&item("to")).await.unwrap();
    assert_eq!(facts.version, written.version);
    let of_origin = subject.facts(&item("from")).await.unwrap().checksums;
    let same = |told: &&mill_model::Checksum| of_origin.contains(told);
    assert!(written.checksums.iter().any(|told| same(&told)), "it tells the checksum by which it judged");
    subject.assert_reads(&item("from"), &(bytes, properties(&[("k", "from")]))).await;
}

/// As for any write.
pub async fn taking_is_done_only_in_the_expected_state(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (older, origin) = subject.origin(1).await;
    let seen = subject.take("older", &Precondition::Absent, &origin).await.unwrap().version;
    let (newer, origin) = subject.origin(2).await;
    assert_kind(subject.take("newer", &Precondition::Absent, &origin).await, &StoreErrorKind::Precondition);
    subject.assert_taken(&older, "older").await;
    subject.take("newer", &Precondition::VersionIs(seen.clone()), &origin).await.unwrap();
    subject.assert_taken(&newer, "newer").await;
    assert_kind(subject.take("stale", &Precondition::VersionIs(seen), &origin).await, &StoreErrorKind::Precondition);
    subject.assert_taken(&newer, "newer").await;
    subject.take("always", &Precondition::Always, &origin).await.unwrap();
    subject.assert_taken(&newer, "always").await;
}

/// The callback receives all bytes, and may abort up to the last one.
pub async fn what_the_caller_gives_up_is_not_taken(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (bytes, origin) = subject.origin(1).await;
    let content = PutRequest::new(BYTES as u64, properties(&[("note", "a")]));
    for last in [false, true] {
        let told = AtomicU64::new(0);
        let going = |more: u64| {
            told.fetch_add(more, Relaxed);
            last && more > 0
        };
        subject
            .store
            .server_side_copy(&item("to"), &content, &Precondition::Absent, &origin, &going)
            .await
            .unwrap_err();
        assert!(told.load(Relaxed) > 0, "it was asked");
        assert!(!last || told.load(Relaxed) == BYTES as u64);
        subject.assert_absent(&item("to")).await;
    }
    subject.take("a", &Precondition::Absent, &origin).await.unwrap();
    subject.assert_taken(&bytes, "a").await;
}

/// A source that changed or is gone is not copied.
pub async fn of_an_origin_in_another_state_nothing_is_taken(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let (_, origin) = subject.origin(1).await;
    subject.origin(2).await;
    assert_kind(subject.take("a", &Precondition::Absent, &origin).await, &StoreErrorKind::Precondition);
    subject.store.delete(&item("from"), &Precondition::Always).await.unwrap();
    assert_kind(subject.take("a", &Precondition::Absent, &origin).await, &StoreErrorKind::Precondition);
    subject.assert_absent(&item("to")).await;
    assert!(subject.ids().await.is_empty());
}
