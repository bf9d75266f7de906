//! One SQLite file, written and read by any number of processes of one host at once.
//!
//! Each process has one thread that writes and one that reads. The writer takes all requests that wait and commits
//! them as one group, so that many callers share one sync of the disk; each is answered after the commit. Requests
//! that must outlive a crash of the power (sends, writes of rows) make the whole group do so.
//!
//! Reading order: `writer` (groups), `write_lock` (fairness among processes), `reader`, `schema`, `identity` and `integrity` (is it
//! the one that is remembered, and as it was left), `damage` (it is not: all work ends), `place`, `failure`.

mod damage;
pub(crate) mod error;
mod identity;
mod integrity;
mod location;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod write_lock;
pub(crate) mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mill_ports::{Clock, Rng};
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::queue::receivers::ReceiverRegistry;
use damage::DatabaseFile;
pub use damage::{Damage, Standstill};
pub use error::DatabaseError;
pub use identity::{Identity, IdentityError, KnownIdentity, RememberedDatabase};
use reader::{ReadRequest, ReadThread};
use write_lock::{LOCK_TIMEOUT, WriteLock};
use writer::{Durability, Request, WriteRequest, WriteThread, WriteTransaction};

/// How many queues there are.
pub(crate) const QUEUES: usize = mill_model::QueueName::ALL.len();

/// Most requests that wait at either thread; further callers wait before they ask.
const WAITING_MAX: usize = 1024;

const WRITER_CACHE_KIB: u32 = 4096;
const READER_CACHE_KIB: u32 = 2048;

/// An open database.
pub struct Database {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
    writes: RequestChannel<Box<dyn Request>>,
    reads: RequestChannel<ReadRequest>,
    arrivals: Arc<Arrivals>,
    identity: KnownIdentity,
    damage: Arc<Damage>,
    receivers: ReceiverRegistry,
    /// Ends a check that runs beside the work.
    interrupt: Mutex<Option<InterruptHandle>>,
    /// The reader, and checks that run.
    reader_threads: Mutex<Vec<JoinHandle<()>>>,
    /// The writer, which ends after them.
    writer_thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the database at `path`, of which nothing is remembered: made if it is not there (its directory too, for its
    /// owner alone).
    ///
    /// # Errors
    /// Those of [`Self::open_remembered`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>, chance: Arc<dyn Rng>) -> Result<Arc<Self>, OpenError> {
        Self::open_remembered(path, &RememberedDatabase::Nothing, clock, chance)
    }

