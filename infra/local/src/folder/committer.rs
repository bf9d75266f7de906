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
//! is not known. Where each file is [flushed by itself](super::durability), that was done while it was prepared, and the
//! directories are flushed right after the renames.
//!
//! Between the check of a condition and the rename no other Mill writes: all of them take the [lock](super::lock) of the
//! root. Others that write into the folder are not held off, and on a network file system the lock may hold among the
//! processes of one host only: `native_conditions` is declared false.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mill_model::Version;
use mill_ports::{Clock, CrashPoint, Precondition, crash_point};
use tokio::sync::oneshot;

use super::changes::Making;
use super::durability::Durability;
use super::faults::Fault;
use super::kept::{Fits, Keeping};
use super::lock::{PATIENCE, RootLock};
use super::place::Place;
use super::respelling::Renaming;
use super::root::{Root, RootDir};
use super::staging::{Staged, Staging};
use super::undo::Undo;

/// Most changes in a group: what waits longer for the lock than a moment keeps other processes waiting.
const GROUP_MAX: usize = 1024;

/// A change to be made.
#[derive(Debug)]
pub(super) enum Change {
    /// Gives a file its place.
    Place(Staged, Place, Precondition),
    /// Makes an empty directory that is an item, or sets the properties of the one there is.
    Directory(Place, Keeping, Precondition),
    /// Sets the properties of an item.
    Properties(Place, Keeping, Precondition),
    /// Removes an item.
    Remove(Place, Precondition),
    /// Spells a name otherwise.
    Respell(Renaming),
    /// Makes a space's directory.
    CreateSpace(String),
    /// Removes a space's directory if it is empty.
    RemoveSpace(String),
}

impl Change {
    /// The item that it is about, if it is about one.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Place(_, place, _)
            | Self::Directory(place, ..)
            | Self::Properties(place, ..)
            | Self::Remove(place, _) => Some(place),
            Self::Respell(_) | Self::CreateSpace(_) | Self::RemoveSpace(_) => None,
        }
    }
}

/// What a change left.
#[derive(Debug)]
pub(super) enum Changed {
    /// An item in this state, whose properties may have to go to the sidecar.
    Item(Version, Fits),
    /// Nothing: the file in this state bears other names too, so its properties are not this item's alone.
    Shared(Version),
    /// Nothing where something was.
    Removed,
    /// Nothing, as before.
    WasAbsent,
    /// A space that is there, or gone, as asked.
    Space,
}

type Answer = oneshot::Sender<Result<Changed, Fault>>;

struct Job {
    change: Change,
    answer: Answer,
}

/// A store's committer; its thread begins with the first change and ends, everything done, when this is dropped.
#[derive(Debug)]
pub(super) struct Committer {
    disk: Arc<Disk>,
    line: Mutex<Line>,
}

/// What the writers and the committer's thread share.
#[derive(Debug)]
struct Disk {
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
    durability: Mutex<Option<Arc<Durability>>>,
}

#[derive(Debug, Default)]
struct Line {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    staging: Option<Arc<Staging>>,
}

impl Disk {
    /// How the store's writes become durable; begun before anything is written. Fails while the root is not there.
    fn durability(&self) -> Result<Arc<Durability>, Fault> {
        let identity = self.root.dir()?.identity;
        let mut begun = self.durability.lock().unwrap_or_else(PoisonError::into_inner);
        match &*begun {
            Some(durability) if durability.root.identity == identity => Ok(Arc::clone(durability)),
            _ => {
                let durability = Arc::new(Durability::new(self.root.opened_again()?, Arc::clone(&self.clock)));
                Ok(Arc::clone(begun.insert(durability)))
            }
        }
    }
}

impl Committer {
    pub(super) fn new(root: Arc<Root>, clock: Arc<dyn Clock>) -> Self {
        Self { disk: Arc::new(Disk { root, clock, durability: Mutex::default() }), line: Mutex::default() }
    }

    /// Where files are prepared; made when first needed, so that a store that is only read is not written.
    pub(super) fn staging(&self) -> Result<Arc<Staging>, Fault> {
        let durability = self.disk.durability()?;
        let mut line = self.line();
        if let Some(staging) = &line.staging
            && staging.is_alive(&durability)
        {
            return Ok(Arc::clone(staging));
        }
        let staging = Arc::new(Staging::open(durability, &*self.disk.clock)?);
        line.staging = Some(Arc::clone(&staging));
        Ok(staging)
    }

    /// How the store's writes become durable, for tests that have a flush fail.
    #[cfg(test)]
    pub(super) fn durability(&self) -> Arc<Durability> {
        self.disk.durability().unwrap()
    }

