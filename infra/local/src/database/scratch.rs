//! A scratch database: a copy of a database for one process, which may change it as it likes. The database itself is only
//! read.
//!
//! The copy has no name. It is in memory, or in a file that is unlinked already, so that the system removes it however
//! the process ends.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mill_ports::{Clock, Rng};
use parking_lot::Mutex;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::error::{self, DatabaseError};
use super::identity::{KnownIdentity, RememberedDatabase};
use super::{Database, OpenError, OpenedDatabase, WRITER_CACHE_KIB, location, schema};

/// How many pages are copied at once.
const PAGES_AT_ONCE: i32 = 1_024;

impl Database {
    /// Opens a scratch copy of the database at `known`, which must be the remembered one. If there is none, the scratch
    /// database is empty.
    ///
    /// # Errors
    /// Those of [`Self::open_remembered`]; [`OpenError::Busy`] when the database is changed while it is copied.
    pub fn scratch(
        known: &Path,
        remembered: &RememberedDatabase,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Rng>,
    ) -> Result<Arc<Self>, OpenError> {
        let is_gone = location::is_gone(known);
        if is_gone && *remembered != RememberedDatabase::Nothing {
            return Err(OpenError::Gone { path: known.to_owned() });
        }
        let mut connection = schema::connect_scratch(WRITER_CACHE_KIB).map_err(|error| of_sqlite(known, error))?;
        if !is_gone {
            copy_into(&mut connection, known)?;
        }
        let identity = KnownIdentity::new(schema::prepare_scratch(&connection, known, remembered, &*chance)?);
        schema::check_soundness(&connection, known, &*chance)?;
        // A database without a name has one connection.
        let connection = Arc::new(Mutex::new(connection));
        let opened = OpenedDatabase {
            path: known.to_owned(),
            write_connection: Arc::clone(&connection),
            read_connection: connection,
            write_lock: None,
            file: None,
            identity,
            counted: true,
        };
        Ok(Arc::new(Self::start(opened, ["mill-db-scratch", "mill-db-reads"], clock, chance)?))
    }
}

fn of_sqlite(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    if error::is_damage(&error) {
        return OpenError::Damaged { path, finding: error.to_string() };
    }
    let source = DatabaseError::from(error).at(&path);
    OpenError::Sqlite { path, source }
}

/// Copies the database, which nobody may change meanwhile.
fn copy_into(scratch: &mut Connection, known: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { path: known.to_owned(), what: "copying it", source };
    let before = DatabaseState::of(known).map_err(failed)?;
    let copied = if before.has_log() {
        copy_with_log(scratch, known).map_err(|error| match error {
            CopyError::Io(source) => failed(source),
            CopyError::Sqlite(error) => of_sqlite(known, error),
        })
    } else {
        copy_file(scratch, known).map_err(|error| of_sqlite(known, error))
    };
    // A change explains an error, and makes a success worthless.
    if DatabaseState::of(known).map_err(failed)? != before {
        return Err(OpenError::Busy { path: known.to_owned() });
    }
    copied
}

enum CopyError {
    Io(io::Error),
    Sqlite(rusqlite::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reads the file as one that nobody changes: SQLite makes no file beside it and takes no lock.
fn copy_file(scratch: &mut Connection, known: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(format!("file:{}?immutable=1", in_uri(known)), flags)?;
    copy_pages(&source, scratch)
}

/// A killed process has left its log. SQLite would change both files to read them, so it gets copies.
fn copy_with_log(scratch: &mut Connection, known: &Path) -> Result<(), CopyError> {
    let folder = tempfile::Builder::new().prefix("mill-scratch-").tempdir()?;
    let copy = folder.path().join("copy.db");
    fs::copy(known, &copy)?;
    fs::copy(log_of(known), log_of(&copy))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    copy_pages(&Connection::open_with_flags(&copy, flags)?, scratch)?;
    folder.close()?;
    Ok(())
}

fn copy_pages(source: &Connection, scratch: &mut Connection) -> rusqlite::Result<()> {
    Backup::new(source, scratch)?.run_to_completion(PAGES_AT_ONCE, Duration::ZERO, None)
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn in_uri(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    path.as_os_str()
        .as_bytes()
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

/// What shows that a database was changed: length and time of its file and its log.
#[derive(PartialEq, Eq)]
struct DatabaseState {
    file: (u64, Option<SystemTime>),
    log: Option<(u64, Option<SystemTime>)>,
}

impl DatabaseState {
    fn of(path: &Path) -> io::Result<Self> {
        let facts = |path: &Path| fs::metadata(path).map(|facts| (facts.len(), facts.modified().ok()));
        let log = match facts(&log_of(path)) {
            Ok(log) => Some(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file: facts(path)?, log })
    }

    fn has_log(&self) -> bool {
        self.log.is_some_and(|(bytes, _)| bytes > 0)
    }
}
