//! Files that somebody writes through a memory mapping while they are read.
//!
//! The first store to a page changes the file's times; further ones to the same page do not, until the page is written
//! back. So the times of a recently changed file prove nothing: its bytes may change during or after a read without a
//! trace. Once its pages are flushed, the next store to any of them changes the times again. A read-only descriptor
//! suffices to flush.
//!
//! This holds where pages are written back at all. On tmpfs a later store never changes the times.

use std::time::Duration;

use mill_model::Timestamp;
use mill_ports::{Clock, StoreErrorKind};
use parking_lot::Mutex;
use rustix::fd::AsFd;
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_state::{FINE_SETTLED_AFTER, FileState, SETTLED_AFTER};

/// After this time the kernel has certainly written a page back: the usual age is 30 s (`dirty_expire_centisecs`).
const WRITTEN_BACK: Duration = Duration::from_mins(10);
/// The shortest time between two flushes of a whole file system.
const FLUSH_ALL_EVERY: Duration = Duration::from_secs(2);
/// Longer than one tick of the kernel's clock for the times of files.
const TICK: Duration = Duration::from_millis(20);
const TRIES: usize = 3;

/// When the file system of a store was last flushed as a whole. A flush for each recent file would be too slow for a
/// new tree.
#[derive(Debug, Default)]
pub(super) struct MappedWrites(Mutex<Option<Timestamp>>);

impl MappedWrites {
    /// Flushes an open file, and returns the state after which every change of the file changes its times. `state` is
    /// the state in which it was found.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] when the file changes all the time.
    pub(super) fn flushed(
        &self,
        root: impl AsFd,
        file: impl AsFd,
        state: FileState,
        clock: &dyn Clock,
    ) -> Result<FileState, FolderError> {
        let mut before = state;
        for _ in 0..TRIES {
            if before.changed_at().plus(WRITTEN_BACK) < clock.now() || self.is_flushed(&root, &before, clock) {
                return Ok(before);
            }
            // A file that has fine times is settled then: it is worth the wait, which is short and only for what was just written.
            let least = if before.has_fine_times() { FINE_SETTLED_AFTER } else { TICK };
            let age = clock.now().since(before.changed_at());
            if age <= least {
                std::thread::sleep(least.saturating_sub(age) + TICK);
            }
            match rustix::fs::fdatasync(&file) {
                Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::ROFS) => {}
                Err(errno) => return Err(FolderError::of(FileOperation::Read, errno)),
            }
            let after =
                FileState::of(&rustix::fs::fstat(&file).map_err(|errno| FolderError::of(FileOperation::Read, errno))?);
            if after == before {
                return Ok(after);
            }
            before = after;
        }
        Err(StoreErrorKind::Changed.into())
    }

    /// Whether the file system was flushed since the file's last change. Flushes it now if the last flush is long ago.
    fn is_flushed(&self, root: impl AsFd, state: &FileState, clock: &dyn Clock) -> bool {
        let mut flushed = self.0.lock();
        let (changed, now) = (state.changed_at().plus(SETTLED_AFTER), clock.now());
        // After the clock was set back, the newest changes look old.
        *flushed = flushed.filter(|begun| *begun <= now);
        if flushed.is_some_and(|begun| changed < begun) {
            return true;
        }
        if changed >= now || flushed.is_some_and(|begun| now.since(begun) < FLUSH_ALL_EVERY) {
            return false;
        }
        // Its error does not matter here: no page stays dirty, and the reader detects lost bytes by other means.
        let _ = rustix::fs::syncfs(root);
        *flushed = Some(now);
        true
    }
}
