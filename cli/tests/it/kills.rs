//! Processes killed with SIGKILL at random moments. `MILL_KILLS=1000` runs the long form; the short form always runs.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, wait_for_handler, walk};

/// A small random generator, so that a failing run can be repeated by its seed.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

pub(crate) fn kills() -> u64 {
    std::env::var("MILL_KILLS").map_or(10, |number| number.parse().unwrap())
}

pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MILL_SEED").map_or_else(
        |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
        |number| number.parse().unwrap(),
    );
    eprintln!("MILL_SEED={seed}");
    seed
}

/// How many files in an in-progress folder a process has open: copies that are begun and not complete.
fn open_copies(pid: u32) -> usize {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    fds.filter_map(Result::ok)
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|target| target.to_string_lossy().contains("/.mill-in-progress/") && target.is_file())
        .count()
}

/// Stops a process, counts its open copies, and kills it.
fn kill(child: &mut Child) -> usize {
    let pid = child.id();
    let _ = Command::new("kill").args(["-STOP", &pid.to_string()]).status();
    let open = open_copies(pid);
    child.kill().unwrap();
    child.wait().unwrap();
    open
}

/// Files of this many rounds exist at a time; then old ones are overwritten, so that a long run needs no large disk.
const ROUNDS_KEPT: u64 = 8;

/// Writes some files, new ones and others over old ones, small and large.
pub(crate) fn people_work(folder: &Path, dice: &mut Dice, round: u64) {
    for n in 0..30 {
        let folder = folder.join(format!("box {}", dice.roll(5)));
        fs::create_dir_all(&folder).unwrap();
        let name = format!("file {} {}", if dice.roll(3) == 0 { 0 } else { round % ROUNDS_KEPT }, n);
        let size = if dice.roll(10) < 3 { dice.roll(6 << 20) } else { dice.roll(9_000) };
        let mut file = fs::File::create(folder.join(name)).unwrap();
        file.write_all(&vec![dice.roll(251) as u8; size as usize]).unwrap();
    }
}

fn set_up(world: &World) {
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    fs::create_dir_all(world.path("one/photos")).unwrap();
}

fn spawn(world: &World, args: &[&str]) -> Child {
    let log = fs::File::options().create(true).append(true).open(world.path("log")).unwrap();
    let mut command = world.command();
    command.args(args).stdout(Stdio::null()).stderr(log);
    // Tasks of killed processes come back soon, so that the test need not wait a minute for each.
    command.env("MILL_WORKMAN_VISIBILITY", "5s");
    command.spawn().unwrap()
}

#[test]
fn nothing_is_lost_when_producers_and_workmen_are_killed() {
    let world = World::new();
    let mut dice = Dice(seed());
    set_up(&world);
    let mut workmen: Vec<Child> = (0..3).map(|_| spawn(&world, &["work", "--workers", "16"])).collect();
    let (mut with_open, mut of_producers, mut of_workmen) = (0_u64, 0_u64, 0_u64);
    let mut round = 0;
    while of_producers + of_workmen < kills() {
        round += 1;
        people_work(&world.path("one/photos"), &mut dice, round);
        let mut producer = spawn(&world, &["produce", "duplication", "--now"]);
        if dice.roll(5) == 0 {
            std::thread::sleep(Duration::from_millis(dice.roll(60)));
            if producer.try_wait().unwrap().is_none() {
                kill(&mut producer);
                of_producers += 1;
            }
            continue;
        }
        let until = Instant::now() + Duration::from_secs(3);
        let mut victim = dice.roll(3) as usize;
        // Mostly while a copy is open, sometimes at any moment at all.
        let wait_for_copy = dice.roll(10) != 0;
        std::thread::sleep(Duration::from_millis(dice.roll(40)));
        while wait_for_copy && Instant::now() < until && open_copies(workmen[victim].id()) == 0 {
            victim = (victim + 1) % workmen.len();
        }
        with_open += u64::from(kill(&mut workmen[victim]) > 0);
        of_workmen += 1;
        workmen[victim] = spawn(&world, &["work", "--workers", "16"]);
        producer.wait().unwrap();
    }
    for workman in &mut workmen {
        // A process that has only just started would die of the signal.
        wait_for_handler(workman, 15);
        let _ = Command::new("kill").args(["-TERM", &workman.id().to_string()]).status();
        assert!(workman.wait().unwrap().success(), "{}", fs::read_to_string(world.path("log")).unwrap());
    }
    println!("{of_workmen} workmen and {of_producers} producers killed, {with_open} with a copy open; {round} rounds");
    assert!(with_open * 2 > of_workmen, "too few of the killed had a copy open: {with_open} of {of_workmen}");

    let mut last = world.command();
    last.args(["run", "--json"]).env("MILL_WORKMAN_VISIBILITY", "5s");
    let ran = crate::world::Ran::of(last.output().unwrap()).expect(0);
    assert_eq!(ran.json()["dead_lettered"], 0);
    world.same("one", "two");
    assert_eq!(world.stamps("one"), world.stamps("two"));
    assert!(!walk(&world.path("two")).iter().any(|path| path.to_string_lossy().contains(".mill")), "a stray file");
    world.databases_are_whole();
    let letters = world.mill(&["deadletters", "list", "--json"]).expect(0);
    assert_eq!(letters.out, "", "nothing was given up");
}

