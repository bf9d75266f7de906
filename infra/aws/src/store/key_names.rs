//! Whether a server keeps an item under the key that it was given.
//!
//! Asked for `dbl//slash`, some servers answer with `dbl/slash`, and say "kept" when they replaced it. A look at the key does
//! not show it, since it is led astray in the same way. A listing does, since it names what is there. So the first key of each
//! unusual shape is compared with a listing, before anything there is read, compared, replaced or deleted. It costs one request
//! a shape in the life of a store.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mill_model::ItemAddress;
use mill_ports::{Presence, RefusalReason, StoreError, StoreErrorKind};
use tracing::warn;

use super::StoreInner;
use super::errors::{CallPurpose, fit};
use super::head::{FoundObject, bare};
use super::key_shapes::{Shapes, plain_beginning, twins};
use super::keys::BucketPrefix;
use super::page::{PageError, PageRequest, PageStart, shown};
use super::prepared_put::PreparedPut;
use crate::sdk_error::CallError;

/// How often a listing is asked for what was just written, and the pause between: some services list late.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// How many pages are gone through until a key must have come.
const PAGES_MAX: u32 = 100;

/// What is known of a server's names.
#[derive(Debug, Default)]
pub(super) struct KeyNameMemory(Mutex<KeyNameFacts>);

#[derive(Debug, Default, Clone)]
struct KeyNameFacts {
    /// Shapes of keys that were found under their own names.
    kept: Shapes,
    /// Shapes of keys, all of them in one key, that was found under another.
    renamed: Vec<Shapes>,
    /// Whether two names that differ in capitals or normal form alone were taken for one: then each key is compared.
    folds: bool,
}

/// How an object is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ListedName {
    /// Under its own.
    Own,
    /// Not so; and what is said instead.
    Another(String),
}

impl KeyNameMemory {
    fn known(&self) -> KeyNameFacts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn are_kept(&self, shapes: Shapes) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.kept = known.kept.and(shapes.of_all_keys());
    }

    fn are_folded(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).folds = true;
    }

    fn are_renamed(&self, shapes: Shapes) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where each key is compared, one tells nothing of the next.
        if !known.folds {
            known.renamed.push(shapes);
        }
    }
}

impl KeyNameFacts {
    /// Whether a key of these shapes was found under another name: one that has all that was not found to be kept of it, or,
    /// where each shape was found to be kept by itself, all of it.
    fn renames(&self, shapes: Shapes) -> bool {
        self.renamed.iter().any(|renamed| {
            let left = renamed.without(self.kept);
            if left.is_empty() { renamed.within(shapes) } else { left.within(shapes) }
        })
    }
}

impl StoreInner {
    /// The shapes of a key of which it is not known that the server keeps them.
    ///
    /// # Errors
    /// It is known that it does not.
    pub(super) fn unproven(&self, op: &'static str, item: &ItemAddress, key: &str) -> Result<Shapes, StoreError> {
        let known = self.names.known();
        let shapes = Shapes::of(key);
        let unproven = if known.folds { shapes.folded() } else { shapes }.without(known.kept);
        if known.renames(shapes) {
            return Err(self.renamed(op, item, "it did so with another of this shape"));
        }
        Ok(unproven)
    }

    /// Insists that what was found at a key is what a listing names there.
    ///
    /// # Errors
    /// It is another item's; or the listing cannot be had.
    pub(super) async fn is_its_own(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        found: &FoundObject,
    ) -> Result<(), StoreError> {
        let unproven = self.unproven(op, item, key)?;
        if unproven.is_empty() {
            return Ok(());
        }
        match self.name_of(op, item, (place, key), found).await? {
            ListedName::Own => self.is_kept(op, item, (place, key), (found, unproven)).await,
            // It may have been written anew, or deleted, between the two answers.
            ListedName::Another(why) => match self.found_at(op, item).await? {
                Presence::Present(now) if now.etag == found.etag => Err(self.renamed(op, item, &why)),
                _ => Err(self.unexpected(op, item, "it was written anew, or deleted, while it was looked at")),
            },
        }
    }

    /// The same of what was just written where nothing was. What stands under another name is removed, if it is surely it.
    pub(super) async fn was_kept(&self, target: &PreparedPut<'_>, found: &FoundObject) -> Result<(), StoreError> {
        const OP: &str = "writing";
        let (place, item) = (&target.place, target.item);
        let mut name = ListedName::Own;
        for look in 0..LOOKS {
            if look > 0 {
                self.settings.clock.sleep(PAUSE).await;
            }
            name = self.name_of(OP, item, (place, &target.key), found).await?;
            if name == ListedName::Own {
                return self.is_kept(OP, item, (place, &target.key), (found, target.unproven)).await;
            }
        }
        let ListedName::Another(why) = name else { return Ok(()) };
        self.names.are_renamed(target.unproven);
        let removed = self.remove_misnamed(target, found).await;
        if let Err(left) = &removed {
            let (space, item) = (&item.space, &item.id);
            warn!(%space, %item, "written under another name, and not removed there ({left}): {why}");
        }
        let rest = if removed.is_ok() { "it was removed there" } else { "it stands there; please remove it" };
        Err(self.renamed(OP, item, &format!("{why}; {rest}")))
    }

