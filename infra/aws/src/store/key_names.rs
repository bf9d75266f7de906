//! Whether a server stores an object under the key of the request.
//!
//! For `dbl//slash`, some servers read or replace `dbl/slash` and report success. A HEAD of the key does not reveal that,
//! since the server maps its key in the same way. A listing does, since it has the stored key. So the first key of each
//! unusual shape is compared with a listing, before that object is read, compared, replaced or deleted. That costs one
//! request per shape in the life of a store.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mill_model::ItemAddress;
use mill_ports::{Presence, RefusalReason, StoreError, StoreErrorKind};
use parking_lot::Mutex;
use tracing::warn;

use super::StoreInner;
use super::errors::{CallPurpose, displayable};
use super::head::{FoundObject, unquoted};
use super::key_shapes::{Shapes, plain_beginning, twins};
use super::keys::BucketPrefix;
use super::page::{PageError, PageRequest, PageStart, display_key};
use super::prepared_put::PreparedPut;
use super::properties::KeptProperties;
use crate::sdk_error::CallError;

/// How often a new object is looked for in a listing, and the pause between: some services list it late.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// Most pages that are searched for a key.
const PAGES_MAX: u32 = 100;

/// What is known about how a server stores keys.
#[derive(Debug, Default)]
pub(super) struct KeyNameMemory(Mutex<KeyNameFacts>);

#[derive(Debug, Default, Clone)]
struct KeyNameFacts {
    /// Shapes of keys that the server stores unchanged.
    kept: Shapes,
    /// For each key that was stored under another name: its shapes.
    renamed: Vec<Shapes>,
    /// Whether the server treats two names as one that differ only in case or normal form. Then each key is compared.
    folds: bool,
}

/// The key under which an object is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ListedName {
    /// Under its own.
    Own,
    /// Another one, with an explanation.
    Another(String),
}

impl KeyNameMemory {
    fn known(&self) -> KeyNameFacts {
        self.0.lock().clone()
    }

    fn add_kept(&self, shapes: Shapes) {
        let mut known = self.0.lock();
        known.kept = known.kept.and(shapes.of_all_keys());
    }

    fn set_folds(&self) {
        self.0.lock().folds = true;
    }

    fn add_renamed(&self, shapes: Shapes) {
        let mut known = self.0.lock();
        // Where each key is compared, one key proves nothing for the next.
        if !known.folds {
            known.renamed.push(shapes);
        }
    }
}

impl KeyNameFacts {
    /// Whether a key of these shapes is stored under another name, according to a renamed key: this key must have all shapes
    /// of that one that are not proven to be kept; if each of them is, it must have them all.
    fn renames(&self, shapes: Shapes) -> bool {
        self.renamed.iter().any(|renamed| {
            let left = renamed.without(self.kept);
            if left.is_empty() { renamed.within(shapes) } else { left.within(shapes) }
        })
    }
}

impl StoreInner {
    /// The shapes of a key that the server is not known to keep.
    ///
    /// # Errors
    /// The server is known to store such a key under another name.
    pub(super) fn unproven_shapes(
        &self,
        op: &'static str,
        item: &ItemAddress,
        key: &str,
    ) -> Result<Shapes, StoreError> {
        let known = self.key_name_memory.known();
        let shapes = Shapes::of(key);
        let unproven_shapes = if known.folds { shapes.folded() } else { shapes }.without(known.kept);
        if known.renames(shapes) {
            return Err(self.renamed_error(op, item, "it did so with another of this shape"));
        }
        Ok(unproven_shapes)
    }

    /// Checks that the object found at a key is listed under that key.
    ///
    /// # Errors
    /// It is another item's object, or the listing failed.
    pub(super) async fn verify_own_name(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        found: &FoundObject,
    ) -> Result<(), StoreError> {
        let unproven_shapes = self.unproven_shapes(op, item, key)?;
        if unproven_shapes.is_empty() {
            return Ok(());
        }
        match self.listed_name(op, item, (place, key), found).await? {
            ListedName::Own => self.note_kept(op, item, (place, key), (found, unproven_shapes)).await,
            // The object may have been replaced or deleted between the two requests.
            ListedName::Another(why) => match self.head_key(op, item).await? {
                Presence::Present(now) if now.etag == found.etag => Err(self.renamed_error(op, item, &why)),
                _ => Err(self.unexpected(op, item, "it was written anew, or deleted, while it was looked at")),
            },
        }
    }

    /// The same check for an object that was just written where none was. If it is listed under another name, it is removed,
    /// provided that it surely is this object.
    pub(super) async fn verify_kept_name(
        &self,
        target: &PreparedPut<'_>,
        found: &FoundObject,
    ) -> Result<(), StoreError> {
        const OP: &str = "writing";
        let (place, item) = (&target.place, target.item);
        let mut name = ListedName::Own;
        for attempt in 0..LOOKS {
            if attempt > 0 {
                self.settings.clock.sleep(PAUSE).await;
            }
            name = self.listed_name(OP, item, (place, &target.key), found).await?;
            if name == ListedName::Own {
                return self.note_kept(OP, item, (place, &target.key), (found, target.unproven_shapes)).await;
            }
        }
        let ListedName::Another(why) = name else { return Ok(()) };
        self.key_name_memory.add_renamed(target.unproven_shapes);
        let removed = self.remove_misnamed(target, found).await;
        if let Err(left) = &removed {
            let (space, item) = (&item.space, &item.id);
            warn!(%space, %item, "written under another name, and not removed there ({left}): {why}");
        }
        let rest = if removed.is_ok() { "it was removed there" } else { "it stands there; please remove it" };
        Err(self.renamed_error(OP, item, &format!("{why}; {rest}")))
    }

