//! Batch requests that extend, release or delete deliveries, and the result of each entry.

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchResultEntry, DeleteMessageBatchResultEntry,
};
use mill_ports::{QueueError, QueueErrorKind, Receipt};

use super::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, SqsQueue, kind_of_code};
use crate::sdk_error::CallError;

/// The error of an entry that the response does not mention.
pub(super) const UNANSWERED: &str = "the answer says nothing of this entry";

/// The result of each entry, with its index.
type EntryResults = Vec<(usize, Result<(), QueueError>)>;

impl SqsQueue {
    pub(super) fn visibility_entry(
        &self,
        op: &'static str,
        at: usize,
        receipt: &Receipt,
        seconds: i32,
    ) -> Result<ChangeMessageVisibilityBatchRequestEntry, QueueError> {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(at.to_string())
            .receipt_handle(&*receipt.0)
            .visibility_timeout(seconds)
            .build()
            .map_err(|why| self.queue_error(op, QueueErrorKind::Unexpected, why))
    }

    pub(super) async fn change_visibilities(
        &self,
        op: &'static str,
        changes: Vec<ChangeMessageVisibilityBatchRequestEntry>,
    ) -> Result<EntryResults, QueueError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.url(op).await?;
        let places: Vec<usize> = changes.iter().filter_map(|change| change.id().parse().ok()).collect();
        let client = if op == "extend" { &self.extend_client } else { &self.client };
        let request = client.change_message_visibility_batch().queue_url(url).set_entries(Some(changes));
        let answer = request.send().await.map_err(|error| self.call_error(op, CallError::from_sdk(error)))?;
        let done: Vec<&str> = answer.successful.iter().map(ChangeMessageVisibilityBatchResultEntry::id).collect();
        Ok(self.entry_results(op, places, &done, &answer.failed))
    }

    pub(super) async fn delete_messages(&self, receipts: &[Receipt]) -> Result<EntryResults, QueueError> {
        const OP: &str = "acknowledge";
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.url(OP).await?;
        let entry = |(at, receipt): (usize, &Receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(&*receipt.0).build()
        };
        let entries: Result<Vec<_>, _> = receipts.iter().enumerate().map(entry).collect();
        let entries = entries.map_err(|why| self.queue_error(OP, QueueErrorKind::Unexpected, why))?;
        let request = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = request.send().await.map_err(|error| self.call_error(OP, CallError::from_sdk(error)))?;
        let done: Vec<&str> = answer.successful.iter().map(DeleteMessageBatchResultEntry::id).collect();
        Ok(self.entry_results(OP, (0..receipts.len()).collect(), &done, &answer.failed))
    }

    fn entry_results(
        &self,
        op: &'static str,
        places: Vec<usize>,
        done: &[&str],
        failed: &[BatchResultErrorEntry],
    ) -> EntryResults {
        let result = |at: usize| {
            let id = at.to_string();
            match failed.iter().find(|failed| failed.id() == id) {
                // Also if the response lists the entry as successful too.
                Some(failed) => Err(self.entry_error(op, failed)),
                None if done.contains(&id.as_str()) => Ok(()),
                None => Err(self.queue_error(op, QueueErrorKind::Unexpected, UNANSWERED)),
            }
        };
        places.into_iter().map(|at| (at, result(at))).collect()
    }

    fn entry_error(&self, op: &'static str, failed: &BatchResultErrorEntry) -> QueueError {
        let message = failed.message().unwrap_or("no reason given");
        // The service has one code for each invalid value. In an entry, only the receipt can be invalid.
        let gone = failed.code() == "InvalidParameterValue" && failed.sender_fault();
        let kind = if gone { QueueErrorKind::ReceiptExpired } else { kind_of_code(failed.code()) };
        self.queue_error(op, kind, format!("{}: {message}", failed.code()))
    }
}
