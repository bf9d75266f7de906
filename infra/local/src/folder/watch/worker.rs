//! The thread of a watch.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mill_model::Monotonic;
use mill_ports::Clock;
use rustix::fs::FileType;
use tokio::sync::mpsc;

use super::debounce::{Debounce, Touch};
use super::hint::{FolderHint, HintBatch, RescanReason, RescanScope};
use super::inbox::{Inbox, Received, Report, Reported};
use super::kernel::KernelWatches;
use super::tree::{Findings, Location, Map, WatchedTree, is_in};
use super::walk::{self, Walk};
use super::{WatchLimits, WatchPace, WatchSettings, look};
use crate::folder::dirents::Dirents;
use crate::folder::item_path;
use crate::folder::mounts::{MountTable, MountWatch};
use crate::folder::root::{Root, RootDir};

/// How long after placing all watches they may be placed anew, after an overflow.
const REBUILD_EVERY: Duration = Duration::from_secs(2);

/// What runs on the thread.
#[derive(Debug)]
pub(super) struct Worker {
    root: Root,
    map: Map,
    clock: Arc<dyn Clock>,
    pace: WatchPace,
    limits: WatchLimits,
    inbox: Arc<Inbox>,
    batches: mpsc::Sender<HintBatch>,
    findings: Findings,
    /// The watches, while they stand.
    tree: Option<WatchedTree>,
    /// Why they do not stand, as it was said.
    away: Option<RescanReason>,
    /// Why reports were lost since all watches were placed.
    lost: Option<RescanReason>,
    /// When to place all watches, if that is to be done.
    place_at: Option<Monotonic>,
    /// When to try again what is left.
    retry_at: Monotonic,
    mounts: Option<MountWatch>,
    points: Vec<(u64, PathBuf)>,
    /// What was last told of the watch: how many directories are left.
    told: Option<usize>,
}

impl Worker {
    pub(super) fn new(
        settings: WatchSettings,
        root: Root,
        inbox: Arc<Inbox>,
        batches: mpsc::Sender<HintBatch>,
    ) -> Self {
        let WatchSettings { root: _, layout, wanted, clock, pace, limits } = settings;
        let now = clock.monotonic();
        Self {
            root,
            map: Map { layout, wanted },
            pace,
            limits,
            inbox,
            batches,
            findings: Findings::new(Debounce::new(pace, limits.pending_max)),
            tree: None,
            away: None,
            lost: None,
            place_at: Some(now),
            retry_at: now.plus(pace.retry_every),
            mounts: None,
            points: Vec::new(),
            told: None,
            clock,
        }
    }

    /// Works until the watch is dropped.
    pub(super) fn run(mut self) {
        let mut wait = Duration::ZERO;
        while let Some(received) = self.inbox.wait(wait) {
            if self.batches.is_closed() {
                return;
            }
            wait = self.round(received);
        }
    }

    /// Handles what was received, and sends what is due. Returns how long to wait for more.
    fn round(&mut self, received: Received) -> Duration {
        let now = self.clock.monotonic();
        let quiet = received.reports.is_empty();
        match self.root.dir() {
            Ok(root) => {
                self.handle(&root, received, now);
                self.send(&root, now);
            }
            Err(error) => self.lose(&error),
        }
        let due = self.findings.pending.next_due(now);
        if quiet && due.is_none() {
            self.root.close();
        }
        if self.batches.capacity() == 0 {
            return self.pace.look_every;
        }
        due.map_or(self.pace.look_every, |due| due.min(self.pace.look_every))
    }

    /// The root is not there, or is another one: nothing that is reported is of the store.
    fn lose(&mut self, error: &crate::folder::FolderError) {
        let words = error.source.as_ref().map_or_else(|| error.kind.to_string(), ToString::to_string);
        self.stand_away(RescanReason::RootAway(words));
        self.send_notices();
    }

    fn stand_away(&mut self, reason: RescanReason) {
        self.findings.clear();
        self.tree = None;
        self.inbox.begin_anew();
        if self.away.as_ref() != Some(&reason) {
            self.findings.rescan(RescanScope::Whole, reason.clone());
            self.away = Some(reason);
        }
        self.place_at = Some(self.clock.monotonic());
    }

    fn handle(&mut self, root: &RootDir, received: Received, now: Monotonic) {
        for reported in &received.reports {
            self.report(root, reported, now);
        }
        if let Some(reason) = received.lost {
            // Directories may have appeared unseen. It is said once they are watched, so that a listing misses nothing.
            self.lost.get_or_insert(reason);
            self.place_at.get_or_insert(now.plus(REBUILD_EVERY));
        }
        if self.place_at.is_some_and(|at| at <= now) {
            self.place_all(root, now);
        }
        self.check_mounts(root, now);
        if received.reconsider {
            self.reconsider(root, now);
        }
        if self.retry_at <= now {
            self.retry_left(root, now);
        }
    }

