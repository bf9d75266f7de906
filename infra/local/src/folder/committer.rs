//! The one thread of a store that makes changes, in groups: a whole group of writers shares two flushes.
//!
//! ```text
//! writers:    stage ─┐  stage ─┐  stage ─┐    (temporary files, each in its own blocking call)
//! committer:         └─> syncfs ─> lock ─> check, make directories, rename … ─> unlock ─> syncfs ─> answer all
//!                       the bytes            the names appear, each whole                 the names are durable
//! ```
//!
//! The second flush of a group is the first of the next one, whose files were prepared meanwhile. When it fails, the
//! first group's names are removed again and the next group's files are deleted, since the kernel does not report which
//! of them the failure concerns. Where each file is [flushed by itself](super::flusher), that happens while it is
//! prepared, and the directories are flushed right after the renames.
//!
//! No other Mill writes between the check of a precondition and the rename: each takes the [root
//! lock](super::root_lock). Other programs are not kept out, and on a network file system the lock may exclude only
//! processes of one host. So the store declares `native_conditions` false.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mill_hooks::crash_point;
use mill_model::Version;
use mill_ports::{Clock, Precondition};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::apply::Applier;
use super::error::FolderError;
use super::flusher::Flusher;
use super::item_path::ItemPath;
use super::properties::{PropertyFit, PropertyPlan};
use super::respelling::SpellingChange;
use super::root::{Root, RootDir};
use super::root_lock::{PATIENCE, RootLock};
use super::temp_files::{StagingDir, TempFile};
use super::undo::Undo;
use crate::crash_points;

/// Most changes in a group: a longer group would keep other processes waiting for the lock.
const GROUP_MAX: usize = 1024;

/// The path of an item that is written, and the modes of the directories on the way to it.
#[derive(Debug, Clone)]
pub(super) struct NewPath {
    pub(super) item_path: ItemPath,
    /// The permission bits of the original's directories, outermost first; empty where it has none.
    pub(super) directory_modes: Vec<u32>,
}

/// A change to be made.
#[derive(Debug)]
pub(super) enum Change {
    /// Moves a prepared file to an item's path.
    PutFile(TempFile, NewPath, Precondition),
    /// Creates an empty directory that is an item, or sets the properties of the existing one.
    Directory(NewPath, PropertyPlan, Precondition),
    /// Sets the properties of an item.
    Properties(ItemPath, PropertyPlan, Precondition),
    /// Removes an item.
    Remove(ItemPath, Precondition),
    /// Changes the spelling of a name.
    Respell(SpellingChange),
    /// Creates a space's directory.
    CreateSpace(String),
    /// Removes a space's directory if it is empty.
    RemoveSpace(String),
}

impl Change {
    /// The path of the changed item, if the change concerns one.
    pub(super) fn item_path(&self) -> Option<&ItemPath> {
        match self {
            Self::PutFile(_, new_path, _) | Self::Directory(new_path, ..) => Some(&new_path.item_path),
            Self::Properties(item_path, ..) | Self::Remove(item_path, _) => Some(item_path),
            Self::Respell(_) | Self::CreateSpace(_) | Self::RemoveSpace(_) => None,
        }
    }
}

/// The result of a change.
#[derive(Debug)]
pub(super) enum ChangeResult {
    /// The item has this version; its properties may have to go to the sidecar.
    Item(Version, PropertyFit),
    /// Nothing was changed: the file has other names too (hard links), which share its properties.
    Shared(Version),
    /// The item was removed.
    Removed,
    /// There was no such item.
    WasAbsent,
    /// The space exists, or is removed, as requested.
    Space,
}

type ChangeReply = oneshot::Sender<Result<ChangeResult, FolderError>>;

struct CommitJob {
    change: Change,
    answer: ChangeReply,
}

/// A store's committer. Its thread starts with the first change; dropping the committer joins it after all changes.
#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<CommitterShared>,
    state: Mutex<CommitterState>,
}

/// What the writers and the committer's thread share.
#[derive(Debug)]
struct CommitterShared {
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
    flusher: Mutex<Option<Arc<Flusher>>>,
}

#[derive(Debug, Default)]
struct CommitterState {
    jobs: Option<Sender<CommitJob>>,
    thread: Option<JoinHandle<()>>,
    staging: Option<Arc<StagingDir>>,
}

