//! Which queue is polled next, for how many tasks, and how long none is polled. Decides only; does no IO.
//!
//! ```text
//!            slots free                    every queue polled, tasks found  
//! Between ──────────────► Round(queue 0…) ──────────────────────────────────► Between
//!    ▲                         │ nothing found: the lower queues are left alone for a while
//!    └──── Listening ◄─────────┘ (one long receive on the highest queue)
//! ```
//!
//! A *round* offers the free slots to the highest queue. The slots that it does not fill are offered to the next queue, and so
//! on. Slots that become free meanwhile wait for the next round, so that each is offered to the highest queue first. Where
//! requests cost, a round skips a higher queue that was empty a moment ago.
//!
//! While the lowest queue has more tasks than it may fill slots, a long receive [beside](listening) the rounds waits for tasks of
//! the higher queues, to fill the slots that are reserved for them.

mod listening;

use std::collections::BTreeSet;
use std::time::Duration;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::Monotonic;
use mill_ports::Backoff;

pub(crate) use self::listening::share_of;

/// The settings of a poller.
#[derive(Debug, Clone)]
pub(crate) struct PollSettings {
    pub(crate) workers: u32,
    /// Slots that the higher queues leave to the lowest.
    pub(crate) reserved: u32,
    /// Slots that the lowest queue leaves to the higher. At least one slot is in neither reserve.
    pub(crate) reserved_high: u32,
    pub(crate) idle_backoff: Vec<Duration>,
    pub(crate) poll_wait: Duration,
    /// How long free slots that make no full batch wait for others.
    pub(crate) batch_linger: Duration,
    /// How long a round skips a higher queue that was empty.
    pub(crate) recheck: Duration,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollStep {
    /// Receive up to `max` from the queue at `queue_index`, in several receives at once where one is not enough.
    Receive(PollRequest),
    /// The same, but the receive may take long, and [`Poller::next`] is called again meanwhile.
    Listen(PollRequest),
    /// Poll no queue before then, unless an attempt ends earlier.
    Wait { until: Monotonic },
    /// All slots are taken: poll no queue before an attempt ends.
    Full,
}

/// A receive to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PollRequest {
    pub(crate) queue_index: usize,
    pub(crate) max: u32,
    pub(crate) wait: Duration,
    pub(crate) sent_at: Monotonic,
    /// Whether rounds go on beside this receive.
    pub(crate) beside: bool,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiveSummary {
    pub(crate) received: u32,
    /// Whether any receive failed: then it is not known what the queue holds.
    pub(crate) failed: bool,
    /// Whether accounts were excluded, of which the queue may hold any number of tasks.
    pub(crate) excluded_any: bool,
    /// Whether the receive ended early, since other accounts are to be excluded now.
    pub(crate) woken: bool,
}

impl ReceiveSummary {
    /// Whether the queue seems to be empty.
    fn found_nothing(self) -> bool {
        self.received == 0 && !self.failed && !self.excluded_any && !self.woken
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Between,
    Round(Round),
    Listening,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    queue_index: usize,
    /// Free slots of this round not yet filled.
    offered: u32,
    seen: RoundFindings,
    /// Receives at once.
    width: u32,
}

/// What a round has found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RoundFindings {
    Nothing,
    /// A queue failed, or an account was excluded: there may be tasks.
    Trouble,
    Tasks,
}

/// What is known of one queue.
#[derive(Debug, Clone, Copy)]
struct QueueState {
    batch_max: u32,
    in_use: u32,
    errors: u32,
    retry_at: Option<Monotonic>,
    /// The queue was empty, and rounds skip it until then.
    empty_until: Option<Monotonic>,
    /// Whether it filled the last request: there may be more.
    has_more: bool,
}

/// Decides which receive is next.
#[derive(Debug)]
pub(crate) struct Poller {
    settings: PollSettings,
    queues: Vec<QueueState>,
    phase: Phase,
    busy: bool,
    /// Free slots held for a receive beside the rounds; zero while there is no such receive.
    held_for_listening: u32,
    /// Received tasks that wait for their stores.
    waiting: u32,
    /// Rounds in a row that found nothing anywhere, since there was a task.
    idle_rounds: usize,
    /// Whether there was one yet. Whoever starts a workman is about to send some, so it does not leave them for long before.
    has_worked: bool,
    /// The lower queues are left alone until then.
    low_until: Option<Monotonic>,
    /// Whether a queue failed in the last round, so that it may hold tasks.
    round_failed: bool,
    /// When tasks that were sent become visible.
    expected: BTreeSet<Monotonic>,
    /// A few free slots wait for more until then.
    gather_until: Option<Monotonic>,
    /// The highest queue answered without having waited; it is not polled again before then.
    pause_until: Option<Monotonic>,
    /// The same for receives beside the rounds.
    listen_beside_from: Option<Monotonic>,
}

/// The most points in time that are remembered.
const EXPECTED_MAX: usize = 4096;
/// The most receives at once.
const WIDTH_MAX: u32 = 4;
/// The least time between the beginnings of two long receives that find nothing.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest wait of a receive while anything is in flight or a queue has just failed, so that new or missed tasks are soon
/// received.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(1);
/// The pauses before a failed queue is polled again.
const ERROR_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
/// For a planted bug.
const HOURS: Duration = Duration::from_hours(6);

impl Poller {
    /// `batch_max` holds the limit of each queue, highest queue first; at least one.
    pub(crate) fn new(settings: PollSettings, batch_max: impl IntoIterator<Item = u32>) -> Self {
        let queue_state = |batch_max| QueueState {
            batch_max,
            in_use: 0,
            errors: 0,
            retry_at: None,
            empty_until: None,
            has_more: false,
        };
        let queues = batch_max.into_iter().map(queue_state).collect();
        Self {
            settings,
            queues,
            phase: Phase::Between,
            busy: false,
            held_for_listening: 0,
            waiting: 0,
            expected: BTreeSet::new(),
            idle_rounds: 0,
            has_worked: false,
            low_until: None,
            round_failed: false,
            gather_until: None,
            pause_until: None,
            listen_beside_from: None,
        }
    }

