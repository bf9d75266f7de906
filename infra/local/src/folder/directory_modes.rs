//! The rights of the directories on the way to an item: those that a source has, and those with which a copy's are made.
//!
//! What lies in a directory that others may not enter must not become reachable in the copy. So a directory that Mill makes on
//! the way to an item grants others no more than that of the source; its owner may always write in it, as Mill must.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use mill_model::Monotonic;
use mill_ports::{Clock, StoreErrorKind};
use parking_lot::Mutex;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::access_list;
use super::attribute_names::AttributeNames;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::item_path::ItemPath;
use super::root::RootDir;

/// The permission bits that directories get.
const MODE_BITS: u32 = 0o777;
const OWNER_BITS: u32 = 0o700;
const GROUP_BITS: u32 = 0o070;
/// The right of group and others to change names in a directory.
const WRITE_OF_OTHERS: u32 = 0o022;
/// Nobody removes the files of others there.
const STICKY: u32 = 0o1000;

/// How many directories are known: several are read at once.
const KNOWN_MAX: usize = 16;
/// How long the modes of a directory are taken to be as they were. A copy's directory is made with those that were read
/// with its first item, so a change within this time makes no more difference than one right after.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// The directories of the last items that were opened: most items lie where one just before did, and each level costs four calls.
#[derive(Debug, Default)]
pub(super) struct RecentDirectories(Mutex<VecDeque<KnownModes>>);

#[derive(Debug)]
struct KnownModes {
    directory: String,
    modes: Vec<u32>,
    until: Monotonic,
}

impl RecentDirectories {
    /// The permission bits of the directories on the way to an item of a source, outermost first.
    pub(super) fn modes(
        &self,
        root: &RootDir,
        item_path: &ItemPath,
        clock: &dyn Clock,
    ) -> Result<Vec<u32>, FolderError> {
        let (directory, now) = (item_path.parent(), clock.monotonic());
        let is_it = |known: &&KnownModes| known.directory == directory && now < known.until;
        if let Some(known) = self.0.lock().iter().find(is_it) {
            return Ok(known.modes.clone());
        }
        let modes = of(root, item_path)?;
        let (directory, until) = (directory.to_owned(), now.plus(KNOWN_FOR));
        let mut recent = self.0.lock();
        recent.retain(|known| known.directory != directory);
        recent.truncate(KNOWN_MAX - 1);
        recent.push_front(KnownModes { directory, modes: modes.clone(), until });
        Ok(modes)
    }
}

fn of(root: &RootDir, item_path: &ItemPath) -> Result<Vec<u32>, FolderError> {
    let read = |errno| match errno {
        // It was there when the item was opened.
        Errno::NOENT | Errno::NOTDIR => StoreErrorKind::Changed.into(),
        errno => FolderError::of(FileOperation::Read, errno),
    };
    item_path.directories().map(|path| mode_of(root, path).map_err(read)).collect()
}

fn mode_of(root: &RootDir, path: &str) -> Result<u32, Errno> {
    let mode = match root.directory(path) {
        Ok(directory) => return shown_mode(directory),
        // It can be entered and not be read, so it is not known what an access list gives to its group.
        Err(Errno::ACCESS) => FileState::of(&rustix::fs::fstat(root.waypoint(path)?)?).mode & !GROUP_BITS,
        Err(errno) => return Err(errno),
    };
    Ok(mode & (MODE_BITS | STICKY))
}

/// The permission bits of an open directory, with the group's own right.
fn shown_mode(directory: impl AsFd) -> Result<u32, Errno> {
    let state = FileState::of(&rustix::fs::fstat(&directory)?);
    Ok(access_list::with_group_right(directory, state, &AttributeNames::Untold)?.mode & (MODE_BITS | STICKY))
}

/// The permission bits with which to make a copy of this folder.
///
/// # Errors
/// The folder cannot be read.
pub fn mode_for_copy(folder: &Path) -> std::io::Result<u32> {
    let directory = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(at_creation(Some(shown_mode(directory)?)).as_raw_mode())
}

/// The mode with which to make a directory whose original has this one, before the umask.
pub(super) fn at_creation(of_source: Option<u32>) -> Mode {
    // A copy has no sticky bit: without it, who may write there may remove the files of others.
    let withheld = of_source.filter(|mode| mode & STICKY != 0).map_or(0, |_| WRITE_OF_OTHERS);
    Mode::from_raw_mode(of_source.map_or(MODE_BITS, |mode| mode & MODE_BITS & !withheld | OWNER_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_with_the_rights_of_its_original_and_its_owner_may_write() {
        let made = |mode| at_creation(mode).as_raw_mode();
        assert_eq!((made(Some(0o700)), made(Some(0o750)), made(Some(0o2775))), (0o700, 0o750, 0o775));
        assert_eq!((made(Some(0o500)), made(Some(0o055))), (0o700, 0o755));
        assert_eq!(made(Some(0o1777)), 0o755, "without the sticky bit");
        assert_eq!(made(None), 0o777);
    }
}