impl CommitterShared {
    /// The store's flusher, opened before anything is written. Fails while the root is missing.
    fn flusher(&self) -> Result<Arc<Flusher>, FolderError> {
        let identity = self.root.dir()?.identity;
        let mut begun = self.flusher.lock();
        match &*begun {
            Some(flusher) if flusher.root.identity == identity => Ok(Arc::clone(flusher)),
            _ => {
                let flusher = Arc::new(Flusher::new(self.root.reopen()?, Arc::clone(&self.clock)));
                Ok(Arc::clone(begun.insert(flusher)))
            }
        }
    }
}

impl Committer {
    pub(super) fn new(root: Arc<Root>, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(CommitterShared { root, clock, flusher: Mutex::default() }), state: Mutex::default() }
    }

    /// The directory where files are prepared. Created on first use, so that a store that is only read is never
    /// written.
    pub(super) fn staging(&self) -> Result<Arc<StagingDir>, FolderError> {
        let flusher = self.shared.flusher()?;
        let mut state = self.state();
        if let Some(staging) = &state.staging
            && staging.is_alive(&flusher)
        {
            return Ok(Arc::clone(staging));
        }
        let staging = Arc::new(StagingDir::open(flusher, &*self.shared.clock)?);
        state.staging = Some(Arc::clone(&staging));
        Ok(staging)
    }

    /// The store's flusher, for tests that make a flush fail.
    #[cfg(test)]
    pub(super) fn flusher(&self) -> Arc<Flusher> {
        self.shared.flusher().unwrap()
    }

    /// Makes a change and waits until it is durable.
    pub(super) async fn commit(&self, change: Change) -> Result<ChangeResult, FolderError> {
        let (answer, answered) = oneshot::channel();
        self.send(CommitJob { change, answer })?;
        answered.await.unwrap_or_else(|_| Err(FolderError::unexpected("the committer of the folder ended")))
    }

    fn send(&self, job: CommitJob) -> Result<(), FolderError> {
        let mut state = self.state();
        let job = match &state.jobs {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(returned) => returned.0,
            },
            None => job,
        };
        // This is the first job, or the thread has panicked, which must not end the store.
        let (jobs, coming) = channel();
        let worker = CommitWorker { shared: Arc::clone(&self.shared), open: None, applied: Vec::new() };
        let thread = std::thread::Builder::new().name("mill-folder".to_owned()).spawn(move || worker.run(&coming));
        state.thread = Some(thread.map_err(FolderError::unexpected)?);
        jobs.send(job).map_err(|_| FolderError::unexpected("the committer of the folder ended"))?;
        state.jobs = Some(jobs);
        Ok(())
    }

    /// Waits for all changes, and removes the directory for writes in progress.
    pub(super) fn finish(&self) {
        let (jobs, thread, staging) = {
            let mut state = self.state();
            (state.jobs.take(), state.thread.take(), state.staging.take())
        };
        drop(jobs);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        drop(staging);
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, CommitterState> {
        self.state.lock()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.finish();
    }
}

struct CommitWorker {
    shared: Arc<CommitterShared>,
    open: Option<OpenRoot>,
    /// Changes that are applied but not yet durable.
    applied: Vec<AppliedChange>,
}

/// The opened root, while it exists.
struct OpenRoot {
    /// Opened for this thread alone: the lock belongs to this open file description.
    root: RootDir,
    flusher: Arc<Flusher>,
}

/// An applied change, the channel of its caller, and how to undo it.
struct AppliedChange {
    answer: ChangeReply,
    changed: ChangeResult,
    undo: Option<Undo>,
}

impl CommitWorker {
    fn run(mut self, coming: &Receiver<CommitJob>) {
        loop {
            let mut group = Vec::new();
            if self.applied.is_empty() {
                match coming.recv() {
                    Ok(first) => group.push(first),
                    Err(_) => return,
                }
            }
            group.extend(coming.try_iter().take(GROUP_MAX - group.len()));
            // A caller that no longer waits may have sent another change: the dropped one must not come after it.
            group.retain(|job| !job.answer.is_closed());
            self.round(group);
        }
    }

