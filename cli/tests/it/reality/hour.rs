//! The long trial: a tree that is unmounted, moved, emptied and renamed at random moments, while a producer starts as cron
//! would start it, and workmen work. `MILL_TRIAL_MINUTES=60 cargo test --release -p mill --test it hour` makes it long;
//! `MILL_SEED` has the same things happen, though never at the same moment of Mill's.
//!
//! All the while, and at the end:
//! - what is deleted at the destination was granted: its id stands in a delete list that rule or person let through;
//! - what has stood at the source since it was copied is at the destination.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mill_trials::{Mount, NotRun, apart};
use serde_json::Value;

use super::stop;
use crate::kills::{Dice, seed};
use crate::world::{Ran, World, walk};

/// How long people and cables are at it, and how long with the short form.
fn duration() -> Duration {
    std::env::var("MILL_TRIAL_MINUTES")
        .map_or(Duration::from_secs(10), |minutes| Duration::from_secs_f64(minutes.parse::<f64>().unwrap() * 60.0))
}

/// What differs between the engines.
pub(crate) trait Fleet: Send {
    /// The world in which `mill` finds its configuration, and the stores 1 (`one`) and 2 (`two`) of the account `library`.
    fn world(&self) -> &World;
    fn command(&self) -> Command;
    /// The rows of the book of delete lists, as a program that shares no code with Mill reads them: a JSON array of
    /// partition, sort key and value.
    fn lists(&self) -> String;
}

/// The ids that were granted to be deleted, with their space: `photos/a/b`.
fn granted(lists: &str) -> BTreeSet<String> {
    let rows: Vec<[String; 3]> = serde_json::from_str(lists).unwrap();
    let mut granted = BTreeSet::new();
    for [partition, sort, value] in &rows {
        let Some(list) = sort.strip_suffix("/head") else { continue };
        let head: Value = serde_json::from_str(value).unwrap();
        if head["state"].get("granted").is_none() && head["state"].get("done").is_none() {
            continue;
        }
        let space = partition.rsplit('/').next().unwrap();
        let of_list = rows.iter().filter(|row| row[0] == *partition && row[1].starts_with(&format!("{list}/row/")));
        for [_, _, ids] in of_list {
            let ids: Vec<(String, String)> = serde_json::from_str(ids).unwrap();
            granted.extend(ids.into_iter().map(|(id, _)| format!("{space}/{id}")));
        }
    }
    granted
}

/// Part of the source: a folder of space `photos`, or the space `letters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It is there all the while.
    Stays,
    /// A mount, which is there or not.
    Mounted,
    /// A folder that is under its own name or under another.
    Moved,
    /// A folder that is full or empty.
    Emptied,
    /// A whole space that is a mount.
    Space,
}

impl Part {
    fn folder(self) -> &'static str {
        match self {
            Self::Stays => "one/photos/stays",
            Self::Mounted => "one/photos/mounted",
            Self::Moved => "one/photos/moved",
            Self::Emptied => "one/photos/emptied",
            Self::Space => "one/letters",
        }
    }
}

/// The tree, and those who are at it.
struct Tree<'w> {
    world: &'w World,
    dice: Dice,
    mounted: BTreeMap<&'static str, Mount>,
    written: u64,
    /// What happened, for whoever reads a failure.
    told: Vec<String>,
}

const FILES: u64 = 40;

impl<'w> Tree<'w> {
    fn new(world: &'w World, seed: u64) -> Result<Self, NotRun> {
        let mut tree = Self { world, dice: Dice(seed), mounted: BTreeMap::new(), written: 0, told: Vec::new() };
        for part in [Part::Stays, Part::Moved, Part::Emptied] {
            tree.fill(part.folder(), FILES);
        }
        // The disks themselves stand beside the tree and are bound into it.
        for part in [Part::Mounted, Part::Space] {
            tree.fill(&disk(part), FILES);
            tree.mount(part);
        }
        Ok(tree)
    }

    fn fill(&mut self, folder: &str, files: u64) {
        for n in 0..files {
            self.written += 1;
            self.world.write(&format!("{folder}/{n:03}"), format!("{} in {folder}", self.written));
        }
    }

    fn mount(&mut self, part: Part) {
        let at = self.world.path(part.folder());
        self.mounted.insert(part.folder(), Mount::bind(&self.world.path(&disk(part)), &at));
    }

