//! Lists a space: page by page, in byte order, to the end or to an error.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::stream::{self, StreamExt as _};
use mill_model::{ContentId, ItemAddress, ItemFacts, SpaceId};
use mill_ports::{ListEntry, ListPage, Listing, Presence, RefusalReason, StoreError, StoreErrorKind};
use tracing::info;

use super::StoreInner;
use super::directory_walk::{DirectoryWalk, compare_by_directory};
use super::errors::{CallPurpose, displayable};
use super::head::{ObjectState, is_archive_class, item_state, unquoted};
use super::key_encoding;
use super::keys::{BucketPrefix, blank_key};
use super::overlap::is_witness;
use super::page::{ListedKey, ObjectPage, PageError, PageRequest, PageStart, display_key};
use crate::response::ListedObject;

const OP: &str = "listing";

/// Most empty pages in a row. A service returns empty pages where much was deleted.
const EMPTY_PAGES_MAX: usize = 10_000;

/// Entries of a page that a directory walk fills.
const PAGE_MAX: usize = 1_000;

/// Lists a space.
pub(super) fn list(inner: Arc<StoreInner>, space: SpaceId, after: Option<ContentId>) -> Listing {
    let walk = ListingWalk {
        inner,
        space,
        after,
        next: ListingCursor::Beginning,
        end_reported: false,
        directories: None,
        order_unproven: false,
        probed_directories: Vec::new(),
        last: None,
        first: true,
        empty_pages: BTreeSet::new(),
    };
    stream::try_unfold(Some(walk), async |walk| match walk {
        None => Ok(None),
        Some(mut walk) => {
            let page = walk.page().await?;
            let rest = (!page.end).then_some(walk);
            Ok(Some((page, rest)))
        }
    })
    .boxed()
}

/// Where the next page begins.
#[derive(Debug)]
enum ListingCursor {
    /// At the first key, or after the given one.
    Beginning,
    Token(String),
    /// After the last key, where the service reported the end: one more request verifies it.
    BehindLast,
}

/// A listing in progress.
struct ListingWalk {
    inner: Arc<StoreInner>,
    space: SpaceId,
    after: Option<ContentId>,
    next: ListingCursor,
    /// Whether the service reported the end here.
    end_reported: bool,
    /// The walk, once the server is known to list directory by directory.
    directories: Option<DirectoryWalk>,
    /// Whether keys were returned without a check that no other key belongs before them.
    order_unproven: bool,
    /// The directories on the path to the last key that were probed already.
    probed_directories: Vec<String>,
    /// The last key of the earlier pages.
    last: Option<Vec<u8>>,
    first: bool,
    /// The tokens of the latest empty pages. If one repeats, the listing goes in a circle.
    empty_pages: BTreeSet<String>,
}

impl ListingWalk {
    async fn page(&mut self) -> Result<ListPage, StoreError> {
        let absent = || self.inner.space_error(OP, &self.space, StoreErrorKind::SpaceAbsent);
        let place = self.inner.bucket_prefix(&self.space).ok_or_else(absent)?;
        if self.inner.lists_by_directory.load(Relaxed) {
            return self.page_of_directories(&place).await;
        }
        if self.first && self.start_breaks_byte_order(&place).await? {
            self.inner.lists_by_directory.store(true, Relaxed);
            return self.page_of_directories(&place).await;
        }
        let page = self.request_page(&place).await?;
        let breaks_order = self.breaks_byte_order(&place, &page);
        self.order_unproven |= breaks_order;
        if page.lists_by_directory || breaks_order || self.end_breaks_byte_order(&place, &page).await? {
            self.inner.lists_by_directory.store(true, Relaxed);
            return self.page_of_directories(&place).await;
        }
        if self.first && page.objects.is_empty() && !self.inner.bucket_is_space() {
            // Not even the space's marker is there, so the space may be gone. Earlier sightings do not count here.
            self.inner.space_sightings.forget(&self.space);
            self.inner.confirm_space(OP, &self.space, &place).await?;
        }
        self.first = false;
        if std::mem::take(&mut self.end_reported) && !page.objects.is_empty() {
            info!(space = %self.space, after = displayable(&String::from_utf8_lossy(self.last.as_deref().unwrap_or_default())),
                "the store said that its listing ends here, and more lies behind");
        }
        let mut entries = Vec::with_capacity(page.objects.len());
        let empty = page.objects.is_empty();
        for (key, object) in page.objects {
            let listed = self.entry(&place, key, &object)?;
            let untagged = unquoted(&object.etag).is_empty();
            entries.extend(if untagged { self.with_head_version(listed).await? } else { listed });
        }
        let end = self.advance(page.next, empty)?;
        Ok(ListPage { entries, places: self.inner.places_of(&self.space), end })
    }

