//! A source that moves: a disk beneath it that is unmounted and comes back, folders that are renamed, emptied and moved
//! away at random moments, while producers and workmen run. Only what people took away is deleted, and a granted delete
//! list names it. `MILL_MINUTES=60` runs the long form; the short form always runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mill_trials::{MissingRequirement, MountGuard, in_mount_namespace};
use serde_json::Value;

use crate::kills::{Dice, seed};
use crate::world::{Ran, World, walk};

/// How long people move things around.
fn duration() -> Duration {
    std::env::var("MILL_MINUTES")
        .map_or(Duration::from_secs(15), |minutes| Duration::from_secs(60 * minutes.parse::<u64>().unwrap()))
}

/// What the trial needs of an engine.
pub(crate) struct Engine {
    /// Further variables of each process.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Prints each row of the table of delete lists as `[partition, sort, value]`, one line of JSON each.
    pub(crate) lists: Box<dyn Fn(&World) -> String>,
}

const SPACES: [&str; 2] = ["photos", "letters"];
/// Where a disk is mounted.
const DISK: &str = "one/photos/disk";
const BOXES: u64 = 5;

/// An item: its space, and its id.
type Item = (String, String);

/// The state of the trial between two actions.
struct Moving<'a> {
    world: &'a World,
    engine: &'a Engine,
    dice: Dice,
    disk: Option<MountGuard>,
    processes: Vec<(&'static [&'static str], Child)>,
    /// The items at the destination at the last check.
    standing: BTreeSet<Item>,
    deleted: BTreeSet<Item>,
    /// The items that people ever took away.
    taken_away: BTreeSet<Item>,
    /// The items whose deletion a person confirmed.
    confirmed: BTreeSet<Item>,
    acts: BTreeMap<&'static str, u64>,
    written: u64,
}

const PROCESSES: [&[&str]; 3] =
    [&["produce", "duplication", "--now"], &["work", "--workers", "8"], &["work", "--workers", "8"]];

