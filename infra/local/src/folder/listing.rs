//! The walk over a space's items in the order of their ids, a page at a time.
//!
//! What it holds is bounded however many items there are: one open directory and part of its names for each level it
//! is deep, and one page.

use std::sync::Arc;

use mill_model::ContentId;
use mill_model::ids::shown_bytes;
use mill_ports::{Clock, ListPage, Listed, Place, Refusal, StoreErrorKind};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::dirents::Dirents;
use super::faults::{During, Fault};
use super::kept::bare_facts;
use super::names::{After, NAMES_MAX, Names, Picking};
use super::place::IN_PROGRESS;
use super::reading::{self, refusal};
use super::root::{RootDir, directory_in};
use super::stamp::Stamp;

/// How many entries a page has.
const PAGE: usize = 1000;
const DIRENTS_BYTES: usize = 128 * 1024;
/// From how many names on, over all levels, those above let go of theirs.
const NAMES_HELD_MAX: usize = 2 * NAMES_MAX;
/// How many names a level keeps then: its next pass is due only after that many directories.
const NAMES_KEPT: usize = 1024;

/// A walk that has come some way.
#[derive(Debug)]
pub(super) struct Walk {
    /// The directories it is in, the outermost first.
    levels: Vec<Level>,
    /// The id of the directory it is in: empty, or with `/` at its end.
    prefix: Vec<u8>,
    /// Only items after this one are wanted.
    after: Vec<u8>,
    /// Whether the space is the root, where Mill prepares its writes.
    at_root: bool,
    /// Places entered since the last page.
    places: Vec<Place>,
    dirents: Dirents,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    names: Names,
    /// Whether the last pass saw no name at all, wanted or not.
    empty: bool,
    /// How long the prefix is outside of it.
    outside: usize,
}

impl Walk {
    /// Begins with the space in `directory` of the root.
    pub(super) fn begin(
        root: &RootDir,
        directory: &str,
        after: Option<&ContentId>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        reading::space(root, directory)?;
        let space = match root.directory(directory) {
            Err(Errno::NOENT) => return Err(StoreErrorKind::SpaceAbsent.into()),
            opened => opened.map_err(|errno| Fault::of(During::Reach, errno))?,
        };
        let mut walk = Self {
            levels: Vec::new(),
            prefix: Vec::new(),
            after: after.map_or_else(Vec::new, |id| id.as_str().as_bytes().to_vec()),
            at_root: directory.is_empty(),
            places: vec![root.place()],
            dirents: Dirents::with_buffer(DIRENTS_BYTES),
            clock,
        };
        walk.levels.push(Level { directory: space, names: Names::default(), empty: true, outside: 0 });
        walk.pass(false).map_err(|errno| Fault::of(During::Reach, errno))?;
        Ok(walk)
    }