    /// Whether a task of the queue at `queue_index` that waits here may begin: a slot is free for it, and no higher queue has more.
    pub(crate) fn may_begin(&self, queue_index: usize) -> bool {
        // While the higher queues are listened to, their slots count as free; a task too many then waits for a slot.
        let (free, kept) = (self.unfilled(), self.reserved_free());
        let low = free.min(self.room_for_lowest());
        let higher_has_more = self.queues[..queue_index].iter().any(|higher| higher.has_more);
        match queue_index == self.lowest() {
            true if higher_has_more => low.min(kept) > 0,
            true => low > 0,
            false => free > kept && !higher_has_more,
        }
    }

    /// Notes that a waiting task begins.
    pub(crate) fn note_begun(&mut self, queue_index: usize) {
        self.queues[queue_index].in_use += 1;
        let free = self.free();
        if let Phase::Round(round) = &mut self.phase {
            round.offered = round.offered.min(free);
        }
    }

    /// Whether there are more tasks than slots: a slot was taken while the queues were listened to.
    pub(crate) fn has_too_many(&self) -> bool {
        self.in_use() > self.settings.workers
    }

    /// Notes how many tasks wait here; as many slots are left to them while the queues are listened to.
    pub(crate) fn note_waiting(&mut self, tasks: usize) {
        self.waiting = u32::try_from(tasks).unwrap_or(u32::MAX);
    }

    /// Notes that an attempt ended, or that a received task does not begin.
    pub(crate) fn note_freed(&mut self, queue_index: usize) {
        self.queues[queue_index].in_use = self.queues[queue_index].in_use.saturating_sub(1);
    }

    /// Notes that a task was sent that becomes visible at `at`: until then at most are the lower queues left alone.
    pub(crate) fn expect_task(&mut self, at: Monotonic) {
        self.expected.insert(at);
        if self.expected.len() > EXPECTED_MAX {
            self.expected.pop_last();
        }
    }

    /// Until when the lower queues are left alone.
    fn low_until(&self) -> Option<Monotonic> {
        self.low_until.map(|until| self.expected.first().map_or(until, |first| until.min(*first)))
    }

    /// The next step. A [`PollStep::Receive`] must be [noted](Self::note_received) before this is called again.
    ///
    /// `busy` says whether anything is in flight, whose follow-ups or retries may come at any moment.
    pub(crate) fn next(&mut self, now: Monotonic, busy: bool) -> PollStep {
        self.busy = busy;
        loop {
            match self.phase {
                Phase::Between => match self.before_round(now) {
                    Some(step) => return step,
                    None => self.begin_round(now),
                },
                Phase::Round(round) => match self.request_in(&round, now) {
                    Some(request) => return PollStep::Receive(request),
                    None => self.go_to_next_queue(round, now),
                },
                Phase::Listening => return self.listen(now),
            }
        }
    }

    /// Notes what came of a request.
    pub(crate) fn note_received(&mut self, request: &PollRequest, summary: ReceiveSummary, now: Monotonic) {
        let queue = &mut self.queues[request.queue_index];
        queue.in_use += summary.received;
        queue.has_more = summary.received >= request.max;
        if summary.failed {
            queue.errors = queue.errors.saturating_add(1);
            queue.retry_at = Some(now.plus(ERROR_BACKOFF.pause(queue.errors)));
        } else {
            (queue.retry_at, queue.errors) = (None, 0);
        }
        if summary.received > 0 {
            self.idle_rounds = 0;
            self.has_worked = true;
            self.low_until = None;
        }
        if request.beside {
            self.note_listened(request, summary, now);
            return;
        }
        match &mut self.phase {
            Phase::Round(round) => {
                round.offered = round.offered.saturating_sub(summary.received);
                if summary.received > 0 {
                    round.seen = RoundFindings::Tasks;
                } else if summary.excluded_any {
                    round.seen = round.seen.max(RoundFindings::Trouble);
                }
                round.width = (round.width * 2).min(WIDTH_MAX);
                queue.empty_until = summary.found_nothing().then(|| now.plus(self.settings.recheck));
                if summary.received < request.max {
                    let round = *round;
                    self.go_to_next_queue(round, now);
                }
            }
            Phase::Listening => {
                if summary.received > 0 {
                    queue.empty_until = None;
                }
                let early = now.since(request.sent_at) < PAUSE;
                let for_nothing = summary.received == 0 && early && !summary.woken;
                self.pause_until = for_nothing.then(|| request.sent_at.plus(PAUSE));
                self.phase = Phase::Between;
            }
            Phase::Between => {}
        }
    }

