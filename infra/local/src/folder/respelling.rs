//! Giving something another spelling of its own name, on file systems that take the two for one.
//!
//! There a new spelling cannot be written beside the old one, and to delete the old one first would be to delete the copy.

use mill_model::{ItemAddress, SpaceId, Version};
use mill_ports::{Presence, RefusalReason, Respelling, StoreError, StoreErrorKind};
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::changes::Making;
use super::committer::{Change, Changed};
use super::faults::{During, Fault};
use super::place::{Place, split};
use super::reading::find;
use super::spelling::{self, folded};
use super::{FolderStore, space_subject};

/// A name, and how it is to be spelled.
#[derive(Debug)]
pub(super) struct Renaming {
    /// The path as it is listed, relative to the root.
    from: String,
    /// The same with another spelling of its last name.
    to: String,
    /// Whether they are those of a directory.
    directory: bool,
    /// The path in the space.
    shown: String,
    /// What was compared of it, and in which state.
    compared: (Place, Version),
}

impl Making<'_> {
    /// Renames something to another spelling of its name. It stays what it is, with its bytes and its times.
    pub(super) fn respell(&mut self, renaming: &Renaming) -> Result<Changed, Fault> {
        let Renaming { from, to, directory: is_directory, shown, compared: (compared, version) } = renaming;
        let write = |errno| Fault::of(During::Write, errno);
        let ((parent, old), (to_parent, new)) = (split(from), split(to));
        if parent != to_parent || folded(old) != folded(new) {
            return Err(Fault::unexpected("these are no two spellings of one name"));
        }
        let directory = self.root.waypoint_within(parent).map_err(write)?;
        // As it is listed now: somebody may have renamed it, and where both are listed they are two things.
        let lists = |name| match spelling::listed_otherwise(&directory, name) {
            Ok(otherwise) => Ok(otherwise.is_none()),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(write(errno)),
        };
        if !lists(old)? {
            return Ok(Changed::WasAbsent);
        }
        if lists(new)? {
            return Err(Fault::refused(RefusalReason::Twin(shown.clone())));
        }
        let stat = rustix::fs::statat(&directory, old, AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
        let expected = if *is_directory { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(stat.st_mode) != expected {
            return Ok(Changed::WasAbsent);
        }
        match find(self.root, compared)? {
            Presence::Present(found) => self.must_be(&found.stamp, version)?,
            Presence::Absent => return Err(StoreErrorKind::Precondition.into()),
        }
        self.forget_beside();
        rustix::fs::renameat_with(&directory, old, &directory, new, RenameFlags::empty()).map_err(write)?;
        self.touch(parent, 0);
        if lists(new)? { Ok(Changed::Space) } else { Err(Fault::refused(RefusalReason::Twin(shown.clone()))) }
    }
}

impl FolderStore {
    /// Spells a name in a space otherwise: that of a directory where the paths end in `/`, else of an item.
    pub(super) async fn respell_here(&self, space: &SpaceId, respelling: &Respelling) -> Result<bool, StoreError> {
        let done = async {
            let writer = self.writer(space).await?;
            let directory = writer.0.layout.directory(space).ok_or(StoreErrorKind::SpaceAbsent)?;
            let path = |path: &str| if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
            let ((from, is_directory), (to, alike)) = (ended(&respelling.from), ended(&respelling.to));
            if is_directory != alike {
                return Err(Fault::unexpected("an item and a directory are no two spellings of one name"));
            }
            let compared = ItemAddress { space: space.clone(), id: respelling.compared.clone() };
            let compared = (writer.0.place_to_write(&compared)?, respelling.version.clone());
            let (shown, from, to) = (from.to_owned(), path(from), path(to));
            let renaming = Renaming { from, to, directory: is_directory, shown, compared };
            Ok(matches!(writer.commit(Change::Respell(renaming)).await?, Changed::Space))
        };
        done.await.map_err(|fault| self.0.error("respell", &space_subject(space), fault))
    }
}

/// A path without the `/` that ends that of a directory, and whether it had one.
fn ended(path: &str) -> (&str, bool) {
    path.strip_suffix('/').map_or((path, false), |path| (path, true))
}
