//! Finds and reads items: the blocking half of `head` and `open`.

use std::ops::Range;

use bytes::Bytes;
use mill_model::Version;
use mill_ports::{Attachments, ByteRange, Presence, RefusalReason, StoreErrorKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FolderInner;
use super::access_list;
use super::attribute_names::AttributeNames;
use super::buffer_budget::BufferBudget;
use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::failure_scope;
use super::file_state::FileState;
use super::file_system;
use super::item_path::ItemPath;
use super::properties::StoredProperties;
use super::root::{RootDir, directory_in};
use super::spelling;
use super::uncached::{ALIGNED, ReadMode, aligned, may_be_cached};
use super::uncarried;

/// Opening never blocks on a pipe that has just replaced the file, and never acquires a terminal.
const READING: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An item that was found.
#[derive(Debug)]
pub(super) struct FoundItem {
    pub(super) file: OwnedFd,
    pub(super) state: FileState,
    pub(super) stored: StoredProperties,
    pub(super) names: AttributeNames,
    pub(super) stat: Stat,
}

impl FoundItem {
    /// Looks at an open file or directory.
    pub(super) fn of(file: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&file)?;
        let state = FileState::of(&stat);
        file_system::know(&file, state.device);
        let names = AttributeNames::of(&file)?;
        let stored = StoredProperties::read_if_listed(&file, &names, state.device)?;
        Ok(Self { file, state, stored, names, stat })
    }

    /// The state to show, with the group's own right in its mode.
    pub(super) fn shown(&self, state: FileState) -> Result<FileState, Errno> {
        access_list::with_group_right(&self.file, state, &self.names)
    }
}

/// Finds an item and its properties, without following any symbolic link.
pub(super) fn find(root: &RootDir, item_path: &ItemPath) -> Result<Presence<FoundItem>, FolderError> {
    let found = failure_scope::retry_transient_call(|| find_once(root, item_path));
    found.map_err(|error| failure_scope::scope_read_error(root, item_path.space(), Some(item_path), error))
}

fn find_once(root: &RootDir, item_path: &ItemPath) -> Result<Presence<FoundItem>, FolderError> {
    let parent = match root.waypoint(item_path.parent()) {
        Ok(parent) => parent,
        Err(errno) => return absent_or_error(root, item_path, errno),
    };
    // Checked before it is opened: opening a pipe or a device can have effects.
    let stat = match rustix::fs::statat(&parent, item_path.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => return absent_or_error(root, item_path, errno),
    };
    let seen = FileState::of(&stat).kind();
    if let Some(refusal) = refusal(seen) {
        return Err(FolderError::refused(refusal));
    }
    if (seen == FileType::Directory) != item_path.directory {
        return Ok(Presence::Absent);
    }
    // A file found by another spelling of its name is another item.
    if !spelling::is_own(root, item_path, &parent).map_err(|errno| FolderError::of(FileOperation::Read, errno))? {
        return Ok(Presence::Absent);
    }
    let opened = match seen {
        FileType::Directory => directory_in(&parent, item_path.name()),
        _ => rustix::fs::openat(&parent, item_path.name(), READING, Mode::empty()),
    };
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Presence::Absent),
        Err(errno) => return Err(FolderError::of(FileOperation::Read, errno)),
    };
    let read = |errno| FolderError::of(FileOperation::Read, errno);
    let found = FoundItem::of(file).map_err(read)?;
    if found.state.kind() != seen {
        return Err(StoreErrorKind::Changed.into());
    }
    if seen == FileType::Directory && !Dirents::is_empty(&found.file).map_err(read)? {
        return Ok(Presence::Absent);
    }
    Ok(Presence::Present(found))
}

