//! `mill work --watch`: what changes in a source folder is at its copy without any run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, walk};

/// How long a change may take. No speed is asserted.
const PATIENCE: Duration = Duration::from_mins(1);

const POLICY: &str = r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;

/// `mill work --watch` in a world, until it is stopped.
struct Watching<'w> {
    world: &'w World,
    child: Option<Child>,
}

/// An account whose copy is in sync, and known to be.
fn library() -> World {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.library(POLICY);
    world.write("one/s/kept", "kept");
    world
}

impl<'w> Watching<'w> {
    fn begin(world: &'w World) -> Self {
        Self::of(world, world.command().args(["work", "--watch"]))
    }

    fn of(world: &'w World, command: &mut Command) -> Self {
        let log = fs::File::create(world.path("watch.log")).unwrap();
        command.env("MILL_LOG", "info");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let watching = Self { world, child: Some(child.spawn().unwrap()) };
        watching.says("watches this many directories");
        watching
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.path("watch.log")).unwrap()
    }

    #[track_caller]
    fn says(&self, words: &str) {
        self.until(&format!("it says {words}"), || self.log().contains(words));
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "not within a minute: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn copied(&self, name: &str) {
        let (from, to) = (self.world.path("one").join(name), self.world.path("two").join(name));
        self.until(&format!("`{name}` is copied"), || fs::read(&to).ok() == Some(fs::read(&from).unwrap()));
    }

    /// Stops it gently.
    #[track_caller]
    fn end(mut self) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn what_is_written_changed_and_deleted_in_a_watched_folder_is_so_at_its_copy_without_a_run() {
    let world = library();
    for number in 0..10 {
        world.write(&format!("one/s/before {number}"), "x");
    }
    world.mill(&["run"]).expect(0);
    let watching = Watching::begin(&world);

    world.write("one/s/new/deep/letter", "dear");
    watching.copied("s/new/deep/letter");
    world.write("one/s/new/deep/letter", "dear friend");
    watching.copied("s/new/deep/letter");
    world.write("one/another space/first", "x");
    watching.copied("another space/first");
    fs::create_dir(world.path("one/s/empty")).unwrap();
    watching.until("an empty directory is copied", || world.path("two/s/empty").is_dir());
    fs::remove_file(world.path("one/s/before 3")).unwrap();
    watching.until("the copy is deleted", || !world.path("two/s/before 3").exists());
    fs::rename(world.path("one/s/before 4"), world.path("one/s/after 4")).unwrap();
    watching.copied("s/after 4");
    watching.until("the old name is deleted", || !world.path("two/s/before 4").exists());

    watching.end();
    world.same("one", "two");
    assert!(world.path("two/s/before 5").exists() && world.path("two/s/kept").exists());
}

