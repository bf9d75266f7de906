//! The root of a store, and the way from it to a directory below, without ever following a symbolic link.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mill_ports::Place;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::faults::{During, Fault};
use super::stamp::Stamp;

/// A directory to which other things are relative; nothing can be read from it itself.
const WAYPOINT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The path of a store's root, and what was first found there.
///
/// A disk may be unplugged and come back. What stands under the path meanwhile, such as the empty directory it was
/// mounted on, must not pass for the store: only the directory first seen is the root.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first: Option<(u64, u64)>,
    open: Option<Arc<RootDir>>,
}

/// The root, opened.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// Device and inode.
    pub(super) identity: (u64, u64),
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::default() }
    }

    /// The root, if it is there now and is the one first seen.
    pub(super) fn dir(&self) -> Result<Arc<RootDir>, Fault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.current(&mut seen) {
            Ok(dir) => Ok(dir),
            Err(fault) => {
                // Held open, it could not be unmounted.
                seen.open = None;
                Err(fault)
            }
        }
    }

    fn current(&self, seen: &mut Seen) -> Result<Arc<RootDir>, Fault> {
        if let (Some(open), Some(first)) = (&seen.open, seen.first) {
            let found = rustix::fs::stat(&self.path).map_err(|errno| Fault::of(During::Reach, errno))?;
            let found = Stamp::of(&found);
            if (found.device, found.inode) == first {
                return Ok(Arc::clone(open));
            }
            return Err(other_root());
        }
        let dir = Arc::new(self.opened()?);
        if *seen.first.get_or_insert(dir.identity) != dir.identity {
            return Err(other_root());
        }
        seen.open = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// The root opened once more, for locks of its own.
    pub(super) fn opened_again(&self) -> Result<RootDir, Fault> {
        let expected = self.dir()?.identity;
        let dir = self.opened()?;
        if dir.identity == expected { Ok(dir) } else { Err(other_root()) }
    }

    fn opened(&self) -> Result<RootDir, Fault> {
        // A root that is a symbolic link is the operator's own choice, and followed.
        let fd = rustix::fs::open(&self.path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty());
        let fd = fd.map_err(|errno| Fault::of(During::Reach, errno))?;
        let found = Stamp::of(&rustix::fs::fstat(&fd).map_err(|errno| Fault::of(During::Reach, errno))?);
        Ok(RootDir { fd, identity: (found.device, found.inode) })
    }
}

fn other_root() -> Fault {
    Fault::unavailable("another directory stands where the root of the store was first seen")
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl RootDir {
    /// The place of the root.
    pub(super) fn place(&self) -> Place {
        let (device, inode) = self.identity;
        Place { path: String::new(), identity: format!("{device}:{inode}") }
    }

    /// A directory below the root, to which other things are relative. `ELOOP` where a symbolic link is in the way.
    pub(super) fn waypoint(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, WAYPOINT)
    }

    /// A directory below the root, to be read or changed itself. `ELOOP` where a symbolic link is in the way.
    pub(super) fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        beneath(self.as_fd(), path, DIRECTORY)
    }
}

/// A directory directly in `parent`, to be read or changed itself.
pub(super) fn directory_in(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Set once the kernel turned out not to know `openat2` (before Linux 5.6).
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

fn beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    const INSIDE: ResolveFlags =
        ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
    let path = if path.is_empty() { "." } else { path };
    // With it, a symbolic link at the end would only be said to be no directory.
    let resolved = flags.difference(OFlags::NOFOLLOW);
    let mut tries = 0;
    while !OPENAT2_MISSING.load(Ordering::Relaxed) {
        match rustix::fs::openat2(root, path, resolved, Mode::empty(), INSIDE) {
            Err(Errno::NOSYS) => OPENAT2_MISSING.store(true, Ordering::Relaxed),
            // The kernel could not exclude that a rename moved a directory out meanwhile.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            // A filter of system calls, as older container engines have, says this of all calls it does not know.
            Err(Errno::PERM) => break,
            answer => return answer,
        }
    }
    walk(root, path, flags)
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
                assert_eq!(beneath(root.as_fd(), path, flags).err(), expected, "{path}");
                let path = if path.is_empty() { "." } else { path };
                assert_eq!(walk(root.as_fd(), path, flags).err(), expected, "walked {path}");
            }
        }
    }
}
