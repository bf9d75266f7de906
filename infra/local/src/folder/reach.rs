//! Whom a failure concerns: one item, or the store as a whole. That is found out, never guessed.
//!
//! "Permission denied", "read-only", "input/output error" and "stale file handle" may be said of one file, of its directory or
//! of everything. So
//! whoever is told one of them tries what works in every store that can be used: for a write, a file is made and removed
//! where writes are prepared; for a read, the root and the space are opened and listed. Only where that fails too is the
//! store unavailable; else the item, or the space, is refused by name, and the others go on.
//!
//! Nothing is remembered: each answer is from after the failure, so that a store that breaks in the middle of its work is
//! found at once. It costs an item that is refused two or three calls more.
//!
//! No room on the disk or in a quota is told apart alike: where a small file still fits, the item is too large for what is left,
//! and is refused by name.

use std::sync::Arc;
use std::time::Duration;

use mill_ports::{RefusalReason, StoreErrorKind};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::committer::{Change, Changed};
use super::dirents::Dirents;
use super::faults::{AWAY, During, Fault, PASSING, is_of_room, said};
use super::place::{Place, split};
use super::root::RootDir;
use super::staging::{LEAST_BYTES, Staging};
use super::{Folder, FolderStore};

/// Who holds where writes are prepared, while nothing is: the committer, and who asks.
const STAGING_ALONE: usize = 2;

/// How long it is waited before a read is tried again that found too much under way. What lasts longer than that is named.
const WAITS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];

/// Makes a call of the operating system again for a moment while there is too much under way.
pub(super) fn patiently<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    waiting(call, |errno| PASSING.contains(errno))
}

/// The same with a call of several steps.
pub(super) fn patiently_done<T>(call: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    waiting(call, |fault| {
        matches!(fault.kind, StoreErrorKind::Throttled { .. })
            || fault.doubt.is_some_and(|errno| PASSING.contains(&errno))
    })
}

fn waiting<T, E>(mut call: impl FnMut() -> Result<T, E>, is_passing: impl Fn(&E) -> bool) -> Result<T, E> {
    for wait in WAITS {
        match call() {
            Err(error) if is_passing(&error) => std::thread::sleep(wait),
            answer => return answer,
        }
    }
    call()
}

impl FolderStore {
    /// Makes a change, durably before it answers.
    pub(super) async fn commit(&self, change: Change) -> Result<Changed, Fault> {
        let place = change.place().cloned();
        let fault = match self.0.committer.commit(change).await {
            Err(fault) if fault.doubt.is_some() => fault,
            other => return other,
        };
        let folder = Arc::clone(&self.0);
        Err(self.0.hops.run(move || Ok(folder.of_write(place.as_ref(), 0, fault))).await.unwrap_or_else(|lost| lost))
    }
}

impl Folder {
    /// What a write's failure comes to: of the item at `place`, or of one of so many `bytes` whose name is not yet known to
    /// the file system.
    pub(super) fn of_write(&self, place: Option<&Place>, bytes: u64, fault: Fault) -> Fault {
        let Some(errno) = fault.doubt else { return fault };
        let staging = match self.committer.staging() {
            Ok(staging) => staging,
            Err(all) => return of_all(fault, all),
        };
        if is_of_room(errno) {
            return of_room(&staging, bytes, fault);
        }
        if let Err(errno) = staging.try_out() {
            return of_all(fault, Fault::of(During::Reach, errno));
        }
        let names = place.map_or("", Place::within).split('/').filter(|name| !name.is_empty());
        if let Some(errno) = names.into_iter().find_map(|name| staging.takes(name).err()) {
            return refused(fault, RefusalReason::UnrepresentableId(no_such_name(errno)));
        }
        match errno {
            // Something went away in this very moment: the next try tells.
            Errno::NOENT | Errno::AGAIN => fault,
            Errno::BUSY => busy(place.zip(self.root.dir().ok()), fault),
            // It passes, or it is given up by name after some tries.
            _ if PASSING.contains(&errno) => Fault { kind: StoreErrorKind::Unexpected, doubt: None, ..fault },
            _ => {
                let found = place.zip(self.root.dir().ok()).filter(|_| errno == Errno::PERM);
                let why = found.and_then(|(place, root)| immutable(&root, place));
                refused(fault, RefusalReason::Unwritable(why.unwrap_or_else(|| said(errno).to_string())))
            }
        }
    }
}

