//! Sends audit tasks: whoever sees a change hands its events over here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mill_model::wire::{self, WireError};
use mill_model::{AccountId, AuditEvent, AuditTask, Envelope, PublishLogTask, TaskArgs as _};
use mill_ports::{Clock, OutgoingMessage, QueueError, Rng, RngExt as _, TaskQueue};

use crate::audit_log::{AuditLog, AuditLogError};

/// Why audit tasks could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum AuditSendError {
    /// The queue did not take them.
    #[error("the audit queue did not take the change")]
    Queue(#[from] QueueError),
    /// A large event could not be stored.
    #[error(transparent)]
    Log(#[from] AuditLogError),
    /// A task cannot be written.
    #[error("an audit task cannot be written")]
    Wire(#[from] WireError),
}

/// Sends audit tasks to their queue.
#[derive(Debug, Clone)]
pub struct AuditSender {
    /// The audit queue.
    pub queue: Arc<dyn TaskQueue>,
    /// Where events too large for a task are stored.
    pub log: AuditLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub chance: Arc<dyn Rng>,
}

impl AuditSender {
    /// How often a send is repeated at once.
    const TRIES: u32 = 3;

    /// Sends events, as few tasks as they fit in. They are in the queue when this returns.
    ///
    /// # Errors
    /// [`AuditSendError`]: then any of them may be in the queue or not.
    pub async fn send(&self, account: &AccountId, events: Vec<AuditEvent>) -> Result<(), AuditSendError> {
        let mut events = VecDeque::from(events);
        let mut messages = Vec::new();
        while !events.is_empty() {
            messages.push(self.next_message(account, &mut events).await?);
        }
        let batch = usize::try_from(self.queue.limits().batch_max.get()).unwrap_or(1);
        for batch in messages.chunks(batch) {
            self.send_batch(batch).await?;
        }
        Ok(())
    }

    /// A task with as many of the events as fit in.
    async fn next_message(
        &self,
        account: &AccountId,
        events: &mut VecDeque<AuditEvent>,
    ) -> Result<OutgoingMessage, AuditSendError> {
        let mut task = AuditTask { account: account.clone(), events: Vec::new(), stored: Vec::new() };
        let mut bytes = 0;
        while let Some(event) = events.front() {
            let size = serde_json::to_vec(event).map_or(usize::MAX, |written| written.len());
            let large = size > AuditTask::EVENT_BYTES_MAX;
            bytes += if large { STORED_BYTES } else { size };
            if bytes > AuditTask::EVENT_BYTES_MAX && bytes != size {
                break;
            }
            if large {
                self.log.store_large(account, event).await?;
                task.stored.push(event.id);
            } else {
                task.events.push(event.clone());
            }
            events.pop_front();
        }
        let now = self.clock.now();
        let body = task.to_task().map_err(WireError::from)?;
        let body = wire::encode(&Envelope::new(self.chance.task_id(now), self.queue.name(), now, body))?;
        Ok(OutgoingMessage { group: account.clone(), body, delay: Duration::ZERO })
    }

    /// Asks for the account's log to be published if events wait for their places, whether or not somebody else asked: that
    /// publication may have failed, and one too many does no harm. Returns whether it asked.
    ///
    /// # Errors
    /// [`AuditSendError`].
    pub async fn publish_waiting(&self, account: &AccountId) -> Result<bool, AuditSendError> {
        if self.log.ready(account, 1).await?.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        let id = self.chance.task_id(now);
        let task = PublishLogTask { account: account.clone() }.to_task().map_err(WireError::from)?;
        let body = wire::encode(&Envelope::new(id, self.queue.name(), now, task))?;
        self.send_batch(&[OutgoingMessage { group: account.clone(), body, delay: Duration::ZERO }]).await?;
        Ok(true)
    }

    async fn send_batch(&self, batch: &[OutgoingMessage]) -> Result<(), AuditSendError> {
        let mut rest = batch.to_vec();
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.queue.send(&rest).await {
                Ok(report) => {
                    let Some((failed, error)) = report.into_failed(rest) else { return Ok(()) };
                    rest = failed;
                    error
                }
                // Any of them may be in the queue. A repeat of an event is known by its id.
                Err(error) => error,
            };
            if tries == Self::TRIES || !error.kind.is_retryable() {
                return Err(error.into());
            }
            self.clock.sleep(self.chance.equal_jitter(Duration::from_millis(200) * tries)).await;
        }
    }
}

/// The bytes that the id of a stored event takes in a task.
const STORED_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use mill_model::wire::ReceiveContext;
    use mill_model::{AuditAction, EventSource, QueueName, TaskId, Timestamp};
    use mill_testkit::{ManualClock, MemoryQueue, QueueBehavior, SeededRng};

    use super::*;
    use crate::test_table::TestTable;

    fn event(number: u64, property_bytes: usize) -> AuditEvent {
        let at = Timestamp::from_millis(1_795_249_800_000 + number);
        let mut event = AuditEvent::new(
            mill_model::EventId::of_facts(at, &["x"]),
            ("1".parse().unwrap(), "s".parse().unwrap(), Some(format!("{number}").parse().unwrap())),
            AuditAction::AddContent,
            at,
            EventSource::Mill,
        );
        event.properties = Some([("p".to_owned(), "\t".repeat(property_bytes / 2))].into());
        event
    }

    #[tokio::test]
    async fn events_of_any_size_arrive_whole_in_as_few_tasks_as_they_fit_in() {
        let clock = Arc::new(ManualClock::new());
        let queue = Arc::new(MemoryQueue::new(
            QueueName::Audit,
            QueueBehavior::well_behaved(),
            clock.clone(),
            Arc::new(SeededRng::new(2)),
            None,
        ));
        let log = AuditLog::new(Arc::new(TestTable::default()));
        let sender = AuditSender { queue: queue.clone(), log: log.clone(), clock, chance: Arc::new(SeededRng::new(1)) };
        let account: AccountId = "a".parse().unwrap();
        let sent: Vec<AuditEvent> =
            (0..40).map(|number| event(number, [10, 100, 9_000, 100_000][number as usize % 4])).collect();
        sender.send(&account, sent.clone()).await.unwrap();

        let (mut arrived, mut tasks) = (Vec::new(), 0);
        let at_once = NonZeroU32::new(10).unwrap();
        loop {
            let deliveries = queue.receive(at_once, Duration::from_mins(1), Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                break;
            }
            for delivery in deliveries {
                let context = ReceiveContext {
                    id: TaskId::new(Timestamp::default(), [0; 10]),
                    queue: QueueName::Audit,
                    sent_at: Timestamp::default(),
                };
                let task = AuditTask::from_task(&wire::decode(&delivery.body, context).unwrap().task).unwrap();
                tasks += 1;
                arrived.extend(task.events);
                for id in task.stored {
                    arrived.push(log.large(&account, id).await.unwrap().unwrap());
                }
            }
        }
        arrived.sort_by_key(|event| event.id);
        assert_eq!(arrived, sent);
        assert!(tasks <= 11, "{tasks}");
    }
}
