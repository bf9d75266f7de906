//! The walk over a space's items in the order of their ids, a page at a time.
//!
//! What it holds is bounded however many items there are: one open directory and part of its names for each level it
//! is deep, and one page.

use std::sync::Arc;

use mill_model::ContentId;
use mill_model::ids::escape_bytes_for_display;
use mill_ports::{Clock, ListEntry, ListPage, Place, RefusalReason, StoreErrorKind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::boundary::Standing;
use super::dirents::Dirents;
use super::faults::{During, Fault};
use super::in_progress::InProgress;
use super::kept::bare_facts;
use super::names::{After, NAMES_MAX, Names, Picking};
use super::place::IN_PROGRESS;
use super::reach;
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
    /// Whether the space is the root or a mount of its own, where Mill prepares its writes.
    at_root: bool,
    /// Places entered since the last page.
    places: Vec<Place>,
    /// The marks of the stores that are written from this one.
    fed: Vec<u64>,
    /// Whether something stands under the name that is Mill's own, and is not yet told.
    reserved: bool,
    dirents: Dirents,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    standing: Standing,
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
        (clock, fed): (Arc<dyn Clock>, Vec<u64>),
    ) -> Result<Self, Fault> {
        reading::space(root, directory)?;
        let space = match root.directory(directory) {
            Err(Errno::NOENT) => return Err(StoreErrorKind::SpaceAbsent.into()),
            opened => opened.map_err(|errno| Fault::of(During::Reach, errno))?,
        };
        let reach = |errno| Fault::of(During::Reach, errno);
        let standing = Standing::of(&space).map_err(reach)?;
        let place = root.place_of_space(&space, &standing).map_err(reach)?;
        let mut walk = Self {
            levels: Vec::new(),
            prefix: Vec::new(),
            after: after.map_or_else(Vec::new, |id| id.as_str().as_bytes().to_vec()),
            at_root: directory.is_empty() || !standing.is_beside(&root.standing),
            places: vec![place],
            fed,
            reserved: false,
            dirents: Dirents::with_buffer(DIRENTS_BYTES),
            clock,
        };
        // Where it may not be read, another user's Mill is at work, or somebody's files are there.
        let look = |directory: BorrowedFd<'_>| {
            InProgress::in_directory(directory).unwrap_or_else(|_| Some(InProgress::foreign()))
        };
        let (beside, within) = (look(root.as_fd()), if walk.at_root { look(space.as_fd()) } else { None });
        for found in beside.iter().chain(&within) {
            walk.must_not_meet(found, IN_PROGRESS)?;
        }
        // Where a listing goes on it was told already.
        walk.reserved = within.is_some_and(|found| found.foreign) && after.is_none();
        walk.levels.push(Level { directory: space, standing, names: Names::default(), empty: true, outside: 0 });
        walk.pass(false).map_err(reach)?;
        Ok(walk)
    }

    fn take_places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.places)
    }

    /// The next entries.
    pub(super) fn page(&mut self) -> Result<ListPage, Fault> {
        let mut entries = Vec::with_capacity(PAGE);
        if std::mem::take(&mut self.reserved) {
            entries.push(ListEntry::Refused { shown: format!("{IN_PROGRESS}/"), reason: RefusalReason::Reserved });
        }
        while entries.len() < PAGE {
            let Some(level) = self.levels.last_mut() else {
                return Ok(ListPage { entries, places: self.take_places(), end: true });
            };
            if let Some((name, kind)) = level.names.take() {
                self.prefix.extend_from_slice(name);
                let outside = self.prefix.len() - name.len();
                self.visit(kind, outside, &mut entries)?;
            } else if level.names.more {
                self.go_on(&mut entries)?;
            } else {
                self.prefix.truncate(level.outside);
                self.levels.pop();
            }
        }
        Ok(ListPage { entries, places: self.take_places(), end: false })
    }

    /// Reads more names of the innermost directory. Where that fails, what is left of it is hidden.
    fn go_on(&mut self, entries: &mut Vec<ListEntry>) -> Result<(), Fault> {
        let Err(errno) = reach::patiently(|| self.pass(true)) else { return Ok(()) };
        if self.levels.len() == 1 {
            return Err(self.failed(errno));
        }
        entries.push(self.unseen(errno)?);
        let outside = self.levels.pop().map_or(0, |level| level.outside);
        self.prefix.truncate(outside);
        Ok(())
    }

    /// Deals with the name just put behind the prefix, and takes it off unless the walk goes down into it.
    fn visit(&mut self, kind: FileType, outside: usize, entries: &mut Vec<ListEntry>) -> Result<(), Fault> {
        if let Some(reason) = self.refused() {
            entries.push(self.refusal(reason));
        } else if kind == FileType::Directory {
            if self.enter(outside, entries)? {
                return Ok(());
            }
        } else {
            entries.push(self.file(kind, outside)?);
        }
        self.prefix.truncate(outside);
        Ok(())
    }

    /// What stands behind the prefix cannot be an item.
    fn refusal(&self, reason: RefusalReason) -> ListEntry {
        ListEntry::Refused { shown: escape_bytes_for_display(&self.prefix), reason }
    }

    /// What stands behind the prefix is named by its directory, and nothing more is known of it.
    fn hidden(&self) -> ListEntry {
        ListEntry::Hidden { shown: escape_bytes_for_display(&self.prefix) }
    }

    fn refused(&self) -> Option<RefusalReason> {
        if self.prefix.len() > ContentId::BYTES_MAX {
            // Of a directory: all that lies in it would have a longer path still.
            Some(RefusalReason::TooLong)
        } else {
            std::str::from_utf8(&self.prefix).is_err().then_some(RefusalReason::NotUtf8)
        }
    }

    /// Goes down into the directory just put behind the prefix; `false` if it cannot be entered.
    ///
    /// What lies in one that was named and cannot be entered, for whatever reason, is not known to be gone: the name may
    /// be that of a server or disk which is away. [`find`](reading::find) gives an error for any item beneath one that
    /// may not be read, never an absence.
    fn enter(&mut self, outside: usize, entries: &mut Vec<ListEntry>) -> Result<bool, Fault> {
        let Some(level) = self.levels.last() else { return Ok(false) };
        let name = &self.prefix[outside..self.prefix.len() - 1];
        // Judged once it is open: what is mounted on demand is mounted then.
        let open = || directory_in(&level.directory, name);
        let entered = reach::patiently(open).and_then(|directory| {
            let standing = Standing::of(&directory)?;
            let crossed = !standing.is_beside(&level.standing);
            let identity = if crossed { Some(standing.identity(&directory)?) } else { None };
            Ok((directory, standing, identity))
        });
        let (directory, standing, identity) = match entered {
            Ok(entered) => entered,
            Err(errno) => {
                entries.push(self.unseen(errno)?);
                return Ok(false);
            }
        };
        if name == IN_PROGRESS.as_bytes() {
            match InProgress::read(&directory) {
                Ok(found) => self.must_not_meet(&found, &escape_bytes_for_display(&self.prefix))?,
                Err(errno) => {
                    entries.push(self.unseen(errno)?);
                    return Ok(false);
                }
            }
        }
        let path = || String::from_utf8_lossy(&self.prefix).into_owned();
        self.places.extend(identity.map(|identity| Place { path: path(), identity }));
        let held: usize = self.levels.iter().map(|level| level.names.held()).sum();
        if held > NAMES_HELD_MAX {
            self.levels.iter_mut().for_each(|level| level.names.keep_next(NAMES_KEPT));
        }
        self.levels.push(Level { directory, standing, names: Names::default(), empty: true, outside });
        if let Err(errno) = reach::patiently(|| self.pass(false)) {
            self.levels.pop();
            entries.push(self.unseen(errno)?);
            return Ok(false);
        }
        let Some(level) = self.levels.last() else { return Ok(false) };
        if level.empty {
            match rustix::fs::fstat(&level.directory) {
                // Removed while it was open, it looks empty.
                Ok(stat) if stat.st_nlink == 0 => entries.push(self.hidden()),
                Ok(stat) if self.prefix > self.after => entries.push(self.item(&Stamp::of(&stat))),
                Ok(_) => {}
                Err(errno) => entries.push(self.unseen(errno)?),
            }
        }
        Ok(true)
    }

    /// A source in which its own destination is met would be copied into itself, round and round.
    fn must_not_meet(&self, found: &InProgress, shown: &str) -> Result<(), Fault> {
        if !found.is_for_any(&self.fed) {
            return Ok(());
        }
        let words = format!("its own destination lies in it: `{shown}` is where that is being written");
        Err(Fault { source: Some(words.into()), ..StoreErrorKind::NotConfigured.into() })
    }

    /// The entry for the name just put behind the prefix, which is no directory's.
    fn file(&self, kind: FileType, outside: usize) -> Result<ListEntry, Fault> {
        if let Some(reason) = refusal(kind).filter(|_| kind != FileType::Unknown) {
            return Ok(self.refusal(reason));
        }
        let Some(level) = self.levels.last() else { return Ok(self.hidden()) };
        let name = &self.prefix[outside..];
        let look = || rustix::fs::statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match reach::patiently(look) {
            Ok(stat) => stat,
            // Gone meanwhile; or a directory lets its names be read and yet nothing of what they stand for.
            Err(errno) => return self.unseen(errno),
        };
        let stamp = Stamp::of(&stat);
        match refusal(stamp.kind()) {
            None if stamp.kind() == FileType::RegularFile => Ok(self.item(&stamp)),
            Some(reason) if kind == FileType::Unknown => Ok(self.refusal(reason)),
            // It became something else meanwhile: what lies in it, if anything, is for the next pass.
            _ => Ok(self.hidden()),
        }
    }

    fn item(&self, stamp: &Stamp) -> ListEntry {
        let id = std::str::from_utf8(&self.prefix).ok().and_then(|id| ContentId::new(id).ok());
        match id {
            Some(id) => ListEntry::Item(id, bare_facts(stamp, &*self.clock)),
            // Not reached: `refused` has looked at both rules of an id.
            None => self.refusal(RefusalReason::NotUtf8),
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

    /// The entry for a name of which nothing can be seen: refused where it may not be read, else hidden, and the listing
    /// goes on. One bad directory is no reason not to copy the others.
    ///
    /// Only while the space itself can be entered: where it cannot, nothing is known of any of its items.
    fn unseen(&self, errno: Errno) -> Result<ListEntry, Fault> {
        let answers = |space: &Level| rustix::fs::statat(&space.directory, ".", AtFlags::empty()).is_ok();
        let opens = |space: &Level| directory_in(&space.directory, ".").is_ok();
        let fault = self.failed(errno);
        match fault.kind {
            // Of this process, or of all that its machine does: no directory can be had.
            StoreErrorKind::Throttled { .. } if !self.levels.first().is_some_and(opens) => Err(fault),
            _ if !self.levels.first().is_some_and(answers) => Err(Fault::of(During::Reach, errno)),
            StoreErrorKind::Refused(RefusalReason::Unreadable) => Ok(self.refusal(RefusalReason::Unreadable)),
            _ => Ok(self.hidden()),
        }
    }

    /// A directory or file of the space could not be read: the listing fails, and says at which.
    fn failed(&self, errno: Errno) -> Fault {
        Fault::of(During::Read, errno).about(escape_bytes_for_display(&self.prefix))
    }
}
