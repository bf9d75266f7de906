//! Giving something another spelling of its own name, on file systems that take the two for one.
//!
//! There a new spelling cannot be written beside the old one, and to delete the old one first would be to delete the copy.

use mill_model::SpaceId;
use mill_ports::{Refusal, StoreError};
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::changes::Making;
use super::committer::{Change, Changed};
use super::faults::{During, Fault};
use super::place::split;
use super::spelling::{self, folded};
use super::{FolderStore, space_subject};

/// A name, and how it is to be spelled.
#[derive(Debug)]
pub(super) struct Respelling {
    /// The path as it is listed, relative to the root.
    from: String,
    /// The same with another spelling of its last name.
    to: String,
    /// Whether they are those of a directory.
    directory: bool,
    /// The path in the space.
    shown: String,
}

impl Making<'_> {
    /// Renames something to another spelling of its name. It stays what it is, with its bytes and its times.
    pub(super) fn respell(&mut self, respelling: &Respelling) -> Result<Changed, Fault> {
        let Respelling { from, to, directory: is_directory, shown } = respelling;
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
            return Err(Fault::refused(Refusal::Twin(shown.clone())));
        }
        let stat = rustix::fs::statat(&directory, old, AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
        let expected = if *is_directory { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(stat.st_mode) != expected {
            return Ok(Changed::WasAbsent);
        }
        self.forget_beside();
        rustix::fs::renameat_with(&directory, old, &directory, new, RenameFlags::empty()).map_err(write)?;
        self.touch(parent, 0);
        if lists(new)? { Ok(Changed::Space) } else { Err(Fault::refused(Refusal::Twin(shown.clone()))) }
    }
}

impl FolderStore {
    /// Spells the last name of `from` in a space as in `to`: that of a directory where they end in `/`, else of an item.
    pub(super) async fn respell_here(&self, space: &SpaceId, from: &str, to: &str) -> Result<bool, StoreError> {
        let done = async {
            let writer = self.writer(space).await?;
            let directory = writer.0.layout.directory(space).ok_or(mill_ports::StoreErrorKind::SpaceAbsent)?;
            let path = |path: &str| if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
            let ((from, is_directory), (to, alike)) = (ended(from), ended(to));
            if is_directory != alike {
                return Err(Fault::unexpected("an item and a directory are no two spellings of one name"));
            }
            let (shown, from, to) = (from.to_owned(), path(from), path(to));
            let change = Change::Respell(Respelling { from, to, directory: is_directory, shown });
            Ok(matches!(writer.0.committer.commit(change).await?, Changed::Space))
        };
        done.await.map_err(|fault| self.0.error("respell", &space_subject(space), fault))
    }
}

/// A path without the `/` that ends that of a directory, and whether it had one.
fn ended(path: &str) -> (&str, bool) {
    path.strip_suffix('/').map_or((path, false), |path| (path, true))
}
