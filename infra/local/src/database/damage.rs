//! Damage found in an open database. Damage is final: the database is neither read nor written any more.
//!
//! A damaged table may lack rows, and a caller that trusts it would give a space to another source. So the first sign
//! of damage ends all work with the database, and the caller ends the run.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::{DatabaseError, DatabaseErrorKind};
use super::write_lock::LOCK_TIMEOUT;

/// The damage found in a database, if any, and whether its writes fail for a cause that may pass.
#[derive(Debug)]
pub struct Damage {
    path: PathBuf,
    found: watch::Sender<Option<Arc<str>>>,
    standstill: Mutex<Option<Standstill>>,
    abandoned: AtomicBool,
}

/// A database to which nothing can be written now: its disk is full, or another program locks it.
#[derive(Debug, Clone)]
pub struct Standstill {
    /// The cause, and what to do.
    pub why: Arc<str>,
    /// When the first of these failed writes failed.
    pub since: Instant,
    /// When the last of them failed.
    pub last: Instant,
}

/// A write that succeeds this long after the last failure ends the standstill. An earlier success proves nothing: on a
/// full disk a small write succeeds now and then, and failed writes are retried within that time.
const PASSED_AFTER: Duration = Duration::from_mins(1);

/// How long a write waits for a lock after [`Damage::abandon`].
const ABANDONED_TIMEOUT: Duration = Duration::from_millis(500);

impl Damage {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, found: watch::Sender::new(None), standstill: Mutex::default(), abandoned: AtomicBool::new(false) }
    }

    /// The current standstill, if there is one.
    pub fn standstill(&self) -> Option<Standstill> {
        self.standstill.lock().clone()
    }

    /// Makes writes fail soon while the database is locked. The last writes of a process that ends would else each wait
    /// as long as the first.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// How long a write waits while another process locks the database.
    pub(super) fn timeout(&self) -> Duration {
        if self.abandoned.load(Ordering::Relaxed) { ABANDONED_TIMEOUT } else { LOCK_TIMEOUT }
    }

    /// Notes the result of a write.
    pub(super) fn note_write(&self, failed: Option<&DatabaseError>) {
        let mut standstill = self.standstill.lock();
        let now = Instant::now();
        match failed {
            Some(failure) if failure.kind == DatabaseErrorKind::Unavailable => {
                let since = standstill.as_ref().map_or(now, |standstill| standstill.since);
                *standstill = Some(Standstill { why: failure.words().into(), since, last: now });
            }
            _ if standstill.as_ref().is_some_and(|standstill| now.duration_since(standstill.last) > PASSED_AFTER) => {
                *standstill = None;
            }
            _ => {}
        }
    }

    /// The first finding, if there is any.
    pub fn found(&self) -> Option<Arc<str>> {
        self.found.borrow().clone()
    }

    /// Completes when damage is found.
    pub async fn until_found(&self) {
        // It cannot fail: the sender is here.
        let _ = self.found.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn note(&self, words: &str) {
        self.found.send_if_modified(|found| {
            let first = found.is_none();
            if first {
                *found = Some(words.into());
            }
            first
        });
    }

    /// Notes an error that is damage, and returns the error with what to do.
    pub(super) fn note_error(&self, failure: DatabaseError) -> DatabaseError {
        let failure = failure.at(&self.path);
        if failure.kind == DatabaseErrorKind::Damaged {
            self.note(failure.words());
        }
        failure
    }

    /// Fails once damage was found.
    pub(super) fn check(&self) -> Result<(), DatabaseError> {
        self.found().map_or(Ok(()), |words| Err(DatabaseError::new(DatabaseErrorKind::Damaged, words)))
    }
}

/// The file as it was opened. SQLite does not notice that a file was removed or truncated while it writes.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
}

impl DatabaseFile {
    pub(super) fn of(path: PathBuf) -> std::io::Result<Self> {
        let facts = std::fs::metadata(&path)?;
        Ok(Self { device: facts.dev(), inode: facts.ino(), bytes: facts.len(), path })
    }

    /// Fails if the file at the path is another one or has become shorter. The file of a database with a write-ahead
    /// log never shrinks.
    pub(super) fn check_unchanged(&mut self) -> Result<(), DatabaseError> {
        let damaged = |words: &str| Err(DatabaseError::new(DatabaseErrorKind::Damaged, words));
        match std::fs::metadata(&self.path) {
            Ok(facts) if (facts.dev(), facts.ino()) != (self.device, self.inode) => {
                damaged("another file was put in its place while it was in use")
            }
            Ok(facts) if facts.len() < self.bytes => damaged("it was cut short while it was in use"),
            Ok(facts) => {
                self.bytes = facts.len();
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => damaged("it was removed while it was in use"),
            // A disk that fails now may recover: SQLite will report it.
            Err(_) => Ok(()),
        }
    }
}
