//! Whether a failure concerns one item or the whole store. That is tested, never guessed.
//!
//! "Permission denied", "read-only", "input/output error" and "stale file handle" may concern one file, its directory
//! or everything. So after such an error Mill tries an operation that works in every usable store: for a write, it
//! creates and removes a file where writes are prepared; for a read, it opens and lists the root and the space. Only if
//! that fails too, the store is unavailable. Otherwise the item, or the space, is refused by name, and the others go
//! on.
//!
//! Nothing is remembered: each test happens after the failure, so that a store that breaks during the work is detected
//! at once. A refused item costs two or three more calls.
//!
//! A full disk or quota is tested alike: where a small file still fits, the item is too large for the free space, and
//! is refused by name.

use std::sync::Arc;
use std::time::Duration;

use mill_ports::{RefusalReason, StoreErrorKind};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::committer::{Change, ChangeResult};
use super::dirents::Dirents;
use super::error::{AWAY, FileOperation, FolderError, TRANSIENT, describe_errno, is_disk_full, room_advice};
use super::item_path::{ItemPath, split};
use super::root::RootDir;
use super::temp_files::{LEAST_BYTES, StagingDir};
use super::{FolderInner, FolderStore};

/// The holders of the staging directory while no file is prepared: the committer and the caller.
const STAGING_ALONE: usize = 2;

/// The pauses before a call with a transient error is retried. An error that lasts longer is reported.
const WAITS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];

/// Retries a call of the operating system for a moment after a transient error.
pub(super) fn retry_transient<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    retry_while(call, |errno| TRANSIENT.contains(errno))
}

/// The same for a call of several steps.
pub(super) fn retry_transient_call<T>(call: impl FnMut() -> Result<T, FolderError>) -> Result<T, FolderError> {
    retry_while(call, |error| {
        matches!(error.kind, StoreErrorKind::Throttled { .. })
            || error.ambiguous_errno.is_some_and(|errno| TRANSIENT.contains(&errno))
    })
}

fn retry_while<T, E>(mut call: impl FnMut() -> Result<T, E>, is_passing: impl Fn(&E) -> bool) -> Result<T, E> {
    for wait in WAITS {
        match call() {
            Err(error) if is_passing(&error) => std::thread::sleep(wait),
            answer => return answer,
        }
    }
    call()
}

impl FolderStore {
    /// Makes a change and waits until it is durable. Resolves an ambiguous error.
    pub(super) async fn commit(&self, change: Change) -> Result<ChangeResult, FolderError> {
        let item_path = change.item_path().cloned();
        let error = match self.0.committer.commit(change).await {
            Err(error) if error.ambiguous_errno.is_some() => error,
            other => return other,
        };
        let folder = Arc::clone(&self.0);
        Err(self
            .0
            .blocking_pool
            .run(move || Ok(folder.scope_write_error(item_path.as_ref(), 0, error)))
            .await
            .unwrap_or_else(|lost| lost))
    }
}

impl FolderInner {
    /// Resolves the error of a write: of the item at `item_path`, or of a file of so many `bytes` that is still being
    /// prepared.
    pub(super) fn scope_write_error(
        &self,
        item_path: Option<&ItemPath>,
        bytes: u64,
        error: FolderError,
    ) -> FolderError {
        let Some(errno) = error.ambiguous_errno else { return error };
        let staging = match self.committer.staging() {
            Ok(staging) => staging,
            Err(all) => return store_failure(error, all),
        };
        if is_disk_full(errno) {
            return disk_full_failure(&staging, bytes, error);
        }
        if let Err(errno) = staging.probe_write() {
            return store_failure(error, FolderError::of(FileOperation::Reach, errno));
        }
        let names = item_path.map_or("", ItemPath::within).split('/').filter(|name| !name.is_empty());
        if let Some(errno) = names.into_iter().find_map(|name| staging.probe_name(name).err()) {
            return refused(error, RefusalReason::UnrepresentableId(no_such_name(errno)));
        }
        match errno {
            // A file or directory went away just now: the next attempt will show.
            Errno::NOENT | Errno::AGAIN => error,
            Errno::BUSY => busy(item_path.zip(self.root.dir().ok()), error),
            // It passes, or becomes a dead letter after some attempts.
            _ if TRANSIENT.contains(&errno) => {
                FolderError { kind: StoreErrorKind::Unexpected, ambiguous_errno: None, ..error }
            }
            _ => {
                let found = item_path.zip(self.root.dir().ok()).filter(|_| errno == Errno::PERM);
                let why = found.and_then(|(item_path, root)| immutable(&root, item_path));
                refused(error, RefusalReason::Unwritable(why.unwrap_or_else(|| describe_errno(errno).to_string())))
            }
        }
    }
}

