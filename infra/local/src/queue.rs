//! The seven queues, as rows of one table.
//!
//! Times are ms of the given clock's wall clock. A step of that clock loses nothing. After a step forward, messages in
//! flight are delivered once more and their old receipts are void. After a step back, messages come later, by the step
//! but never by more than [`HIDDEN_MAX`]: a message that is hidden for longer than that counts as visible.

mod excluded_accounts;
pub(crate) mod receivers;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Monotonic, QueueName, Timestamp};
use mill_ports::{
    BatchReport, BoxError, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError,
    QueueErrorKind, QueueLimits, Receipt, TaskQueue,
};

use rusqlite::Connection;

use crate::database::writer::Durability;
use crate::database::{Database, DatabaseError};
use rows::{DeliveryKey, ExtendOutcome, NewMessage, ReceiveQuery};

/// The longest time that a message may be hidden: by its delay, or since it was received.
pub const HIDDEN_MAX: Duration = Duration::from_hours(12);

/// A message delivered this often is moved to the dead-letter queue instead of being delivered once more.
pub const RECEIVES_MAX: u32 = 10;

/// Most bodies or receipts in one call.
const BATCH_MAX: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Most bytes in one body: the former limit of SQS, sixteen times an envelope.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A long poll looks for messages of other processes after pauses that grow from the first to the second.
const POLL_LEAST: Duration = Duration::from_millis(10);
const POLL_MOST: Duration = Duration::from_millis(50);

/// One of the seven queues in a [`Database`].
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    database: Arc<Database>,
    name: QueueName,
}

impl SqliteQueue {
    /// The queue `name` of the database. All handles made with one name are the same queue.
    pub fn new(database: Arc<Database>, name: QueueName) -> Self {
        Self { database, name }
    }

    fn failed(&self, op: &'static str) -> impl Fn(DatabaseError) -> QueueError {
        let queue = self.name;
        move |failure| QueueError { kind: failure.queue_kind(), op, queue, source: Some(Box::new(failure)) }
    }

    fn refused(&self, op: &'static str, kind: QueueErrorKind, why: impl Into<BoxError>) -> QueueError {
        QueueError { kind, op, queue: self.name, source: Some(why.into()) }
    }

    fn check_batch(&self, op: &'static str, entries: usize) -> Result<(), QueueError> {
        if entries > BATCH_MAX.get() as usize {
            let why = format!("a batch of {entries}; at most {BATCH_MAX} are taken");
            return Err(self.refused(op, QueueErrorKind::Unexpected, why));
        }
        Ok(())
    }

    /// Why the queue refuses the message, if it does.
    fn refusal(&self, out: &OutgoingMessage) -> Option<QueueError> {
        if out.body.len() > BODY_BYTES_MAX {
            let why = format!("{} bytes; at most {BODY_BYTES_MAX} are taken", out.body.len());
            return Some(self.refused("send", QueueErrorKind::TooLarge, why));
        }
        (out.delay > HIDDEN_MAX)
            .then(|| self.refused("send", QueueErrorKind::Unexpected, "the delay is longer than any may be"))
    }

    /// Reads both clocks, the monotonic one first, so that deadlines are never late.
    fn clock_readings(&self) -> ClockReadings {
        let steady = self.database.clock().monotonic();
        ClockReadings { steady, wall: self.database.clock().now() }
    }

    /// Receives the messages that are visible now.
    async fn receive_now(
        &self,
        excluded: &BTreeSet<AccountId>,
        max: u32,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let readings = self.clock_readings();
        let request = ReceiveQuery {
            queue: self.name,
            now: readings.wall,
            until: readings.hidden_until(visibility),
            handle: receivers::handle(&self.database).await.map_err(self.failed("receive"))?,
            max,
            excluded: excluded.clone(),
        };
        // A receive that is lost with the power is delivered once more.
        let received =
            self.database.write(Durability::Process, 0, move |transaction| rows::receive(transaction, &request)).await;
        let deadline = readings.deadline(visibility);
        let delivery = |received: rows::ReceivedMessage| Delivery {
            receipt: received.key.receipt(),
            body: received.body,
            receive_count: received.receives,
            sent_at: received.sent_at,
            deadline,
        };
        Ok(received.map_err(self.failed("receive"))?.into_iter().map(delivery).collect())
    }

    /// Waits until there may be a message to receive. Returns `false` at `until`.
    async fn wait_for_message(
        &self,
        excluded: &ExcludedAccounts,
        arrival: impl Future<Output = ()>,
        until: Monotonic,
    ) -> Result<bool, QueueError> {
        let clock = self.database.clock();
        let mut arrival = std::pin::pin!(arrival);
        let mut pause = POLL_LEAST;
        loop {
            let left = until.since(clock.monotonic());
            if left.is_zero() {
                return Ok(false);
            }
            tokio::select! {
                biased;
                () = &mut arrival => return Ok(true),
                () = excluded.over.cancelled() => return Ok(false),
                () = clock.sleep(pause.min(left)) => {}
            }
            pause = (pause * 2).min(POLL_MOST);
            if receivers::release_from_dead_receivers(&self.database).await.map_err(self.failed("receive"))? {
                return Ok(true);
            }
            let (queue, now) = (self.name, clock.now());
            let accounts = excluded.accounts.clone();
            let look = move |connection: &Connection| rows::any_visible(connection, queue, &accounts, now);
            let found = self.database.read(look).await;
            if found.map_err(self.failed("receive"))? {
                return Ok(true);
            }
        }
    }

