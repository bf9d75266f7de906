//! Undoes the changes of a group that could not be made durable.
//!
//! A prepared file that replaces another exchanges names with it, so that the replaced file exists until the group is
//! durable, and can be restored.

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::Applier;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::item_path::ItemPath;
use super::temp_files::TempFile;

/// How to undo the move of a file to its path.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) item_path: ItemPath,
    /// The file's state there.
    pub(super) state: FileState,
    pub(super) step: UndoStep,
}

/// The step that undoes a change.
#[derive(Debug)]
pub(super) enum UndoStep {
    /// The file is new: remove it, with the `made` directories that were created for it.
    Remove { made: usize },
    /// The replaced file has this temporary name now. Dropping it deletes it.
    Exchange(TempFile),
    /// The file system could not exchange names: the replaced file is gone, and the new one stays.
    None,
}

impl Applier<'_> {
    /// Undoes a change, unless somebody else has changed the item since.
    ///
    /// # Errors
    /// The new file stays, and may be missing or damaged after a loss of power.
    pub(super) fn undo(&mut self, undo: &Undo) -> Result<(), FolderError> {
        let write = |errno| FolderError::of(FileOperation::Write, errno);
        let Undo { item_path, state, step } = undo;
        let parent = match self.root.waypoint(item_path.parent()) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(write(errno)),
        };
        match rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileState::of(&stat).has_same_content_as(state) => {}
            // Somebody has replaced or removed the file since.
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(write(errno)),
        }
        match step {
            UndoStep::Remove { made } => {
                rustix::fs::unlinkat(&parent, item_path.name(), AtFlags::empty()).map_err(write)?;
                self.unmake(item_path.parent(), *made);
                Ok(())
            }
            UndoStep::Exchange(temp_file) => {
                let (from, name) = temp_file.prepared();
                rustix::fs::renameat_with(from, name, &parent, item_path.name(), RenameFlags::EXCHANGE).map_err(write)
            }
            UndoStep::None => Err(FolderError::unexpected("this file system could not keep what was there before")),
        }
    }
}
