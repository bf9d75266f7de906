//! Runs many seeds on several threads, each with a runtime of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mill_hooks::planted_bugs::{PlantedBug, plant};
use parking_lot::Mutex;

use super::fault::FaultCounts;
use super::seed::{self, Outcome};

/// Which seeds are run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The first.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads.
    pub threads: u64,
    /// With which bug on purpose.
    pub planted: Option<PlantedBug>,
    /// Whether the first violation ends it.
    pub stops: bool,
}

/// The totals of many seeds.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// Deliveries of tasks.
    pub deliveries: u64,
    /// Events of all traces.
    pub events: u64,
    /// The simulated time of all worlds.
    pub virtual_time: Duration,
    /// How often each fault struck.
    pub faults: FaultCounts,
    /// The outcomes in which a promise was broken, by seed.
    pub violations: Vec<Outcome>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.deliveries += outcome.deliveries;
        self.events += outcome.events;
        self.virtual_time += outcome.virtual_time;
        self.faults.add(&outcome.faults);
        if outcome.violation.is_some() {
            self.violations.push(outcome);
        }
    }
}

impl Campaign {
    /// Runs all seeds. Calls `progress` with the number of seeds done.
    pub fn run(&self, progress: &(dyn Fn(u64) + Sync)) -> Tally {
        let (next, over) = (AtomicU64::new(self.from), AtomicBool::new(false));
        let tally = Mutex::new(Tally::default());
        let end = self.from.saturating_add(self.seeds);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    plant(self.planted);
                    while !over.load(Relaxed) {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= end {
                            break;
                        }
                        let outcome = seed::run(seed, false);
                        if self.stops && outcome.violation.is_some() {
                            over.store(true, Relaxed);
                        }
                        let mut tally = tally.lock();
                        tally.add(outcome);
                        progress(tally.seeds);
                    }
                });
            }
        });
        let mut tally = tally.into_inner();
        tally.violations.sort_by_key(|outcome| outcome.seed);
        tally
    }
}

/// Runs each seed twice, and returns the first one whose two traces differ.
pub fn replay(from: u64, seeds: u64) -> Option<u64> {
    (from..from + seeds).find(|seed| {
        let (one, other) = (seed::run(*seed, false), seed::run(*seed, false));
        (one.trace_hash, one.events) != (other.trace_hash, other.events)
    })
}
