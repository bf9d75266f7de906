//! A listing that is complete and in order, or an error: entries that a listing leaves out would be taken for missing.

use futures::StreamExt as _;
use mill_model::{ContentId, SpaceId};
use mill_ports::{ListEntry, Listing, SourceStore, StoreError};

/// Why a listing is not complete.
#[derive(Debug, thiserror::Error)]
pub enum SpaceListingError {
    /// The store failed.
    #[error("the space `{space}` cannot be listed")]
    Store {
        /// The space.
        space: SpaceId,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The listing ended and did not say that it is complete.
    #[error("the listing of the space `{space}` broke off before its end")]
    BrokenOff {
        /// The space.
        space: SpaceId,
    },
    /// The listing is not in order, so it may have left entries out.
    #[error("the listing of the space `{space}` is not in order: `{later}` came after `{earlier}`")]
    OutOfOrder {
        /// The space.
        space: SpaceId,
        /// What came first.
        earlier: ContentId,
        /// What came after it.
        later: ContentId,
    },
}

/// The entries of a space, page by page.
pub(crate) struct CompleteListing {
    space: SpaceId,
    pages: Listing,
    last: Option<ContentId>,
    ended: bool,
}

impl CompleteListing {
    pub(crate) fn of(store: &dyn SourceStore, space: &SpaceId) -> Self {
        Self { space: space.clone(), pages: store.list(space, None), last: None, ended: false }
    }

    /// The next page of entries; `None` only once the listing has said that it is complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ListEntry>>, SpaceListingError> {
        if self.ended {
            return Ok(None);
        }
        let space = || self.space.clone();
        let page = match self.pages.next().await {
            Some(Ok(page)) => page,
            Some(Err(source)) => return Err(SpaceListingError::Store { space: space(), source }),
            None => return Err(SpaceListingError::BrokenOff { space: space() }),
        };
        for entry in &page.entries {
            let ListEntry::Item(id, _) = entry else { continue };
            if let Some(earlier) = self.last.replace(id.clone()).filter(|last| last >= id) {
                return Err(SpaceListingError::OutOfOrder { space: space(), earlier, later: id.clone() });
            }
        }
        self.ended = page.end;
        Ok(Some(page.entries))
    }

    /// The last item that was listed.
    pub(crate) fn last(&self) -> Option<&ContentId> {
        self.last.as_ref()
    }
}
