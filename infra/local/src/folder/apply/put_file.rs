//! Moves a prepared file to its path.

use mill_hooks::crash_point;
use mill_ports::{Precondition, RefusalReason, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::{Applier, taken, write};
use crate::crash_points;
use crate::folder::committer::{ChangeResult, NewPath};
use crate::folder::error::{FileOperation, FolderError};
use crate::folder::file_state::FileState;
use crate::folder::item_path::ItemPath;
use crate::folder::properties::PropertyFit;
use crate::folder::spelling;
use crate::folder::temp_files::TempFile;
use crate::folder::undo::{Undo, UndoStep};

/// How a prepared file was moved to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RenameOutcome {
    /// There was no file.
    Fresh,
    /// The replaced file has the prepared file's name now.
    Exchanged,
    /// The replaced file, if there was one, is deleted.
    Over,
}

impl Applier<'_> {
    pub(super) fn put_file(
        &mut self,
        mut temp_file: TempFile,
        new_path: NewPath,
        when: &Precondition,
    ) -> Result<(ChangeResult, Option<Undo>), FolderError> {
        temp_file.check_not_condemned()?;
        let (parent, made) = self.parent(&new_path)?;
        let item_path = new_path.item_path;
        match self.rename(&temp_file, &parent, &item_path, when) {
            Ok(renamed) => {
                crash_point(crash_points::FOLDER_RENAMED);
                let fit = std::mem::replace(&mut temp_file.fit, PropertyFit::InFile);
                if renamed != RenameOutcome::Exchanged {
                    temp_file.placed();
                }
                self.touch(item_path.parent(), made);
                if renamed != RenameOutcome::Exchanged {
                    self.check_listed_as_given(&item_path, &parent, made)?;
                }
                let stat = rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
                let state = FileState::of(&stat);
                self.beside = Some((item_path.parent().to_owned(), parent));
                let undo = match renamed {
                    RenameOutcome::Fresh => Undo { item_path, state, step: UndoStep::Remove { made } },
                    RenameOutcome::Exchanged => Undo { item_path, state, step: UndoStep::Exchange(temp_file) },
                    RenameOutcome::Over => Undo { item_path, state, step: UndoStep::None },
                };
                Ok((ChangeResult::Item(state.version_as_written(self.clock), fit), Some(undo)))
            }
            Err(error) => {
                self.unmake(item_path.parent(), made);
                Err(error)
            }
        }
    }

    fn rename(
        &self,
        temp_file: &TempFile,
        parent: &OwnedFd,
        item_path: &ItemPath,
        when: &Precondition,
    ) -> Result<RenameOutcome, FolderError> {
        let (from, name) = temp_file.prepared();
        let rename = |flags| rustix::fs::renameat_with(from, name, parent, item_path.name(), flags);
        let write = |errno| if errno == Errno::XDEV { takes_none_from_elsewhere() } else { write(errno) };
        if !matches!(when, Precondition::VersionIs(_)) {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(RenameOutcome::Fresh),
                // The name exists, or the file system has no such rename: the lock must suffice.
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                Err(errno) => return Err(write(errno)),
            }
        }
        let found = found(parent, item_path)?;
        if found.is_some() {
            spelling::name_must_be_own(self.root, item_path, parent)?;
        }
        match (&found, when) {
            (Some(_), Precondition::Absent) | (None, Precondition::VersionIs(_)) => {
                return Err(StoreErrorKind::Precondition.into());
            }
            (Some(state), Precondition::VersionIs(version)) => self.must_be(state, version)?,
            (_, Precondition::Always) | (None, Precondition::Absent) => {}
        }
        let Some(found) = found else {
            return rename(RenameFlags::empty()).map(|()| RenameOutcome::Over).map_err(write);
        };
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return rename(RenameFlags::empty()).map(|()| RenameOutcome::Over).map_err(write);
            }
            Err(errno) => return Err(write(errno)),
        }
        // Other programs do not take the lock: the replaced file must be the one that was checked.
        match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(taken) if FileState::of(&taken).has_same_content_as(&found) => Ok(RenameOutcome::Exchanged),
            _ => {
                rename(RenameFlags::EXCHANGE).map_err(write)?;
                Err(StoreErrorKind::Precondition.into())
            }
        }
    }

    /// Removes a file again that the file system lists under another name than the given one.
    fn check_listed_as_given(
        &mut self,
        item_path: &ItemPath,
        parent: &OwnedFd,
        made: usize,
    ) -> Result<(), FolderError> {
        let Err(kept_as) = spelling::is_kept(self.root, item_path, parent).map_err(write)? else { return Ok(()) };
        rustix::fs::unlinkat(parent, item_path.name(), AtFlags::empty()).map_err(write)?;
        self.unmake(item_path.parent(), made);
        Err(FolderError::refused(RefusalReason::UnrepresentableId(format!(
            "the file system would keep it as `{kept_as}`"
        ))))
    }
}

/// The error of a rename between directories of different quotas: within one mount a file system reports `EXDEV` for
/// it.
fn takes_none_from_elsewhere() -> FolderError {
    let why = "its directory takes no file by renaming, as one does that has a quota or project of its own (`lsattr -pd` \
               shows it); give all of the folder one project, or make that directory a store of its own";
    FolderError::refused(RefusalReason::Unwritable(why.to_owned()))
}

/// The file at an item's path. Anything else there is an error, since it is no copy and must not be replaced.
fn found(parent: &OwnedFd, item_path: &ItemPath) -> Result<Option<FileState>, FolderError> {
    let stat = match rustix::fs::statat(parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(write(errno)),
    };
    let state = FileState::of(&stat);
    match state.kind() {
        FileType::RegularFile => Ok(Some(state)),
        FileType::Directory => Err(FolderError::of(FileOperation::Write, Errno::ISDIR)),
        kind => Err(taken(kind)),
    }
}
