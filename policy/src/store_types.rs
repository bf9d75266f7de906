//! What a store may be. Each type has a file beneath this one: its members, how it is read, printed and compared. Here they are
//! listed; a new type is written in here, and nowhere else of this room.

use std::fmt::Debug;
use std::path::Path;

use serde_json::Value;

use crate::members::PolicyMember;
use crate::object_reader::ObjectReader;

mod folder;
mod s3;

pub use self::folder::FolderSpec;
pub(crate) use self::folder::lexically_normalized;
pub use self::s3::{Buckets, Credentials, Dialect, RoleSpec, S3Spec, SecretReference};

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder whose direct subfolders are the spaces.
    Folder(FolderSpec),
    /// S3 or a store that speaks it.
    S3(Box<S3Spec>),
}

/// All types, in the order in which messages and documents name them.
pub(crate) const STORE_TYPES: &[StoreType] = &[
    StoreType {
        name: folder::NAME,
        members: folder::MEMBERS,
        nested: &[],
        read: |entry| FolderSpec::read(entry).map(StoreKind::Folder),
    },
    StoreType {
        name: s3::NAME,
        members: s3::MEMBERS,
        nested: &[("credentials", s3::CREDENTIALS)],
        read: |entry| S3Spec::read(entry).map(|spec| StoreKind::S3(Box::new(spec))),
    },
];

impl StoreKind {
    fn spec(&self) -> &dyn TypedSpec {
        match self {
            Self::Folder(spec) => spec,
            Self::S3(spec) => &**spec,
        }
    }

    /// Whether the two hold, or could hold, the same content: one folder inside the other, a bucket that is among those of
    /// the other. Decided by what is written alone: what links, relative roots and the environment's address lead to is the
    /// caller's to find out.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(a), Self::Folder(b)) => a.overlaps(b),
            (Self::S3(a), Self::S3(b)) => a.overlaps(b),
            // Each type is named, so that none is forgotten above.
            (Self::Folder(_) | Self::S3(_), _) => false,
        }
    }

    /// The folder that holds it, if it is one.
    pub fn folder_root(&self) -> Option<&Path> {
        self.spec().folder_root()
    }

    /// Its type, as a stores file names it.
    pub fn type_name(&self) -> &'static str {
        self.spec().type_name()
    }

    /// Where its content is, for a table.
    pub fn content_place(&self) -> String {
        self.spec().content_place()
    }

    /// A short text for messages: the root, or the bucket.
    pub(crate) fn place(&self) -> String {
        self.spec().place()
    }

    /// Its members, as a stores file has them.
    pub(crate) fn printed(&self) -> Vec<(&'static str, Value)> {
        self.spec().printed()
    }
}

/// A type of store, as stores files have it.
#[derive(Debug)]
pub(crate) struct StoreType {
    /// Its name in the member `type`.
    pub(crate) name: &'static str,
    /// Its members, beside those of each store.
    pub(crate) members: &'static [PolicyMember],
    /// Which of them are objects, and the members of these.
    pub(crate) nested: &'static [(&'static str, &'static [PolicyMember])],
    /// Reads an entry of this type. Members that are not known were noted before.
    pub(crate) read: fn(&mut ObjectReader<'_, '_>) -> Option<StoreKind>,
}

/// What every type says of a store.
trait TypedSpec: Debug {
    /// Its name in the member `type`.
    fn type_name(&self) -> &'static str;

    /// Where its content is, for a table.
    fn content_place(&self) -> String;

    /// The same for messages, in a few words.
    fn place(&self) -> String;

    /// Its members as a stores file has them, in their order, without those that say what is usual. Read again, they give an equal
    /// spec.
    fn printed(&self) -> Vec<(&'static str, Value)>;

    /// The folder that holds it, if it is one.
    fn folder_root(&self) -> Option<&Path> {
        None
    }
}

/// The names of all types, each written by `write`: `"a", "b" or "c"`.
pub(crate) fn names_of_types(write: impl Fn(&str) -> String) -> String {
    let names: Vec<String> = STORE_TYPES.iter().map(|of| write(of.name)).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