/// An installation whose tasks in flight stay hidden for ten minutes, with a source.
fn with_a_long_visibility(sizes: &[usize]) -> World {
    let world = World::new();
    set_up(&world);
    for (n, size) in sizes.iter().enumerate() {
        world.write(&format!("one/photos/{n}"), vec![n as u8; *size]);
    }
    world
}

fn spawn_patient(world: &World, args: &[&str], crash_at: Option<&str>) -> Child {
    let log = fs::File::options().create(true).append(true).open(world.path("log")).unwrap();
    let mut command = world.command();
    command.args(args).stdout(Stdio::null()).stderr(log).env("MILL_WORKMAN_VISIBILITY", "10m");
    command.envs(crash_at.map(|point| ("MILL_CRASH_AT", point)));
    command.spawn().unwrap()
}

/// Waits for the end of what would take ten minutes if it waited for a timeout.
#[track_caller]
fn ends_without_waiting(mut child: Child, world: &World) {
    let until = Instant::now() + Duration::from_mins(3);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            let log = fs::read_to_string(world.path("log")).unwrap();
            assert_eq!(status.code(), Some(0), "{log}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it waits: {}", fs::read_to_string(world.path("log")).unwrap());
}

#[test]
fn a_run_after_a_killed_one_waits_for_nothing_that_the_dead_held() {
    for point in ["workman-received", "workman-before-acknowledge", "producer-nibble-sent"] {
        let world = with_a_long_visibility(&[100; 20]);
        let mut killed = spawn_patient(&world, &["run", "--quiet"], Some(point));
        assert_eq!(killed.wait().unwrap().signal(), Some(9), "{point}");
        ends_without_waiting(spawn_patient(&world, &["run", "--quiet"], None), &world);
        world.same("one", "two");
    }
}

#[test]
fn producers_that_stay_are_killed_and_every_copy_arrives() {
    let world = with_a_long_visibility(&[100; 30]);
    let stay = ["produce", "duplication", "--stay"];
    for point in ["producer-leased", "producer-run-begun", "producer-morsels-added", "producer-nibble-sent"] {
        let mut killed = spawn_patient(&world, &stay, Some(point));
        assert_eq!(killed.wait().unwrap().signal(), Some(9), "{point}");
    }
    let mut two: Vec<Child> = (0..2).map(|_| spawn_patient(&world, &stay, None)).collect();
    let mut workman = spawn_patient(&world, &["work"], None);
    let until = Instant::now() + Duration::from_mins(2);
    while !world.diff("one/photos", "two/photos").is_empty() {
        assert!(Instant::now() < until, "{}", fs::read_to_string(world.path("log")).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    for process in two.iter_mut().chain([&mut workman]) {
        assert!(process.try_wait().unwrap().is_none(), "it stays");
        let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        assert_eq!(process.wait().unwrap().code(), Some(0), "it ends gently");
    }
}

#[test]
fn what_a_killed_child_held_goes_on_in_the_others_and_nothing_of_it_stays() {
    let world = with_a_long_visibility(&[40 << 20; 8]);
    let run = spawn_patient(&world, &["run", "--quiet", "--processes", "2"], None);
    let until = Instant::now() + Duration::from_mins(1);
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let busy = loop {
        let pids = fs::read_to_string(&children).unwrap();
        let busy = pids.split_whitespace().map(|pid| pid.parse().unwrap()).find(|pid| open_copies(*pid) > 0);
        if let Some(pid) = busy {
            break pid.to_string();
        }
        assert!(Instant::now() < until, "no child copies anything");
    };
    let status = Command::new("kill").args(["-KILL", &busy]).status().unwrap();
    assert!(status.success());
    ends_without_waiting(run, &world);
    world.same("one", "two");
    assert!(!world.path("two/.mill-in-progress").exists(), "a stray folder");
}

#[test]
fn a_killed_mirror_goes_on_where_it_was() {
    let world = World::new();
    let mut dice = Dice(seed());
    fs::create_dir_all(world.path("src")).unwrap();
    for round in 0..4 {
        people_work(&world.path("src"), &mut dice, round);
    }
    world.age("src");
    let mut with_open = 0;
    for _ in 0..kills().div_ceil(2) {
        let mut child = spawn(&world, &["mirror", "src", "dst", "--quiet"]);
        let until = Instant::now() + Duration::from_secs(2);
        std::thread::sleep(Duration::from_millis(dice.roll(30)));
        while Instant::now() < until && open_copies(child.id()) == 0 && child.try_wait().unwrap().is_none() {}
        with_open += usize::from(kill(&mut child) > 0);
        people_work(&world.path("src"), &mut dice, 9);
    }
    println!("{with_open} of {} killed with a copy open", kills().div_ceil(2));
    world.mirror(&[]).expect(0);
    world.same("src", "dst");
    assert!(!world.path("dst/.mill-in-progress").exists(), "a stray folder");
    world.databases_are_whole();
    // What was copied before the kills was not copied again at the end.
    world.age("src");
    world.mirror(&[]).expect(0);
    world.mirror(&["--detailed-exit-code"]).expect(1);
}