/// Why a file of this type is no item; `None` if it may be one.
pub(super) fn refusal(kind: FileType) -> Option<RefusalReason> {
    Some(match kind {
        FileType::RegularFile | FileType::Directory => return None,
        FileType::Symlink => RefusalReason::SymbolicLink,
        FileType::Fifo => RefusalReason::SpecialFile("a pipe"),
        FileType::Socket => RefusalReason::SpecialFile("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => RefusalReason::SpecialFile("a device"),
        FileType::Unknown => RefusalReason::SpecialFile("of a type unknown to mill"),
    })
}

/// Resolves an `errno` on the path to an item. It means absence only if the item's space can be read.
pub(super) fn absent_or_error<T>(
    root: &RootDir,
    item_path: &ItemPath,
    errno: Errno,
) -> Result<Presence<T>, FolderError> {
    if !item_path.space().is_empty() {
        space(root, item_path.space())?;
    }
    match errno {
        // A name too long for the file system cannot be there either.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Ok(Presence::Absent),
        // The space itself may not be entered.
        Errno::ACCESS if item_path.parent() == item_path.space() => Err(FolderError::of(FileOperation::Reach, errno)),
        _ => Err(FolderError::of(FileOperation::Read, errno)),
    }
}

/// The state of a space's directory; an error if it is missing. A directory found by another spelling is another space.
pub(super) fn space(root: &RootDir, directory: &str) -> Result<FileState, FolderError> {
    let directory = if directory.is_empty() { "." } else { directory };
    match rustix::fs::statat(root, directory, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let state = FileState::of(&stat);
            match state.kind() {
                FileType::Directory => match spelling::space_twin(root, directory) {
                    Ok(None) => Ok(state),
                    Ok(Some(_)) => Err(StoreErrorKind::SpaceAbsent.into()),
                    Err(errno) => Err(FolderError::of(FileOperation::Reach, errno)),
                },
                // The link may point to a space that was moved: so this is no absence.
                FileType::Symlink => Err(FolderError::refused(RefusalReason::SymbolicLink)),
                _ => Err(StoreErrorKind::SpaceAbsent.into()),
            }
        }
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Err(StoreErrorKind::SpaceAbsent.into()),
        Err(errno) => Err(FolderError::of(FileOperation::Reach, errno)),
    }
}

/// An item opened for reading, with its first chunk.
#[derive(Debug)]
pub(super) struct OpenedItem {
    pub(super) state: FileState,
    pub(super) stored: StoredProperties,
    /// The first chunk, or why it could not be read.
    pub(super) first: Result<Bytes, FolderError>,
    /// The reader of the bytes after the first chunk, if there are any.
    pub(super) rest: Option<ItemReader>,
    pub(super) attachments: Attachments,
}

/// Reads the bytes of an item, chunk by chunk.
#[derive(Debug)]
pub(super) struct ItemReader {
    file: OwnedFd,
    mode: ReadMode,
    before: FileState,
    at: u64,
    end: u64,
}

/// What to read of an item.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadOptions {
    pub(super) range: Option<ByteRange>,
    /// The version that the item must have.
    pub(super) if_version: Option<Version>,
    /// Whether to read from the disk itself. Then the range is ignored.
    pub(super) uncached: bool,
}

/// Opens an item and reads its first chunk: all of it where it is small.
pub(super) fn open(
    root: &RootDir,
    item_path: &ItemPath,
    options: &ReadOptions,
    folder: &FolderInner,
) -> Result<Presence<OpenedItem>, FolderError> {
    opened(root, item_path, options, folder)
        .map_err(|error| failure_scope::scope_read_error(root, item_path.space(), Some(item_path), error))
}

fn opened(
    root: &RootDir,
    item_path: &ItemPath,
    options: &ReadOptions,
    folder: &FolderInner,
) -> Result<Presence<OpenedItem>, FolderError> {
    let Presence::Present(found) = find(root, item_path)? else { return Ok(Presence::Absent) };
    let mut state = found.state;
    let (clock, chunks) = (&*folder.clock, &folder.read_budget);
    if state.kind() == FileType::RegularFile {
        state = folder.mapped.flushed(root, &found.file, state, clock)?;
    }
    if options.if_version.as_ref().is_some_and(|wanted| *wanted != state.version(clock)) {
        return Err(StoreErrorKind::Changed.into());
    }
    let mode = if options.uncached && state.kind() == FileType::RegularFile {
        ReadMode::bypassing_cache(&found.file).map_err(|errno| FolderError::of(FileOperation::Read, errno))?
    } else {
        ReadMode::Cached
    };
    let (size, range) = (state.content_size(), options.range.filter(|_| mode == ReadMode::Cached));
    let at = range.map_or(0, |range| range.offset.min(size));
    let end = range.map_or(size, |range| range.offset.saturating_add(range.length).min(size));
    let shown = found.shown(state).map_err(|errno| FolderError::of(FileOperation::Read, errno))?;
    let uncarried = uncarried::of(&found.stat, &found.names);
    let directory_modes = folder.source_directories.modes(root, item_path, clock)?;
    let attachments = Attachments { directory_modes, uncarried, ..Attachments::default() };
    let FoundItem { file, stored, .. } = found;
    let mut rest = ItemReader { file, mode, before: state, at, end: end.max(at) };
    let first = rest
        .chunk(chunks)
        .map_err(|error| failure_scope::scope_read_error(root, item_path.space(), Some(item_path), error));
    let rest = (first.is_ok() && rest.at < rest.end).then_some(rest);
    Ok(Presence::Present(OpenedItem { state: shown, stored, first, rest, attachments }))
}

