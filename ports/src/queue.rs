//! The queue of tasks.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_model::{AccountId, Monotonic, QueueName, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::BoxError;

/// A queue of bodies: at-least-once, unordered, hidden from others while in flight.
///
/// A body sent stays in the queue, visible, delayed or in flight, until it is acknowledged or moved to the
/// dead-letter queue by the back end's own redrive. It may be delivered more than once, also to two receivers at once.
#[async_trait]
pub trait TaskQueue: fmt::Debug + Send + Sync + 'static {
    /// Which of the seven it is.
    fn name(&self) -> QueueName;

    /// What the back end can take.
    fn limits(&self) -> QueueLimits;

    /// Adds bodies, at most `limits().batch_max` of them. Those not named in the report are durably in the queue.
    ///
    /// # Errors
    /// An error means that nothing is known of any of them: some may be in the queue.
    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError>;

    /// Takes up to `max` visible bodies (at most `limits().batch_max`) and hides each for `visibility`.
    ///
    /// Waits up to `wait` for the first one. May return fewer than there are, also none.
    /// Not safe to cancel: await it, or what it took stays hidden for `visibility`.
    async fn receive(
        &self,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.receive_excluding(&ExcludedAccounts::default(), max, visibility, wait).await
    }

    /// Does as [`receive`](Self::receive) does, but brings nothing of the accounts that are passed over and does not count them
    /// as received: their bodies stay as they are.
    ///
    /// Its wait ends early, with nothing, once `passed_over.over` is cancelled. Where
    /// `limits().can_exclude_accounts` is not so, it is an ordinary receive.
    async fn receive_excluding(
        &self,
        passed_over: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// Hides deliveries for `visibility` from now, up to what remains of `limits().visibility_total_max`.
    ///
    /// Answers for each receipt, in order: the new deadline, rounded early, or why not
    /// ([`QueueErrorKind::ReceiptExpired`] once it is no longer in flight, as far as the back end can tell).
    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError>;

    /// Makes deliveries visible again at once. Their receive counts stay.
    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError>;

    /// Removes deliveries for good. Doing so twice is harmless.
    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError>;

    /// Roughly how many bodies there are.
    async fn depth(&self) -> Result<QueueDepth, QueueError>;

    /// Roughly how many bodies of an account there are: visible, delayed and in flight. `None` where that cannot be told.
    async fn depth_of(&self, group: &AccountId) -> Result<Option<u64>, QueueError> {
        let _ = group;
        Ok(None)
    }
}

/// Accounts of which a receive is to bring nothing.
#[derive(Debug, Clone, Default)]
pub struct ExcludedAccounts {
    /// Who they are, if any.
    pub accounts: BTreeSet<AccountId>,
    /// Cancelled once others are to be.
    pub over: CancellationToken,
}

/// A body to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Whose it is; back ends with fair queues serve accounts in turn by it.
    pub group: AccountId,
    /// The body, opened only by `model`.
    pub body: Bytes,
    /// How long it stays hidden at first, at most `limits().delay_max`.
    pub delay: Duration,
}

/// What a back end can take.
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
    /// Longest time in flight counted from the receive, however often extended.
    pub visibility_total_max: Duration,
    /// Whether an old receipt surely cannot acknowledge or extend a later delivery of the same body.
    /// Standard SQS queues do not promise it.
    pub fences_stale_receipts: bool,
    /// Whether [`receive_excluding`](TaskQueue::receive_excluding) passes accounts over. SQS cannot.
    pub can_exclude_accounts: bool,
}

/// The handle of one delivery, meaningful to its back end alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub Box<str>);

/// One receive of a body.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The handle of this receive.
    pub receipt: Receipt,
    /// What was sent.
    pub body: Bytes,
    /// How often it has been received, this time included.
    pub receive_count: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// It stays hidden at least until then: counted from before the request left.
    pub deadline: Monotonic,
}

/// Which entries of a batch failed. All others are done.
#[derive(Debug, Default)]
#[must_use = "entries of a batch can fail one by one"]
pub struct BatchReport {
    /// Index in the batch, and why.
    pub failed: Vec<(usize, QueueError)>,
}

impl BatchReport {
    /// The first failure as an error of the whole, for batches of one and for callers to whom each entry matters.
    ///
    /// # Errors
    /// The first entry's error.
    pub fn into_result(self) -> Result<(), QueueError> {
        self.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// For each receipt, in order, its new deadline or why it has none.
pub type ExtendResults = Vec<Result<Monotonic, QueueError>>;

/// Roughly how many bodies a queue holds; back ends may be late and inexact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not yet acknowledged.
    pub in_flight: u64,
    /// Sent with a delay that has not passed.
    pub delayed: u64,
    /// Age of the oldest body, if the back end tells.
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
    /// What sort of failure, as far as any caller acts on it.
    pub kind: QueueErrorKind,
    /// The operation.
    pub op: &'static str,
    /// The queue.
    pub queue: QueueName,
    /// The back end's own words.
    #[source]
    pub source: Option<BoxError>,
}

/// The sorts of failure on which some caller acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueErrorKind {
    /// The delivery is no longer in flight under this receipt.
    #[error("the receipt has expired")]
    ReceiptExpired,
    /// Asked too often.
    #[error("throttled")]
    Throttled {
        /// How long to wait before the next call, if it said so.
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
