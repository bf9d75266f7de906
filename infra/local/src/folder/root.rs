//! The root of a store, and the directories below it, opened without ever following a symbolic link.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mill_ports::{Place, RootFacts};
use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::file_system;
use super::mount_boundary::DirectoryFacts;
use super::spelling::SpellingCache;

/// Opens a directory as the base of relative paths; it cannot be listed itself.
const WAYPOINT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The path of a store's root, and the directory first seen there.
///
/// A disk may be unplugged and come back. The directory at the path meanwhile, such as the empty mount point, must not
/// pass for the store: only the directory first seen is the root. It may come back under another device number.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    seen: Mutex<RootState>,
}

#[derive(Debug, Default)]
struct RootState {
    /// The resolved path, from the first access: a link that changes later must not redirect the run.
    resolved: Option<PathBuf>,
    /// The place first found there.
    first: Option<Place>,
    open: Option<Arc<RootDir>>,
}

/// The root, opened.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// Device and inode: they identify the directory only as long as it is open.
    pub(super) identity: (u64, u64),
    pub(super) dir_facts: DirectoryFacts,
    place: Place,
    file_system: String,
    /// How the directories below treat names, as far as known.
    pub(super) spellings: SpellingCache,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::default() }
    }

    /// The path, as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved path, from the first access.
    pub(super) fn resolved(&self) -> PathBuf {
        let seen = self.seen.lock();
        seen.resolved.clone().unwrap_or_else(|| self.path.clone())
    }

    /// Forgets the root first seen.
    pub(super) fn forget(&self) {
        *self.seen.lock() = RootState::default();
    }

    /// Closes the root until it is needed again: an open root could not be unmounted.
    pub(super) fn close(&self) {
        self.seen.lock().open = None;
    }

    /// The root. Fails if it is missing, or is not the one first seen.
    pub(super) fn dir(&self) -> Result<Arc<RootDir>, FolderError> {
        let mut seen = self.seen.lock();
        match self.current(&mut seen) {
            Ok(dir) => Ok(dir),
            Err(error) => {
                // An open root could not be unmounted.
                seen.open = None;
                Err(error)
            }
        }
    }

    fn current(&self, seen: &mut RootState) -> Result<Arc<RootDir>, FolderError> {
        let reach = |errno| FolderError::of(FileOperation::Reach, errno);
        let path = match &seen.resolved {
            Some(path) => path,
            None => seen.resolved.insert(std::fs::canonicalize(&self.path).map_err(unresolved)?),
        };
        if let Some(open) = &seen.open {
            let found = FileState::of(&rustix::fs::stat(path).map_err(reach)?);
            if (found.device, found.inode) == open.identity {
                return Ok(Arc::clone(open));
            }
        }
        let dir = Arc::new(opened(path)?);
        if *seen.first.get_or_insert_with(|| dir.place()) != dir.place {
            return Err(other_root());
        }
        seen.open = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Opens the root once more: locks belong to an open file description.
    pub(super) fn reopen(&self) -> Result<RootDir, FolderError> {
        let expected = self.dir()?;
        let path = self.seen.lock().resolved.clone();
        let dir = opened(path.as_deref().unwrap_or(&self.path))?;
        if dir.identity == expected.identity { Ok(dir) } else { Err(other_root()) }
    }
}

fn opened(path: &Path) -> Result<RootDir, FolderError> {
    let reach = |errno| FolderError::of(FileOperation::Reach, errno);
    let fd = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(reach)?;
    let dir_facts = DirectoryFacts::of(&fd).map_err(reach)?;
    let file_system = file_system::identity(&fd, dir_facts.device).map_err(reach)?;
    let place = Place { path: String::new(), identity: dir_facts.identity_in(&file_system) };
    Ok(RootDir {
        fd,
        identity: (dir_facts.device, dir_facts.inode),
        dir_facts,
        place,
        file_system,
        spellings: SpellingCache::default(),
    })
}

fn unresolved(error: std::io::Error) -> FolderError {
    Errno::from_io_error(&error)
        .map_or_else(|| FolderError::unavailable(error), |errno| FolderError::of(FileOperation::Reach, errno))
}

