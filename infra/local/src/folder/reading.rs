//! Looking at items and reading them: the blocking half of `head` and `open`.

use std::ops::Range;

use bytes::Bytes;
use mill_model::Version;
use mill_ports::{ByteRange, Presence, RefusalReason, StoreErrorKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Folder;
use super::dirents::Dirents;
use super::faults::{During, Fault};
use super::file_system;
use super::kept::Kept;
use super::place::Place;
use super::reach;
use super::room::Room;
use super::root::{RootDir, directory_in};
use super::spelling;
use super::stamp::Stamp;
use super::uncached::{ALIGNED, Way, aligned, may_be_cached};

/// Never waits for a writer of a pipe that took the file's place in this very moment, and never becomes a terminal.
const READING: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An item that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: OwnedFd,
    pub(super) stamp: Stamp,
    pub(super) kept: Kept,
}

/// Finds an item and what is known of it, without following any symbolic link.
pub(super) fn find(root: &RootDir, place: &Place) -> Result<Presence<Found>, Fault> {
    let found = reach::patiently_done(|| looked_for(root, place));
    found.map_err(|fault| reach::of_read(root, place.space(), Some(place), fault))
}

fn looked_for(root: &RootDir, place: &Place) -> Result<Presence<Found>, Fault> {
    let parent = match root.waypoint(place.parent()) {
        Ok(parent) => parent,
        Err(errno) => return missing(root, place, errno),
    };
    // Looked at before it is opened: opening a pipe or a device can have effects.
    let stat = match rustix::fs::statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => return missing(root, place, errno),
    };
    let seen = Stamp::of(&stat).kind();
    if let Some(refusal) = refusal(seen) {
        return Err(Fault::refused(refusal));
    }
    if (seen == FileType::Directory) != place.directory {
        return Ok(Presence::Absent);
    }
    // What another spelling of the name has found is another item.
    if !spelling::is_own(root, place, &parent).map_err(|errno| Fault::of(During::Read, errno))? {
        return Ok(Presence::Absent);
    }
    let opened = match seen {
        FileType::Directory => directory_in(&parent, place.name()),
        _ => rustix::fs::openat(&parent, place.name(), READING, Mode::empty()),
    };
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Presence::Absent),
        Err(errno) => return Err(Fault::of(During::Read, errno)),
    };
    let read = |errno| Fault::of(During::Read, errno);
    let stamp = Stamp::of(&rustix::fs::fstat(&file).map_err(read)?);
    if stamp.kind() != seen {
        return Err(StoreErrorKind::Changed.into());
    }
    file_system::know(&file, stamp.device);
    if seen == FileType::Directory && !Dirents::is_empty(&file).map_err(read)? {
        return Ok(Presence::Absent);
    }
    let kept = Kept::read(&file).map_err(read)?;
    Ok(Presence::Present(Found { file, stamp, kept }))
}

/// Why something of this type is no item; `None` for what may be one.
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

/// What it means that the way to an item ended in `errno`: absence only where the item's space answers.
pub(super) fn missing<T>(root: &RootDir, place: &Place, errno: Errno) -> Result<Presence<T>, Fault> {
    if !place.space().is_empty() {
        space(root, place.space())?;
    }
    match errno {
        // A name too long for the file system cannot be there either.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Ok(Presence::Absent),
        // The space itself may not be entered.
        Errno::ACCESS if place.parent() == place.space() => Err(Fault::of(During::Reach, errno)),
        _ => Err(Fault::of(During::Read, errno)),
    }
}

/// The state of a space's directory; fails where there is none. What another spelling of its name finds is another space.
pub(super) fn space(root: &RootDir, directory: &str) -> Result<Stamp, Fault> {
    let directory = if directory.is_empty() { "." } else { directory };
    match rustix::fs::statat(root, directory, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let stamp = Stamp::of(&stat);
            match stamp.kind() {
                FileType::Directory => match spelling::space_twin(root, directory) {
                    Ok(None) => Ok(stamp),
                    Ok(Some(_)) => Err(StoreErrorKind::SpaceAbsent.into()),
                    Err(errno) => Err(Fault::of(During::Reach, errno)),
                },
                // What it points at may be a space moved elsewhere: that is not to say it is gone.
                FileType::Symlink => Err(Fault::refused(RefusalReason::SymbolicLink)),
                _ => Err(StoreErrorKind::SpaceAbsent.into()),
            }
        }
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Err(StoreErrorKind::SpaceAbsent.into()),
        Err(errno) => Err(Fault::of(During::Reach, errno)),
    }
}

/// An item opened to be read, its first bytes read already.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stamp: Stamp,
    pub(super) kept: Kept,
    /// The first chunk, or why it is none.
    pub(super) first: Result<Bytes, Fault>,
    /// What comes after it, if anything.
    pub(super) rest: Option<Rest>,
}

/// What remains to be read of an item.
#[derive(Debug)]
pub(super) struct Rest {
    file: OwnedFd,
    way: Way,
    before: Stamp,
    at: u64,
    end: u64,
}

/// What is to be read of an item.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) range: Option<ByteRange>,
    /// Only in this state.
    pub(super) if_version: Option<Version>,
    /// From the disk itself: then there is no range.
    pub(super) uncached: bool,
}

