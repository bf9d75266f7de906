//! Preconditions of writes.
//!
//! The states here differ in size: a store that derives versions from a file's time may need that to distinguish young ones.

use mill_model::{Properties, Version};
use mill_ports::{Precondition, Presence, StoreErrorKind};

use super::{StoredContent, assert_kind, item, pattern, properties};
use crate::subject::StoreSubject;

const PRECONDITION: &StoreErrorKind = &StoreErrorKind::Precondition;

fn state(size: usize) -> StoredContent {
    (pattern(size, size), properties(&[("size", &size.to_string())]))
}

/// Writes a state of the item `a`.
async fn write(subject: &StoreSubject, size: usize) -> Version {
    subject.put_when(&item("a"), &state(size), &Precondition::Always).await.unwrap().version
}

/// The next write can expect the version that a write returned.
pub async fn a_write_tells_the_version_that_head_tells(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let version = write(&subject, 10).await;
    assert_eq!(subject.facts(&item("a")).await.unwrap().version, version);
    let noted =
        subject.store.put_properties(&item("a"), &properties(&[("k", "v")]), &Precondition::Always).await.unwrap();
    assert_eq!(subject.facts(&item("a")).await.unwrap().version, noted.version);
    let again = subject.facts(&item("a")).await.unwrap().version;
    assert_eq!(again, noted.version);
}

/// Two states have two versions.
pub async fn each_write_makes_another_version(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let versions = [write(&subject, 10).await, write(&subject, 11).await, write(&subject, 12).await];
    assert!(versions[0] != versions[1] && versions[1] != versions[2] && versions[0] != versions[2], "{versions:?}");
}

/// Of many concurrent creations, one succeeds completely.
pub async fn absent_put_has_one_winner(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let states: Vec<StoredContent> = (100..116).map(state).collect();
    let (subject, address) = (&subject, &item("a/b"));
    let put = |state| async move { subject.put_slowly(address, state, &Precondition::Absent).await };
    let answers = futures::future::join_all(states.iter().map(put)).await;
    let winners: Vec<usize> = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    subject.assert_reads(address, &states[winners[0]]).await;
    answers.into_iter().filter(Result::is_err).for_each(|answer| assert_kind(answer, PRECONDITION));
    assert_eq!(subject.ids().await, ["a/b"]);
}

/// A write that expects absence does not replace an item.
pub async fn absent_put_leaves_what_is_there(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let version = write(&subject, 10).await;
    assert_kind(subject.put_when(&item("a"), &state(11), &Precondition::Absent).await, PRECONDITION);
    subject.assert_reads(&item("a"), &state(10)).await;
    assert_eq!(subject.facts(&item("a")).await.unwrap().version, version);
}

/// A deleted item counts as absent.
pub async fn absent_put_after_a_delete_writes(subject: StoreSubject) {
    let subject = subject.with_space().await;
    write(&subject, 10).await;
    subject.store.delete(&item("a"), &Precondition::Always).await.unwrap();
    subject.put_when(&item("a"), &state(11), &Precondition::Absent).await.unwrap();
    subject.assert_reads(&item("a"), &state(11)).await;
}

/// A write that expects the current version succeeds.
pub async fn a_put_in_the_expected_state_writes(subject: StoreSubject) {
    let subject = subject.with_space().await;
    write(&subject, 10).await;
    let seen = subject.facts(&item("a")).await.unwrap().version;
    subject.put_when(&item("a"), &state(11), &Precondition::VersionIs(seen)).await.unwrap();
    subject.assert_reads(&item("a"), &state(11)).await;
}

/// A call that expects an older version fails.
pub async fn a_put_in_another_state_is_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let stale = write(&subject, 10).await;
    write(&subject, 11).await;
    assert_kind(subject.put_when(&item("a"), &state(12), &Precondition::VersionIs(stale)).await, PRECONDITION);
    subject.assert_reads(&item("a"), &state(11)).await;
}

/// A write that expects a version of an absent item fails.
pub async fn a_put_in_a_state_of_an_absent_item_is_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let version = write(&subject, 10).await;
    assert_kind(
        subject.put_when(&item("b"), &state(11), &Precondition::VersionIs(version.clone())).await,
        PRECONDITION,
    );
    subject.store.delete(&item("a"), &Precondition::Always).await.unwrap();
    assert_kind(subject.put_when(&item("a"), &state(11), &Precondition::VersionIs(version)).await, PRECONDITION);
    assert!(subject.ids().await.is_empty());
}

/// Of many writers that expect the same version, one succeeds.
pub async fn a_put_under_one_version_has_one_winner(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let when = Precondition::VersionIs(write(&subject, 10).await);
    let states: Vec<StoredContent> = (100..108).map(state).collect();
    let (subject, address, when) = (&subject, &item("a"), &when);
    let put = |state| async move { subject.put_slowly(address, state, when).await };
    let answers = futures::future::join_all(states.iter().map(put)).await;
    let winners: Vec<usize> = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    subject.assert_reads(address, &states[winners[0]]).await;
}

/// The same for properties alone.
pub async fn properties_in_the_expected_state_are_written(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let version = write(&subject, 10).await;
    let noted = properties(&[("k", "v")]);
    subject.store.put_properties(&item("a"), &noted, &Precondition::VersionIs(version)).await.unwrap();
    subject.assert_reads(&item("a"), &(state(10).0, noted)).await;
}

/// The same for properties alone.
pub async fn properties_in_another_state_are_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let stale = write(&subject, 10).await;
    write(&subject, 11).await;
    let noted = properties(&[("k", "v")]);
    for when in [Precondition::VersionIs(stale), Precondition::Absent] {
        assert_kind(subject.store.put_properties(&item("a"), &noted, &when).await, PRECONDITION);
    }
    subject.assert_reads(&item("a"), &state(11)).await;
}

/// Properties alone create no item.
pub async fn properties_of_an_absent_item_are_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let version = write(&subject, 10).await;
    let noted = properties(&[("k", "v")]);
    for when in [Precondition::Always, Precondition::VersionIs(version)] {
        assert_kind(subject.store.put_properties(&item("b"), &noted, &when).await, PRECONDITION);
    }
    subject.assert_absent(&item("b")).await;
    assert_eq!(subject.ids().await, ["a"]);
}

/// A delete that expects the current version succeeds.
pub async fn a_delete_in_the_expected_state_deletes(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let when = Precondition::VersionIs(write(&subject, 10).await);
    assert_eq!(subject.store.delete(&item("a"), &when).await.unwrap(), Presence::Present(()));
    assert_eq!(subject.store.delete(&item("a"), &when).await.unwrap(), Presence::Absent);
    subject.assert_absent(&item("a")).await;
}

/// A call that expects an older version fails.
pub async fn a_delete_in_another_state_is_refused(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let stale = write(&subject, 10).await;
    subject.put_when(&item("a"), &(pattern(11, 11), Properties::default()), &Precondition::Always).await.unwrap();
    for when in [Precondition::VersionIs(stale), Precondition::Absent] {
        assert_kind(subject.store.delete(&item("a"), &when).await, PRECONDITION);
    }
    subject.assert_reads(&item("a"), &(pattern(11, 11), Properties::default())).await;
}
