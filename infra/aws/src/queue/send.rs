//! Sending: messages over a limit fail by themselves, the others go in as few requests as their size allows.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use mill_ports::{BatchReport, OutgoingMessage, QueueError, QueueErrorKind};

use super::batches::UNANSWERED;
use super::body::{ENCODING, EncodedBody};
use super::{BODY_BYTES_MAX, DELAY_MAX, SqsQueue, ceil_seconds, kind_of_code};
use crate::sdk_error::CallError;

/// Most bytes of all messages of one request. Source: Amazon SQS developer guide, *Quotas*.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The entries of one request, each with its index in the batch.
#[derive(Default)]
struct SendBatch {
    places: Vec<usize>,
    entries: Vec<SendMessageBatchRequestEntry>,
    bytes: usize,
}

impl SqsQueue {
    pub(super) async fn send_all(&self, out: &[OutgoingMessage]) -> Result<BatchReport, QueueError> {
        let mut report = BatchReport::default();
        let groups = self.groups(out, &mut report)?;
        let alone = groups.len() == 1;
        for group in groups {
            let places = group.places.clone();
            match self.send_group(group, &mut report).await {
                Ok(()) => {}
                Err(error) if alone => return Err(error),
                // The other requests have results of their own.
                Err(error) => {
                    let why = mill_ports::error_chain(&error);
                    let each = places.into_iter().map(|at| (at, self.queue_error("send", error.kind, why.clone())));
                    report.failed.extend(each);
                }
            }
        }
        report.failed.sort_by_key(|(at, _)| *at);
        Ok(report)
    }

    fn groups(&self, out: &[OutgoingMessage], report: &mut BatchReport) -> Result<Vec<SendBatch>, QueueError> {
        let mut groups: Vec<SendBatch> = Vec::new();
        for (at, one) in out.iter().enumerate() {
            let encoded = EncodedBody::encode(&one.body);
            let bytes = encoded.byte_count();
            if let Some(refusal) = self.refusal(one, bytes) {
                report.failed.push((at, refusal));
                continue;
            }
            let entry = self.entry(at, one, encoded)?;
            if groups.last().is_none_or(|group| group.bytes + bytes > REQUEST_BYTES_MAX) {
                groups.push(SendBatch::default());
            }
            if let Some(group) = groups.last_mut() {
                group.places.push(at);
                group.entries.push(entry);
                group.bytes += bytes;
            }
        }
        Ok(groups)
    }

    /// `bytes` are those that the service counts: a message over the maximum would make the whole request fail.
    fn refusal(&self, out: &OutgoingMessage, bytes: usize) -> Option<QueueError> {
        if bytes > BODY_BYTES_MAX {
            let why = format!("{bytes} bytes; at most {BODY_BYTES_MAX} are taken");
            return Some(self.queue_error("send", QueueErrorKind::TooLarge, why));
        }
        (out.delay > DELAY_MAX)
            .then(|| self.queue_error("send", QueueErrorKind::Unexpected, "the delay is longer than any may be"))
    }

    fn entry(
        &self,
        at: usize,
        out: &OutgoingMessage,
        encoded: EncodedBody,
    ) -> Result<SendMessageBatchRequestEntry, QueueError> {
        let mut entry = SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(encoded.text);
        if !out.delay.is_zero() {
            entry = entry.delay_seconds(ceil_seconds(out.delay));
        }
        if let Some(encoding) = encoded.encoding {
            entry = entry.message_attributes(ENCODING, encoding);
        }
        if self.settings.fair {
            entry = entry.message_group_id(out.group.as_str());
        }
        entry.build().map_err(|why| self.queue_error("send", QueueErrorKind::Unexpected, why))
    }

    /// Sends one request. An entry that the response does not mention has failed.
    async fn send_group(&self, group: SendBatch, report: &mut BatchReport) -> Result<(), QueueError> {
        let url = self.url("send").await?;
        let request = self.client.send_message_batch().queue_url(url).set_entries(Some(group.entries));
        let answer = request.send().await.map_err(|error| self.call_error("send", CallError::from_sdk(error)))?;
        let is_entry = |at: usize, id: &str| at.to_string() == id;
        for at in group.places {
            // An entry that is listed as both counts as failed: a message that is sent twice does no harm.
            let done = answer.successful.iter().any(|done| is_entry(at, done.id()));
            let error = match answer.failed.iter().find(|failed| is_entry(at, failed.id())) {
                None if done => continue,
                Some(failed) => {
                    let why = format!("{}: {}", failed.code(), failed.message().unwrap_or("no reason given"));
                    self.queue_error("send", kind_of_code(failed.code()), why)
                }
                None => self.queue_error("send", QueueErrorKind::Unexpected, UNANSWERED),
            };
            report.failed.push((at, error));
        }
        Ok(())
    }
}
