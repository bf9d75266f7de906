//! The one thread of a store that changes anything, in groups: what many writers wait for costs two flushes in all.
//!
//! ```text
//! writers:    stage ─┐  stage ─┐              (temporary files, each in its own hop)
//! committer:         └─> syncfs ─> lock ─> check, make directories, rename … ─> unlock ─> syncfs ─> answer all
//!                       the bytes            the names appear, each whole                 the names are durable
//! ```
//!
//! The lock is on the root directory and shared by all Mill processes, so that between the check of a condition and the
//! rename no other Mill writes. Others that write into the folder are not held off: `native_conditions` is declared false.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mill_model::Version;
use mill_ports::{Clock, When};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
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

struct Job {
    change: Change,
    answer: oneshot::Sender<Result<Changed, Fault>>,
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
        let staging = Arc::new(Staging::open(self.root.opened_again()?)?);
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
        let worker = Worker { root: Arc::clone(&self.root), clock: Arc::clone(&self.clock), own: None };
        let thread = std::thread::Builder::new().name("mill-folder".to_owned()).spawn(move || worker.run(&coming));
        line.thread = Some(thread.map_err(|error| Fault::unexpected(error))?);
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
}

impl Worker {
    fn run(mut self, coming: &Receiver<Job>) {
        while let Ok(first) = coming.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(job) = coming.try_recv()
            {
                group.push(job);
            }
            // Whoever no longer waits must not find the change made later, after he asked for another.
            group.retain(|job| !job.answer.is_closed());
            if !group.is_empty() {
                self.commit(group);
            }
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let (answers, changes): (Vec<_>, Vec<_>) = group.into_iter().map(|job| (job.answer, job.change)).unzip();
        let results = match self.changed(changes) {
            Ok(results) => results,
            Err(fault) => answers.iter().map(|_| Err(fault.again())).collect(),
        };
        for (answer, result) in answers.into_iter().zip(results) {
            let _ = answer.send(result);
        }
    }

    /// Makes the changes of a group. An error means that none of them is sure: those files that already stand in
    /// their places are whole, so that making the same changes again is right.
    fn changed(&mut self, changes: Vec<Change>) -> Result<Vec<Result<Changed, Fault>>, Fault> {
        let write = |errno: Errno| Fault::of(During::Write, errno);
        let identity = self.root.dir()?.identity;
        let own = match self.own.take() {
            Some(own) if own.identity == identity => own,
            _ => self.root.opened_again()?,
        };
        let root = self.own.insert(own);
        if changes.iter().any(|change| matches!(change, Change::Place(..))) {
            rustix::fs::syncfs(&*root).map_err(write)?;
        }
        rustix::fs::flock(&*root, FlockOperation::LockExclusive).map_err(write)?;
        let mut making = changes::Making::new(root, &*self.clock);
        let results: Vec<_> = changes.into_iter().map(|change| making.make(change)).collect();
        rustix::fs::flock(&*root, FlockOperation::Unlock).map_err(write)?;
        // What was found done already may have been done by one who died before it was durable.
        if results.iter().any(Result::is_ok) {
            rustix::fs::syncfs(&*root).map_err(write)?;
        }
        Ok(results)
    }
}