    /// Opens the database at `path`, which must be the one that is remembered. Its [identity](Self::identity) is to be
    /// remembered after that, durably, wherever the caller keeps it.
    ///
    /// Blocks for some milliseconds: small files are checked; up to a minute if other processes hold the file.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be made or opened, is gone, emptied, damaged or not the one remembered, is not Mill's or
    /// not of this version, or would stand on a network file system.
    pub fn open_remembered(
        path: &Path,
        remembered: &RememberedDatabase,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Rng>,
    ) -> Result<Arc<Self>, OpenError> {
        if *remembered != RememberedDatabase::Nothing && location::is_gone(path) {
            return Err(OpenError::Gone { path: path.to_owned() });
        }
        let path = location::prepare(path)?;
        let failed = |what| {
            let path = path.clone();
            move |source| OpenError::Io { path, what, source }
        };
        let sqlite = |error: rusqlite::Error| {
            let path = path.clone();
            if error::is_damage(&error) {
                return OpenError::Damaged { path, finding: error.to_string() };
            }
            let source = DatabaseError::from(error).at(&path);
            OpenError::Sqlite { path, source }
        };
        let write_lock = WriteLock::open(&location::write_lock_file(&path), Arc::clone(&chance))
            .map_err(failed("opening its turn file"))?;
        let lock_guard = write_lock.acquire(LOCK_TIMEOUT).map_err(failed("taking the turn"))?;
        let lock_guard = lock_guard.ok_or_else(|| OpenError::Busy { path: path.clone() })?;
        location::create_file(&path).map_err(failed("making its file"))?;
        let write_connection = schema::connect(&path, WRITER_CACHE_KIB, &*chance).map_err(sqlite)?;
        let identity = KnownIdentity::new(schema::prepare_database(&write_connection, &path, remembered, &*chance)?);
        let read_connection = schema::connect(&path, READER_CACHE_KIB, &*chance).map_err(sqlite)?;
        read_connection.execute_batch("PRAGMA query_only = ON").map_err(sqlite)?;
        let file = DatabaseFile::of(path.clone()).map_err(failed("reader_threads at its file"))?;
        drop(lock_guard);
        schema::check_soundness(&read_connection, &path, &*chance)?;

        let damage = Arc::new(Damage::new(path.clone()));
        let arrivals = Arc::new(Arrivals::default());
        let (writes, requests) = RequestChannel::new();
        let write_thread = WriteThread {
            connection: write_connection,
            write_lock,
            chance: Arc::clone(&chance),
            requests,
            arrivals: Arc::clone(&arrivals),
            syncs: true,
            file,
            identity: identity.clone(),
            counted: false,
            damage: Arc::clone(&damage),
        };
        let (reads, read_requests) = RequestChannel::new();
        let read_thread =
            ReadThread { connection: read_connection, chance: Arc::clone(&chance), damage: Arc::clone(&damage) };
        let writer_thread =
            spawn("mill-db-write", move || write_thread.serve()).map_err(failed("starting its writer"))?;
        let reader_thread =
            spawn("mill-db-read", move || read_thread.serve(&read_requests)).map_err(failed("starting its reader"))?;
        let (writer_thread, reader_threads) = (Some(writer_thread), Mutex::new(vec![reader_thread]));
        let interrupt = Mutex::default();
        let database = Self {
            path: path.clone(),
            clock,
            chance,
            writes,
            reads,
            arrivals,
            identity,
            damage,
            receivers: ReceiverRegistry::default(),
            interrupt,
            reader_threads,
            writer_thread,
        };
        if schema::is_full_check_due(&database.path, &database.identity.get()) {
            database.check_in_background().map_err(failed("starting its check"))?;
        }
        Ok(Arc::new(database))
    }

    /// Which database it is. The handle tells so also after it was closed.
    pub fn identity(&self) -> KnownIdentity {
        self.identity.clone()
    }

    /// What was found wrong with it since it was opened. After that it answers nothing but this.
    pub fn damage(&self) -> Arc<Damage> {
        Arc::clone(&self.damage)
    }

    /// Reads it through beside the work. What is found is its damage; it is cut off when the database is closed.
    fn check_in_background(&self) -> io::Result<()> {
        let connection = match schema::connect(&self.path, READER_CACHE_KIB, &*self.chance) {
            Ok(connection) => connection,
            // Whatever it is, the other connections will meet it.
            Err(error) => {
                tracing::debug!(%error, "the database is not read through");
                return Ok(());
            }
        };
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
        let damage = Arc::clone(&self.damage);
        let check = move || {
            match integrity::findings(&connection, "integrity_check") {
                Ok(findings) => findings.first().map_or((), |finding| damage.note(finding)),
                Err(error) if error::is_damage(&error) => damage.note(&error.to_string()),
                Err(error) => tracing::debug!(%error, "the database was not read through"),
            }
            schema::close(&connection, &damage);
        };
        self.join_at_end(spawn("mill-db-check", check)?);
        Ok(())
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database through and names what is wrong with it; nothing, when it is sound.
    ///
    /// # Errors
    /// [`DatabaseError`] when it cannot be read.
    pub async fn check(&self) -> Result<Vec<String>, DatabaseError> {
        let (answer, answered) = oneshot::channel();
        let (path, chance) = (self.path.clone(), Arc::clone(&self.chance));
        let check = move || {
            let look = || {
                let connection = schema::connect(&path, READER_CACHE_KIB, &*chance)?;
                let mut found = integrity::findings(&connection, "integrity_check")?;
                found.extend(integrity::first_finding(&connection)?);
                found.extend(integrity::miscounts(&connection)?);
                Ok(found)
            };
            let _ = answer.send(look().map_err(|error: rusqlite::Error| DatabaseError::from(error)));
        };
        // A connection and a thread of its own: it may take minutes, in which others want to read.
        let thread = spawn("mill-db-check", check).map_err(|_| DatabaseError::closed())?;
        self.join_at_end(thread);
        answered.await.map_err(|_| DatabaseError::closed())?
    }

    /// Keeps a thread to be waited for at the end.
    fn join_at_end(&self, thread: JoinHandle<()>) {
        let mut reader_threads = self.reader_threads.lock().unwrap_or_else(PoisonError::into_inner);
        reader_threads.retain(|thread| !thread.is_finished());
        reader_threads.push(thread);
    }

    /// Makes all tasks that were put off ready now, and tells how many there were. Those in flight stay hidden.
    ///
    /// # Errors
    /// [`DatabaseError`] when none was.
    pub async fn make_delayed_due(&self) -> Result<usize, DatabaseError> {
        let now = i64::try_from(self.clock.now().as_millis()).unwrap_or(i64::MAX);
        let make_due = move |transaction: &mut WriteTransaction<'_>| {
            let sql = "UPDATE message SET visible_at = ?1 WHERE in_flight = 0 AND visible_at > ?1";
            transaction.statement(sql)?.execute([now])
        };
        self.write(Durability::Process, 0, make_due).await
    }

