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

use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::failure_scope;
use super::file_state::FileState;
use super::in_progress::InProgress;
use super::item_path::IN_PROGRESS;
use super::item_reader::{self, refusal};
use super::mount_boundary::DirectoryFacts;
use super::properties::bare_facts;
use super::root::{RootDir, directory_in};
use super::sorted_names::{NAMES_MAX, NamePicker, NamesAfter, SortedNames};

/// How many entries a page has.
const PAGE: usize = 1000;
const DIRENTS_BYTES: usize = 128 * 1024;
/// From how many names on, over all levels, those above let go of theirs.
const NAMES_HELD_MAX: usize = 2 * NAMES_MAX;
/// How many names a level keeps then: its next pass is due only after that many directories.
const NAMES_KEPT: usize = 1024;

/// A walk that has come some way.
#[derive(Debug)]
pub(super) struct FolderWalk {
    /// The directories it is in, the outermost first.
    levels: Vec<WalkLevel>,
    /// The id of the directory it is in: empty, or with `/` at its end.
    prefix: Vec<u8>,
    /// Only items after this one are wanted.
    after: Vec<u8>,
    /// Whether the space is the root or a mount of its own, where Mill prepares its writes.
    at_root: bool,
    /// Places entered since the last page.
    places: Vec<Place>,
    /// The marks of the stores that are written from this one.
    destinations: Vec<u64>,
    /// Whether something stands under the name that is Mill's own, and is not yet told.
    reserved: bool,
    dirents: Dirents,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct WalkLevel {
    directory: OwnedFd,
    dir_facts: DirectoryFacts,
    names: SortedNames,
    /// Whether the last pass saw no name at all, wanted or not.
    empty: bool,
    /// How long the prefix is outside of it.
    outside: usize,
}

impl FolderWalk {
    /// Begins with the space in `directory` of the root.
    pub(super) fn begin(
        root: &RootDir,
        directory: &str,
        after: Option<&ContentId>,
        (clock, destinations): (Arc<dyn Clock>, Vec<u64>),
    ) -> Result<Self, FolderError> {
        item_reader::space(root, directory)?;
        let space = match root.directory(directory) {
            Err(Errno::NOENT) => return Err(StoreErrorKind::SpaceAbsent.into()),
            opened => opened.map_err(|errno| FolderError::of(FileOperation::Reach, errno))?,
        };
        let reach = |errno| FolderError::of(FileOperation::Reach, errno);
        let dir_facts = DirectoryFacts::of(&space).map_err(reach)?;
        let place = root.place_of_space(&space, &dir_facts).map_err(reach)?;
        let mut walk = Self {
            levels: Vec::new(),
            prefix: Vec::new(),
            after: after.map_or_else(Vec::new, |id| id.as_str().as_bytes().to_vec()),
            at_root: directory.is_empty() || !dir_facts.is_in_same_mount(&root.dir_facts),
            places: vec![place],
            destinations,
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
            walk.check_not_destination(found, IN_PROGRESS)?;
        }
        // Where a listing goes on it was told already.
        walk.reserved = within.is_some_and(|found| found.foreign) && after.is_none();
        walk.levels.push(WalkLevel {
            directory: space,
            dir_facts,
            names: SortedNames::default(),
            empty: true,
            outside: 0,
        });
        walk.pass(false).map_err(reach)?;
        Ok(walk)
    }