    /// Whether a page follows the one before it, or the given key, only in the order of a server that lists directory by
    /// directory.
    fn breaks_byte_order(&self, place: &BucketPrefix, page: &ObjectPage) -> bool {
        let given = || self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()).into_bytes());
        let Some(before) = self.last.clone().or_else(given) else { return false };
        let breaks_order = |key: &ListedKey| before >= key.bytes && compare_by_directory(&before, &key.bytes).is_lt();
        page.objects.iter().any(|(key, _)| breaks_order(key))
    }

    /// Whether a listing that starts after a key would omit keys that follow it in byte order.
    async fn start_breaks_byte_order(&self, place: &BucketPrefix) -> Result<bool, StoreError> {
        let Some(after) = self.after.as_ref().filter(|_| !self.inner.amazon) else { return Ok(false) };
        match self.inner.probe_page_start(place, after.as_str()).await {
            Ok(breaks_order) => Ok(breaks_order),
            Err(why) => Err(self.inner.listing_error(OP, &self.space, place, why).await),
        }
    }

    /// Whether later keys belong before keys of this page. If so, this page must not be returned.
    async fn end_breaks_byte_order(&mut self, place: &BucketPrefix, page: &ObjectPage) -> Result<bool, StoreError> {
        if self.inner.amazon || page.next.is_none() {
            self.order_unproven = true;
            return Ok(false);
        }
        let keys: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
        match self.inner.probe_page_end(place, (self.last.as_deref(), &keys), &mut self.probed_directories).await {
            Ok(breaks_order) => Ok(breaks_order),
            Err(why) => Err(self.inner.listing_error(OP, &self.space, place, why).await),
        }
    }

    /// A page in byte order from a server that lists directory by directory. The keys returned before come first in both
    /// orders.
    async fn page_of_directories(&mut self, place: &BucketPrefix) -> Result<ListPage, StoreError> {
        let after = self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()).into_bytes());
        let after = self.last.clone().max(after);
        let order_unproven = self.order_unproven || self.inner.lists_by_bytes.load(Relaxed);
        if self.directories.is_none() && self.last.is_some() && order_unproven {
            return Err(self.unexpected_listing(
                "the server lists directory by directory, which shows only now: please list anew",
            ));
        }
        let directories = self.directories.get_or_insert_with(|| DirectoryWalk::new(place.clone(), after));
        let found = match directories.next_keys(&self.inner, PAGE_MAX).await {
            Ok(found) => found,
            Err(why) => return Err(self.inner.listing_error(OP, &self.space, place, why).await),
        };
        if self.first && found.is_empty() && !self.inner.bucket_is_space() {
            self.inner.space_sightings.forget(&self.space);
            self.inner.confirm_space(OP, &self.space, place).await?;
        }
        self.first = false;
        let end = found.len() < PAGE_MAX;
        let mut entries = Vec::with_capacity(found.len());
        for (key, object) in found {
            let listed = self.entry(place, key, &object)?;
            let untagged = unquoted(&object.etag).is_empty();
            entries.extend(if untagged { self.with_head_version(listed).await? } else { listed });
        }
        Ok(ListPage { entries, places: self.inner.places_of(&self.space), end })
    }

    /// Gets an entry's version from its headers. Some servers list without entity tags, and a version without one proves
    /// nothing.
    async fn with_head_version(&self, listed: Option<ListEntry>) -> Result<Option<ListEntry>, StoreError> {
        let Some(ListEntry::Item(id, facts)) = listed else { return Ok(listed) };
        let item = ItemAddress { space: self.space.clone(), id: id.clone() };
        let version = match self.inner.head_item(OP, &item).await? {
            Presence::Present(found) => found.facts.version,
            Presence::Absent => facts.version,
        };
        Ok(Some(ListEntry::Item(id, ItemFacts { version, ..facts })))
    }

    /// Sets where the next page begins. Returns whether this was the last page.
    fn advance(&mut self, next: Option<String>, empty: bool) -> Result<bool, StoreError> {
        if !empty {
            self.empty_pages.clear();
        }
        let Some(token) = next else {
            // Some services, but not Amazon's, end listings too early: one more request verifies that nothing follows.
            let askable = self.last.as_deref().is_some_and(|last| std::str::from_utf8(last).is_ok());
            self.next = ListingCursor::BehindLast;
            self.end_reported = true;
            return Ok(empty || !askable || self.inner.amazon);
        };
        let repeats = !self.empty_pages.insert(token.clone());
        if repeats || self.empty_pages.len() > EMPTY_PAGES_MAX {
            return Err(
                self.unexpected_listing("the listing goes round: page after page comes without an entry or an end")
            );
        }
        // Some tokens are keys. One with a character that XML forbids was changed in the response, and would lead elsewhere.
        let unusable = token.contains(char::REPLACEMENT_CHARACTER);
        let known = self.last.as_deref().is_some_and(|last| std::str::from_utf8(last).is_ok());
        self.next = if unusable && known { ListingCursor::BehindLast } else { ListingCursor::Token(token) };
        Ok(false)
    }

    async fn request_page(&self, place: &BucketPrefix) -> Result<ObjectPage, StoreError> {
        let after = self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()));
        let last = self.last.as_deref().map(String::from_utf8_lossy);
        let from = match (&self.next, &after, &last) {
            (ListingCursor::Token(token), ..) => PageStart::Token(token),
            (ListingCursor::BehindLast, _, Some(last)) => PageStart::After(last),
            (_, Some(after), _) => PageStart::After(after),
            _ => PageStart::Beginning,
        };
        let proven = async {
            let page = self.inner.page(PageRequest { place, from, with_delimiter: false, max: None }).await?;
            let keys: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
            self.inner.prove_reading(place, &keys, key_encoding::ListedKind::Objects).await?;
            Ok(page)
        };
        match proven.await {
            Ok(page) => Ok(page),
            Err(why) => Err(self.inner.listing_error(OP, &self.space, place, why).await),
        }
    }

    /// Converts an object to an entry; `None` for the space's own marker.
    fn entry(
        &mut self,
        place: &BucketPrefix,
        key: ListedKey,
        object: &ListedObject,
    ) -> Result<Option<ListEntry>, StoreError> {
        if self.last.as_ref().is_some_and(|last| *last >= key.bytes) {
            return Err(self.unexpected_listing(format!(
                "`{}` stands out of order in {}",
                display_key(&key),
                self.inner.extent
            )));
        }
        let rest = &key.bytes[place.prefix.len()..];
        // A server that starts before the requested key would make items appear twice.
        let early = self.after.as_ref().is_some_and(|after| rest <= after.as_str().as_bytes());
        if early && !rest.is_empty() {
            return Err(
                self.unexpected_listing(format!("`{}` does not lie behind the key that was given", display_key(&key)))
            );
        }
        let listed = self.list_entry(place, &key, object);
        self.last = Some(key.bytes);
        Ok(listed)
    }

    fn list_entry(&self, place: &BucketPrefix, key: &ListedKey, object: &ListedObject) -> Option<ListEntry> {
        let rest = &key.bytes[place.prefix.len()..];
        if rest.is_empty() {
            return None;
        }
        let refused = |reason| Some(ListEntry::Refused { shown: displayable(&String::from_utf8_lossy(rest)), reason });
        let Some(text) = key.text() else { return refused(RefusalReason::NotUtf8) };
        if is_witness(text) {
            return None;
        }
        if text.trim().is_empty() {
            return refused(blank_key());
        }
        match ContentId::new(&text[place.prefix.len()..]) {
            Ok(id) => Some(ListEntry::Item(id, self.facts(object))),
            Err(_) => refused(RefusalReason::TooLong),
        }
    }

    fn facts(&self, object: &ListedObject) -> ItemFacts {
        let state = ObjectState { etag: &object.etag, size: object.size, modified: Some(&object.modified) };
        ItemFacts {
            size: object.size,
            modified: state.modified_at(),
            version: self.inner.version(state),
            // A listing does not say whether the entity tag is that of encrypted bytes.
            checksums: Vec::new(),
            properties: None,
            state: item_state(object.storage_class.as_deref().filter(|class| is_archive_class(class))),
        }
    }

    fn unexpected_listing(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        StoreError { source: Some(why.into()), ..self.inner.space_error(OP, &self.space, StoreErrorKind::Unexpected) }
    }
}

impl StoreInner {
    /// The error of a page, for a call that concerns a whole space or store.
    pub(super) fn page_error(&self, op: &'static str, subject: String, why: PageError) -> StoreError {
        match why {
            PageError::Failed(failure) => self.store_error(op, subject, CallPurpose::Reach, failure),
            PageError::Contradiction(why) => {
                let why = format!("the answer of {} is not believed: {why}", self.extent);
                StoreError { source: Some(why.into()), ..self.error(op, subject, StoreErrorKind::Unexpected) }
            }
        }
    }
}
