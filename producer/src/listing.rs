//! A store's listing that is complete and in order, or an error: never less than it claims.

use futures::StreamExt as _;
use mill_model::{ContentId, SpaceId};
use mill_ports::{Listed, Listing, SourceStore, StoreError};

/// Why a listing proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingError {
    #[error("the space cannot be listed")]
    Store(#[from] StoreError),
    #[error("the listing of `{space}` broke off before its end")]
    BrokenOff { space: SpaceId },
    #[error("the listing of `{space}` is not in order: `{later}` came after `{earlier}`")]
    OutOfOrder { space: SpaceId, earlier: ContentId, later: ContentId },
}

/// A listing, a page of it in memory.
pub(crate) struct OrderedListing {
    space: SpaceId,
    pages: Listing,
    page: std::vec::IntoIter<Listed>,
    last: Option<ContentId>,
    ended: bool,
}

impl OrderedListing {
    /// The items of `space` behind `after`.
    pub(crate) fn open(store: &dyn SourceStore, space: &SpaceId, after: Option<&ContentId>) -> Self {
        Self {
            space: space.clone(),
            pages: store.list(space, after.cloned()),
            page: Vec::new().into_iter(),
            last: after.cloned(),
            ended: false,
        }
    }

    /// Makes [`Self::first`] tell the truth.
    pub(crate) async fn fill(&mut self) -> Result<(), ListingError> {
        while self.page.as_slice().is_empty() && !self.ended {
            let Some(page) = self.pages.next().await else {
                return Err(ListingError::BrokenOff { space: self.space.clone() });
            };
            let page = page?;
            self.check(&page.entries)?;
            self.ended = page.end;
            self.page = page.entries.into_iter();
            // A store that always answers at once would otherwise keep the lease's beat from its turn.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The next entry, left where it is; `None` at the end. Only after [`Self::fill`].
    pub(crate) fn first(&self) -> Option<&Listed> {
        self.page.as_slice().first()
    }

    /// Takes the next entry.
    pub(crate) fn take(&mut self) -> Option<Listed> {
        self.page.next()
    }

    fn check(&mut self, entries: &[Listed]) -> Result<(), ListingError> {
        let mut last = self.last.as_ref();
        for entry in entries {
            let Listed::Item(id, _) = entry else { continue };
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
