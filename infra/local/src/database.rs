//! One SQLite file, written and read by any number of processes of one host at once.
//!
//! Each process has one thread that writes and one that reads. The writer takes all pending requests and commits them
//! as one group, so that many callers share one sync of the disk; each is answered after the commit. One request that
//! must survive a loss of power (a send, a write of a row) makes the whole group survive it.
//!
//! Reading order: `writer` (groups), `write_lock` (fairness among processes), `reader`, `schema`, `identity` (is it the
//! expected database?), `integrity` (is it as Mill left it?), `damage` (if not, all work ends), `location`, `error`.

mod damage;
pub(crate) mod error;
mod identity;
mod integrity;
mod location;
mod open_error;
mod reader;
mod request_channel;
mod schema;
mod scratch;
#[cfg(test)]
mod tests;
mod write_lock;
pub(crate) mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use mill_ports::{Clock, Rng};
use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::queue::receivers::ReceiverRegistry;
use damage::DatabaseFile;
pub use damage::{Damage, Standstill};
pub use error::DatabaseError;
pub use identity::{Identity, IdentityError, KnownIdentity, RememberedDatabase};
pub use open_error::OpenError;
use reader::{ReadRequest, ReadThread};
use request_channel::RequestChannel;
use write_lock::{LOCK_TIMEOUT, WriteLock};
use writer::{Durability, Request, WriteRequest, WriteThread, WriteTransaction};

/// How many queues there are.
pub(crate) const QUEUES: usize = mill_model::QueueName::ALL.len();

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
    /// Interrupts the check in the background.
    interrupt: Mutex<Option<InterruptHandle>>,
    /// The reader, and running checks.
    reader_threads: Mutex<Vec<JoinHandle<()>>>,
    /// The writer, which ends after the readers.
    writer_thread: Option<JoinHandle<()>>,
}

/// A database that is open, before anything works on it.
struct OpenedDatabase {
    path: PathBuf,
    write_connection: Arc<Mutex<Connection>>,
    /// Of a database without a name the same.
    read_connection: Arc<Mutex<Connection>>,
    /// `None` for a database that no other process sees.
    write_lock: Option<WriteLock>,
    file: Option<DatabaseFile>,
    identity: KnownIdentity,
    /// Whether the database counts this opening already.
    counted: bool,
}

