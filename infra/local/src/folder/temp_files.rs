//! Where writes are prepared, out of sight: `<root>/.mill-in-progress/<one directory a process>/`.
//!
//! The process holds a lock on its directory as long as it lives. A directory whose lock can be had was left behind by
//! one that died, and is removed by the next that opens the store to write there. On file systems that several hosts
//! share, a lock may hold on one of them only: there a directory must also have been still for a day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use mill_ports::{Clock, CrashPoint, crash_point};

use super::dirents::Dirents;
use super::error::{FileOperation, FolderError};
use super::file_state::FileState;
use super::flusher::Flusher;
use super::in_progress;
use super::item_path::IN_PROGRESS;
use super::properties::{PropertyFit, PropertyPlan};
use super::root::{RootDir, directory_in};

/// After how many bytes a large file is sent to the disk on the way, so that a group's commit need not wait for it.
const FLUSH_BYTES: u64 = 32 * 1024 * 1024;
/// Where there is no room for a file of so many bytes, there is none for anything.
pub(super) const LEAST_BYTES: u64 = 4096;
/// How long a directory must have been still to be dead where locks may not tell.
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

/// A file in the making; removed again unless it was given its place.
#[derive(Debug)]
pub(super) struct TempFile {
    staging: Arc<StagingDir>,
    name: String,
    file: Option<OwnedFd>,
    written: u64,
    flushed: u64,
    /// In which generation its first byte was written.
    generation: u64,
    /// Whether it was made durable by itself.
    synced: bool,
    placed: bool,
    /// Whether its properties fit; told by [`TempFile::finish`].
    pub(super) fit: PropertyFit,
}

impl StagingDir {
    /// Makes the directory, and removes those of processes that died.
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
                    crash_point(CrashPoint::FolderStagingMade);
                    remove_dead(&all, clock);
                    return Ok(Self { flusher, name, directory, files: AtomicU64::new(0) });
                }
                // Another process, leaving or cleaning up, took one of both directories away in between.
                Ok(None) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(write(errno)),
            }
        }
        Err(FolderError::unexpected("no directory for writes in progress could be kept"))
    }

    /// Whether the directory is still there, in the root that was opened: somebody may have removed it.
    pub(super) fn is_alive(&self, flusher: &Arc<Flusher>) -> bool {
        Arc::ptr_eq(&self.flusher, flusher) && rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink > 0)
    }
}

impl StagingDir {
    /// Makes and removes a file, as each write of the store does.
    pub(super) fn probe_write(&self) -> Result<(), Errno> {
        let name = format!("{:x}", self.files.fetch_add(1, Ordering::Relaxed));
        let file = rustix::fs::openat(&self.directory, name.as_str(), CREATING, Mode::from_raw_mode(0o600))?;
        let written = rustix::io::write(&file, b"0").map(drop);
        written.and(rustix::fs::unlinkat(&self.directory, name.as_str(), AtFlags::empty()))
    }

    /// Whether there is room for a file of so many bytes: it is made, and removed. Where room cannot be set apart, as on some
    /// network file systems, what the file system says is free.
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

    /// Flushes the whole file system, for the room that it gives back.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.directory)
    }

    /// Makes and removes a file of that very name, which is as long out of sight.
    pub(super) fn probe_name(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::openat(&self.directory, name, CREATING, Mode::from_raw_mode(0o600)) {
            Ok(_) => rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Makes a directory and locks it; `None` if another process took it for a dead one's before the lock was had.
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

/// Removes what dead processes left below a root, where nothing is to be written now.
pub(super) fn remove_leftovers(root: &RootDir, clock: &dyn Clock) {
    let Ok(all) = directory_in(root, IN_PROGRESS) else { return };
    remove_dead(&all, clock);
    // Fails while a process that lives has its own there.
    let _ = rustix::fs::unlinkat(root, IN_PROGRESS, AtFlags::REMOVEDIR);
}

/// Removes what dead processes left. What cannot be removed stays, out of sight.
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
        crash_point(CrashPoint::FolderLeftoversRemoved);
        let _ = rustix::fs::unlinkat(all, name.as_str(), AtFlags::REMOVEDIR);
        tracing::info!(files = left.len(), "removed what a stopped process had left in progress");
    }
}

/// The width and sign of the kernel's number differ between processors; its low 32 bits are the file system's.
#[allow(clippy::unnecessary_cast)]
fn is_shared(file_system: rustix::fs::FsWord) -> bool {
    SHARED.contains(&(file_system as u64 & 0xFFFF_FFFF))
}

/// The names in a directory that are of Mill's own making: hexadecimal numbers.
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
        // Every file has been given its place or removed: each holds this alive.
        let root = &self.flusher.root;
        let Ok(all) = directory_in(root, IN_PROGRESS) else { return };
        let _ = rustix::fs::unlinkat(&all, self.name.as_str(), AtFlags::REMOVEDIR);
        // Fails while another process has its own there.
        let _ = rustix::fs::unlinkat(root, IN_PROGRESS, AtFlags::REMOVEDIR);
    }
}

impl TempFile {
    /// Makes an empty file.
    pub(super) fn create(staging: Arc<StagingDir>, plan: &PropertyPlan) -> Result<Self, FolderError> {
        let name = format!("{:x}", staging.files.fetch_add(1, Ordering::Relaxed));
        let generation = staging.flusher.generation();
        let file = rustix::fs::openat(&staging.directory, name.as_str(), CREATING, plan.mode_at_creation());
        let file = Some(file.map_err(|errno| FolderError::of(FileOperation::Write, errno))?);
        crash_point(CrashPoint::FolderTemporaryMade);
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
            crash_point(CrashPoint::FolderTemporaryWritten);
        }
        if self.written - self.flushed >= FLUSH_BYTES {
            rustix::fs::fdatasync(file).map_err(|errno| flusher.failed(errno))?;
            self.flushed = self.written;
        }
        Ok(())
    }

    /// Sets the properties, the mtime last: nothing touches the file from then on.
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
        crash_point(CrashPoint::FolderTemporaryFinished);
        Ok(())
    }

    /// Whether a flush of all is still to make it durable.
    pub(super) fn needs_sync(&self) -> bool {
        !self.synced
    }

    /// Fails for what was written before a flush that failed, unless it was made durable by itself.
    pub(super) fn check_not_condemned(&self) -> Result<(), FolderError> {
        let sound = self.synced || self.generation == self.staging.flusher.generation();
        if sound { Ok(()) } else { Err(condemned()) }
    }

    /// The directory and name under which it is prepared.
    pub(super) fn prepared(&self) -> (&OwnedFd, &str) {
        (&self.staging.directory, &self.name)
    }

    /// Notes that it was given its place.
    pub(super) fn placed(&mut self) {
        self.placed = true;
    }
}

fn write(errno: Errno) -> FolderError {
    FolderError::of(FileOperation::Write, errno)
}

/// What those are told whose bytes may be among those that did not reach the disk.
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