    /// One thing happens.
    fn happen(&mut self) {
        let part = [Part::Stays, Part::Mounted, Part::Moved, Part::Emptied, Part::Space][self.dice.roll(5) as usize];
        let folder = self.world.path(part.folder());
        let aside = self.world.path(&format!("{}-aside", part.folder().replace('/', "-")));
        let what = match part {
            Part::Stays => {
                // A person works: some files change, a few come and go.
                let come_and_go = self.world.path("one/photos/few");
                let n = self.dice.roll(FILES);
                self.written += 1;
                self.world.write(&format!("{}/{n:03}", part.folder()), format!("{} anew", self.written));
                match self.dice.roll(3) {
                    0 => drop(fs::remove_dir_all(&come_and_go)),
                    _ => self.fill("one/photos/few", 3),
                }
                "people work"
            }
            Part::Mounted | Part::Space => match self.mounted.remove(part.folder()) {
                Some(mount) => {
                    mount.detach();
                    // A mount point is not always empty.
                    if self.dice.roll(3) == 0 {
                        let _ = fs::write(folder.join("stray"), "stray");
                    }
                    "unmounted"
                }
                None => {
                    self.mount(part);
                    "mounted"
                }
            },
            Part::Moved if folder.exists() => {
                // Within the space under another name, or out of it.
                let to = if self.dice.roll(2) == 0 { self.world.path("one/photos/renamed") } else { aside };
                fs::rename(&folder, to).unwrap();
                "moved away"
            }
            Part::Moved => {
                let back = [self.world.path("one/photos/renamed"), aside].into_iter().find(|path| path.exists());
                fs::rename(back.unwrap(), &folder).unwrap();
                "moved back"
            }
            Part::Emptied if aside.exists() => {
                for path in walk(&aside) {
                    fs::rename(&path, folder.join(path.file_name().unwrap())).unwrap();
                }
                fs::remove_dir(aside).unwrap();
                "filled again"
            }
            Part::Emptied => {
                fs::create_dir(&aside).unwrap();
                for path in walk(&folder) {
                    fs::rename(&path, aside.join(path.file_name().unwrap())).unwrap();
                }
                "emptied"
            }
        };
        self.told.push(format!("{part:?}: {what}"));
    }