/// What it comes to that an item, or a directory on its way, is in use: by what is mounted there, or by whom nobody knows. That
/// may pass, or it is given up by name after some tries.
fn busy(at: Option<(&Place, Arc<RootDir>)>, fault: Fault) -> Fault {
    if let Some(at) = at.and_then(|(place, root)| mounted(&root, place)) {
        return refused(fault, RefusalReason::UnrepresentableId(format!("something is mounted at `{at}`")));
    }
    let source = format!("{}; another program or its file server holds it", std::io::Error::from(Errno::BUSY));
    Fault { kind: StoreErrorKind::Unexpected, source: Some(source.into()), doubt: None, ..fault }
}

/// What it comes to that there was no room for an item of so many bytes, all of which are removed again.
fn of_room(staging: &Arc<Staging>, bytes: u64, fault: Fault) -> Fault {
    let needed = bytes.max(LEAST_BYTES);
    // Of what was removed, the room comes back on some file systems only with a flush.
    let holds = |bytes| staging.holds(bytes).or_else(|_| staging.flush().and_then(|()| staging.holds(bytes)));
    let Err(no_room) = (if needed > LEAST_BYTES { staging.holds(needed) } else { holds(needed) }) else {
        // There is room again, or not where the item belongs: the next tries tell.
        return Fault { kind: StoreErrorKind::Unexpected, doubt: None, ..fault };
    };
    if needed > LEAST_BYTES && holds(LEAST_BYTES).is_ok() {
        let why = format!("there is no room for its {bytes} bytes, while smaller items fit: {}", said(no_room));
        return refused(fault, RefusalReason::Unwritable(why));
    }
    // What others prepare right now may be what is too large, and go again. The last of them finds out.
    if Arc::strong_count(staging) > STAGING_ALONE {
        return Fault { kind: StoreErrorKind::Throttled { retry_after: None }, doubt: None, ..fault };
    }
    of_all(fault, Fault::unavailable(said(no_room)))
}

/// What a read's failure comes to, of the item at `place` or of anything in `space`.
pub(super) fn of_read(root: &RootDir, space: &str, place: Option<&Place>, fault: Fault) -> Fault {
    let errno = match fault.doubt {
        Some(errno) => errno,
        None if concerns_more(&fault.kind) => return of_what_went(root, space, fault),
        None => return fault,
    };
    for path in ["", space] {
        match answers(root, path) {
            Ok(()) => {}
            // The space went meanwhile: the next call tells.
            Err(Errno::NOENT) => return fault,
            Err(errno) if path.is_empty() => return of_all(fault, Fault::of(During::Reach, errno)),
            Err(errno) => return of_space(fault, errno),
        }
    }
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::IO => refused(fault, RefusalReason::Unreadable),
        _ if AWAY.contains(&errno) || PASSING.contains(&errno) => refused(fault, RefusalReason::Unreadable),
        _ if place.is_some_and(|place| is_no_name(root, place, errno)) => {
            refused(fault, RefusalReason::UnrepresentableId(no_such_name(errno)))
        }
        _ => fault,
    }
}

/// What it comes to that a space could not be looked at or listed: where the root answers, that space alone is meant.
pub(super) fn of_listing(root: &RootDir, space: &str, fault: Fault) -> Fault {
    let fails = concerns_more(&fault.kind) || fault.doubt == Some(Errno::IO);
    if fails && !space.is_empty() && answers(root, "").is_ok() {
        refused(fault, RefusalReason::Unreadable)
    } else {
        fault
    }
}

/// Whether a failure seems to be one of more than an item.
fn concerns_more(kind: &StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Throttled { .. })
}