impl ItemReader {
    /// Whether all bytes are read.
    pub(super) fn is_over(&self) -> bool {
        self.at == self.end
    }

    /// The next bytes. The last ones are returned only if the item is still in the state in which it was opened.
    pub(super) fn chunk(&mut self, budget: &BufferBudget) -> Result<Bytes, FolderError> {
        let (most, permit) = budget.for_chunk(self.end - self.at);
        let wanted = usize::try_from(most.min(self.end - self.at)).unwrap_or(usize::MAX);
        // At the end one byte more than the size, to detect a file that has grown.
        let asked = wanted + usize::from(self.at + wanted as u64 == self.before.content_size());
        let (memory, bytes) = match (self.before.kind(), self.mode) {
            (FileType::RegularFile, ReadMode::Direct) => self.direct(asked)?,
            (FileType::RegularFile, _) => self.buffered(asked)?,
            _ => (Vec::new(), 0..0),
        };
        self.at += wanted.min(bytes.len()) as u64;
        if bytes.len() != wanted || self.at == self.end {
            self.check()?;
        }
        if bytes.len() != wanted {
            return Err(FolderError::unexpected("the file ends elsewhere than its size says"));
        }
        Ok(match permit {
            Some(permit) => permit.with(memory),
            None => Bytes::from(memory),
        }
        .slice(bytes))
    }

    /// Reads `asked` bytes, or up to the end of the file.
    fn buffered(&self, asked: usize) -> Result<(Vec<u8>, Range<usize>), FolderError> {
        if self.mode == ReadMode::Evicted && may_be_cached(&self.file, self.at, asked) {
            return Err(StoreErrorKind::OnlyCached.into());
        }
        let mut bytes = Vec::with_capacity(asked);
        while bytes.len() < asked {
            let at = self.at + bytes.len() as u64;
            match failure_scope::retry_transient(|| {
                rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at)
            }) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(FolderError::of(FileOperation::Read, errno)),
            }
        }
        let found = bytes.len().min(asked);
        Ok((bytes, 0..found))
    }

    /// The same past the cache. Reads whole pages, so it may read more than `asked` bytes.
    fn direct(&mut self, asked: usize) -> Result<(Vec<u8>, Range<usize>), FolderError> {
        let (mut memory, from) = aligned(asked.next_multiple_of(ALIGNED));
        let to = from + asked.next_multiple_of(ALIGNED);
        let mut found = 0;
        while found < asked {
            let at = self.at + found as u64;
            match failure_scope::retry_transient(|| rustix::io::pread(&self.file, &mut memory[from + found..to], at)) {
                Ok(0) => break,
                Ok(read) => found += read,
                Err(Errno::INTR) => {}
                // This file's driver does not support `O_DIRECT`, which it says only now.
                Err(Errno::INVAL) if found % ALIGNED == 0 => {
                    self.mode = ReadMode::evicting_cache(&self.file)
                        .map_err(|errno| FolderError::of(FileOperation::Read, errno))?;
                    return self.buffered(asked);
                }
                Err(errno) => return Err(FolderError::of(FileOperation::Read, errno)),
            }
            if found % ALIGNED != 0 {
                break; // The end of the file: only there a page is incomplete.
            }
        }
        Ok((memory, from..from + found.min(asked)))
    }

    fn check(&self) -> Result<(), FolderError> {
        let now = rustix::fs::fstat(self.file.as_fd()).map_err(|errno| FolderError::of(FileOperation::Read, errno))?;
        if FileState::of(&now) == self.before { Ok(()) } else { Err(StoreErrorKind::Changed.into()) }
    }
}
