//! Files that somebody writes through a mapping while they are read.
//!
//! The first store to a page moves the file's times; further ones to the same page do not, until the page was written
//! back. So of a file that was stored to lately, the times prove nothing: its bytes may change under a reader, or after
//! it, and nobody is told. Once its pages are flushed, the next store to any of them moves the times again. A read-only
//! descriptor may ask for that.
//!
//! This holds where pages are written back at all: not on tmpfs, of which a later store is never told.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mill_model::Timestamp;
use mill_ports::{Clock, StoreErrorKind};
use rustix::fd::AsFd;
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::file_state::{FileState, SETTLED_AFTER};

/// After what time the kernel has surely written a page back by itself: the usual age is 30 s (`dirty_expire_centisecs`).
const WRITTEN_BACK: Duration = Duration::from_mins(10);
/// How often all of a file system is flushed at most.
const FLUSH_ALL_EVERY: Duration = Duration::from_secs(2);
/// Longer than the kernel's clock for times of files takes to tick.
const TICK: Duration = Duration::from_millis(20);
const TRIES: usize = 3;

/// When the file system of a store was last flushed as a whole: a flush for each young file would cost a fresh tree
/// dearly.
#[derive(Debug, Default)]
pub(super) struct MappedWrites(Mutex<Option<Timestamp>>);

impl MappedWrites {
    /// The state of an open file from which on every change of it moves its times; `state` is the state it was found in.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] when it is written all the while.
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
            if clock.now().since(before.changed_at()) < TICK {
                std::thread::sleep(TICK);
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

    /// Whether all was flushed since the file's last change, which is done now if it was not lately.
    fn is_flushed(&self, root: impl AsFd, state: &FileState, clock: &dyn Clock) -> bool {
        let mut flushed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, now) = (state.changed_at().plus(SETTLED_AFTER), clock.now());
        // A clock that was set back has the newest changes look old.
        *flushed = flushed.filter(|begun| *begun <= now);
        if flushed.is_some_and(|begun| changed < begun) {
            return true;
        }
        if changed >= now || flushed.is_some_and(|begun| now.since(begun) < FLUSH_ALL_EVERY) {
            return false;
        }
        // Whose bytes cannot be written back is told by other means: here it counts that no page is left as it was.
        let _ = rustix::fs::syncfs(root);
        *flushed = Some(now);
        true
    }
}
