//! A store's listing that is complete and in order, or an error.

use futures::StreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{ContentId, SpaceId};
use mill_ports::{ListEntry, Listing, Place, SourceStore, StoreError};

/// Why a listing cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingError {
    #[error("the space cannot be listed")]
    Store(#[from] StoreError),
    #[error("the listing of `{space}` broke off before its end")]
    BrokenOff { space: SpaceId },
    #[error("the listing of `{space}` is not in order: `{later}` came after `{earlier}`")]
    OutOfOrder { space: SpaceId, earlier: ContentId, later: ContentId },
}

/// A listing with one page in memory.
pub(crate) struct OrderedListing {
    space: SpaceId,
    pages: Listing,
    page: std::vec::IntoIter<ListEntry>,
    last: Option<ContentId>,
    places: Vec<Place>,
    /// How many entries all pages so far have had.
    listed: u64,
    ended: bool,
}

impl OrderedListing {
    /// Lists the items of `space` after `after`.
    pub(crate) fn open(store: &dyn SourceStore, space: &SpaceId, after: Option<&ContentId>) -> Self {
        Self::of(space, store.list(space, after.cloned()), after)
    }

    /// Reads the items of `pages`, which must come after `after`.
    pub(crate) fn of(space: &SpaceId, pages: Listing, after: Option<&ContentId>) -> Self {
        let (page, places) = (Vec::new().into_iter(), Vec::new());
        Self { space: space.clone(), pages, page, last: after.cloned(), places, listed: 0, ended: false }
    }

    /// The empty listing, for a space that is absent.
    pub(crate) fn empty(space: &SpaceId) -> Self {
        Self { ended: true, ..Self::of(space, futures::stream::empty().boxed(), None) }
    }

    /// The places that the listing has entered so far.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// How many entries were taken so far.
    pub(crate) fn taken_count(&self) -> u64 {
        self.listed - self.page.as_slice().len() as u64
    }

    /// Fetches the next page if the current one is used up. Must be called before [`Self::first`].
    pub(crate) async fn fill(&mut self) -> Result<(), ListingError> {
        while self.page.as_slice().is_empty() && !self.ended {
            let Some(page) = self.pages.next().await else {
                if is_planted(PlantedBug::ShortListingBelieved) {
                    self.ended = true;
                    return Ok(());
                }
                return Err(ListingError::BrokenOff { space: self.space.clone() });
            };
            let page = page?;
            self.check(&page.entries)?;
            self.ended = page.end;
            self.listed += page.entries.len() as u64;
            self.places.extend(page.places);
            self.page = page.entries.into_iter();
            // A store that always answers at once would otherwise starve the heartbeat of the lease.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The next entry, without taking it; `None` at the end. Valid only after [`Self::fill`].
    pub(crate) fn first(&self) -> Option<&ListEntry> {
        self.page.as_slice().first()
    }

    /// Takes the next entry.
    pub(crate) fn take(&mut self) -> Option<ListEntry> {
        self.page.next()
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

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use mill_model::{ItemFacts, ItemState, Version};
    use mill_ports::ListPage;

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
        let mut listing = OrderedListing::of(&SpaceId::new("s").unwrap(), pages, after.as_ref());
        let mut count = 0;
        loop {
            listing.fill().await?;
            match listing.take() {
                Some(_) => count += 1,
                None => return Ok(count),
            }
        }
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
