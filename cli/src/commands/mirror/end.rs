//! One end of a mirror: a folder, or a part of a bucket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mill_local::folder::{Extent, Layout};
use mill_model::{NoAddress, ServiceAddress, SpaceId, StoreAddress};
use mill_ports::DeletableStore;

use crate::fleet::Remote;
use crate::misplaced::overlapping;
use crate::stores::{FolderOpener, OpenedAs};

/// A folder, or a part of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Folder(PathBuf),
    Remote(Remote),
}

/// What the command line says of an end in S3.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
}

impl Given {
    fn any(&self) -> bool {
        self.endpoint.is_some() || self.region.is_some() || self.profile.is_some()
    }

    /// The end in S3 that `path` names, if it names one.
    ///
    /// # Errors
    /// What is said of S3 is said of a folder.
    pub(super) fn remote(self, path: &Path, which: &str) -> Result<Option<Remote>, crate::Usage> {
        match path.to_str().and_then(Remote::of) {
            None if self.any() => Err(crate::Usage(format!(
                "--{which}-endpoint, --{which}-region and --{which}-profile belong to s3://…, and the {which} is a folder"
            ))),
            None => Ok(None),
            Some(remote) => {
                let Self { endpoint, region, profile } = self;
                // Before any of it is written to a file or a log.
                if let Some(Err(why)) = endpoint.as_deref().map(ServiceAddress::parse) {
                    let way_out = match why {
                        NoAddress::Credentials => format!(
                            "; give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile \
                             (--{which}-profile)"
                        ),
                        NoAddress::Form => String::new(),
                    };
                    return Err(crate::Usage(format!("--{which}-endpoint cannot be used: {why}{way_out}")));
                }
                Ok(Some(Remote { endpoint, region, profile, ..remote }))
            }
        }
    }
}

impl End {
    /// Why one cannot be a copy of the other, if it cannot.
    ///
    /// # Errors
    /// When a folder cannot be reached, or what is mounted cannot be told; when an endpoint is not the address of a service.
    pub(super) async fn overlap(&self, other: &Self) -> Result<Option<String>> {
        Ok(match (self, other) {
            (Self::Folder(a), Self::Folder(b)) => {
                let extent = |path: &Path| {
                    Extent::of(path).with_context(|| format!("it is not known what `{}` holds", path.display()))
                };
                extent(a)?.overlap(&extent(b)?).map(|overlap| overlapping(&overlap))
            }
            (Self::Remote(a), Self::Remote(b)) => a.overlap(b).await?.map(|overlap| overlapping(&overlap)),
            _ => None,
        })
    }

    /// What tells it from all others.
    pub(super) fn bytes(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        match self {
            Self::Folder(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Remote(remote) => {
                let endpoint = remote.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
                format!("s3://{}/{}{endpoint}", remote.bucket, remote.prefix).into_bytes()
            }
        }
    }

    /// Opens it as a store of one space.
    pub(super) async fn open(
        &self,
        folders: &FolderOpener,
        address: StoreAddress,
        space: &SpaceId,
    ) -> Result<(Arc<dyn DeletableStore>, OpenedAs)> {
        Ok(match self {
            Self::Folder(path) => {
                let folder = folders.open(address, path.clone(), Layout::Single(space.clone()));
                (folder.clone(), OpenedAs::Folder(folder))
            }
            Self::Remote(remote) => {
                let (store, opened) = remote.open(address, space, folders.clock.clone()).await?;
                (store, OpenedAs::Remote(opened))
            }
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}
