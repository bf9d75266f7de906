//! What the kernel reports, until it is handled. The reporting thread never waits for the handling one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventHandler, EventKind};
use parking_lot::{Condvar, Mutex};

use super::hint::RescanReason;

/// What was reported of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// An entry was made that was not there before.
    Created,
    /// An entry was moved there, maybe over another one.
    Arrived,
    /// Its content was changed, by somebody who may go on.
    Written,
    /// It was closed by a writer.
    Closed,
    /// Its mode, owner, times, links or attributes were changed.
    Attributes,
    /// It was moved away.
    MovedAway,
    /// It was removed.
    Removed,
    /// A directory was removed. Its parent reports it, and so does its own watch, maybe much later.
    RemovedDirectory,
    /// A watched directory was moved: its parent reports it too, if that is watched.
    SelfMoved,
}

impl Report {
    fn of(event: &Event) -> Option<Self> {
        Some(match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Self::Closed,
            // What has both names was reported of each of them.
            EventKind::Access(_) | EventKind::Other | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                return None;
            }
            EventKind::Create(_) => Self::Created,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) if event.tracker().is_none() => Self::SelfMoved,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Self::MovedAway,
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Any => Self::Arrived,
            EventKind::Modify(ModifyKind::Metadata(_)) => Self::Attributes,
            EventKind::Modify(_) => Self::Written,
            EventKind::Remove(RemoveKind::Folder | RemoveKind::Other) => Self::RemovedDirectory,
            EventKind::Remove(_) => Self::Removed,
        })
    }
}

/// A report of a path, relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) path: String,
    pub(super) report: Report,
}

/// What waits to be handled.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) reports: VecDeque<Reported>,
    /// Why some are missing.
    pub(super) lost: Option<RescanReason>,
    /// Whether to ask which spaces are wanted.
    pub(super) reconsider: bool,
}

#[derive(Debug, Default)]
struct InboxState {
    received: Received,
    /// Only reports of the present watcher are taken.
    generation: u64,
    woken: bool,
    stopped: bool,
}

/// The reports that wait.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    wake: Condvar,
    reports_max: usize,
}

impl Inbox {
    pub(super) fn new(reports_max: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), reports_max }
    }

    /// Waits until there is something to do, at most so long. `None` once the watch is to end.
    pub(super) fn wait(&self, at_most: Duration) -> Option<Received> {
        let mut state = self.state.lock();
        let idle = |state: &InboxState| {
            let received = &state.received;
            let silent = received.reports.is_empty() && received.lost.is_none() && !received.reconsider;
            silent && !state.woken && !state.stopped
        };
        if idle(&state) {
            self.wake.wait_for(&mut state, at_most);
        }
        state.woken = false;
        (!state.stopped).then(|| std::mem::take(&mut state.received))
    }

    /// Forgets what waits, and takes reports of the next watcher only. Returns its number.
    pub(super) fn begin_anew(&self) -> u64 {
        let mut state = self.state.lock();
        state.received.reports.clear();
        state.received.lost = None;
        state.generation += 1;
        state.generation
    }

    pub(super) fn reconsider(&self) {
        self.state.lock().received.reconsider = true;
        self.wake.notify_one();
    }

    pub(super) fn wake(&self) {
        self.state.lock().woken = true;
        self.wake.notify_one();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_one();
    }

    /// Holds up the thread that reads the kernel's queue.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized + '_ {
        self.state.lock()
    }

    fn put(&self, generation: u64, what: Result<Reported, RescanReason>) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        let received = &mut state.received;
        match what {
            Err(reason) => received.lost = received.lost.take().or(Some(reason)),
            // A file that is written in small pieces.
            Ok(reported) if received.reports.back() == Some(&reported) => return,
            Ok(_) if received.reports.len() >= self.reports_max => received.lost = Some(RescanReason::TooMany),
            Ok(reported) => received.reports.push_back(reported),
        }
        self.wake.notify_one();
    }
}

/// What the watcher calls.
#[derive(Debug)]
pub(super) struct InboxFiller {
    pub(super) inbox: std::sync::Arc<Inbox>,
    pub(super) generation: u64,
    pub(super) root: PathBuf,
}

impl InboxFiller {
    /// The path relative to the root. Names that are not UTF-8 are no items: a listing refuses them by name.
    fn relative<'a>(&self, path: &'a Path) -> Option<&'a str> {
        path.strip_prefix(&self.root).ok()?.to_str()
    }
}

impl EventHandler for InboxFiller {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.inbox.put(self.generation, Err(RescanReason::Unread(error.to_string()))),
        };
        // Asked of the event, which may have no path.
        if event.need_rescan() {
            return self.inbox.put(self.generation, Err(RescanReason::Overflow));
        }
        let Some(report) = Report::of(&event) else { return };
        for path in event.paths.iter().filter_map(|path| self.relative(path)) {
            self.inbox.put(self.generation, Ok(Reported { path: path.to_owned(), report }));
        }
    }
}