    /// Notes that keys of these shapes are kept, and finds out whether the server folds names.
    async fn note_kept(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        (found, shapes): (&FoundObject, Shapes),
    ) -> Result<(), StoreError> {
        // A server that folds names finds this object at the twin key, but lists none there.
        for twin in if shapes.may_fold() { twins(key) } else { Vec::new() } {
            if self.resolves_to(op, item, (place, &twin), found).await?
                && self.listed_name(op, item, (place, &twin), found).await? != ListedName::Own
            {
                let (store, twin, key) = (&self.settings.address, displayable(&twin), displayable(key));
                warn!(%store, "it takes `{twin}` for `{key}`: each key is compared with a listing");
                self.key_name_memory.set_folds();
                break;
            }
        }
        self.key_name_memory.add_kept(shapes);
        Ok(())
    }

    /// Whether a HEAD of another key finds the same object.
    async fn resolves_to(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        found: &FoundObject,
    ) -> Result<bool, StoreError> {
        match self.client.head_object().bucket(&place.bucket).key(key).send().await {
            Ok(there) => {
                let same_tag = unquoted(there.e_tag().unwrap_or_default()) == unquoted(&found.etag);
                Ok(same_tag && there.content_length() == i64::try_from(found.facts.size).ok())
            }
            Err(error) => match CallError::from_sdk(error) {
                // There is no object, or it may not be read.
                CallError { status: Some(403 | 404), .. } => Ok(false),
                failure => Err(self.scoped_item_error(op, item, (place, key), CallPurpose::Read, failure).await),
            },
        }
    }

    /// Removes an object that was written under another name, only if this write surely created it.
    async fn remove_misnamed(&self, target: &PreparedPut<'_>, written: &FoundObject) -> Result<(), String> {
        let given = target.object_headers.clone().decode();
        let kept = written.facts.properties.as_ref().map(|found| KeptProperties::of(&given, found));
        if kept != Some(KeptProperties::All) {
            return Err("it is not surely what was written".to_owned());
        }
        self.remove_unchanged(target, written).await
    }

    /// The key under which an object is listed. A server that makes paths of keys makes one of the prefix too, and may name
    /// what it finds as it was asked. So it is asked for what begins as the key does before anything is odd, and gone
    /// through until there.
    async fn listed_name(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        found: &FoundObject,
    ) -> Result<ListedName, StoreError> {
        let id = key.strip_prefix(place.prefix.as_str()).unwrap_or(key);
        let beginning = plain_beginning(id);
        let there = BucketPrefix { bucket: place.bucket.clone(), prefix: format!("{}{beginning}", place.prefix) };
        let max = (beginning == id).then_some(1);
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let from = next.as_deref().map_or(PageStart::Beginning, PageStart::Token);
            let page = match self.page(PageRequest { place: &there, from, with_delimiter: false, max }).await {
                Ok(page) => page,
                Err(PageError::Contradiction(why)) => return Ok(ListedName::Another(why)),
                Err(why) => return Err(self.page_error(op, item.to_string(), why)),
            };
            // Where directories are listed one by one, a key may come after keys that sort higher.
            let lists_by_directory = page.lists_by_directory || self.lists_by_directory.load(Relaxed);
            let is_due =
                |listed: &[u8]| if lists_by_directory { listed == key.as_bytes() } else { listed >= key.as_bytes() };
            match page.objects.iter().find(|(listed, _)| is_due(&listed.bytes)) {
                Some((listed, object)) if listed.bytes == key.as_bytes() => {
                    // Not every server lists entity tags.
                    let tag = unquoted(&object.etag);
                    let same_tag = tag.is_empty() || tag == unquoted(&found.etag);
                    return Ok(if same_tag && object.size == found.facts.size {
                        ListedName::Own
                    } else {
                        ListedName::Another("another object is listed under its name".to_owned())
                    });
                }
                Some((listed, _)) if !lists_by_directory => {
                    return Ok(ListedName::Another(format!("listed there is `{}`", display_key(listed))));
                }
                _ => next = page.next,
            }
            if next.is_none() {
                return Ok(ListedName::Another("nothing is listed under its name".to_owned()));
            }
        }
        Err(self.unexpected(op, item, "too much is listed before it to tell whether it is kept under its own name"))
    }

    /// The error of a server that rejects keys with an unusual path, if this failure says so.
    pub(super) fn unsupported_key_error(
        &self,
        op: &'static str,
        item: &ItemAddress,
        key: &str,
        failure: &CallError,
    ) -> Option<StoreError> {
        let invalid = failure.has_request_id && failure.status == Some(400) && failure.has_code(&["InvalidRequest"]);
        let words = format!("the store takes no such key: {failure}");
        let refused = StoreErrorKind::Refused(RefusalReason::UnrepresentableId(words));
        (invalid && Shapes::of(key).is_odd_path()).then(|| self.item_error(op, item, refused))
    }

    fn renamed_error(&self, op: &'static str, item: &ItemAddress, why: &str) -> StoreError {
        let words = format!("the store keeps it under another name: {why}");
        self.item_error(op, item, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_renamed_of_two_shapes_together_says_nothing_of_usual_keys() {
        let names = KeyNameMemory::default();
        let of = Shapes::of;
        names.add_renamed(of("A//b"));
        let refused = |keys: [&str; 4]| keys.map(|key| names.known().renames(of(key)));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, false, false, false]);
        names.add_kept(of("A"));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, true, false, false]);
        names.add_kept(of("a//b"));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, false, false, false]);
    }
}