    /// Flushes the last group and the bytes of the next one, answers the last group, and applies the next.
    fn round(&mut self, group: Vec<CommitJob>) {
        let flushed = self.open_root().and_then(|()| self.flush(&group));
        self.reply_all(flushed.as_ref().err());
        match flushed {
            Ok(()) => self.apply_group(group),
            Err(error) => fail_all(group, &error),
        }
    }

    /// Opens the root unless it is open already.
    fn open_root(&mut self) -> Result<(), FolderError> {
        let flusher = self.shared.flusher()?;
        if self.open.as_ref().is_none_or(|open| !Arc::ptr_eq(&open.flusher, &flusher)) {
            // The disk was away and is back: nobody reports what it lost meanwhile.
            self.reply_all(Some(&FolderError::unavailable("the disk was away while it was written")));
            self.open = Some(OpenRoot { root: self.shared.root.reopen()?, flusher });
        }
        Ok(())
    }

    /// Flushes the applied changes and the bytes of the group's files, unless all of them are durable already.
    fn flush(&self, group: &[CommitJob]) -> Result<(), FolderError> {
        let Some(open) = &self.open else { return Ok(()) };
        open.flusher.recover();
        let files = |job: &CommitJob| matches!(&job.change, Change::PutFile(temp_file, ..) if temp_file.needs_sync());
        let (bytes, names) = (group.iter().any(files), !self.applied.is_empty());
        if !bytes && !names {
            return Ok(());
        }
        let passed = |happens: bool, point| {
            if happens {
                crash_point(point);
            }
        };
        passed(bytes, crash_points::FOLDER_BEFORE_FIRST_SYNC);
        passed(names, crash_points::FOLDER_BEFORE_SECOND_SYNC);
        open.flusher.sync_all()?;
        passed(bytes, crash_points::FOLDER_FIRST_SYNCED);
        passed(names, crash_points::FOLDER_SECOND_SYNCED);
        Ok(())
    }

    /// Answers the applied changes. After a failed flush none of them is certain to be durable: then each is undone
    /// where that is possible, the last first.
    fn reply_all(&mut self, error: Option<&FolderError>) {
        let applied = std::mem::take(&mut self.applied);
        let Some(error) = error else {
            for AppliedChange { answer, changed, undo } in applied {
                let _ = answer.send(Ok(changed));
                // This deletes the replaced file.
                drop(undo);
            }
            return;
        };
        let Some(OpenRoot { root, flusher }) = self.open.as_ref().filter(|_| !applied.is_empty()) else { return };
        // Without the lock another Mill may be writing there now.
        let lock = RootLock::take(root, PATIENCE, || true);
        let mut changes = Applier::new(root, &*self.shared.clock, flusher);
        for AppliedChange { answer, undo, .. } in applied.into_iter().rev() {
            let undone = match (&undo, &lock) {
                (None, _) => Ok(()),
                (Some(undo), Ok(_)) => changes.undo(undo),
                (Some(_), Err(locked)) => Err(locked.again()),
            };
            drop(undo);
            let _ = answer.send(Err(match undone {
                Ok(()) => error.again(),
                Err(left) => error.with_failed_undo(&left),
            }));
        }
    }

    /// Applies the changes of a group. A change found done already may be that of a process that died before it was
    /// durable, so it is answered with the others.
    fn apply_group(&mut self, group: Vec<CommitJob>) {
        let Some(OpenRoot { root, flusher }) = self.open.as_ref().filter(|_| !group.is_empty()) else { return };
        let lock = match RootLock::take(root, PATIENCE, || group.iter().any(|job| !job.answer.is_closed())) {
            Ok(lock) => lock,
            Err(error) => return fail_all(group, &error),
        };
        let singly = flusher.singly();
        let mut applier = Applier::new(root, &*self.shared.clock, flusher);
        for CommitJob { change, answer } in group {
            match applier.apply(change) {
                Ok((changed, undo)) => self.applied.push(AppliedChange { answer, changed, undo }),
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        let synced = if singly && !self.applied.is_empty() { Some(applier.sync_names()) } else { None };
        drop(lock);
        if let Some(synced) = synced {
            self.reply_all(synced.as_ref().err());
        }
    }
}

/// Answers a whole group with one error. Its prepared files are deleted.
fn fail_all(group: Vec<CommitJob>, error: &FolderError) {
    for CommitJob { change, answer } in group {
        drop(change);
        let _ = answer.send(Err(error.again()));
    }
}
