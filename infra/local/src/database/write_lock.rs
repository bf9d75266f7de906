//! A fair write lock for all processes on one database.
//!
//! SQLite's write lock goes to whoever happens to ask at the right moment, and a process that commits back to back asks
//! again at once: others were seen waiting ten seconds. So a writer first acquires this lock, an advisory lock on a
//! file beside the database, and holds it only until it has SQLite's lock. While one process writes, the next one holds
//! this lock, and the first has to queue behind it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mill_ports::Rng;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The longest wait for this lock, and again for SQLite's own lock.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct WriteLock {
    file: File,
    chance: Arc<dyn Rng>,
}

/// The lock, held until this is dropped.
pub(super) struct WriteLockGuard<'t>(&'t WriteLock);

impl WriteLock {
    pub(super) fn open(path: &Path, chance: Arc<dyn Rng>) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file, chance })
    }

    /// Waits for the lock. Returns `None` when the time is over.
    pub(super) fn acquire(&self, timeout: Duration) -> std::io::Result<Option<WriteLockGuard<'_>>> {
        let mut backoff = LockBackoff::with(timeout, &*self.chance);
        loop {
            match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(WriteLockGuard(self))),
                Err(Errno::WOULDBLOCK | Errno::INTR) if backoff.pause() => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for WriteLockGuard<'_> {
    fn drop(&mut self) {
        // Releasing a lock that we hold cannot fail; if it did, closing the file at exit would release it.
        let _ = rustix::fs::flock(&self.0.file, FlockOperation::Unlock);
    }
}

/// Pauses of random length, 0.2 to 2 ms, until a timeout: several waiting processes do not wake together, and none
/// sleeps long while the lock is free. A waiting process costs some 0.2 % of a core.
pub(super) struct LockBackoff<'c> {
    chance: &'c dyn Rng,
    timeout: Duration,
    until: Option<Instant>,
}

impl<'c> LockBackoff<'c> {
    pub(super) fn new(chance: &'c dyn Rng) -> Self {
        Self::with(LOCK_TIMEOUT, chance)
    }

    pub(super) fn with(timeout: Duration, chance: &'c dyn Rng) -> Self {
        Self { chance, timeout, until: None }
    }

    /// Pauses for a moment. Returns `false` without a pause once the timeout is over.
    pub(super) fn pause(&mut self) -> bool {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + self.timeout) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200 + self.chance.next_u64() % 1800));
        true
    }
}