#[test]
fn a_space_that_a_policy_covers_from_today_on_is_watched_too() {
    let world = library();
    world.write("mill.toml", "[policies]\nfolder = \"policies\"\nrefresh = \"1s\"\n");
    let ignoring = POLICY.replacen('{', r#"{"spacesToIgnore": ["private"], "#, 1);
    world.write("policies/library-duplication-policy.json", &ignoring);
    world.write("one/private/diary", "dear");
    world.mill(&["run"]).expect(2);
    let watching = Watching::begin(&world);
    world.write("one/private/letter", "x");
    world.write("one/s/letter", "x");
    watching.copied("s/letter");
    assert!(!world.path("two/private").exists());
    world.write("policies/library-duplication-policy.json", POLICY);
    watching.copied("private/diary");
    world.write("one/private/later", "x");
    watching.copied("private/later");
    watching.end();
}

#[test]
fn beyond_the_system_s_limit_a_watch_says_what_to_raise_and_goes_on_with_the_rest() {
    let world = library();
    for number in 0..20 {
        world.write(&format!("one/many/{number}/file"), "x");
    }
    world.mill(&["run"]).expect(0);
    // The limit of a user namespace of its own: nobody else has it.
    let mill = env!("CARGO_BIN_EXE_mill");
    let script = format!("echo 8 > /proc/sys/user/max_inotify_watches && exec '{mill}' work --watch");
    let mut command = world.command_of(Path::new("unshare"));
    command.args(["--user", "--map-root-user", "sh", "-c", &script]);
    if !Command::new("unshare").args(["--user", "--map-root-user", "true"]).status().unwrap().success() {
        println!("NOT RUN: it needs user namespaces");
        return;
    }
    let watching = Watching::of(&world, &mut command);
    watching.says("sysctl fs.inotify.max_user_watches=");
    watching.end();
}

#[test]
fn watching_is_for_workmen_that_stay() {
    let world = library();
    world.mill(&["work", "--watch", "--child"]).expect(200);
    let help = world.mill(&["work", "--help"]).expect(0);
    assert!(help.out.contains("--watch") && help.out.contains("mill work --watch"), "{}", help.out);
}

/// Runs a command in a folder.
#[track_caller]
fn run(folder: &Path, command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with some history, outside of all stores.
fn repository(world: &World) {
    let folder = world.path("origin");
    fs::create_dir(&folder).unwrap();
    run(&folder, &["git", "init", "--quiet"]);
    for commit in 0..20 {
        for file in 0..20 {
            world.write(&format!("origin/part {}/file {file}", commit % 4), format!("{commit} {file}"));
        }
        run(&folder, &["git", "add", "."]);
        let who = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        run(&folder, &[&["git"], &who[..], &["commit", "--quiet", "-m", "more"]].concat());
    }
}

/// How many small files an archive has.
const ARCHIVED: usize = 20_000;

fn archive(world: &World) {
    world.python(&format!(
        "
import io, tarfile
with tarfile.open('many.tar', 'w') as tar:
    for n in range({ARCHIVED}):
        entry = tarfile.TarInfo(f'many/{{n % 100}}/{{n}}')
        entry.size, entry.mtime, entry.mode = 5, 1700000000, 0o644
        tar.addfile(entry, io.BytesIO(b'%05d' % n))
"
    ));
}

/// The files of a store, by their names.
fn files(world: &World, store: &str) -> BTreeSet<String> {
    let root = world.path(store);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let files = walk(&root).into_iter().filter(|path| path.is_file()).map(|path| name(&path));
    files.filter(|name| !name.starts_with(".mill")).collect()
}

/// Waits until the copy changes no more.
fn settle(world: &World) {
    let began = Instant::now();
    let (mut last, mut since) = (BTreeSet::new(), Instant::now());
    while since.elapsed() < Duration::from_secs(8) && began.elapsed() < Duration::from_mins(3) {
        std::thread::sleep(Duration::from_secs(1));
        let now = files(world, "two");
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

#[test]
fn work_in_a_watched_folder_ends_in_an_equal_copy_and_deletes_no_more_than_the_rule_grants() {
    let world = library();
    repository(&world);
    archive(&world);
    for number in 0..2_000 {
        world.write(&format!("one/s/old/{}/{number}", number % 20), "old");
    }
    world.mill(&["run"]).expect(0);
    world.same("one", "two");
    let before = files(&world, "two");

    let watching = Watching::begin(&world);
    let space = world.path("one/s");
    run(&space, &["git", "clone", "--quiet", "../../origin", "clone"]);
    run(&space, &["tar", "xf", "../../many.tar"]);
    run(&space.join("clone"), &["git", "gc", "--quiet", "--aggressive", "--prune=now"]);
    run(&space, &["rm", "-r", "old/1", "old/2", "old/3", "old/4", "old/5", "many/7"]);
    // Another change ends the burst.
    world.write("one/s/last", "x");
    watching.copied("s/last");
    settle(&world);
    watching.end();

    // Nothing is gone from the copy that is not gone from the source, and of that no more than the rule grants.
    let (source, copy) = (files(&world, "one"), files(&world, "two"));
    let gone: Vec<&String> = before.difference(&copy).collect();
    let granted = (source.len() / 100).clamp(20, 1_000);
    println!("{} items, {} copied while watching, {} deleted unasked", source.len(), copy.len(), gone.len());
    assert!(gone.iter().all(|name| !source.contains(*name)), "{gone:?}");
    assert!(gone.len() <= granted, "{} of at most {granted}", gone.len());

    // What is left is the loop's: what it would delete beyond the rule waits for a person.
    let ran = world.mill(&["run", "--json"]);
    let held = ran.json()["held"].as_u64().unwrap();
    println!("after a run: {held} held, exit code {}", ran.code);
    let gone = before.difference(&files(&world, "two")).count();
    assert!(gone <= granted, "{gone} of at most {granted}");
    if held > 0 {
        let most = held.to_string();
        world.mill(&["run", "--confirm-deletes", &most]);
        world.mill(&["run"]).expect(0);
    }
    world.same("one", "two");
}
