//! The errors of the database, and what SQLite's error codes mean.

use std::path::Path;
use std::sync::Arc;

use mill_ports::{QueueErrorKind, TableErrorKind};
use rusqlite::ErrorCode;

/// A request that the database did not carry out. Nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{words}")]
pub struct DatabaseError {
    pub(crate) kind: DatabaseErrorKind,
    words: Arc<str>,
}

/// The kinds of error on which some caller acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseErrorKind {
    /// The database cannot carry out any request now: full, read-only, locked for too long, failing disk.
    Unavailable,
    /// Not permitted.
    Denied,
    /// A value is larger than SQLite accepts.
    TooLarge,
    /// The file is not as Mill left it. The error is permanent, and no answer of the database can be trusted.
    Damaged,
    /// A bug in Mill.
    Unexpected,
}

impl DatabaseError {
    pub(crate) fn new(kind: DatabaseErrorKind, words: impl Into<Arc<str>>) -> Self {
        Self { kind, words: words.into() }
    }

    /// The database was closed, or its thread has ended, before the request was answered.
    pub(crate) fn closed() -> Self {
        Self::new(DatabaseErrorKind::Unavailable, "the database is closed")
    }

    /// Whether one request of a group may have caused this, so that the others may succeed by themselves.
    pub(crate) fn concerns_single_request(&self) -> bool {
        !matches!(self.kind, DatabaseErrorKind::Unavailable | DatabaseErrorKind::Damaged)
    }

    /// The same error with the cause at `path` and what to do, where they are known.
    pub(super) fn at(self, path: &Path) -> Self {
        match way_out(&self.words, path) {
            Some(way_out) if self.kind == DatabaseErrorKind::Unavailable => {
                Self::new(self.kind, format!("{way_out}: {}", self.words))
            }
            _ => self,
        }
    }

    pub(super) fn words(&self) -> &str {
        &self.words
    }

    pub(crate) fn queue_kind(&self) -> QueueErrorKind {
        match self.kind {
            DatabaseErrorKind::Unavailable => QueueErrorKind::Unavailable,
            DatabaseErrorKind::Denied => QueueErrorKind::Denied,
            DatabaseErrorKind::TooLarge => QueueErrorKind::TooLarge,
            DatabaseErrorKind::Damaged | DatabaseErrorKind::Unexpected => QueueErrorKind::Unexpected,
        }
    }

    pub(crate) fn table_kind(&self) -> TableErrorKind {
        match self.kind {
            DatabaseErrorKind::Unavailable => TableErrorKind::Unavailable,
            DatabaseErrorKind::Denied => TableErrorKind::Denied,
            DatabaseErrorKind::TooLarge => TableErrorKind::TooLarge,
            DatabaseErrorKind::Damaged | DatabaseErrorKind::Unexpected => TableErrorKind::Unexpected,
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        let of_sqlite = || error.sqlite_error().map_or(DatabaseErrorKind::Unexpected, |error| error_kind(error.code));
        let kind = if is_damage(&error) { DatabaseErrorKind::Damaged } else { of_sqlite() };
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        Self::new(kind, format!("{error} (SQLite code {extended})"))
    }
}

/// Less free space than this is too little for the log to grow.
const LITTLE_BYTES: u64 = 256 * 1024;

/// The cause and what to do, derived from SQLite's message.
fn way_out(words: &str, path: &Path) -> Option<String> {
    let shown = path.display();
    let left = path.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
    let left = left.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if words.contains("is full") || left.is_some_and(|left| left < LITTLE_BYTES) {
        return Some(format!("the disk of `{shown}` is full; free space on it"));
    }
    if words.contains("is locked") || words.contains(HELD) {
        return Some(format!(
            "another program holds `{shown}` locked (`fuser {shown}` names it); end it, or wait for it"
        ));
    }
    if words.contains("readonly") {
        return Some(format!("`{shown}` may not be written; see to its permissions and its disk"));
    }
    words.contains("disk I/O error").then(|| format!("the disk of `{shown}` fails, or is full; look at it"))
}

/// The message of a lock that was not acquired in time.
pub(super) const HELD: &str = "the database's lock was held for too long";

/// The one place that maps codes to kinds. A code that is not known to be temporary is unexpected.
fn error_kind(code: ErrorCode) -> DatabaseErrorKind {
    match code {
        ErrorCode::DiskFull
        | ErrorCode::ReadOnly
        | ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::CannotOpen
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory => DatabaseErrorKind::Unavailable,
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => DatabaseErrorKind::Denied,
        ErrorCode::TooBig => DatabaseErrorKind::TooLarge,
        _ => DatabaseErrorKind::Unexpected,
    }
}

/// Whether the file is damaged: unreadable pages, or values that the tables' constraints exclude.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..)
        // Statements whose row may be absent use `optional`.
        | Error::QueryReturnedNoRows => true,
        other => matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
    }
}

