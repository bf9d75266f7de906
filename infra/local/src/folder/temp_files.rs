//! The hidden files in which writes are prepared: `<root>/.mill-in-progress/<one directory for each process>/`.
//!
//! A process locks its directory as long as it is alive. A directory whose lock is free was left behind by a dead
//! process, and the next process that opens the store for writing removes it. On file systems that several hosts share,
//! a lock may hold on one host only: there a directory must also be unchanged for a day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use mill_hooks::crash_point;
use mill_ports::Clock;

use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::flusher::Flusher;
use super::in_progress;
use super::item_path::IN_PROGRESS;
use super::properties::{PropertyFit, PropertyPlan};
use super::root::{RootDir, directory_in};
use crate::crash_points;

/// A large file is flushed each time after this many bytes, so that a group's commit need not wait for it.
const FLUSH_BYTES: u64 = 32 * 1024 * 1024;
/// If a file of this size does not fit, no file does.
pub(super) const LEAST_BYTES: u64 = 4096;
/// How long a directory must be unchanged to count as dead where locks may not show it.
const STILL: Duration = Duration::from_hours(24);
/// File systems that several hosts may share: NFS, CIFS and SMB, Ceph, 9P, FUSE (`sshfs`), GPFS, Lustre.
const SHARED: [u64; 8] =
    [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x00C3_6400, 0x0102_1997, 0x6573_5546, 0x4750_4653, 0x0BD0_0BD0];
const CREATING: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A process's own directory for writes in progress.
#[derive(Debug)]
pub(super) struct StagingDir {
    flusher: Arc<Flusher>,
    name: String,
    directory: OwnedFd,
    files: AtomicU64,
}

/// A file being prepared. Dropping it deletes it, unless it was moved to its path.
#[derive(Debug)]
pub(super) struct TempFile {
    staging: Arc<StagingDir>,
    name: String,
    file: Option<OwnedFd>,
    written: u64,
    flushed: u64,
    /// The generation in which its first byte was written.
    generation: u64,
    /// Whether it was flushed by itself.
    synced: bool,
    placed: bool,
    /// Where its properties fit; set by [`TempFile::finish`].
    pub(super) fit: PropertyFit,
}

impl StagingDir {
    /// Creates the directory, and removes those of dead processes.
    pub(super) fn open(flusher: Arc<Flusher>, clock: &dyn Clock) -> Result<Self, FolderError> {
        let root = &flusher.root;
        for _ in 0..100 {
            match rustix::fs::mkdirat(root, IN_PROGRESS, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(write(errno)),
            }
            let all = match directory_in(root, IN_PROGRESS) {
                Ok(all) => all,
                Err(Errno::NOENT) => continue,
                Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                    let what = format!("`{IN_PROGRESS}` in the root, where writes are prepared, is no directory");
                    return Err(FolderError::unavailable(format!("{what} ({errno})")));
                }
                Err(errno) => return Err(write(errno)),
            };
            let name = in_progress::name(root.mark());
            match own(&all, &name) {
                Ok(Some(directory)) => {
                    crash_point(crash_points::FOLDER_STAGING_MADE);
                    remove_dead(&all, clock);
                    return Ok(Self { flusher, name, directory, files: AtomicU64::new(0) });
                }
                // Another process, which ends or cleans up, has removed one of the two directories in between.
                Ok(None) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(write(errno)),
            }
        }
        Err(FolderError::unexpected("no directory for writes in progress could be kept"))
    }

    /// Whether the directory still exists in the opened root: somebody may have removed it.
    pub(super) fn is_alive(&self, flusher: &Arc<Flusher>) -> bool {
        Arc::ptr_eq(&self.flusher, flusher) && rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink > 0)
    }
}

impl StagingDir {
    /// Creates, writes and removes a file, as each write of the store does.
    pub(super) fn probe_write(&self) -> Result<(), Errno> {
        let name = format!("{:x}", self.files.fetch_add(1, Ordering::Relaxed));
        let file = rustix::fs::openat(&self.directory, name.as_str(), CREATING, Mode::from_raw_mode(0o600))?;
        let written = rustix::io::write(&file, b"0").map(drop);
        written.and(rustix::fs::unlinkat(&self.directory, name.as_str(), AtFlags::empty()))
    }