/// The ids of all files of a folder.
fn ids(folder: &Path) -> BTreeSet<String> {
    let files = walk(folder).into_iter().filter(|path| path.is_file());
    files.map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

pub(crate) fn set_up(world: &World) {
    world.library(r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    for n in 0..200 {
        world.write(&format!("one/photos/box {}/{n}", n % BOXES), format!("photo {n}"));
    }
    for n in 0..60 {
        world.write(&format!("one/letters/{n}"), format!("letter {n}"));
    }
    for n in 0..150 {
        world.write(&format!("the disk/{n}"), format!("on the disk {n}"));
    }
    fs::create_dir_all(world.path(DISK)).unwrap();
    fs::create_dir_all(world.path("away")).unwrap();
}

impl<'a> Moving<'a> {
    fn new(world: &'a World, engine: &'a Engine) -> Self {
        let (standing, deleted, acts) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (taken_away, confirmed) = (BTreeSet::new(), BTreeSet::new());
        let disk = Some(MountGuard::bind(&world.path("the disk"), &world.path(DISK)));
        Self {
            world,
            engine,
            dice: Dice(seed()),
            disk,
            processes: Vec::new(),
            standing,
            deleted,
            taken_away,
            confirmed,
            acts,
            written: 0,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command();
        command.args(args).envs(self.engine.environment.iter().map(|(name, value)| (name, value)));
        // Tasks of killed processes come back soon.
        command.env("MILL_WORKMAN_VISIBILITY", "5s").env("MILL_WORKMAN_IDLE_BACKOFF", "100ms");
        command
    }

    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.world.path("log")).unwrap();
        self.command(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Starts a producer and two workmen again if they have ended.
    fn keep_running(&mut self) {
        if self.processes.is_empty() {
            self.processes = PROCESSES.iter().map(|args| (*args, self.spawn(args))).collect();
        }
        let running: Vec<_> = self.processes.drain(..).collect();
        for (args, mut child) in running {
            match child.try_wait().unwrap() {
                None => self.processes.push((args, child)),
                Some(status) => {
                    assert_ne!(status.code(), Some(101), "{args:?} panicked");
                    self.processes.push((args, self.spawn(args)));
                }
            }
        }
    }

    /// Records what was deleted at the destination since the last check.
    fn look(&mut self) {
        let now: BTreeSet<Item> = SPACES
            .iter()
            .flat_map(|space| {
                ids(&self.world.path(&format!("two/{space}"))).into_iter().map(|id| ((*space).to_owned(), id))
            })
            .filter(|(_, id)| !id.contains(".mill-in-progress"))
            .collect();
        for (space, id) in self.standing.difference(&now) {
            // A listing of a folder may omit a name that is replaced meanwhile.
            if !self.world.path(&format!("two/{space}/{id}")).exists() {
                self.deleted.insert((space.clone(), id.clone()));
            }
        }
        self.standing = now;
    }

    fn people_take(&mut self, space: &str, ids: impl IntoIterator<Item = String>) {
        self.taken_away.extend(ids.into_iter().map(|id| (space.to_owned(), id)));
    }

    /// Moves a folder or file of the source inside it, or out of it; the old name is gone then.
    fn people_move(&mut self, from: &str, to: &str) -> bool {
        let (from_path, to_path) = (self.world.path(from), self.world.path(to));
        if !from_path.exists() || to_path.exists() {
            return false;
        }
        let gone: Vec<String> = match from.strip_prefix("one/photos/") {
            Some(id) if from_path.is_file() => vec![id.to_owned()],
            Some(folder) => ids(&from_path).into_iter().map(|id| format!("{folder}/{id}")).collect(),
            None => Vec::new(),
        };
        fs::rename(from_path, to_path).unwrap();
        self.people_take("photos", gone);
        true
    }

    /// If both names exist, the second is deleted.
    fn make_room(&mut self, folder: &str, away: &str) {
        if self.world.path(folder).exists() && self.world.path(away).exists() {
            let gone = ids(&self.world.path(away));
            if let Some(name) = away.strip_prefix("one/photos/") {
                self.people_take("photos", gone.into_iter().map(|id| format!("{name}/{id}")));
            }
            fs::remove_dir_all(self.world.path(away)).unwrap();
        }
    }

    fn some_box(&mut self) -> String {
        format!("one/photos/box {}", self.dice.roll(BOXES))
    }

    fn some_files(&mut self, count: usize) -> Vec<PathBuf> {
        let folder = self.some_box();
        let folder = self.world.path(&folder);
        if !folder.is_dir() {
            return Vec::new();
        }
        let mut files: Vec<PathBuf> = walk(&folder).into_iter().filter(|path| path.is_file()).collect();
        files.sort();
        let skipped = self.dice.roll(files.len().max(1) as u64) as usize;
        files.into_iter().skip(skipped).take(count).collect()
    }

    fn delete(&mut self, files: &[PathBuf]) {
        let root = self.world.path("one/photos");
        for file in files {
            fs::remove_file(file).unwrap();
            let id = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            self.people_take("photos", [id]);
        }
    }

    fn plug(&mut self) -> &'static str {
        if let Some(disk) = self.disk.take() {
            disk.detach();
            if self.dice.roll(3) == 0 {
                self.world.write(&format!("{DISK}/stray"), "written into the mount point");
            }
            return "unmounted";
        }
        self.disk = Some(MountGuard::bind(&self.world.path("the disk"), &self.world.path(DISK)));
        // The mount hides what is in the mount point, as if it were taken away.
        self.people_take("photos", ["disk/stray".to_owned()]);
        "mounted"
    }

    /// A person reviews the held deletes, and confirms those that are not only out of sight.
    fn confirm(&mut self) -> &'static str {
        let held = self.mill(&["held", "list", "--json"]);
        let lists: Vec<Value> = held.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut told = "nothing to confirm";
        for list in lists {
            let (token, space) = (list["token"].as_str().unwrap(), list["space"].as_str().unwrap());
            told = self.confirm_list(token, space);
        }
        told
    }

    fn confirm_list(&mut self, token: &str, space: &str) -> &'static str {
        let shown = self.mill(&["held", "show", token]);
        if shown.code != 0 {
            return "gone before it was shown";
        }
        let named: BTreeSet<Item> = shown.out.lines().map(|id| (space.to_owned(), id.to_owned())).collect();
        // A person who sees items of the disk or of the other space in it knows that they are only out of sight.
        if named.iter().any(|(space, id)| space == "letters" || id.starts_with("disk/")) {
            return "looked through, not confirmed";
        }
        self.confirmed.extend(named);
        if self.mill(&["held", "confirm", token]).code == 0 { "confirmed" } else { "not confirmed any more" }
    }

    /// A person puts everything back, waits for a run, and reviews what is still held.
    fn clear_up(&mut self) -> &'static str {
        if self.disk.is_none() {
            self.plug();
        }
        self.people_move("away/letters", "one/letters");
        self.mill(&["produce", "duplication", "--now"]);
        self.confirm();
        "cleared up"
    }

    fn act(&mut self) -> &'static str {
        match self.dice.roll(11) {
            0 | 1 => self.plug(),
            2 => {
                let folder = self.some_box();
                let away = format!("{folder} renamed");
                self.make_room(&folder, &away);
                let moved = self.people_move(&folder, &away) || self.people_move(&away, &folder);
                if moved { "a folder renamed" } else { "nothing to rename" }
            }
            3 => {
                let folder = self.some_box();
                let away = folder.replace("one/photos", "away");
                self.make_room(&folder, &away);
                let moved = self.people_move(&folder, &away) || self.people_move(&away, &folder);
                if moved { "a folder moved out or back" } else { "nothing to move" }
            }
            4 => {
                let moved =
                    self.people_move("one/letters", "away/letters") || self.people_move("away/letters", "one/letters");
                if moved { "a space moved out or back" } else { "nothing to move" }
            }
            5 => {
                let files = self.some_files(usize::MAX);
                self.delete(&files);
                "a folder emptied"
            }
            6 => {
                let files = self.some_files(2);
                self.delete(&files);
                "two files deleted"
            }
            7 => self.confirm(),
            8 => {
                let victim = self.dice.roll(self.processes.len() as u64) as usize;
                let (_, child) = &mut self.processes[victim];
                let _ = child.kill();
                child.wait().unwrap();
                "a process killed"
            }
            9 => self.clear_up(),
            _ => {
                for _ in 0..10 {
                    self.written += 1;
                    let folder = self.some_box();
                    self.world.write(&format!("{folder}/new {}", self.written % 300), format!("new {}", self.written));
                }
                "ten files written"
            }
        }
    }

    fn live(&mut self) {
        let began = Instant::now();
        while began.elapsed() < duration() {
            self.keep_running();
            let act = self.act();
            *self.acts.entry(act).or_default() += 1;
            for _ in 0..=self.dice.roll(8) {
                std::thread::sleep(Duration::from_millis(100));
                self.keep_running();
                self.look();
            }
        }
        for (_, child) in &self.processes {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        }
        for (_, mut child) in std::mem::take(&mut self.processes) {
            child.wait().unwrap();
        }
        self.look();
    }

    /// All that granted lists ever named.
    fn granted(&self) -> BTreeSet<Item> {
        let rows: Vec<[String; 3]> =
            (self.engine.lists)(self.world).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let list_of =
            |sort: &str| sort.strip_prefix("list/").and_then(|rest| rest.split('/').next()).map(str::to_owned);
        let granted: BTreeSet<(&str, String)> = rows
            .iter()
            .filter(|[_, sort, _]| sort.ends_with("/head"))
            .filter(|[_, _, value]| {
                let head: Value = serde_json::from_str(value).unwrap();
                !head["state"]["granted"].is_null() || !head["state"]["done"].is_null()
            })
            .filter_map(|[partition, sort, _]| Some((partition.as_str(), list_of(sort)?)))
            .collect();
        let mut named = BTreeSet::new();
        for [partition, sort, value] in rows.iter().filter(|[_, sort, _]| sort.contains("/row/")) {
            if list_of(sort).is_some_and(|list| granted.contains(&(partition.as_str(), list))) {
                let space = partition.rsplit('/').next().unwrap();
                let ids: Vec<(String, Value)> = serde_json::from_str(value).unwrap();
                named.extend(ids.into_iter().map(|(id, _)| (space.to_owned(), id)));
            }
        }
        named
    }

    fn judge(&self) {
        let granted = self.granted();
        let acts: Vec<String> = self.acts.iter().map(|(act, count)| format!("{act} {count}")).collect();
        println!("{}", acts.join(", "));
        println!(
            "{} items deleted, {} named by granted lists, {} confirmed by a person",
            self.deleted.len(),
            granted.len(),
            self.confirmed.len()
        );
        let beyond: Vec<_> = self.deleted.difference(&granted).collect();
        assert!(beyond.is_empty(), "deleted, and no granted list names it: {beyond:?}");
        let still_theirs: Vec<_> = self
            .deleted
            .iter()
            .filter(|item| !self.taken_away.contains(*item) && !self.confirmed.contains(*item))
            .collect();
        assert!(still_theirs.is_empty(), "deleted, and nobody took it away: {still_theirs:?}");
        // In the short form nothing may be found gone in time.
        assert!(duration() < Duration::from_mins(5) || self.deleted.len() > 100, "the trial tried nothing");
    }

    /// Everything is moved back; then both sides become equal, and a person confirms held deletes.
    fn come_to_rest(&mut self) {
        if self.disk.is_none() {
            let _ = fs::remove_file(self.world.path(DISK).join("stray"));
            self.plug();
        }
        self.people_move("away/letters", "one/letters");
        for _ in 0..4 {
            self.mill(&["run", "--quiet"]);
            let held = self.mill(&["held", "list", "--json"]);
            for line in held.out.lines() {
                let list: Value = serde_json::from_str(line).unwrap();
                self.mill(&["held", "confirm", list["token"].as_str().unwrap()]).expect(0);
            }
        }
        self.mill(&["run", "--json"]).expect(0);
        self.world.same("one", "two");
    }
}

/// Runs the trial on an engine whose configuration `prepare` writes.
pub(crate) fn trial(prepare: impl FnOnce(&World) -> Engine + Send + 'static) {
    in_mount_namespace(move || -> Result<(), MissingRequirement> {
        let world = World::new();
        let engine = prepare(&world);
        set_up(&world);
        let mut moving = Moving::new(&world, &engine);
        moving.mill(&["run", "--json"]).expect(0);
        moving.look();
        moving.live();
        moving.judge();
        moving.come_to_rest();
        Ok(())
    });
}

const LISTS_IN_SQLITE: &str = "
import json, sqlite3
book = sqlite3.connect('file:data/mill.db?mode=ro', uri=True)
for row in book.execute(\"select partition, sort, value from entry where book = 'delete-lists'\"):
    print(json.dumps([part.decode() for part in row]))";

#[test]
fn of_a_source_that_moves_only_what_people_took_away_is_deleted() {
    trial(|world| {
        world.mill(&["init", "."]).expect(0);
        Engine { environment: Vec::new(), lists: Box::new(|world| world.python(LISTS_IN_SQLITE)) }
    });
}
