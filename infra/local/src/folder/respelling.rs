//! Changes the spelling of a name on file systems that fold names.
//!
//! There a file with the new spelling cannot be written beside the old one, and deleting the old one first would delete
//! the copy.

use mill_model::{ItemAddress, SpaceId, Version};
use mill_ports::{Presence, RefusalReason, Respelling, StoreError, StoreErrorKind};
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::apply::Applier;
use super::committer::{Change, ChangeResult};
use super::error::{FileOperation, FolderError};
use super::item_path::{ItemPath, split};
use super::item_reader::find;
use super::spelling::{self, fold_name};
use super::{FolderStore, space_subject};

/// A name, and its new spelling.
#[derive(Debug)]
pub(super) struct SpellingChange {
    /// The path as it is listed, relative to the root.
    from: String,
    /// The same path with another spelling of its last name.
    to: String,
    /// Whether the paths are those of a directory.
    directory: bool,
    /// The path in the space.
    shown: String,
    /// The item that was compared, and its version then.
    compared: (ItemPath, Version),
}

impl Applier<'_> {
    /// Renames a file or directory to another spelling of its name. Its bytes and times stay.
    pub(super) fn respell(&mut self, change: &SpellingChange) -> Result<ChangeResult, FolderError> {
        let SpellingChange { from, to, directory: is_directory, shown, compared: (compared, version) } = change;
        let write = |errno| FolderError::of(FileOperation::Write, errno);
        let ((parent, old), (to_parent, new)) = (split(from), split(to));
        if parent != to_parent || fold_name(old) != fold_name(new) {
            return Err(FolderError::unexpected("these are no two spellings of one name"));
        }
        let directory = self.root.waypoint_within(parent).map_err(write)?;
        // The directory must list the old name now, as somebody may have renamed it. If it lists both, they are two
        // files.
        let lists = |name| match spelling::listed_otherwise(&directory, name) {
            Ok(otherwise) => Ok(otherwise.is_none()),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(write(errno)),
        };
        if !lists(old)? {
            return Ok(ChangeResult::WasAbsent);
        }
        if lists(new)? {
            return Err(FolderError::refused(RefusalReason::Twin(shown.clone())));
        }
        let stat = rustix::fs::statat(&directory, old, AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
        let expected = if *is_directory { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(stat.st_mode) != expected {
            return Ok(ChangeResult::WasAbsent);
        }
        match find(self.root, compared)? {
            Presence::Present(found) => self.must_be(&found.state, version)?,
            Presence::Absent => return Err(StoreErrorKind::Precondition.into()),
        }
        self.forget_beside();
        rustix::fs::renameat_with(&directory, old, &directory, new, RenameFlags::empty()).map_err(write)?;
        self.touch(parent, 0);
        if lists(new)? {
            Ok(ChangeResult::Space)
        } else {
            Err(FolderError::refused(RefusalReason::Twin(shown.clone())))
        }
    }
}

impl FolderStore {
    /// Changes the spelling of a name in a space: that of a directory if the paths end in `/`, else of an item.
    pub(super) async fn respell_here(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let done = async {
            let writer = self.writer(space).await?;
            let directory = writer.0.layout.directory(space).ok_or(StoreErrorKind::SpaceAbsent)?;
            let path = |path: &str| if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
            let ((from, is_directory), (to, alike)) =
                (split_directory_slash(&respelling.from), split_directory_slash(&respelling.to));
            if is_directory != alike {
                return Err(FolderError::unexpected("an item and a directory are no two spellings of one name"));
            }
            let compared = ItemAddress { space: space.clone(), id: respelling.compared.clone() };
            let compared = (writer.0.item_path_to_write(&compared)?, respelling.version.clone());
            let (shown, from, to) = (from.to_owned(), path(from), path(to));
            let change = SpellingChange { from, to, directory: is_directory, shown, compared };
            Ok(matches!(writer.commit(Change::Respell(change)).await?, ChangeResult::Space))
        };
        done.await.map_err(|error| self.0.error("respell", &space_subject(space), error))
    }
}

/// A path without the `/` at the end of a directory's path, and whether it had one.
fn split_directory_slash(path: &str) -> (&str, bool) {
    path.strip_suffix('/').map_or((path, false), |path| (path, true))
}
