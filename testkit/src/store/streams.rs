//! The streams of a memory store: bodies and listings.

use std::ops::Bound;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use mill_model::ids::escape_for_display;
use mill_model::{ContentId, ItemAddress, SpaceId};
use mill_ports::{Body, ByteRange, ListEntry, ListPage, Listing, StoreError, StoreErrorKind};

use super::{MemoryStore, MemoryStoreInner, StoredEntry};

/// The bytes of a range, as far as they exist.
pub(super) fn slice_range(bytes: &Bytes, range: Option<ByteRange>) -> Bytes {
    let Some(ByteRange { offset, length }) = range else {
        return bytes.clone();
    };
    let size = bytes.len() as u64;
    let from = offset.min(size);
    let to = from.saturating_add(length).min(size);
    bytes.slice(from as usize..to as usize)
}

/// The state of a body that is being read.
pub(super) struct BodyReader {
    pub(super) store: MemoryStore,
    pub(super) item: ItemAddress,
    /// The version that is read.
    pub(super) token: String,
    pub(super) bytes: Bytes,
    /// Whether the number of bytes differs from the size in the item's facts.
    pub(super) damaged: bool,
}

/// A body in pieces. Ends in an error if the item changes, or if its size differs from its facts.
pub(super) fn body(rest: BodyReader) -> Body {
    stream::try_unfold(rest, |mut rest| async move {
        let inner: &MemoryStoreInner = &rest.store.0;
        let same = || inner.spaces.lock().item(&rest.item).is_some_and(|item| item.token() == rest.token);
        if !inner.behavior.reads_are_snapshots && !same() {
            return Err(inner.error("read", &rest.item, StoreErrorKind::Changed));
        }
        if rest.bytes.is_empty() && rest.damaged {
            return Err(inner.error("read", &rest.item, StoreErrorKind::Unexpected));
        }
        if rest.bytes.is_empty() {
            return Ok(None);
        }
        let piece = rest.bytes.split_to(rest.bytes.len().min(inner.behavior.piece_bytes_max.max(1)));
        Ok(Some((piece, rest)))
    })
    .boxed()
}

/// The pages of a listing, each as the space is when the page is requested.
///
/// Only a page that is not full is the last, so a listing may end with an empty one.
pub(super) fn listing(store: MemoryStore, space: SpaceId, after: Option<ContentId>) -> Listing {
    stream::try_unfold(Some(after), move |state| {
        let page = state.map(|after| page(&store.0, &space, after));
        async move {
            let Some((page, last)) = page.transpose()? else {
                return Ok(None);
            };
            let next = (!page.end).then_some(last);
            Ok(Some((page, next)))
        }
    })
    .boxed()
}

/// One page, and its last id.
fn page(
    inner: &MemoryStoreInner,
    space: &SpaceId,
    after: Option<ContentId>,
) -> Result<(ListPage, Option<ContentId>), StoreError> {
    let spaces = inner.spaces.lock();
    let Some(found) = spaces.space(space) else {
        return Err(inner.error("list", space, StoreErrorKind::SpaceAbsent));
    };
    let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let entries_max = inner.behavior.page_entries_max.max(1);
    let mut last = None;
    let entries: Vec<ListEntry> = found
        .entries
        .range((from, Bound::Unbounded))
        .take(entries_max)
        .map(|(id, planted)| {
            last = Some(id);
            listed(inner, id, planted)
        })
        .collect();
    let last = last.cloned().or(after);
    let end = entries.len() < entries_max;
    let places = found.places(&inner.address);
    Ok((ListPage { entries, places, end }, last))
}

fn listed(inner: &MemoryStoreInner, id: &ContentId, planted: &StoredEntry) -> ListEntry {
    match planted {
        StoredEntry::Item(item) => {
            let mut facts = inner.facts(item);
            if !inner.behavior.properties_in_listings {
                facts.properties = None;
            }
            ListEntry::Item(id.clone(), facts)
        }
        StoredEntry::Refused(reason) => {
            ListEntry::Refused { shown: escape_for_display(id.as_str()), reason: reason.clone() }
        }
    }
}
