//! One end of a mirror: a folder, or a part of a bucket.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use anyhow::{Context as _, Result, bail};
use mill_local::folder::{Extent, Layout};
use mill_model::{AddressError, ServiceAddress, SpaceId, StoreAddress};
use mill_policy::ServerOption;

use crate::placement_checks::overlapping;
use crate::s3_location::S3Location;
use crate::store_choice::{self, OpenedStore};
use crate::store_registry::FolderOpener;
use crate::wait_limit::WaitLimit;

/// A folder, or a part of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Folder(FolderPath),
    S3(S3Location),
}

/// A folder, by its path without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderPath {
    pub(crate) path: PathBuf,
    /// The path as it was typed, for messages about a folder that does not answer.
    pub(crate) typed: PathBuf,
}

/// How to reach an end in S3, if it differs from the environment.
#[derive(Debug, Clone, Default)]
pub struct EndpointOptions {
    /// The address of its service.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// A profile of the AWS configuration.
    pub profile: Option<String>,
    /// How its server differs from others.
    pub options: Vec<ServerOption>,
}

impl EndpointOptions {
    fn any(&self) -> bool {
        self.endpoint.is_some() || self.region.is_some() || self.profile.is_some() || !self.options.is_empty()
    }

    /// The end in S3 that `path` names, if it names one. No request is sent.
    ///
    /// # Errors
    /// Options for S3 are given for a folder, or what the environment says of S3 cannot be used.
    pub(crate) async fn end_in_s3(&self, path: &Path, which: &str) -> Result<Option<Endpoint>> {
        let Some(remote) = self.remote(path, which)? else { return Ok(None) };
        let service = store_choice::service_of(&remote).await?;
        Ok(Some(Endpoint::S3(S3Location { service, ..remote })))
    }

    /// The end in S3 that `path` names, if it names one.
    ///
    /// # Errors
    /// Options for S3 are given for a folder.
    fn remote(&self, path: &Path, which: &str) -> Result<Option<S3Location>, crate::UsageError> {
        match path.to_str().and_then(S3Location::of) {
            None if self.any() => Err(crate::UsageError(format!(
                "--{which}-endpoint, --{which}-region, --{which}-profile and --{which}-option belong to s3://…, and `{}` \
                 is a folder",
                path.display()
            ))),
            None => refuse_unknown_type(path).map(|()| None),
            Some(remote) => {
                let Self { endpoint, region, profile, options } = self.clone();
                // Checked before any of it is written to a file or a log.
                if let Some(Err(why)) = endpoint.as_deref().map(ServiceAddress::parse) {
                    let way_out = match why {
                        AddressError::Credentials => format!(
                            "; give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile \
                             (--{which}-profile)"
                        ),
                        AddressError::Form => String::new(),
                    };
                    return Err(crate::UsageError(format!("--{which}-endpoint cannot be used: {why}{way_out}")));
                }
                Ok(Some(S3Location { end: which.to_owned(), endpoint, region, profile, options, ..remote }))
            }
        }
    }
}

/// Refuses `x:y`, with which other programs name a store: it would be a folder of that name.
fn refuse_unknown_type(path: &Path) -> Result<(), crate::UsageError> {
    let Some((name, rest)) = path.to_str().and_then(|text| text.split_once(':')) else { return Ok(()) };
    if name.is_empty() || name.contains('/') {
        return Ok(());
    }
    let typed = path.display();
    let meant = match name {
        "s3" => format!("write `s3://{}`", rest.trim_start_matches('/')),
        _ => "mill knows folders and s3://BUCKET/PREFIX".to_owned(),
    };
    Err(crate::UsageError(format!("`{typed}` names no kind of store: {meant}; a folder of that name is `./{typed}`")))
}

impl FolderPath {
    /// The source folder.
    pub(crate) async fn source(typed: &Path, wait_limit: &WaitLimit) -> Result<Self> {
        let source = typed.to_owned();
        let look = move || {
            let found = fs::canonicalize(&source)
                .with_context(|| format!("the source folder `{}` cannot be used", source.display()))?;
            if !found.is_dir() {
                bail!("the source `{}` is not a folder", source.display());
            }
            Ok(found)
        };
        Ok(Self { path: wait_limit.look(typed, look).await?, typed: typed.to_owned() })
    }

