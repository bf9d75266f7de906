//! Queues of tasks.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_model::{AccountId, Monotonic, QueueName, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::BoxError;

/// A queue of message bodies: delivers at least once, unordered, and hides a body from other receivers while it is in
/// flight.
///
/// A body sent stays in the queue, visible, delayed or in flight, until it is acknowledged or moved to the dead-letter
/// queue by the back end's own redrive. It may be delivered more than once, even to two receivers at once.
#[async_trait]
pub trait TaskQueue: fmt::Debug + Send + Sync + 'static {
    /// Which of the seven it is.
    fn name(&self) -> QueueName;

    /// The limits of the back end.
    fn limits(&self) -> QueueLimits;

    /// Adds bodies, at most `limits().batch_max` of them. Bodies that the report does not name are durably in the
    /// queue.
    ///
    /// # Errors
    /// After an error nothing is known of any of them: some may be in the queue.
    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError>;

    /// Receives up to `max` visible bodies (at most `limits().batch_max`) and hides each for `visibility`.
    ///
    /// Waits up to `wait` for the first one. May return fewer than there are, even none. Not cancel-safe: if the future
    /// is dropped, received bodies stay hidden for `visibility`.
    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_excluding(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    /// Like [`receive`](Self::receive), but skips bodies of the `passed_over` accounts: they do not count as received
    /// and stay as they are.
    ///
    /// The wait ends early with an empty result once `passed_over.over` is cancelled. An ordinary receive if
    /// `limits().can_exclude_accounts` is false.
    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// Hides deliveries for `visibility` from now, up to what remains of `limits().visibility_total_max`.
    ///
    /// Returns for each receipt, in order, the new deadline, rounded early, or an error
    /// ([`QueueErrorKind::ReceiptExpired`] once it is no longer in flight, as far as the back end can tell).
    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError>;

    /// Makes deliveries visible again at once. Their receive counts stay.
    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError>;

    /// Removes deliveries for good. Doing so twice is harmless.
    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError>;

    /// The approximate number of bodies.
    async fn depth(&self) -> Result<QueueDepth, QueueError>;

    /// The approximate number of bodies of an account: visible, delayed and in flight. `None` if the back end cannot
    /// say.
    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let _ = group;
        Ok(None)
    }
}

/// Accounts that a receive skips.
#[derive(Debug, Clone, Default)]
pub struct ExcludedAccounts {
    /// The accounts.
    pub accounts: BTreeSet<AccountId>,
    /// Cancelled when the set of accounts changes: the receive ends, so that the next one uses the new set.
    pub over: CancellationToken,
}

/// A body to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The account it belongs to; back ends with fair queues serve accounts in turn by it.
    pub group: AccountId,
    /// The body; only `model` decodes it.
    pub body: Bytes,
    /// How long it stays hidden at first, at most `limits().delay_max`.
    pub delay: Duration,
}

/// The limits of a back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most bodies or receipts in one call.
    pub batch_max: NonZeroU32,
    /// Most bytes in one body.
    pub body_bytes_max: usize,
    /// Longest delay of a send.
    pub delay_max: Duration,
    /// Longest visibility timeout.
    pub visibility_max: Duration,
    /// Longest time in flight, counted from the receive, however often it is extended.
    pub visibility_total_max: Duration,
    /// Whether an old receipt is guaranteed not to acknowledge or extend a later delivery of the same body. Standard
    /// SQS queues do not guarantee it.
    pub fences_stale_receipts: bool,
    /// Whether [`receive_excluding`](TaskQueue::receive_excluding) skips accounts. SQS cannot.
    pub can_exclude_accounts: bool,
}

/// The handle of one delivery. Only its back end knows what it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub Box<str>);

/// One receive of a body.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The handle of this receive.
    pub receipt: Receipt,
    /// What was sent.
    pub body: Bytes,
    /// How often it has been received, including this time.
    pub receive_count: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// It stays hidden at least until then. Counted from before the request was sent.
    pub deadline: Monotonic,
}

/// The entries of a batch that failed. All others succeeded.
#[derive(Debug, Default)]
#[must_use = "entries of a batch can fail one by one"]
pub struct BatchReport {
    /// Index in the batch, and the error.
    pub failed: Vec<(usize, QueueError)>,
}

impl BatchReport {
    /// The first failure as an error of the whole batch, for batches of one and for callers that need every entry to
    /// succeed.
    ///
    /// # Errors
    /// The first entry's error.
    pub fn into_result(self) -> Result<(), QueueError> {
        self.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The entries of `batch` that failed, and the error that decides what becomes of them: one that no retry helps, if there is any.
    /// `None` if all succeeded.
    pub fn into_failed<T>(self, batch: Vec<T>) -> Option<(Vec<T>, QueueError)> {
        let failed: Vec<usize> = self.failed.iter().map(|(index, _)| *index).collect();
        let worst = self.failed.into_iter().map(|(_, error)| error).min_by_key(|error| error.kind.is_retryable())?;
        let all = batch.into_iter().enumerate();
        Some((all.filter(|(index, _)| failed.contains(index)).map(|(_, entry)| entry).collect(), worst))
    }
}

/// For each receipt, in order, its new deadline or the error.
pub type ExtendResults = Vec<Result<Monotonic, QueueError>>;

/// The approximate number of bodies in a queue; back ends may be late and inexact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not yet acknowledged.
    pub in_flight: u64,
    /// Sent with a delay that has not passed.
    pub delayed: u64,
    /// Age of the oldest body, if the back end reports it.
    pub oldest_age: Option<Duration>,
}

impl QueueDepth {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// A call on a queue that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} on queue `{queue}` failed: {kind}")]
pub struct QueueError {
    /// The kind of failure, as far as any caller acts on it.
    pub kind: QueueErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The queue.
    pub queue: QueueName,
    /// The back end's own error.
    #[source]
    pub source: Option<BoxError>,
}

/// The kinds of failure on which some caller acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueErrorKind {
    /// The delivery is no longer in flight under this receipt.
    #[error("the receipt has expired")]
    ReceiptExpired,
    /// Too many requests.
    #[error("throttled")]
    Throttled {
        /// How long to wait before the next call, if the queue says so.
        retry_after: Option<Duration>,
    },
    /// The body is larger than `limits().body_bytes_max`.
    #[error("the body is too large")]
    TooLarge,
    /// Not permitted.
    #[error("access denied")]
    Denied,
    /// There is no such queue.
    #[error("there is no such queue")]
    QueueMissing,
    /// No answer, or the back end cannot work now.
    #[error("unavailable")]
    Unavailable,
    /// Anything else.
    #[error("unexpected answer")]
    Unexpected,
}

impl QueueErrorKind {
    /// Whether the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable | Self::Unexpected)
    }
}
