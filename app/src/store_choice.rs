//! The types of stores in a stores file, and the crate that opens each. A new type of store needs an entry here and
//! nowhere else in this room. `mill_policy::store_types` has its members.

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

/// An opened store, as a store and as a place.
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

/// Opens a store of the policy files. Relative paths are relative to `base`.
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

/// Opens a part of a bucket as a store with one space.
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

/// The message if two ends of a mirror in S3 share objects, as far as their names show.
///
/// # Errors
/// One of the addresses is invalid.
pub(crate) async fn overlap_in_s3(one: &S3Location, other: &S3Location) -> Result<Option<String>> {
    with_aws!(aws::overlap_of_locations(one, other).await)
}

/// The service of a part of a bucket, in one spelling; `None` for Amazon's own. No request is sent.
///
/// # Errors
/// Its address is invalid, or what the environment says of S3 cannot be used.
pub(crate) async fn service_of(location: &S3Location) -> Result<Option<String>> {
    with_aws!(aws::service_of(location).await)
}

/// The pairs of stores in S3 that share objects: their indexes in the list, and a message for each. A build without S3
/// returns none: overlaps that the files themselves show are found without it.
///
/// # Errors
/// One of the addresses is invalid.
pub(crate) async fn overlaps_in_s3(specs: &[&S3Spec]) -> Result<Vec<(usize, usize, String)>> {
    #[cfg(feature = "aws")]
    return aws::overlaps(specs).await;
    #[cfg(not(feature = "aws"))]
    Ok(Vec::new())
}

/// Opens the store of policy files in a bucket.
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