fn other_root() -> FolderError {
    FolderError::unavailable("another directory stands where the root of the store was first seen")
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl RootDir {
    /// The place of the root.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// The facts of the root.
    pub(super) fn facts(&self, path: &Path) -> RootFacts {
        RootFacts {
            path: path.to_owned(),
            identity: self.place.identity.clone(),
            file_system: self.file_system.clone(),
            mounted: self.dir_facts.is_mounted(),
        }
    }

    /// A number derived from the root's identity, which marks its writes in progress.
    pub(super) fn mark(&self) -> u64 {
        file_system::number(self.place.identity.as_bytes())
    }

    /// The place of a space: that of the root, with that of the mount at the space's own directory, if there is one.
    pub(super) fn place_of_space(&self, space: &OwnedFd, dir_facts: &DirectoryFacts) -> Result<Place, Errno> {
        let mut place = self.place();
        if !dir_facts.is_in_same_mount(&self.dir_facts) {
            place.identity.push('+');
            place.identity.push_str(&dir_facts.identity(space)?);
        }
        Ok(place)
    }

    /// Opens a directory below the root as the base of relative paths. `ELOOP` for a symbolic link on the path.
    pub(super) fn waypoint(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, WAYPOINT, INSIDE)
    }

    /// Opens a directory below the root for a change. `EXDEV` for a mount point on the path: a disk that is mounted now
    /// may not have been when the change was decided.
    pub(super) fn waypoint_within(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, WAYPOINT, INSIDE.union(ResolveFlags::NO_XDEV))
    }

    /// Opens a directory below the root to be listed or changed itself. `ELOOP` for a symbolic link on the path.
    pub(super) fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, DIRECTORY, INSIDE)
    }
}

/// Opens a directory directly in `parent`, to be listed or changed itself.
pub(super) fn directory_in(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Opens a directory directly in `parent` as the base of relative paths.
pub(super) fn waypoint_in(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, WAYPOINT, Mode::empty())
}

/// Set once the kernel turned out not to know `openat2` (before Linux 5.6).
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    // With `NOFOLLOW`, a symbolic link at the end would give `ENOTDIR`, not `ELOOP`.
    let resolved = flags.difference(OFlags::NOFOLLOW);
    let mut tries = 0;
    while !OPENAT2_MISSING.load(Ordering::Relaxed) {
        match rustix::fs::openat2(root, path, resolved, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => OPENAT2_MISSING.store(true, Ordering::Relaxed),
            // A concurrent rename, after which the kernel cannot prove that the path stays beneath the root.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            // A system call filter of an older container engine returns this for unknown calls.
            Err(Errno::PERM) => break,
            answer => return answer,
        }
    }
    let found = walk(root, path, flags)?;
    // A path that enters a mount never leaves it, so the last directory shows it.
    if resolve.contains(ResolveFlags::NO_XDEV)
        && !DirectoryFacts::of(&found)?.is_in_same_mount(&DirectoryFacts::of(root)?)
    {
        return Err(Errno::XDEV);
    }
    Ok(found)
}

/// The same, one component at a time, none of them a symbolic link.
fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut components = path.split('/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let how = if components.peek().is_some() { WAYPOINT } else { flags };
        let next = match rustix::fs::openat(from, component, how, Mode::empty()) {
            // The kernel returns `ENOTDIR` for a symbolic link too.
            Err(Errno::NOTDIR) => {
                let found = rustix::fs::statat(from, component, AtFlags::SYMLINK_NOFOLLOW)?;
                let link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
                return Err(if link { Errno::LOOP } else { Errno::NOTDIR });
            }
            answer => answer?,
        };
        at = Some(next);
    }
    at.ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_down_refuse_symbolic_links_and_agree() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        std::fs::write(scratch.path().join("a/file"), b"x").unwrap();
        std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
        std::os::unix::fs::symlink("b", scratch.path().join("a/link")).unwrap();
        let root = Root::new(scratch.path().to_owned()).dir().unwrap();
        for (path, expected) in [
            ("a/b", None),
            ("", None),
            ("link", Some(Errno::LOOP)),
            ("link/b", Some(Errno::LOOP)),
            ("a/link", Some(Errno::LOOP)),
            ("a/file", Some(Errno::NOTDIR)),
            ("a/file/x", Some(Errno::NOTDIR)),
            ("a/none", Some(Errno::NOENT)),
            ("none/b", Some(Errno::NOENT)),
        ] {
            for flags in [WAYPOINT, DIRECTORY] {
                assert_eq!(beneath(root.as_fd(), path, flags, INSIDE).err(), expected, "{path}");
                let path = if path.is_empty() { "." } else { path };
                assert_eq!(walk(root.as_fd(), path, flags).err(), expected, "walked {path}");
            }
        }
    }
}
