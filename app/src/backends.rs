//! Which crates stand behind the engines and stores that a configuration names. Nothing else of this room asks for the feature
//! `aws`.

#![cfg_attr(not(feature = "aws"), allow(unused_variables, clippy::unused_async))] // the other build uses and awaits them

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use mill_local::folder::Layout;
use mill_model::{SpaceId, StoreAddress};
use mill_policy::{S3Spec, StoreKind};
use mill_ports::{DeletableStore, Engine, PlacedStore};

#[cfg(feature = "aws")]
use crate::aws;
use crate::config::Config;
use crate::host;
use crate::local_state;
use crate::s3_location::S3Location;
use crate::store_registry::{FolderOpener, InstallationIdentity};
use crate::wait_limit::WaitLimit;

/// A call to the fleet's crate, or the message that this build is without it.
#[cfg(feature = "aws")]
macro_rules! with_aws {
    ($call:expr) => {
        $call
    };
}

#[cfg(not(feature = "aws"))]
macro_rules! with_aws {
    ($call:expr) => {
        bail!("this mill was built without the feature `aws`: it has neither the fleet engine nor stores in S3")
    };
}

/// The engine that a configuration describes, for a process that `works` or for one that only looks.
///
/// # Errors
/// There is no such engine, or it cannot be used.
pub async fn open_engine(config: &Config, works: bool, wait_limit: &WaitLimit) -> Result<Arc<dyn Engine>> {
    Ok(match config.text("engine.type") {
        "local" => Arc::new(local_state::open(config, wait_limit).await?),
        "aws" => with_aws!(Arc::new(aws::open_engine(config, works).await?)),
        kind => bail!("setting `engine.type` = \"{kind}\": the engines are `local` and `aws`"),
    })
}

/// What an installation is known by: where its configuration and its state are, or its fleet's names.
pub(crate) fn identity(config: &Config) -> InstallationIdentity {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (host, base) = (host::name(), real(config.base()));
    if config.text("engine.type") == "aws" {
        let text = |key| config.text(key);
        let name = ["engine.prefix", "engine.region", "engine.endpoint"].map(text).join("|");
        return InstallationIdentity {
            names: vec![format!("fleet|{name}")],
            shown: format!("fleet `{}`", text("engine.prefix")),
        };
    }
    let data = real(&config.path("engine.data"));
    InstallationIdentity {
        names: vec![format!("config|{host}|{}", base.display()), format!("data|{host}|{}", data.display())],
        shown: format!("the configuration in `{}`", base.display()),
    }
}

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
        StoreKind::Folder { root } => folders.open(address, base.join(root), Layout::Spaces).into(),
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
    config: &Config,
    address: StoreAddress,
    space: &SpaceId,
) -> Result<Arc<dyn DeletableStore>> {
    with_aws!(aws::policy_store(config, address, space).await)
}

/// Makes what the engine needs and is not there. Returns what is to be said of it.
///
/// # Errors
/// Something could not be made.
pub async fn create_deployment(config: &Config) -> Result<String> {
    with_aws!(aws::create(config).await)
}

/// What of the deployment is not as the code assumes: about what, which aspect, what is assumed, what is there.
///
/// # Errors
/// A part of it could not be read.
pub async fn check_deployment(config: &Config) -> Result<Vec<[String; 4]>> {
    with_aws!(aws::check(config).await)
}