    /// The destination folder, which need not exist yet.
    pub(crate) async fn destination(typed: &Path, wait_limit: &WaitLimit) -> Result<Self> {
        let destination = typed.to_owned();
        let path = wait_limit.look(typed, move || destination_path(&destination)).await?;
        Ok(Self { path, typed: typed.to_owned() })
    }

    /// Runs a blocking operation on the folder.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        wait_limit: &WaitLimit,
        look: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path.clone();
        wait_limit.look(&self.typed, move || look(&path)).await
    }

    async fn extent(&self, wait_limit: &WaitLimit) -> Result<Extent> {
        let extent =
            |path: &Path| Extent::of(path).with_context(|| format!("it is not known what `{}` holds", path.display()));
        self.look(wait_limit, extent).await
    }
}

fn destination_path(destination: &Path) -> Result<PathBuf> {
    match fs::canonicalize(destination) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(path) => bail!("the destination `{}` is not a folder", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(destination)?;
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                bail!("`{}` names no folder", destination.display());
            };
            let parent = fs::canonicalize(parent).with_context(|| {
                format!("the folder `{}`, in which the destination would be made, cannot be used", parent.display())
            })?;
            Ok(parent.join(name))
        }
        Err(error) => Err(error).with_context(|| format!("the destination `{}` cannot be used", destination.display())),
    }
}

impl Endpoint {
    /// An end that may be gone.
    ///
    /// # Errors
    /// Options for S3 are given for a folder, or a folder does not answer.
    pub(crate) async fn remembered(
        (path, options): (&Path, &EndpointOptions),
        which: &str,
        wait_limit: &WaitLimit,
    ) -> Result<Self> {
        Ok(match options.end_in_s3(path, which).await? {
            Some(end) => end,
            None => Self::Folder(FolderPath::remembered(path, wait_limit).await?),
        })
    }

    /// The message where its bucket is not there and is not to be made.
    pub(crate) fn no_bucket(&self) -> String {
        format!("the bucket of `{self}` is not there; check its name, or pass --create to make it")
    }

    /// Why one cannot be a copy of the other, if it cannot.
    ///
    /// # Errors
    /// A folder cannot be reached, the mounts cannot be read, or an endpoint is not the address of a service.
    pub(crate) async fn overlap(&self, other: &Self, wait_limit: &WaitLimit) -> Result<Option<String>> {
        Ok(match (self, other) {
            (Self::Folder(a), Self::Folder(b)) => {
                let (one, other) = (a.extent(wait_limit).await?, b.extent(wait_limit).await?);
                // If one of them is an overlay, its layers are compared too.
                let look = move |_: &Path| Ok(one.overlap(&other).map(|overlap| overlapping(&overlap)));
                b.look(wait_limit, look).await?
            }
            (Self::S3(a), Self::S3(b)) => store_choice::overlap_in_s3(a, b).await?.map(|overlap| overlapping(&overlap)),
            _ => None,
        })
    }

    /// Its identity as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_by(S3Location::identity)
    }

    /// The same as Mill named it before.
    pub(crate) fn typed_bytes(&self) -> Vec<u8> {
        self.bytes_by(S3Location::typed_identity)
    }

    fn bytes_by(&self, identity: impl Fn(&S3Location) -> String) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        match self {
            Self::Folder(folder) => folder.path.as_os_str().as_bytes().to_vec(),
            Self::S3(remote) => identity(remote).into_bytes(),
        }
    }

    /// Opens it as a store with one space.
    pub(crate) async fn open(
        &self,
        folders: &FolderOpener,
        address: StoreAddress,
        space: &SpaceId,
    ) -> Result<OpenedStore> {
        match self {
            Self::Folder(folder) => {
                Ok(folders.open(address, folder.path.clone(), Layout::Single(space.clone())).into())
            }
            Self::S3(remote) => store_choice::open_location(remote, (address, space), folders).await,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.path.display().fmt(f),
            Self::S3(remote) => remote.fmt(f),
        }
    }
}
