//! The mark on a directory that names the Mill which keeps it in sync, so that no other Mill writes there.
//!
//! The mark is an extended attribute. It names the directory for which it was made, so that a copy of the directory
//! with all its attributes does not count as marked. On a file system without attributes there is no mark, and a
//! register must suffice.

use std::io;
use std::path::{Path, PathBuf};

use mill_model::{OriginalPlace, SpaceId};
use mill_ports::{OwnerMark, SpaceLocation, StoreError, StoreErrorKind};
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

/// The mark as it is written.
#[derive(Serialize, Deserialize)]
struct OwnerAttribute {
    names: Vec<String>,
    shown: String,
    /// What the directory is a copy of.
    #[serde(default, rename = "of", skip_serializing_if = "Option::is_none")]
    original: Option<OriginalPlace>,
    /// The directory for which the mark was made.
    #[serde(rename = "for")]
    directory: String,
}

impl FolderStore {
    /// The location of a space, and its owners.
    ///
    /// # Errors
    /// When the root cannot be reached.
    pub(super) async fn locate_space(&self, space: &SpaceId) -> Result<SpaceLocation, StoreError> {
        let directory = self.0.layout.directory(space).map(str::to_owned);
        let location = self.on_root(move |_, root| locate(root, directory.as_deref()));
        location.await.map_err(|error| self.0.error("look", &space_subject(space), error))
    }

    /// The marks on the directories right inside a space.
    ///
    /// # Errors
    /// When the space is missing.
    pub(super) async fn inner_marks(&self, space: &SpaceId) -> Result<Vec<(PathBuf, OwnerMark)>, StoreError> {
        let marks = |directory: &OwnedFd| marks_inside(directory).map_err(FolderError::unavailable);
        self.on_space("look for marks in", space, marks).await
    }

    /// Puts a mark on a space's directory. Returns `false` if the directory has one that may not be `replaced`, or
    /// cannot have one.
    ///
    /// # Errors
    /// When the space is missing.
    pub(super) async fn put_mark(&self, space: &SpaceId, mark: OwnerMark, replaced: bool) -> Result<bool, StoreError> {
        self.on_space(MARKING, space, move |directory| put(directory, mark, replaced)).await
    }

    /// Removes the mark from a space's directory.
    ///
    /// # Errors
    /// When the space is missing, or the mark cannot be removed.
    pub(super) async fn remove_mark(&self, space: &SpaceId) -> Result<(), StoreError> {
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

/// The identity of the directory at a path.
///
/// # Errors
/// When the directory cannot be reached.
pub(super) fn identity_at(path: &Path) -> io::Result<String> {
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
    let marks = marks_above(at).map_err(reach)?;
    Ok(SpaceLocation { holder: file_system, within, path, identity, marks, bears_marks })
}

/// The marks on a directory and on all above it.
fn marks_above(directory: OwnedFd) -> Result<Vec<(PathBuf, OwnerMark)>, Errno> {
    let (mut found, mut at) = (Vec::new(), directory);
    let mut dir_facts = DirectoryFacts::of(&at)?;
    loop {
        let mark = read(&at).ok().flatten().filter(|written| written.directory == own_name(&dir_facts));
        if let Some(written) = mark {
            let path = std::fs::read_link(by_fd(&at)).unwrap_or_default();
            let OwnerAttribute { names, shown, original, .. } = written;
            found.push((path, OwnerMark { names, shown, original }));
        }
        // No mark can be read above a directory that may not be entered, and none is likely there.
        let Ok(above) = waypoint_in(&at, "..") else { return Ok(found) };
        let facts_above = DirectoryFacts::of(&above)?;
        if (facts_above.device, facts_above.inode) == (dir_facts.device, dir_facts.inode) {
            return Ok(found);
        }
        (at, dir_facts) = (above, facts_above);
    }
}

/// The marks on the directories right inside one.
fn marks_inside(directory: &OwnedFd) -> io::Result<Vec<(PathBuf, OwnerMark)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(by_fd(directory))? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        // What went away meanwhile, or may not be entered, bears no mark that counts.
        let Ok(inner) = waypoint_in(directory, entry.file_name()) else { continue };
        let facts = DirectoryFacts::of(&inner)?;
        if let Some(written) = read(&inner).ok().flatten().filter(|written| written.directory == own_name(&facts)) {
            let OwnerAttribute { names, shown, original, .. } = written;
            found.push((PathBuf::from(entry.file_name()), OwnerMark { names, shown, original }));
        }
    }
    Ok(found)
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
    let OwnerMark { names, shown, original } = mark;
    let mut written = OwnerAttribute { names, shown, original, directory: own_name(&dir_facts) };
    let mut value = serde_json::to_vec(&written).map_err(FolderError::unexpected)?;
    if value.len() > BYTES_MAX && written.original.take().is_some() {
        // The keeper counts more than what it copies, and a longer mark could not be read.
        value = serde_json::to_vec(&written).map_err(FolderError::unexpected)?;
    }
    // A mark that was copied here with the attributes of another directory may be replaced.
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

/// The text that distinguishes a directory from a copy of it.
fn own_name(dir_facts: &DirectoryFacts) -> String {
    dir_facts.identity_in("")
}

/// The path of an opened directory itself. Attributes of a directory opened with `O_PATH` can be read only by a path.
fn by_fd(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())
}
