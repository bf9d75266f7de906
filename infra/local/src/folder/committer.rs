//! The one thread of a store that changes anything, in groups: what many writers wait for costs two flushes in all.
//!
//! ```text
//! writers:    stage ─┐  stage ─┐  stage ─┐    (temporary files, each in its own hop)
//! committer:         └─> syncfs ─> lock ─> check, make directories, rename … ─> unlock ─> syncfs ─> answer all
//!                       the bytes            the names appear, each whole                 the names are durable
//! ```
//!
//! The second flush of a group is the first of the next one, whose files were prepared meanwhile.
//!
//! The lock is on the root directory and shared by all Mill processes, so that between the check of a condition and the
//! rename no other Mill writes. Others that write into the folder are not held off, and on a network file system the lock
//! may hold among the processes of one host only: `native_conditions` is declared false.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mill_model::Version;
use mill_ports::{Clock, CrashPoint, When, crash_point};
use rustix::fs::FlockOperation;
use tokio::sync::oneshot;

use super::changes;
use super::faults::{During, Fault};
use super::kept::{Fits, Keeping};
use super::place::Place;
use super::root::{Root, RootDir};
use super::staging::{Staged, Staging};

/// Most changes in a group: what waits longer for the lock than a moment keeps other processes waiting.
const GROUP_MAX: usize = 1024;

/// A change to be made.
#[derive(Debug)]
pub(super) enum Change {
    /// Gives a file its place.
    Place(Staged, Place, When),
    /// Makes an empty directory that is an item, or sets the properties of the one there is.
    Directory(Place, Keeping, When),
    /// Sets the properties of an item.
    Properties(Place, Keeping, When),
    /// Removes an item.
    Remove(Place, When),
    /// Makes a space's directory.
    CreateSpace(String),
    /// Removes a space's directory if it is empty.
    RemoveSpace(String),
}

/// What a change left.
#[derive(Debug)]
pub(super) enum Changed {
    /// An item in this state, whose properties may have to go to the sidecar.
    Item(Version, Fits),
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
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    staging: Option<Arc<Staging>>,
}

impl Committer {
    pub(super) fn new(root: Arc<Root>, clock: Arc<dyn Clock>) -> Self {
        Self { root, clock, line: Mutex::default() }
    }

    /// Where files are prepared; made when first needed, so that a store that is only read is not written.
    pub(super) fn staging(&self) -> Result<Arc<Staging>, Fault> {
        let identity = self.root.dir()?.identity;
        let mut line = self.line();
        if let Some(staging) = &line.staging
            && staging.root.identity == identity
            && staging.is_alive()
        {
            return Ok(Arc::clone(staging));
        }
        let staging = Arc::new(Staging::open(self.root.opened_again()?, &*self.clock)?);
        line.staging = Some(Arc::clone(&staging));
        Ok(staging)
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
        let worker =
            Worker { root: Arc::clone(&self.root), clock: Arc::clone(&self.clock), own: None, made: Vec::new() };
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
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
    /// The root, opened for this thread alone: the lock belongs to this opening.
    own: Option<RootDir>,
    /// Changes that are made but not yet durable, and those who wait for that.
    made: Vec<(Answer, Result<Changed, Fault>)>,
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
        let reached = self.reach();
        let bytes = group.iter().any(|job| matches!(job.change, Change::Place(..)));
        let flushed = reached.and_then(|()| if bytes || !self.made.is_empty() { self.flush(bytes) } else { Ok(()) });
        self.answer(flushed.as_ref().err());
        let (answers, changes): (Vec<_>, Vec<_>) = group.into_iter().map(|job| (job.answer, job.change)).unzip();
        let results = match flushed.and_then(|()| self.make(changes)) {
            Ok(results) => results,
            Err(fault) => answers.iter().map(|_| Err(fault.again())).collect(),
        };
        for (answer, result) in answers.into_iter().zip(results) {
            match result {
                // What was found done already may have been done by one who died before it was durable.
                Ok(_) => self.made.push((answer, result)),
                Err(_) => drop(answer.send(result)),
            }
        }
    }

    /// Answers those whose changes were made, unless it failed to make these durable: then none of them is sure.
    /// Files that stand in their places are whole, so that making the same change again is right.
    fn answer(&mut self, fault: Option<&Fault>) {
        for (answer, result) in self.made.drain(..) {
            let result = match fault {
                None => result,
                Some(fault) => Err(fault.again()),
            };
            let _ = answer.send(result);
        }
    }

    /// Opens the root unless it is the one held open already.
    fn reach(&mut self) -> Result<(), Fault> {
        let identity = self.root.dir()?.identity;
        if self.own.as_ref().is_none_or(|own| own.identity != identity) {
            self.own = Some(self.root.opened_again()?);
        }
        Ok(())
    }

    /// With `bytes`, those of prepared files are among what is to become durable.
    fn flush(&self, bytes: bool) -> Result<(), Fault> {
        let Some(own) = &self.own else { return Ok(()) };
        let passed = |happens: bool, point| {
            if happens {
                crash_point(point);
            }
        };
        passed(bytes, CrashPoint::FolderBeforeFirstSync);
        passed(!self.made.is_empty(), CrashPoint::FolderBeforeSecondSync);
        rustix::fs::syncfs(own).map_err(|errno| Fault::of(During::Write, errno))?;
        passed(bytes, CrashPoint::FolderFirstSynced);
        passed(!self.made.is_empty(), CrashPoint::FolderSecondSynced);
        Ok(())
    }

    fn make(&mut self, changes: Vec<Change>) -> Result<Vec<Result<Changed, Fault>>, Fault> {
        let Some(own) = &self.own else { return Err(Fault::unexpected("the root is not open")) };
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        rustix::fs::flock(own, FlockOperation::LockExclusive).map_err(|errno| Fault::of(During::Write, errno))?;
        let mut making = changes::Making::new(own, &*self.clock);
        let results = changes.into_iter().map(|change| making.make(change)).collect();
        if rustix::fs::flock(own, FlockOperation::Unlock).is_err() {
            // The lock ends with the opening.
            self.own = None;
        }
        Ok(results)
    }
}
