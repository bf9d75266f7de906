//! What is wrong with a log in one place.

use mill_records::audit_log::entry::{EntryError, ReadEntry, read_entry};
use mill_records::audit_log::log_files::LogFileError;
use mill_transparency::path::TILE_WIDTH;
use mill_transparency::{CheckpointOpenError, Finding, LogPath, Width};

use super::entries::entries_of;
use super::readable_log::LogCopy;

/// Why a copy of a log is not verified.
#[derive(Debug, thiserror::Error)]
pub enum LogCopyFault {
    /// It does not answer: nothing is known of it.
    #[error("it cannot be read, so nothing is known of it")]
    Unreadable(#[source] LogFileError),
    /// There is none.
    #[error("there is no checkpoint: either nothing was published there yet, or the log was removed")]
    NoLog,
    /// Its checkpoint is not that of the log.
    #[error("its checkpoint is not believed")]
    Checkpoint(#[source] CheckpointOpenError),
    /// A file is not what it must be.
    #[error(transparent)]
    Found(#[from] Finding),
    /// What is kept beside the log is not there.
    #[error("`{name}`, which has the whole of entry {index}, is absent")]
    BesideAbsent {
        /// The entry.
        index: u64,
        /// The item.
        name: String,
    },
    /// What is kept beside the log has other bytes.
    #[error("`{name}`, which has the whole of entry {index}, was changed")]
    BesideChanged {
        /// The entry.
        index: u64,
        /// The item.
        name: String,
        /// How it differs.
        #[source]
        source: EntryError,
    },
    /// It has fewer entries than this installation has published.
    #[error(
        "the log was rolled back: it has {size} entries, and this installation has published {published} to all of its stores"
    )]
    Behind {
        /// Its size.
        size: u64,
        /// The size that was published.
        published: u64,
    },
    /// It is another log than that of another place.
    #[error("the log was forked: its {size} entries are not those with which the log in {other} begins or goes on")]
    Forked {
        /// Its size.
        size: u64,
        /// The other place.
        other: String,
    },
}

impl LogCopyFault {
    /// Says what became of a file.
    pub(super) fn of(error: LogFileError) -> Self {
        match error {
            LogFileError::Checkpoint { source, .. } => Self::Checkpoint(source),
            error => Self::Unreadable(error),
        }
    }

    /// The first entry that is wrong, if that is known.
    pub fn first_entry(&self) -> Option<u64> {
        match self {
            Self::Found(finding) => finding.first_entry(),
            Self::BesideAbsent { index, .. } | Self::BesideChanged { index, .. } => Some(*index),
            Self::Behind { size, .. } => Some(*size),
            Self::Unreadable(_) | Self::NoLog | Self::Checkpoint(_) | Self::Forked { .. } => None,
        }
    }
}

/// A copy that is not verified.
#[derive(Debug)]
pub struct LogFault {
    /// The copy.
    pub copy: String,
    /// What is wrong.
    pub fault: LogCopyFault,
    /// The first entry that is wrong, if that is known.
    pub first_bad_entry: Option<u64>,
    /// What stands there now, if it can be read.
    pub reads_now: Option<String>,
}

impl LogFault {
    /// Looks at what stands where the fault is.
    pub(super) async fn look(copy: &LogCopy, fault: LogCopyFault, size: Option<u64>) -> Self {
        let first_bad_entry = fault.first_entry();
        let reads_now = match (first_bad_entry, size) {
            (Some(index), Some(size)) if index < size => event_at(copy, index, size).await,
            _ => None,
        };
        Self { copy: copy.shown.clone(), fault, first_bad_entry, reads_now }
    }

    /// The fault, and the first bad entry with its event.
    pub fn sentence(&self) -> String {
        let fault = mill_ports::error_chain(&self.fault);
        match (self.first_bad_entry, &self.reads_now) {
            (Some(index), Some(event)) => format!("{fault}. The first bad entry is {index}; it reads now: {event}"),
            (Some(index), None) => format!("{fault}. The first bad entry is {index}"),
            (None, _) => fault,
        }
    }
}

/// The event of an entry, if it can be read, whatever its hash is.
async fn event_at(copy: &LogCopy, index: u64, size: u64) -> Option<String> {
    let width = u64::from(TILE_WIDTH);
    let bundle = index / width;
    let count = u16::try_from((size - bundle * width).min(width)).ok().and_then(Width::new)?;
    let files = copy.files.read_all(&[LogPath::Entries { index: bundle, width: count }]).await.ok()?;
    let bytes = bytes::Bytes::from(files.into_values().next()?);
    let entry = entries_of(&bytes).nth(usize::try_from(index % width).ok()?)?;
    match read_entry(&entry).ok()? {
        ReadEntry::Whole(entry) => {
            let event = &entry.event;
            Some(format!(
                "{} of `{}` in store `{}` at {}",
                event.action,
                event.subject(),
                event.store,
                event.happened_at()
            ))
        }
        ReadEntry::Beside(large) => Some(format!("event {}, which is kept beside the log", large.id)),
    }
}
