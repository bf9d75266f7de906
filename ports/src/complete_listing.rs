//! A listing that is complete and in order, or an error: entries that a listing leaves out would be taken for missing.

use std::fmt;

use futures::StreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{ContentId, SpaceId};

use crate::store::{ListEntry, ListPage, Listing, SourceStore, StoreError};

/// Why a listing cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The store failed.
    #[error("the space cannot be listed")]
    Store(#[from] StoreError),
    /// The listing ended and did not say that it is complete.
    #[error("the listing of `{space}` broke off before its end")]
    BrokenOff {
        /// The space.
        space: SpaceId,
    },
    /// The listing is not in order, so it may have left entries out.
    #[error("the listing of `{space}` is not in order: `{later}` came after `{earlier}`")]
    OutOfOrder {
        /// The space.
        space: SpaceId,
        /// What came first.
        earlier: ContentId,
        /// What came after it.
        later: ContentId,
    },
}

/// The pages of a space's listing.
pub struct CompleteListing {
    space: SpaceId,
    pages: Listing,
    /// The last item of the pages so far, or the one after which they begin.
    last: Option<ContentId>,
    ended: bool,
}

impl CompleteListing {
    /// Lists the items of `space` after `after`.
    pub fn open<S: SourceStore + ?Sized>(store: &S, space: &SpaceId, after: Option<&ContentId>) -> Self {
        Self::of(space, store.list(space, after.cloned()), after)
    }

    /// Reads `pages`, whose items must come after `after`.
    pub fn of(space: &SpaceId, pages: Listing, after: Option<&ContentId>) -> Self {
        Self { space: space.clone(), pages, last: after.cloned(), ended: false }
    }

    /// The empty listing, for a space that is absent.
    pub fn empty(space: &SpaceId) -> Self {
        Self { ended: true, ..Self::of(space, futures::stream::empty().boxed(), None) }
    }

    /// The next page, which may be empty; `None` only once the listing has said that it is complete.
    ///
    /// # Errors
    /// [`ListingError`]. Then the listing is not complete.
    pub async fn next_page(&mut self) -> Result<Option<ListPage>, ListingError> {
        if self.ended {
            return Ok(None);
        }
        let Some(page) = self.pages.next().await else {
            if is_planted(PlantedBug::ShortListingBelieved) {
                self.ended = true;
                return Ok(None);
            }
            return Err(ListingError::BrokenOff { space: self.space.clone() });
        };
        let page = page?;
        self.check(&page.entries)?;
        self.ended = page.end;
        Ok(Some(page))
    }

    /// The last item of the pages so far, or the one after which they begin.
    pub fn last(&self) -> Option<&ContentId> {
        self.last.as_ref()
    }

    fn check(&mut self, entries: &[ListEntry]) -> Result<(), ListingError> {
        let mut last = self.last.as_ref();
        for entry in entries {
            let ListEntry::Item(id, _) = entry else { continue };
            match last {
                Some(last) if last >= id => {
                    let (earlier, later) = (last.clone(), id.clone());
                    return Err(ListingError::OutOfOrder { space: self.space.clone(), earlier, later });
                }
                _ => last = Some(id),
            }
        }
        self.last = last.cloned();
        Ok(())
    }
}

impl fmt::Debug for CompleteListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompleteListing").field("space", &self.space).field("last", &self.last).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use mill_model::{ItemFacts, ItemState, Version};

    use super::*;

    fn page(ids: &[&str], end: bool) -> ListPage {
        let facts = ItemFacts {
            size: 0,
            modified: None,
            version: Version::settled_at("v"),
            checksums: Vec::new(),
            properties: None,
            state: ItemState::Online,
        };
        let item = |id: &&str| ListEntry::Item(ContentId::new(*id).unwrap(), facts.clone());
        ListPage { entries: ids.iter().map(item).collect(), places: Vec::new(), end }
    }

    async fn read(pages: Vec<ListPage>, after: Option<&str>) -> Result<usize, ListingError> {
        let after = after.map(|id| ContentId::new(id).unwrap());
        let pages = stream::iter(pages.into_iter().map(Ok)).boxed();
        let mut listing = CompleteListing::of(&SpaceId::new("s").unwrap(), pages, after.as_ref());
        let mut count = 0;
        while let Some(page) = listing.next_page().await? {
            count += page.entries.len();
        }
        Ok(count)
    }

    #[tokio::test]
    async fn a_listing_in_order_is_read_to_its_end_over_empty_pages() {
        let pages = vec![page(&["a", "b"], false), page(&[], false), page(&["c"], false), page(&[], true)];
        assert_eq!(read(pages, None).await.unwrap(), 3);
        assert_eq!(read(vec![page(&[], true), page(&["a"], true)], None).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_listing_over_before_its_end_is_an_error() {
        for pages in [vec![], vec![page(&["a"], false)], vec![page(&["a"], false), page(&[], false)]] {
            assert!(matches!(read(pages, None).await, Err(ListingError::BrokenOff { .. })));
        }
    }

    #[tokio::test]
    async fn a_listing_out_of_order_is_an_error() {
        let (same, back) = (page(&["a", "a"], true), page(&["b", "a"], true));
        let over_pages = vec![page(&["a", "c"], false), page(&["b"], true)];
        for pages in [vec![same], vec![back], over_pages] {
            assert!(matches!(read(pages, None).await, Err(ListingError::OutOfOrder { .. })));
        }
        let not_behind = read(vec![page(&["b"], true)], Some("b")).await;
        assert!(matches!(not_behind, Err(ListingError::OutOfOrder { .. })));
    }
}