    /// Slots that a task has.
    pub(crate) fn in_use(&self) -> u32 {
        self.queues.iter().map(|queue| queue.in_use).sum()
    }

    fn lowest(&self) -> usize {
        self.queues.len() - 1
    }

    /// Waits for free slots, and for enough of them. Goes on listening while the lower queues are left alone.
    fn before_round(&mut self, now: Monotonic) -> Option<PollStep> {
        let free = self.free();
        if free == 0 {
            self.gather_until = None;
            return Some(PollStep::Full);
        }
        if free < self.settings.workers && free < self.queues[0].batch_max.min(self.settings.workers / 2) {
            let until = *self.gather_until.get_or_insert(now.plus(self.settings.batch_linger));
            if now < until {
                return Some(PollStep::Wait { until });
            }
        }
        self.gather_until = None;
        if let Some(until) = self.pause_until.filter(|until| now < *until) {
            return Some(PollStep::Wait { until });
        }
        self.pause_until = None;
        if self.low_until().is_some_and(|until| now < until) {
            self.phase = Phase::Listening;
            return Some(self.listen(now));
        }
        None
    }

    fn begin_round(&mut self, now: Monotonic) {
        // Only now, after the back-off, and after all tasks that are due.
        self.low_until = None;
        let later = self.expected.split_off(&now.plus(Duration::from_nanos(1)));
        if !std::mem::replace(&mut self.expected, later).is_empty() {
            for queue in &mut self.queues {
                queue.empty_until = None;
            }
        }
        let (free, batch_max) = (self.free(), self.queues[0].batch_max);
        // While other tasks are in flight, slots that make no full batch wait for the next to become free.
        let rest = if (batch_max..self.settings.workers).contains(&free) { free % batch_max } else { 0 };
        self.phase =
            Phase::Round(Round { queue_index: 0, offered: free - rest, seen: RoundFindings::Nothing, width: 1 });
    }

    fn is_failing(&self, queue_index: usize, now: Monotonic) -> bool {
        self.queues[queue_index].retry_at.is_some_and(|at| now < at)
    }

    fn was_empty(&self, queue_index: usize, now: Monotonic) -> bool {
        let listened_to = queue_index == 0 && self.held_for_listening > 0;
        listened_to
            || queue_index < self.lowest() && self.queues[queue_index].empty_until.is_some_and(|until| now < until)
    }

    fn request_in(&self, round: &Round, now: Monotonic) -> Option<PollRequest> {
        let max = self.may_fill(round).min(self.queues[round.queue_index].batch_max.saturating_mul(round.width));
        let is_asked = max > 0 && !self.is_failing(round.queue_index, now) && !self.was_empty(round.queue_index, now);
        is_asked.then_some(PollRequest {
            queue_index: round.queue_index,
            max,
            wait: Duration::ZERO,
            sent_at: now,
            beside: false,
        })
    }

    /// How many slots of the round its queue may fill. A queue is polled until it comes back short or has filled all of these,
    /// so the slots that a lower queue finds here were not needed above, or are reserved for it.
    fn may_fill(&self, round: &Round) -> u32 {
        if round.queue_index == self.lowest() {
            round.offered.min(self.room_for_lowest())
        } else {
            round.offered.saturating_sub(self.reserved_free())
        }
    }

    /// Free slots that the higher queues leave to the lowest.
    fn reserved_free(&self) -> u32 {
        let lowest = self.lowest();
        if lowest == 0 { 0 } else { self.settings.reserved.saturating_sub(self.queues[lowest].in_use) }
    }

    /// Goes on to the next queue, or ends the round.
    fn go_to_next_queue(&mut self, mut round: Round, now: Monotonic) {
        if self.is_failing(round.queue_index, now) {
            round.seen = round.seen.max(RoundFindings::Trouble);
        }
        if round.queue_index < self.lowest() {
            (round.queue_index, round.width) = (round.queue_index + 1, 1);
            self.phase = Phase::Round(round);
            return;
        }
        if round.seen == RoundFindings::Tasks && !self.is_to_listen_beside(now) {
            self.phase = Phase::Between;
            return;
        }
        self.phase = Phase::Listening;
        self.round_failed = round.seen == RoundFindings::Trouble;
        let steps = &self.settings.idle_backoff;
        if round.seen == RoundFindings::Nothing && self.room_for_lowest() > 0 && !steps.is_empty() {
            let step = if is_planted(PlantedBug::LowQueueLeftAlone) {
                HOURS
            } else {
                steps[self.idle_rounds.min(steps.len() - 1)]
            };
            self.low_until = Some(now.plus(step));
            self.idle_rounds += usize::from(self.has_worked);
        }
    }
}

#[cfg(test)]
mod tests;
