//! The types of stores. Each type has its own file in the folder of this module: its members, and how it is read,
//! printed and compared. This file lists them; a new type needs an entry here and nowhere else in this room.

use std::fmt::Debug;
use std::path::Path;

use serde_json::Value;

use crate::members::PolicyMember;
use crate::object_reader::ObjectReader;

mod folder;
mod s3;

pub use self::folder::FolderSpec;
pub(crate) use self::folder::lexically_normalized;
pub use self::s3::{
    Buckets, Credentials, Dialect, RoleSpec, S3Spec, SecretReference, ServerOption, ServerOptionError, ServerTraits,
};

/// A store's type and settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder whose direct subfolders are the spaces.
    Folder(FolderSpec),
    /// S3, or a service with its protocol.
    S3(Box<S3Spec>),
}

/// All types, in the order of messages and documents.
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

    /// Whether the two share content or could: one folder is inside the other, or a bucket is among the other's. Only
    /// the text of the file decides. The caller must find out where links, relative roots and the environment's address
    /// lead.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(a), Self::Folder(b)) => a.overlaps(b),
            (Self::S3(a), Self::S3(b)) => a.overlaps(b),
            // Each type is named, so that none can be forgotten above.
            (Self::Folder(_) | Self::S3(_), _) => false,
        }
    }

    /// The folder that holds it, if it is one.
    pub fn folder_root(&self) -> Option<&Path> {
        self.spec().folder_root()
    }

    /// The name of its type in stores files.
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

    /// Its members in a stores file.
    pub(crate) fn printed(&self) -> Vec<(&'static str, Value)> {
        self.spec().printed()
    }
}

/// A type of store in stores files.
#[derive(Debug)]
pub(crate) struct StoreType {
    /// Its name in the member `type`.
    pub(crate) name: &'static str,
    /// Its members, besides those that every store has.
    pub(crate) members: &'static [PolicyMember],
    /// The members that are objects, and the members of these objects.
    pub(crate) nested: &'static [(&'static str, &'static [PolicyMember])],
    /// Reads an entry of this type. Unknown members were recorded before.
    pub(crate) read: fn(&mut ObjectReader<'_, '_>) -> Option<StoreKind>,
}

/// What every type provides for a store.
trait TypedSpec: Debug {
    /// Its name in the member `type`.
    fn type_name(&self) -> &'static str;

    /// Where its content is, for a table.
    fn content_place(&self) -> String;

    /// The same in a few words, for messages.
    fn place(&self) -> String;

    /// Its members in the order of a stores file, without those that have their default. Reading them gives an equal
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
