//! The database's tables, and how each connection to it is set up.

use std::path::Path;
use std::time::Duration;

use mill_ports::Chance;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::turn::Waiting;
use super::{OpenError, failure};

/// "Mill" in ASCII: says whose file it is.
const APPLICATION_ID: i64 = 0x4D69_6C6C;

/// The version of the tables below.
const VERSION: i64 = 1;

/// Larger files are not read through at each opening.
const CHECKED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// `message`: one row a body; `visible_at`, `received_at` and `sent_at` in ms of the wall clock; `handle` tells the
/// receives of a body apart, 0 while it is in nobody's hands. The one index serves receives and depths, which never
/// read a row: `in_flight` costs it no byte (SQLite stores 0 and 1 in the header).
///
/// `queue`: how many bodies each queue holds, so that a depth need not count them.
///
/// `number`: the last number given out, for ids and row versions. No number is given twice, as SQLite's own may be,
/// so that an old receipt or version never fits something new.
///
/// `entry`: one row a book's row. Keys are blobs: ordered by bytes, and any byte may stand in them.
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
    CREATE INDEX message_by_time ON message (queue, visible_at, in_flight);
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

/// Opens a connection, for as long as it takes another process to recover the log after a kill, or to close it: even the
/// first look at the file may find it locked then.
pub(super) fn connect(path: &Path, cache_kib: u32, chance: &dyn Chance) -> rusqlite::Result<Connection> {
    let mut waiting = Waiting::new(chance);
    loop {
        match try_connect(path, cache_kib) {
            Err(error) if failure::is_busy(&error) && waiting.once_more() => {}
            other => return other,
        }
    }
}

/// It never waits for locks by itself: SQLite's growing sleeps are not fair.
fn try_connect(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(48);
    connection.execute_batch(&format!(
        "PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA fullfsync = ON;"
    ))?;
    Ok(connection)
}

/// Makes a connection fit for writing, and the database fit for this version of Mill. Called under the turn.
pub(super) fn settle(connection: &Connection, path: &Path, waiting: &mut Waiting<'_>) -> Result<(), OpenError> {
    loop {
        match try_settle(connection, path) {
            Err(Settling::Sqlite(error)) if failure::is_busy(&error) && waiting.once_more() => {}
            Err(Settling::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                return Err(OpenError::Damaged { path: path.to_owned(), finding: error.to_string() });
            }
            Err(Settling::Sqlite(error)) => {
                return Err(OpenError::Sqlite { path: path.to_owned(), source: error.into() });
            }
            Err(Settling::Refused(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

enum Settling {
    Sqlite(rusqlite::Error),
    Refused(OpenError),
}

impl From<rusqlite::Error> for Settling {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn try_settle(connection: &Connection, path: &Path) -> Result<(), Settling> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (version, owner) = (number("user_version")?, number("application_id")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let fresh = tables == 0 && version == 0 && owner == 0;
    if !fresh && owner != APPLICATION_ID {
        return Err(Settling::Refused(OpenError::NotOurs { path: path.to_owned() }));
    }
    if !fresh && version != VERSION {
        let (path, known) = (path.to_owned(), VERSION);
        return Err(Settling::Refused(OpenError::OtherVersion { path, found: version, known }));
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Settling::Refused(OpenError::NoLog { path: path.to_owned() }));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 33554432; PRAGMA wal_autocheckpoint = 2000;",
    )?;
    if fresh {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    } else if std::fs::metadata(path).is_ok_and(|facts| facts.len() <= CHECKED_BYTES_MAX) {
        let found = findings(connection, "quick_check")?;
        if let Some(finding) = found.into_iter().next() {
            return Err(Settling::Refused(OpenError::Damaged { path: path.to_owned(), finding }));
        }
    }
    Ok(())
}

/// What `quick_check` or `integrity_check` finds wrong, at most ten findings.
pub(super) fn findings(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}(10)"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Where the kept counts of bodies differ from the bodies there are.
pub(super) fn miscounts(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT id, messages, (SELECT count(*) FROM message WHERE message.queue = queue.id) AS counted
         FROM queue WHERE messages <> counted",
    )?;
    let lines = statement.query_map([], |row| {
        let (queue, kept, counted): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("queue {queue} is said to hold {kept} bodies and holds {counted}"))
    })?;
    lines.collect()
}
