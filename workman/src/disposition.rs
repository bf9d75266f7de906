//! What becomes of a delivery: decides the moves, makes none.

use std::time::Duration;

use bytes::Bytes;
use mill_model::wire::{self, WireError};
use mill_model::{AccountId, DeadLetterMessage, Envelope, Failure, QueueName, Task};
use mill_ports::{CrashPoint, FollowUp, OutgoingMessage, PlantedBug, RngExt as _, crash_point, planted};

use crate::admission::TurnEstimate;
use crate::run::{WorkmanShared, subject_of};
use crate::stages::{DeadLetteredTask, Disposition, ReceiptAction, ReceivedTask};

/// Decides for one delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DispositionBuilder<'a> {
    pub(crate) shared: &'a WorkmanShared,
    pub(crate) taken: &'a ReceivedTask,
}

impl DispositionBuilder<'_> {
    /// A delivery is given back by a release while the queue has delivered it less often than this: each release
    /// spends a receive, and the queue's own redrive would take it for one that kills its workers.
    const RELEASED_BELOW: u32 = 5;

    /// The longest for which a task that comes again waits for company.
    const COMPANY_MAX: Duration = Duration::from_secs(8);

    /// The work is done: its follow-ups are sent.
    pub(crate) fn done(&self, envelope: Envelope, follow_ups: Vec<FollowUp>) -> Disposition {
        let mut sends = Vec::with_capacity(follow_ups.len());
        for follow_up in follow_ups {
            match self.follow_up(&envelope, follow_up) {
                Ok(send) => sends.push(send),
                Err(why) => return self.given_up(envelope, &format!("a follow-up cannot be sent: {why}")),
            }
        }
        Disposition { sends, then: ReceiptAction::Acknowledge, need_lease: false, given_up: None }
    }

    fn follow_up(
        &self,
        parent: &Envelope,
        FollowUp { queue, task }: FollowUp,
    ) -> Result<(QueueName, OutgoingMessage), String> {
        if !self.shared.queues.contains_key(&queue) {
            return Err(format!("this workman has no queue `{queue}`"));
        }
        let now = self.shared.clock.now();
        let mut envelope = Envelope::new(self.shared.chance.task_id(now), queue, now, task);
        envelope.trace.clone_from(&parent.trace);
        let body = wire::encode(&envelope).map_err(|error| error.to_string())?;
        Ok((queue, OutgoingMessage { group: envelope.task.account, body, delay: Duration::ZERO }))
    }

    /// The task asks for nothing any more.
    pub(crate) fn discarded() -> Disposition {
        Disposition { sends: Vec::new(), then: ReceiptAction::Acknowledge, need_lease: false, given_up: None }
    }

    /// The task comes again after `delay`, perhaps changed; it has not failed.
    pub(crate) fn put_off(&self, envelope: Envelope, delay: Duration, task: Option<Task>) -> Disposition {
        crash_point(CrashPoint::WorkmanBeforeSnooze);
        let before = task.is_some().then(|| envelope.clone());
        if planted(PlantedBug::SnoozeCountsAsFailure) {
            return self.failed(envelope, "put off");
        }
        let put_off = envelope.snoozed(task);
        match (self.sent_again(&put_off, delay), before) {
            (Ok(moves), _) => moves,
            (Err(why), Some(before)) => self.given_up(before, &format!("it cannot be put off: {why}")),
            (Err(why), None) => self.given_up(put_off, &format!("it cannot be put off: {why}")),
        }
    }

    /// The execution failed: the task goes to the back of its queue, or among the dead letters.
    pub(crate) fn failed(&self, envelope: Envelope, reason: &str) -> Disposition {
        let settings = &self.shared.settings;
        if envelope.failures.saturating_add(1) >= settings.failures_max {
            return self.given_up(envelope, reason);
        }
        let delays = &settings.retry_delays;
        let step = (envelope.failures as usize).min(delays.len().saturating_sub(1));
        let delay = delays.get(step).copied().unwrap_or_default();
        let delay = if planted(PlantedBug::RetryWithoutDelay) { Duration::ZERO } else { delay };
        let mut again = envelope.failed(self.failure(reason));
        if planted(PlantedBug::HistoryReset) {
            again.history.clear();
        }
        crash_point(CrashPoint::WorkmanBeforeRequeue);
        self.sent_again(&again, delay)
            .unwrap_or_else(|why| self.given_up(again, &format!("it cannot be sent again: {why}")))
    }

    /// The task is given up: it goes among the dead letters with all that happened to it.
    pub(crate) fn given_up(&self, envelope: Envelope, reason: &str) -> Disposition {
        let (origin, group) = (envelope.origin, envelope.task.account.clone());
        let subject = subject_of(&self.shared.registry, &envelope.task);
        let subject = subject.unwrap_or_else(|| format!("task `{}`", envelope.id));
        let body = wire::encode(&envelope.failed(self.failure(reason)));
        let body = body.unwrap_or_else(|_| self.taken.delivery.body.clone());
        self.letter(body, origin, group, DeadLetteredTask { subject, reason: reason.to_owned() })
    }

    /// The body is no envelope: it goes among the dead letters as it is.
    pub(crate) fn not_opened(&self, error: &WireError) -> Disposition {
        let queue = self.shared.lanes[self.taken.lane].name();
        let given_up = DeadLetteredTask { subject: format!("a body in queue `{queue}`"), reason: error.to_string() };
        self.letter(self.taken.delivery.body.clone(), queue, nobody(), given_up)
    }

    fn letter(&self, body: Bytes, origin: QueueName, group: AccountId, given_up: DeadLetteredTask) -> Disposition {
        crash_point(CrashPoint::WorkmanBeforeDeadLetter);
        let letter = DeadLetterMessage {
            body,
            origin,
            given_up: self.failure(&given_up.reason),
            receive_count: self.taken.delivery.receive_count,
        };
        let body_bytes_max = self.shared.queues.get(&QueueName::DeadLetter).map(|queue| queue.limits().body_bytes_max);
        let body = match wire::encode_dead_letter(&letter) {
            Ok(sealed) if body_bytes_max.is_none_or(|max| sealed.len() <= max) => sealed,
            // Too large with its reason: the body itself matters more, and the reason is in the log.
            _ => letter.body,
        };
        let send = (QueueName::DeadLetter, OutgoingMessage { group, body, delay: Duration::ZERO });
        Disposition { sends: vec![send], then: ReceiptAction::Acknowledge, need_lease: true, given_up: Some(given_up) }
    }

    /// The delivery goes back unchanged, for any workman to take at once. `account` where it is known.
    pub(crate) fn given_back(&self, account: Option<&AccountId>) -> Disposition {
        if self.taken.delivery.receive_count < Self::RELEASED_BELOW {
            return Disposition { sends: Vec::new(), then: ReceiptAction::Release, need_lease: true, given_up: None };
        }
        let group = account.cloned().unwrap_or_else(nobody);
        let again = OutgoingMessage { group, body: self.taken.delivery.body.clone(), delay: Duration::ZERO };
        let queue = self.shared.lanes[self.taken.lane].name();
        Disposition { sends: vec![(queue, again)], then: ReceiptAction::Acknowledge, need_lease: true, given_up: None }
    }

    /// The task cannot begin now: it goes to the back of its queue as it is, to come again after about half of the time until its
    /// turn: sooner than it is needed, so that its store never has nothing to do.
    /// It has not failed, and it never goes by its visibility: receives are counted, and the queue would take it for one that
    /// kills its workers.
    pub(crate) fn put_back(&self, account: &AccountId, TurnEstimate { after, is_blind }: TurnEstimate) -> Disposition {
        if planted(PlantedBug::PutBackByVisibility) {
            return Disposition { sends: Vec::new(), then: ReceiptAction::Release, need_lease: true, given_up: None };
        }
        let queue = &self.shared.lanes[self.taken.lane];
        let delay = after / 4 + self.shared.chance.jitter(after / 2);
        let delay = if is_blind { self.in_company(delay) } else { delay }.min(queue.limits().delay_max);
        let again = OutgoingMessage { group: account.clone(), body: self.taken.delivery.body.clone(), delay };
        Disposition {
            sends: vec![(queue.name(), again)],
            then: ReceiptAction::Acknowledge,
            need_lease: true,
            given_up: None,
        }
    }

    /// A delay that is longer by an eighth at most, so that tasks that wait for about as long come in one batch: where requests
    /// cost, each by itself costs as many as ten together. Each workman's time begins at another moment, so those of several
    /// come apart.
    pub(crate) fn in_company(&self, delay: Duration) -> Duration {
        if self.shared.settings.recheck.is_zero() {
            return delay;
        }
        let now = self.shared.clock.monotonic().since_origin();
        // Of two steps the longer is a multiple of the shorter.
        let step = 1 << (delay / 8).min(Self::COMPANY_MAX).as_millis().max(1).ilog2();
        let due = (now + delay).as_millis().next_multiple_of(step);
        Duration::from_millis(u64::try_from(due).unwrap_or(u64::MAX)).saturating_sub(now)
    }

    /// The delivery is another workman's.
    pub(crate) fn left() -> Disposition {
        Disposition { sends: Vec::new(), then: ReceiptAction::LetExpire, need_lease: false, given_up: None }
    }

    fn sent_again(&self, envelope: &Envelope, delay: Duration) -> Result<Disposition, WireError> {
        let queues = &self.shared.queues;
        let own = &self.shared.lanes[self.taken.lane];
        let queue = queues.get(&envelope.origin).unwrap_or(own);
        let body = wire::encode(envelope)?;
        let most = if planted(PlantedBug::DelayNotShortened) { Duration::MAX } else { queue.limits().delay_max };
        let delay = delay.min(most);
        let send = (queue.name(), OutgoingMessage { group: envelope.task.account.clone(), body, delay });
        Ok(Disposition { sends: vec![send], then: ReceiptAction::Acknowledge, need_lease: true, given_up: None })
    }

    fn failure(&self, reason: &str) -> Failure {
        Failure::new(self.shared.clock.now(), &self.shared.settings.name, reason)
    }
}

/// Stands for the account of a body that does not tell it.
#[allow(clippy::expect_used)] // the text is a valid id; a test makes one
fn nobody() -> AccountId {
    AccountId::new("unknown").expect("a plain word is an account id")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_without_account_has_a_group_all_the_same() {
        assert_eq!(super::nobody().as_str(), "unknown");
    }
}
