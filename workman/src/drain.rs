//! Moves dead letters from their queue into their repository, where a person finds them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use mill_hooks::crash_point;
use mill_ports::{Backoff, Clock, Delivery, QueueError, QueueErrorKind, Receipt, Registry, TaskQueue, error_chain};
use mill_records::dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
use tracing::{info, warn};

use crate::crash_points;
use crate::run::subject_of;
use crate::settings::StopSignal;
use crate::warnings::Warnings;

/// How dead letters are drained.
#[derive(Debug, Clone)]
pub struct DrainSettings {
    /// How long dead letters are hidden from other drains while they are recorded.
    pub visibility: Duration,
    /// How long one receive waits for the first dead letter.
    pub poll_wait: Duration,
}

/// Records dead letters, and only then acknowledges them.
#[derive(Debug)]
pub struct DeadLetterDrain {
    /// The dead-letter queue.
    pub queue: Arc<dyn TaskQueue>,
    /// Where they are recorded.
    pub dead_letters: DeadLetters,
    /// Says what a task is about.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How it works.
    pub settings: DrainSettings,
}

/// Why dead letters could not be drained. They are still in the queue.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The repository failed.
    #[error(transparent)]
    Book(#[from] DeadLetterError),
}

impl DeadLetterDrain {
    /// The pause between two looks, where a receive does not wait or fails.
    const PAUSE: Duration = Duration::from_secs(1);
    const BACKOFF: Backoff = Backoff::new(Self::PAUSE, Duration::from_mins(1));
    /// How long a gentle stop waits for a receive under way. One that has found nothing by then would only go on waiting.
    const LAST_RECEIVE: Duration = Duration::from_secs(1);

    /// Drains the dead letters that are there now. Returns how many were recorded.
    ///
    /// # Errors
    /// The first failure. Dead letters recorded by then are acknowledged.
    pub async fn once(&self) -> Result<u64, DrainError> {
        let mut drained = 0;
        loop {
            let deliveries = self.receive(Duration::ZERO).await?;
            match self.record_all(&deliveries).await? {
                0 => return Ok(drained),
                some => drained += some,
            }
        }
    }

    /// Drains dead letters as they come, until it is stopped. Waits out failures that may pass.
    ///
    /// # Errors
    /// [`DrainError::Queue`] when a person must act: the queue is missing or not permitted.
    pub async fn run(&self, until: &StopSignal) -> Result<(), DrainError> {
        let warnings = Warnings::default();
        let mut failures = 0;
        while !until.gentle.is_cancelled() && !until.immediate.is_cancelled() {
            let began = self.clock.monotonic();
            let drained = tokio::select! {
                biased;
                // Deliveries of a receive that is cut off here come again after their visibility timeout.
                () = until.immediate.cancelled() => break,
                drained = self.drain_batch(until) => drained,
            };
            match drained {
                Ok(0) => {
                    failures = 0;
                    let passed = self.clock.monotonic().since(began);
                    self.pause(Self::PAUSE.saturating_sub(passed), until).await;
                }
                Ok(letters) => {
                    failures = 0;
                    info!(letters, "dead letters were written down");
                }
                Err(DrainError::Queue(error))
                    if matches!(error.kind, QueueErrorKind::Denied | QueueErrorKind::QueueMissing) =>
                {
                    return Err(error.into());
                }
                Err(error) => {
                    if let Some(suppressed) = warnings.due("drain", self.clock.monotonic()) {
                        warn!(
                            error = error_chain(&error),
                            suppressed, "dead letters could not be written down for now"
                        );
                    }
                    failures += 1;
                    self.pause(Self::BACKOFF.pause(failures), until).await;
                }
            }
        }
        Ok(())
    }

    async fn pause(&self, pause: Duration, stop: &StopSignal) {
        tokio::select! {
            biased;
            () = stop.gentle.cancelled() => {}
            () = stop.immediate.cancelled() => {}
            () = self.clock.sleep(pause) => {}
        }
    }

    /// Receives once and records what came. Gives up the receive some time after a gentle stop.
    async fn drain_batch(&self, until: &StopSignal) -> Result<u64, DrainError> {
        let deliveries = tokio::select! {
            biased;
            deliveries = self.receive(self.settings.poll_wait) => deliveries?,
            () = self.end_of_last_receive(until) => return Ok(0),
        };
        self.record_all(&deliveries).await
    }

    async fn end_of_last_receive(&self, stop: &StopSignal) {
        stop.gentle.cancelled().await;
        self.clock.sleep(Self::LAST_RECEIVE).await;
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        let limits = self.queue.limits();
        let visibility = self.settings.visibility.min(limits.visibility_max);
        let batch_max: NonZeroU32 = limits.batch_max;
        self.queue.receive(batch_max, visibility, wait).await
    }

    /// Returns how many dead letters were recorded and acknowledged.
    async fn record_all(&self, deliveries: &[Delivery]) -> Result<u64, DrainError> {
        if !deliveries.is_empty() {
            crash_point(crash_points::DRAIN_RECEIVED);
        }
        let mut written: Vec<Receipt> = Vec::with_capacity(deliveries.len());
        let mut failure = None;
        for delivery in deliveries {
            match self.record(delivery).await {
                Ok(()) => written.push(delivery.receipt.clone()),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if !written.is_empty() {
            crash_point(crash_points::DRAIN_NOTED);
            // A dead letter that stays unacknowledged comes again, and is recorded already.
            self.queue.acknowledge(&written).await?.into_result().or_else(|error| match error.kind {
                QueueErrorKind::ReceiptExpired => Ok(()),
                _ => Err(error),
            })?;
            crash_point(crash_points::DRAIN_ACKNOWLEDGED);
        }
        failure.map_or(Ok(written.len() as u64), |error| Err(error.into()))
    }

    async fn record(&self, delivery: &Delivery) -> Result<(), DeadLetterError> {
        let letter = DeadLetter::read(delivery, |task| subject_of(&self.registry, task));
        self.dead_letters.note(&letter).await
    }
}
