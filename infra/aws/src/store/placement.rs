//! A store in S3 as a place: where its spaces' keys lie, and what tells it from another store.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mill_model::SpaceId;
use mill_ports::{
    BoxError, PlacedStore, RefusalReason, Rng, SharedContentError, SpaceLocation, StoreError, StoreErrorKind,
    StorePairGuard,
};
use tokio::sync::OnceCell;

use super::S3Store;
use super::keys::BucketPrefix;
use super::overlap::{OverlapResult, S3Overlap};

#[async_trait]
impl PlacedStore for S3Store {
    fn location_name(&self) -> String {
        self.extent().to_string()
    }

    /// There is no mark in S3, so only the register knows whose a place is. `None` if no bucket can have the space's name.
    async fn space_location(&self, space: &SpaceId) -> Result<Option<SpaceLocation>, StoreError> {
        let Some(BucketPrefix { bucket, prefix }) = self.0.bucket_prefix(space) else { return Ok(None) };
        let address = format!("s3://{bucket}/{prefix}");
        Ok(Some(SpaceLocation {
            holder: format!("{}/{bucket}", self.extent().service()),
            within: Path::new("/").join(prefix.trim_matches('/')),
            path: PathBuf::from(&address),
            identity: Some(address),
            marks: Vec::new(),
            bears_marks: false,
        }))
    }

    fn refused(&self, op: &'static str, place: &str, why: RefusalReason) -> StoreError {
        self.0.error(op, place.to_owned(), StoreErrorKind::Refused(why))
    }

    fn unavailable(&self, space: &SpaceId, why: BoxError) -> StoreError {
        StoreError { source: Some(why), ..self.0.space_error("use", space, StoreErrorKind::Unavailable) }
    }

    fn guard_pair(
        self: Arc<Self>,
        source: Arc<dyn PlacedStore>,
        rng: Arc<dyn Rng>,
    ) -> Result<Option<Arc<dyn StorePairGuard>>, StoreError> {
        let Some(source) = in_s3(&*source) else { return Ok(None) };
        let (source, destination) = (source.clone(), Self::clone(&self));
        Ok(Some(Arc::new(WitnessGuard { source, destination, rng, witnessed: OnceCell::new() })))
    }
}

/// A store as one in S3, if it is one.
fn in_s3(store: &dyn PlacedStore) -> Option<&S3Store> {
    (store as &dyn Any).downcast_ref()
}

/// Guards two stores in S3: by their names at each check, and by a witness once, before the first write.
#[derive(Debug)]
struct WitnessGuard {
    source: S3Store,
    destination: S3Store,
    rng: Arc<dyn Rng>,
    /// The answer of the witness, once there is one.
    witnessed: OnceCell<Result<(), S3Overlap>>,
}

impl WitnessGuard {
    fn shared(&self, overlap: &S3Overlap) -> StoreError {
        let subject = self.destination.location_name();
        let error = self.destination.0.error("use as a copy", subject, StoreErrorKind::NotConfigured);
        StoreError { source: Some(SharedContentError(overlap.to_string()).into()), ..error }
    }
}

#[async_trait]
impl StorePairGuard for WitnessGuard {
    /// An answer of the witness stays true of two stores that are opened anew under the same names.
    fn is_of(&self, source: &dyn PlacedStore, destination: &dyn PlacedStore) -> bool {
        let (Some(source), Some(destination)) = (in_s3(source), in_s3(destination)) else { return false };
        let same = |a: &S3Store, b: &S3Store| {
            Arc::ptr_eq(&a.0, &b.0) || self.witnessed.initialized() && a.extent() == b.extent()
        };
        same(&self.source, source) && same(&self.destination, destination)
    }

    async fn check(&self, writes: bool) -> Result<(), StoreError> {
        if let Some(overlap) = self.destination.extent().overlap(self.source.extent()) {
            return Err(self.shared(&overlap));
        }
        if !writes {
            return Ok(());
        }
        // Where nothing is known yet, the witness is asked again before the next write.
        let witnessed =
            self.witnessed.get_or_try_init(async || match self.destination.witness(&self.source, &*self.rng).await {
                Ok(OverlapResult::Apart) => Ok(Ok(())),
                Ok(OverlapResult::Overlap(overlap)) => Ok(Err(overlap)),
                Ok(OverlapResult::NoBucketYet) => Err(None),
                Err(error) => Err(Some(error)),
            });
        match witnessed.await {
            Ok(Ok(())) | Err(None) => Ok(()),
            Ok(Err(overlap)) => Err(self.shared(overlap)),
            Err(Some(error)) => Err(error),
        }
    }
}