/// What it comes to that something on the way to an item is away: where only its space is, others can be had.
fn of_what_went(root: &RootDir, space: &str, fault: Fault) -> Fault {
    // Whoever may read its names need not be let through it.
    match (answers(root, ""), answers(root, space).and_then(|()| lets_through(root, space))) {
        (Ok(()), Err(errno)) if errno != Errno::NOENT => of_space(fault, errno),
        _ => fault,
    }
}

/// The failure of all of a space, as one item met it.
fn of_space(fault: Fault, errno: Errno) -> Fault {
    let of_item = fault.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let of_space = said(errno).to_string();
    let source = if of_space == of_item { of_item } else { format!("{of_item}; and of the space itself: {of_space}") };
    refused(Fault { source: Some(source.into()), ..fault }, RefusalReason::Unreadable)
}

/// Opens a directory and reads its first names.
fn answers(root: &RootDir, path: &str) -> Result<(), Errno> {
    match root.directory(path) {
        Ok(directory) => Dirents::with_buffer(1024).read(directory, |_, _| false),
        // Whoever may not list it may go through it.
        Err(Errno::ACCESS) => lets_through(root, path),
        Err(errno) => Err(errno),
    }
}

fn lets_through(root: &RootDir, path: &str) -> Result<(), Errno> {
    rustix::fs::statat(root.waypoint(path)?, ".", AtFlags::empty()).map(drop)
}

/// Whether a directory on the way to an item says `errno` of the next name, and of a plain one that there is none.
fn is_no_name(root: &RootDir, place: &Place, errno: Errno) -> bool {
    let mut at = place.space().len();
    loop {
        let rest = place.path()[at..].trim_start_matches('/');
        let end = place.path().len() - rest.len() + rest.find('/').unwrap_or(rest.len());
        let (above, name) = split(&place.path()[..end]);
        let Ok(directory) = root.waypoint(above) else { return false };
        let look = |name: &str| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map(drop);
        match look(name) {
            Ok(()) if end < place.path().len() => at = end,
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

/// The failure of all of a store, as one item met it.
fn of_all(fault: Fault, all: Fault) -> Fault {
    let of_item = fault.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let said = all.source.as_ref().map_or_else(String::new, |source| mill_ports::error_chain(&**source));
    let source = if said == of_item { of_item } else { format!("{of_item}; and of the root itself: {said}") };
    let kind = match all.kind {
        kind @ StoreErrorKind::Throttled { .. } => kind,
        _ => StoreErrorKind::Unavailable,
    };
    Fault { kind, source: Some(source.into()), doubt: None, ..fault }
}

fn refused(fault: Fault, refusal: RefusalReason) -> Fault {
    Fault { kind: StoreErrorKind::Refused(refusal), doubt: None, ..fault }
}

/// What on the way to an item was made immutable, if anything, the item first.
fn immutable(root: &RootDir, place: &Place) -> Option<String> {
    on_the_way(root, place, |shown, attributes| {
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Some(format!("`{shown}` is immutable (`chattr -i` lets it be changed)"));
        }
        let only_grows = attributes.contains(StatxAttributes::APPEND);
        only_grows.then(|| format!("`{shown}` may only be appended to (`chattr -a` lets it be changed)"))
    })
}

/// Where on the way to an item something is mounted, if anywhere, the item first.
fn mounted(root: &RootDir, place: &Place) -> Option<String> {
    on_the_way(root, place, |shown, attributes| {
        attributes.contains(StatxAttributes::MOUNT_ROOT).then(|| shown.to_owned())
    })
}

/// The first that is found of an item and the directories above it, by the name and the attributes of each.
fn on_the_way<T>(root: &RootDir, place: &Place, find: impl Fn(&str, StatxAttributes) -> Option<T>) -> Option<T> {
    let mut path = place.path();
    loop {
        let seen = root
            .waypoint(split(path).0)
            .and_then(|above| rustix::fs::statx(above, split(path).1, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE));
        let shown = mill_model::ids::escape_for_display(path[place.space().len()..].trim_start_matches('/'));
        if let Some(found) = seen.ok().and_then(|seen| find(&shown, seen.stx_attributes)) {
            return Some(found);
        }
        path = split(path).0;
        if path.len() <= place.space().len() {
            return None;
        }
    }
}
