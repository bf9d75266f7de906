//! What an errno of the operating system means to those who call the store: one function decides.

use mill_ports::{BoxError, RefusalReason, StoreErrorKind};
use rustix::io::Errno;

/// A failure inside the store, before operation, subject and store are named.
#[derive(Debug)]
pub(super) struct FolderError {
    pub(super) kind: StoreErrorKind,
    pub(super) source: Option<BoxError>,
    /// What failed, where it is not the thing that was asked for.
    pub(super) subject: Option<String>,
    /// What the operating system said, where that alone does not tell whether the item or the store is meant.
    pub(super) ambiguous_errno: Option<Errno>,
}

/// What was being done when the operating system said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileOperation {
    /// Reaching the root or a space: what stands in the way concerns all items.
    Reach,
    /// Reading one item.
    Read,
    /// Writing one item.
    Write,
    /// Making durable what was written.
    Flush,
}

impl FolderError {
    /// What `errno` means.
    pub(super) fn of(operation: FileOperation, errno: Errno) -> Self {
        Self {
            kind: kind(operation, errno),
            source: Some(describe_errno(errno)),
            subject: None,
            ambiguous_errno: is_doubtful(operation, errno).then_some(errno),
        }
    }

    /// Something that cannot be an item.
    pub(super) fn refused(refusal: RefusalReason) -> Self {
        StoreErrorKind::Refused(refusal).into()
    }

    /// An answer that contradicts itself.
    pub(super) fn unexpected(words: impl Into<BoxError>) -> Self {
        Self { source: Some(words.into()), ..StoreErrorKind::Unexpected.into() }
    }

    /// The store cannot be used as it is.
    pub(super) fn unavailable(words: impl Into<BoxError>) -> Self {
        Self { source: Some(words.into()), ..StoreErrorKind::Unavailable.into() }
    }

    /// The same about something else than was asked for.
    pub(super) fn about(mut self, subject: String) -> Self {
        self.subject = Some(subject);
        self
    }

    /// The same failure of a change that could not be taken out of view again.
    pub(super) fn with_failed_undo(&self, why: &Self) -> Self {
        let words = |error: &Self| {
            error.source.as_ref().map_or_else(|| error.kind.to_string(), |source| mill_ports::error_chain(&**source))
        };
        let source = format!("{}; and it could not be taken out of view again: {}", words(self), words(why));
        Self { source: Some(source.into()), ..self.again() }
    }

    /// The same failure, for each of a group that shares it.
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

/// What a network file system, or one in user space, says of a single file or directory, or of all it holds.
pub(super) const AWAY: [Errno; 4] = [Errno::STALE, Errno::NODEV, Errno::NXIO, Errno::NOTCONN];
/// Too much at once for this process or machine, or for whoever serves the file system: it may pass in a moment.
pub(super) const TRANSIENT: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// Whether an errno may mean one item, its directory or all of the store: [`reach`](super::failure_scope) finds out.
fn is_doubtful(operation: FileOperation, errno: Errno) -> bool {
    // Some file systems in user space say these of a name that they cannot hold.
    let of_name = [Errno::NOENT, Errno::AGAIN, Errno::INVAL, Errno::ILSEQ].contains(&errno);
    let store_failure = [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::IO].contains(&errno);
    let store_failure = store_failure || AWAY.contains(&errno) || TRANSIENT.contains(&errno);
    match operation {
        FileOperation::Reach | FileOperation::Flush => false,
        FileOperation::Read => store_failure || of_name,
        FileOperation::Write => store_failure || of_name || is_disk_full(errno) || errno == Errno::BUSY,
    }
}

/// What the operating system says by `errno`, and what to do where a person must act and that is known.
pub(super) fn describe_errno(errno: Errno) -> BoxError {
    let error = std::io::Error::from(errno);
    match errno {
        Errno::NOSPC => format!("{error}; free space there, or move the store to a larger disk").into(),
        Errno::DQUOT => format!("{error}; free space there, or raise the quota").into(),
        Errno::ROFS => format!("{error}; mount it writable").into(),
        _ => error.into(),
    }
}

/// Whether there was no room: on the disk, or in a quota of the user, the project or the directory.
pub(super) fn is_disk_full(errno: Errno) -> bool {
    [Errno::NOSPC, Errno::DQUOT].contains(&errno)
}

/// The one place where an errno becomes a kind. Absence (`ENOENT`) is told apart before this is asked. Where there is a
/// [doubt](is_doubtful), the kind is what it means as long as nobody has found out.
#[allow(clippy::match_same_arms)] // a table: the arms are grouped by why
fn kind(operation: FileOperation, errno: Errno) -> StoreErrorKind {
    let refused = StoreErrorKind::Refused;
    let taken = |by: &str| refused(RefusalReason::PathConflict(by.to_owned()));
    let unholdable = |why: &str| refused(RefusalReason::UnrepresentableId(why.to_owned()));
    // Only a device that refuses what it was given says something of its own here.
    let operation =
        if operation == FileOperation::Flush && errno != Errno::IO { FileOperation::Write } else { operation };
    match (operation, errno) {
        // Too much at once for this process or machine; nothing is wrong with the store.
        (_, Errno::MFILE | Errno::NFILE | Errno::NOMEM) => StoreErrorKind::Throttled { retry_after: None },
        (FileOperation::Reach, _) => StoreErrorKind::Unavailable,
        // A server that does not answer for now.
        (_, Errno::TIMEDOUT | Errno::HOSTDOWN) => StoreErrorKind::Unreachable,
        // A disk or server that went away.
        (_, Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN) => StoreErrorKind::Unavailable,

        (FileOperation::Read, Errno::ACCESS | Errno::PERM) => refused(RefusalReason::Unreadable),
        (FileOperation::Read, Errno::LOOP) => refused(RefusalReason::SymbolicLink),
        (FileOperation::Read, Errno::NAMETOOLONG) => refused(RefusalReason::TooLong),

        // Some block of the disk is bad: the next item may lie elsewhere.
        (FileOperation::Flush, _) => StoreErrorKind::Unexpected,

        // The next item may meet the same.
        (
            FileOperation::Write,
            Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO | Errno::ACCESS | Errno::PERM | Errno::NOLCK,
        ) => StoreErrorKind::Unavailable,
        (FileOperation::Write, Errno::LOOP) => taken("a symbolic link"),
        (FileOperation::Write, Errno::NOTDIR) => taken("a file"),
        (FileOperation::Write, Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => taken("a directory"),
        // Of the way to an item. What a rename says by it, its caller knows.
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
