//! The job of a trial, and its processes.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mill_hooks::CrashPoint;

use super::template::{ACCOUNTS, BLOCKED, Template};
use crate::world::{Mount, World};

/// A part of the job in which processes may die. The parts before it run without a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A producer and three workmen at once, in processes of their own.
    Fleet,
    /// The same, told to stop at once while all are busy.
    Stopped,
    /// `mill run`, all in one process.
    Run,
    /// `mill run` with workmen as child processes, and with deletes that a person confirms.
    Children,
    /// The dead letter is retried, dead-lettered again, and discarded.
    Letters,
    /// A space is restored.
    Restore,
    /// Two folders are mirrored.
    Mirror,
}

impl Stage {
    pub(super) const ALL: [Self; 7] =
        [Self::Fleet, Self::Stopped, Self::Run, Self::Children, Self::Letters, Self::Restore, Self::Mirror];
}

/// The point at which processes die.
#[derive(Debug, Clone, Copy)]
pub(super) struct Armed {
    pub(super) point: CrashPoint,
    /// At which pass.
    pub(super) nth: u64,
}

/// How long an armed stage may take to reach its point.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a stage waits on a busy machine until a workman has found the unusable store.
const PATIENCE_WITH_STORE: Duration = Duration::from_mins(1);
/// SIGKILL's number.
const KILL: i32 = 9;

pub(super) struct Job {
    // Unmounted before the world is removed.
    _thin: Mount,
    pub(super) world: World,
    armed: Option<Armed>,
    log: Option<PathBuf>,
    killed: u64,
    /// How long tasks in flight are hidden from others.
    visibility: &'static str,
}

impl Job {
    pub(super) fn new(template: &Template) -> Self {
        let world = template.world();
        // It stores no attributes of files.
        let thin = Mount::new(&["-t", "ramfs", "ramfs"], &world.path("thin-two"));
        Self { _thin: thin, world, armed: None, log: None, killed: 0, visibility: "1s" }
    }

    pub(super) fn arm(&mut self, armed: Armed) {
        self.armed = Some(armed);
    }

    /// Logs the points that the stage passes to the returned file.
    pub(super) fn log_passings(&mut self) -> PathBuf {
        let path = self.world.path("passings");
        fs::write(&path, "").unwrap();
        self.log = Some(path.clone());
        path
    }

    /// How many processes have died so far.
    pub(super) fn killed(&self) -> u64 {
        self.killed
    }

    /// Runs a stage to its end, whoever dies.
    pub(super) fn run(&mut self, stage: Stage) {
        let armed = (self.armed.take(), self.log.take());
        if stage != Stage::Fleet {
            self.out_of_the_way();
        }
        if matches!(stage, Stage::Letters | Stage::Restore) {
            self.until_it_ends(&["run", "--quiet"], &[50]);
        }
        (self.armed, self.log) = armed;
        match stage {
            Stage::Fleet => self.fleet(),
            Stage::Stopped => self.stopped(),
            Stage::Run => {
                self.until_it_ends(&["run", "--quiet"], &[0, 2, 50]);
                // The copies of a copied world have an unknown writer, so their deletes are held.
                self.confirm_held(&[]);
                self.until_it_ends(&["run", "--quiet"], &[0, 2, 50]);
            }
            Stage::Children => self.children(),
            Stage::Letters => self.letters(),
            Stage::Restore => self.restore(),
            Stage::Mirror => {
                // A directory that a killed process created for an item counts as an item while it is empty. If the
                // destination has nothing else, its delete is held for a person; the next run finds it filled.
                self.until_it_ends(MIRROR, &[0, 2]);
            }
        }
        (self.armed, self.log) = (None, None);
    }

    /// Brings everything in sync.
    pub(super) fn finish(&mut self, stage: Stage) {
        self.out_of_the_way();
        // On a busy machine a living process may lose a lease of a second again and again.
        self.visibility = "5s";
        self.until_it_ends(&["run", "--quiet"], &[0, 2, 50]);
        self.retry_lost();
        self.confirm_held(&[]);
        if stage == Stage::Mirror {
            self.until_it_ends(MIRROR, &[0, 2]);
            self.confirm_held(&["--mirror", MIRROR[1], MIRROR[2]]);
            self.until_it_ends(MIRROR, &[0]);
        }
        // Failures because of the obstacle, dead letters and held deletes are over now.
        self.until_it_ends(&["run", "--quiet"], &[0, 2, 50]);
        self.until_it_ends(&["run", "--quiet"], &[0]);
    }

