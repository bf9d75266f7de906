//! Taking names out of view again whose group could not be made durable.
//!
//! A prepared file that replaces another exchanges names with it, so that what it replaced is there until the group is
//! durable, and can come back.

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::Applier;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::item_path::ItemPath;
use super::temp_files::TempFile;

/// How a file that was given its place is taken out of it again.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) item_path: ItemPath,
    /// Its state there.
    pub(super) state: FileState,
    pub(super) step: UndoStep,
}

/// What is done to undo it.
#[derive(Debug)]
pub(super) enum UndoStep {
    /// Nothing was there before: it is removed, with so many directories that had to be made for it.
    Remove { made: usize },
    /// What was there before has this name now. Once it is not needed any more it goes with this.
    Exchange(TempFile),
    /// The file system could not keep what was there before, so it stays.
    None,
}

impl Applier<'_> {
    /// Undoes a change, unless somebody else has changed the item since.
    ///
    /// # Errors
    /// It stays in view, and may be gone or damaged after a loss of power.
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
            // It is not the file that was put there.
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
