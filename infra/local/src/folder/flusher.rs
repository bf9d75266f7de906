//! Makes writes durable, and decides which writes a failed flush condemns.
//!
//! The kernel writes pages back at any time. When that fails it marks them clean, keeps the bytes in its cache, and
//! reports the error once, to the next flush. So a successful flush proves something only on a descriptor that was
//! opened before the bytes were written and has seen every flush since. Files that a failed flush may concern are not
//! flushed again: they are deleted and written anew.
//!
//! - *In groups*: one `syncfs` for all writes, on a root that was opened first. Since Linux 5.8 `syncfs` reports an
//!   error of any file. The error names no file, so it condemns all writes that were not flushed before: each prepared
//!   file belongs to a generation, and an error ends the generation.
//! - *Singly*: one `fsync` for each file, on the one descriptor through which it was written, and one for each
//!   directory. Used where the kernel or the file system does not report errors to `syncfs`, and for a while after an
//!   error, so that the item at fault is named and the others succeed.
//!
//! Sources: syncfs(2), *Versions*, `fs/sync.c`; "Can Applications Recover from fsync Failures?", USENIX ATC 2020.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mill_model::Monotonic;
use mill_ports::{Clock, StoreErrorKind};
use parking_lot::Mutex;
use rustix::fd::AsFd;
use rustix::io::Errno;

use super::error::{FileOperation, FolderError};
use super::root::RootDir;

/// File systems that report an error of any file to `syncfs`: ext2 to ext4, XFS, Btrfs, F2FS.
const GROUPING: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];
/// How long each file is flushed by itself after an error.
const SINGLY_AFTER_ERROR: Duration = Duration::from_mins(5);
/// After this many failures with no success in between the whole store is unavailable, not each item by itself.
const FAILURES_MAX: u32 = 16;

/// Makes one store's writes durable.
#[derive(Debug)]
pub(super) struct Flusher {
    /// Opened before anything was written through this store.
    pub(super) root: RootDir,
    grouping: bool,
    clock: Arc<dyn Clock>,
    generation: AtomicU64,
    singly_until: Mutex<Option<Monotonic>>,
    failures: AtomicU32,
    #[cfg(test)]
    pub(super) script: FlushScript,
}

/// The results of flushes, as a test scripts them.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct FlushScript {
    /// The errors of the next flushes of all; `None` for a real flush.
    pub(super) all: Mutex<std::collections::VecDeque<Option<Errno>>>,
    /// The errors of the next flushes of one file or directory; `None` for a real flush.
    pub(super) one: Mutex<std::collections::VecDeque<Option<Errno>>>,
    /// Overrides whether the file system supports flushes in groups.
    pub(super) grouping: Mutex<Option<bool>>,
}

impl Flusher {
    /// `root` must be opened for this alone, before anything is written.
    pub(super) fn new(root: RootDir, clock: Arc<dyn Clock>) -> Self {
        Self {
            grouping: reports_errors_to_syncfs(&root),
            root,
            clock,
            generation: AtomicU64::new(0),
            singly_until: Mutex::new(None),
            failures: AtomicU32::new(0),
            #[cfg(test)]
            script: FlushScript::default(),
        }
    }

    /// The generation of writes from now on.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether each file must be flushed by itself.
    pub(super) fn singly(&self) -> bool {
        !self.grouping() || self.singly_until().is_some()
    }

