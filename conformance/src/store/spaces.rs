//! Spaces, there and absent.

use futures::TryStreamExt as _;
use mill_model::{ItemAddress, Properties, SpaceId};
use mill_ports::{ListPage, Precondition, Presence, StoreErrorKind};

use super::{assert_kind, item, kept, pattern, space};
use crate::subject::StoreSubject;

fn named(id: &str) -> SpaceId {
    SpaceId::new(id).unwrap()
}

/// A created space is present.
pub async fn a_created_space_is_there(subject: StoreSubject) {
    assert!(subject.store.spaces().await.unwrap().is_empty());
    subject.store.create_space(&space()).await.unwrap();
    assert_eq!(subject.store.spaces().await.unwrap(), [space()]);
    assert!(subject.store.space(&space()).await.unwrap().present().is_some());
}

/// Creating a space again keeps its items.
pub async fn creating_a_space_twice_keeps_its_items(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("a", "bytes", &[]).await;
    subject.store.create_space(&space()).await.unwrap();
    subject.assert_reads(&item("a"), &written).await;
}

/// All spaces are listed, in order of their ids.
pub async fn spaces_are_listed_in_order(subject: StoreSubject) {
    let mut sorted = Vec::new();
    for id in ["b", "a0", "a.b", "a-b", "a b", "a"] {
        let fits = subject.limits.blanks_in_spaces || !id.contains(' ');
        assert_eq!(kept(subject.store.create_space(&named(id)).await, id), fits, "{id:?}");
        if fits {
            sorted.insert(0, named(id));
        }
    }
    assert_eq!(subject.store.spaces().await.unwrap(), sorted);
}

/// An absent space is reported as absent.
pub async fn an_absent_space_is_absent_and_no_error(subject: StoreSubject) {
    let subject = subject.with_space().await;
    assert_eq!(subject.store.space(&named("other")).await.unwrap(), Presence::Absent);
    assert_eq!(subject.store.space(&named("spac")).await.unwrap(), Presence::Absent);
}

/// The identity distinguishes a removed space from one that is not mounted.
pub async fn a_space_keeps_its_identity_and_shares_it_with_none(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.store.create_space(&named("other")).await.unwrap();
    let identity = async |space: &SpaceId| subject.store.space(space).await.unwrap().present().unwrap().identity;
    let first = identity(&space()).await;
    subject.put("a", "bytes", &[]).await;
    assert_eq!(identity(&space()).await, first);
    assert_ne!(identity(&named("other")).await, first);
}

/// A removed space is absent.
pub async fn an_empty_space_can_be_removed(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.store.create_space(&named("other")).await.unwrap();
    subject.store.remove_empty_space(&space()).await.unwrap();
    assert_eq!(subject.store.spaces().await.unwrap(), [named("other")]);
    assert_eq!(subject.store.space(&space()).await.unwrap(), Presence::Absent);
}

/// Directories that items needed are removed with the space.
pub async fn a_space_that_held_items_can_be_removed_once_it_is_empty(subject: StoreSubject) {
    let subject = subject.with_space().await;
    for id in ["a", "b/c/d", "b/c/e"] {
        subject.put(id, "bytes", &[]).await;
    }
    for id in ["a", "b/c/d", "b/c/e"] {
        subject.store.delete(&item(id), &Precondition::Always).await.unwrap();
    }
    subject.store.remove_empty_space(&space()).await.unwrap();
    assert_eq!(subject.store.space(&space()).await.unwrap(), Presence::Absent);
}

/// Removing a space never removes an item.
pub async fn a_space_with_items_is_not_removed(subject: StoreSubject) {
    let subject = subject.with_space().await;
    let written = subject.put("b/c/d", "bytes", &[]).await;
    assert_kind(subject.store.remove_empty_space(&space()).await, &StoreErrorKind::Precondition);
    subject.assert_reads(&item("b/c/d"), &written).await;
}

/// Removing an absent space is no error.
pub async fn removing_an_absent_space_is_fine(subject: StoreSubject) {
    subject.store.remove_empty_space(&space()).await.unwrap();
}

/// An item of an absent space is an error, not absent.
pub async fn nothing_is_known_of_items_of_an_absent_space(subject: StoreSubject) {
    let absent = &StoreErrorKind::SpaceAbsent;
    assert_kind(subject.store.head(&item("a")).await, absent);
    assert_kind(subject.store.open(&item("a"), None, None).await, absent);
    let pages: Result<Vec<ListPage>, _> = subject.store.list(&space(), None).try_collect().await;
    assert_kind(pages, absent);
    assert_kind(subject.store.delete(&item("a"), &Precondition::Always).await, absent);
}

/// A write never creates a space.
pub async fn nothing_is_written_into_an_absent_space(subject: StoreSubject) {
    let absent = &StoreErrorKind::SpaceAbsent;
    let read = (pattern(100, 1), Properties::default());
    for when in [Precondition::Always, Precondition::Absent] {
        assert_kind(subject.put_when(&item("a/b"), &read, &when).await, absent);
    }
    assert_kind(subject.store.put_properties(&item("a"), &read.1, &Precondition::Always).await, absent);
    assert_eq!(subject.store.space(&space()).await.unwrap(), Presence::Absent);
}

/// The same id in two spaces is two items.
pub async fn spaces_share_no_items(subject: StoreSubject) {
    let subject = subject.with_space().await;
    subject.store.create_space(&named("other")).await.unwrap();
    let written = subject.put("a", "bytes", &[]).await;
    let elsewhere = ItemAddress { space: named("other"), id: item("a").id };
    subject.assert_absent(&elsewhere).await;
    assert!(subject.list(&named("other"), None).await.is_empty());
    let other = (pattern(10, 2), Properties::default());
    subject.put_when(&elsewhere, &other, &Precondition::Absent).await.unwrap();
    subject.assert_reads(&item("a"), &written).await;
    subject.store.delete(&elsewhere, &Precondition::Always).await.unwrap();
    subject.assert_reads(&item("a"), &written).await;
}
