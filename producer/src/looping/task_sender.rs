//! Sends tasks to the queue in batches and accounts for each entry.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::wire::{self, WireError};
use mill_model::{AccountId, Envelope, TaskArgs};
use mill_ports::{
    Backoff, Clock, OutgoingMessage, QueueError, QueueErrorKind, Rng, RngExt as _, Statistics, TaskQueue,
};

use super::report::ProducerError;
use crate::crash_points;

/// Sends tasks to the queue.
#[derive(Debug, Clone)]
pub(super) struct TaskSender {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Rng>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) at_once: usize,
}

impl TaskSender {
    const ATTEMPTS_MAX: u32 = 6;
    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

    /// Queues tasks of an account, and returns how many.
    ///
    /// # Errors
    /// When some tasks are not surely in the queue after a few attempts. Any of them may be there all the same.
    pub(super) async fn send<A: TaskArgs>(
        &self,
        tasks: impl ExactSizeIterator<Item = A>,
    ) -> Result<u64, ProducerError> {
        let count = tasks.len() as u64;
        let bodies = stream::iter(tasks.map(|task| self.outgoing(&task)));
        bodies
            .try_chunks(self.queue.limits().batch_max.get() as usize)
            .map(|batch| batch.map_err(|error| error.1).map(|batch| self.send_batch(batch)))
            .try_buffer_unordered(self.at_once)
            .try_collect::<()>()
            .await?;
        Ok(count)
    }

    /// How many tasks the queue holds, including hidden ones.
    pub(super) async fn depth(&self) -> Result<u64, ProducerError> {
        let mut tries = 0;
        loop {
            match self.queue.depth().await {
                Ok(depth) => return Ok(depth.total()),
                Err(error) => self.pause_before_retry(&mut tries, error).await?,
            }
        }
    }

    /// How many tasks of an account the queue holds; `None` if the queue cannot tell.
    pub(super) async fn depth_of(&self, account: &AccountId) -> Result<Option<u64>, ProducerError> {
        let mut tries = 0;
        loop {
            match self.queue.depth_of(account).await {
                Ok(depth) => return Ok(depth),
                Err(error) => self.pause_before_retry(&mut tries, error).await?,
            }
        }
    }

    fn outgoing(&self, task: &impl TaskArgs) -> Result<OutgoingMessage, ProducerError> {
        let now = self.clock.now();
        let body = task.to_task().map_err(WireError::from)?;
        let envelope = Envelope::new(self.chance.task_id(now), self.queue.name(), now, body);
        // The task is counted before it is sent: it may be done before the send returns.
        self.statistics.open_task(envelope.id, !task.items().is_empty());
        let body = wire::encode(&envelope)?;
        Ok(OutgoingMessage { group: task.account().clone(), body, delay: Duration::ZERO })
    }

    async fn send_batch(&self, mut batch: Vec<OutgoingMessage>) -> Result<(), ProducerError> {
        let mut tries = 0;
        loop {
            let sent = self.queue.send(&batch).await;
            crash_point(crash_points::PRODUCER_BATCH_SENT);
            let error = match sent {
                Ok(_) if is_planted(PlantedBug::ProducerIgnoresPartialSend) => return Ok(()),
                Ok(report) => {
                    let Some((failed, error)) = report.into_failed(batch) else { return Ok(()) };
                    batch = failed;
                    error
                }
                // Any entry may or may not be in the queue. All are sent again, so some may be there twice.
                Err(error) => error,
            };
            self.pause_before_retry(&mut tries, error).await?;
        }
    }

    async fn pause_before_retry(&self, tries: &mut u32, error: QueueError) -> Result<(), ProducerError> {
        *tries += 1;
        if !error.kind.is_retryable() || *tries >= Self::ATTEMPTS_MAX {
            return Err(error.into());
        }
        let mut pause = self.chance.equal_jitter(Self::BACKOFF.pause(*tries));
        if let QueueErrorKind::Throttled { retry_after: Some(wish) } = error.kind {
            pause = pause.max(wish);
        }
        self.clock.sleep(pause).await;
        Ok(())
    }
}