    /// Makes all writes through this store durable.
    ///
    /// An error condemns all writes that were not durable before: it ends the generation.
    pub(super) fn sync_all(&self) -> Result<(), FolderError> {
        match self.syncfs() {
            Ok(()) => {
                self.failures.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(errno) => {
                self.generation.fetch_add(1, Ordering::AcqRel);
                *self.singly_until() = Some(self.clock.monotonic().plus(SINGLY_AFTER_ERROR));
                tracing::warn!(%errno, "a write did not reach the disk; all that was written with it is written anew");
                let why =
                    "something written at the same time did not reach the disk, so that all of it is written anew";
                Err(FolderError { source: Some(format!("{why}: {errno}").into()), ..self.failed(errno) })
            }
        }
    }

    /// Makes one file durable, through the descriptor by which it was written. After an error the file must be deleted.
    pub(super) fn sync_file(&self, file: impl AsFd) -> Result<(), FolderError> {
        match ignore_unsupported(self.fsync(&file)) {
            Ok(()) => {
                self.failures.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&self, path: &str) -> Result<(), FolderError> {
        match self.root.directory(path) {
            Ok(directory) => self.sync_file(directory),
            // The directory was removed since, and the names in it too.
            Err(Errno::NOENT) => Ok(()),
            // Names may be created in a directory that may not be read.
            Err(Errno::ACCESS) => self.syncfs().map_err(|errno| self.failed(errno)),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Ends the period in which each file is flushed by itself, if it is over and a flush of all succeeds.
    pub(super) fn recover(&self) {
        let over = self.singly_until().is_some_and(|until| until < self.clock.monotonic());
        // A failure condemns only files that are not flushed yet.
        if over && self.sync_all().is_ok() {
            *self.singly_until() = None;
        }
    }

    /// The error of a failed flush, for the writes that it concerns.
    pub(super) fn failed(&self, errno: Errno) -> FolderError {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let error = FolderError::of(FileOperation::Flush, errno);
        let error = FolderError { source: Some(format!("its bytes did not reach the disk: {errno}").into()), ..error };
        if failures < FAILURES_MAX { error } else { FolderError { kind: StoreErrorKind::Unavailable, ..error } }
    }

    fn singly_until(&self) -> parking_lot::MutexGuard<'_, Option<Monotonic>> {
        self.singly_until.lock()
    }

    fn grouping(&self) -> bool {
        #[cfg(test)]
        if let Some(grouping) = *self.script.grouping.lock() {
            return grouping;
        }
        self.grouping
    }

    fn syncfs(&self) -> Result<(), Errno> {
        #[cfg(test)]
        if let Some(errno) = self.script.all.lock().pop_front().flatten() {
            return Err(errno);
        }
        rustix::fs::syncfs(&self.root)
    }

    #[allow(clippy::unused_self)] // a test may have it fail
    fn fsync(&self, file: impl AsFd) -> Result<(), Errno> {
        #[cfg(test)]
        if let Some(errno) = self.script.one.lock().pop_front().flatten() {
            return Err(errno);
        }
        rustix::fs::fsync(file)
    }
}

/// A file system that does not support flushing reports an error that does not concern the writes.
fn ignore_unsupported(flushed: Result<(), Errno>) -> Result<(), Errno> {
    match flushed {
        // CIFS and some FUSE file systems, of directories above all.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        flushed => flushed,
    }
}

/// Whether this file system reports an error of any file to `syncfs`.
#[allow(clippy::unnecessary_cast)] // the kernel's number differs in width and sign between processors
fn reports_errors_to_syncfs(root: &RootDir) -> bool {
    let file_system = rustix::fs::fstatfs(root).map(|found| found.f_type as u64 & 0xFFFF_FFFF);
    let release = rustix::system::uname();
    file_system.is_ok_and(|found| GROUPING.contains(&found))
        && kernel_reports_to_syncfs(&release.release().to_string_lossy())
}

/// Whether a kernel of this release reports errors to `syncfs`: Linux 5.8 and newer.
fn kernel_reports_to_syncfs(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_8_are_not_trusted_to_tell_syncfs_of_errors() {
        for release in ["5.8.0", "5.10.0-21-amd64", "6.18.44", "10.0", "5.8"] {
            assert!(kernel_reports_to_syncfs(release), "{release}");
        }
        for release in ["5.7.19", "4.19.0", "3.10.0-1160.el7.x86_64", "", "unknown", "5"] {
            assert!(!kernel_reports_to_syncfs(release), "{release}");
        }
    }
}
