//! Why a database cannot be used.

use std::io;
use std::path::PathBuf;

use super::error::DatabaseError;

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
        /// The type of the file system.
        name: &'static str,
    },
    /// The database of another program.
    #[error("`{path}` is a database, but not mill's")]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// The database of another version of Mill.
    #[error(
        "`{path}` is of version {found}, and this mill opens none after {known}: use the mill that wrote it, or a later one"
    )]
    OtherVersion {
        /// The database.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version that this Mill opens.
        known: i64,
    },
    /// The caller remembers a database, and there is no file.
    #[error("`{path}` was there and is gone")]
    Gone {
        /// The database.
        path: PathBuf,
    },
    /// The caller remembers a database, and the file is empty.
    #[error("`{path}` was emptied")]
    Emptied {
        /// The database.
        path: PathBuf,
    },
    /// The caller remembers another database.
    #[error("`{path}` is the database of another installation")]
    Another {
        /// The database.
        path: PathBuf,
    },
    /// An older copy of the database is in its place.
    #[error(
        "`{path}` is older than it was: it has been opened {found} times, and was opened {remembered} times before"
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// How often the file was opened.
        found: u64,
        /// How often it was opened, as the caller remembers.
        remembered: u64,
    },
    /// The database is not as Mill left it.
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
    /// Other processes locked the database for too long.
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
        /// The operating system's error.
        source: io::Error,
    },
    /// SQLite refused something.
    #[error("opening `{path}` failed")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's error.
        source: DatabaseError,
    },
}

/// What to do when the disk is full.
fn of_room(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (its disk or quota is full: free space there)",
        _ => "",
    }
}

impl OpenError {
    /// Whether the state itself is wrong, so that a person must restore it or start anew.
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