/// Opens an item and reads its first chunk: all of it where it is small.
pub(super) fn open(root: &RootDir, place: &Place, wanted: &Wanted, folder: &Folder) -> Result<Presence<Opened>, Fault> {
    opened(root, place, wanted, folder).map_err(|fault| reach::of_read(root, place.space(), Some(place), fault))
}

fn opened(root: &RootDir, place: &Place, wanted: &Wanted, folder: &Folder) -> Result<Presence<Opened>, Fault> {
    let Presence::Present(found) = find(root, place)? else { return Ok(Presence::Absent) };
    let Found { file, mut stamp, kept } = found;
    let (clock, chunks) = (&*folder.clock, &folder.reading);
    if stamp.kind() == FileType::RegularFile {
        stamp = folder.mapped.flushed(root, &file, stamp, clock)?;
    }
    if wanted.if_version.as_ref().is_some_and(|wanted| *wanted != stamp.version(clock)) {
        return Err(StoreErrorKind::Changed.into());
    }
    let way = if wanted.uncached && stamp.kind() == FileType::RegularFile {
        Way::past_the_cache(&file).map_err(|errno| Fault::of(During::Read, errno))?
    } else {
        Way::Cached
    };
    let (size, range) = (stamp.content_size(), wanted.range.filter(|_| way == Way::Cached));
    let at = range.map_or(0, |range| range.offset.min(size));
    let end = range.map_or(size, |range| range.offset.saturating_add(range.length).min(size));
    let mut rest = Rest { file, way, before: stamp, at, end: end.max(at) };
    let first = rest.chunk(chunks).map_err(|fault| reach::of_read(root, place.space(), Some(place), fault));
    let rest = (first.is_ok() && rest.at < rest.end).then_some(rest);
    Ok(Presence::Present(Opened { stamp, kept, first, rest }))
}

impl Rest {
    /// Whether bytes remain.
    pub(super) fn is_over(&self) -> bool {
        self.at == self.end
    }

    /// The next bytes. The last are given only once the item is seen to be still in the state it was opened in.
    pub(super) fn chunk(&mut self, room: &Room) -> Result<Bytes, Fault> {
        let (most, permit) = room.for_chunk(self.end - self.at);
        let wanted = usize::try_from(most.min(self.end - self.at)).unwrap_or(usize::MAX);
        // One byte more than announced, to see an end that is not where it should be.
        let asked = wanted + usize::from(self.at + wanted as u64 == self.before.content_size());
        let (memory, bytes) = match (self.before.kind(), self.way) {
            (FileType::RegularFile, Way::Direct) => self.direct(asked)?,
            (FileType::RegularFile, _) => self.buffered(asked)?,
            _ => (Vec::new(), 0..0),
        };
        self.at += wanted.min(bytes.len()) as u64;
        if bytes.len() != wanted || self.at == self.end {
            self.check()?;
        }
        if bytes.len() != wanted {
            return Err(Fault::unexpected("the file ends elsewhere than its size says"));
        }
        Ok(match permit {
            Some(permit) => permit.with(memory),
            None => Bytes::from(memory),
        }
        .slice(bytes))
    }

    /// Reads so many bytes, or up to the file's end.
    fn buffered(&self, asked: usize) -> Result<(Vec<u8>, Range<usize>), Fault> {
        if self.way == Way::Evicted && may_be_cached(&self.file, self.at, asked) {
            return Err(StoreErrorKind::OnlyCached.into());
        }
        let mut bytes = Vec::with_capacity(asked);
        while bytes.len() < asked {
            let at = self.at + bytes.len() as u64;
            match reach::patiently(|| rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Fault::of(During::Read, errno)),
            }
        }
        let found = bytes.len().min(asked);
        Ok((bytes, 0..found))
    }

    /// The same past the cache: whole pages from the beginning of one, so that more than was asked for may come.
    fn direct(&mut self, asked: usize) -> Result<(Vec<u8>, Range<usize>), Fault> {
        let (mut memory, from) = aligned(asked.next_multiple_of(ALIGNED));
        let to = from + asked.next_multiple_of(ALIGNED);
        let mut found = 0;
        while found < asked {
            let at = self.at + found as u64;
            match reach::patiently(|| rustix::io::pread(&self.file, &mut memory[from + found..to], at)) {
                Ok(0) => break,
                Ok(read) => found += read,
                Err(Errno::INTR) => {}
                // Only this file's own driver knows what it takes.
                Err(Errno::INVAL) if found % ALIGNED == 0 => {
                    self.way = Way::by_eviction(&self.file).map_err(|errno| Fault::of(During::Read, errno))?;
                    return self.buffered(asked);
                }
                Err(errno) => return Err(Fault::of(During::Read, errno)),
            }
            if found % ALIGNED != 0 {
                break; // The file's end: nowhere else does a page come in part.
            }
        }
        Ok((memory, from..from + found.min(asked)))
    }

    fn check(&self) -> Result<(), Fault> {
        let now = rustix::fs::fstat(self.file.as_fd()).map_err(|errno| Fault::of(During::Read, errno))?;
        if Stamp::of(&now) == self.before { Ok(()) } else { Err(StoreErrorKind::Changed.into()) }
    }
}
