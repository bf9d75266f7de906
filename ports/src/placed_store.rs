//! Stores as places: what is at a store's root, who owns it, and whether two stores share content.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mill_model::{OriginalPlace, SpaceId};

use crate::{BoxError, RefusalReason, Rng, StoreError};

/// The place of an opened store.
///
/// The defaults are for stores whose name alone identifies the place, such as a bucket. A folder overrides them:
/// another directory may appear at its path, for example when a disk is not mounted.
#[async_trait]
pub trait PlacedStore: Any + fmt::Debug + Send + Sync {
    /// The place as people know it: its path or address.
    fn location_name(&self) -> String;

    /// Whether its name alone identifies it: nothing else can appear under that name.
    fn is_known_by_name(&self) -> bool {
        true
    }

    /// What is at its root now; `None` if the name alone identifies the place.
    ///
    /// # Errors
    /// The root cannot be reached, or is not the one that was seen first.
    async fn root_facts(&self) -> Result<Option<RootFacts>, StoreError> {
        Ok(None)
    }

    /// What is at a space's own directory; `None` if it has none.
    ///
    /// # Errors
    /// It cannot be reached.
    async fn space_root_facts(&self, space: &SpaceId) -> Result<Option<RootFacts>, StoreError> {
        let _ = space;
        Ok(None)
    }

    /// Forgets the root that was seen first, so that the next one found becomes the root.
    fn forget_root(&self) {}

    /// Where a space is, for the register of destinations, and its marks. `None` if it cannot have a place.
    ///
    /// # Errors
    /// The root cannot be reached.
    async fn space_location(&self, space: &SpaceId) -> Result<Option<SpaceLocation>, StoreError>;

    /// The marks on the directories right inside a space, each with its path in the space.
    ///
    /// # Errors
    /// The space cannot be looked into.
    async fn marks_within(&self, space: &SpaceId) -> Result<Vec<(PathBuf, OwnerMark)>, StoreError> {
        let _ = space;
        Ok(Vec::new())
    }

    /// Whether another place of the same holder, inside `near` or around it, is certainly gone.
    fn is_gone(&self, near: &SpaceLocation, other: PlaceInHolder<'_>) -> bool {
        let _ = (near, other);
        false
    }

    /// Puts a mark on a space. Returns `false` if the space has a mark that may not be `replaced`, or cannot have one.
    ///
    /// # Errors
    /// The space is missing.
    async fn mark(&self, space: &SpaceId, mark: OwnerMark, replaced: bool) -> Result<bool, StoreError> {
        let _ = (space, mark, replaced);
        Ok(false)
    }

    /// Removes the mark from a space.
    ///
    /// # Errors
    /// The space is missing, or the mark cannot be removed.
    async fn unmark(&self, space: &SpaceId) -> Result<(), StoreError> {
        let _ = space;
        Ok(())
    }

    /// Makes the error for a refused operation on `place`.
    fn refused(&self, op: &'static str, place: &str, why: RefusalReason) -> StoreError;

    /// Makes the error for a space that cannot be used now.
    fn unavailable(&self, space: &SpaceId, why: BoxError) -> StoreError;

    /// Returns a guard of this store, a destination, and its `source`. `None` for stores of different back ends: they
    /// are assumed to share nothing.
    ///
    /// # Errors
    /// The identities of the stores cannot be read.
    fn guard_pair(
        self: Arc<Self>,
        source: Arc<dyn PlacedStore>,
        rng: Arc<dyn Rng>,
    ) -> Result<Option<Arc<dyn StorePairGuard>>, StoreError>;
}

/// Guards a source and a destination: they must never share content.
#[async_trait]
pub trait StorePairGuard: fmt::Debug + Send + Sync {
    /// Whether what it knows is about these two.
    fn is_of(&self, source: &dyn PlacedStore, destination: &dyn PlacedStore) -> bool;

    /// Checks that the two hold nothing in common now. Only a process that `writes` puts anything to the destination to find
    /// out.
    ///
    /// # Errors
    /// [`NotConfigured`](crate::StoreErrorKind::NotConfigured) with a [`SharedContentError`] when they do; otherwise
    /// the stores' own errors.
    async fn check(&self, writes: bool) -> Result<(), StoreError>;

    /// The message for a listing of the source that came across the destination, if one did.
    fn met_destination(&self) -> Option<String> {
        None
    }
}

/// Two stores share content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SharedContentError(pub String);

/// What distinguishes a directory from another one at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// Its path.
    pub path: PathBuf,
    /// Its identity.
    pub identity: String,
    /// The identity of its file system.
    pub file_system: String,
    /// Whether it is a mount point.
    pub mounted: bool,
}

/// Where a space is, and the marks on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceLocation {
    /// The identity of its holder: a file system, or a bucket of a service.
    pub holder: String,
    /// Its path in the holder.
    pub within: PathBuf,
    /// Its path or address.
    pub path: PathBuf,
    /// Its identity. `None` if the directory does not exist yet: then `marks` are those of the root.
    pub identity: Option<String>,
    /// The marks on it and on the directories above it, the innermost first.
    pub marks: Vec<(PathBuf, OwnerMark)>,
    /// Whether it can have a mark.
    pub bears_marks: bool,
}

/// A place in a holder, as the register of destinations stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceInHolder<'p> {
    /// Its path in the holder.
    pub within: &'p Path,
    /// Its identity.
    pub identity: &'p str,
}

/// The owner of a destination: the Mill that keeps it in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMark {
    /// Names that identify the owner.
    pub names: Vec<String>,
    /// The owner's name in messages.
    pub shown: String,
    /// What the place is a copy of, if that is known.
    pub original: Option<OriginalPlace>,
}

impl SpaceLocation {
    /// The place as the original of a copy.
    pub fn as_original(&self) -> OriginalPlace {
        let (holder, identity) = (self.holder.clone(), self.identity.clone());
        OriginalPlace { holder, within: self.within.to_string_lossy().into_owned(), identity }
    }
}