    /// Places all watches.
    fn place_all(&mut self, root: &RootDir, now: Monotonic) {
        self.place_at = None;
        // The old ones go first: there is a limit.
        let again = self.tree.take().is_some();
        let path = self.root.resolved();
        let table = MountTable::now();
        if let (None, Ok(table)) = (&self.mounts, &table) {
            self.mounts = MountWatch::open().ok();
            self.points = table.points_beneath(&path);
            if let Some(kind) = table.covering(&path).map(|mount| &mount.kind).filter(|kind| is_of_others(kind)) {
                self.findings.rescan(RescanScope::Whole, RescanReason::OtherHosts(kind.clone()));
            }
        }
        match KernelWatches::begin(&self.inbox, path, self.limits.directories_max) {
            Ok(kernel) => self.tree = Some(WatchedTree::new(kernel)),
            Err(reason) => {
                self.stand_away(reason);
                self.place_at = Some(now.plus(self.pace.retry_every));
                return;
            }
        }
        if self.away.take().is_some() && !again {
            self.findings.rescan(RescanScope::Whole, RescanReason::WatchedAgain);
        }
        self.walk(root, "", false, now);
        if let Some(reason) = self.lost.take() {
            self.findings.rescan(RescanScope::Whole, reason);
        }
    }

    fn walk(&mut self, root: &RootDir, path: &str, list: bool, now: Monotonic) {
        let Some(tree) = &mut self.tree else { return };
        Walk { tree, root, map: &self.map, findings: &mut self.findings, now, list }.run(path);
    }

    fn report(&mut self, root: &RootDir, Reported { path, report }: &Reported, now: Monotonic) {
        let location = self.map.locate(path);
        if self.tree.is_none() || matches!(location, Location::Outside | Location::Root) {
            return;
        }
        match report {
            Report::Created | Report::Arrived => self.appeared(root, path, &location, *report, now),
            Report::MovedAway | Report::Removed | Report::RemovedDirectory | Report::SelfMoved => {
                self.vanished(root, path, &location, *report, now);
            }
            Report::Written | Report::Closed | Report::Attributes => {
                // A directory is an item while it is empty.
                let directory = self.tree.as_ref().is_some_and(|tree| tree.get(path).is_some());
                let name = if directory { format!("{path}/") } else { path.clone() };
                let finished = *report == Report::Closed;
                self.findings.touch(&self.map, &name, Touch { finished, ..Touch::default() }, now);
            }
        }
    }

    fn appeared(&mut self, root: &RootDir, path: &str, location: &Location<'_>, report: Report, now: Monotonic) {
        self.touch_parent(path, now);
        if !matches!(look::kind(root, path), Ok(Some(FileType::Directory))) {
            let (finished, created) = (report == Report::Arrived, report == Report::Created);
            self.findings.touch(&self.map, path, Touch { finished, created, was_item: false }, now);
            return;
        }
        let Some(tree) = &mut self.tree else { return };
        let id = walk::opened(root, path).ok().flatten().map(|(_, id)| id);
        if tree.get(path).is_some_and(|dir| Some(dir.id) == id) {
            // A walk has met it before. All that came later was reported.
            return;
        }
        tree.forget(path);
        if let Location::Space(space) = location {
            self.findings.space(space.clone(), true);
        }
        self.walk(root, path, true, now);
    }

    fn vanished(&mut self, root: &RootDir, path: &str, location: &Location<'_>, report: Report, now: Monotonic) {
        let Some(tree) = &mut self.tree else { return };
        let was_empty = tree.get(path).map(|dir| dir.empty);
        let moved = tree.was_moved(path);
        let was_directory = was_empty.is_some() || tree.left.contains_key(path) || moved;
        if !was_directory && matches!(report, Report::SelfMoved | Report::RemovedDirectory) {
            // It was met here by no walk, or was reported before.
            return;
        }
        self.touch_parent(path, now);
        if !was_directory {
            self.findings.touch(&self.map, path, Touch { finished: true, ..Touch::default() }, now);
            return;
        }
        let Some(tree) = &mut self.tree else { return };
        let held = tree.forget(path);
        if was_empty == Some(true) {
            let touch = Touch { finished: true, was_item: true, created: false };
            self.findings.touch(&self.map, &format!("{path}/"), touch, now);
        } else if (report != Report::RemovedDirectory || held)
            && let Some(scope) = self.map.scope(path)
        {
            // Whoever moved it named none of its items.
            self.findings.rescan(scope, RescanReason::MovedAway);
        }
        if matches!(look::kind(root, path), Ok(Some(FileType::Directory))) {
            // Another one is there already.
            self.walk(root, path, true, now);
        } else if let Location::Space(space) = location {
            self.findings.space(space.clone(), false);
        }
    }

    /// A directory may become an item, or cease to be one, by what happens in it.
    fn touch_parent(&mut self, path: &str, now: Monotonic) {
        let (parent, _) = item_path::split(path);
        let Some(dir) = self.tree.as_mut().and_then(|tree| tree.get_mut(parent)) else { return };
        let was_item = std::mem::take(&mut dir.empty);
        let touch = Touch { was_item, ..Touch::default() };
        self.findings.touch(&self.map, &format!("{parent}/"), touch, now);
    }

