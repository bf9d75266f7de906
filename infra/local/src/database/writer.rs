//! The one thread of a process that writes: it takes all pending requests and commits them as one group.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use mill_hooks::crash_point;
use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::damage::{Damage, DatabaseFile};
use super::error::{DatabaseError, DatabaseErrorKind, HELD, is_busy};
use super::identity::{self, KnownIdentity};
use super::schema;
use super::write_lock::{LockBackoff, WriteLock};
use super::{Arrivals, QUEUES};
use crate::crash_points;

/// Most requests in one group.
const GROUP_REQUESTS_MAX: usize = 512;

/// A group is full once its requests carry this many bytes.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// After this long without a request the thread moves the log into the database.
const IDLE: Duration = Duration::from_millis(500);

/// What an acknowledged request must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// A crash of the process. A loss of power may undo it.
    Process,
    /// A loss of power too.
    Power,
}

/// An open transaction, with the counters that it writes once at its end.
pub(crate) struct WriteTransaction<'c> {
    connection: &'c Connection,
    number: Option<i64>,
    added: [i64; QUEUES],
    arrived: [bool; QUEUES],
}

impl<'c> WriteTransaction<'c> {
    /// A transaction in which nothing is written yet.
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, number: None, added: [0; QUEUES], arrived: [false; QUEUES] }
    }

    /// The connection, for statements that only read.
    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// A statement, prepared once for each connection.
    pub(crate) fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
        self.connection.prepare_cached(sql)
    }

    /// A number that was never given out before, for ids and row versions.
    pub(crate) fn next_number(&mut self) -> rusqlite::Result<i64> {
        let last = match self.number {
            Some(last) => last,
            None => self.statement("SELECT last FROM number")?.query_row([], |row| row.get(0))?,
        };
        self.number = Some(last + 1);
        Ok(last + 1)
    }

    /// Adds to a queue's count of messages.
    pub(crate) fn add_to_count(&mut self, queue: usize, more: i64) {
        self.added[queue] += more;
    }

    /// Notes that a queue has a visible message, so that the commit wakes those who wait for one.
    pub(crate) fn note_arrival(&mut self, queue: usize) {
        self.arrived[queue] = true;
    }

    fn finish(self) -> rusqlite::Result<[bool; QUEUES]> {
        if let Some(last) = self.number {
            self.statement("UPDATE number SET last = ?1")?.execute([last])?;
        }
        for (queue, more) in (1_i64..).zip(self.added).filter(|(_, more)| *more != 0) {
            let mut statement = self.statement("UPDATE queue SET messages = messages + ?2 WHERE id = ?1")?;
            statement.execute([queue, more])?;
        }
        crash_point(crash_points::SQLITE_BEFORE_COMMIT);
        self.statement("COMMIT")?.execute([])?;
        crash_point(crash_points::SQLITE_COMMITTED);
        Ok(self.arrived)
    }
}

/// A request as the thread sees it. It checks before it writes: only an error of SQLite stops it midway, and then the
/// whole group is rolled back. So it may run again.
pub(super) trait Request: Send {
    fn durability(&self) -> Durability;
    fn bytes(&self) -> usize;
    /// Whether nobody waits for the answer any more. Such a request is dropped.
    fn is_abandoned(&self) -> bool;
    fn run(&mut self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, end: Result<(), DatabaseError>);
}

pub(super) struct WriteRequest<T, W> {
    pub(super) durability: Durability,
    pub(super) bytes: usize,
    pub(super) work: W,
    pub(super) outcome: Option<T>,
    pub(super) answer: oneshot::Sender<Result<T, DatabaseError>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl<T, W> Request for WriteRequest<T, W>
where
    T: Send,
    W: FnMut(&mut WriteTransaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(&mut self, transaction: &mut WriteTransaction<'_>) -> rusqlite::Result<()> {
        self.outcome = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<(), DatabaseError>) {
        let Self { outcome, answer, .. } = *self;
        // The caller may have dropped its future.
        let _ = answer.send(end.and_then(|()| outcome.ok_or_else(DatabaseError::closed)));
    }
}

pub(super) struct WriteThread {
    /// Its own, but for a scratch database, whose only one is the reader's too.
    pub(super) connection: Arc<Mutex<Connection>>,
    /// `None` for a scratch database, which nobody else has.
    pub(super) write_lock: Option<WriteLock>,
    pub(super) chance: Arc<dyn mill_ports::Rng>,
    pub(super) requests: Receiver<Box<dyn Request>>,
    pub(super) arrivals: Arc<Arrivals>,
    /// Whether the connection is set to sync at each commit.
    pub(super) syncs: bool,
    /// `None` for a scratch database, which has no name.
    pub(super) file: Option<DatabaseFile>,
    pub(super) identity: KnownIdentity,
    /// Whether the database counts this opening already.
    pub(super) counted: bool,
    pub(super) damage: Arc<Damage>,
}

impl WriteThread {
    /// Serves until all senders are gone.
    pub(super) fn serve(mut self) {
        self.serve_all();
        schema::close(&self.connection.lock(), &self.damage);
    }

