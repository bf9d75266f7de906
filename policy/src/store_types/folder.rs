//! A store in a folder.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::TypedSpec;
use crate::json_schema::quoted;
use crate::members::PolicyMember;
use crate::object_reader::ObjectReader;

/// Its name in the member `type`.
pub(super) const NAME: &str = "folder";

/// Its members.
pub(super) const MEMBERS: &[PolicyMember] = &[PolicyMember {
    name: "root",
    default: "must be given",
    about: "the folder whose direct subfolders are the spaces; a relative path begins at the folder of `mill.toml`",
    example: "\"/srv/archive\"",
    cost: "-",
}];

/// A folder whose direct subfolders are the spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSpec {
    /// The folder as given; the caller resolves a relative one.
    pub root: PathBuf,
}

impl FolderSpec {
    pub(super) fn read(entry: &mut ObjectReader<'_, '_>) -> Option<Self> {
        Some(Self { root: entry.required_path("root", "the path of a folder")? })
    }

    /// Whether one is inside the other, by the text alone.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (lexically_normalized(&self.root), lexically_normalized(&other.root));
        a.has_root() == b.has_root() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

impl TypedSpec for FolderSpec {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn content_place(&self) -> String {
        self.root.display().to_string()
    }

    fn place(&self) -> String {
        quoted(&self.root.to_string_lossy())
    }

    fn printed(&self) -> Vec<(&'static str, Value)> {
        vec![("root", self.root.to_string_lossy().into())]
    }

    fn folder_root(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

/// A path without `.` and with `..` resolved, by its text alone.
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

#[cfg(test)]
mod tests;
