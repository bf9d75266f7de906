//! One store's permits, or one account's slots; and when the turn of a task comes that waits for them.
//!
//! The turn is by_rate from how fast tasks of the store end here. Where none ends here, since its cap is not known or others
//! have all permits (the living, or the dead until theirs run out), nothing tells when it comes: then what comes for nothing is
//! away for about as long as that has lasted, up to a minute: so for twice as long each time. Once one begins, that is over.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use mill_model::Monotonic;

/// The shortest and the longest time that is taken for a task's turn; it is away for about half of it. The longer it may be,
/// the fewer requests a long backlog costs, and the later a raised cap is used in full.
pub(super) const TURN_MIN: Duration = Duration::from_secs(1);
pub(super) const TURN_MAX: Duration = Duration::from_mins(20);
/// The longest where no turn can be by_rate. A task is away for three quarters of it at most and waits for company for an eighth
/// of that, which is less than a minute.
const BLIND_TURN_MAX: Duration = Duration::from_secs(70);
/// How long a task of a store takes, until one has ended.
const FIRST_GUESS: Duration = Duration::from_secs(1);

/// When a task may be able to begin that cannot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TurnEstimate {
    pub(crate) after: Duration,
    /// Whether nothing tells.
    pub(crate) is_blind: bool,
}

impl TurnEstimate {
    /// One that is by_rate.
    pub(crate) fn after(after: Duration) -> Self {
        Self { after, is_blind: false }
    }
}

#[derive(Debug)]
pub(super) struct CapacityGate {
    /// Most tasks at once; `None` for no limit.
    pub(super) cap: Option<NonZeroU32>,
    /// Since when its cap is a guess.
    pub(super) unknown_since: Option<Monotonic>,
    /// How many of them are this workman's.
    pub(super) permits: u32,
    /// Tasks that use it now.
    pub(super) in_use: u32,
    /// Tasks on the bench that need it.
    pub(super) benched: u32,
    /// Tasks that were put back for it and come again later, by the second in which they do.
    pub(super) requeued: BTreeMap<u64, u32>,
    /// When the first task was put back since the last began, if one was while others had all permits.
    blocked_since: Option<Monotonic>,
    /// How long a task takes, on average.
    pub(super) mean: Option<Duration>,
    /// When the last task of it ended.
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

    /// How many tasks may wait for it: twice as many as may begin, and what one receive may bring.
    pub(super) fn bench_max(&self, batch: u32) -> u32 {
        self.cap.map_or(u32::MAX, |cap| cap.get().saturating_mul(2).saturating_add(batch))
    }

    /// When the turn of one more comes: the first moment by which all that come before it have been done.
    pub(super) fn estimate_turn(&mut self, now: Monotonic) -> TurnEstimate {
        let blind = self.blind_turn(now);
        let by_rate = self.turn_by_rate(now);
        match blind {
            // How long tasks take that cannot do anything says nothing, and once the cap is known all may begin.
            Some(blind) if self.unknown_since.is_some() || blind >= by_rate => {
                TurnEstimate { after: blind, is_blind: true }
            }
            _ => TurnEstimate::after(by_rate),
        }
    }

    fn turn_by_rate(&mut self, now: Monotonic) -> Duration {
        let Some(cap) = self.cap else { return TURN_MIN };
        let each = self.mean.unwrap_or(FIRST_GUESS) / cap.get();
        // Where nothing has ended for longer than that, it takes longer than before.
        let each = if self.in_use > 0 { each.max(now.since(self.last_ended)) } else { each };
        let second = now.since_origin().as_secs();
        self.requeued = self.requeued.split_off(&second);
        let mut turn = each.max(TURN_MIN);
        let mut before = 0_u32;
        for (due, tasks) in &self.requeued {
            // Each is back at half of its time.
            if (due - second) * 2 > turn.as_secs() || turn >= TURN_MAX {
                break;
            }
            before += tasks;
            turn = turn.max(each.saturating_mul(before + 1));
        }
        turn.min(TURN_MAX)
    }

    /// The turn where there has been nothing to reckon by for a while.
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

    /// Notes that a task came while none waited: whatever was put back for it before is long past.
    pub(super) fn note_arrival(&mut self) {
        self.blocked_since = self.blocked_since.filter(|_| self.benched > 0);
    }

    pub(super) fn note_ended(&mut self, took: Duration, now: Monotonic) {
        self.in_use = self.in_use.saturating_sub(1);
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 3 + took) / 4));
        self.last_ended = now;
    }
}
