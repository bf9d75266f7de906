//! What becomes of a delivery: decides what is sent and what happens to the receipt. Does no IO.

use std::time::Duration;

use bytes::Bytes;
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::wire::{self, WireError};
use mill_model::{AccountId, DeadLetterMessage, Envelope, Failure, QueueName, Task};
use mill_ports::{FollowUp, OutgoingMessage, RngExt as _};

use crate::admission::TurnEstimate;
use crate::crash_points;
use crate::run::{WorkmanShared, subject_of};
use crate::stages::ReceivedTask;

/// What is sent, and what happens to the receipt once all of that is durable.
#[derive(Debug)]
pub(crate) struct Disposition {
    pub(crate) sends: Vec<(QueueName, OutgoingMessage)>,
    pub(crate) receipt_action: ReceiptAction,
    /// Whether another workman may do all of this once the lease is lost; then it is not done here.
    pub(crate) need_lease: bool,
    /// The task, if it is dead-lettered.
    pub(crate) dead_lettered: Option<DeadLetteredTask>,
}

impl Disposition {
    /// Whether the task comes to its end: it is done, or dead-lettered.
    pub(crate) fn is_end_of_task(&self) -> bool {
        self.receipt_action == ReceiptAction::Acknowledge && (self.sends.is_empty() || self.dead_lettered.is_some())
    }
}

/// What happens to the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiptAction {
    Acknowledge,
    Release,
    /// Nothing: the queue delivers the task again after its visibility timeout.
    LetExpire,
}

/// A task that is dead-lettered.
#[derive(Debug)]
pub(crate) struct DeadLetteredTask {
    pub(crate) subject: String,
    pub(crate) reason: String,
}

/// Builds the disposition of one delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DispositionBuilder<'a> {
    pub(crate) shared: &'a WorkmanShared,
    pub(crate) received: &'a ReceivedTask,
}

