//! The settings that a seed draws for its world (swarm testing): sizes, habits, which faults are on and how often. A world with
//! few faults goes deeper into each than one with all of them.
//!
//! The drawn settings are the first line of a trace: a renamed field changes the hash of every trace.

use std::time::Duration;

use mill_records::delete_lists::DeleteThresholds;

use super::rng::SimRng;

/// The rate of each fault, in a thousand calls; zero if the fault is off in this world.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Of a thousand processes, how many die at an await.
    pub(crate) killed: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
    pub(crate) queue: u32,
    pub(crate) queue_done: u32,
    pub(crate) partial: u32,
    pub(crate) partial_done: u32,
    pub(crate) table: u32,
    pub(crate) table_done: u32,
    pub(crate) store: u32,
    pub(crate) store_done: u32,
    /// Of a thousand writes, how many reach only the cache of the destination.
    pub(crate) write_back: u32,
    pub(crate) slow: u32,
    /// Of a thousand answers, after how many the process freezes for longer than its leases last.
    pub(crate) frozen: u32,
    pub(crate) listing: u32,
    /// Of a thousand pages of a producer's listings, how many take up to an hour.
    pub(crate) silent: u32,
    pub(crate) broken: u32,
    pub(crate) truncated: u32,
    pub(crate) flipped: u32,
    /// Of a thousand critical moments, in how many a user acts (`targeted_races`).
    pub(crate) spite: u32,
    /// Of a thousand failures, how many are `Unavailable`.
    pub(crate) unavailable: u32,
}

/// The weights of the acts of `chaos`; zero if an act is off.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acts {
    pub(crate) people: u32,
    pub(crate) people_many: u32,
    pub(crate) spaces: u32,
    pub(crate) mounts: u32,
    pub(crate) policies: u32,
    pub(crate) policies_broken: u32,
    pub(crate) stores: u32,
    pub(crate) storms: u32,
    pub(crate) clocks: u32,
    pub(crate) kills: u32,
    pub(crate) frozen: u32,
    pub(crate) starved: u32,
    pub(crate) purges: u32,
    pub(crate) strange: u32,
    pub(crate) letters: u32,
    pub(crate) confirms: u32,
    pub(crate) stops: u32,
    pub(crate) deaf: u32,
}

/// The settings of one world.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is a habit drawn by itself
pub(crate) struct Swarm {
    pub(crate) accounts: u64,
    pub(crate) spaces: u64,
    pub(crate) items_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) workmen: u64,
    pub(crate) workers: u32,
    pub(crate) producers: u64,
    pub(crate) phases: u64,
    pub(crate) acts: u64,
    pub(crate) pause_max: Duration,
    pub(crate) nights: bool,
    pub(crate) nibble: usize,
    pub(crate) queue_max: u64,
    /// From one run of an account to its next; zero if each session begins one.
    pub(crate) frequency: Duration,
    /// Whether processes learn at once which others are dead, as on one host.
    pub(crate) same_host: bool,
    pub(crate) visibility: Duration,
    pub(crate) failures_max: u32,
    pub(crate) receives_max: u32,
    /// Both as on one host, or both as on a fleet.
    pub(crate) linger: Duration,
    pub(crate) recheck: Duration,
    pub(crate) refresh: Duration,
    pub(crate) latency_max: Duration,
    pub(crate) piece: usize,
    pub(crate) page: usize,
    pub(crate) source_checksums: u64,
    pub(crate) destination_checksums: u64,
    pub(crate) snapshots: bool,
    pub(crate) properties_listed: bool,
    pub(crate) settles: bool,
    pub(crate) short_receives: u32,
    /// Whether reading policies never fails and is fast. Then the use of an old policy is judged strictly.
    pub(crate) policies_quiet: bool,
    /// Whether probe tasks are sent too.
    pub(crate) errands: bool,
    /// Which scripted check runs at the end, if any.
    pub(crate) drill: Option<u64>,
    /// Whether the operator confirms the held deletes at the end.
    pub(crate) confirms: bool,
    /// The thresholds of held deletes, scaled to the size of the world so that it reaches them.
    pub(crate) thresholds: DeleteThresholds,
    pub(crate) rates: Rates,
    pub(crate) on: Acts,
    /// Whether all stores belong to one service, which copies items between them on the server side.
    pub(crate) one_service: bool,
    /// Of a thousand policies, how many cap their stores.
    pub(crate) capped: u32,
    /// Whether queues refuse some entries each time.
    pub(crate) refuses: bool,
    /// How long a body may stay in flight in all.
    pub(crate) held_max: Duration,
    /// The most bodies of one receive.
    pub(crate) batch: u32,
    /// Whether destinations fold names that differ in case or normal form, and users give such names.
    pub(crate) folds: bool,
}

/// Draws a rate with a chance of two in five, else zero.
fn rate(rng: &SimRng, most: u64) -> u32 {
    if rng.below(5) < 2 { rng.between(1, most) as u32 } else { 0 }
}

