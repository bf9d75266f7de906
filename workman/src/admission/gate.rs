//! One store's permits, or one account's slots, and when the turn of a waiting task comes.
//!
//! The turn is estimated from the rate at which tasks of the store end here. Where no task ends here, since the cap is not known
//! or other workmen have all permits (also dead ones, until their permits run out), the rate says nothing. Then a task that comes
//! in vain goes away for about as long as that has lasted, up to a minute: for twice as long each time, until a task begins.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use mill_model::Monotonic;

/// The shortest and the longest estimate of a turn; a task is away for about half of it. A longer maximum makes a long backlog
/// cost fewer requests, and a raised cap be used in full later.
pub(super) const TURN_MIN: Duration = Duration::from_secs(1);
pub(super) const TURN_MAX: Duration = Duration::from_mins(20);
/// How long a task that was put back until its turn is away at most: three quarters of the longest estimate.
pub const AWAY_MAX: Duration = Duration::from_mins(15);
/// The longest estimate without a rate. A task is away for at most three quarters of it, and an eighth of that longer to come in
/// one batch with others: less than a minute.
const BLIND_TURN_MAX: Duration = Duration::from_secs(70);
/// How long a task is taken to need until one has ended.
const FIRST_GUESS: Duration = Duration::from_secs(1);

/// When a task that cannot begin now may be able to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TurnEstimate {
    pub(crate) after: Duration,
    /// Whether there was no rate to estimate from.
    pub(crate) is_blind: bool,
}

impl TurnEstimate {
    /// An estimate from the rate.
    pub(crate) fn after(after: Duration) -> Self {
        Self { after, is_blind: false }
    }
}

#[derive(Debug)]
pub(super) struct CapacityGate {
    /// Most tasks at once; `None` for no limit.
    pub(super) cap: Option<NonZeroU32>,
    /// Since when the cap is a guess.
    pub(super) unknown_since: Option<Monotonic>,
    /// How many of these tasks may be this workman's.
    pub(super) permits: u32,
    /// Tasks that use it now.
    pub(super) in_use: u32,
    /// Tasks on the bench that need it.
    pub(super) benched: u32,
    /// How many requeued tasks come again, by the second in which they do.
    pub(super) requeued: BTreeMap<u64, u32>,
    /// When the first task was requeued since the last one began, if others had all permits then.
    blocked_since: Option<Monotonic>,
    /// How long a task takes, on average.
    pub(super) mean: Option<Duration>,
    /// When the last task ended.
    last_ended: Monotonic,
}

impl CapacityGate {
    pub(super) fn new(permits: u32, now: Monotonic) -> Self {
        Self {
            cap: None,
            unknown_since: None,
            permits,
            in_use: 0,
            benched: 0,
            requeued: BTreeMap::new(),
            blocked_since: None,
            mean: None,
            last_ended: now,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.cap.is_none_or(|cap| self.in_use < cap.get().min(self.permits))
    }

    /// How many tasks may wait here: twice as many as may begin, and one receive more.
    pub(super) fn bench_max(&self, batch: u32) -> u32 {
        self.cap.map_or(u32::MAX, |cap| cap.get().saturating_mul(2).saturating_add(batch))
    }

    /// When the turn of one more task comes: the first moment by which all tasks before it are done.
    pub(super) fn estimate_turn(&mut self, now: Monotonic) -> TurnEstimate {
        let blind = self.blind_turn(now);
        let by_rate = self.turn_by_rate(now);
        match blind {
            // Tasks that cannot do anything say nothing about the rate, and all may begin once the cap is known.
            Some(blind) if self.unknown_since.is_some() || blind >= by_rate => {
                TurnEstimate { after: blind, is_blind: true }
            }
            _ => TurnEstimate::after(by_rate),
        }
    }

    fn turn_by_rate(&mut self, now: Monotonic) -> Duration {
        let Some(cap) = self.cap else { return TURN_MIN };
        let each = self.mean.unwrap_or(FIRST_GUESS) / cap.get();
        // Where no task has ended for longer than that, tasks take longer than before.
        let each = if self.in_use > 0 { each.max(now.since(self.last_ended)) } else { each };
        let second = now.since_origin().as_secs();
        self.requeued = self.requeued.split_off(&second);
        let mut turn = each.max(TURN_MIN);
        let mut before = 0_u32;
        for (due, tasks) in &self.requeued {
            // Each task comes again after half of its turn.
            if (due - second) * 2 > turn.as_secs() || turn >= TURN_MAX {
                break;
            }
            before += tasks;
            turn = turn.max(each.saturating_mul(before + 1));
        }
        turn.min(TURN_MAX)
    }

    /// The turn where there has been no rate for a while.
    fn blind_turn(&mut self, now: Monotonic) -> Option<Duration> {
        if self.in_use == 0 && !self.has_room() {
            self.blocked_since.get_or_insert(now);
        }
        let since = [self.unknown_since, self.blocked_since].into_iter().flatten().min();
        since.map(|since| (now.since(since) * 2).clamp(TURN_MIN, BLIND_TURN_MAX))
    }

    /// Notes that a task begins.
    pub(super) fn note_begun(&mut self) {
        self.in_use += 1;
        self.blocked_since = None;
    }

    /// Notes that a task came. If none waited here, earlier requeued tasks are long past.
    pub(super) fn note_arrival(&mut self) {
        self.blocked_since = self.blocked_since.filter(|_| self.benched > 0);
    }

    pub(super) fn note_ended(&mut self, took: Duration, now: Monotonic) {
        self.in_use = self.in_use.saturating_sub(1);
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 3 + took) / 4));
        self.last_ended = now;
    }
}
