//! Five hundred hostile names on a back end: each is kept or refused with a type, never another item, and nothing around the
//! store's root is touched. That Mill copies each of them is proven where Mill runs: in the suite `hostile_copy_suite!` of
//! `mill-simulation`.

mod corpus;

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use mill_model::{ContentId, Properties};
use mill_ports::{Precondition, Presence};

pub use self::corpus::corpus;
use crate::store::names::kept_or_refused;
use crate::store::{StoredContent, item, kept};
use crate::subject::StoreSubject;

/// Makes the tests of a back end in a module of its own.
///
/// ```ignore
/// hostile_suite!(name, path::to::open);
/// ```
///
/// `open` gives a fresh [`HostileSubject`].
#[macro_export]
macro_rules! hostile_suite {
    ($name:ident, $open:path) => {
        mod $name {
            $crate::hostile_cases! { $open;
                each_name_is_kept_or_refused
                names_together_are_items_of_their_own_in_any_order
            }
        }
    };
}

/// Makes a test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! hostile_cases {
    ($open:path; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::subject::run(async { $crate::hostile::$case($open().await).await });
            }
        )*
    };
}

/// Describes everything around a store's root, so that any change shows.
pub type Around = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// A store without spaces, and its surroundings, which must not change.
pub struct HostileSubject {
    /// The store.
    pub store: StoreSubject,
    /// Describes the surroundings of its root; empty if it has none.
    pub around: Around,
}

impl fmt::Debug for HostileSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostileSubject").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Bytes that no other name has; a name that stands for an empty directory has none.
fn own_bytes(id: &ContentId) -> StoredContent {
    let text = id.as_str();
    let bytes = if text.ends_with('/') { Bytes::new() } else { Bytes::from(format!("these are of {text}")) };
    (bytes, Properties::default())
}

/// Whether an empty directory is no item any more: something lies in it.
fn gave_way(id: &str, all: &BTreeSet<String>) -> bool {
    id.ends_with('/') && all.iter().any(|other| other != id && other.starts_with(id))
}

/// One by one, beside a neighbour.
pub async fn each_name_is_kept_or_refused(subject: HostileSubject) {
    let HostileSubject { store, around } = subject;
    let (before, store) = (around(), store.with_space().await);
    let mut kept = 0;
    for (number, id) in corpus().iter().enumerate().filter(|(_, id)| id.as_str() != "neighbour") {
        kept += usize::from(kept_or_refused(&store, id.as_str(), number % 3 * 50).await);
        assert_eq!(around(), before, "after {id:?}");
    }
    assert!(kept > 200, "a back end that refuses nearly all names proves nothing: {kept}");
}

/// All in one space, from first to last and from last to first: no name leads to another's item.
pub async fn names_together_are_items_of_their_own_in_any_order(subject: HostileSubject) {
    let HostileSubject { store, around } = subject;
    let (before, store) = (around(), store.with_space().await);
    let mut ids = corpus();
    for _ in 0..2 {
        let written = write_each(&store, &ids).await;
        assert_holds(&store, &written).await;
        for id in &written {
            let deleted = store.store.delete(&item(id), &Precondition::Always).await.unwrap();
            assert!(deleted == Presence::Present(()) || id.ends_with('/'), "{id:?} was not there");
        }
        assert_eq!(store.ids().await, Vec::<String>::new());
        ids.reverse();
    }
    assert_eq!(around(), before);
}

/// Writes an item of each name, with bytes that no other has. Returns the names that the store did not refuse.
pub async fn write_each(store: &StoreSubject, ids: &[ContentId]) -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    for id in ids {
        let put = store.put_when(&item(id.as_str()), &own_bytes(id), &Precondition::Absent).await;
        if kept(put, id.as_str()) {
            written.insert(id.as_str().to_owned());
        }
    }
    written
}

/// Insists that the space holds these and no others, each with the bytes that [`write_each`] writes.
pub async fn assert_holds(store: &StoreSubject, written: &BTreeSet<String>) {
    let listed: BTreeSet<String> = store.ids().await.into_iter().collect();
    let strange: Vec<_> = listed.difference(written).collect();
    assert_eq!(strange, Vec::<&String>::new(), "listed, and never written");
    for id in written {
        if listed.contains(id) {
            store.assert_reads(&item(id), &own_bytes(&ContentId::new(id.as_str()).unwrap())).await;
        } else {
            assert!(gave_way(id, written), "{id:?} was written and is not listed");
        }
    }
}
