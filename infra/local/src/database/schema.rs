//! The database's tables, and how each connection to it is set up.

use std::path::Path;
use std::time::Duration;

use mill_ports::Rng;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::damage::Damage;
use super::error::DatabaseError;
use super::identity::{self, Identity, RememberedDatabase};
use super::write_lock::LockBackoff;
use super::{OpenError, error, integrity};

/// "Mill" in ASCII, by which SQLite files of Mill are known.
const APPLICATION_ID: i64 = 0x4D69_6C6C;

/// The version of the tables below, of those of `identity`, and of those of `integrity`.
const VERSION: i64 = 4;

/// The previous version, without an index by account over the messages that are not in flight.
const WITHOUT_ACCOUNT_INDEX: i64 = 3;

/// The version before that, whose messages do not name their account.
const WITHOUT_ACCOUNTS: i64 = 2;

/// The first version, which has neither identity nor digest.
const WITHOUT_IDENTITY: i64 = 1;

/// Larger files are not checked whole at each opening, but [now and then](is_full_check_due), in the background.
const CHECKED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A large file is checked whole once in so many openings.
const CHECKED_EVERY: u64 = 16;

/// `message`: one row for each message; `visible_at`, `received_at` and `sent_at` in ms of the wall clock; `handle`
/// identifies the receive, and is 0 while the message is not in flight.
///
/// `queue`: how many messages each queue holds, so that a depth need not count them.
///
/// `number`: the last number given out, for ids and row versions. No number is given out twice, as SQLite's own may be,
/// so that an old receipt or version never matches something new.
///
/// `entry`: one row for each row of a table (`book`). Keys are blobs: ordered by bytes, and any byte may occur in them.
const TABLES: &str = "
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        in_flight INTEGER NOT NULL DEFAULT 0,
        receives INTEGER NOT NULL DEFAULT 0,
        handle INTEGER NOT NULL DEFAULT 0,
        received_at INTEGER NOT NULL DEFAULT 0,
        sent_at INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE queue (id INTEGER PRIMARY KEY, messages INTEGER NOT NULL) STRICT;
    INSERT INTO queue (id, messages) VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0);
    CREATE TABLE number (last INTEGER NOT NULL) STRICT;
    INSERT INTO number (last) VALUES (0);
    CREATE TABLE entry (
        book TEXT NOT NULL,
        partition BLOB NOT NULL,
        sort BLOB NOT NULL,
        version INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (book, partition, sort)
    ) STRICT, WITHOUT ROWID;
";

/// The account of a message; empty for one that was sent before this column existed.
const ACCOUNTS: &str = "ALTER TABLE message ADD COLUMN account TEXT NOT NULL DEFAULT '';";

/// The first index serves receives and depths. The second serves receives that exclude accounts, and counts the
/// messages of an account. The second contains only messages that are not in flight: each message enters it once and
/// leaves it when it is received, and no heartbeat changes it. `in_flight` takes no byte (SQLite stores 0 and 1 in the
/// header); it is in the second index so that counting reads no row.
const INDEXES: &str = "
    DROP INDEX IF EXISTS message_by_time;
    DROP INDEX IF EXISTS message_by_account;
    CREATE INDEX message_by_time ON message (queue, in_flight, visible_at);
    CREATE INDEX message_by_account ON message (queue, account, visible_at, in_flight) WHERE in_flight = 0;
";

/// Opens a connection. Retries while another process recovers the log after a kill, or closes it: even the first access
/// may find the file locked then.
pub(super) fn connect(path: &Path, cache_kib: u32, chance: &dyn Rng) -> rusqlite::Result<Connection> {
    let mut backoff = LockBackoff::new(chance);
    loop {
        match try_connect(path, cache_kib) {
            Err(error) if error::is_busy(&error) && backoff.pause() => {}
            other => return other,
        }
    }
}

/// The connection never waits for locks by itself: SQLite's growing sleeps are not fair.
fn try_connect(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    set_up(Connection::open_with_flags(path, flags)?, cache_kib)
}

fn set_up(connection: Connection, cache_kib: u32) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(48);
    connection.execute_batch(&format!(
        "PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA fullfsync = ON;
         PRAGMA cell_size_check = ON;"
    ))?;
    integrity::prepare(&connection)?;
    Ok(connection)
}

/// Sets a connection up for writing, and upgrades the database to this version of Mill. The caller holds the write
/// lock.
///
/// Returns the database's identity.
pub(super) fn prepare_database(
    connection: &Connection,
    path: &Path,
    remembered: &RememberedDatabase,
    chance: &dyn Rng,
) -> Result<Identity, OpenError> {
    retry_while_busy(path, chance, || SchemaSetup { connection, path, remembered, chance, is_scratch: false }.run())
}

/// The same for the one connection of a scratch database, a copy of the database at `path`.
pub(super) fn prepare_scratch(
    connection: &Connection,
    path: &Path,
    remembered: &RememberedDatabase,
    chance: &dyn Rng,
) -> Result<Identity, OpenError> {
    retry_while_busy(path, chance, || SchemaSetup { connection, path, remembered, chance, is_scratch: true }.run())
}

/// Opens an empty database without a name: SQLite keeps it in memory, or in a file that it has unlinked.
pub(super) fn connect_scratch(cache_kib: u32) -> rusqlite::Result<Connection> {
    set_up(Connection::open("")?, cache_kib)
}

/// Checks that the database is as Mill left it. It needs no lock: it reads one snapshot.
pub(super) fn check_soundness(connection: &Connection, path: &Path, chance: &dyn Rng) -> Result<(), OpenError> {
    retry_while_busy(path, chance, || {
        read_through(connection, path)?;
        reject_finding(path, integrity::first_finding(connection)?)
    })
}

