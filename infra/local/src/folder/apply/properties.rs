//! Sets properties in place, also those of directories that are items.

use mill_ports::{Precondition, Presence, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::{Applier, taken, write};
use crate::folder::committer::{ChangeResult, NewPath};
use crate::folder::error::FolderError;
use crate::folder::file_state::FileState;
use crate::folder::item_path::ItemPath;
use crate::folder::item_reader::{FoundItem, find};
use crate::folder::properties::{self, PropertyPlan};
use crate::folder::root::directory_in;
use crate::folder::spelling;

impl Applier<'_> {
    /// Creates the directory at its path. A crash in between leaves it with another time, which the next
    /// comparison corrects.
    pub(super) fn directory(
        &mut self,
        new_path: &NewPath,
        plan: &PropertyPlan,
        when: &Precondition,
    ) -> Result<ChangeResult, FolderError> {
        let (parent, made) = self.parent(new_path)?;
        let item_path = &new_path.item_path;
        let fresh = match rustix::fs::mkdirat(&parent, item_path.name(), plan.directory_mode_at_creation()) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => {
                self.unmake(item_path.parent(), made);
                return Err(write(errno));
            }
        };
        if fresh && matches!(when, Precondition::VersionIs(_)) {
            let _ = rustix::fs::unlinkat(&parent, item_path.name(), AtFlags::REMOVEDIR);
            self.unmake(item_path.parent(), made);
            return Err(StoreErrorKind::Precondition.into());
        }
        self.touch(item_path.parent(), made);
        let found = match find(self.root, item_path)? {
            Presence::Present(found) => found,
            Presence::Absent => {
                let stat = rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                spelling::name_must_be_own(self.root, item_path, &parent)?;
                return match FileState::of(&stat).kind() {
                    FileType::Directory if !matches!(when, Precondition::VersionIs(_)) => {
                        self.directory_with_items(&parent, item_path, plan)
                    }
                    FileType::Directory => Err(StoreErrorKind::Precondition.into()),
                    kind => Err(taken(kind)),
                };
            }
        };
        match when {
            Precondition::Absent if !fresh => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.state, version)?,
            Precondition::Absent | Precondition::Always => {}
        }
        self.set(&found, plan)
    }

    /// Stores the properties of a directory item with that directory, which is not empty yet: what is in it has gone from the
    /// source and is deleted here next. Its mtime is not set: it is that of the last change of a name in it.
    fn directory_with_items(
        &self,
        parent: &OwnedFd,
        item_path: &ItemPath,
        plan: &PropertyPlan,
    ) -> Result<ChangeResult, FolderError> {
        let file = directory_in(parent, item_path.name()).map_err(write)?;
        let found = FoundItem::of(file).map_err(write)?;
        self.set(&found, &plan.for_directory_with_items())
    }

    /// Sets the properties in place, one after another. Each step changes the version. A crash in between leaves a
    /// version for which there is no sync proof, so the item is compared again and corrected.
    pub(super) fn properties(
        &self,
        item_path: &ItemPath,
        plan: &PropertyPlan,
        when: &Precondition,
    ) -> Result<ChangeResult, FolderError> {
        if self.root.waypoint_within(item_path.parent()).is_err_and(|errno| errno == Errno::XDEV) {
            return Err(write(Errno::XDEV));
        }
        let found = match find(self.root, item_path)? {
            Presence::Present(found) => found,
            Presence::Absent => return Err(StoreErrorKind::Precondition.into()),
        };
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&found.state, version)?,
            Precondition::Always => {}
        }
        // A snapshot, or the source itself, may be a hard link to this very file.
        if !item_path.directory && rustix::fs::fstat(&found.file).map_err(write)?.st_nlink > 1 {
            return Ok(ChangeResult::Shared(found.state.version(self.clock)));
        }
        self.set(&found, plan)
    }

    /// Sets the properties of an item. Other programs do not take the lock. Their writes change the mtime, and are seen
    /// by it until this sets the mtime. So this sets it only if it must; then the version proves nothing, and the file
    /// is read again.
    fn set(&self, found: &FoundItem, plan: &PropertyPlan) -> Result<ChangeResult, FolderError> {
        let fit = plan.apply_all_but_time(&found.file, Some(&found.state)).map_err(write)?;
        let mut now = still(found)?;
        let time = plan.time_to_set(now.modified);
        if let Some(time) = time {
            now = properties::set_time(&found.file, time).map_err(write)?;
        }
        let fit = plan.store_lost(&found.file, &now, fit).map_err(write)?;
        if self.singly {
            self.flusher.sync_file(&found.file)?;
        }
        if time.is_none() {
            let now = still(found)?;
            return Ok(ChangeResult::Item(now.version_as_written(self.clock), fit));
        }
        let now = FileState::of(&rustix::fs::fstat(&found.file).map_err(write)?);
        // A directory has no bytes that somebody could have written.
        let as_written = now.kind() == FileType::Directory;
        let version = if as_written { now.version_as_written(self.clock) } else { now.version(self.clock) };
        Ok(ChangeResult::Item(version, fit))
    }
}

/// The state of a file now. Fails if somebody has written it since it was found.
fn still(found: &FoundItem) -> Result<FileState, FolderError> {
    let now = FileState::of(&rustix::fs::fstat(&found.file).map_err(write)?);
    let still = now.kind() == FileType::Directory || now.has_same_content_as(&found.state);
    if still { Ok(now) } else { Err(StoreErrorKind::Precondition.into()) }
}
