//! What was found wrong with a database that is open. It is final: nothing is read from it or written to it any more.
//!
//! A damaged table answers as if rows had never been, and whoever believes that gives a space to another source. So the
//! first sign of damage ends all work with the database, and the caller ends the run.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::failure::{Failure, Trouble};

/// The damage to one database, if any was found.
#[derive(Debug)]
pub struct Damage(watch::Sender<Option<Arc<str>>>);

impl Default for Damage {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Damage {
    /// What was found first, if anything.
    pub fn found(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Completes when damage is found.
    pub async fn until_found(&self) {
        // It cannot fail: the sender is here.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn note(&self, words: &str) {
        self.0.send_if_modified(|found| {
            let first = found.is_none();
            if first {
                *found = Some(words.into());
            }
            first
        });
    }

    /// Notes a failure that is one of damage, and hands it on.
    pub(super) fn noted(&self, failure: Failure) -> Failure {
        if failure.trouble == Trouble::Damaged {
            self.note(failure.words());
        }
        failure
    }

    /// The failure of every request once damage was found.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        self.found().map_or(Ok(()), |words| Err(Failure::new(Trouble::Damaged, words)))
    }
}

/// The file as it was opened: SQLite itself goes on writing to one that was removed or cut.
#[derive(Debug)]
pub(super) struct OpenedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
}

impl OpenedFile {
    pub(super) fn of(path: PathBuf) -> std::io::Result<Self> {
        let facts = std::fs::metadata(&path)?;
        Ok(Self { device: facts.dev(), inode: facts.ino(), bytes: facts.len(), path })
    }

    /// Whether the file stands where it stood, and has not become shorter: in a write-ahead log's database it never does.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        let damaged = |words: &str| Err(Failure::new(Trouble::Damaged, words));
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
