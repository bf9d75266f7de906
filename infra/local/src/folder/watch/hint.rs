//! What a watch says.

use std::fmt;

use mill_model::ids::escape_for_display;
use mill_model::{ItemAddress, SpaceId};

/// A reason to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderHint {
    /// The item was made or changed: its content, its properties, or its times.
    Changed(ItemAddress),
    /// The item was deleted or moved away.
    Gone(ItemAddress),
    /// There is a new space. Its items are hinted at too.
    SpaceAppeared(SpaceId),
    /// The space's directory was removed or moved away.
    SpaceGone(SpaceId),
    /// Something may have changed unseen.
    Rescan(Rescan),
}

/// A part of the store in which something may have changed unseen, so that only a listing finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescan {
    /// The part.
    pub scope: RescanScope,
    /// Why.
    pub reason: RescanReason,
}

/// A part of a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RescanScope {
    /// All of it.
    Whole,
    /// One space.
    Space(SpaceId),
    /// What is beneath one directory of a space.
    Beneath {
        /// The space.
        space: SpaceId,
        /// The directory in it, with `/` at its end.
        prefix: String,
    },
}

impl fmt::Display for RescanScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("all spaces"),
            Self::Space(space) => write!(f, "space `{space}`"),
            Self::Beneath { space, prefix } => write!(f, "`{space}/{}`", escape_for_display(prefix)),
        }
    }
}

/// Why a part must be listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RescanReason {
    /// The kernel's queue overflowed, and it dropped reports.
    Overflow,
    /// More changed at once than is kept.
    TooMany,
    /// Reports could not be read.
    Unread(String),
    /// A directory was moved away, and with it items that nobody named.
    MovedAway,
    /// No more directories can be watched.
    WatchLimit,
    /// No more folders can be watched.
    InstanceLimit,
    /// A directory cannot be watched.
    Unwatched(String),
    /// A directory is shown at two places by a mount, and watched at the other.
    ShownTwice,
    /// Something was mounted or unmounted there.
    Mounts,
    /// The root is missing or another one, in these words. There are no hints until it is back.
    RootAway(String),
    /// It is watched again.
    WatchedAgain,
    /// A file system of this type shows changes that other hosts make, and reports none of them.
    OtherHosts(String),
}

impl RescanReason {
    /// Whether there are no hints of that part from now on: the loop alone finds its changes.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::WatchLimit
            | Self::InstanceLimit
            | Self::Unwatched(_)
            | Self::ShownTwice
            | Self::RootAway(_)
            | Self::OtherHosts(_) => true,
            Self::Overflow | Self::TooMany | Self::Unread(_) | Self::MovedAway | Self::Mounts | Self::WatchedAgain => {
                false
            }
        }
    }
}

impl fmt::Display for RescanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow => f.write_str(
                "more changed at once than the system's queue holds (`sysctl fs.inotify.max_queued_events` makes it longer)",
            ),
            Self::TooMany => f.write_str("more changed at once than is remembered"),
            Self::Unread(words) => write!(f, "the system's reports cannot be read: {words}"),
            Self::MovedAway => f.write_str("a directory was moved away"),
            Self::WatchLimit => f.write_str(
                "the system lets this user watch no more directories; as root: sysctl fs.inotify.max_user_watches=1048576",
            ),
            Self::InstanceLimit => f.write_str(
                "the system lets this user watch no more folders; as root: sysctl fs.inotify.max_user_instances=1024 \
                 (or this process has too many files open: ulimit -n)",
            ),
            Self::Unwatched(words) => write!(f, "a directory cannot be watched: {words}"),
            Self::ShownTwice => f.write_str("a mount shows a directory twice, and it is watched at the other place"),
            Self::Mounts => f.write_str("something was mounted or unmounted there"),
            Self::RootAway(words) => write!(f, "the folder is not there: {words}"),
            Self::WatchedAgain => f.write_str("it is watched again"),
            Self::OtherHosts(kind) => {
                write!(f, "it is on a file system of type {kind}, which reports only what this host changes")
            }
        }
    }
}

/// Hints that are due together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HintBatch {
    /// The hints, each once. May be empty.
    pub hints: Vec<FolderHint>,
    /// How many directories are watched now.
    pub directories: usize,
    /// How many directories are left to the loop, with all beneath them.
    pub left: usize,
}
