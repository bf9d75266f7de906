//! The root of a store, and the way from it to a directory below, without ever following a symbolic link.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mill_ports::Place;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::file_system;
use super::mount_boundary::DirectoryFacts;
use super::spelling::SpellingCache;

/// A directory to which other things are relative; nothing can be read from it itself.
const WAYPOINT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The path of a store's root, and what was first found there.
///
/// A disk may be unplugged and come back. What stands under the path meanwhile, such as the empty directory it was
/// mounted on, must not pass for the store: only the directory first seen is the root. It may come back under another
/// device number.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    seen: Mutex<RootState>,
}

#[derive(Debug, Default)]
struct RootState {
    /// Where the path led when it was first followed: a link that is changed later leads no run elsewhere.
    resolved: Option<PathBuf>,
    /// What was first found there.
    first: Option<Place>,
    open: Option<Arc<RootDir>>,
}

/// What tells a root from another under the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// What tells the directory from all others.
    pub identity: String,
    /// What tells its file system from all others.
    pub file_system: String,
    /// Whether something is mounted right there.
    pub mounted: bool,
}

/// The root, opened.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// Device and inode: what tells it from other directories as long as it is open, and no longer.
    pub(super) identity: (u64, u64),
    pub(super) dir_facts: DirectoryFacts,
    place: Place,
    file_system: String,
    /// What is known of how directories below take names.
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

    /// Where the path led when it was first followed.
    pub(super) fn resolved(&self) -> PathBuf {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resolved.clone().unwrap_or_else(|| self.path.clone())
    }

    /// Forgets what was first seen.
    pub(super) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = RootState::default();
    }

    /// The root, if it is there now and is the one first seen.
    pub(super) fn dir(&self) -> Result<Arc<RootDir>, FolderError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.current(&mut seen) {
            Ok(dir) => Ok(dir),
            Err(error) => {
                // Held open, it could not be unmounted.
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

    /// The root opened once more, for locks of its own.
    pub(super) fn reopen(&self) -> Result<RootDir, FolderError> {
        let expected = self.dir()?;
        let path = self.seen.lock().unwrap_or_else(PoisonError::into_inner).resolved.clone();
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

    /// What is to be remembered of the root.
    pub(super) fn facts(&self) -> RootFacts {
        RootFacts {
            identity: self.place.identity.clone(),
            file_system: self.file_system.clone(),
            mounted: self.dir_facts.is_mounted(),
        }
    }

    /// A number for the place of the root, by which what is prepared for it is known.
    pub(super) fn mark(&self) -> u64 {
        file_system::number(self.place.identity.as_bytes())
    }

    /// The place that a space lies in: that of the root, and of what is mounted at the space's own directory.
    pub(super) fn place_of_space(&self, space: &OwnedFd, dir_facts: &DirectoryFacts) -> Result<Place, Errno> {
        let mut place = self.place();
        if !dir_facts.is_in_same_mount(&self.dir_facts) {
            place.identity.push('+');
            place.identity.push_str(&dir_facts.identity(space)?);
        }
        Ok(place)
    }

    /// A directory below the root, to which other things are relative. `ELOOP` where a symbolic link is in the way.
    pub(super) fn waypoint(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, WAYPOINT, INSIDE)
    }

    /// A directory below the root, in which something is to be changed. `EXDEV` where something is mounted on the way: a
    /// disk that is there now may not have been there when the change was decided on.
    pub(super) fn waypoint_within(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, WAYPOINT, INSIDE.union(ResolveFlags::NO_XDEV))
    }

    /// A directory below the root, to be read or changed itself. `ELOOP` where a symbolic link is in the way.
    pub(super) fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, DIRECTORY, INSIDE)
    }
}

/// A directory directly in `parent`, to be read or changed itself.
pub(super) fn directory_in(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// A directory directly in `parent`, to which other things are relative.
pub(super) fn waypoint_in(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, WAYPOINT, Mode::empty())
}

/// Set once the kernel turned out not to know `openat2` (before Linux 5.6).
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    // With it, a symbolic link at the end would only be said to be no directory.
    let resolved = flags.difference(OFlags::NOFOLLOW);
    let mut tries = 0;
    while !OPENAT2_MISSING.load(Ordering::Relaxed) {
        match rustix::fs::openat2(root, path, resolved, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => OPENAT2_MISSING.store(true, Ordering::Relaxed),
            // The kernel could not exclude that a rename moved a directory out meanwhile.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            // A filter of system calls, as older container engines have, says this of all calls it does not know.
            Err(Errno::PERM) => break,
            answer => return answer,
        }
    }
    let found = walk(root, path, flags)?;
    // Whoever goes down into a mount comes back from it no more.
    if resolve.contains(ResolveFlags::NO_XDEV)
        && !DirectoryFacts::of(&found)?.is_in_same_mount(&DirectoryFacts::of(root)?)
    {
        return Err(Errno::XDEV);
    }
    Ok(found)
}

/// The same one component at a time, none of them a symbolic link.
fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut components = path.split('/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let how = if components.peek().is_some() { WAYPOINT } else { flags };
        let next = match rustix::fs::openat(from, component, how, Mode::empty()) {
            // Of a symbolic link, too, the kernel says that it is no directory.
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