    fn take_places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.places)
    }

    /// The next entries.
    pub(super) fn page(&mut self) -> Result<ListPage, FolderError> {
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
                self.read_more(&mut entries)?;
            } else {
                self.prefix.truncate(level.outside);
                self.levels.pop();
            }
        }
        Ok(ListPage { entries, places: self.take_places(), end: false })
    }

    /// Reads more names of the innermost directory. Where that fails, what is left of it is hidden.
    fn read_more(&mut self, entries: &mut Vec<ListEntry>) -> Result<(), FolderError> {
        let Err(errno) = failure_scope::retry_transient(|| self.pass(true)) else { return Ok(()) };
        if self.levels.len() == 1 {
            return Err(self.failed(errno));
        }
        entries.push(self.unreadable_entry(errno)?);
        let outside = self.levels.pop().map_or(0, |level| level.outside);
        self.prefix.truncate(outside);
        Ok(())
    }

    /// Deals with the name just put behind the prefix, and takes it off unless the walk goes down into it.
    fn visit(&mut self, kind: FileType, outside: usize, entries: &mut Vec<ListEntry>) -> Result<(), FolderError> {
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
    /// be that of a server or disk which is away. [`find`](item_reader::find) gives an error for any item beneath one that
    /// may not be read, never an absence.
    fn enter(&mut self, outside: usize, entries: &mut Vec<ListEntry>) -> Result<bool, FolderError> {
        let Some(level) = self.levels.last() else { return Ok(false) };
        let name = &self.prefix[outside..self.prefix.len() - 1];
        // Judged once it is open: what is mounted on demand is mounted then.
        let open = || directory_in(&level.directory, name);
        let entered = failure_scope::retry_transient(open).and_then(|directory| {
            let dir_facts = DirectoryFacts::of(&directory)?;
            let crossed = !dir_facts.is_in_same_mount(&level.dir_facts);
            let identity = if crossed { Some(dir_facts.identity(&directory)?) } else { None };
            Ok((directory, dir_facts, identity))
        });
        let (directory, dir_facts, identity) = match entered {
            Ok(entered) => entered,
            Err(errno) => {
                entries.push(self.unreadable_entry(errno)?);
                return Ok(false);
            }
        };
        if name == IN_PROGRESS.as_bytes() {
            match InProgress::read(&directory) {
                Ok(found) => self.check_not_destination(&found, &escape_bytes_for_display(&self.prefix))?,
                Err(errno) => {
                    entries.push(self.unreadable_entry(errno)?);
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
        self.levels.push(WalkLevel { directory, dir_facts, names: SortedNames::default(), empty: true, outside });
        if let Err(errno) = failure_scope::retry_transient(|| self.pass(false)) {
            self.levels.pop();
            entries.push(self.unreadable_entry(errno)?);
            return Ok(false);
        }
        let Some(level) = self.levels.last() else { return Ok(false) };
        if level.empty {
            match rustix::fs::fstat(&level.directory) {
                // Removed while it was open, it looks empty.
                Ok(stat) if stat.st_nlink == 0 => entries.push(self.hidden()),
                Ok(stat) if self.prefix > self.after => entries.push(self.item(&FileState::of(&stat))),
                Ok(_) => {}
                Err(errno) => entries.push(self.unreadable_entry(errno)?),
            }
        }
        Ok(true)
    }

    /// A source in which its own destination is met would be copied into itself, round and round.
    fn check_not_destination(&self, found: &InProgress, shown: &str) -> Result<(), FolderError> {
        if !found.is_for_any(&self.destinations) {
            return Ok(());
        }
        let words = format!("its own destination lies in it: `{shown}` is where that is being written");
        Err(FolderError { source: Some(words.into()), ..StoreErrorKind::NotConfigured.into() })
    }

    /// The entry for the name just put behind the prefix, which is no directory's.
    fn file(&self, kind: FileType, outside: usize) -> Result<ListEntry, FolderError> {
        if let Some(reason) = refusal(kind).filter(|_| kind != FileType::Unknown) {
            return Ok(self.refusal(reason));
        }
        let Some(level) = self.levels.last() else { return Ok(self.hidden()) };
        let name = &self.prefix[outside..];
        let look = || rustix::fs::statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match failure_scope::retry_transient(look) {
            Ok(stat) => stat,
            // Gone meanwhile; or a directory lets its names be read and yet nothing of what they stand for.
            Err(errno) => return self.unreadable_entry(errno),
        };
        let state = FileState::of(&stat);
        match refusal(state.kind()) {
            None if state.kind() == FileType::RegularFile => Ok(self.item(&state)),
            Some(reason) if kind == FileType::Unknown => Ok(self.refusal(reason)),
            // It became something else meanwhile: what lies in it, if anything, is for the next pass.
            _ => Ok(self.hidden()),
        }
    }

    fn item(&self, state: &FileState) -> ListEntry {
        let id = std::str::from_utf8(&self.prefix).ok().and_then(|id| ContentId::new(id).ok());
        match id {
            Some(id) => ListEntry::Item(id, bare_facts(state, &*self.clock)),
            // Not reached: `refused` has looked at both rules of an id.
            None => self.refusal(RefusalReason::NotUtf8),
        }
    }

    /// Reads the innermost directory for names: its first ones, or those after the last one dealt with.
    fn pass(&mut self, again: bool) -> Result<(), Errno> {
        let Self { levels, prefix, after, at_root, dirents, .. } = self;
        let outermost = levels.len() == 1;
        let Some(WalkLevel { directory, names, empty, .. }) = levels.last_mut() else { return Ok(()) };
        let last = names.last_taken().filter(|_| again).map(<[u8]>::to_vec);
        let from = match (&last, after.strip_prefix(prefix.as_slice())) {
            (Some(last), _) => NamesAfter::Name(last),
            (None, Some(id)) if !id.is_empty() => NamesAfter::Id(id),
            _ => NamesAfter::Nothing,
        };
        let mut picker = NamePicker::begin(from, std::mem::take(names));
        *empty = true;
        let read = dirents.read(&*directory, |name, kind| {
            if !(outermost && *at_root && name == IN_PROGRESS.as_bytes()) {
                *empty = false;
                picker.see(name, kind);
            }
            true
        });
        let picked = picker.finish();
        // A pass that failed has told nothing: the names after the last one are still to come.
        *names = if read.is_ok() { picked } else { SortedNames::none_after(last) };
        read
    }

    /// The entry for a name of which nothing can be seen: refused where it may not be read, else hidden, and the listing
    /// goes on. One bad directory is no reason not to copy the others.
    ///
    /// Only while the space itself can be entered: where it cannot, nothing is known of any of its items.
    fn unreadable_entry(&self, errno: Errno) -> Result<ListEntry, FolderError> {
        let answers = |space: &WalkLevel| rustix::fs::statat(&space.directory, ".", AtFlags::empty()).is_ok();
        let opens = |space: &WalkLevel| directory_in(&space.directory, ".").is_ok();
        let error = self.failed(errno);
        match error.kind {
            // Of this process, or of all that its machine does: no directory can be had.
            StoreErrorKind::Throttled { .. } if !self.levels.first().is_some_and(opens) => Err(error),
            _ if !self.levels.first().is_some_and(answers) => Err(FolderError::of(FileOperation::Reach, errno)),
            StoreErrorKind::Refused(RefusalReason::Unreadable) => Ok(self.refusal(RefusalReason::Unreadable)),
            _ => Ok(self.hidden()),
        }
    }

    /// A directory or file of the space could not be read: the listing fails, and says at which.
    fn failed(&self, errno: Errno) -> FolderError {
        FolderError::of(FileOperation::Read, errno).about(escape_bytes_for_display(&self.prefix))
    }
}