impl DispositionBuilder<'_> {
    /// A delivery is released while the queue has delivered it less often than this. Each release spends a receive, and the
    /// queue's own redrive would take the task for one that kills its workers.
    const RELEASED_BELOW: u32 = 5;

    /// The longest time by which a delay is lengthened so that tasks come in one batch.
    const ALIGNMENT_MAX: Duration = Duration::from_secs(8);

    /// The work is done: sends its follow-ups.
    pub(crate) fn complete(&self, envelope: Envelope, follow_ups: Vec<FollowUp>) -> Disposition {
        let mut sends = Vec::with_capacity(follow_ups.len());
        for follow_up in follow_ups {
            match self.follow_up(&envelope, follow_up) {
                Ok(send) => sends.push(send),
                Err(why) => return self.dead_letter(envelope, &format!("a follow-up cannot be sent: {why}")),
            }
        }
        Disposition { sends, receipt_action: ReceiptAction::Acknowledge, need_lease: false, dead_lettered: None }
    }

    fn follow_up(
        &self,
        parent: &Envelope,
        FollowUp { queue, task, delay }: FollowUp,
    ) -> Result<(QueueName, OutgoingMessage), String> {
        if !self.shared.output_queues.contains_key(&queue) {
            return Err(format!("this workman has no queue `{queue}`"));
        }
        let now = self.shared.clock.now();
        let mut envelope = Envelope::new(self.shared.chance.task_id(now), queue, now, task);
        envelope.trace.clone_from(&parent.trace);
        let body = wire::encode(&envelope).map_err(|error| error.to_string())?;
        Ok((queue, OutgoingMessage { group: envelope.task.account, body, delay }))
    }

    /// Nothing is left to do for the task.
    pub(crate) fn discard() -> Disposition {
        Disposition {
            sends: Vec::new(),
            receipt_action: ReceiptAction::Acknowledge,
            need_lease: false,
            dead_lettered: None,
        }
    }

    /// Sends the task again, perhaps changed, to come after `delay`. It has not failed.
    pub(crate) fn snooze(&self, envelope: Envelope, delay: Duration, task: Option<Task>) -> Disposition {
        crash_point(crash_points::WORKMAN_BEFORE_SNOOZE);
        let before = task.is_some().then(|| envelope.clone());
        if is_planted(PlantedBug::SnoozeCountsAsFailure) {
            return self.retry_or_dead_letter(envelope, "snoozed");
        }
        let snoozed = envelope.snoozed(task);
        match (self.send_again(&snoozed, delay), before) {
            (Ok(disposition), _) => disposition,
            (Err(why), Some(before)) => self.dead_letter(before, &format!("it cannot be snoozed: {why}")),
            (Err(why), None) => self.dead_letter(snoozed, &format!("it cannot be snoozed: {why}")),
        }
    }

    /// The execution failed: sends the task to the back of its queue, or to the dead-letter queue.
    pub(crate) fn retry_or_dead_letter(&self, envelope: Envelope, reason: &str) -> Disposition {
        let settings = &self.shared.settings;
        if envelope.failures.saturating_add(1) >= settings.failures_max {
            return self.dead_letter(envelope, reason);
        }
        let delays = &settings.retry_delays;
        let step = (envelope.failures as usize).min(delays.len().saturating_sub(1));
        let delay = delays.get(step).copied().unwrap_or_default();
        let delay = if is_planted(PlantedBug::RetryWithoutDelay) { Duration::ZERO } else { delay };
        let mut again = envelope.failed(self.failure(reason));
        if is_planted(PlantedBug::HistoryReset) {
            again.history.clear();
        }
        crash_point(crash_points::WORKMAN_BEFORE_REQUEUE);
        self.send_again(&again, delay)
            .unwrap_or_else(|why| self.dead_letter(again, &format!("it cannot be sent again: {why}")))
    }

    /// Sends the task to the dead-letter queue, with all that happened to it.
    pub(crate) fn dead_letter(&self, envelope: Envelope, reason: &str) -> Disposition {
        let (origin, group) = (envelope.origin, envelope.task.account.clone());
        let subject = subject_of(&self.shared.registry, &envelope.task);
        let subject = subject.unwrap_or_else(|| format!("task `{}`", envelope.id));
        let body = wire::encode(&envelope.failed(self.failure(reason)));
        let body = body.unwrap_or_else(|_| self.received.delivery.body.clone());
        self.send_dead_letter(body, origin, group, DeadLetteredTask { subject, reason: reason.to_owned() })
    }

    /// The body is no envelope: sends it to the dead-letter queue as it is.
    pub(crate) fn dead_letter_undecodable(&self, error: &WireError) -> Disposition {
        let queue = self.shared.input_queues[self.received.queue_index].name();
        let dead_lettered =
            DeadLetteredTask { subject: format!("a body in queue `{queue}`"), reason: error.to_string() };
        self.send_dead_letter(self.received.delivery.body.clone(), queue, unknown_account(), dead_lettered)
    }

    fn send_dead_letter(
        &self,
        body: Bytes,
        origin: QueueName,
        group: AccountId,
        dead_lettered: DeadLetteredTask,
    ) -> Disposition {
        crash_point(crash_points::WORKMAN_BEFORE_DEAD_LETTER);
        let message = DeadLetterMessage {
            body,
            origin,
            given_up: self.failure(&dead_lettered.reason),
            receive_count: self.received.delivery.receive_count,
        };
        let queue = self.shared.output_queues.get(&QueueName::DeadLetter);
        let body_bytes_max = queue.map(|queue| queue.limits().body_bytes_max);
        let body = match wire::encode_dead_letter(&message) {
            Ok(encoded) if body_bytes_max.is_none_or(|max| encoded.len() <= max) => encoded,
            // Too large with its reason: the body itself matters more, and the reason is in the log.
            _ => message.body,
        };
        let send = (QueueName::DeadLetter, OutgoingMessage { group, body, delay: Duration::ZERO });
        Disposition {
            sends: vec![send],
            receipt_action: ReceiptAction::Acknowledge,
            need_lease: true,
            dead_lettered: Some(dead_lettered),
        }
    }

    /// Gives the delivery back unchanged, so that any workman can receive it at once. `account` where it is known.
    pub(crate) fn give_back(&self, account: Option<&AccountId>) -> Disposition {
        if self.received.delivery.receive_count < Self::RELEASED_BELOW {
            return Self::release();
        }
        let group = account.cloned().unwrap_or_else(unknown_account);
        let again = OutgoingMessage { group, body: self.received.delivery.body.clone(), delay: Duration::ZERO };
        Self::replace(self.shared.input_queues[self.received.queue_index].name(), again)
    }

    /// The task cannot begin now: sends it to the back of its queue as it is. It comes again after about half of the time until
    /// its turn, sooner than it is needed, so that its store never has nothing to do.
    ///
    /// The task has not failed. It is never left to its visibility timeout: the queue counts receives, and would take the task
    /// for one that kills its workers.
    pub(crate) fn requeue(&self, account: &AccountId, TurnEstimate { after, is_blind }: TurnEstimate) -> Disposition {
        if is_planted(PlantedBug::PutBackByVisibility) {
            return Self::release();
        }
        let queue = &self.shared.input_queues[self.received.queue_index];
        let delay = after / 4 + self.shared.chance.jitter(after / 2);
        let delay = if is_blind { self.align_delay(delay) } else { delay }.min(queue.limits().delay_max);
        self.shared.statistics.note_turn(self.shared.clock.monotonic().plus(delay));
        let again = OutgoingMessage { group: account.clone(), body: self.received.delivery.body.clone(), delay };
        Self::replace(queue.name(), again)
    }

    fn release() -> Disposition {
        Disposition { sends: Vec::new(), receipt_action: ReceiptAction::Release, need_lease: true, dead_lettered: None }
    }

    /// Sends a message in place of the delivery.
    fn replace(queue: QueueName, message: OutgoingMessage) -> Disposition {
        Disposition {
            sends: vec![(queue, message)],
            receipt_action: ReceiptAction::Acknowledge,
            need_lease: true,
            dead_lettered: None,
        }
    }

    /// Lengthens a delay by an eighth at most, so that tasks with about the same delay come in one batch: where requests cost,
    /// a receive of one task costs as much as a receive of ten. The clocks of workmen begin at different moments, so the tasks
    /// of several workmen come apart.
    pub(crate) fn align_delay(&self, delay: Duration) -> Duration {
        if self.shared.settings.recheck.is_zero() {
            return delay;
        }
        let now = self.shared.clock.monotonic().since_origin();
        // Of two steps the longer is a multiple of the shorter.
        let step = 1 << (delay / 8).min(Self::ALIGNMENT_MAX).as_millis().max(1).ilog2();
        let due = (now + delay).as_millis().next_multiple_of(step);
        Duration::from_millis(u64::try_from(due).unwrap_or(u64::MAX)).saturating_sub(now)
    }

    /// Does nothing: another workman has the delivery by now.
    pub(crate) fn abandon() -> Disposition {
        Disposition {
            sends: Vec::new(),
            receipt_action: ReceiptAction::LetExpire,
            need_lease: false,
            dead_lettered: None,
        }
    }

    fn send_again(&self, envelope: &Envelope, delay: Duration) -> Result<Disposition, WireError> {
        let own = &self.shared.input_queues[self.received.queue_index];
        let queue = self.shared.output_queues.get(&envelope.origin).unwrap_or(own);
        let body = wire::encode(envelope)?;
        let delay_max =
            if is_planted(PlantedBug::DelayNotShortened) { Duration::MAX } else { queue.limits().delay_max };
        let again = OutgoingMessage { group: envelope.task.account.clone(), body, delay: delay.min(delay_max) };
        Ok(Self::replace(queue.name(), again))
    }

    fn failure(&self, reason: &str) -> Failure {
        Failure::new(self.shared.clock.now(), &self.shared.settings.name, reason)
    }
}

/// Stands for the account of a body that cannot be decoded.
#[allow(clippy::expect_used)] // the text is a valid id; a test makes one
fn unknown_account() -> AccountId {
    AccountId::new("unknown").expect("a plain word is an account id")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_without_account_has_a_group_all_the_same() {
        assert_eq!(super::unknown_account().as_str(), "unknown");
    }
}
