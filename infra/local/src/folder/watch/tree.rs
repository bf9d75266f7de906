//! Which directories are watched, and what was found so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mill_model::{ContentId, ItemAddress, Monotonic, SpaceId};

use super::WantedSpaces;
use super::debounce::{Debounce, Touch};
use super::hint::{FolderHint, Rescan, RescanReason, RescanScope};
use super::kernel::KernelWatches;
use crate::folder::item_path::{IN_PROGRESS, Layout};

/// What a path below the root stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location<'a> {
    /// The root above the spaces.
    Root,
    /// The directory of a space.
    Space(SpaceId),
    /// Something within a space.
    Within(SpaceId, &'a str),
    /// Nothing of interest.
    Outside,
}

/// How paths, spaces and items belong together.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) layout: Layout,
    pub(super) wanted: Arc<dyn WantedSpaces>,
}

impl Map {
    pub(super) fn locate<'a>(&self, path: &'a str) -> Location<'a> {
        let (space, within) = match &self.layout {
            Layout::Single(space) => (Ok(space.clone()), Some(path).filter(|path| !path.is_empty())),
            Layout::Spaces if path.is_empty() => return Location::Root,
            Layout::Spaces => {
                let (space, within) = path.split_once('/').map_or((path, None), |(space, rest)| (space, Some(rest)));
                (SpaceId::new(space), within)
            }
        };
        let Ok(space) = space else { return Location::Outside };
        if space.as_str() == IN_PROGRESS || !self.wanted.wants(&space) {
            return Location::Outside;
        }
        match within {
            None => Location::Space(space),
            // A space is no item of itself, even while it is empty.
            Some("" | "/") => Location::Outside,
            // Where Mill prepares its writes.
            Some(within) if within.split('/').next() == Some(IN_PROGRESS) => Location::Outside,
            Some(within) => Location::Within(space, within),
        }
    }

    /// The item at a path within a space, if that can be one.
    pub(super) fn item(&self, path: &str) -> Option<ItemAddress> {
        let Location::Within(space, within) = self.locate(path) else { return None };
        Some(ItemAddress { space, id: ContentId::new(within).ok()? })
    }

    /// The part of the store beneath a path.
    pub(super) fn scope(&self, path: &str) -> Option<RescanScope> {
        match self.locate(path) {
            Location::Root => Some(RescanScope::Whole),
            Location::Space(space) => Some(RescanScope::Space(space)),
            Location::Within(space, within) => Some(RescanScope::Beneath { space, prefix: format!("{within}/") }),
            Location::Outside => None,
        }
    }
}

/// What was found, until it is due.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) pending: Debounce,
    spaces: BTreeMap<SpaceId, bool>,
    rescans: BTreeSet<(RescanScope, RescanReason)>,
    /// The spaces of which so much changed that nothing more is noted until that has been said.
    flooded: BTreeSet<SpaceId>,
}

impl Findings {
    pub(super) fn new(pending: Debounce) -> Self {
        Self { pending, spaces: BTreeMap::new(), rescans: BTreeSet::new(), flooded: BTreeSet::new() }
    }

    /// Notes that something changed at a path.
    pub(super) fn touch(&mut self, map: &Map, path: &str, touch: Touch, now: Monotonic) {
        let Location::Within(space, _) = map.locate(path) else { return };
        if self.flooded.contains(&space) || self.pending.touch(path, touch, now) {
            return;
        }
        let directory = map.layout.directory(&space).unwrap_or_default();
        self.pending.forget(|path| is_in(path, directory));
        self.rescan(RescanScope::Space(space.clone()), RescanReason::TooMany);
        self.flooded.insert(space);
    }

    /// Notes that a space appeared or went.
    pub(super) fn space(&mut self, space: SpaceId, appeared: bool) {
        self.spaces.insert(space, appeared);
    }

    /// Notes that a part must be listed. Of many parts, the whole.
    pub(super) fn rescan(&mut self, scope: RescanScope, reason: RescanReason) {
        const RESCANS_MAX: usize = 1_000;
        let scope = if self.rescans.len() < RESCANS_MAX { scope } else { RescanScope::Whole };
        self.rescans.insert((scope, reason));
    }

    /// Forgets all changes: they are not those of the store.
    pub(super) fn clear(&mut self) {
        self.pending.forget(|_| true);
        self.spaces.clear();
        self.flooded.clear();
    }

