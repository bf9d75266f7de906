//! Stores as places: what stands at a store's root, whose it is, and whether two stores hold the same content.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mill_model::SpaceId;

use crate::{BoxError, RefusalReason, Rng, StoreError};

/// An opened store as a place.
///
/// What has a default here is what a store does whose name alone says where it is, such as a bucket. Another directory may
/// come to stand at the path of a folder, as when a disk is not mounted, so a folder says more.
#[async_trait]
pub trait PlacedStore: Any + fmt::Debug + Send + Sync {
    /// What a person calls the place: its path or its address.
    fn location_name(&self) -> String;

    /// Whether its name alone says where it is: nothing else can come to stand there.
    fn is_known_by_name(&self) -> bool {
        true
    }

    /// The facts of what stands at its root now; `None` where the name says where it is.
    ///
    /// # Errors
    /// The root cannot be reached, or is not the one first seen.
    async fn root_facts(&self) -> Result<Option<RootFacts>, StoreError> {
        Ok(None)
    }

    /// The facts of a space's own directory; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be reached.
    async fn space_root_facts(&self, space: &SpaceId) -> Result<Option<RootFacts>, StoreError> {
        let _ = space;
        Ok(None)
    }

    /// Forgets the root first seen, so that what is found there next becomes the root.
    fn forget_root(&self) {}

    /// Where a space is, for the register of destinations, and the marks that it bears. `None` where it can be nowhere.
    ///
    /// # Errors
    /// The root cannot be reached.
    async fn space_location(&self, space: &SpaceId) -> Result<Option<SpaceLocation>, StoreError>;

    /// Whether another place of the same holder, which lies in `near` or around it, is surely not there any more.
    fn is_gone(&self, near: &SpaceLocation, other: PlaceInHolder<'_>) -> bool {
        let _ = (near, other);
        false
    }

    /// Puts a mark on a space. Returns `false` if the space has one that may not be `replaced`, or cannot bear one.
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

    /// The error for an operation on `place` that is refused.
    fn refused(&self, op: &'static str, place: &str, why: RefusalReason) -> StoreError;

    /// The error for a space that cannot be used now.
    fn unavailable(&self, space: &SpaceId, why: BoxError) -> StoreError;

    /// Begins to guard this store, a destination, and its `source`. `None` for two stores of different back ends: they are
    /// taken to be apart.
    ///
    /// # Errors
    /// What tells two such stores apart cannot be read.
    fn guard_pair(
        self: Arc<Self>,
        source: Arc<dyn PlacedStore>,
        rng: Arc<dyn Rng>,
    ) -> Result<Option<Arc<dyn StorePairGuard>>, StoreError>;
}

/// Guards a source and a destination: they must never hold the same content.
#[async_trait]
pub trait StorePairGuard: fmt::Debug + Send + Sync {
    /// Whether what it knows is about these two.
    fn is_of(&self, source: &dyn PlacedStore, destination: &dyn PlacedStore) -> bool;

    /// Checks that the two hold nothing in common now. Only a process that `writes` puts anything to the destination to find
    /// out.
    ///
    /// # Errors
    /// [`NotConfigured`](crate::StoreErrorKind::NotConfigured) with a [`SharedContentError`] when they do; the stores' own
    /// errors else.
    async fn check(&self, writes: bool) -> Result<(), StoreError>;

    /// The message of a listing of the source that met the destination, if one did.
    fn met_destination(&self) -> Option<String> {
        None
    }
}

/// Two stores hold the same content.
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
    /// The identity of what holds it: a file system, or a bucket of a service.
    pub holder: String,
    /// Its path within the holder.
    pub within: PathBuf,
    /// Its path, or its address.
    pub path: PathBuf,
    /// Its identity. `None` where there is no such directory yet: then `marks` are those of the root.
    pub identity: Option<String>,
    /// The marks on it and on the directories above it, the innermost first.
    pub marks: Vec<(PathBuf, OwnerMark)>,
    /// Whether it can bear a mark.
    pub bears_marks: bool,
}

/// A place in a holder, as a register remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceInHolder<'p> {
    /// Its path within the holder.
    pub within: &'p Path,
    /// Its identity.
    pub identity: &'p str,
}

/// Who keeps a place in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMark {
    /// Names that identify the owner.
    pub names: Vec<String>,
    /// The owner's name for people.
    pub shown: String,
}