    /// Makes a change, durably before it answers.
    pub(super) async fn commit(&self, change: Change) -> Result<Changed, Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(Job { change, answer })?;
        answered.await.unwrap_or_else(|_| Err(Fault::unexpected("the committer of the folder ended")))
    }

    fn send(&self, job: Job) -> Result<(), Fault> {
        let mut line = self.line();
        let job = match &line.jobs {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(returned) => returned.0,
            },
            None => job,
        };
        // The first, or the thread ended in a panic: it must not take the store with it.
        let (jobs, coming) = channel();
        let worker = Worker { disk: Arc::clone(&self.disk), open: None, made: Vec::new() };
        let thread = std::thread::Builder::new().name("mill-folder".to_owned()).spawn(move || worker.run(&coming));
        line.thread = Some(thread.map_err(Fault::unexpected)?);
        jobs.send(job).map_err(|_| Fault::unexpected("the committer of the folder ended"))?;
        line.jobs = Some(jobs);
        Ok(())
    }

    /// Waits until all changes are made, and removes what was prepared in.
    pub(super) fn finish(&self) {
        let (jobs, thread, staging) = {
            let mut line = self.line();
            (line.jobs.take(), line.thread.take(), line.staging.take())
        };
        drop(jobs);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        drop(staging);
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Worker {
    disk: Arc<Disk>,
    open: Option<Open>,
    /// Changes that are made but not yet durable.
    made: Vec<Made>,
}

/// What the thread works with while the root is there.
struct Open {
    /// Opened for this thread alone: the lock belongs to this opening.
    root: RootDir,
    durability: Arc<Durability>,
}

/// A change that is made, who waits for it to be durable, and how to take it out of view again.
struct Made {
    answer: Answer,
    changed: Changed,
    undo: Option<Undo>,
}

impl Worker {
    fn run(mut self, coming: &Receiver<Job>) {
        loop {
            let mut group = Vec::new();
            if self.made.is_empty() {
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
    fn round(&mut self, group: Vec<Job>) {
        let flushed = self.reach().and_then(|()| self.flush(&group));
        self.answer(flushed.as_ref().err());
        match flushed {
            Ok(()) => self.make(group),
            Err(fault) => give_up(group, &fault),
        }
    }

    /// Opens the root unless it is the one held open already.
    fn reach(&mut self) -> Result<(), Fault> {
        let durability = self.disk.durability()?;
        if self.open.as_ref().is_none_or(|open| !Arc::ptr_eq(&open.durability, &durability)) {
            // The disk was away and is back: what it lost meanwhile is told to nobody.
            self.answer(Some(&Fault::unavailable("the disk was away while it was written")));
            self.open = Some(Open { root: self.disk.root.opened_again()?, durability });
        }
        Ok(())
    }

    /// Flushes what was made and what the group's files hold, unless all of it is durable already.
    fn flush(&self, group: &[Job]) -> Result<(), Fault> {
        let Some(open) = &self.open else { return Ok(()) };
        open.durability.recover();
        let files = |job: &Job| matches!(&job.change, Change::Place(staged, ..) if staged.is_to_be_synced());
        let (bytes, names) = (group.iter().any(files), !self.made.is_empty());
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
        open.durability.sync_all()?;
        passed(bytes, CrashPoint::FolderFirstSynced);
        passed(names, CrashPoint::FolderSecondSynced);
        Ok(())
    }

    /// Answers those whose changes were made, unless it failed to make these durable: then none of them is sure, and
    /// what can be is taken out of view again, the last first.
    fn answer(&mut self, fault: Option<&Fault>) {
        let made = std::mem::take(&mut self.made);
        let Some(fault) = fault else {
            for Made { answer, changed, undo } in made {
                let _ = answer.send(Ok(changed));
                // What was replaced goes now.
                drop(undo);
            }
            return;
        };
        let Some(Open { root, durability }) = self.open.as_ref().filter(|_| !made.is_empty()) else { return };
        // Without the lock another Mill may be writing there this very moment.
        let lock = RootLock::take(root, PATIENCE, || true);
        let mut making = Making::new(root, &*self.disk.clock, durability);
        for Made { answer, undo, .. } in made.into_iter().rev() {
            let undone = match (&undo, &lock) {
                (None, _) => Ok(()),
                (Some(undo), Ok(_)) => making.undo(undo),
                (Some(_), Err(locked)) => Err(locked.again()),
            };
            drop(undo);
            let _ = answer.send(Err(match undone {
                Ok(()) => fault.again(),
                Err(left) => fault.and_left_in_view(&left),
            }));
        }
    }

    /// Makes the changes of a group. Those found done already may have been done by one who died before it was durable,
    /// so that they are answered with the others.
    fn make(&mut self, group: Vec<Job>) {
        let Some(Open { root, durability }) = self.open.as_ref().filter(|_| !group.is_empty()) else { return };
        let lock = match RootLock::take(root, PATIENCE, || group.iter().any(|job| !job.answer.is_closed())) {
            Ok(lock) => lock,
            Err(fault) => return give_up(group, &fault),
        };
        let singly = durability.singly();
        let mut making = Making::new(root, &*self.disk.clock, durability);
        for Job { change, answer } in group {
            match making.make(change) {
                Ok((changed, undo)) => self.made.push(Made { answer, changed, undo }),
                Err(fault) => drop(answer.send(Err(fault))),
            }
        }
        let synced = if singly && !self.made.is_empty() { Some(making.sync_names()) } else { None };
        drop(lock);
        if let Some(synced) = synced {
            self.answer(synced.as_ref().err());
        }
    }
}

/// Answers all of a group alike. What was prepared for it is thrown away.
fn give_up(group: Vec<Job>, fault: &Fault) {
    for Job { change, answer } in group {
        drop(change);
        let _ = answer.send(Err(fault.again()));
    }
}