/// The error of an item that is in use, or of a directory on its path: by a mount, or by an unknown program. That may
/// pass, or becomes a dead letter after some attempts.
fn busy(at: Option<(&ItemPath, Arc<RootDir>)>, error: FolderError) -> FolderError {
    if let Some(at) = at.and_then(|(item_path, root)| mounted(&root, item_path)) {
        return refused(error, RefusalReason::UnrepresentableId(format!("something is mounted at `{at}`")));
    }
    let source = format!("{}; another program or its file server holds it", std::io::Error::from(Errno::BUSY));
    FolderError { kind: StoreErrorKind::Unexpected, source: Some(source.into()), ambiguous_errno: None, ..error }
}

/// The error of an item of so many bytes that did not fit. Its file is already removed.
fn disk_full_failure(staging: &Arc<StagingDir>, bytes: u64, error: FolderError) -> FolderError {
    let needed = bytes.max(LEAST_BYTES);
    // Some file systems free the space of a removed file only with a flush.
    let probe_capacity =
        |bytes| staging.probe_capacity(bytes).or_else(|_| staging.flush().and_then(|()| staging.probe_capacity(bytes)));
    let Err(no_room) = (if needed > LEAST_BYTES { staging.probe_capacity(needed) } else { probe_capacity(needed) })
    else {
        // There is space again, or only not at the item's path: the next attempts will show.
        return FolderError { kind: StoreErrorKind::Unexpected, ambiguous_errno: None, ..error };
    };
    if needed > LEAST_BYTES && probe_capacity(LEAST_BYTES).is_ok() {
        let why = format!("there is no room for its {bytes} bytes, while smaller items fit; {}", room_advice(no_room));
        return refused(error, RefusalReason::Unwritable(why));
    }
    // Another file in preparation may be the one that is too large, and may soon be removed. The last one is tested
    // alone.
    if Arc::strong_count(staging) > STAGING_ALONE {
        return FolderError { kind: StoreErrorKind::Throttled { retry_after: None }, ambiguous_errno: None, ..error };
    }
    store_failure(error, FolderError::unavailable(describe_errno(no_room)))
}

/// Resolves the error of a read, of the item at `item_path` or of anything in `space`.
pub(super) fn scope_read_error(
    root: &RootDir,
    space: &str,
    item_path: Option<&ItemPath>,
    error: FolderError,
) -> FolderError {
    let errno = match error.ambiguous_errno {
        Some(errno) => errno,
        None if concerns_more(&error.kind) => return vanished_failure(root, space, error),
        None => return error,
    };
    for path in ["", space] {
        match answers(root, path) {
            Ok(()) => {}
            // The space is gone meanwhile: the next call will report it.
            Err(Errno::NOENT) => return error,
            Err(errno) if path.is_empty() => return store_failure(error, FolderError::of(FileOperation::Reach, errno)),
            Err(errno) => return space_failure(error, errno),
        }
    }
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::IO => refused(error, RefusalReason::Unreadable),
        _ if AWAY.contains(&errno) || TRANSIENT.contains(&errno) => refused(error, RefusalReason::Unreadable),
        _ if item_path.is_some_and(|item_path| is_no_name(root, item_path, errno)) => {
            refused(error, RefusalReason::UnrepresentableId(no_such_name(errno)))
        }
        _ => error,
    }
}

/// Resolves the error of a space that could not be read or listed: if the root can be read, only that space is refused.
pub(super) fn scope_listing_error(root: &RootDir, space: &str, error: FolderError) -> FolderError {
    let fails = concerns_more(&error.kind) || error.ambiguous_errno == Some(Errno::IO);
    if fails && !space.is_empty() && answers(root, "").is_ok() {
        refused(error, RefusalReason::Unreadable)
    } else {
        error
    }
}

/// Whether an error seems to concern more than one item.
fn concerns_more(kind: &StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Throttled { .. })
}

/// The error of a directory on an item's path that is away. If only the item's space is away, only that is refused.
fn vanished_failure(root: &RootDir, space: &str, error: FolderError) -> FolderError {
    // A directory that may be listed may still not be searched.
    match (answers(root, ""), answers(root, space).and_then(|()| lets_through(root, space))) {
        (Ok(()), Err(errno)) if errno != Errno::NOENT => space_failure(error, errno),
        _ => error,
    }
}