    /// Throws all tasks of all queues away, delayed and in flight as well, and tells how many there were.
    ///
    /// # Errors
    /// [`DatabaseError`] when nothing was thrown away.
    pub async fn purge_queues(&self) -> Result<usize, DatabaseError> {
        let purge = |transaction: &mut WriteTransaction<'_>| {
            transaction.statement("UPDATE queue SET messages = 0")?.execute([])?;
            transaction.statement("DELETE FROM message")?.execute([])
        };
        self.write(Durability::Power, 0, purge).await
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn chance(&self) -> &Arc<dyn Rng> {
        &self.chance
    }

    pub(crate) fn receivers(&self) -> &ReceiverRegistry {
        &self.receivers
    }

    /// Runs `work` in a transaction, with others, and answers after the commit. `bytes` is roughly what it writes.
    ///
    /// `work` looks before it writes, so that it never fails halfway but by SQLite's own errors; after one of those
    /// it may be run once more. It is not run at all if this is dropped before its turn comes.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        bytes: usize,
        work: impl FnMut(&mut WriteTransaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let permit = Arc::clone(&self.writes.slots).acquire_owned().await.map_err(|_| DatabaseError::closed())?;
        let (answer, answered) = oneshot::channel();
        let request = WriteRequest { durability, bytes, work, outcome: None, answer, _permit: permit };
        self.writes.sender.send(Box::new(request)).map_err(|_| DatabaseError::closed())?;
        answered.await.map_err(|_| DatabaseError::closed())?
    }

    /// Runs `work`, which sees all writes that were answered before. It is run again while the database is busy.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let permit = Arc::clone(&self.reads.slots).acquire_owned().await.map_err(|_| DatabaseError::closed())?;
        let (answer, answered) = oneshot::channel();
        let read = move |reader: &ReadThread| {
            if !answer.is_closed() {
                let _ = answer.send(reader.retry_while_busy(&mut work));
            }
            drop(permit);
        };
        self.reads.sender.send(Box::new(read)).map_err(|_| DatabaseError::closed())?;
        answered.await.map_err(|_| DatabaseError::closed())?
    }

    /// Completes when this process has put something receivable into the queue, from the moment it is enabled.
    pub(crate) fn arrival(&self, queue: usize) -> Notified<'_> {
        self.arrivals.0[queue].notified()
    }
}

impl Drop for Database {
    /// Waits for all threads, so that the files are closed when this returns.
    ///
    /// The writer ends after the others: the last connection to close brings the log into the file, and of two that
    /// close at once neither is the last.
    fn drop(&mut self) {
        let joined = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the database panicked");
            }
        };
        self.reads.close();
        if let Some(interrupt) = self.interrupt.get_mut().unwrap_or_else(PoisonError::into_inner) {
            interrupt.interrupt();
        }
        self.reader_threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(joined);
        self.writes.close();
        self.writer_thread.take().into_iter().for_each(joined);
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

