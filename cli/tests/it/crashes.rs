//! Processes that die at each of the named points: nothing is lost, no copy is wrong, nothing is left behind.
//!
//! Each trial takes a world with all kinds of pending work, runs one [stage](Stage) of the job into a point, runs it
//! again without a crash, brings everything in sync, and checks the result with other tools. `MILL_CRASHES=25` runs
//! this many trials of each point; the short form runs one. `MILL_CRASH_POINT=name` tries one point alone.

mod check;
mod job;
mod template;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use mill_hooks::CrashPoint;
use parking_lot::Mutex;

use self::job::{Armed, Job, Stage};
use self::template::Template;
use crate::crash_points;
use crate::kills::{Dice, seed};

/// Concurrent trials: a trial mostly waits, above all for leases of killed processes to lapse.
const AT_ONCE: usize = 8;
/// How often a trial is repeated if its point was not passed often enough this time.
const TRIES: u32 = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// How often each stage passes each point, counted in one run without a crash.
type Passings = BTreeMap<(CrashPoint, Stage), u64>;

fn profile(template: &Template) -> Passings {
    let passings = Mutex::new(Passings::new());
    at_once(&Stage::ALL, |stage| {
        let mut job = Job::new(template);
        let log = job.log_passings();
        job.run(*stage);
        job.finish(*stage);
        for name in std::fs::read_to_string(log).unwrap().lines() {
            let point = crash_points::all().into_iter().find(|point| point.name() == name).unwrap();
            *passings.lock().entry((point, *stage)).or_default() += 1;
        }
    });
    passings.into_inner()
}

fn at_once<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(all.len()) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

/// One trial: the point, the stage, and the number of the pass.
fn trial(template: &Template, passings: &Passings, point: CrashPoint, dice: &mut Dice) -> u64 {
    let stages: Vec<(Stage, u64)> = passings
        .iter()
        .filter(|((passed, _), _)| *passed == point)
        .map(|((_, stage), count)| (*stage, *count))
        .collect();
    for attempt in 0..TRIES {
        let (stage, count) = stages[dice.roll(stages.len() as u64) as usize];
        // The number of passes differs from run to run: an earlier pass is more certain.
        let armed = Armed { point, nth: 1 + dice.roll((count >> (attempt * 2)).max(1)) };
        let _told = ToldWhenItFails { armed, stage };
        let mut job = Job::new(template);
        job.arm(armed);
        job.run(stage);
        let killed = job.killed();
        job.finish(stage);
        check::all(&job, stage);
        if killed > 0 {
            return killed;
        }
    }
    0
}

/// Prints the trial that failed.
struct ToldWhenItFails {
    armed: Armed,
    stage: Stage,
}

impl Drop for ToldWhenItFails {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Armed { point, nth } = self.armed;
            eprintln!("in a trial with {:?} armed with {}:{nth}", self.stage, point.name());
        }
    }
}

fn table(hits: &BTreeMap<CrashPoint, u64>) -> String {
    let mut table = String::new();
    for (point, hits) in hits {
        let _ = writeln!(table, "{:<32} {hits:>5}", point.name());
    }
    table
}

#[test]
fn nothing_is_lost_wherever_a_process_dies() {
    let (each, seed, only) = (number("MILL_CRASHES", 1), seed(), std::env::var("MILL_CRASH_POINT").ok());
    let template = Template::new();
    let passings = profile(&template);
    let wanted = |point: &CrashPoint| only.as_ref().is_none_or(|only| *only == point.name());
    let passed = |point: &CrashPoint| passings.keys().any(|(passed, _)| passed == point);
    let all = crash_points::all();
    let points: Vec<CrashPoint> = all.iter().copied().filter(wanted).collect();
    let unpassed: Vec<&str> = points.iter().filter(|point| !passed(point)).map(|point| point.name()).collect();
    assert_eq!(unpassed, Vec::<&str>::new(), "points that no stage of the job passes");

    let trials: Vec<(CrashPoint, u64)> =
        (0..each).flat_map(|round| points.iter().map(move |point| (*point, round))).collect();
    let hits = Mutex::new(points.iter().map(|point| (*point, 0)).collect::<BTreeMap<_, u64>>());
    let failed = AtomicUsize::new(0);
    at_once(&trials, |(point, round)| {
        let nth = all.iter().position(|other| other == point).unwrap() as u64;
        let mut dice = Dice((seed ^ (nth << 32) ^ (round << 48)) | 1);
        // A failure is printed at once, and the other trials go on.
        match catch_unwind(AssertUnwindSafe(|| trial(&template, &passings, *point, &mut dice))) {
            Ok(killed) => *hits.lock().entry(*point).or_default() += killed,
            Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
        }
    });
    let hits = hits.into_inner();
    println!("{}{} kills at {} points", table(&hits), hits.values().sum::<u64>(), hits.len());
    assert_eq!(failed.into_inner(), 0, "trials failed, as told above");
    let missed = hits.iter().filter(|(_, hits)| **hits < each);
    let missed: Vec<&str> = missed.map(|(point, _)| point.name()).collect();
    assert_eq!(missed, Vec::<&str>::new(), "points that were not hit as often as they were to be");
}