/// The error of a whole space, met by one item.
fn space_failure(error: FolderError, errno: Errno) -> FolderError {
    let of_item = error.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let space_failure = describe_errno(errno).to_string();
    let source =
        if space_failure == of_item { of_item } else { format!("{of_item}; and of the space itself: {space_failure}") };
    refused(FolderError { source: Some(source.into()), ..error }, RefusalReason::Unreadable)
}

/// Opens a directory and reads its first names.
fn answers(root: &RootDir, path: &str) -> Result<(), Errno> {
    match root.directory(path) {
        Ok(directory) => Dirents::with_buffer(1024).read(directory, |_, _| false),
        // A directory that may not be listed may still be searched.
        Err(Errno::ACCESS) => lets_through(root, path),
        Err(errno) => Err(errno),
    }
}

fn lets_through(root: &RootDir, path: &str) -> Result<(), Errno> {
    rustix::fs::statat(root.waypoint(path)?, ".", AtFlags::empty()).map(drop)
}

/// Whether a directory on an item's path returns `errno` for the next name, but `ENOENT` for a plain name.
fn is_no_name(root: &RootDir, item_path: &ItemPath, errno: Errno) -> bool {
    let mut at = item_path.space().len();
    loop {
        let rest = item_path.path()[at..].trim_start_matches('/');
        let end = item_path.path().len() - rest.len() + rest.find('/').unwrap_or(rest.len());
        let (above, name) = split(&item_path.path()[..end]);
        let Ok(directory) = root.waypoint(above) else { return false };
        let look = |name: &str| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map(drop);
        match look(name) {
            Ok(()) if end < item_path.path().len() => at = end,
            Ok(()) => return false,
            Err(said) => {
                let plain = format!("{:016x}", rand::random::<u64>());
                return said == errno && look(&plain) == Err(Errno::NOENT);
            }
        }
    }
}

fn no_such_name(errno: Errno) -> String {
    format!("the file system takes no such name: {errno}")
}

/// The error of the whole store, met by one item.
fn store_failure(error: FolderError, all: FolderError) -> FolderError {
    let of_item = error.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let said = all.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let source = if said == of_item { of_item } else { format!("{of_item}; and of the root itself: {said}") };
    let kind = match all.kind {
        kind @ StoreErrorKind::Throttled { .. } => kind,
        _ => StoreErrorKind::Unavailable,
    };
    FolderError { kind, source: Some(source.into()), ambiguous_errno: None, ..error }
}

fn refused(error: FolderError, refusal: RefusalReason) -> FolderError {
    FolderError { kind: StoreErrorKind::Refused(refusal), ambiguous_errno: None, ..error }
}

/// Which file or directory on an item's path is immutable, if any, the item first.
fn immutable(root: &RootDir, item_path: &ItemPath) -> Option<String> {
    on_the_way(root, item_path, |shown, attributes| {
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Some(format!("`{shown}` is immutable (`chattr -i` lets it be changed)"));
        }
        let only_grows = attributes.contains(StatxAttributes::APPEND);
        only_grows.then(|| format!("`{shown}` may only be appended to (`chattr -a` lets it be changed)"))
    })
}

/// Which mount point is on an item's path, if any, the item first.
fn mounted(root: &RootDir, item_path: &ItemPath) -> Option<String> {
    on_the_way(root, item_path, |shown, attributes| {
        attributes.contains(StatxAttributes::MOUNT_ROOT).then(|| shown.to_owned())
    })
}

/// The first result of `find` for an item and the directories above it, from the name and attributes of each.
fn on_the_way<T>(root: &RootDir, item_path: &ItemPath, find: impl Fn(&str, StatxAttributes) -> Option<T>) -> Option<T> {
    let mut path = item_path.path();
    loop {
        let seen = root
            .waypoint(split(path).0)
            .and_then(|above| rustix::fs::statx(above, split(path).1, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE));
        let shown = mill_model::ids::escape_for_display(path[item_path.space().len()..].trim_start_matches('/'));
        if let Some(found) = seen.ok().and_then(|seen| find(&shown, seen.stx_attributes)) {
            return Some(found);
        }
        path = split(path).0;
        if path.len() <= item_path.space().len() {
            return None;
        }
    }
}