    /// Takes what needs no look.
    pub(super) fn take_notices(&mut self) -> Vec<FolderHint> {
        self.flooded.clear();
        let spaces = std::mem::take(&mut self.spaces).into_iter().map(|(space, appeared)| {
            if appeared { FolderHint::SpaceAppeared(space) } else { FolderHint::SpaceGone(space) }
        });
        let rescans = std::mem::take(&mut self.rescans);
        spaces.chain(rescans.into_iter().map(|(scope, reason)| FolderHint::Rescan(Rescan { scope, reason }))).collect()
    }

    /// Whether there is something that needs no look.
    pub(super) fn has_notices(&self) -> bool {
        !self.spaces.is_empty() || !self.rescans.is_empty()
    }
}

/// Whether a path is a directory, or lies in it.
pub(super) fn is_in(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A watched directory.
#[derive(Debug)]
pub(super) struct WatchedDir {
    /// Device and inode.
    pub(super) id: (u64, u64),
    /// Whether it held nothing when it was last looked at: then it is an item.
    pub(super) empty: bool,
}

/// The watched directories of one root, by their paths relative to it.
#[derive(Debug)]
pub(super) struct WatchedTree {
    pub(super) kernel: KernelWatches,
    dirs: BTreeMap<String, WatchedDir>,
    by_id: BTreeMap<(u64, u64), String>,
    /// The directories that are left to the loop, with all beneath them.
    pub(super) left: BTreeMap<String, RescanReason>,
    /// The spaces of which it was said that a limit leaves a part of them: said once, until something is watched again.
    limited: BTreeSet<RescanScope>,
    /// Directories that were met at another place before their moving away was reported.
    moved: BTreeSet<String>,
}

impl WatchedTree {
    pub(super) fn new(kernel: KernelWatches) -> Self {
        Self {
            kernel,
            dirs: BTreeMap::new(),
            by_id: BTreeMap::new(),
            left: BTreeMap::new(),
            limited: BTreeSet::new(),
            moved: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.dirs.len()
    }

    pub(super) fn get(&self, path: &str) -> Option<&WatchedDir> {
        self.dirs.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &str) -> Option<&mut WatchedDir> {
        self.dirs.get_mut(path)
    }

    /// Where the directory of that id is watched.
    pub(super) fn path_of(&self, id: (u64, u64)) -> Option<&str> {
        self.by_id.get(&id).map(String::as_str)
    }

    pub(super) fn insert(&mut self, path: String, dir: WatchedDir) {
        self.by_id.insert(dir.id, path.clone());
        self.left.remove(&path);
        self.dirs.insert(path, dir);
    }

    /// Leaves a directory to the loop. Returns whether that is to be said.
    pub(super) fn leave(&mut self, path: String, reason: RescanReason, scope: Option<&RescanScope>) -> bool {
        let limit = reason == RescanReason::WatchLimit;
        self.left.insert(path, reason);
        scope.is_some_and(|scope| !limit || self.limited.insert(scope.clone()))
    }

    /// What a limit leaves is to be said again.
    pub(super) fn limit_has_risen(&mut self) {
        self.limited.clear();
    }

    /// The watched directories directly in the root.
    pub(super) fn top(&self) -> Vec<String> {
        self.dirs.keys().filter(|path| !path.is_empty() && !path.contains('/')).cloned().collect()
    }

    /// Ends the watches of a directory and of all beneath it. Returns whether any beneath it was watched or left.
    pub(super) fn forget(&mut self, path: &str) -> bool {
        let gone: Vec<String> = Self::at_and_in(&self.dirs, path);
        for path in &gone {
            self.kernel.unwatch(path);
            if let Some(dir) = self.dirs.remove(path)
                && self.by_id.get(&dir.id) == Some(path)
            {
                self.by_id.remove(&dir.id);
            }
        }
        let left = Self::at_and_in(&self.left, path);
        for path in &left {
            self.left.remove(path);
        }
        gone.iter().chain(&left).any(|gone| gone != path)
    }

    /// The keys of a directory and of all beneath it.
    fn at_and_in<T>(all: &BTreeMap<String, T>, path: &str) -> Vec<String> {
        if path.is_empty() {
            return all.keys().cloned().collect();
        }
        let beneath = format!("{path}/");
        let inside = all.range(beneath.clone()..).take_while(|(key, _)| key.starts_with(&beneath));
        let own = all.get_key_value(path).into_iter();
        own.chain(inside).map(|(key, _)| key.clone()).collect()
    }

    /// Forgets a directory that was met elsewhere.
    pub(super) fn forget_moved(&mut self, path: &str) {
        self.forget(path);
        self.moved.insert(path.to_owned());
    }

    /// Whether the directory was met elsewhere before. Asked once.
    pub(super) fn was_moved(&mut self, path: &str) -> bool {
        self.moved.remove(path)
    }
}
