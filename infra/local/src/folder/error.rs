//! The errors of a folder, and what an errno means to the store's callers: one function decides.

use mill_ports::{BoxError, RefusalReason, StoreErrorKind};
use rustix::io::Errno;

/// An error inside the store, before operation, subject and store are added.
#[derive(Debug)]
pub(super) struct FolderError {
    pub(super) kind: StoreErrorKind,
    pub(super) source: Option<BoxError>,
    /// The subject of the error, where it is not that of the call.
    pub(super) subject: Option<String>,
    /// The errno, where it may concern the item or the whole store.
    pub(super) ambiguous_errno: Option<Errno>,
}

/// The operation during which the operating system reported an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileOperation {
    /// Reaching the root or a space: an error concerns all items.
    Reach,
    /// Reading one item.
    Read,
    /// Writing one item.
    Write,
    /// Making writes durable.
    Flush,
}

impl FolderError {
    /// The error for `errno`.
    pub(super) fn of(operation: FileOperation, errno: Errno) -> Self {
        let words = match (operation, errno) {
            (FileOperation::Reach, Errno::NOENT) => {
                format!("{}; make the folder, or mount its disk", std::io::Error::from(errno)).into()
            }
            _ => describe_errno(errno),
        };
        Self {
            kind: kind(operation, errno),
            source: Some(words),
            subject: None,
            ambiguous_errno: is_doubtful(operation, errno).then_some(errno),
        }
    }

    /// Something that cannot be an item.
    pub(super) fn refused(refusal: RefusalReason) -> Self {
        StoreErrorKind::Refused(refusal).into()
    }

    /// An error that nobody expects.
    pub(super) fn unexpected(words: impl Into<BoxError>) -> Self {
        Self { source: Some(words.into()), ..StoreErrorKind::Unexpected.into() }
    }

    /// The store cannot be used as it is.
    pub(super) fn unavailable(words: impl Into<BoxError>) -> Self {
        Self { source: Some(words.into()), ..StoreErrorKind::Unavailable.into() }
    }

    /// The same error about another subject than that of the call.
    pub(super) fn about(mut self, subject: String) -> Self {
        self.subject = Some(subject);
        self
    }

    /// The same error for a change that could not be undone.
    pub(super) fn with_failed_undo(&self, why: &Self) -> Self {
        let words = |error: &Self| {
            error.source.as_ref().map_or_else(|| error.kind.to_string(), |source| mill_ports::error_chain(&**source))
        };
        let source = format!("{}; and it could not be taken out of view again: {}", words(self), words(why));
        Self { source: Some(source.into()), ..self.again() }
    }

    /// A copy of the error, for each of a group that shares it.
    pub(super) fn again(&self) -> Self {
        let source = self.source.as_ref().map(|source| BoxError::from(mill_ports::error_chain(&**source)));
        Self { kind: self.kind.clone(), source, subject: self.subject.clone(), ambiguous_errno: self.ambiguous_errno }
    }
}

impl From<StoreErrorKind> for FolderError {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, source: None, subject: None, ambiguous_errno: None }
    }
}

/// Errnos of a network file system, or one in user space, that may concern one file or everything.
pub(super) const AWAY: [Errno; 4] = [Errno::STALE, Errno::NODEV, Errno::NXIO, Errno::NOTCONN];
/// Errnos of an exhausted process, machine or file server: they may pass in a moment.
pub(super) const TRANSIENT: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// Whether an errno may concern one item, its directory or the whole store:
/// [`failure_scope`](super::failure_scope) finds out.
fn is_doubtful(operation: FileOperation, errno: Errno) -> bool {
    // Some file systems in user space return these for a name that they cannot store.
    let of_name = [Errno::NOENT, Errno::AGAIN, Errno::INVAL, Errno::ILSEQ].contains(&errno);
    let store_failure = [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::IO].contains(&errno);
    let store_failure = store_failure || AWAY.contains(&errno) || TRANSIENT.contains(&errno);
    match operation {
        FileOperation::Reach | FileOperation::Flush => false,
        FileOperation::Read => store_failure || of_name,
        FileOperation::Write => store_failure || of_name || is_disk_full(errno) || errno == Errno::BUSY,
    }
}

/// The message of `errno`, and what to do where a person must act and the remedy is known.
pub(super) fn describe_errno(errno: Errno) -> BoxError {
    let error = std::io::Error::from(errno);
    match errno {
        Errno::NOSPC | Errno::DQUOT => format!("{error}; {}", room_advice(errno)).into(),
        Errno::ROFS => format!("{error}; mount it writable").into(),
        Errno::ACCESS => format!("{error}; give {} the right to it", user()).into(),
        _ => error.into(),
    }
}

/// Whom a person must give a right.
fn user() -> String {
    format!("the user with the id {}", rustix::process::geteuid().as_raw())
}

/// What to do about a full disk, or a quota that is used up.
pub(super) fn room_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::DQUOT => "free space there, or raise the quota",
        _ => "free space there, or use a larger disk",
    }
}

/// Whether the disk is full, or a quota of the user, the project or the directory.
pub(super) fn is_disk_full(errno: Errno) -> bool {
    [Errno::NOSPC, Errno::DQUOT].contains(&errno)
}