/// The error for rows that are not in the order of their keys, as in any sound table.
pub(crate) fn out_of_order() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some("rows are not in the order of their keys".to_owned()))
}

/// Whether another connection holds a lock that this one needs, so that the caller should retry soon.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_code_means_what_the_table_says() {
        let table = [
            (ffi::SQLITE_FULL, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_READONLY, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_READONLY_DBMOVED, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_BUSY, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_BUSY_SNAPSHOT, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_BUSY_RECOVERY, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_LOCKED, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_PROTOCOL, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_CANTOPEN, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_IOERR_WRITE, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_IOERR_FSYNC, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_IOERR_READ, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_NOMEM, DatabaseErrorKind::Unavailable),
            (ffi::SQLITE_PERM, DatabaseErrorKind::Denied),
            (ffi::SQLITE_AUTH, DatabaseErrorKind::Denied),
            (ffi::SQLITE_TOOBIG, DatabaseErrorKind::TooLarge),
            (ffi::SQLITE_CORRUPT, DatabaseErrorKind::Damaged),
            (ffi::SQLITE_CORRUPT_INDEX, DatabaseErrorKind::Damaged),
            (ffi::SQLITE_NOTADB, DatabaseErrorKind::Damaged),
            (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, DatabaseErrorKind::Unexpected),
            (ffi::SQLITE_MISUSE, DatabaseErrorKind::Unexpected),
            (ffi::SQLITE_ERROR, DatabaseErrorKind::Unexpected),
            (ffi::SQLITE_INTERNAL, DatabaseErrorKind::Unexpected),
        ];
        for (code, expected) in table {
            let failure = DatabaseError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(failure.kind, expected, "code {code}: {failure}");
        }
    }

    #[test]
    fn trouble_of_the_databases_place_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mill.db");
        for (code, words) in [
            (ffi::SQLITE_FULL, "is full; free space on it"),
            (ffi::SQLITE_IOERR_SHMSIZE, "fails, or is full; look at it"),
            (ffi::SQLITE_BUSY, "locked (`fuser"),
            (ffi::SQLITE_READONLY, "may not be written; see to"),
        ] {
            let failure = DatabaseError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).at(&path);
            let said = failure.to_string();
            assert!(said.contains(words) && said.contains(path.to_str().unwrap()), "{code}: {said}");
            assert!(said.contains(&format!("SQLite code {code}")), "{said}");
        }
        let other = DatabaseError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_NOMEM), None));
        assert_eq!(other.clone().at(&path).to_string(), other.to_string());
    }

    #[test]
    fn a_value_that_the_tables_rules_shut_out_is_damage() {
        let wrong = rusqlite::Error::InvalidColumnType(0, "value".into(), rusqlite::types::Type::Null);
        assert_eq!(DatabaseError::from(wrong).kind, DatabaseErrorKind::Damaged);
        assert_eq!(DatabaseError::from(out_of_order()).kind, DatabaseErrorKind::Damaged);
    }

    #[test]
    fn an_error_that_is_not_sqlites_is_unexpected() {
        assert_eq!(DatabaseError::from(rusqlite::Error::InvalidQuery).kind, DatabaseErrorKind::Unexpected);
    }
}
