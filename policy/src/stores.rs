//! `<account>-stores.json`: what "store 1" is.
//!
//! ```json
//! { "stores": [
//!   { "id": "1", "type": "folder", "root": "/srv/archive", "primary": true, "transfersMax": 8 },
//!   { "id": "2", "type": "s3", "bucketPrefix": "archive-", "region": "eu-central-1",
//!     "credentials": { "accessKeyIdEnv": "ARCHIVE_KEY_ID", "secretAccessKeyFile": "/run/secrets/archive" } }
//! ] }
//! ```
//!
//! A secret itself never stands in it: only the name of the environment variable, or the file, that holds it.

use std::path::{Component, Path, PathBuf};

use mill_model::{ServiceAddress, SpaceId, StoreId};

use crate::json_schema::quoted;

/// Most transfers at once that a store may be set to.
pub const TRANSFERS_MAX: u32 = 1024;

/// One store of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// What policies and tasks call it.
    pub id: StoreId,
    /// What it is.
    pub kind: StoreKind,
    /// Whether it is the account's primary store; exactly one is.
    pub primary: bool,
    /// Most transfers at once; `None` for as many as the back end takes.
    pub transfers_max: Option<u32>,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder whose direct subfolders are the spaces.
    Folder {
        /// The folder, as given: a relative one is the caller's to resolve.
        root: PathBuf,
    },
    /// S3 or a store that speaks it.
    S3(Box<S3Spec>),
}

impl StoreKind {
    /// Whether the two hold, or could hold, the same content: one folder inside the other, a bucket that is among those of
    /// the other. Decided by what is written alone: what links, relative roots and the environment's address lead to is the
    /// caller's to find out.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder { root: a }, Self::Folder { root: b }) => {
                let (a, b) = (lexically_normalized(a), lexically_normalized(b));
                a.has_root() == b.has_root() && (a.starts_with(&b) || b.starts_with(&a))
            }
            (Self::S3(a), Self::S3(b)) => a.overlaps(b),
            _ => false,
        }
    }

    /// The folder that holds it, if it is one.
    pub fn folder_root(&self) -> Option<&Path> {
        match self {
            Self::Folder { root } => Some(root),
            Self::S3(_) => None,
        }
    }

    /// Its type, as a stores file names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::S3(_) => "s3",
        }
    }

    /// Where its content is, for a table.
    pub fn content_place(&self) -> String {
        match self {
            Self::Folder { root } => root.display().to_string(),
            Self::S3(s3) => format!("{:?}", s3.buckets),
        }
    }

    /// A short text for messages: the root, or the bucket.
    fn place(&self) -> String {
        match self {
            Self::Folder { root } => quoted(&root.to_string_lossy()),
            Self::S3(s3) => match &s3.buckets {
                Buckets::One(bucket) => format!("bucket {}", quoted(bucket)),
                Buckets::Prefix(prefix) => format!("buckets {}…", quoted(prefix)),
            },
        }
    }
}

/// A store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Spec {
    /// Where its spaces are.
    pub buckets: Buckets,
    /// The service's address; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// The region; `None` for the environment's.
    pub region: Option<String>,
    /// Whether the bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// Where the credentials are; `None` for those of the environment or the machine's role.
    pub credentials: Option<Credentials>,
    /// A profile of the user's AWS configuration; excludes `credentials`.
    pub profile: Option<String>,
    /// A role to take on with them.
    pub role: Option<RoleSpec>,
    /// How its server differs from Amazon's.
    pub dialect: Dialect,
}

impl S3Spec {
    /// Where the service answers, in one spelling; `None` for Amazon's own, or where the environment says.
    fn service(&self) -> Option<ServiceAddress> {
        // What is no address was refused when it was read.
        self.endpoint.as_deref().and_then(|endpoint| ServiceAddress::parse(endpoint).ok())
    }

    /// Whether the two hold, or could hold, the same objects, by what is written alone.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.service() == other.service() && self.buckets.overlaps(&other.buckets)
    }
}

/// What servers that speak S3 differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a server
pub struct Dialect {
    /// Whether it decides `If-Match` and `If-None-Match` on writes itself; where not, they are checked before each write.
    pub conditional_writes: bool,
    /// Whether it knows the checksum of the whole of an item that is written in parts, rather than of the parts alone.
    pub whole_checksums: bool,
    /// Whether it is to keep the SHA-256 of what is written, rather than a CRC-64.
    pub sha256: bool,
    /// Whether an entity tag of 32 hexadecimal digits is the MD5 of the bytes.
    pub md5_tags: bool,
    /// Whether it is to bring large items from another of its buckets by itself, and judges what it brought by the checksum
    /// of the whole that it keeps; where not, a workman reads every byte.
    pub server_side_copies: bool,
}

impl Dialect {
    /// That of Amazon's own, or of a server at an address of its own. Nothing tells whether such a one judges what it copies.
    pub fn usual(of_amazon: bool) -> Self {
        Self {
            conditional_writes: true,
            whole_checksums: true,
            sha256: false,
            md5_tags: true,
            server_side_copies: of_amazon,
        }
    }
}

/// A role to take on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// Its ARN.
    pub arn: String,
    /// The id that its owner gave to whoever takes it on, if any.
    pub external_id: Option<String>,
}

/// How spaces become buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buckets {
    /// One bucket holds all spaces.
    One(String),
    /// Each space is a bucket: this prefix and the space's id.
    Prefix(String),
}

impl Buckets {
    /// Whether a bucket is, or could be, among those of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => a == b,
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(b) || b.starts_with(a),
            (Self::One(bucket), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::One(bucket)) => {
                bucket.strip_prefix(prefix.as_str()).is_some_and(|space| SpaceId::new(space).is_ok())
            }
        }
    }
}

/// Where the credentials of a store are to be found. Never the credentials themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Where the access key's id is.
    pub access_key_id: SecretReference,
    /// Where the secret key is.
    pub secret_access_key: SecretReference,
    /// Where the session token is, if there is one.
    pub session_token: Option<SecretReference>,
}

/// Where one secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// In this environment variable.
    Env(String),
    /// In this file, as given: a relative one is the caller's to resolve.
    File(PathBuf),
}

/// A path without `.` and with `..` taken back, by its text alone.
pub(crate) fn lexically_normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => _ = out.pop(),
            Component::ParentDir if out.has_root() => {}
            other => out.push(other),
        }
    }
    out
}

/// What is said where the source and the destination of a policy lie in one another.
pub(crate) fn overlap_message(source: &StoreSpec, destination: &StoreSpec) -> String {
    format!(
        "stores `{}` ({}) and `{}` ({}) lie in one another, so that copying would go round; give them separate places",
        source.id,
        source.kind.place(),
        destination.id,
        destination.kind.place()
    )
}

#[cfg(test)]
mod tests;