/// The one place that maps an errno to a kind. Callers handle absence (`ENOENT`) before. For an
/// [ambiguous errno](is_doubtful) the kind holds until its scope is known.
#[allow(clippy::match_same_arms)] // a table: the arms are grouped by why
fn kind(operation: FileOperation, errno: Errno) -> StoreErrorKind {
    let refused = StoreErrorKind::Refused;
    let taken = |by: &str| refused(RefusalReason::PathConflict(by.to_owned()));
    let unholdable = |why: &str| refused(RefusalReason::UnrepresentableId(why.to_owned()));
    // Only `EIO` has a meaning of its own for a flush.
    let operation =
        if operation == FileOperation::Flush && errno != Errno::IO { FileOperation::Write } else { operation };
    match (operation, errno) {
        // This process or machine is exhausted; nothing is wrong with the store.
        (_, Errno::MFILE | Errno::NFILE | Errno::NOMEM) => StoreErrorKind::Throttled { retry_after: None },
        (FileOperation::Reach, _) => StoreErrorKind::Unavailable,
        // A server that does not answer now.
        (_, Errno::TIMEDOUT | Errno::HOSTDOWN) => StoreErrorKind::Unreachable,
        // A disk or server that went away.
        (_, Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN) => StoreErrorKind::Unavailable,

        (FileOperation::Read, Errno::ACCESS | Errno::PERM) => refused(RefusalReason::Unreadable),
        (FileOperation::Read, Errno::LOOP) => refused(RefusalReason::SymbolicLink),
        (FileOperation::Read, Errno::NAMETOOLONG) => refused(RefusalReason::TooLong),

        // A block of the disk is bad: the next item may be elsewhere.
        (FileOperation::Flush, _) => StoreErrorKind::Unexpected,

        // The next item may meet the same.
        (
            FileOperation::Write,
            Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO | Errno::ACCESS | Errno::PERM | Errno::NOLCK,
        ) => StoreErrorKind::Unavailable,
        (FileOperation::Write, Errno::LOOP) => taken("a symbolic link"),
        (FileOperation::Write, Errno::NOTDIR) => taken("a file"),
        (FileOperation::Write, Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => taken("a directory"),
        // On the path to an item. The caller of a rename handles this errno itself.
        (FileOperation::Write, Errno::XDEV) => unholdable("a mount point lies in its path"),
        (FileOperation::Write, Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ) => {
            unholdable("the file system takes no such name")
        }
        (FileOperation::Write, Errno::NOTSUP) => unholdable("its properties fit neither the file system nor a sidecar"),
        (FileOperation::Write, Errno::FBIG) => unholdable("the file system takes no file of this size"),
        (FileOperation::Write, Errno::MLINK) => unholdable("the directory cannot hold more directories"),
        _ => StoreErrorKind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_the_meaning_that_callers_act_on() {
        use FileOperation::{Flush, Reach, Read, Write};
        let unholdable =
            |kind: &StoreErrorKind| matches!(kind, StoreErrorKind::Refused(RefusalReason::UnrepresentableId(_)));
        let taken = |kind: &StoreErrorKind| matches!(kind, StoreErrorKind::Refused(RefusalReason::PathConflict(_)));
        for (operation, errno, expected) in [
            (Reach, Errno::ACCESS, StoreErrorKind::Unavailable),
            (Reach, Errno::NOENT, StoreErrorKind::Unavailable),
            (Reach, Errno::IO, StoreErrorKind::Unavailable),
            (Reach, Errno::MFILE, StoreErrorKind::Throttled { retry_after: None }),
            (Read, Errno::ACCESS, StoreErrorKind::Refused(RefusalReason::Unreadable)),
            (Read, Errno::PERM, StoreErrorKind::Refused(RefusalReason::Unreadable)),
            (Read, Errno::LOOP, StoreErrorKind::Refused(RefusalReason::SymbolicLink)),
            (Read, Errno::IO, StoreErrorKind::Unexpected),
            (Read, Errno::STALE, StoreErrorKind::Unavailable),
            (Read, Errno::NFILE, StoreErrorKind::Throttled { retry_after: None }),
            (Write, Errno::NOSPC, StoreErrorKind::Unavailable),
            (Write, Errno::DQUOT, StoreErrorKind::Unavailable),
            (Write, Errno::ROFS, StoreErrorKind::Unavailable),
            (Write, Errno::IO, StoreErrorKind::Unavailable),
            (Write, Errno::ACCESS, StoreErrorKind::Unavailable),
            (Write, Errno::NODEV, StoreErrorKind::Unavailable),
            (Write, Errno::BADF, StoreErrorKind::Unexpected),
            (Write, Errno::BUSY, StoreErrorKind::Unexpected),
            (Flush, Errno::IO, StoreErrorKind::Unexpected),
            (Flush, Errno::NOSPC, StoreErrorKind::Unavailable),
            (Flush, Errno::ROFS, StoreErrorKind::Unavailable),
            (Flush, Errno::NODEV, StoreErrorKind::Unavailable),
        ] {
            assert_eq!(kind(operation, errno), expected, "{operation:?} {errno}");
        }
        for errno in [Errno::XDEV, Errno::NAMETOOLONG, Errno::INVAL, Errno::ILSEQ, Errno::NOTSUP, Errno::FBIG] {
            assert!(unholdable(&kind(Write, errno)), "{errno}");
        }
        for errno in [Errno::LOOP, Errno::NOTDIR, Errno::ISDIR, Errno::NOTEMPTY, Errno::EXIST] {
            assert!(taken(&kind(Write, errno)), "{errno}");
        }
    }
}
