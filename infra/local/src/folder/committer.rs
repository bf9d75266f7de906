//! The one thread of a store that changes anything, in groups: what many writers wait for costs two flushes in all.
//!
//! ```text
//! writers:    stage ─┐  stage ─┐  stage ─┐    (temporary files, each in its own hop)
//! committer:         └─> syncfs ─> lock ─> check, make directories, rename … ─> unlock ─> syncfs ─> answer all
//!                       the bytes            the names appear, each whole                 the names are durable
//! ```
//!
//! The second flush of a group is the first of the next one, whose files were prepared meanwhile. When it fails, the
//! names of the one are taken out of view again and the files of the other are thrown away: which of them it concerns
//! is not known. Where each file is [flushed by itself](super::flusher), that was done while it was prepared, and the
//! directories are flushed right after the renames.
//!
//! Between the check of a condition and the rename no other Mill writes: all of them take the [lock](super::root_lock) of the
//! root. Others that write into the folder are not held off, and on a network file system the lock may hold among the
//! processes of one host only: `native_conditions` is declared false.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mill_model::Version;
use mill_ports::{Clock, CrashPoint, Precondition, crash_point};
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

/// Most changes in a group: what waits longer for the lock than a moment keeps other processes waiting.
const GROUP_MAX: usize = 1024;

/// A change to be made.
#[derive(Debug)]
pub(super) enum Change {
    /// Gives a file its place.
    PutFile(TempFile, ItemPath, Precondition),
    /// Makes an empty directory that is an item, or sets the properties of the one there is.
    Directory(ItemPath, PropertyPlan, Precondition),
    /// Sets the properties of an item.
    Properties(ItemPath, PropertyPlan, Precondition),
    /// Removes an item.
    Remove(ItemPath, Precondition),
    /// Spells a name otherwise.
    Respell(SpellingChange),
    /// Makes a space's directory.
    CreateSpace(String),
    /// Removes a space's directory if it is empty.
    RemoveSpace(String),
}

impl Change {
    /// The item that it is about, if it is about one.
    pub(super) fn item_path(&self) -> Option<&ItemPath> {
        match self {
            Self::PutFile(_, item_path, _)
            | Self::Directory(item_path, ..)
            | Self::Properties(item_path, ..)
            | Self::Remove(item_path, _) => Some(item_path),
            Self::Respell(_) | Self::CreateSpace(_) | Self::RemoveSpace(_) => None,
        }
    }
}

/// What a change left.
#[derive(Debug)]
pub(super) enum ChangeResult {
    /// An item in this state, whose properties may have to go to the sidecar.
    Item(Version, PropertyFit),
    /// Nothing: the file in this state bears other names too, so its properties are not this item's alone.
    Shared(Version),
    /// Nothing where something was.
    Removed,
    /// Nothing, as before.
    WasAbsent,
    /// A space that is there, or gone, as asked.
    Space,
}

type ChangeReply = oneshot::Sender<Result<ChangeResult, FolderError>>;

struct CommitJob {
    change: Change,
    answer: ChangeReply,
}

/// A store's committer; its thread begins with the first change and ends, everything done, when this is dropped.
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
    /// How the store's writes become durable; begun before anything is written. Fails while the root is not there.
    fn flusher(&self) -> Result<Arc<Flusher>, FolderError> {
        let identity = self.root.dir()?.identity;
        let mut begun = self.flusher.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Where files are prepared; made when first needed, so that a store that is only read is not written.
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

    /// How the store's writes become durable, for tests that have a flush fail.
    #[cfg(test)]
    pub(super) fn flusher(&self) -> Arc<Flusher> {
        self.shared.flusher().unwrap()
    }

    /// Makes a change, durably before it answers.
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
        // The first, or the thread ended in a panic: it must not take the store with it.
        let (jobs, coming) = channel();
        let worker = CommitWorker { shared: Arc::clone(&self.shared), open: None, applied: Vec::new() };
        let thread = std::thread::Builder::new().name("mill-folder".to_owned()).spawn(move || worker.run(&coming));
        state.thread = Some(thread.map_err(FolderError::unexpected)?);
        jobs.send(job).map_err(|_| FolderError::unexpected("the committer of the folder ended"))?;
        state.jobs = Some(jobs);
        Ok(())
    }

    /// Waits until all changes are made, and removes what was prepared in.
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

    fn state(&self) -> std::sync::MutexGuard<'_, CommitterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Changes that are made but not yet durable.
    applied: Vec<AppliedChange>,
}