    /// Applies `settle` to each delivery whose receipt still counts, and reports the others as expired.
    async fn settle(
        &self,
        op: &'static str,
        receipts: &[Receipt],
        settle: impl Fn(&mut rows::WriteTransaction<'_>, QueueName, DeliveryKey, Timestamp) -> rusqlite::Result<bool>
        + Send
        + 'static,
    ) -> Result<BatchReport, QueueError> {
        self.check_batch(op, receipts.len())?;
        let key: Vec<Option<DeliveryKey>> = receipts.iter().map(DeliveryKey::of).collect();
        let (queue, now) = (self.name, self.database.clock().now());
        let work = move |transaction: &mut rows::WriteTransaction<'_>| {
            let one = |key: &Option<DeliveryKey>| key.map_or(Ok(false), |key| settle(transaction, queue, key, now));
            key.iter().map(one).collect::<rusqlite::Result<Vec<bool>>>()
        };
        let done = match receipts {
            [] => Vec::new(),
            _ => self.database.write(Durability::Process, 0, work).await.map_err(self.failed(op))?,
        };
        let late = done.into_iter().enumerate().filter(|(_, done)| !done);
        Ok(BatchReport { failed: late.map(|(index, _)| (index, self.expired(op))).collect() })
    }

    fn expired(&self, op: &'static str) -> QueueError {
        QueueError { kind: QueueErrorKind::ReceiptExpired, op, queue: self.name, source: None }
    }
}

#[async_trait]
impl TaskQueue for SqliteQueue {
    fn name(&self) -> QueueName {
        self.name
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            batch_max: BATCH_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            delay_max: HIDDEN_MAX,
            visibility_max: HIDDEN_MAX,
            visibility_total_max: HIDDEN_MAX,
            fences_stale_receipts: true,
            can_exclude_accounts: true,
        }
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.check_batch("send", out.len())?;
        let now = self.database.clock().now();
        let mut report = BatchReport::default();
        let mut messages = Vec::with_capacity(out.len());
        let mut bytes = 0;
        for (index, out) in out.iter().enumerate() {
            if let Some(refusal) = self.refusal(out) {
                report.failed.push((index, refusal));
                continue;
            }
            bytes += out.body.len();
            let (visible_at, account) = (now.plus(whole_millis(out.delay)), out.group.clone());
            messages.push(NewMessage { visible_at, account, body: out.body.clone() });
        }
        if !messages.is_empty() {
            let queue = self.name;
            let work =
                move |transaction: &mut rows::WriteTransaction<'_>| rows::add(transaction, queue, now, &messages);
            self.database.write(Durability::Power, bytes, work).await.map_err(self.failed("send"))?;
        }
        Ok(report)
    }

    async fn receive_excluding(
        &self,
        excluded: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        let until = self.database.clock().monotonic().plus(wait);
        if visibility > HIDDEN_MAX {
            let why = "the visibility timeout is longer than any may be";
            return Err(self.refused("receive", QueueErrorKind::Unexpected, why));
        }
        loop {
            // Enabled before the receive, so that a message sent in between wakes the wait.
            let mut arrival = Box::pin(self.database.arrival(rows::index(self.name)));
            arrival.as_mut().enable();
            let deliveries = self.receive_now(&excluded.accounts, max.min(BATCH_MAX).get(), visibility).await?;
            if !deliveries.is_empty() || !self.wait_for_message(excluded, arrival, until).await? {
                return Ok(deliveries);
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.check_batch("extend", receipts.len())?;
        let key: Vec<Option<DeliveryKey>> = receipts.iter().map(DeliveryKey::of).collect();
        let readings = self.clock_readings();
        let (queue, now, until) = (self.name, readings.wall, readings.hidden_until(visibility));
        let work = move |transaction: &mut rows::WriteTransaction<'_>| {
            let one = |key: &Option<DeliveryKey>| {
                key.map_or(Ok(ExtendOutcome::Expired), |key| rows::extend(transaction, queue, key, now, until))
            };
            key.iter().map(one).collect::<rusqlite::Result<Vec<ExtendOutcome>>>()
        };
        let extensions = match receipts {
            [] => Vec::new(),
            _ => self.database.write(Durability::Process, 0, work).await.map_err(self.failed("extend"))?,
        };
        let answer = |extension: ExtendOutcome| match extension {
            ExtendOutcome::Granted => Ok(readings.deadline(visibility)),
            ExtendOutcome::Expired => Err(self.expired("extend")),
            ExtendOutcome::TooLong => {
                let why = "it would be in flight for longer than twelve hours";
                Err(self.refused("extend", QueueErrorKind::Unexpected, why))
            }
        };
        Ok(extensions.into_iter().map(answer).collect())
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.settle("release", receipts, rows::release).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.settle("acknowledge", receipts, |transaction, queue, key, _| rows::remove(transaction, queue, key)).await
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let (queue, now) = (self.name, self.database.clock().now());
        self.database.read(move |connection| rows::depth(connection, queue, now)).await.map_err(self.failed("depth"))
    }

    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let (queue, account) = (self.name, group.clone());
        let counted = self.database.read(move |connection| rows::depth_of(connection, queue, &account)).await;
        counted.map(Some).map_err(self.failed("depth"))
    }
}

#[derive(Clone, Copy)]
struct ClockReadings {
    steady: Monotonic,
    wall: Timestamp,
}

impl ClockReadings {
    fn hidden_until(self, visibility: Duration) -> Timestamp {
        self.wall.plus(whole_millis(visibility))
    }

    /// The wall clock counts whole ms, so a message may become visible a part of one ms early.
    fn deadline(self, visibility: Duration) -> Monotonic {
        self.steady.plus(visibility.saturating_sub(Duration::from_millis(1)))
    }
}

/// Rounds up, so that a message is never hidden for less than the requested time.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
