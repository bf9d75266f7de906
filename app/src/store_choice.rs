//! The stores that there are, by their types in a stores file, and which crate opens each. A new type of store is written in
//! here, and nowhere else of this room. Its members in the file are `mill_policy::store_types`'s.

#![cfg_attr(not(feature = "aws"), allow(unused_variables, clippy::unused_async))] // the other build uses and awaits them

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use mill_local::folder::Layout;
use mill_model::{SpaceId, StoreAddress};
use mill_policy::{S3Spec, StoreKind};
use mill_ports::{DeletableStore, PlacedStore};

#[cfg(feature = "aws")]
use crate::aws;
use crate::config::Config;
use crate::engine_choice::with_aws;
use crate::s3_location::S3Location;
use crate::store_registry::FolderOpener;

/// A store that was opened, and the same store as a place.
#[derive(Debug, Clone)]
pub(crate) struct OpenedStore {
    pub(crate) store: Arc<dyn DeletableStore>,
    pub(crate) placed: Arc<dyn PlacedStore>,
}

impl<S: DeletableStore + PlacedStore> From<Arc<S>> for OpenedStore {
    fn from(store: Arc<S>) -> Self {
        Self { store: store.clone(), placed: store }
    }
}

/// A store of the policy files. Relative paths begin at `base`.
///
/// # Errors
/// It cannot be used as it is described.
pub(crate) async fn open_store(
    address: StoreAddress,
    kind: &StoreKind,
    (base, folders): (&Path, &FolderOpener),
) -> Result<OpenedStore> {
    Ok(match kind {
        StoreKind::Folder(spec) => folders.open(address, base.join(&spec.root), Layout::Spaces).into(),
        StoreKind::S3(spec) => with_aws!(aws::open_store(address, spec, base, folders.clock.clone()).await?.into()),
    })
}

/// A part of a bucket as a store of one space.
///
/// # Errors
/// It cannot be used as it is named.
pub(crate) async fn open_location(
    location: &S3Location,
    (address, space): (StoreAddress, &SpaceId),
    folders: &FolderOpener,
) -> Result<OpenedStore> {
    with_aws!(Ok(aws::open_location(location, address, space, folders.clock.clone()).await?.into()))
}

/// What is to be said where two ends of a mirror in S3 hold the same objects, as far as their names tell.
///
/// # Errors
/// One of them is no address.
pub(crate) async fn overlap_in_s3(one: &S3Location, other: &S3Location) -> Result<Option<String>> {
    with_aws!(aws::overlap_of_locations(one, other).await)
}

/// Which of the stores in S3 hold the same objects as another: by their places in the list, and what is to be said of it. A
/// build without S3 finds none: what the files themselves show is found without it.
///
/// # Errors
/// One of them is no address.
pub(crate) async fn overlaps_in_s3(specs: &[&S3Spec]) -> Result<Vec<(usize, usize, String)>> {
    #[cfg(feature = "aws")]
    return aws::overlaps(specs).await;
    #[cfg(not(feature = "aws"))]
    Ok(Vec::new())
}

/// The store that holds the policy files, where they are in a bucket.
///
/// # Errors
/// It cannot be reached as it is described.
pub(crate) async fn open_policy_bucket(
    (config, bucket): (&Config, &str),
    address: StoreAddress,
    space: &SpaceId,
) -> Result<Arc<dyn DeletableStore>> {
    with_aws!(aws::policy_store((config, bucket), address, space).await)
}