/// Requests on their way to a thread, no more than there is room for.
struct RequestChannel<R> {
    sender: Sender<R>,
    slots: Arc<Semaphore>,
}

impl<R> RequestChannel<R> {
    fn new() -> (Self, mpsc::Receiver<R>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, slots: Arc::new(Semaphore::new(WAITING_MAX)) }, receiver)
    }

    /// The thread ends once it has served what is in the line.
    fn close(&mut self) {
        self.sender = mpsc::channel().0;
    }
}

/// Wakes those in this process who wait for something to receive.
#[derive(Debug, Default)]
pub(crate) struct Arrivals([Notify; QUEUES]);

impl Arrivals {
    fn announce(&self, arrived: [bool; QUEUES]) {
        for (notify, _) in self.0.iter().zip(arrived).filter(|(_, arrived)| *arrived) {
            notify.notify_waiters();
        }
    }
}

impl OpenError {
    /// Whether it is the state itself that is not as it should be, so that a person must bring it back or begin anew.
    pub fn is_about_the_state(&self) -> bool {
        match self {
            Self::Gone { .. }
            | Self::Emptied { .. }
            | Self::Another { .. }
            | Self::Older { .. }
            | Self::Damaged { .. }
            | Self::NotOurs { .. } => true,
            Self::NetworkFileSystem { .. }
            | Self::OtherVersion { .. }
            | Self::NoLog { .. }
            | Self::Busy { .. }
            | Self::Io { .. }
            | Self::Sqlite { .. } => false,
        }
    }
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Network file systems do not keep the promises that several processes on one file need.
    #[error(
        "`{path}` would stand on a network file system ({name}), whose locks cannot be trusted; \
         choose a directory on a local disk"
    )]
    NetworkFileSystem {
        /// The database.
        path: PathBuf,
        /// The sort of file system.
        name: &'static str,
    },
    /// A database of another program.
    #[error("`{path}` is a database, but not mill's")]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// Made by another version of Mill.
    #[error(
        "`{path}` is of version {found}, and this mill opens none after {known}: use the mill that wrote it, or a later one"
    )]
    OtherVersion {
        /// The database.
        path: PathBuf,
        /// The version it says.
        found: i64,
        /// The version that is understood.
        known: i64,
    },
    /// It is remembered, and there is no file.
    #[error("`{path}` was there and is gone")]
    Gone {
        /// The database.
        path: PathBuf,
    },
    /// It is remembered, and nothing is in it.
    #[error("`{path}` was emptied")]
    Emptied {
        /// The database.
        path: PathBuf,
    },
    /// Another database is remembered.
    #[error("`{path}` is the database of another installation")]
    Another {
        /// The database.
        path: PathBuf,
    },
    /// An older state of it was put in its place.
    #[error(
        "`{path}` is older than it was: it has been opened {found} times, and was opened {remembered} times before"
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// How often it was opened.
        found: u64,
        /// How often it is remembered to have been opened.
        remembered: u64,
    },
    /// It is not as Mill left it.
    #[error("`{path}` is damaged: {finding}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first finding.
        finding: String,
    },
    /// The file system cannot hold a write-ahead log.
    #[error("`{path}` cannot have a write-ahead log where it stands")]
    NoLog {
        /// The database.
        path: PathBuf,
    },
    /// Other processes held it for too long.
    #[error("another program holds `{path}` locked (`fuser {path}` names it); end it, or wait for it")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("opening `{path}` failed at {what}{advice}", advice = of_room(source))]
    Io {
        /// The database.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The operating system's words.
        source: io::Error,
    },
    /// SQLite refused something.
    #[error("opening `{path}` failed")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: DatabaseError,
    },
}

/// What to do where it is for want of room.
fn of_room(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (its disk or quota is full: free space there)",
        _ => "",
    }
}