    /// Notes that keys of these shapes are kept under their names; and whether the server takes others for them.
    async fn is_kept(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        (found, shapes): (&FoundObject, Shapes),
    ) -> Result<(), StoreError> {
        // With a key that it takes for this one it finds this object; a listing names none there.
        for twin in if shapes.may_fold() { twins(key) } else { Vec::new() } {
            if self.leads_to(op, item, (place, &twin), found).await?
                && self.name_of(op, item, (place, &twin), found).await? != ListedName::Own
            {
                let (store, twin, key) = (&self.settings.address, fit(&twin), fit(key));
                warn!(%store, "it takes `{twin}` for `{key}`: each key is compared with a listing");
                self.names.are_folded();
                break;
            }
        }
        self.names.are_kept(shapes);
        Ok(())
    }

    /// Whether a key leads to the same object.
    async fn leads_to(
        &self,
        op: &'static str,
        item: &ItemAddress,
        (place, key): (&BucketPrefix, &str),
        found: &FoundObject,
    ) -> Result<bool, StoreError> {
        match self.client.head_object().bucket(&place.bucket).key(key).send().await {
            Ok(there) => {
                let same_tag = bare(there.e_tag().unwrap_or_default()) == bare(&found.etag);
                Ok(same_tag && there.content_length() == i64::try_from(found.facts.size).ok())
            }
            Err(error) => match CallError::of(error) {
                // Nothing is there, or it may not be told.
                CallError { status: Some(403 | 404), .. } => Ok(false),
                trouble => Err(self.of_one(op, item, (place, key), CallPurpose::Read, trouble).await),
            },
        }
    }

    /// Removes what was written under another name: only if it is what this write made, where nothing was.
    async fn remove_misnamed(&self, target: &PreparedPut<'_>, written: &FoundObject) -> Result<(), String> {
        let Ok(Presence::Present(now)) = self.found_at("removing", target.item).await else {
            return Err("it cannot be looked at".to_owned());
        };
        let ours = now.facts.properties.as_ref().is_some_and(|found| *found == target.borne.clone().properties());
        if !ours || now.etag != written.etag || now.facts.version.token() != written.facts.version.token() {
            return Err("it is not surely what was written".to_owned());
        }
        let guard = self.settings.native_conditions.then_some(now.etag);
        let delete = self.client.delete_object().bucket(&target.place.bucket).key(&target.key).set_if_match(guard);
        delete.send().await.map(|_| ()).map_err(|error| CallError::of(error).to_string())
    }

    /// How an object is listed. A server that makes paths of keys makes one of the prefix too, and may name what it finds as it
    /// was asked. So it is asked for what begins as the key does before anything is odd, and gone through until there.
    async fn name_of(
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
            let page = match self.page(PageRequest { place: &there, from, by_folder: false, max }).await {
                Ok(page) => page,
                Err(PageError::Contradiction(why)) => return Ok(ListedName::Another(why)),
                Err(why) => return Err(self.no_page(op, item.to_string(), why)),
            };
            // Where directories are listed one by one, a key may come behind those that sort after it.
            let by_directories = page.by_directories || self.by_directories.load(Relaxed);
            let is_due =
                |listed: &[u8]| if by_directories { listed == key.as_bytes() } else { listed >= key.as_bytes() };
            match page.objects.iter().find(|(listed, _)| is_due(&listed.bytes)) {
                Some((listed, object)) if listed.bytes == key.as_bytes() => {
                    // Not every server tells tags in listings.
                    let tag = bare(&object.etag);
                    let same_tag = tag.is_empty() || tag == bare(&found.etag);
                    return Ok(if same_tag && object.size == found.facts.size {
                        ListedName::Own
                    } else {
                        ListedName::Another("another object is listed under its name".to_owned())
                    });
                }
                Some((listed, _)) if !by_directories => {
                    return Ok(ListedName::Another(format!("listed there is `{}`", shown(listed))));
                }
                _ => next = page.next,
            }
            if next.is_none() {
                return Ok(ListedName::Another("nothing is listed under its name".to_owned()));
            }
        }
        Err(self.unexpected(op, item, "too much is listed before it to tell whether it is kept under its own name"))
    }

    /// That a server takes no key that is an odd path, where its answer says so.
    pub(super) fn takes_no_such_key(
        &self,
        op: &'static str,
        item: &ItemAddress,
        key: &str,
        trouble: &CallError,
    ) -> Option<StoreError> {
        let invalid = trouble.own_answer && trouble.status == Some(400) && trouble.is(&["InvalidRequest"]);
        let words = format!("the store takes no such key: {trouble}");
        let refused = StoreErrorKind::Refused(RefusalReason::UnrepresentableId(words));
        (invalid && Shapes::of(key).is_odd_path()).then(|| self.of_item(op, item, refused))
    }

    fn renamed(&self, op: &'static str, item: &ItemAddress, why: &str) -> StoreError {
        let words = format!("the store keeps it under another name: {why}");
        self.of_item(op, item, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_renamed_of_two_shapes_together_says_nothing_of_usual_keys() {
        let names = KeyNameMemory::default();
        let of = Shapes::of;
        names.are_renamed(of("A//b"));
        let refused = |keys: [&str; 4]| keys.map(|key| names.known().renames(of(key)));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, false, false, false]);
        names.are_kept(of("A"));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, true, false, false]);
        names.are_kept(of("a//b"));
        assert_eq!(refused(["A//b", "a//b", "A", "a"]), [true, false, false, false]);
    }
}