fn retry_while_busy<T>(
    path: &Path,
    chance: &dyn Rng,
    mut work: impl FnMut() -> Result<T, SetupError>,
) -> Result<T, OpenError> {
    let mut backoff = LockBackoff::new(chance);
    loop {
        match work() {
            Err(SetupError::Sqlite(error)) if error::is_busy(&error) && backoff.pause() => {}
            Err(SetupError::Sqlite(error)) if error::is_damage(&error) => {
                return Err(OpenError::Damaged { path: path.to_owned(), finding: error.to_string() });
            }
            Err(SetupError::Sqlite(error)) => {
                return Err(OpenError::Sqlite { path: path.to_owned(), source: DatabaseError::from(error).at(path) });
            }
            Err(SetupError::Refused(error)) => return Err(error),
            Ok(done) => return Ok(done),
        }
    }
}

fn read_through(connection: &Connection, path: &Path) -> Result<(), SetupError> {
    if is_large(path) {
        return Ok(());
    }
    reject_finding(path, integrity::findings(connection, "integrity_check")?.into_iter().next())
}

fn reject_finding(path: &Path, finding: Option<String>) -> Result<(), SetupError> {
    let path = path.to_owned();
    finding.map_or(Ok(()), |finding| Err(SetupError::Refused(OpenError::Damaged { path, finding })))
}

/// Prepares a connection for closing. The log of a damaged database is not moved into the file, and no file is removed:
/// a person may want to look at them, and another database may be at the path by now.
pub(super) fn close(connection: &Connection, damage: &Damage) {
    if damage.found().is_some() {
        // If it fails, closing moves the log as usual.
        let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }
}

/// Whether this opening must check a file that is too large to be checked at each opening.
pub(super) fn is_full_check_due(path: &Path, identity: &Identity) -> bool {
    is_large(path) && identity.openings % CHECKED_EVERY == CHECKED_EVERY - 1
}

fn is_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.len() > CHECKED_BYTES_MAX)
}

enum SetupError {
    Sqlite(rusqlite::Error),
    Refused(OpenError),
}

impl From<rusqlite::Error> for SetupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

struct SchemaSetup<'a> {
    connection: &'a Connection,
    path: &'a Path,
    remembered: &'a RememberedDatabase,
    chance: &'a dyn Rng,
    is_scratch: bool,
}

impl SchemaSetup<'_> {
    fn run(&self) -> Result<Identity, SetupError> {
        let Self { connection, path, .. } = *self;
        let version = self.version()?;
        let wanted = if self.is_scratch { "memory" } else { "wal" };
        let mode: String = connection.query_row(&format!("PRAGMA journal_mode = {wanted}"), [], |row| row.get(0))?;
        if mode != wanted {
            return Err(SetupError::Refused(OpenError::NoLog { path: path.to_owned() }));
        }
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 33554432; PRAGMA wal_autocheckpoint = 2000;",
        )?;
        match version {
            None => self.transaction(|| {
                connection.execute_batch(&format!("{TABLES} PRAGMA application_id = {APPLICATION_ID};"))?;
                self.add_identity()
            })?,
            Some(WITHOUT_IDENTITY) => {
                // The digest must be that of sound rows.
                read_through(connection, path)?;
                self.transaction(|| self.add_identity())?;
            }
            Some(WITHOUT_ACCOUNTS | WITHOUT_ACCOUNT_INDEX) => self.transaction(|| self.add_accounts())?,
            Some(_) => {}
        }
        let identity = identity::read(connection)?;
        self.check_identity(&identity)?;
        Ok(identity)
    }

    /// The version of the existing tables; `None` when the file is new.
    fn version(&self) -> Result<Option<i64>, SetupError> {
        let number = |pragma: &str| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let (version, owner) = (number("user_version")?, number("application_id")?);
        let tables: i64 = self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let path = self.path.to_owned();
        if tables == 0 && version == 0 && owner == 0 {
            return match self.remembered {
                RememberedDatabase::Nothing => Ok(None),
                _ => Err(SetupError::Refused(OpenError::Emptied { path })),
            };
        }
        if owner != APPLICATION_ID {
            return Err(SetupError::Refused(OpenError::NotOurs { path }));
        }
        if !(WITHOUT_IDENTITY..=VERSION).contains(&version) {
            return Err(SetupError::Refused(OpenError::OtherVersion { path, found: version, known: VERSION }));
        }
        Ok(Some(version))
    }

    fn add_identity(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!("{} {}", identity::TABLES, integrity::TABLES))?;
        self.add_accounts()?;
        identity::draw(self.connection, self.chance)?;
        integrity::begin(self.connection)
    }

    fn add_accounts(&self) -> rusqlite::Result<()> {
        let there = "SELECT 1 FROM pragma_table_info('message') WHERE name = 'account'";
        let sql = if self.connection.prepare(there)?.exists([])? { "" } else { ACCOUNTS };
        self.connection.execute_batch(&format!("{sql} {INDEXES} PRAGMA user_version = {VERSION};"))
    }

    fn transaction(&self, work: impl FnOnce() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = work().and_then(|()| self.connection.execute_batch("COMMIT"));
        if done.is_err() && !self.connection.is_autocommit() {
            // The first error is reported, not this one.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        done
    }

    fn check_identity(&self, found: &Identity) -> Result<(), SetupError> {
        let RememberedDatabase::Identity(remembered) = self.remembered else { return Ok(()) };
        let path = self.path.to_owned();
        if found.id != remembered.id {
            return Err(SetupError::Refused(OpenError::Another { path }));
        }
        if found.openings < remembered.openings {
            let (found, remembered) = (found.openings, remembered.openings);
            return Err(SetupError::Refused(OpenError::Older { path, found, remembered }));
        }
        Ok(())
    }
}