impl Database {
    /// Opens the database at `path`, of which the caller remembers nothing. Creates it if it does not exist, and its
    /// directory too, readable by its owner alone.
    ///
    /// # Errors
    /// Those of [`Self::open_remembered`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>, chance: Arc<dyn Rng>) -> Result<Arc<Self>, OpenError> {
        Self::open_remembered(path, &RememberedDatabase::Nothing, clock, chance)
    }

    /// Opens the database at `path`, which must be the one that the caller remembers. The caller then durably remembers
    /// its [identity](Self::identity).
    ///
    /// Blocks for some milliseconds, as it checks small files; for up to a minute while other processes lock the file.
    ///
    /// # Errors
    /// [`OpenError`] when the database cannot be created or opened, is missing, empty, damaged or not the remembered
    /// one, is not Mill's or not of this version, or would be on a network file system.
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
        let file = DatabaseFile::of(path.clone()).map_err(failed("looking at its file"))?;
        drop(lock_guard);
        schema::check_soundness(&read_connection, &path, &*chance)?;

        let opened = OpenedDatabase {
            path,
            write_connection: Arc::new(Mutex::new(write_connection)),
            read_connection: Arc::new(Mutex::new(read_connection)),
            write_lock: Some(write_lock),
            file: Some(file),
            identity,
            counted: false,
        };
        let database = Self::start(opened, ["mill-db-write", "mill-db-read"], clock, chance)?;
        if schema::is_full_check_due(&database.path, &database.identity.get()) {
            let failed = |source| OpenError::Io { path: database.path.clone(), what: "starting its check", source };
            database.check_in_background().map_err(failed)?;
        }
        Ok(Arc::new(database))
    }

    /// Starts the writer and the first reader of an opened database, on threads of these names.
    fn start(
        opened: OpenedDatabase,
        [writer_name, reader_name]: [&'static str; 2],
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Rng>,
    ) -> Result<Self, OpenError> {
        let OpenedDatabase { path, write_connection, read_connection, write_lock, file, identity, counted } = opened;
        let (damage, arrivals) = (Arc::new(Damage::new(path.clone())), Arc::<Arrivals>::default());
        let ((writes, requests), (reads, read_requests)) = (RequestChannel::new(), RequestChannel::new());
        let write_thread = WriteThread {
            connection: write_connection,
            write_lock,
            chance: Arc::clone(&chance),
            requests,
            arrivals: Arc::clone(&arrivals),
            syncs: true,
            file,
            identity: identity.clone(),
            counted,
            damage: Arc::clone(&damage),
        };
        let read_thread =
            ReadThread { connection: read_connection, chance: Arc::clone(&chance), damage: Arc::clone(&damage) };
        let failed = |what| {
            let path = path.clone();
            move |source| OpenError::Io { path, what, source }
        };
        let writer_handle = spawn(writer_name, move || write_thread.serve()).map_err(failed("starting its writer"))?;
        let first_reader =
            spawn(reader_name, move || read_thread.serve(&read_requests)).map_err(failed("starting its reader"))?;
        Ok(Self {
            path,
            clock,
            chance,
            writes,
            reads,
            arrivals,
            identity,
            damage,
            receivers: ReceiverRegistry::default(),
            interrupt: Mutex::default(),
            reader_threads: Mutex::new(vec![first_reader]),
            writer_thread: Some(writer_handle),
        })
    }

    /// The identity of this database. The handle outlives the database.
    pub fn identity(&self) -> KnownIdentity {
        self.identity.clone()
    }

    /// The damage found since the database was opened. Once there is any, every request fails with it.
    pub fn damage(&self) -> Arc<Damage> {
        Arc::clone(&self.damage)
    }

    /// Checks the whole file in the background. A finding becomes the database's damage. Closing interrupts the check.
    fn check_in_background(&self) -> io::Result<()> {
        let connection = match schema::connect(&self.path, READER_CACHE_KIB, &*self.chance) {
            Ok(connection) => connection,
            // The other connections will meet the same error.
            Err(error) => {
                tracing::debug!(%error, "the database is not read through");
                return Ok(());
            }
        };
        *self.interrupt.lock() = Some(connection.get_interrupt_handle());
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

    /// The path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the whole database and returns the findings: none, when it is sound.
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
        // It has its own connection and thread: it may take minutes, in which others want to read.
        let thread = spawn("mill-db-check", check).map_err(|_| DatabaseError::closed())?;
        self.join_at_end(thread);
        answered.await.map_err(|_| DatabaseError::closed())?
    }

    /// Notes a thread that closing must join.
    fn join_at_end(&self, thread: JoinHandle<()>) {
        let mut reader_threads = self.reader_threads.lock();
        reader_threads.retain(|thread| !thread.is_finished());
        reader_threads.push(thread);
    }

    /// Makes all delayed tasks visible now, and returns how many there were. Tasks in flight stay hidden.
    ///
    /// # Errors
    /// [`DatabaseError`] when no task was changed.
    pub async fn make_delayed_due(&self) -> Result<usize, DatabaseError> {
        let now = i64::try_from(self.clock.now().as_millis()).unwrap_or(i64::MAX);
        let make_due = move |transaction: &mut WriteTransaction<'_>| {
            let sql = "UPDATE message SET visible_at = ?1 WHERE in_flight = 0 AND visible_at > ?1";
            transaction.statement(sql)?.execute([now])
        };
        self.write(Durability::Process, 0, make_due).await
    }

    /// Deletes all tasks of all queues, also those delayed or in flight, and returns how many there were.
    ///
    /// # Errors
    /// [`DatabaseError`] when no task was deleted.
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

    /// Runs `work` in a transaction shared with other requests, and returns after the commit. `bytes` is roughly how
    /// much it writes.
    ///
    /// `work` must check before it writes, so that only errors of SQLite stop it halfway; after such an error it may
    /// run again. It does not run if the caller drops this future first.
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

    /// Runs `work`, which sees all writes acknowledged before. It runs again while the database is busy.
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

    /// Completes when this process makes a message of the queue visible, from the moment the future is enabled.
    pub(crate) fn arrival(&self, queue: usize) -> Notified<'_> {
        self.arrivals.0[queue].notified()
    }
}

impl Drop for Database {
    /// Joins all threads, so that the files are closed when this returns.
    ///
    /// The writer ends after the others: the last connection to close moves the log into the file, and of two that
    /// close at the same time neither is the last.
    fn drop(&mut self) {
        let joined = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the database panicked");
            }
        };
        self.reads.close();
        if let Some(interrupt) = self.interrupt.get_mut() {
            interrupt.interrupt();
        }
        self.reader_threads.get_mut().drain(..).for_each(joined);
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

/// Wakes the receivers of this process that wait for a message.
#[derive(Debug, Default)]
pub(crate) struct Arrivals([Notify; QUEUES]);

impl Arrivals {
    fn announce(&self, arrived: [bool; QUEUES]) {
        for (notify, _) in self.0.iter().zip(arrived).filter(|(_, arrived)| *arrived) {
            notify.notify_waiters();
        }
    }
}
