//! Places watches on a directory and on all beneath it.

use mill_model::Monotonic;
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::debounce::Touch;
use super::hint::RescanReason;
use super::kernel::WatchFailure;
use super::tree::{Findings, Location, Map, WatchedDir, WatchedTree};
use crate::folder::dirents::Dirents;
use crate::folder::mount_boundary::DirectoryFacts;
use crate::folder::root::RootDir;

const DIRENTS_BYTES: usize = 64 * 1024;

/// How often a directory is watched anew that another one replaces meanwhile. Its parent reports each.
const TRIES: u32 = 3;

/// A walk.
pub(super) struct Walk<'a> {
    pub(super) tree: &'a mut WatchedTree,
    pub(super) root: &'a RootDir,
    pub(super) map: &'a Map,
    pub(super) findings: &'a mut Findings,
    pub(super) now: Monotonic,
    /// Whether what is found counts as changed.
    pub(super) list: bool,
}

/// What was found in a directory.
#[derive(Default)]
struct Names {
    directories: Vec<String>,
    others: Vec<String>,
    any: bool,
}

impl Walk<'_> {
    /// Watches the directory at `path`, and all beneath it.
    pub(super) fn run(mut self, path: &str) {
        let mut ahead = vec![path.to_owned()];
        // Once the limit is reached, the others are left without a try.
        let mut full = None;
        while let Some(path) = ahead.pop() {
            if self.map.locate(&path) == Location::Outside {
                continue;
            }
            if let Some(reason) = &full {
                self.tree.left.insert(path, RescanReason::clone(reason));
                continue;
            }
            match self.stand(&path) {
                Ok(Some(names)) => self.found(&path, &names, &mut ahead),
                Ok(None) => {}
                Err(reason) => {
                    let limit = reason == RescanReason::WatchLimit;
                    full = Some(reason.clone()).filter(|_| limit);
                    // A limit leaves many directories of a space.
                    let scope = self.map.scope(if limit { space_of(self.map, &path) } else { path.as_str() });
                    if self.tree.leave(path, reason.clone(), scope.as_ref())
                        && let Some(scope) = scope
                    {
                        self.findings.rescan(scope, reason);
                    }
                }
            }
        }
    }

    /// Watches one directory, then reads it. `None` if there is none.
    fn stand(&mut self, path: &str) -> Result<Option<Names>, RescanReason> {
        let Some((_, mut id)) = opened(self.root, path)? else { return Ok(None) };
        for _ in 0..TRIES {
            self.claim(path, id)?;
            match self.tree.kernel.watch(path) {
                Ok(()) => {}
                Err(WatchFailure::Absent) => return Ok(None),
                Err(WatchFailure::Left(reason)) => return Err(reason),
            }
            // The kernel was given a path: it may have led elsewhere for a moment.
            let Some((directory, found)) = opened(self.root, path)? else {
                self.tree.kernel.unwatch(path);
                return Ok(None);
            };
            if found == id {
                let names = self.read(&directory)?;
                self.tree.insert(path.to_owned(), WatchedDir { id, empty: !names.any });
                return Ok(Some(names));
            }
            self.tree.kernel.unwatch(path);
            id = found;
        }
        Err(RescanReason::Unwatched("it is replaced all the time".to_owned()))
    }

    /// Makes sure that a directory is watched at one place only: the kernel would report it by one of its names.
    fn claim(&mut self, path: &str, id: (u64, u64)) -> Result<(), RescanReason> {
        let Some(other) = self.tree.path_of(id).filter(|other| *other != path).map(str::to_owned) else {
            return Ok(());
        };
        if opened(self.root, &other)?.is_some_and(|(_, found)| found == id) {
            return Err(RescanReason::ShownTwice);
        }
        self.tree.forget_moved(&other);
        Ok(())
    }

    fn read(&self, directory: &OwnedFd) -> Result<Names, RescanReason> {
        let mut names = Names::default();
        let read = Dirents::with_buffer(DIRENTS_BYTES).read(directory, |name, kind| {
            names.any = true;
            let Ok(name) = std::str::from_utf8(name) else { return true };
            match kind {
                FileType::Directory => names.directories.push(name.to_owned()),
                FileType::RegularFile | FileType::Unknown if self.list => names.others.push(name.to_owned()),
                // Links and special files are no items.
                _ => {}
            }
            true
        });
        read.map(|()| names).map_err(unwatched)
    }

    fn found(&mut self, path: &str, names: &Names, ahead: &mut Vec<String>) {
        let within = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        ahead.extend(names.directories.iter().map(within));
        if !self.list {
            return;
        }
        for name in &names.others {
            self.findings.touch(self.map, &within(name), Touch::default(), self.now);
        }
        if !names.any {
            self.findings.touch(self.map, &format!("{path}/"), Touch::default(), self.now);
        }
    }
}

/// A directory, and its device and inode.
pub(super) type OpenedDir = (OwnedFd, (u64, u64));

/// The directory at a path, opened without following a link. `None` if there is none.
pub(super) fn opened(root: &RootDir, path: &str) -> Result<Option<OpenedDir>, RescanReason> {
    let found = root.directory(path).and_then(|directory| Ok((DirectoryFacts::of(&directory)?, directory)));
    match found {
        Ok((facts, directory)) => Ok(Some((directory, (facts.device, facts.inode)))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(unwatched(errno)),
    }
}

fn unwatched(errno: Errno) -> RescanReason {
    RescanReason::Unwatched(errno.to_string())
}

/// The path of the space that a path lies in.
fn space_of<'a>(map: &Map, path: &'a str) -> &'a str {
    match map.layout {
        crate::folder::Layout::Single(_) => "",
        crate::folder::Layout::Spaces => path.split('/').next().unwrap_or(path),
    }
}
