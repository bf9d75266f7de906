//! Lists a space's items in the order of their ids, a page at a time.
//!
//! Its memory is bounded however many items there are: one open directory and part of its names for each level of
//! depth, and one page.

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
/// With more names than this over all levels, the outer levels drop most of theirs.
const NAMES_HELD_MAX: usize = 2 * NAMES_MAX;
/// How many names a level keeps then: it must read its directory again only after that many names.
const NAMES_KEPT: usize = 1024;

/// A walk over a space, and its position.
#[derive(Debug)]
pub(super) struct FolderWalk {
    /// The open directories, the outermost first.
    levels: Vec<WalkLevel>,
    /// The id of the current directory: empty, or with `/` at its end.
    prefix: Vec<u8>,
    /// Only items after this one are wanted.
    after: Vec<u8>,
    /// Whether the space is the root or a mount of its own, where Mill prepares its writes.
    at_root: bool,
    /// Places entered since the last page.
    places: Vec<Place>,
    /// The marks of the stores that are written from this one.
    destinations: Vec<u64>,
    /// Whether a foreign entry has the name that is Mill's own, and is not yet reported.
    reserved: bool,
    dirents: Dirents,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct WalkLevel {
    directory: OwnedFd,
    dir_facts: DirectoryFacts,
    names: SortedNames,
    /// Whether the last pass saw no name at all.
    empty: bool,
    /// The length of the prefix without this directory.
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
        // If the directory may not be read, it is that of another user's Mill, or contains somebody's files.
        let look = |directory: BorrowedFd<'_>| {
            InProgress::in_directory(directory).unwrap_or_else(|_| Some(InProgress::foreign()))
        };
        let (beside, within) = (look(root.as_fd()), if walk.at_root { look(space.as_fd()) } else { None });
        for found in beside.iter().chain(&within) {
            walk.check_not_destination(found, IN_PROGRESS)?;
        }
        // A listing that continues has reported it already.
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

    /// Reads more names of the innermost directory. If that fails, the rest of the directory is reported as hidden.
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

    /// Handles the name just appended to the prefix, and removes it again unless the walk enters it.
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

    /// The entry for a prefix that cannot be an item.
    fn refusal(&self, reason: RefusalReason) -> ListEntry {
        ListEntry::Refused { shown: escape_bytes_for_display(&self.prefix), reason }
    }

    /// The entry for a prefix of which only the name is known.
    fn hidden(&self) -> ListEntry {
        ListEntry::Hidden { shown: escape_bytes_for_display(&self.prefix) }
    }

    fn refused(&self) -> Option<RefusalReason> {
        if self.prefix.len() > ContentId::BYTES_MAX {
            // Everything in a directory has a still longer path.
            Some(RefusalReason::TooLong)
        } else {
            std::str::from_utf8(&self.prefix).is_err().then_some(RefusalReason::NotUtf8)
        }
    }

    /// Enters the directory just appended to the prefix. Returns `false` if it cannot be entered.
    ///
    /// The items in a directory that cannot be entered are not known to be gone: it may belong to a server or disk that
    /// is away. [`find`](item_reader::find) returns an error for any item beneath such a directory, never an absence.
    fn enter(&mut self, outside: usize, entries: &mut Vec<ListEntry>) -> Result<bool, FolderError> {
        let Some(level) = self.levels.last() else { return Ok(false) };
        let name = &self.prefix[outside..self.prefix.len() - 1];
        // Checked once it is open: opening it has mounted what is mounted on demand.
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
                // A directory that was removed while it was open looks empty.
                Ok(stat) if stat.st_nlink == 0 => entries.push(self.hidden()),
                Ok(stat) if self.prefix > self.after => entries.push(self.item(&FileState::of(&stat))),
                Ok(_) => {}
                Err(errno) => entries.push(self.unreadable_entry(errno)?),
            }
        }
        Ok(true)
    }

    /// Fails if the walk meets the source's own destination: the source would be copied into itself without end.
    fn check_not_destination(&self, found: &InProgress, shown: &str) -> Result<(), FolderError> {
        if !found.is_for_any(&self.destinations) {
            return Ok(());
        }
        let words = format!("its own destination lies in it: `{shown}` is where that is being written");
        Err(FolderError { source: Some(words.into()), ..StoreErrorKind::NotConfigured.into() })
    }

    /// The entry for the name just appended to the prefix, which is not a directory.
    fn file(&self, kind: FileType, outside: usize) -> Result<ListEntry, FolderError> {
        if let Some(reason) = refusal(kind).filter(|_| kind != FileType::Unknown) {
            return Ok(self.refusal(reason));
        }
        let Some(level) = self.levels.last() else { return Ok(self.hidden()) };
        let name = &self.prefix[outside..];
        let look = || rustix::fs::statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match failure_scope::retry_transient(look) {
            Ok(stat) => stat,
            // The file is gone, or the directory may be listed but not searched.
            Err(errno) => return self.unreadable_entry(errno),
        };
        let state = FileState::of(&stat);
        match refusal(state.kind()) {
            None if state.kind() == FileType::RegularFile => Ok(self.item(&state)),
            Some(reason) if kind == FileType::Unknown => Ok(self.refusal(reason)),
            // It has become a directory meanwhile: its items are for the next listing.
            _ => Ok(self.hidden()),
        }
    }

    fn item(&self, state: &FileState) -> ListEntry {
        let id = std::str::from_utf8(&self.prefix).ok().and_then(|id| ContentId::new(id).ok());
        match id {
            Some(id) => ListEntry::Item(id, bare_facts(state, &*self.clock)),
            // Never reached: `refused` has checked both rules of an id.
            None => self.refusal(RefusalReason::NotUtf8),
        }
    }

    /// Reads the innermost directory for names: its first ones, or those after the last one handled.
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
        let in_order = picker.finish();
        // A pass that failed has no result: the names after the last one are still to come.
        *names = if read.is_ok() { in_order } else { SortedNames::none_after(last) };
        read
    }

    /// The entry for a name that cannot be examined: refused if reading is not permitted, else hidden. The listing goes
    /// on: one bad directory must not stop the copies of the others.
    ///
    /// Fails if the space itself cannot be entered: then nothing is known of any of its items.
    fn unreadable_entry(&self, errno: Errno) -> Result<ListEntry, FolderError> {
        let answers = |space: &WalkLevel| rustix::fs::statat(&space.directory, ".", AtFlags::empty()).is_ok();
        let opens = |space: &WalkLevel| directory_in(&space.directory, ".").is_ok();
        let error = self.failed(errno);
        match error.kind {
            // The process or the machine is exhausted: no directory can be opened.
            StoreErrorKind::Throttled { .. } if !self.levels.first().is_some_and(opens) => Err(error),
            _ if !self.levels.first().is_some_and(answers) => Err(FolderError::of(FileOperation::Reach, errno)),
            StoreErrorKind::Refused(RefusalReason::Unreadable) => Ok(self.refusal(RefusalReason::Unreadable)),
            _ => Ok(self.hidden()),
        }
    }

    /// The error of a listing, which names the directory or file that could not be read.
    fn failed(&self, errno: Errno) -> FolderError {
        FolderError::of(FileOperation::Read, errno).about(escape_bytes_for_display(&self.prefix))
    }
}
