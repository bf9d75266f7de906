//! The lock under which a store is changed. It is on the root directory itself, so that every Mill process on that root
//! shares it whatever its user, and no lock file remains.
//!
//! Another program may lock the same directory, as `flock /backup rsync …` does, and keep it for hours. So the wait is
//! bounded: after some seconds of attempts the error names the holder.

use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::root::RootDir;

/// How long to wait for the lock. Mill holds it for moments, however much it has to write.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The first wait and the longest between two attempts.
const WAITS: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(20)];

/// The lock, held.
#[derive(Debug)]
pub(super) struct RootLock<'r>(&'r RootDir);

impl<'r> RootLock<'r> {
    /// Takes the lock. `root` must be opened for this thread alone. Returns early once `is_needed` returns `false`.
    pub(super) fn take(
        root: &'r RootDir,
        patience: Duration,
        is_needed: impl Fn() -> bool,
    ) -> Result<Self, FolderError> {
        let (mut pause, mut waited) = (WAITS[0], Duration::ZERO);
        loop {
            match rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(root)),
                Err(Errno::WOULDBLOCK) if waited < patience && is_needed() => {
                    std::thread::sleep(pause);
                    waited += pause;
                    pause = (pause * 2).min(WAITS[1]);
                }
                Err(Errno::WOULDBLOCK) => return Err(locked(root)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(FolderError::of(FileOperation::Write, errno)),
            }
        }
    }
}

impl Drop for RootLock<'_> {
    fn drop(&mut self) {
        // Unlocking an open descriptor cannot fail.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

fn locked(root: &RootDir) -> FolderError {
    let held = rustix::fs::fstat(root).ok().and_then(|stat| holder(&FileState::of(&stat)));
    let by = match held {
        Some(pid) => format!("process {pid} ({})", command(pid)),
        None => "a process that cannot be seen from here".to_owned(),
    };
    FolderError::unavailable(format!(
        "the folder is locked by {by}; nothing can be written to it until that lets go of it"
    ))
}

/// Who holds a lock on a directory. Source: proc_locks(5).
fn holder(directory: &FileState) -> Option<u32> {
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, directory)
}

fn holder_in(locks: &str, directory: &FileState) -> Option<u32> {
    let found = |same_device: bool| {
        locks.lines().find_map(|line| {
            // `1: FLOCK  ADVISORY  WRITE 1234 08:02:131 0 EOF`; those who wait have `->` behind the number.
            let [_, "FLOCK", _, _, pid, file, ..] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
                return None;
            };
            let [major, minor, inode] = file.split(':').collect::<Vec<_>>()[..] else { return None };
            let number = |text| u32::from_str_radix(text, 16).ok();
            let device = rustix::fs::makedev(number(major)?, number(minor)?);
            let same = inode.parse() == Ok(directory.inode) && (!same_device || device == directory.device);
            // For a process in another container the kernel shows no pid.
            same.then(|| pid.parse().ok().filter(|pid| *pid > 0)).flatten()
        })
    };
    // A subvolume of Btrfs has its own device number, but the line shows that of its file system.
    found(true).or_else(|| found(false))
}

/// The name of a program, without its arguments, which may contain a password.
fn command(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) if !name.trim().is_empty() => format!("`{}`", mill_model::ids::shorten_for_display(name.trim())),
        _ => "its name is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mill_ports::StoreErrorKind;

    use super::super::root::Root;
    use super::*;

    fn state(device: u64, inode: u64) -> FileState {
        let at = super::super::file_state::FileTime { seconds: 0, nanos: 0 };
        FileState { device, inode, size: 0, mode: 0o040_755, modified: at, changed: at }
    }

    #[test]
    fn the_holder_of_a_lock_is_found_among_those_who_wait_and_locks_of_other_kinds() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:02:131 0 EOF\n\
                     1: -> POSIX  ADVISORY  WRITE 12 08:02:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 13 08:02:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 14 08:02:131 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 15 08:02:131 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 16 00:2f:256 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 0 08:02:500 0 EOF\n";
        let device = rustix::fs::makedev(8, 2);
        assert_eq!(holder_in(locks, &state(device, 131)), Some(14));
        assert_eq!(holder_in(locks, &state(rustix::fs::makedev(0, 99), 256)), Some(16), "a subvolume");
        assert_eq!(holder_in(locks, &state(device, 500)), None, "in another container");
        assert_eq!(holder_in(locks, &state(device, 1)), None);
        assert_eq!(holder_in("nonsense\n1: FLOCK\n", &state(device, 1)), None);
    }

    #[test]
    fn a_lock_that_another_holds_ends_the_wait_with_its_name_and_early_when_nobody_waits() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path().to_owned()).reopen().unwrap();
        let free = Duration::from_mins(1);
        drop(RootLock::take(&root, free, || true).unwrap());
        let mut other = std::process::Command::new("flock").arg(scratch.path()).args(["sleep", "60"]).spawn().unwrap();
        let other_root = Root::new(scratch.path().to_owned()).reopen().unwrap();
        let is_held = || rustix::fs::flock(&other_root, FlockOperation::NonBlockingLockExclusive).is_err();
        while !is_held() {
            rustix::fs::flock(&other_root, FlockOperation::Unlock).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let unwanted = RootLock::take(&root, free, || false).unwrap_err();
        let refused = RootLock::take(&root, Duration::from_millis(50), || true).unwrap_err();
        let words = refused.source.unwrap().to_string();
        // The program that it runs has the lock as well.
        for child in std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", other.id())).unwrap().split(' ') {
            let _ = std::process::Command::new("kill").arg(child).status();
        }
        other.wait().unwrap();
        assert!(words.contains(&format!("process {} (`flock`)", other.id())), "{words}");
        assert_eq!((unwanted.kind, refused.kind), (StoreErrorKind::Unavailable, StoreErrorKind::Unavailable));
        drop(RootLock::take(&root, free, || true).unwrap());
    }
}