    /// Looks whether anything was mounted or unmounted beneath the root.
    fn check_mounts(&mut self, root: &RootDir, now: Monotonic) {
        let Some(mounts) = self.mounts.as_ref().filter(|mounts| mounts.changed()) else { return };
        let Ok(table) = mounts.read() else { return };
        let base = self.root.resolved();
        let points = table.points_beneath(&base);
        let before = std::mem::replace(&mut self.points, points.clone());
        let changed = before.iter().filter(|point| !points.contains(point));
        let changed: Vec<PathBuf> =
            changed.chain(points.iter().filter(|point| !before.contains(point))).map(|(_, at)| at.clone()).collect();
        for point in changed {
            // The root itself is known by its identity.
            let Some(path) = point.strip_prefix(&base).ok().and_then(|path| path.to_str()) else { continue };
            let Some(scope) = self.map.scope(path).filter(|_| !path.is_empty()) else { continue };
            self.findings.rescan(scope, RescanReason::Mounts);
            self.findings.pending.forget(|pending| is_in(pending, path));
            if let Some(tree) = &mut self.tree {
                tree.forget(path);
            }
            self.walk(root, path, false, now);
        }
    }

    /// Watches the spaces that are wanted now, and no others.
    fn reconsider(&mut self, root: &RootDir, now: Monotonic) {
        if self.map.locate("") != Location::Root {
            return;
        }
        let Some(tree) = &mut self.tree else { return };
        for path in tree.top().iter().filter(|path| self.map.locate(path) == Location::Outside) {
            tree.forget(path);
            self.findings.pending.forget(|pending| is_in(pending, path));
        }
        let mut new = Vec::new();
        let Ok(Some((directory, _))) = walk::opened(root, "") else { return };
        let read = Dirents::with_buffer(32 * 1024).read(&directory, |name, kind| {
            if let (Ok(name), FileType::Directory) = (std::str::from_utf8(name), kind)
                && matches!(self.map.locate(name), Location::Space(_))
                && tree.get(name).is_none()
                && !tree.left.contains_key(name)
            {
                new.push(name.to_owned());
            }
            true
        });
        if let Err(errno) = read {
            self.findings.rescan(RescanScope::Whole, RescanReason::Unread(errno.to_string()));
        }
        for path in new {
            if let Location::Space(space) = self.map.locate(&path) {
                self.findings.space(space, true);
            }
            self.walk(root, &path, true, now);
        }
    }

    /// Tries again to watch what is left.
    fn retry_left(&mut self, root: &RootDir, now: Monotonic) {
        self.retry_at = now.plus(self.pace.retry_every);
        let left: Vec<String> = self.tree.iter().flat_map(|tree| tree.left.keys().cloned()).collect();
        for path in left {
            self.walk(root, &path, false, now);
            let Some(tree) = &mut self.tree else { return };
            if tree.left.get(&path) == Some(&RescanReason::WatchLimit) {
                // The others would reach it too.
                return;
            }
            if let Some(scope) = self.map.scope(&path).filter(|_| tree.get(&path).is_some()) {
                tree.limit_has_risen();
                self.findings.rescan(scope, RescanReason::WatchedAgain);
            }
        }
    }

    /// Sends what is due, if the last batch was taken.
    fn send(&mut self, root: &RootDir, now: Monotonic) {
        if self.batches.capacity() == 0 {
            return;
        }
        let Some(tree) = &mut self.tree else { return self.send_notices() };
        let mut hints = Vec::new();
        for (path, touch) in self.findings.pending.take_due(now, self.limits.batch_max) {
            hints.extend(look::look(root, &self.map, tree, &path, touch));
        }
        // What was looked at may have been taken away meanwhile, with all that is beneath it.
        if let Err(error) = self.root.dir() {
            return self.lose(&error);
        }
        self.send_with(hints);
    }

    fn send_notices(&mut self) {
        self.send_with(Vec::new());
    }

    fn send_with(&mut self, items: Vec<FolderHint>) {
        let left = self.tree.as_ref().map(|tree| tree.left.len());
        let news = left.is_some() && left != self.told;
        if items.is_empty() && !self.findings.has_notices() && !news {
            return;
        }
        let Ok(permit) = self.batches.try_reserve() else { return };
        let mut hints = self.findings.take_notices();
        hints.extend(items);
        self.told = left;
        let directories = self.tree.as_ref().map_or(0, WatchedTree::len);
        permit.send(HintBatch { hints, directories, left: left.unwrap_or(0) });
    }
}

/// Whether other hosts may change what is on a file system of this type.
fn is_of_others(kind: &str) -> bool {
    const KINDS: [&str; 13] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "afs",
        "glusterfs",
        "lustre",
        "virtiofs",
        "vboxsf",
        "fuse",
    ];
    KINDS.contains(&kind) || kind.starts_with("fuse.")
}
