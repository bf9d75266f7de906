//! The seven queues, each a standard queue of SQS.
//!
//! Standard queues may deliver a message twice and do not fence stale receipts. So this adapter records, for the receipts
//! that it returned, until when each is surely valid, and whether it was acknowledged.

mod batches;
mod body;
mod receipts;
mod send;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName,
    QueueAttributeName,
};
use mill_model::{Monotonic, QueueName, Timestamp};
use mill_ports::{
    BatchReport, BoxError, Clock, Delivery, ExcludedAccounts, ExtendResults, OutgoingMessage, QueueDepth, QueueError,
    QueueErrorKind, QueueLimits, Receipt, TaskQueue,
};
use tokio::sync::OnceCell;

use crate::connection::Connection;
use crate::deployment::MESSAGE_BYTES_MAX;
use crate::sdk_error::{CallError, CallErrorCause};
use crate::service::endpoint;
use body::ENCODING;
use receipts::{ReceiptState, ReceiptTable};

/// Most entries of one request. Source of this and the following: Amazon SQS developer guide, *Quotas*.
const BATCH_MAX: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Longest visibility timeout, and longest time in flight counted from the receive.
const VISIBILITY_MAX: Duration = Duration::from_hours(12);
/// Longest delay of a message.
const DELAY_MAX: Duration = Duration::from_mins(15);
/// Longest wait of a receive.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Most bytes in one body: the maximum that the queues are set to, sixteen times an envelope.
const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX as usize;

/// Most time of one attempt of a call, and of all its attempts: well below the least visibility timeout, of which a third is
/// gone when it is extended. So a hanging connection does not cost the messages in flight. The wait of a receive comes on
/// top.
const TRY_MAX: Duration = Duration::from_secs(5);
const CALL_MAX: Duration = Duration::from_secs(20);

/// How a queue is used.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Which of the seven it is.
    pub name: QueueName,
    /// Its name in the service.
    pub queue: String,
    /// Whether messages have their account as message group, by which the service serves accounts in turn.
    pub fair: bool,
}

/// One of the seven queues.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    /// The client for extending: a heartbeat's requests must not wait for a busy runtime.
    extend_client: Client,
    settings: Arc<QueueSettings>,
    clock: Arc<dyn Clock>,
    url: Arc<OnceCell<String>>,
    /// The queue and its address, for error messages.
    location: Arc<str>,
    receipt_table: Arc<ReceiptTable>,
}

/// A failed call on a queue, and which queue it is.
#[derive(Debug, thiserror::Error)]
#[error("{location}")]
struct QueueCallError {
    location: Arc<str>,
    #[source]
    failure: CallError,
}

impl SqsQueue {
    /// The queue of these settings. Its URL is looked up at the first use.
    pub fn new(connection: &Connection, settings: QueueSettings, clock: Arc<dyn Clock>) -> Self {
        let client = client(connection);
        let at = endpoint(&connection.config, "SQS").map_or_else(String::new, |at| format!(" at {at}"));
        let region = connection.region().unwrap_or("none");
        Self {
            location: format!("queue `{}` in region `{region}`{at}", settings.queue).into(),
            extend_client: client.clone(),
            client,
            settings: Arc::new(settings),
            clock,
            url: Arc::default(),
            receipt_table: Arc::default(),
        }
    }

    /// The same queue with another connection for extending: for a heartbeat on its own runtime, since a connection is
    /// driven by the runtime on which it was made.
    #[must_use]
    pub fn with_extend_connection(self, connection: &Connection) -> Self {
        Self { extend_client: client(connection), ..self }
    }

    async fn url(&self, op: &'static str) -> Result<&str, QueueError> {
        let found = self.url.get_or_try_init(async || {
            let answer = self.client.get_queue_url().queue_name(&self.settings.queue).send().await;
            let answer = answer.map_err(|error| self.call_error(op, CallError::from_sdk(error)))?;
            answer
                .queue_url
                .ok_or_else(|| self.queue_error(op, QueueErrorKind::Unexpected, "a queue without an address"))
        });
        Ok(found.await?.as_str())
    }

    fn queue_error(&self, op: &'static str, kind: QueueErrorKind, why: impl Into<BoxError>) -> QueueError {
        QueueError { kind, op, queue: self.settings.name, source: Some(why.into()) }
    }

    fn call_error(&self, op: &'static str, failure: CallError) -> QueueError {
        self.queue_error(op, error_kind(&failure), QueueCallError { location: self.location.clone(), failure })
    }

    fn expired_error(&self, op: &'static str) -> QueueError {
        QueueError { kind: QueueErrorKind::ReceiptExpired, op, queue: self.settings.name, source: None }
    }

    fn check_batch_size(&self, op: &'static str, entries: usize) -> Result<(), QueueError> {
        if entries > BATCH_MAX.get() as usize {
            let why = format!("a batch of {entries}; at most {BATCH_MAX} are taken");
            return Err(self.queue_error(op, QueueErrorKind::Unexpected, why));
        }
        Ok(())
    }

