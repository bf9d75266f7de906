//! A folder as a place: what stands at its root, whose its spaces are, and what tells it from another folder.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mill_model::SpaceId;
use mill_ports::{
    BoxError, OwnerMark, PlaceInHolder, PlacedStore, RefusalReason, Rng, RootFacts, SharedContentError, SpaceLocation,
    StoreError, StoreErrorKind, StorePairGuard,
};

use super::error::FolderError;
use super::owner_mark::identity_at;
use super::{FolderStore, Overlap, PairGuard, space_subject};

#[async_trait]
impl PlacedStore for FolderStore {
    fn location_name(&self) -> String {
        self.0.root.path().display().to_string()
    }

    fn is_known_by_name(&self) -> bool {
        false
    }

    async fn root_facts(&self) -> Result<Option<RootFacts>, StoreError> {
        let facts = self.on_root(|folder, root| Ok(root.facts(folder.root.path())));
        facts.await.map(Some).map_err(|error| self.0.error("look", "", error))
    }

    async fn space_root_facts(&self, space: &SpaceId) -> Result<Option<RootFacts>, StoreError> {
        Self::facts_of_space(self, space).await
    }

    fn forget_root(&self) {
        self.0.root.forget();
    }

    async fn space_location(&self, space: &SpaceId) -> Result<Option<SpaceLocation>, StoreError> {
        self.locate_space(space).await.map(Some)
    }

    async fn marks_within(&self, space: &SpaceId) -> Result<Vec<(PathBuf, OwnerMark)>, StoreError> {
        self.inner_marks(space).await
    }

    fn is_gone(&self, near: &SpaceLocation, other: PlaceInHolder<'_>) -> bool {
        let beneath = other.within.strip_prefix(&near.within).ok().map(|inner| near.path.join(inner));
        let around = || {
            let inner = near.within.strip_prefix(other.within).ok()?;
            near.path.ancestors().nth(inner.components().count()).map(Path::to_owned)
        };
        let Some(path) = beneath.or_else(around) else { return false };
        match identity_at(&path) {
            Ok(now) => now != other.identity,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    async fn mark(&self, space: &SpaceId, mark: OwnerMark, replaced: bool) -> Result<bool, StoreError> {
        self.put_mark(space, mark, replaced).await
    }

    async fn unmark(&self, space: &SpaceId) -> Result<(), StoreError> {
        self.remove_mark(space).await
    }

    fn refused(&self, op: &'static str, _: &str, why: RefusalReason) -> StoreError {
        self.0.error(op, "", FolderError::refused(why))
    }

    fn unavailable(&self, space: &SpaceId, why: BoxError) -> StoreError {
        self.0.error("use", &space_subject(space), FolderError::unavailable(why))
    }

    fn guard_pair(
        self: Arc<Self>,
        source: Arc<dyn PlacedStore>,
        _: Arc<dyn Rng>,
    ) -> Result<Option<Arc<dyn StorePairGuard>>, StoreError> {
        let Some(source) = folder(&*source) else { return Ok(None) };
        let guard = PairGuard::begin(source, &self).map_err(|error| StoreError {
            kind: StoreErrorKind::Unavailable,
            op: "look for what is mounted in",
            store: self.0.sidecar.store.clone(),
            subject: self.location_name(),
            source: Some(error.into()),
        })?;
        Ok(Some(Arc::new(guard)))
    }
}

/// A store as a folder, if it is one.
fn folder(store: &dyn PlacedStore) -> Option<&FolderStore> {
    (store as &dyn Any).downcast_ref()
}

#[async_trait]
impl StorePairGuard for PairGuard {
    fn is_of(&self, source: &dyn PlacedStore, destination: &dyn PlacedStore) -> bool {
        folder(source).zip(folder(destination)).is_some_and(|(source, destination)| self.watches(source, destination))
    }

    async fn check(&self, _: bool) -> Result<(), StoreError> {
        self.check_mounts().await.map_err(|error| {
            let overlap = error.source.as_ref().and_then(|source| source.downcast_ref::<Overlap>());
            match overlap.map(|overlap| SharedContentError(overlap.to_string())) {
                Some(shared) => StoreError { source: Some(shared.into()), ..error },
                None => error,
            }
        })
    }

    fn met_destination(&self) -> Option<String> {
        self.met_in_listing()
    }
}
