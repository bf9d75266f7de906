//! Watches the root of a folder store, and hints at what may have changed below it.
//!
//! **Promise.** A hint is a reason to look, never a fact. What happens below a watched root while the watch stands is
//! hinted at, or a [`Rescan`] says which part may have changed unseen, and why: a queue that overflowed, a limit of the
//! system, a directory that was moved away, a mount that appeared or went. Nothing is lost silently. No symbolic link is
//! followed. A root that is missing, or is not the one first seen, gives no hints at all, and that is said.
//!
//! Of a file that is being written there is one hint once it is closed, or once it was quiet for a moment; at the latest
//! after some seconds. Memory is bounded: of too many changes at once there is a [`Rescan`].
//!
//! Not seen: writes through a memory map before the file is closed, writes by another name of the same file, and what other
//! hosts do on a network file system. These are for the listing.
//!
//! Reading order: `hint`, `inbox` (what the kernel reports), `debounce` (when a change is due), `kernel` (the watches),
//! `tree` (which directories are watched), `walk` (placing watches), `look` (what a change has become), `worker`.
//!
//! **Invariant:** a directory is read after its watch was placed, so what is put there before is listed and what is put
//! there later is reported.

mod debounce;
mod hint;
mod inbox;
mod kernel;
mod look;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mill_model::SpaceId;
use mill_ports::Clock;
use tokio::sync::mpsc;

pub use hint::{FolderHint, HintBatch, Rescan, RescanReason, RescanScope};

use super::Layout;
use super::root::Root;
use inbox::Inbox;
use worker::Worker;

/// Which spaces are watched.
pub trait WantedSpaces: fmt::Debug + Send + Sync + 'static {
    /// Whether changes in this space are of interest today.
    fn wants(&self, space: &SpaceId) -> bool;
}

/// What is watched, and how.
#[derive(Debug)]
pub struct WatchSettings {
    /// The directory that holds everything.
    pub root: PathBuf,
    /// How the spaces lie under it.
    pub layout: Layout,
    /// The spaces of interest.
    pub wanted: Arc<dyn WantedSpaces>,
    /// The clock, by which changes become due.
    pub clock: Arc<dyn Clock>,
    /// When changes are reported.
    pub pace: WatchPace,
    /// The limits of its memory.
    pub limits: WatchLimits,
}

/// When changes are reported.
#[derive(Debug, Clone, Copy)]
pub struct WatchPace {
    /// How long a file that is open for writing must be quiet.
    pub quiet: Duration,
    /// How long other changes wait, so that a burst is one batch.
    pub linger: Duration,
    /// After how long a file that is written all the time is reported nevertheless.
    pub latest: Duration,
    /// How often the root and the mounts beneath it are looked at while nothing happens.
    pub look_every: Duration,
    /// How long what reached a limit is left alone before it is tried again.
    pub retry_every: Duration,
}

impl WatchPace {
    /// The pace for people's folders.
    pub const USUAL: Self = Self {
        quiet: Duration::from_millis(300),
        linger: Duration::from_millis(50),
        latest: Duration::from_secs(5),
        look_every: Duration::from_secs(1),
        retry_every: Duration::from_mins(5),
    };
}

/// The limits of a watch's memory.
#[derive(Debug, Clone, Copy)]
pub struct WatchLimits {
    /// How many reports of the kernel wait to be handled.
    pub reports_max: usize,
    /// How many changed paths wait to be due and to be taken.
    pub pending_max: usize,
    /// How many hints one batch has at most.
    pub batch_max: usize,
    /// How many directories are watched at most, if that is not the system's to say.
    pub directories_max: Option<usize>,
}

impl WatchLimits {
    /// Some ten megabytes at most, and as many directories as the system allows.
    pub const USUAL: Self = Self { reports_max: 65_536, pending_max: 50_000, batch_max: 1_000, directories_max: None };
}

/// A watched folder. Dropping it ends the watch.
#[derive(Debug)]
pub struct FolderWatch {
    inbox: Arc<Inbox>,
    batches: mpsc::Receiver<HintBatch>,
}

impl FolderWatch {
    /// Begins to watch. The first batch comes when the watch stands; what changed before it is for a listing.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin(settings: WatchSettings) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox::new(settings.limits.reports_max));
        // One batch waits to be taken while the next one grows.
        let (sender, batches) = mpsc::channel(1);
        let root = Root::new(settings.root.clone());
        let worker = Worker::new(settings, root, Arc::clone(&inbox), sender);
        std::thread::Builder::new().name("mill-watch".to_owned()).spawn(move || worker.run())?;
        Ok(Self { inbox, batches })
    }

    /// Waits for the next hints. `None` if the watch has ended, which it does of itself only by a defect.
    ///
    /// Cancel-safe: no batch is lost.
    pub async fn next(&mut self) -> Option<HintBatch> {
        let batch = self.batches.recv().await;
        // There is room for the next batch.
        self.inbox.wake();
        batch
    }

    /// Asks anew which spaces are wanted.
    pub fn reconsider(&self) {
        self.inbox.reconsider();
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.inbox.stop();
    }
}