    fn delivery(&self, message: Message, asked: Monotonic, deadline: Monotonic) -> Option<Delivery> {
        let attribute = |name: &MessageSystemAttributeName| {
            message.attributes.as_ref().and_then(|attributes| attributes.get(name)).and_then(|value| value.parse().ok())
        };
        let receive_count = attribute(&MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1);
        let sent_at = attribute(&MessageSystemAttributeName::SentTimestamp)
            .map_or_else(|| self.clock.now(), Timestamp::from_millis);
        // No message is empty: one without a body is incomplete, and is delivered again.
        message.body().filter(|body| !body.is_empty())?;
        let body = body::decode(&message);
        let receipt = Receipt(message.receipt_handle?.into());
        self.receipt_table.insert(&receipt, ReceiptState { received: asked, deadline: Some(deadline) }, asked);
        Some(Delivery {
            receipt,
            body,
            receive_count: u32::try_from(receive_count).unwrap_or(u32::MAX),
            sent_at,
            deadline,
        })
    }
}

#[async_trait]
impl TaskQueue for SqsQueue {
    fn name(&self) -> QueueName {
        self.settings.name
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            batch_max: BATCH_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            delay_max: DELAY_MAX,
            visibility_max: VISIBILITY_MAX,
            visibility_total_max: VISIBILITY_MAX,
            fences_stale_receipts: false,
            can_exclude_accounts: false,
        }
    }

    async fn send(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        self.check_batch_size("send", out.len())?;
        self.send_all(out).await
    }

    async fn receive_excluding(
        &self,
        _: &ExcludedAccounts,
        max: NonZeroU32,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        if visibility > VISIBILITY_MAX {
            let why = "the visibility timeout is longer than any may be";
            return Err(self.queue_error("receive", QueueErrorKind::Unexpected, why));
        }
        let url = self.url("receive").await?;
        // A message may be hidden from the moment that the request arrives, and the deadline counts from then: a long wait
        // must leave some time of it.
        let wait = wait.min(WAIT_MAX).min(visibility / 2);
        let asked = self.clock.monotonic();
        let request = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(max.min(BATCH_MAX).get().cast_signed())
            .visibility_timeout(ceil_seconds(visibility))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names(ENCODING);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(wait + TRY_MAX).disable_operation_timeout();
        let waiting = aws_sdk_sqs::Config::builder().timeout_config(timeouts.build());
        let answer = request.customize().config_override(waiting).send().await;
        let answer = answer.map_err(|error| self.call_error("receive", CallError::from_sdk(error)))?;
        let deadline = asked.plus(visibility);
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages.filter_map(|message| self.delivery(message, asked, deadline)).collect())
    }

    async fn extend(&self, receipts: &[Receipt], visibility: Duration) -> Result<ExtendResults, QueueError> {
        self.check_batch_size("extend", receipts.len())?;
        let asked = self.clock.monotonic();
        let until = asked.plus(visibility);
        let mut answers: Vec<Option<Result<Monotonic, QueueError>>> = receipts
            .iter()
            .map(|receipt| match self.receipt_table.get(receipt) {
                Some(receipt_state) if receipt_state.deadline.is_none_or(|deadline| deadline <= asked) => {
                    Some(Err(self.expired_error("extend")))
                }
                Some(receipt_state) if receipt_state.received.plus(VISIBILITY_MAX) < until => {
                    let why = "it would be in flight for longer than twelve hours";
                    Some(Err(self.queue_error("extend", QueueErrorKind::Unexpected, why)))
                }
                _ => None,
            })
            .collect();
        let open = (0..receipts.len()).filter(|at| answers[*at].is_none());
        let mut changes = Vec::new();
        for at in open {
            changes.push(self.visibility_entry("extend", at, &receipts[at], ceil_seconds(visibility))?);
        }
        for (at, done) in self.change_visibilities("extend", changes).await? {
            match &done {
                Ok(()) => self.receipt_table.extend(&receipts[at], until),
                Err(error) if error.kind == QueueErrorKind::ReceiptExpired => self.receipt_table.close(&receipts[at]),
                Err(_) => {}
            }
            answers[at] = Some(done.map(|()| until));
        }
        let unanswered = || self.queue_error("extend", QueueErrorKind::Unexpected, batches::UNANSWERED);
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect())
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.check_batch_size("release", receipts.len())?;
        let now = self.clock.monotonic();
        let mut report = BatchReport::default();
        let mut changes = Vec::new();
        for (at, receipt) in receipts.iter().enumerate() {
            match self.receipt_table.get(receipt) {
                // By now another receiver may have the message, and the service would still accept this receipt.
                Some(receipt_state) if receipt_state.deadline.is_none_or(|deadline| deadline <= now) => {
                    report.failed.push((at, self.expired_error("release")));
                }
                _ => changes.push(self.visibility_entry("release", at, receipt, 0)?),
            }
        }
        for (at, done) in self.change_visibilities("release", changes).await? {
            match done {
                Ok(()) => self.receipt_table.close(&receipts[at]),
                Err(error) => report.failed.push((at, error)),
            }
        }
        report.failed.sort_by_key(|(at, _)| *at);
        Ok(report)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<BatchReport, QueueError> {
        self.check_batch_size("acknowledge", receipts.len())?;
        let mut report = BatchReport::default();
        for (at, done) in self.delete_messages(receipts).await? {
            match done {
                Ok(()) => self.receipt_table.acknowledge(&receipts[at]),
                // An earlier acknowledgment took effect, and only its response was lost.
                Err(error)
                    if error.kind == QueueErrorKind::ReceiptExpired
                        && self.receipt_table.acknowledged(&receipts[at]) => {}
                Err(error) => report.failed.push((at, error)),
            }
        }
        Ok(report)
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let url = self.url("depth").await?;
        let names = Some(vec![Visible, InFlight, Delayed]);
        let answer = self.client.get_queue_attributes().queue_url(url).set_attribute_names(names).send().await;
        let answer = answer.map_err(|error| self.call_error("depth", CallError::from_sdk(error)))?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name: QueueAttributeName| {
            attributes.get(&name).and_then(|count| count.parse().ok()).ok_or_else(|| {
                self.queue_error("depth", QueueErrorKind::Unexpected, format!("the answer tells no `{name}`"))
            })
        };
        // The service reports the oldest age only as a metric, minutes late: here it is unknown.
        Ok(QueueDepth {
            visible: count(Visible)?,
            in_flight: count(InFlight)?,
            delayed: count(Delayed)?,
            oldest_age: None,
        })
    }
}