    fn take_places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.places)
    }

    /// The next entries.
    pub(super) fn page(&mut self) -> Result<ListPage, Fault> {
        let mut entries = Vec::with_capacity(PAGE);
        while entries.len() < PAGE {
            let Some(level) = self.levels.last_mut() else {
                return Ok(ListPage { entries, places: self.take_places(), end: true });
            };
            if let Some((name, kind)) = level.names.take() {
                self.prefix.extend_from_slice(name);
                let outside = self.prefix.len() - name.len();
                self.visit(kind, outside, &mut entries)?;
            } else if level.names.more {
                self.pass(true).map_err(|errno| self.failed(errno))?;
            } else {
                self.prefix.truncate(level.outside);
                self.levels.pop();
            }
        }
        Ok(ListPage { entries, places: self.take_places(), end: false })
    }

    /// Deals with the name just put behind the prefix, and takes it off unless the walk goes down into it.
    fn visit(&mut self, kind: FileType, outside: usize, entries: &mut Vec<Listed>) -> Result<(), Fault> {
        if let Some(reason) = self.refused(kind) {
            entries.push(self.refusal(reason));
        } else if kind == FileType::Directory {
            if self.enter(outside, entries)? {
                return Ok(());
            }
        } else {
            entries.extend(self.file(outside)?);
        }
        self.prefix.truncate(outside);
        Ok(())
    }

    /// What stands behind the prefix cannot be an item.
    fn refusal(&self, reason: Refusal) -> Listed {
        Listed::Refused { shown: shown_bytes(&self.prefix), reason }
    }

    fn refused(&self, kind: FileType) -> Option<Refusal> {
        if self.prefix.len() > ContentId::BYTES_MAX {
            // Of a directory: all that lies in it would have a longer path still.
            Some(Refusal::TooLong)
        } else if std::str::from_utf8(&self.prefix).is_err() {
            Some(Refusal::NotUtf8)
        } else {
            refusal(kind)
        }
    }

    /// Goes down into the directory just put behind the prefix; `false` if it is gone or may not be read.
    ///
    /// One that may not be read is refused by its own name. It hides what lies in it, which is not to say that nothing
    /// does: [`find`](reading::find) gives an error for any item beneath it, never an absence.
    fn enter(&mut self, outside: usize, entries: &mut Vec<Listed>) -> Result<bool, Fault> {
        let Some(level) = self.levels.last() else { return Ok(false) };
        let name = &self.prefix[outside..self.prefix.len() - 1];
        let directory = match directory_in(&level.directory, name) {
            Ok(directory) => directory,
            // Gone, or something else stands there now: with the directory, its items are gone.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => {
                entries.push(self.refused_or_failed(errno)?);
                return Ok(false);
            }
        };
        let held: usize = self.levels.iter().map(|level| level.names.held()).sum();
        if held > NAMES_HELD_MAX {
            self.levels.iter_mut().for_each(|level| level.names.keep_next(NAMES_KEPT));
        }
        self.levels.push(Level { directory, names: Names::default(), empty: true, outside });
        if let Err(errno) = self.pass(false) {
            self.levels.pop();
            entries.push(self.refused_or_failed(errno)?);
            return Ok(false);
        }
        let Some(level) = self.levels.last() else { return Ok(false) };
        if level.empty && self.prefix > self.after {
            let stat = rustix::fs::fstat(&level.directory).map_err(|errno| self.failed(errno))?;
            let stamp = Stamp::of(&stat);
            // A directory that was removed while it was open looks empty, but is nothing any more.
            if stat.st_nlink > 0 {
                entries.push(self.item(&stamp));
            }
        }
        Ok(true)
    }

    /// The entry for the file just put behind the prefix; `None` if it is gone.
    fn file(&self, outside: usize) -> Result<Option<Listed>, Fault> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        match rustix::fs::statat(&level.directory, &self.prefix[outside..], AtFlags::SYMLINK_NOFOLLOW) {
            // What became something else between the directory's reading and now was not there all the while.
            Ok(stat) => {
                let stamp = Some(Stamp::of(&stat)).filter(|stamp| stamp.kind() == FileType::RegularFile);
                Ok(stamp.map(|stamp| self.item(&stamp)))
            }
            Err(Errno::NOENT) => Ok(None),
            // A directory may let its names be read and yet nothing of what they stand for.
            Err(errno) => self.refused_or_failed(errno).map(Some),
        }
    }

    fn item(&self, stamp: &Stamp) -> Listed {
        let id = std::str::from_utf8(&self.prefix).ok().and_then(|id| ContentId::new(id).ok());
        match id {
            Some(id) => Listed::Item(id, bare_facts(stamp, &*self.clock)),
            // Not reached: `refused` has looked at both rules of an id.
            None => self.refusal(Refusal::NotUtf8),
        }
    }

    /// Reads the innermost directory for names: its first ones, or those after the last one dealt with.
    fn pass(&mut self, again: bool) -> Result<(), Errno> {
        let Self { levels, prefix, after, at_root, dirents, .. } = self;
        let outermost = levels.len() == 1;
        let Some(Level { directory, names, empty, .. }) = levels.last_mut() else { return Ok(()) };
        let last = names.last_taken().filter(|_| again).map(<[u8]>::to_vec);
        let from = match (&last, after.strip_prefix(prefix.as_slice())) {
            (Some(last), _) => After::Name(last),
            (None, Some(id)) if !id.is_empty() => After::Id(id),
            _ => After::Nothing,
        };
        let mut picking = Picking::begin(from, std::mem::take(names));
        *empty = true;
        let read = dirents.read(&*directory, |name, kind| {
            if !(outermost && *at_root && name == IN_PROGRESS.as_bytes()) {
                *empty = false;
                picking.see(name, kind);
            }
            true
        });
        let picked = picking.finish();
        // A pass that failed has told nothing: the names after the last one are still to come.
        *names = if read.is_ok() { picked } else { Names::none_after(last) };
        read
    }

    /// A directory or file below the space that may not be read is named, and the listing goes on; anything else that
    /// goes wrong at it fails the listing.
    ///
    /// Only while the space itself can be entered: where it cannot, nothing is known of any of its items.
    fn refused_or_failed(&self, errno: Errno) -> Result<Listed, Fault> {
        let reachable = |space: &Level| rustix::fs::statat(&space.directory, ".", AtFlags::empty()).is_ok();
        match Fault::of(During::Read, errno).kind {
            StoreErrorKind::Refused(reason @ Refusal::Unreadable) if self.levels.first().is_some_and(reachable) => {
                Ok(self.refusal(reason))
            }
            StoreErrorKind::Refused(Refusal::Unreadable) => Err(Fault::of(During::Reach, errno)),
            _ => Err(self.failed(errno)),
        }
    }

    /// A directory or file of the space could not be read: the listing fails, and says at which.
    fn failed(&self, errno: Errno) -> Fault {
        Fault::of(During::Read, errno).about(shown_bytes(&self.prefix))
    }
}
