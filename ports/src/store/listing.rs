//! What a listing of a space, or of all spaces, says.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mill_model::{ContentId, ItemFacts, SpaceId};

use super::{RefusalReason, SourceStore, StoreError, StoreErrorKind};

/// The pages of a listing. A stream that ends before a page with `end` is an error of the store, never a complete
/// listing.
pub type Listing = BoxStream<'static, Result<ListPage, StoreError>>;

/// A place that holds content: a store's root, or a file system mounted beneath it.
///
/// If a place changed, what seems absent beneath it may only be out of sight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Where it begins, relative to the space: empty for the place that holds the space itself, else a path that ends
    /// in `/`.
    pub path: String,
    /// Distinguishes it from anything else that may be at this path. It survives remounts and reboots.
    pub identity: String,
}

/// Some entries of a listing, in order.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// The entries found; may be empty.
    pub entries: Vec<ListEntry>,
    /// The places that were entered for this page. The first page of a listing has the place with an empty path.
    pub places: Vec<Place>,
    /// Whether the listing is complete with this page.
    pub end: bool,
}

/// The spaces of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceList {
    /// All spaces, in order.
    pub spaces: Vec<SpaceId>,
    /// The entries beside them that cannot be spaces.
    pub left_out: LeftOutEntries,
}

/// Entries of a store that lie in no space, so that no listing of a space names them: a file or link beside the spaces,
/// a directory whose name is no valid space id, a key without a slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutEntries {
    /// The first of them: the name, escaped for a message, and the reason.
    pub first: Vec<(String, RefusalReason)>,
    /// How many there are.
    pub count: u64,
}

impl LeftOutEntries {
    /// The most entries that are kept by name.
    pub const NAMED_MAX: usize = 100;

    /// Adds an entry.
    pub fn add(&mut self, shown: impl FnOnce() -> String, reason: RefusalReason) {
        self.count += 1;
        if self.first.len() < Self::NAMED_MAX {
            self.first.push((shown(), reason));
        }
    }
}

/// One entry of a listing.
#[derive(Debug, Clone)]
pub enum ListEntry {
    /// A content item. Its facts may lack properties.
    Item(ContentId, ItemFacts),
    /// An entry that cannot be a content item. It is reported by name, never skipped.
    Refused {
        /// Its name, escaped for a message.
        shown: String,
        /// Why.
        reason: RefusalReason,
    },
    /// A directory that cannot be read. What it contains is unknown in this pass.
    Hidden {
        /// Its name, escaped for a message.
        shown: String,
    },
}

impl ListEntry {
    /// Whether it lies in `directory`, an id that ends in `/`.
    pub fn lies_in(&self, directory: &ContentId) -> bool {
        match self {
            Self::Item(id, _) => id.as_str().starts_with(directory.as_str()),
            Self::Refused { shown, .. } | Self::Hidden { shown } => {
                shown.starts_with(&mill_model::ids::escape_for_display(directory.as_str()))
            }
        }
    }
}

/// Whether the space lists any entry in `directory`, an id that ends in `/`; the directory itself does not count.
/// `false` if the space does not exist.
///
/// # Errors
/// Those of the listing.
pub async fn directory_has_entries<S: SourceStore + ?Sized>(
    store: &S,
    space: &SpaceId,
    directory: &ContentId,
) -> Result<bool, StoreError> {
    let mut pages = store.list(space, Some(directory.clone()));
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) if page.entries.is_empty() && !page.end => {}
            Ok(page) => return Ok(page.entries.first().is_some_and(|entry| entry.lies_in(directory))),
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