    /// Whether a file of so many bytes fits: allocates one, and removes it. Where space cannot be allocated, as on some
    /// network file systems, compares with the free space that the file system reports.
    pub(super) fn probe_capacity(&self, bytes: u64) -> Result<(), Errno> {
        let name = format!("{:x}", self.files.fetch_add(1, Ordering::Relaxed));
        let file = rustix::fs::openat(&self.directory, name.as_str(), CREATING, Mode::from_raw_mode(0o600))?;
        let held = if bytes <= LEAST_BYTES {
            rustix::io::write(&file, &vec![0; bytes as usize]).map(drop)
        } else {
            match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes) {
                Err(Errno::NOTSUP | Errno::NOSYS) => rustix::fs::fstatvfs(&file).and_then(|all| {
                    let free = all.f_bavail.saturating_mul(all.f_frsize);
                    if free >= bytes { Ok(()) } else { Err(Errno::NOSPC) }
                }),
                held => held,
            }
        };
        let removed = rustix::fs::unlinkat(&self.directory, name.as_str(), AtFlags::empty());
        held.and(removed)
    }

    /// Flushes the whole file system, which may free space.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.directory)
    }

    /// Whether the file system accepts that very name: creates and removes a hidden file of that name.
    pub(super) fn probe_name(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::openat(&self.directory, name, CREATING, Mode::from_raw_mode(0o600)) {
            Ok(_) => rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Creates a directory and locks it; `None` if another process removed it as a dead one's before it was locked.
fn own(all: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    rustix::fs::mkdirat(all, name, Mode::from_raw_mode(0o700))?;
    let directory = directory_in(all, name)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    Ok(rustix::fs::statat(all, name, AtFlags::SYMLINK_NOFOLLOW).is_ok().then_some(directory))
}

/// Removes the leftovers of dead processes below a root that is not written now.
pub(super) fn remove_leftovers(root: &RootDir, clock: &dyn Clock) {
    let Ok(all) = directory_in(root, IN_PROGRESS) else { return };
    remove_dead(&all, clock);
    // Fails while a living process has its own directory there.
    let _ = rustix::fs::unlinkat(root, IN_PROGRESS, AtFlags::REMOVEDIR);
}

/// Removes the leftovers of dead processes. Those that cannot be removed stay hidden.
fn remove_dead(all: &OwnedFd, clock: &dyn Clock) {
    let shared = rustix::fs::fstatfs(all).is_ok_and(|file_system| is_shared(file_system.f_type));
    for name in names(all) {
        let Ok(directory) = directory_in(all, name.as_str()) else { continue };
        let still = |stat| FileState::of(&stat).modified_at().plus(STILL) < clock.now();
        if shared && !rustix::fs::fstat(&directory).is_ok_and(still) {
            continue;
        }
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let left = names(&directory);
        for file in &left {
            let _ = rustix::fs::unlinkat(&directory, file.as_str(), AtFlags::empty());
        }
        crash_point(crash_points::FOLDER_LEFTOVERS_REMOVED);
        let _ = rustix::fs::unlinkat(all, name.as_str(), AtFlags::REMOVEDIR);
        tracing::info!(files = left.len(), "removed what a stopped process had left in progress");
    }
}

/// The width and sign of the kernel's number differ between processors; its low 32 bits are the file system's.
#[allow(clippy::unnecessary_cast)]
fn is_shared(file_system: rustix::fs::FsWord) -> bool {
    SHARED.contains(&(file_system as u64 & 0xFFFF_FFFF))
}

/// The names in a directory that Mill gave: hexadecimal numbers.
fn names(directory: &OwnedFd) -> Vec<String> {
    let mut names = Vec::new();
    let read = Dirents::with_buffer(32 * 1024).read(directory, |name, _| {
        if name.iter().all(u8::is_ascii_hexdigit) {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        true
    });
    if let Err(errno) = read {
        tracing::warn!(%errno, "what stopped processes left in progress could not be read");
    }
    names
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // Every file was moved to its path or removed: each holds a reference to this.
        let root = &self.flusher.root;
        let Ok(all) = directory_in(root, IN_PROGRESS) else { return };
        let _ = rustix::fs::unlinkat(&all, self.name.as_str(), AtFlags::REMOVEDIR);
        // Fails while another process has its own directory there.
        let _ = rustix::fs::unlinkat(root, IN_PROGRESS, AtFlags::REMOVEDIR);
    }
}

impl TempFile {
    /// Creates an empty file.
    pub(super) fn create(staging: Arc<StagingDir>, plan: &PropertyPlan) -> Result<Self, FolderError> {
        let name = format!("{:x}", staging.files.fetch_add(1, Ordering::Relaxed));
        let generation = staging.flusher.generation();
        let file = rustix::fs::openat(&staging.directory, name.as_str(), CREATING, plan.mode_at_creation());
        let file = Some(file.map_err(|errno| FolderError::of(FileOperation::Write, errno))?);
        crash_point(crash_points::FOLDER_TEMPORARY_MADE);
        let fit = PropertyFit::InFile;
        Ok(Self { staging, name, file, written: 0, flushed: 0, generation, synced: false, placed: false, fit })
    }

    /// Writes the next bytes.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> Result<(), FolderError> {
        let Some(file) = &self.file else { return Err(write(Errno::BADF)) };
        let flusher = &self.staging.flusher;
        if self.generation != flusher.generation() && !flusher.singly() {
            return Err(condemned());
        }
        for chunk in chunks {
            let mut left = &chunk[..];
            while !left.is_empty() {
                match rustix::io::write(file, left) {
                    Ok(0) => return Err(write(Errno::IO)),
                    Ok(written) => left = &left[written..],
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(write(errno)),
                }
            }
            self.written += chunk.len() as u64;
            crash_point(crash_points::FOLDER_TEMPORARY_WRITTEN);
        }
        if self.written - self.flushed >= FLUSH_BYTES {
            rustix::fs::fdatasync(file).map_err(|errno| flusher.failed(errno))?;
            self.flushed = self.written;
        }
        Ok(())
    }

    /// Sets the properties, the mtime last: nothing changes the file from then on.
    pub(super) fn finish(&mut self, plan: &PropertyPlan) -> Result<(), FolderError> {
        let Some(file) = self.file.take() else { return Err(write(Errno::BADF)) };
        let flusher = &self.staging.flusher;
        if self.flushed > 0 {
            rustix::fs::fdatasync(&file).map_err(|errno| flusher.failed(errno))?;
        }
        self.fit = plan.apply(file.as_fd()).map_err(write)?;
        if flusher.singly() {
            flusher.sync_file(&file)?;
            self.synced = true;
        }
        crash_point(crash_points::FOLDER_TEMPORARY_FINISHED);
        Ok(())
    }

    /// Whether the file still needs a flush of the whole file system.
    pub(super) fn needs_sync(&self) -> bool {
        !self.synced
    }

    /// Fails if a flush has failed since the file was written, unless the file was flushed by itself.
    pub(super) fn check_not_condemned(&self) -> Result<(), FolderError> {
        let sound = self.synced || self.generation == self.staging.flusher.generation();
        if sound { Ok(()) } else { Err(condemned()) }
    }

    /// The directory and name of the file.
    pub(super) fn prepared(&self) -> (&OwnedFd, &str) {
        (&self.staging.directory, &self.name)
    }

    /// Notes that the file was moved to its path, so that dropping it deletes nothing.
    pub(super) fn placed(&mut self) {
        self.placed = true;
    }
}

fn write(errno: Errno) -> FolderError {
    FolderError::of(FileOperation::Write, errno)
}

/// The error of a write whose bytes may not have reached the disk.
pub(super) fn condemned() -> FolderError {
    FolderError::unexpected(
        "something written at the same time did not reach the disk, so that all of it has to be written anew",
    )
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.placed {
            let _ = rustix::fs::unlinkat(&self.staging.directory, self.name.as_str(), AtFlags::empty());
        }
    }
}
