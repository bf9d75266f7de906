//! The errors of stores.

use std::time::Duration;

use mill_model::StoreAddress;

use crate::BoxError;

/// Why something cannot be an item of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// A symbolic link: its target may be anywhere.
    #[error("a symbolic link; mill copies files, not links")]
    SymbolicLink,
    /// A pipe, socket or device.
    #[error("not a file or directory ({0})")]
    SpecialFile(&'static str),
    /// A name whose bytes are not UTF-8.
    #[error("its name is not UTF-8")]
    NotUtf8,
    /// An id longer than the limit.
    #[error("its path is longer than 1,024 bytes")]
    TooLong,
    /// A name that Mill needs for itself.
    #[error("its name is reserved for mill")]
    Reserved,
    /// Properties that are no text.
    #[error("its properties cannot be read: {0}")]
    UnreadableProperties(String),
    /// An id that this back end cannot hold.
    #[error("this store cannot hold such an id: {0}")]
    UnrepresentableId(String),
    /// Properties that this back end cannot hold as they are.
    #[error("this store cannot hold its properties: {0}")]
    UnrepresentableProperties(String),
    /// A name already taken by something else, such as `a` by `a/b`.
    #[error("its place is taken by {0}")]
    PathConflict(String),
    /// A name that this store treats as equal to an existing one. Holds the existing path in the space: the item's, or
    /// that of the first directory on the way to it with another spelling.
    #[error("this store takes its name for that of `{0}`")]
    Twin(String),
    /// It may not be read.
    #[error("it may not be read")]
    Unreadable,
    /// It cannot be written, while other items of the store may.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
    /// Its bytes are in an archive tier, named as the service names it. A person must bring them back first.
    #[error("it lies in the archive tier {0}; bring it back to be copied")]
    Archived(String),
    /// It is beside the spaces and is no space.
    #[error("it lies in no space")]
    OutsideSpaces,
    /// Another Mill keeps this place in sync from another source.
    #[error("{0}")]
    ForeignDestination(String),
    /// A name that no space can have.
    #[error("no space can bear its name: {0}")]
    InvalidSpaceName(&'static str),
}

/// A call on a store that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} of `{subject}` in store `{store}` failed: {kind}")]
pub struct StoreError {
    /// The kind of failure, as far as any caller acts on it.
    pub kind: StoreErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The store.
    pub store: StoreAddress,
    /// The space or item, escaped for a message.
    pub subject: String,
    /// The back end's own error.
    #[source]
    pub source: Option<BoxError>,
}

/// The kinds of failure on which some caller acts differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// Too many requests: slow down, nothing is wrong.
    #[error("throttled")]
    Throttled {
        /// How long to wait before the next call, if the store says so.
        retry_after: Option<Duration>,
    },
    /// The store as a whole cannot be used now, and a person must act: no credentials, full, read-only, not mounted.
    /// Nothing is known of any item.
    #[error("the store cannot be used")]
    Unavailable,
    /// The store as a whole does not answer, or has a failure of its own that may pass by itself. Nothing is known of
    /// any item.
    #[error("the store does not answer")]
    Unreachable,
    /// The space does not exist, and the store answers.
    #[error("the space is not there")]
    SpaceAbsent,
    /// This item cannot be stored or read, or may not be; trying again does not help.
    #[error("refused: {0}")]
    Refused(RefusalReason),
    /// The condition of a write did not hold.
    #[error("the item is not in the expected state")]
    Precondition,
    /// The item changed while it was read.
    #[error("the item changed while it was read")]
    Changed,
    /// The bytes do not match the announced or recorded checksum.
    #[error("the bytes are damaged")]
    Damaged,
    /// The bytes can be read only from a cache, which may hold data that never reached the disk.
    #[error("its bytes cannot be read from the disk itself")]
    OnlyCached,
    /// The configuration names no such store, or it cannot be used as configured.
    #[error("the store is not configured")]
    NotConfigured,
    /// Anything else.
    #[error("unexpected answer")]
    Unexpected,
}

impl StoreErrorKind {
    /// Whether the same call may succeed when it is repeated within the attempt.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unexpected)
    }

    /// Whether the failure may pass by itself in a while.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unexpected | Self::Unreachable)
    }
}
