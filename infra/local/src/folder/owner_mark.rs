//! The mark on a directory that says which Mill keeps it in sync, for whoever else would.
//!
//! It is an extended attribute and names the directory that it was made for, so that a copy of the directory with all its
//! attributes is not taken for it. Where the file system keeps none there is no mark, and a register must do.

use std::io;
use std::path::{Path, PathBuf};

use mill_model::SpaceId;
use mill_ports::{StoreError, StoreErrorKind};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{FileOperation, FolderError, describe_errno};
use super::mount_boundary::DirectoryFacts;
use super::overlap;
use super::root::{RootDir, waypoint_in};
use super::{FolderInner, FolderStore, item_reader, space_subject};

const ATTRIBUTE: &str = "user.mill.owner";
const MARKING: &str = "note the owner (extended attribute `user.mill.owner`)";
const RELEASING: &str = "remove the owner's note (extended attribute `user.mill.owner`)";
const BYTES_MAX: usize = 3 * 1024;

/// Who keeps a directory in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerMark {
    /// Names by which it is known again.
    pub names: Vec<String>,
    /// What a person calls it.
    pub shown: String,
}

#[derive(Serialize, Deserialize)]
struct OwnerAttribute {
    #[serde(flatten)]
    mark: OwnerMark,
    /// The directory that it was made for.
    #[serde(rename = "for")]
    directory: String,
}

/// The directory of a space, and whose it and those above it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceLocation {
    /// What tells its file system from all others.
    pub file_system: String,
    /// Its path within the file system.
    pub within: PathBuf,
    /// Its path.
    pub path: PathBuf,
    /// What tells it from all others. `None` where there is no such directory yet: the marks are the root's then.
    pub identity: Option<String>,
    /// The marks that are on it and on the directories above it, the innermost first.
    pub marks: Vec<(PathBuf, OwnerMark)>,
    /// Whether it can bear a mark.
    pub bears_marks: bool,
}

impl FolderStore {
    /// Where a space is, and whose.
    ///
    /// # Errors
    /// When the root cannot be reached.
    pub async fn space_location(&self, space: &SpaceId) -> Result<SpaceLocation, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let location = self.on_root(move |_, root| locate(root, directory.as_deref()));
        location.await.map_err(|error| self.0.error("look", &space_subject(space), error))
    }

    /// Puts a mark on a space's directory. `false` where one is on it already and may not be `replaced`, or where it can
    /// bear none.
    ///
    /// # Errors
    /// When the space is not there.
    pub async fn mark(&self, space: &SpaceId, mark: OwnerMark, replaced: bool) -> Result<bool, StoreError> {
        self.on_space(MARKING, space, move |directory| put(directory, mark, replaced)).await
    }

    /// Takes the mark off a space's directory.
    ///
    /// # Errors
    /// When the space is not there, or the mark cannot be taken off.
    pub async fn unmark(&self, space: &SpaceId) -> Result<(), StoreError> {
        let removed = |directory: &OwnedFd| match rustix::fs::removexattr(by_fd(directory), ATTRIBUTE) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(FolderError::of(FileOperation::Write, errno)),
        };
        self.on_space(RELEASING, space, removed).await
    }

    async fn on_space<T: Send + 'static>(
        &self,
        op: &'static str,
        space: &SpaceId,
        call: impl FnOnce(&OwnedFd) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let done = self.on_root(move |_: &FolderInner, root| {
            let directory = directory.ok_or(StoreErrorKind::SpaceAbsent)?;
            item_reader::space(root, &directory)?;
            call(&root.waypoint(&directory).map_err(|errno| FolderError::of(FileOperation::Reach, errno))?)
        });
        done.await.map_err(|error| self.0.error(op, &space_subject(space), error))
    }
}

/// What tells the directory at a path from all others.
///
/// # Errors
/// When it cannot be reached.
pub fn identity_at(path: &Path) -> io::Result<String> {
    let directory = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(DirectoryFacts::of(&directory)?.identity(&directory)?)
}

