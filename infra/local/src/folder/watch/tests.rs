//! On real directories: each way in which a watch could miss a change, or tell a wrong one.

mod limits;
mod places;
mod trees;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mill_model::SpaceId;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::OsClock;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The spaces of a test: all but those whose names are here.
#[derive(Debug, Default)]
struct AllBut(Mutex<BTreeSet<String>>);

impl WantedSpaces for AllBut {
    fn wants(&self, space: &SpaceId) -> bool {
        !self.0.lock().contains(space.as_str())
    }
}

/// A watched folder, and all that it has said.
struct Watched {
    root: PathBuf,
    watch: FolderWatch,
    runtime: tokio::runtime::Runtime,
    said: Vec<FolderHint>,
    directories: usize,
    left: usize,
    _folder: Option<TempDir>,
}

/// A folder in which `make` made something before it is watched.
fn watched(make: impl FnOnce(&Path)) -> Watched {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    make(&root);
    let watched = watch_at(&root, |_| {});
    Watched { _folder: Some(folder), ..watched }
}

fn watch_at(root: &Path, change: impl FnOnce(&mut WatchSettings)) -> Watched {
    let mut settings = WatchSettings {
        root: root.to_owned(),
        layout: Layout::Spaces,
        wanted: Arc::new(AllBut::default()),
        clock: Arc::new(OsClock),
        pace: WatchPace { look_every: Duration::from_millis(100), ..WatchPace::USUAL },
        limits: WatchLimits::USUAL,
    };
    change(&mut settings);
    let watch = FolderWatch::begin(settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut watched = Watched { root, watch, runtime, said: Vec::new(), directories: 0, left: 0, _folder: None };
    watched.take(PATIENCE);
    watched
}

impl Watched {
    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.at(name), "x").unwrap();
    }

    /// Takes the next batch. `false` if none comes in time.
    fn take(&mut self, at_most: Duration) -> bool {
        let next = self.watch.next();
        let Ok(batch) = self.runtime.block_on(async { tokio::time::timeout(at_most, next).await }) else {
            return false;
        };
        let batch = batch.unwrap();
        (self.directories, self.left) = (batch.directories, batch.left);
        self.said.extend(batch.hints);
        true
    }

    /// What was said, in words: `+` changed, `-` gone, `*` a new space, `/` a space that went, `?` a rescan.
    fn words(&self) -> Vec<String> {
        self.said.iter().map(word).collect()
    }

    /// Waits until it has said this.
    #[track_caller]
    fn says(&mut self, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.words().iter().any(|word| word == wanted) {
            assert!(Instant::now() < until, "not said: {wanted}; but {:?}", self.words());
            self.take(Duration::from_millis(100));
        }
    }

    /// Waits until it has said all of this, in any order.
    #[track_caller]
    fn says_all(&mut self, wanted: &[&str]) {
        for wanted in wanted {
            self.says(wanted);
        }
    }

    /// Everything that it says until a change that is made now was told.
    #[track_caller]
    fn all(&mut self) -> Vec<String> {
        let mark = format!("mark-{}", self.said.len());
        // What is open for writing is told after a pause.
        std::thread::sleep(WatchPace::USUAL.quiet + Duration::from_millis(200));
        self.write(&format!("s/{mark}"));
        self.says(&format!("+s/{mark}"));
        let mut words = self.words();
        words.retain(|word| !word.starts_with("+s/mark-"));
        words
    }

    /// Forgets what was said.
    fn forget(&mut self) {
        while self.take(Duration::from_millis(600)) {}
        self.said.clear();
    }
}

fn word(hint: &FolderHint) -> String {
    match hint {
        FolderHint::Changed(item) => format!("+{item}"),
        FolderHint::Gone(item) => format!("-{item}"),
        FolderHint::SpaceAppeared(space) => format!("*{space}"),
        FolderHint::SpaceGone(space) => format!("/{space}"),
        FolderHint::Rescan(Rescan { scope, reason }) => format!("?{scope} {}", name_of(reason)),
    }
}

/// The reason without its details.
fn name_of(reason: &RescanReason) -> String {
    format!("{reason:?}").split('(').next().unwrap_or_default().to_owned()
}
