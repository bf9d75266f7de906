//! Listings: page by page, in order of bytes, complete or failed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::stream::{self, StreamExt as _};
use mill_model::{ContentId, ItemAddress, ItemFacts, SpaceId};
use mill_ports::{ListEntry, ListPage, Listing, Presence, RefusalReason, StoreError, StoreErrorKind};
use tracing::info;

use super::StoreInner;
use super::directory_walk::{DirectoryWalk, by_directories};
use super::errors::{CallPurpose, fit};
use super::head::{ObjectState, bare, sleeps, state_in};
use super::key_encoding;
use super::keys::{BucketPrefix, blanks_alone};
use super::overlap::is_witness;
use super::page::{ListedKey, ObjectPage, PageError, PageRequest, PageStart, shown};
use crate::response::ListedObject;

const OP: &str = "listing";

/// Most pages in a row without an entry. A service gives such pages where much was deleted.
const EMPTY_PAGES_MAX: usize = 10_000;

/// Entries of a page that is put together here.
const PAGE_MAX: usize = 1_000;

/// Lists a space.
pub(super) fn list(inner: Arc<StoreInner>, space: SpaceId, after: Option<ContentId>) -> Listing {
    let walk = ListingWalk {
        inner,
        space,
        after,
        next: ListingCursor::Beginning,
        said_to_end: false,
        directories: None,
        unproven: false,
        asked_of: Vec::new(),
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
    /// At the first key, or behind the one that was given.
    Beginning,
    Token(String),
    /// Behind the last key: the listing was said to end there, which is asked again.
    BehindLast,
}

/// A listing on its way.
struct ListingWalk {
    inner: Arc<StoreInner>,
    space: SpaceId,
    after: Option<ContentId>,
    next: ListingCursor,
    /// Whether the store said that it ends here.
    said_to_end: bool,
    /// Where the server lists directory by directory.
    directories: Option<DirectoryWalk>,
    /// Whether keys were given away of which it was not asked if others belong before them.
    unproven: bool,
    /// The directories on the way to the last key of which it was asked already.
    asked_of: Vec<String>,
    /// The last key of the pages before.
    last: Option<Vec<u8>>,
    first: bool,
    /// The tokens of the last pages, which had no entries. Where one comes again, the listing goes round.
    empty_pages: BTreeSet<String>,
}

impl ListingWalk {
    async fn page(&mut self) -> Result<ListPage, StoreError> {
        let absent = || self.inner.of_space(OP, &self.space, StoreErrorKind::SpaceAbsent);
        let place = self.inner.place(&self.space).ok_or_else(absent)?;
        if self.inner.by_directories.load(Relaxed) {
            return self.page_of_directories(&place).await;
        }
        if self.first && self.begins_aside(&place).await? {
            self.inner.by_directories.store(true, Relaxed);
            return self.page_of_directories(&place).await;
        }
        let page = self.ask(&place).await?;
        let turned_late = self.turns_aside(&place, &page);
        self.unproven |= turned_late;
        if page.by_directories || turned_late || self.will_turn_aside(&place, &page).await? {
            self.inner.by_directories.store(true, Relaxed);
            return self.page_of_directories(&place).await;
        }
        if self.first && page.objects.is_empty() && !self.inner.bucket_is_space() {
            // Nothing at all, not even its mark: is it there? What was seen before does not count here.
            self.inner.seen.forget(&self.space);
            self.inner.confirm(OP, &self.space, &place).await?;
        }
        self.first = false;
        if std::mem::take(&mut self.said_to_end) && !page.objects.is_empty() {
            info!(space = %self.space, after = fit(&String::from_utf8_lossy(self.last.as_deref().unwrap_or_default())),
                "the store said that its listing ends here, and more lies behind");
        }
        let mut entries = Vec::with_capacity(page.objects.len());
        let empty = page.objects.is_empty();
        for (key, object) in page.objects {
            let listed = self.entry(&place, key, &object)?;
            let untagged = bare(&object.etag).is_empty();
            entries.extend(if untagged { self.asked(listed).await? } else { listed });
        }
        let end = self.turn(page.next, empty)?;
        Ok(ListPage { entries, places: self.inner.places_of(&self.space), end })
    }

    /// Whether a page stands behind the one before it, or the key that was given, only where directories are listed one by one.
    fn turns_aside(&self, place: &BucketPrefix, page: &ObjectPage) -> bool {
        let given = || self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()).into_bytes());
        let Some(before) = self.last.clone().or_else(given) else { return false };
        let aside = |key: &ListedKey| before >= key.bytes && by_directories(&before, &key.bytes).is_lt();
        page.objects.iter().any(|(key, _)| aside(key))
    }

    /// Whether a listing that begins behind a key would leave out what lies behind it by its bytes.
    async fn begins_aside(&self, place: &BucketPrefix) -> Result<bool, StoreError> {
        let Some(after) = self.after.as_ref().filter(|_| !self.inner.amazon) else { return Ok(false) };
        match self.inner.begins_behind(place, after.as_str()).await {
            Ok(aside) => Ok(aside),
            Err(why) => Err(self.inner.of_listing(OP, &self.space, place, why).await),
        }
    }

    /// Whether what is yet to come belongs before keys of this page: then it is not given away in this order.
    async fn will_turn_aside(&mut self, place: &BucketPrefix, page: &ObjectPage) -> Result<bool, StoreError> {
        if self.inner.amazon || page.next.is_none() {
            self.unproven = true;
            return Ok(false);
        }
        let keys: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
        match self.inner.ends_within(place, (self.last.as_deref(), &keys), &mut self.asked_of).await {
            Ok(aside) => Ok(aside),
            Err(why) => Err(self.inner.of_listing(OP, &self.space, place, why).await),
        }
    }

    /// A page of a server that lists directory by directory, in the order of bytes. What was given away before stands first in
    /// both orders.
    async fn page_of_directories(&mut self, place: &BucketPrefix) -> Result<ListPage, StoreError> {
        let after = self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()).into_bytes());
        let after = self.last.clone().max(after);
        let unproven = self.unproven || self.inner.by_bytes.load(Relaxed);
        if self.directories.is_none() && self.last.is_some() && unproven {
            return Err(self.wrong("the server lists directory by directory, which shows only now: please list anew"));
        }
        let directories = self.directories.get_or_insert_with(|| DirectoryWalk::new(place.clone(), after));
        let found = match directories.some(&self.inner, PAGE_MAX).await {
            Ok(found) => found,
            Err(why) => return Err(self.inner.of_listing(OP, &self.space, place, why).await),
        };
        if self.first && found.is_empty() && !self.inner.bucket_is_space() {
            self.inner.seen.forget(&self.space);
            self.inner.confirm(OP, &self.space, place).await?;
        }
        self.first = false;
        let end = found.len() < PAGE_MAX;
        let mut entries = Vec::with_capacity(found.len());
        for (key, object) in found {
            let listed = self.entry(place, key, &object)?;
            let untagged = bare(&object.etag).is_empty();
            entries.extend(if untagged { self.asked(listed).await? } else { listed });
        }
        Ok(ListPage { entries, places: self.inner.places_of(&self.space), end })
    }

    /// An entry with the version that the item itself tells. Some servers list without entity tags, and a version
    /// without one proves nothing.
    async fn asked(&self, listed: Option<ListEntry>) -> Result<Option<ListEntry>, StoreError> {
        let Some(ListEntry::Item(id, facts)) = listed else { return Ok(listed) };
        let item = ItemAddress { space: self.space.clone(), id: id.clone() };
        let version = match self.inner.look(OP, &item).await? {
            Presence::Present(found) => found.facts.version,
            Presence::Absent => facts.version,
        };
        Ok(Some(ListEntry::Item(id, ItemFacts { version, ..facts })))
    }

    /// Settles where the next page begins. Whether there is none.
    fn turn(&mut self, next: Option<String>, empty: bool) -> Result<bool, StoreError> {
        if !empty {
            self.empty_pages.clear();
        }
        let Some(token) = next else {
            // Services but Amazon's were seen to end a listing too early: they are asked whether nothing lies behind its end.
            let askable = self.last.as_deref().is_some_and(|last| std::str::from_utf8(last).is_ok());
            self.next = ListingCursor::BehindLast;
            self.said_to_end = true;
            return Ok(empty || !askable || self.inner.amazon);
        };
        let repeats = !self.empty_pages.insert(token.clone());
        if repeats || self.empty_pages.len() > EMPTY_PAGES_MAX {
            return Err(self.wrong("the listing goes round: page after page comes without an entry or an end"));
        }
        // A token that is a key, which the answer could not hold as it is, would lead elsewhere.
        let spoilt = token.contains(char::REPLACEMENT_CHARACTER);
        let known = self.last.as_deref().is_some_and(|last| std::str::from_utf8(last).is_ok());
        self.next = if spoilt && known { ListingCursor::BehindLast } else { ListingCursor::Token(token) };
        Ok(false)
    }

    async fn ask(&self, place: &BucketPrefix) -> Result<ObjectPage, StoreError> {
        let after = self.after.as_ref().map(|after| format!("{}{}", place.prefix, after.as_str()));
        let last = self.last.as_deref().map(String::from_utf8_lossy);
        let from = match (&self.next, &after, &last) {
            (ListingCursor::Token(token), ..) => PageStart::Token(token),
            (ListingCursor::BehindLast, _, Some(last)) => PageStart::After(last),
            (_, Some(after), _) => PageStart::After(after),
            _ => PageStart::Beginning,
        };
        let proven = async {
            let page = self.inner.page(PageRequest { place, from, by_folder: false, max: None }).await?;
            let keys: Vec<&ListedKey> = page.objects.iter().map(|(key, _)| key).collect();
            self.inner.prove_reading(place, &keys, key_encoding::ListedKind::Objects).await?;
            Ok(page)
        };
        match proven.await {
            Ok(page) => Ok(page),
            Err(why) => Err(self.inner.of_listing(OP, &self.space, place, why).await),
        }
    }

    /// One entry; the space's own mark is none.
    fn entry(
        &mut self,
        place: &BucketPrefix,
        key: ListedKey,
        object: &ListedObject,
    ) -> Result<Option<ListEntry>, StoreError> {
        if self.last.as_ref().is_some_and(|last| *last >= key.bytes) {
            return Err(self.wrong(format!("`{}` stands out of order in {}", shown(&key), self.inner.extent)));
        }
        let rest = &key.bytes[place.prefix.len()..];
        // Asked for what lies behind; a server that begins too early would have items looked at twice.
        let early = self.after.as_ref().is_some_and(|after| rest <= after.as_str().as_bytes());
        if early && !rest.is_empty() {
            return Err(self.wrong(format!("`{}` does not lie behind the key that was given", shown(&key))));
        }
        let listed = self.listed(place, &key, object);
        self.last = Some(key.bytes);
        Ok(listed)
    }

    fn listed(&self, place: &BucketPrefix, key: &ListedKey, object: &ListedObject) -> Option<ListEntry> {
        let rest = &key.bytes[place.prefix.len()..];
        if rest.is_empty() {
            return None;
        }
        let refused = |reason| Some(ListEntry::Refused { shown: fit(&String::from_utf8_lossy(rest)), reason });
        let Some(text) = key.text() else { return refused(RefusalReason::NotUtf8) };
        if is_witness(text) {
            return None;
        }
        if text.trim().is_empty() {
            return refused(blanks_alone());
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
            state: state_in(object.storage_class.as_deref().filter(|class| sleeps(class))),
        }
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        StoreError { source: Some(why.into()), ..self.inner.of_space(OP, &self.space, StoreErrorKind::Unexpected) }
    }
}

impl StoreInner {
    /// Why a page could not be had, for a call that is about all of a space or a store.
    pub(super) fn no_page(&self, op: &'static str, subject: String, why: PageError) -> StoreError {
        match why {
            PageError::Failed(trouble) => self.meant(op, subject, CallPurpose::Reach, trouble),
            PageError::Contradiction(why) => {
                let why = format!("the answer of {} is not believed: {why}", self.extent);
                StoreError { source: Some(why.into()), ..self.error(op, subject, StoreErrorKind::Unexpected) }
            }
        }
    }
}
