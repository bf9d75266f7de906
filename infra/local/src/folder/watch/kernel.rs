//! The kernel's watches: one for each directory, placed by the crate `notify`, never recursively.
//!
//! The crate's own recursion would place watches without reading the directories, follow what is moved by its old name,
//! and stop at the first limit without naming what is left.

use std::path::PathBuf;
use std::sync::Arc;

use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;

use super::hint::RescanReason;
use super::inbox::{Inbox, InboxFiller};

/// Why a directory has no watch.
#[derive(Debug)]
pub(super) enum WatchFailure {
    /// It is not there any more.
    Absent,
    /// The system, or a limit, does not let it be watched.
    Left(RescanReason),
}

/// The watches of one root.
pub(super) struct KernelWatches {
    watcher: RecommendedWatcher,
    root: PathBuf,
    placed: usize,
    directories_max: Option<usize>,
}

impl KernelWatches {
    /// Begins anew: what was reported before is forgotten.
    pub(super) fn begin(
        inbox: &Arc<Inbox>,
        root: PathBuf,
        directories_max: Option<usize>,
    ) -> Result<Self, RescanReason> {
        let reporter = InboxFiller { inbox: Arc::clone(inbox), generation: inbox.begin_anew(), root: root.clone() };
        let watcher = RecommendedWatcher::new(reporter, Config::default().with_follow_symlinks(false));
        let watcher = watcher.map_err(|error| match errno(&error) {
            Some(Errno::MFILE | Errno::NFILE) => RescanReason::InstanceLimit,
            _ => RescanReason::Unwatched(error.to_string()),
        })?;
        Ok(Self { watcher, root, placed: 0, directories_max })
    }

    /// Watches one directory, relative to the root.
    pub(super) fn watch(&mut self, path: &str) -> Result<(), WatchFailure> {
        if self.directories_max.is_some_and(|max| self.placed >= max) {
            return Err(WatchFailure::Left(RescanReason::WatchLimit));
        }
        let watched = self.watcher.watch(&self.path(path), RecursiveMode::NonRecursive);
        watched.map_err(|error| match (&error.kind, errno(&error)) {
            (ErrorKind::MaxFilesWatch, _) | (_, Some(Errno::NOSPC)) => WatchFailure::Left(RescanReason::WatchLimit),
            (ErrorKind::PathNotFound, _) | (_, Some(Errno::NOENT | Errno::NOTDIR)) => WatchFailure::Absent,
            (ErrorKind::Io(error), _) => WatchFailure::Left(RescanReason::Unwatched(error.to_string())),
            _ => WatchFailure::Left(RescanReason::Unwatched(error.to_string())),
        })?;
        self.placed += 1;
        Ok(())
    }

    /// Takes a watch away. It may be gone already, with its directory.
    pub(super) fn unwatch(&mut self, path: &str) {
        let _ = self.watcher.unwatch(&self.path(path));
        self.placed = self.placed.saturating_sub(1);
    }

    fn path(&self, path: &str) -> PathBuf {
        // The path of the root itself without a slash at its end, as events name it.
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

fn errno(error: &notify::Error) -> Option<Errno> {
    match &error.kind {
        ErrorKind::Io(error) => Errno::from_io_error(error),
        _ => None,
    }
}

impl std::fmt::Debug for KernelWatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelWatches").field("root", &self.root).field("placed", &self.placed).finish_non_exhaustive()
    }
}