fn weight(rng: &SimRng) -> u32 {
    if rng.below(5) < 2 { rng.between(1, 6) as u32 } else { 0 }
}

impl Swarm {
    pub(crate) fn draw(rng: &SimRng) -> Self {
        let seconds = Duration::from_secs;
        let large = rng.below(20) == 0;
        let visibility = *rng.pick(&[seconds(60), seconds(300), seconds(600)]);
        let errands = rng.below(5) < 2;
        let (linger, recheck) = *rng.pick(&[(2, 0), (100, 1_000)]);
        Self {
            accounts: 1 + u64::from(rng.below(3) == 0),
            spaces: rng.between(1, 2),
            items_max: if large { 40 } else { rng.between(2, 7) },
            bytes_max: *rng.pick(&[0, 9, 60, 300]),
            workmen: rng.between(1, 3),
            workers: rng.between(1, 6) as u32,
            producers: rng.between(1, 2),
            phases: rng.between(1, 2),
            acts: rng.between(10, 38),
            pause_max: *rng.pick(&[seconds(5), seconds(60), seconds(300)]),
            nights: rng.below(3) == 0,
            nibble: *rng.pick(&[1, 3, 1000]),
            queue_max: *rng.pick(&[8, 10_000, 10_000]),
            same_host: rng.below(2) == 0,
            visibility,
            failures_max: rng.between(1, 3) as u32,
            receives_max: *rng.pick(&[5, 10]),
            linger: Duration::from_millis(linger),
            recheck: Duration::from_millis(recheck),
            refresh: *rng.pick(&[seconds(0), seconds(5), seconds(30)]),
            latency_max: *rng.pick(&[Duration::from_millis(2), Duration::from_millis(50), seconds(2)]),
            piece: *rng.pick(&[7, 64, 16 << 10]),
            page: *rng.pick(&[2, 3, 7]),
            source_checksums: rng.below(4),
            destination_checksums: rng.below(4),
            snapshots: rng.below(2) == 0,
            properties_listed: rng.below(2) == 0,
            settles: rng.below(4) == 0,
            short_receives: *rng.pick(&[0, 200]),
            policies_quiet: rng.below(2) == 0,
            errands,
            drill: (rng.below(4) == 0).then(|| rng.next()),
            confirms: rng.below(2) == 0,
            thresholds: *rng.pick(&[
                DeleteThresholds::default(),
                DeleteThresholds { unasked_max: 3, few: 1, share_percent: 20, half_from: 4 },
                DeleteThresholds { unasked_max: 6, few: 2, share_percent: 50, half_from: u64::MAX },
            ]),
            rates: Self::rates(rng),
            on: Self::acts_on(rng, errands),
            one_service: rng.below(4) == 0,
            capped: *rng.pick(&[0, 500, 1000]),
            refuses: rng.below(4) == 0,
            held_max: *rng.pick(&[Duration::from_hours(12), visibility * 3, visibility * 3, visibility * 3]),
            batch: *rng.pick(&[2, 10]),
            folds: rng.below(5) < 3,
            frequency: *rng.pick(&[seconds(0), seconds(0), seconds(0), seconds(600)]),
        }
    }

    fn rates(rng: &SimRng) -> Rates {
        Rates {
            killed: rate(rng, 600),
            doubled: rate(rng, 200),
            late: rate(rng, 60),
            queue: rate(rng, 60),
            queue_done: rate(rng, 60),
            partial: rate(rng, 120),
            partial_done: rate(rng, 120),
            table: rate(rng, 40),
            table_done: rate(rng, 40),
            store: rate(rng, 60),
            store_done: rate(rng, 60),
            write_back: rng.between(0, 400) as u32,
            slow: rate(rng, 20),
            frozen: rate(rng, 12),
            listing: rate(rng, 150),
            silent: rate(rng, 20),
            broken: rate(rng, 80),
            truncated: rate(rng, 80),
            flipped: rate(rng, 80),
            spite: if rng.below(6) > 0 { rng.between(800, 1000) as u32 } else { 0 },
            unavailable: *rng.pick(&[0, 100, 500]),
        }
    }

    fn acts_on(rng: &SimRng, errands: bool) -> Acts {
        Acts {
            people: 4 + weight(rng),
            people_many: 1 + weight(rng),
            spaces: weight(rng),
            mounts: weight(rng),
            policies: weight(rng),
            policies_broken: weight(rng),
            stores: weight(rng),
            storms: weight(rng),
            clocks: weight(rng),
            kills: weight(rng),
            frozen: weight(rng),
            starved: weight(rng),
            purges: weight(rng),
            strange: weight(rng).max(u32::from(errands)),
            letters: rng.between(0, 4) as u32,
            confirms: rng.between(8, 20) as u32,
            stops: weight(rng),
            deaf: u32::from(rng.below(3) == 0),
        }
    }
}
