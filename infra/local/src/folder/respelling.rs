//! Giving something another spelling of its own name, on file systems that take the two for one.
//!
//! There a new spelling cannot be written beside the old one, and to delete the old one first would be to delete the copy.

use mill_model::SpaceId;
use mill_ports::{Refusal, StoreError};
use rustix::fs::RenameFlags;

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
    pub(super) from: String,
    /// The same with another spelling of its last name.
    pub(super) to: String,
    /// The path in the space.
    pub(super) shown: String,
}

impl Making<'_> {
    /// Renames something to another spelling of its name. It stays what it is, with its bytes and its times.
    pub(super) fn respell(&mut self, respelling: &Respelling) -> Result<Changed, Fault> {
        let Respelling { from, to, shown } = respelling;
        let write = |errno| Fault::of(During::Write, errno);
        let ((parent, old), (to_parent, new)) = (split(from), split(to));
        if parent != to_parent || folded(old) != folded(new) {
            return Err(Fault::unexpected("these are no two spellings of one name"));
        }
        let directory = self.root.waypoint_within(parent).map_err(write)?;
        // As it is listed now: somebody may have renamed it, and where both are listed they are two things.
        let listed = |name| spelling::listed_otherwise(&directory, name).map_err(write);
        if listed(new)?.is_none() {
            return Err(Fault::refused(Refusal::Twin(shown.clone())));
        }
        if listed(old)?.is_some() {
            return Ok(Changed::WasAbsent);
        }
        self.forget_beside();
        rustix::fs::renameat_with(&directory, old, &directory, new, RenameFlags::empty()).map_err(write)?;
        self.touch(parent, 0);
        match listed(new)? {
            None => Ok(Changed::Space),
            Some(_) => Err(Fault::refused(Refusal::Twin(shown.clone()))),
        }
    }
}

impl FolderStore {
    /// Spells the last name of `from` in a space as in `to`.
    pub(super) async fn respell_here(&self, space: &SpaceId, from: &str, to: &str) -> Result<bool, StoreError> {
        let done = async {
            let writer = self.writer(space).await?;
            let directory = writer.0.layout.directory(space).ok_or(mill_ports::StoreErrorKind::SpaceAbsent)?;
            let path = |path: &str| if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
            let change = Change::Respell(Respelling { from: path(from), to: path(to), shown: from.to_owned() });
            Ok(matches!(writer.0.committer.commit(change).await?, Changed::Space))
        };
        done.await.map_err(|fault| self.0.error("respell", &space_subject(space), fault))
    }
}
