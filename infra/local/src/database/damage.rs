//! What was found wrong with a database that is open. It is final: nothing is read from it or written to it any more.
//!
//! A damaged table answers as if rows had never been, and whoever believes that gives a space to another source. So the
//! first sign of damage ends all work with the database, and the caller ends the run.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::{DatabaseError, DatabaseErrorKind};
use super::write_lock::LOCK_TIMEOUT;

/// The damage to one database, if any was found; and whether it stands still for something that may pass.
#[derive(Debug)]
pub struct Damage {
    path: PathBuf,
    found: watch::Sender<Option<Arc<str>>>,
    standstill: Mutex<Option<Standstill>>,
    abandoned: AtomicBool,
}

/// That nothing can be written to a database: its disk is full, or somebody holds it locked.
#[derive(Debug, Clone)]
pub struct Standstill {
    /// Why, and what to do.
    pub why: Arc<str>,
    /// When the first write failed, of those that have failed again and again since.
    pub since: Instant,
    /// When the last one failed.
    pub last: Instant,
}

/// So long after the last failure a write that succeeds shows that it has passed. On a full disk a small one succeeds now and
/// then, and whoever fails tries again within that time.
const PASSED_AFTER: Duration = Duration::from_mins(1);

/// How long a write to a database waits that was given up.
const ABANDONED_TIMEOUT: Duration = Duration::from_millis(500);

impl Damage {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, found: watch::Sender::new(None), standstill: Mutex::default(), abandoned: AtomicBool::new(false) }
    }

    /// Why nothing can be written for now, if nothing can.
    pub fn standstill(&self) -> Option<Standstill> {
        self.standstill.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up a database that stands still: what is still to be written at the end of the process fails soon, or else each
    /// such write would wait as long as the first.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// How long a write waits for whoever holds the database locked.
    pub(super) fn timeout(&self) -> Duration {
        if self.abandoned.load(Ordering::Relaxed) { ABANDONED_TIMEOUT } else { LOCK_TIMEOUT }
    }

    /// Notes what became of a write.
    pub(super) fn note_write(&self, failed: Option<&DatabaseError>) {
        let mut standstill = self.standstill.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match failed {
            Some(failure) if failure.kind == DatabaseErrorKind::Unavailable => {
                let since = standstill.as_ref().map_or(now, |standstill| standstill.since);
                *standstill = Some(Standstill { why: failure.words().into(), since, last: now });
            }
            _ if standstill.as_ref().is_some_and(|standstill| now.duration_since(standstill.last) > PASSED_AFTER) => {
                *standstill = None
            }
            _ => {}
        }
    }

    /// What was found first, if anything.
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

    /// Notes a failure that is not one of a request, and hands it on with what to do.
    pub(super) fn note_error(&self, failure: DatabaseError) -> DatabaseError {
        let failure = failure.at(&self.path);
        if failure.kind == DatabaseErrorKind::Damaged {
            self.note(failure.words());
        }
        failure
    }

    /// The failure of every request once damage was found.
    pub(super) fn check(&self) -> Result<(), DatabaseError> {
        self.found().map_or(Ok(()), |words| Err(DatabaseError::new(DatabaseErrorKind::Damaged, words)))
    }
}

/// The file as it was opened: SQLite itself goes on writing to one that was removed or cut.
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

    /// Whether the file stands where it stood, and has not become shorter: in a write-ahead log's database it never does.
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
            // A disk that does not answer now may answer later: SQLite will say.
            Err(_) => Ok(()),
        }
    }
}
