//! Applies changes to the folder, under the root lock.
//!
//! Reading order: this file (which change is which), `put_file`, `properties`, `remove`, `directories`.

mod directories;
mod properties;
mod put_file;
mod remove;

use std::collections::BTreeSet;

use mill_model::Version;
use mill_ports::{Clock, RefusalReason, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::committer::{Change, ChangeResult};
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::flusher::Flusher;
use super::item_path::split;
use super::root::RootDir;
use super::undo::Undo;

/// Applies the changes of one group.
#[derive(Debug)]
pub(super) struct Applier<'a> {
    pub(super) root: &'a RootDir,
    clock: &'a dyn Clock,
    flusher: &'a Flusher,
    /// Whether each file and directory is flushed by itself.
    singly: bool,
    /// The directories whose names changed, if each must be flushed by itself.
    touched: BTreeSet<String>,
    /// The directory of the last file moved to its path: the next file often goes there too.
    beside: Option<(String, OwnedFd)>,
}

fn write(errno: Errno) -> FolderError {
    FolderError::of(FileOperation::Write, errno)
}

impl<'a> Applier<'a> {
    pub(super) fn new(root: &'a RootDir, clock: &'a dyn Clock, flusher: &'a Flusher) -> Self {
        let singly = flusher.singly();
        Self { root, clock, flusher, singly, touched: BTreeSet::new(), beside: None }
    }

    /// Applies a change. Returns its result, and how to undo it where that is possible.
    pub(super) fn apply(&mut self, change: Change) -> Result<(ChangeResult, Option<Undo>), FolderError> {
        let changed = match change {
            Change::PutFile(temp_file, new_path, when) => return self.put_file(temp_file, new_path, &when),
            Change::Directory(new_path, plan, when) => self.directory(&new_path, &plan, &when),
            Change::Properties(item_path, plan, when) => self.properties(&item_path, &plan, &when),
            Change::Remove(item_path, when) => self.remove(&item_path, &when),
            Change::Respell(change) => self.respell(&change),
            Change::CreateSpace(name) => self.create_space(&name),
            Change::RemoveSpace(name) => self.remove_space(&name),
        };
        changed.map(|changed| (changed, None))
    }

    /// Flushes the directories whose names changed, where each is flushed by itself.
    pub(super) fn sync_names(&mut self) -> Result<(), FolderError> {
        std::mem::take(&mut self.touched).iter().try_for_each(|path| self.flusher.sync_directory(path))
    }

    /// Closes the directory of the last file, which may have another path now.
    pub(super) fn forget_beside(&mut self) {
        self.beside = None;
    }

    /// Notes that names changed in a directory and in `levels` of those above it.
    pub(super) fn touch(&mut self, path: &str, levels: usize) {
        let mut path = path;
        for level in 0..=levels {
            if self.singly && !self.touched.contains(path) {
                self.touched.insert(path.to_owned());
            }
            if level < levels {
                path = split(path).0;
            }
        }
    }

    pub(super) fn must_be(&self, state: &FileState, version: &Version) -> Result<(), FolderError> {
        if state.version(self.clock) == *version { Ok(()) } else { Err(StoreErrorKind::Precondition.into()) }
    }
}

/// The error for something else at the path of an item to be written.
fn taken(kind: FileType) -> FolderError {
    let by = match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory that is not empty",
        FileType::Symlink => "a symbolic link",
        _ => "something that is neither file nor directory",
    };
    FolderError::refused(RefusalReason::PathConflict(by.to_owned()))
}