    /// All is in its place again.
    fn calm(&mut self) {
        for part in [Part::Mounted, Part::Space] {
            if !self.mounted.contains_key(part.folder()) {
                self.mount(part);
            }
        }
        let back = |from: PathBuf, part: Part| {
            if from.exists() {
                fs::rename(from, self.world.path(part.folder())).unwrap();
            }
        };
        back(self.world.path("one/photos/renamed"), Part::Moved);
        back(self.world.path("one-photos-moved-aside"), Part::Moved);
        let aside = self.world.path("one-photos-emptied-aside");
        for path in walk(&aside) {
            fs::rename(&path, self.world.path(Part::Emptied.folder()).join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Where the files of a mount are when it is not mounted.
fn disk(part: Part) -> String {
    format!("disk-{}", part.folder().replace('/', "-"))
}

/// The items beneath a store's root: `photos/a/b`.
fn items(world: &World, root: &str) -> BTreeSet<String> {
    let at = world.path(root);
    let within = |path: PathBuf| path.strip_prefix(&at).ok().map(|path| path.to_string_lossy().into_owned());
    let files = walk(&at).into_iter().filter(|path| path.is_file());
    files.filter_map(within).filter(|item| !item.starts_with(".mill") && !item.contains("/.mill")).collect()
}

/// What was seen at both ends, and what must hold of it.
#[derive(Default)]
struct Watch {
    /// Items that were at the destination at the last look.
    there: BTreeSet<String>,
    /// Items that have stood at the source at every look since they were first seen at the destination.
    stood: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// All that was ever granted: a list may be withdrawn after some of it was deleted.
    granted: BTreeSet<String>,
    looks: u32,
}

impl Watch {
    fn look(&mut self, fleet: &dyn Fleet, told: &[String]) {
        let world = fleet.world();
        let now = items(world, "two");
        // Read after the destination: what is gone there was granted before.
        let source = items(world, "one");
        let gone: Vec<&String> = self.there.difference(&now).collect();
        self.looks += 1;
        if !gone.is_empty() || self.looks.is_multiple_of(20) {
            self.granted.extend(granted(&fleet.lists()));
        }
        for item in &gone {
            let lately = &told[told.len().saturating_sub(12)..];
            assert!(
                !self.stood.contains(*item),
                "`{item}` stood at the source all the while and was deleted: {lately:?}"
            );
        }
        for item in &gone {
            assert!(self.granted.contains(*item), "`{item}` was deleted and never granted: {told:?}");
        }
        self.deleted.extend(gone.into_iter().cloned());
        let stood = &self.stood;
        let still = |item: &&String| source.contains(*item) && (stood.contains(*item) || !self.there.contains(*item));
        self.stood = now.iter().filter(still).cloned().collect();
        self.there = now;
    }
}

fn spawn(fleet: &dyn Fleet, args: &[&str]) -> Child {
    let log = fs::File::options().create(true).append(true).open(fleet.world().path("log")).unwrap();
    let mut command = fleet.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.env("MILL_WORKMAN_VISIBILITY", "10s").spawn().unwrap()
}

/// A person lets go one of the lists that wait, knowing or not: then what it names was granted.
fn confirm_one(fleet: &dyn Fleet) -> Option<String> {
    let mill = |args: &[&str]| Ran::of(fleet.command().args(args).output().unwrap());
    let held = mill(&["held", "list", "--json"]);
    let token = held.out.lines().find_map(|line| {
        let held: Value = serde_json::from_str(line).ok()?;
        Some(held["token"].as_str()?.to_owned())
    })?;
    let ran = mill(&["held", "confirm", &token]);
    Some(format!("confirmed {token}: {}", ran.code))
}

/// Runs the trial on one engine.
pub(crate) fn trial(fleet: &dyn Fleet) -> Result<(), NotRun> {
    let (world, seed) = (fleet.world(), seed());
    fs::create_dir_all(world.path("two")).unwrap();
    let mut tree = Tree::new(world, seed)?;
    let mut workmen: Vec<Child> = (0..2).map(|_| spawn(fleet, &["work", "--workers", "8"])).collect();
    let mut producer: Option<Child> = None;
    let mut watch = Watch::default();
    let (began, mut produced, mut happened) = (Instant::now(), 0, 0);
    let mut next = Duration::from_secs(2);
    while began.elapsed() < duration() {
        if producer.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
            producer = Some(spawn(fleet, &["produce", "duplication", "--now"]));
            produced += 1;
        }
        if began.elapsed() > next {
            tree.happen();
            happened += 1;
            next = began.elapsed() + Duration::from_millis(20 + tree.dice.roll(800));
        }
        let one = tree.dice.roll(2) as usize;
        if tree.dice.roll(60) == 0 {
            workmen[one].kill().unwrap();
            workmen[one].wait().unwrap();
            workmen[one] = spawn(fleet, &["work", "--workers", "8"]);
        }
        if tree.dice.roll(100) == 0 {
            tree.told.extend(confirm_one(fleet));
        }
        watch.look(fleet, &tree.told);
        std::thread::sleep(Duration::from_millis(50));
    }
    if let Some(mut producer) = producer {
        producer.wait().unwrap();
    }
    workmen.into_iter().for_each(stop);
    watch.look(fleet, &tree.told);
    tree.calm();
    // What was given up meanwhile, because it stood in the way of itself, comes again.
    for _ in 0..2 {
        let ran = Ran::of(fleet.command().args(["run", "--json"]).output().unwrap());
        assert!([0, 2].contains(&ran.code), "{} {}", ran.out, ran.err);
        watch.look(fleet, &tree.told);
    }
    let (source, copy) = (items(world, "one"), items(world, "two"));
    let missing: Vec<&String> = source.difference(&copy).collect();
    assert!(missing.is_empty(), "not copied: {missing:?}");
    for item in &source {
        let [ours, theirs] = ["one", "two"].map(|root| fs::read(world.path(root).join(item)).unwrap());
        assert!(ours == theirs, "`{item}` differs");
    }
    println!("{happened} things happened, {produced} producers, {} items deleted", watch.deleted.len());
    assert!(happened > 3 && produced > 1);
    Ok(())
}

/// One installation on this host.
struct Local(super::Installed);

impl Fleet for Local {
    fn world(&self) -> &World {
        &self.0.world
    }

    fn command(&self) -> Command {
        self.0.world.command()
    }

    fn lists(&self) -> String {
        self.0.world.python(
            "
import json, sqlite3
rows = sqlite3.connect('file:data/mill.db?mode=ro', uri=True, timeout=30).execute(
    \"select partition, sort, value from entry where book = 'delete-lists'\")
print(json.dumps([[cell.decode() for cell in row] for row in rows]))
",
        )
    }
}

#[test]
fn hour_of_a_tree_that_comes_and_goes_on_the_local_engine() {
    apart(|| trial(&Local(super::Installed::new())));
}
