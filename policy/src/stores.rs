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

mod s3;

use std::path::{Component, Path, PathBuf};

use mill_model::StoreId;
use serde::Serialize;

use crate::diagnostic::MemberPath;
use crate::json_schema::{Members, quoted};
use crate::members::PolicyMember;
use crate::stores_file::StoresFileReader;

pub use self::s3::{Buckets, CREDENTIALS, Credentials, Dialect, RoleSpec, S3Spec, SecretReference};

/// A type of store, as a stores file names and describes it.
#[derive(Debug)]
pub(crate) struct StoreType {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its members, beside those of every store.
    pub(crate) members: &'static [PolicyMember],
    /// Reads them.
    pub(crate) read: fn(&mut StoresFileReader<'_, '_>, Members<'_>, &MemberPath<'_>) -> Option<StoreKind>,
}

/// All types. A new one is written in here and in [`StoreKind`], and nowhere else of this room.
pub(crate) const STORE_TYPES: [StoreType; 2] = [
    StoreType { name: "folder", members: FOLDER, read: |reader, members, path| reader.folder(members, path) },
    s3::TYPE,
];

/// Of a store in a folder.
const FOLDER: &[PolicyMember] = &[PolicyMember {
    name: "root",
    default: "must be given",
    about: "the folder whose direct subfolders are the spaces; a relative path begins at the folder of `mill.toml`",
    example: "\"/srv/archive\"",
    cost: "-",
}];

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
            Self::S3(_) => s3::TYPE.name,
        }
    }

    /// Its own members, as they are written.
    pub(crate) fn written(&self) -> StoreKindOut<'_> {
        match self {
            Self::Folder { root } => StoreKindOut::Folder { root: root.to_string_lossy().into_owned() },
            Self::S3(s3) => StoreKindOut::S3(Box::new(s3.written())),
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

/// The members that are a type's own, as they are written.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum StoreKindOut<'p> {
    Folder { root: String },
    S3(Box<s3::S3Out<'p>>),
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