fn client(connection: &Connection) -> Client {
    let timeouts = connection.config.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
    let timeouts = timeouts.operation_attempt_timeout(TRY_MAX).operation_timeout(CALL_MAX).build();
    let config = aws_sdk_sqs::config::Builder::from(&connection.config).timeout_config(timeouts);
    Client::from_conf(config.interceptor(connection.request_counter()).build())
}

/// Rounded up, so that nothing is hidden for less time than requested.
fn ceil_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i32::MAX)
}

/// What a failed call on a queue means.
fn error_kind(failure: &CallError) -> QueueErrorKind {
    match failure.cause {
        CallErrorCause::Throttled { retry_after } => QueueErrorKind::Throttled { retry_after },
        // Credentials get renewed, perhaps by a person: until then waiting loses nothing.
        CallErrorCause::Credentials
        | CallErrorCause::WrongAddress(_)
        | CallErrorCause::LoginRequired(_)
        | CallErrorCause::Unreachable
        | CallErrorCause::ServerError
        | CallErrorCause::StorageFull => QueueErrorKind::Unavailable,
        CallErrorCause::Denied => QueueErrorKind::Denied,
        CallErrorCause::OtherResponse => kind_of_code(failure.code.as_deref().unwrap_or_default()),
        CallErrorCause::Unsupported
        | CallErrorCause::HtmlPage
        | CallErrorCause::UnreadableHeader
        | CallErrorCause::Malformed => QueueErrorKind::Unexpected,
    }
}

/// The kind of a service's error code, of a response or of one entry in it.
fn kind_of_code(code: &str) -> QueueErrorKind {
    match code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code) {
        "QueueDoesNotExist" | "NonExistentQueue" | "QueueDeletedRecently" => QueueErrorKind::QueueMissing,
        "ReceiptHandleIsInvalid" | "InvalidReceiptHandle" | "MessageNotInflight" => QueueErrorKind::ReceiptExpired,
        "MessageTooLong" | "BatchRequestTooLong" => QueueErrorKind::TooLarge,
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "PurgeQueueInProgress" => {
            QueueErrorKind::Unavailable
        }
        _ => QueueErrorKind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_meaning_that_callers_act_on() {
        for (code, expected) in [
            ("AWS.SimpleQueueService.NonExistentQueue", QueueErrorKind::QueueMissing),
            ("QueueDoesNotExist", QueueErrorKind::QueueMissing),
            ("ReceiptHandleIsInvalid", QueueErrorKind::ReceiptExpired),
            ("AWS.SimpleQueueService.MessageNotInflight", QueueErrorKind::ReceiptExpired),
            ("AWS.SimpleQueueService.BatchRequestTooLong", QueueErrorKind::TooLarge),
            ("InternalError", QueueErrorKind::Unavailable),
            ("InvalidMessageContents", QueueErrorKind::Unexpected),
            ("", QueueErrorKind::Unexpected),
        ] {
            assert_eq!(kind_of_code(code), expected, "{code}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (43_200_000, 43_200)] {
            assert_eq!(ceil_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
