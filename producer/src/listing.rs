//! A complete listing, entry by entry.

use mill_model::{ContentId, SpaceId};
use mill_ports::{CompleteListing, ListEntry, ListingError, Place, SourceStore};

/// A listing with one page in memory.
pub(crate) struct OrderedListing {
    pages: CompleteListing,
    page: std::vec::IntoIter<ListEntry>,
    places: Vec<Place>,
    /// How many entries all pages so far have had.
    listed: u64,
}

impl OrderedListing {
    /// Lists the items of `space` after `after`.
    pub(crate) fn open(store: &dyn SourceStore, space: &SpaceId, after: Option<&ContentId>) -> Self {
        Self::of(CompleteListing::open(store, space, after))
    }

    /// The empty listing, for a space that is absent.
    pub(crate) fn empty(space: &SpaceId) -> Self {
        Self::of(CompleteListing::empty(space))
    }

    pub(crate) fn of(pages: CompleteListing) -> Self {
        Self { pages, page: Vec::new().into_iter(), places: Vec::new(), listed: 0 }
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
        while self.page.as_slice().is_empty() {
            let Some(page) = self.pages.next_page().await? else { break };
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
}