/// What the thread works with while the root is there.
struct OpenRoot {
    /// Opened for this thread alone: the lock belongs to this opening.
    root: RootDir,
    flusher: Arc<Flusher>,
}

/// A change that is made, who waits for it to be durable, and how to take it out of view again.
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
            // Whoever no longer waits must not find the change made later, after he asked for another.
            group.retain(|job| !job.answer.is_closed());
            self.round(group);
        }
    }

    /// Makes the last group durable and the next one's bytes with it, answers the last, and makes the next.
    fn round(&mut self, group: Vec<CommitJob>) {
        let flushed = self.open_root().and_then(|()| self.flush(&group));
        self.reply_all(flushed.as_ref().err());
        match flushed {
            Ok(()) => self.apply_group(group),
            Err(error) => fail_all(group, &error),
        }
    }

    /// Opens the root unless it is the one held open already.
    fn open_root(&mut self) -> Result<(), FolderError> {
        let flusher = self.shared.flusher()?;
        if self.open.as_ref().is_none_or(|open| !Arc::ptr_eq(&open.flusher, &flusher)) {
            // The disk was away and is back: what it lost meanwhile is told to nobody.
            self.reply_all(Some(&FolderError::unavailable("the disk was away while it was written")));
            self.open = Some(OpenRoot { root: self.shared.root.reopen()?, flusher });
        }
        Ok(())
    }

    /// Flushes what was made and what the group's files hold, unless all of it is durable already.
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
        passed(bytes, CrashPoint::FolderBeforeFirstSync);
        passed(names, CrashPoint::FolderBeforeSecondSync);
        open.flusher.sync_all()?;
        passed(bytes, CrashPoint::FolderFirstSynced);
        passed(names, CrashPoint::FolderSecondSynced);
        Ok(())
    }

    /// Answers those whose changes were made, unless it failed to make these durable: then none of them is sure, and
    /// what can be is taken out of view again, the last first.
    fn reply_all(&mut self, error: Option<&FolderError>) {
        let applied = std::mem::take(&mut self.applied);
        let Some(error) = error else {
            for AppliedChange { answer, changed, undo } in applied {
                let _ = answer.send(Ok(changed));
                // What was replaced goes now.
                drop(undo);
            }
            return;
        };
        let Some(OpenRoot { root, flusher }) = self.open.as_ref().filter(|_| !applied.is_empty()) else { return };
        // Without the lock another Mill may be writing there this very moment.
        let lock = RootLock::take(root, PATIENCE, || true);
        let mut applier = Applier::new(root, &*self.shared.clock, flusher);
        for AppliedChange { answer, undo, .. } in applied.into_iter().rev() {
            let undone = match (&undo, &lock) {
                (None, _) => Ok(()),
                (Some(undo), Ok(_)) => applier.undo(undo),
                (Some(_), Err(locked)) => Err(locked.again()),
            };
            drop(undo);
            let _ = answer.send(Err(match undone {
                Ok(()) => error.again(),
                Err(left) => error.with_failed_undo(&left),
            }));
        }
    }

    /// Makes the changes of a group. Those found done already may have been done by one who died before it was durable,
    /// so that they are answered with the others.
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

/// Answers all of a group alike. What was prepared for it is thrown away.
fn fail_all(group: Vec<CommitJob>, error: &FolderError) {
    for CommitJob { change, answer } in group {
        drop(change);
        let _ = answer.send(Err(error.again()));
    }
}