    fn serve_all(&mut self) {
        loop {
            let first = match self.requests.recv_timeout(IDLE) {
                Ok(first) => first,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.checkpoint();
                    match self.requests.recv() {
                        Ok(first) => first,
                        Err(_) => return,
                    }
                }
            };
            let group = self.gather(first);
            self.commit(group);
        }
    }

    fn gather(&self, first: Box<dyn Request>) -> Vec<Box<dyn Request>> {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_REQUESTS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = self.requests.try_recv() else { break };
            bytes += next.bytes();
            group.push(next);
        }
        group.retain(|request| !request.is_abandoned());
        group
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Request>>) {
        let Some(durability) = group.iter().map(|request| request.durability()).max() else { return };
        match self.transact(&mut group, durability) {
            Ok(arrived) => {
                for request in group {
                    request.answer(Ok(()));
                }
                self.arrivals.announce(arrived);
            }
            Err(failure) if group.len() > 1 && failure.concerns_single_request() => {
                tracing::warn!(%failure, requests = group.len(), "a group of writes failed; trying them one by one");
                for request in group {
                    self.commit(vec![request]);
                }
            }
            Err(failure) => {
                tracing::debug!(%failure, requests = group.len(), "writes failed");
                for request in group {
                    request.answer(Err(failure.clone()));
                }
            }
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Request>], of: Durability) -> Result<[bool; QUEUES], DatabaseError> {
        self.damage.check()?;
        let arrived = self.try_transact(group, of).map_err(|failure| self.damage.note_error(failure));
        self.damage.note_write(arrived.as_ref().err());
        arrived
    }

    fn try_transact(
        &mut self,
        group: &mut [Box<dyn Request>],
        of: Durability,
    ) -> Result<[bool; QUEUES], DatabaseError> {
        if let Some(file) = &mut self.file {
            file.check_unchanged()?;
        }
        let connection = Arc::clone(&self.connection);
        let connection = connection.lock();
        self.sync_at_commit(&connection, of == Durability::Power)?;
        self.begin(&connection)?;
        // Counted together with a durable write, so that it costs no sync of its own.
        let counts = !self.counted && of == Durability::Power;
        let mut transaction = WriteTransaction::new(&connection);
        let counted = if counts { identity::count_opening(&connection).map(Some) } else { Ok(None) };
        let run = counted.and_then(|counted| {
            group.iter_mut().try_for_each(|request| request.run(&mut transaction)).map(|()| counted)
        });
        let ended = run.and_then(|counted| Ok((transaction.finish()?, counted)));
        if ended.is_err() && !connection.is_autocommit() {
            // The first error is reported, not this one; SQLite has often rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        let (arrived, counted) = ended?;
        if let Some(counted) = counted {
            self.identity.set(counted);
            self.counted = true;
        }
        Ok(arrived)
    }

    /// FULL syncs the log at each commit, and with it all earlier commits that were not synced.
    fn sync_at_commit(&mut self, connection: &Connection, syncs: bool) -> rusqlite::Result<()> {
        if self.syncs != syncs {
            connection.execute_batch(if syncs {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.syncs = syncs;
        }
        Ok(())
    }

    fn begin(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let late = || DatabaseError::new(DatabaseErrorKind::Unavailable, HELD);
        let broken = |error| {
            DatabaseError::new(DatabaseErrorKind::Unavailable, format!("taking the turn to write failed: {error}"))
        };
        let timeout = self.damage.timeout();
        let _lock_guard = match &self.write_lock {
            Some(lock) => Some(lock.acquire(timeout).map_err(broken)?.ok_or_else(late)?),
            None => None,
        };
        // Nobody else asks for SQLite's lock while we hold the write lock: it is free as soon as its holder commits.
        let mut backoff = LockBackoff::with(timeout, &*self.chance);
        loop {
            match connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])) {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(&error) && backoff.pause() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves the log into the database as far as no reader needs it. A failure is harmless: the next checkpoint does
    /// it.
    fn checkpoint(&self) {
        if self.damage.found().is_some() {
            return;
        }
        crash_point(crash_points::SQLITE_BEFORE_CHECKPOINT);
        if let Err(error) = self.connection.lock().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "checkpoint left for later");
        }
    }
}
