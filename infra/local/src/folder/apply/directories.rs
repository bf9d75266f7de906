//! Spaces, and the directories on the way to items: made, and removed as far as they are empty.

use mill_hooks::crash_point;
use mill_ports::{RefusalReason, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::{Applier, write};
use crate::crash_points;
use crate::folder::committer::{ChangeResult, NewPath};
use crate::folder::error::FolderError;
use crate::folder::item_path::split;
use crate::folder::{directory_modes, item_reader, spelling};

impl Applier<'_> {
    /// The parent directory of an item, and how many levels of it this created.
    pub(super) fn parent(&mut self, new_path: &NewPath) -> Result<(OwnedFd, usize), FolderError> {
        let NewPath { item_path, directory_modes } = new_path;
        if let Some((path, directory)) = self.beside.take()
            && path == item_path.parent()
        {
            return Ok((directory, 0));
        }
        match self.root.waypoint_within(item_path.parent()) {
            Ok(directory) => {
                spelling::parent_must_be_own(self.root, item_path)?;
                return Ok((directory, 0));
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(write(errno)),
        }
        item_reader::space(self.root, item_path.space())?;
        let mut made = 0;
        for (level, directory) in item_path.directories().enumerate() {
            let (above, name) = split(directory);
            let rights = directory_modes::at_creation(directory_modes.get(level).copied());
            let step =
                self.root.waypoint_within(above).and_then(|above| match rustix::fs::mkdirat(&above, name, rights) {
                    Err(Errno::EXIST) => Ok(false),
                    made => made.map(|()| true),
                });
            match step {
                Ok(true) => {
                    crash_point(crash_points::FOLDER_DIRECTORY_MADE);
                    made += 1;
                }
                Ok(false) => {}
                Err(errno) => {
                    self.unmake(above, made);
                    return Err(write(errno));
                }
            }
        }
        // If one level exists under another spelling, the levels below it were created in that one.
        let found = self.root.waypoint_within(item_path.parent()).map_err(write);
        let own = found.and_then(|directory| spelling::parent_must_be_own(self.root, item_path).map(|()| directory));
        match own {
            Ok(directory) => Ok((directory, made)),
            Err(error) => {
                self.unmake(item_path.parent(), made);
                Err(error)
            }
        }
    }

    /// Removes a directory and those above it, `levels` in all, as far as they are empty.
    pub(in crate::folder) fn unmake(&mut self, path: &str, levels: usize) {
        let mut path = path;
        for _ in 0..levels {
            let (above, name) = split(path);
            let removed =
                self.root.waypoint(above).and_then(|above| rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR));
            if removed.is_err() {
                return;
            }
            self.beside = None;
            self.touch(above, 0);
            path = above;
        }
    }

    pub(super) fn create_space(&mut self, name: &str) -> Result<ChangeResult, FolderError> {
        self.touch("", 0);
        match rustix::fs::mkdirat(self.root, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(ChangeResult::Space),
            Err(Errno::EXIST) => match item_reader::space(self.root, name) {
                Ok(_) => Ok(ChangeResult::Space),
                Err(FolderError { kind: StoreErrorKind::SpaceAbsent, .. }) => {
                    match spelling::space_twin(self.root, name).map_err(write)? {
                        Some(twin) => Err(spelling::taken_by_space(&twin)),
                        None => Err(write(Errno::NOTDIR)),
                    }
                }
                Err(error) => Err(error),
            },
            Err(errno) => Err(write(errno)),
        }
    }

    pub(super) fn remove_space(&mut self, name: &str) -> Result<ChangeResult, FolderError> {
        self.beside = None;
        self.touch("", 0);
        if spelling::space_twin(self.root, name).map_err(write)?.is_some() {
            return Ok(ChangeResult::Space);
        }
        match rustix::fs::unlinkat(self.root, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(ChangeResult::Space),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(StoreErrorKind::Precondition.into()),
            Err(Errno::BUSY) => Err(FolderError::refused(RefusalReason::UnrepresentableId(
                "something is mounted there, or it is in use".to_owned(),
            ))),
            Err(errno) => Err(write(errno)),
        }
    }
}
