//! Long receives on the highest queue: of a workman that has found nothing, and for reserved slots.
//!
//! Slots that the lowest queue leaves to the higher ones are free while it has more tasks. Polling again and again for these
//! slots would cost requests, so one long receive waits for them, and rounds go on beside it with the other slots.

use mill_model::Monotonic;

use super::{BUSY_WAIT_MAX, PAUSE, Phase, PollRequest, PollStep, Poller, ReceiveSummary};

/// A share of the slots, rounded down.
pub(crate) fn share_of(workers: u32, share: f32) -> u32 {
    (f64::from(workers) * f64::from(share.clamp(0.0, 1.0))).floor() as u32
}

impl Poller {
    /// One long receive on the highest queue, which ends in time for the lower ones.
    pub(super) fn listen(&mut self, now: Monotonic) -> PollStep {
        let lower = self.queues[1..].iter().filter_map(|queue| queue.retry_at.filter(|at| now < *at)).min();
        let due = if self.queues.len() > 1 { self.low_until().or(lower) } else { None };
        if self.held_for_listening > 0 || self.room_for_lowest() == 0 || self.is_to_listen_beside(now) {
            return self.listen_beside(due, now);
        }
        let free = self.free().saturating_sub(self.reserved_free());
        // At least one, or no queue would be listened to; a task too many then waits for a slot.
        let max = free.saturating_sub(self.waiting).max(free.min(1)).min(self.queues[0].batch_max);
        let highest_until = self.queues[0].retry_at.filter(|at| now < *at);
        if max == 0 || highest_until.is_some() {
            self.phase = Phase::Between;
            let until = [due, highest_until].into_iter().flatten().min();
            self.pause_until = Some(until.unwrap_or(now.plus(PAUSE)));
            return PollStep::Wait { until: until.unwrap_or(now.plus(PAUSE)) };
        }
        let wait = due.map_or(self.settings.poll_wait, |due| self.settings.poll_wait.min(due.since(now)));
        let wait =
            if (self.busy || self.round_failed) && self.queues.len() > 1 { wait.min(BUSY_WAIT_MAX) } else { wait };
        PollStep::Receive(PollRequest { queue_index: 0, max, wait, sent_at: now, beside: false })
    }

    /// Slots without a task.
    pub(super) fn unfilled(&self) -> u32 {
        self.settings.workers.saturating_sub(self.in_use())
    }

    /// Slots that a round may offer.
    pub(super) fn free(&self) -> u32 {
        let free = self.unfilled().saturating_sub(self.held_for_listening);
        if self.held_for_listening > 0 { free.min(self.room_for_lowest()) } else { free }
    }

    /// Slots that the lowest queue may fill in addition to those that it has, if they are free.
    pub(super) fn room_for_lowest(&self) -> u32 {
        let reserved = if self.lowest() == 0 { 0 } else { self.settings.reserved_high };
        self.settings.workers.saturating_sub(reserved).saturating_sub(self.queues[self.lowest()].in_use)
    }

    /// Free slots that only the higher queues may fill.
    fn spare_for_higher(&self) -> u32 {
        self.free().saturating_sub(self.room_for_lowest())
    }

    /// Whether reserved slots are free that the higher queues have just not filled, while the lowest has more tasks.
    pub(super) fn is_to_listen_beside(&self, now: Monotonic) -> bool {
        let low_goes_on = self.room_for_lowest() == 0 || self.queues[self.lowest()].has_more;
        let too_soon = self.listen_beside_from.is_some_and(|from| now < from);
        self.held_for_listening == 0
            && self.spare_for_higher() > 0
            && low_goes_on
            && !too_soon
            && !self.is_failing(0, now)
    }

    /// Begins a long receive for the reserved slots. While there is one already, or there can be none, no queue is polled before
    /// an attempt ends or the lower queues are due.
    pub(super) fn listen_beside(&mut self, due: Option<Monotonic>, now: Monotonic) -> PollStep {
        self.phase = Phase::Between;
        if self.is_to_listen_beside(now) {
            self.held_for_listening = self.spare_for_higher();
            let max = self.held_for_listening.min(self.queues[0].batch_max);
            return PollStep::Listen(PollRequest {
                queue_index: 0,
                max,
                wait: self.settings.poll_wait,
                sent_at: now,
                beside: true,
            });
        }
        let [highest, again] =
            [self.queues[0].retry_at, self.listen_beside_from].map(|from| from.filter(|at| now < *at));
        PollStep::Wait { until: [due, highest, again].into_iter().flatten().min().unwrap_or(now.plus(BUSY_WAIT_MAX)) }
    }

    /// Notes what came of a receive beside the rounds. If the queue was empty, the next round skips it.
    pub(super) fn note_listened(&mut self, request: &PollRequest, summary: ReceiveSummary, now: Monotonic) {
        self.held_for_listening = 0;
        let was_empty = summary.found_nothing();
        let again = request.sent_at.plus(PAUSE);
        self.listen_beside_from = was_empty.then_some(again);
        self.queues[0].empty_until = was_empty.then(|| again.max(now.plus(self.settings.recheck)));
    }

    /// How many slots of `workers` are reserved for the higher of `queues` queues, where `reserved_low` are for the lowest: a
    /// share, but at least one where there are enough slots. One slot stays in neither reserve.
    pub(crate) fn reserved_high(workers: u32, queues: usize, share: f32, reserved_low: u32) -> u32 {
        const SOME: u32 = 4;
        if queues < 2 || share <= 0.0 {
            return 0;
        }
        let at_least = u32::from(workers >= SOME);
        share_of(workers, share).max(at_least).min(workers.saturating_sub(reserved_low).saturating_sub(1))
    }
}