    /// Retries the tasks that were given up because their leases lapsed before they were done.
    fn retry_lost(&mut self) {
        let listed = self.world.command().args(["deadletters", "list", "--json"]).output().unwrap();
        let lost: Vec<String> = String::from_utf8(listed.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|letter| letter["reason"].as_str().unwrap().starts_with("worker lost"))
            .map(|letter| letter["id"].as_str().unwrap().to_owned())
            .collect();
        if !lost.is_empty() {
            let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
            self.until_it_ends(&[&["deadletters", "retry"], &lost[..]].concat(), &[0]);
        }
    }

    /// Confirms all held deletes.
    fn confirm_held(&mut self, of: &[&str]) {
        let listed = self.world.command().args(["held", "list", "--json"]).args(of).output().unwrap();
        for line in String::from_utf8(listed.stdout).unwrap().lines() {
            let held: serde_json::Value = serde_json::from_str(line).unwrap();
            let token = held["token"].as_str().unwrap();
            // The killed process may have confirmed it already.
            self.until_it_ends(&[&["held", "confirm", token], of].concat(), &[0, 200]);
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.world.path("log")).unwrap();
        let mut command = self.world.command();
        command.args(args).stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        // Tasks of killed processes come back soon, and a space is more than one nibble.
        command.env("MILL_WORKMAN_VISIBILITY", self.visibility).env("MILL_PRODUCER_NIBBLE", "20");
        if let Some(Armed { point, nth }) = self.armed {
            command.env("MILL_CRASH_AT", format!("{}:{nth}", point.name()));
        }
        if let Some(log) = &self.log {
            command.env("MILL_CRASH_LOG", log);
        }
        command
    }

    /// Whether a process died at the point; from then on no other does.
    fn died(&mut self, status: ExitStatus) -> bool {
        let died = status.signal() == Some(KILL);
        if died {
            self.killed += 1;
            self.armed = None;
        }
        died
    }

    #[track_caller]
    fn until_it_ends(&mut self, args: &[&str], codes: &[i32]) {
        loop {
            let status = self.command(args).status().unwrap();
            if self.died(status) {
                continue;
            }
            return self.ended_as_expected(args, status, codes);
        }
    }

    #[track_caller]
    fn ended_as_expected(&self, args: &[&str], status: ExitStatus, codes: &[i32]) {
        let log = || fs::read_to_string(self.world.path("log")).unwrap();
        assert!(status.code().is_some_and(|code| codes.contains(&code)), "{args:?}: {status}\n{}", log());
    }

    /// Makes the unusable store usable, and removes the obstacle of the blocked item.
    fn out_of_the_way(&self) {
        self.usable();
        let _ = fs::remove_dir_all(self.world.path(BLOCKED));
    }

    /// Whether a workman has reported that the store cannot be used.
    fn has_met_unusable(&self) -> bool {
        let log = fs::read_to_string(self.world.path("log")).unwrap_or_default();
        log.contains("a store cannot be used; its tasks wait")
    }

    fn usable(&self) {
        let _ = fs::remove_file(self.world.path("later-two/.mill-in-progress"));
    }

    fn fleet(&mut self) {
        // Tasks of one account are in flight for longer than their leases.
        let mut held = Some(self.held());
        let mut fleet = Fleet::start(self, &[&["produce", "duplication", "--now"], WORK, WORK, WORK]);
        let began = Instant::now();
        let mut since_killed = None;
        let mut people = 0;
        let mut met_unusable = false;
        let impatient = |met: bool| began.elapsed() > if met { PATIENCE } else { PATIENCE_WITH_STORE };
        while !impatient(met_unusable) && since_killed.is_none_or(|at: Instant| at.elapsed().as_millis() < 300) {
            std::thread::sleep(Duration::from_millis(20));
            fleet.look(self);
            if self.killed > 0 && since_killed.is_none() {
                since_killed = Some(Instant::now());
            }
            met_unusable |= self.has_met_unusable();
            if met_unusable && began.elapsed().as_millis() > 600 {
                self.usable();
            }
            if began.elapsed().as_millis() > 2000 {
                held = None;
            }
            people += 1;
            self.world.write(&format!("library-one/photos/meanwhile/{}", people % 20), vec![b'm'; people]);
        }
        drop(held);
        fleet.ask_to_stop(1);
        fleet.wait(self);
    }