fn locate(root: &RootDir, directory: Option<&str>) -> Result<SpaceLocation, FolderError> {
    let reach = |errno| FolderError::of(FileOperation::Reach, errno);
    let there = match directory.map(|directory| (directory, item_reader::space(root, directory))) {
        None | Some((_, Err(FolderError { kind: StoreErrorKind::SpaceAbsent, .. }))) => None,
        Some((_, Err(error))) => return Err(error),
        Some((directory, Ok(_))) => Some(root.waypoint(directory).map_err(reach)?),
    };
    let at = match &there {
        Some(space) => space.try_clone().map_err(FolderError::unexpected)?,
        None => root.waypoint("").map_err(reach)?,
    };
    let dir_facts = DirectoryFacts::of(&at).map_err(reach)?;
    let file_system = super::file_system::identity(&at, dir_facts.device).map_err(reach)?;
    let (mut path, mut within) = overlap::path_within(&at).map_err(FolderError::unavailable)?;
    if let (None, Some(to_be)) = (&there, directory) {
        path.push(to_be);
        within.push(to_be);
    }
    let identity = there.as_ref().map(|_| dir_facts.identity_in(&file_system));
    let bears_marks = !matches!(read(&at), Err(Errno::NOTSUP | Errno::NOSYS));
    Ok(SpaceLocation { file_system, within, path, identity, marks: marks_above(at).map_err(reach)?, bears_marks })
}

/// The marks on a directory and on all above it.
fn marks_above(directory: OwnedFd) -> Result<Vec<(PathBuf, OwnerMark)>, Errno> {
    let (mut found, mut at) = (Vec::new(), directory);
    let mut dir_facts = DirectoryFacts::of(&at)?;
    loop {
        let mark = read(&at).ok().flatten().filter(|written| written.directory == own_name(&dir_facts));
        if let Some(written) = mark {
            let path = std::fs::read_link(by_fd(&at)).unwrap_or_default();
            found.push((path, written.mark));
        }
        // Above what may not be entered nobody's mark can be read; and it is not likely to be there.
        let Ok(above) = waypoint_in(&at, "..") else { return Ok(found) };
        let facts_above = DirectoryFacts::of(&above)?;
        if (facts_above.device, facts_above.inode) == (dir_facts.device, dir_facts.inode) {
            return Ok(found);
        }
        (at, dir_facts) = (above, facts_above);
    }
}

/// The mark on a directory, if there is one that can be read.
fn read(directory: &OwnedFd) -> Result<Option<OwnerAttribute>, Errno> {
    let mut buffer = [0_u8; BYTES_MAX];
    match rustix::fs::getxattr(by_fd(directory), ATTRIBUTE, &mut buffer[..]) {
        Ok(length) => Ok(serde_json::from_slice(&buffer[..length]).ok()),
        Err(Errno::NODATA | Errno::RANGE) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn put(directory: &OwnedFd, mark: OwnerMark, replaced: bool) -> Result<bool, FolderError> {
    let dir_facts = DirectoryFacts::of(directory).map_err(|errno| FolderError::of(FileOperation::Reach, errno))?;
    let written = OwnerAttribute { mark, directory: own_name(&dir_facts) };
    let value = serde_json::to_vec(&written).map_err(FolderError::unexpected)?;
    // One that was copied here with another directory's attributes stands in nobody's way.
    let foreign = matches!(read(directory), Ok(Some(there)) if there.directory != written.directory);
    let how = if replaced || foreign { XattrFlags::empty() } else { XattrFlags::CREATE };
    match rustix::fs::setxattr(by_fd(directory), ATTRIBUTE, &value, how) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTSUP | Errno::NOSYS | Errno::NOSPC | Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(errno) => {
            let words = format!(
                "{}; it keeps other installations from writing there: make the folder writable",
                describe_errno(errno)
            );
            Err(FolderError { source: Some(words.into()), ..FolderError::of(FileOperation::Write, errno) })
        }
    }
}

/// What tells a directory from a copy of it.
fn own_name(dir_facts: &DirectoryFacts) -> String {
    dir_facts.identity_in("")
}

/// The way to the directory itself, through which attributes are read of one that was not opened to be read.
fn by_fd(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())
}
