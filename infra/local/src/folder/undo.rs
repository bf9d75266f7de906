//! Taking names out of view again whose group could not be made durable.
//!
//! A prepared file that replaces another exchanges names with it, so that what it replaced is there until the group is
//! durable, and can come back.

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::changes::Making;
use super::faults::{During, Fault};
use super::place::Place;
use super::staging::Staged;
use super::stamp::Stamp;

/// How a file that was given its place is taken out of it again.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) place: Place,
    /// Its state there.
    pub(super) stamp: Stamp,
    pub(super) way: Way,
}

/// What is done to undo it.
#[derive(Debug)]
pub(super) enum Way {
    /// Nothing was there before: it is removed, with so many directories that had to be made for it.
    Remove { made: usize },
    /// What was there before has this name now. Once it is not needed any more it goes with this.
    Exchange(Staged),
    /// The file system could not keep what was there before, so it stays.
    None,
}

impl Making<'_> {
    /// Undoes a change, unless somebody else has changed the item since.
    ///
    /// # Errors
    /// It stays in view, and may be gone or damaged after a loss of power.
    pub(super) fn undo(&mut self, undo: &Undo) -> Result<(), Fault> {
        let write = |errno| Fault::of(During::Write, errno);
        let Undo { place, stamp, way } = undo;
        let parent = match self.root.waypoint(place.parent()) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(write(errno)),
        };
        match rustix::fs::statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Stamp::of(&stat).holds_the_same_as(stamp) => {}
            // It is not the file that was put there.
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(write(errno)),
        }
        match way {
            Way::Remove { made } => {
                rustix::fs::unlinkat(&parent, place.name(), AtFlags::empty()).map_err(write)?;
                self.unmake(place.parent(), *made);
                Ok(())
            }
            Way::Exchange(staged) => {
                let (from, name) = staged.prepared();
                rustix::fs::renameat_with(from, name, &parent, place.name(), RenameFlags::EXCHANGE).map_err(write)
            }
            Way::None => Err(Fault::unexpected("this file system could not keep what was there before")),
        }
    }
}
