//! Removes items.

use mill_hooks::crash_point;
use mill_ports::{Precondition, Presence, StoreErrorKind};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::{Applier, write};
use crate::crash_points;
use crate::folder::committer::ChangeResult;
use crate::folder::dirents::Dirents;
use crate::folder::error::FolderError;
use crate::folder::file_state::FileState;
use crate::folder::item_path::{ItemPath, split};
use crate::folder::item_reader::{self, absent_or_error, find};
use crate::folder::properties;
use crate::folder::root::directory_in;
use crate::folder::spelling;

impl Applier<'_> {
    pub(super) fn remove(&mut self, item_path: &ItemPath, when: &Precondition) -> Result<ChangeResult, FolderError> {
        let parent = match self.root.waypoint_within(item_path.parent()) {
            Ok(parent) => parent,
            Err(Errno::XDEV) => return Err(write(Errno::XDEV)),
            Err(errno) => return absent_or_error::<()>(self.root, item_path, errno).map(|_| ChangeResult::WasAbsent),
        };
        let state = if item_path.directory {
            match find(self.root, item_path)? {
                Presence::Present(found) => found.state,
                Presence::Absent => {
                    if matches!(when, Precondition::Always)
                        && spelling::is_own(self.root, item_path, &parent).is_ok_and(|own| own)
                    {
                        // A directory that is not empty stays, without the properties of an item.
                        let _ = directory_in(&parent, item_path.name()).and_then(properties::remove_attribute);
                    }
                    return Ok(ChangeResult::WasAbsent);
                }
            }
        } else {
            match rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileState::of(&stat),
                Err(errno) => {
                    return absent_or_error::<()>(self.root, item_path, errno).map(|_| ChangeResult::WasAbsent);
                }
            }
        };
        if let Some(refusal) = item_reader::refusal(state.kind()) {
            return Err(FolderError::refused(refusal));
        }
        if (state.kind() == FileType::Directory) != item_path.directory {
            return Ok(ChangeResult::WasAbsent);
        }
        if !spelling::is_own(self.root, item_path, &parent).map_err(write)? {
            return Ok(ChangeResult::WasAbsent);
        }
        match when {
            Precondition::Absent => return Err(StoreErrorKind::Precondition.into()),
            Precondition::VersionIs(version) => self.must_be(&state, version)?,
            Precondition::Always => {}
        }
        let how = if item_path.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&parent, item_path.name(), how) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTEMPTY) => return Ok(ChangeResult::WasAbsent),
            Err(errno) => return Err(write(errno)),
        }
        crash_point(crash_points::FOLDER_REMOVED);
        self.touch(item_path.parent(), 0);
        self.unmake_implied(item_path);
        Ok(ChangeResult::Removed)
    }

    /// Removes the directories that existed only for the removed item: if empty, they would be items. A directory with
    /// properties is an item of its own, and stays.
    fn unmake_implied(&mut self, item_path: &ItemPath) {
        let mut path = item_path.parent();
        while path.len() > item_path.space().len() {
            // A directory that may not be read is removed if it is empty.
            if let Ok(directory) = self.root.directory(path) {
                let empty = Dirents::is_empty(&directory).unwrap_or(false);
                if !empty || properties::is_marked(&directory) {
                    return;
                }
            }
            self.unmake(path, 1);
            path = split(path).0;
        }
    }
}