    fn stopped(&mut self) {
        let (armed, log) = (self.armed.take(), self.log.take());
        self.until_it_ends(&["produce", "duplication", "--now"], &[0, 2]);
        (self.armed, self.log) = (armed, log);
        for _ in 0..10 {
            // Tasks of this account stay in flight, to be released when the processes are told to stop at once.
            let held = self.held();
            let fleet = Fleet::start(self, &[WORK, WORK]);
            std::thread::sleep(Duration::from_millis(150));
            fleet.ask_to_stop(2);
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
            fleet.wait(self);
            if self.killed > 0 {
                return;
            }
        }
    }

    fn children(&mut self) {
        for n in 40..80 {
            fs::remove_file(self.world.path(&format!("library-one/photos/box {}/{n}", n % 5))).unwrap();
        }
        // The item is so large and the leases so short that some leases must be extended and some are lost.
        fs::write(self.world.path("library-one/photos/large"), vec![b'l'; 48 << 20]).unwrap();
        self.visibility = "150ms";
        let run = ["run", "--processes", "2", "--quiet"];
        self.until_it_ends(&run, &[0, 2, 50]);
        self.confirm_held(&[]);
        self.until_it_ends(&run, &[0, 2, 50]);
        self.visibility = "1s";
    }

    /// Holds a folder's lock until it is dropped: nothing can be written there meanwhile.
    fn held(&self) -> fs::File {
        let root = fs::File::open(self.world.path("later-two")).unwrap();
        root.lock().unwrap();
        root
    }

    fn letters(&mut self) {
        // A dead letter whose retry was killed between the send and the table may be retried twice.
        self.until_it_ends(&["deadletters", "retry", "--all"], &[0]);
        self.until_it_ends(&["run", "--quiet"], &[0, 2, 50]);
        self.until_it_ends(&["deadletters", "discard", "--all", "--reason", "nobody can open it"], &[0]);
    }

    fn restore(&mut self) {
        self.until_it_ends(&["restore", "library", "maps", "--from", "2", "back", "--overwrite"], &[0, 2]);
    }

    pub(super) fn accounts() -> impl Iterator<Item = (String, String)> {
        ACCOUNTS.iter().map(|account| (format!("{account}-one"), format!("{account}-two")))
    }
}

const MIRROR: &[&str] = &["mirror", "library-one/photos", "mirrored", "--quiet", "--remove-vanished"];
const WORK: &[&str] = &["work", "--workers", "32"];

/// Processes that work at the same time. One that dies is started again.
struct Fleet<'a> {
    running: Vec<(&'a [&'a str], Child)>,
}

impl<'a> Fleet<'a> {
    fn start(job: &Job, all: &[&'a [&'a str]]) -> Self {
        Self { running: all.iter().map(|args| (*args, job.command(args).spawn().unwrap())).collect() }
    }

    /// Checks which processes have ended.
    fn look(&mut self, job: &mut Job) {
        let mut still = Vec::new();
        for (args, mut child) in self.running.drain(..) {
            match child.try_wait().unwrap() {
                None => still.push((args, child)),
                Some(status) if job.died(status) => still.push((args, job.command(args).spawn().unwrap())),
                Some(status) => job.ended_as_expected(args, status, &[0, 2]),
            }
        }
        self.running = still;
    }

    /// Asks all to stop, this many times.
    fn ask_to_stop(&self, times: u32) {
        for _ in 0..times {
            for (_, child) in &self.running {
                let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait(mut self, job: &mut Job) {
        for (args, mut child) in self.running.drain(..) {
            let status = child.wait().unwrap();
            // A process that is told to stop before it handles signals dies of the signal.
            if !job.died(status) && status.signal() != Some(15) {
                job.ended_as_expected(args, status, &[0, 2, 50]);
            }
        }
    }
}
