//! Batches that change or delete deliveries, and what the answer says of each entry.

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchResultEntry, DeleteMessageBatchResultEntry,
};
use mill_ports::{QueueError, QueueErrorKind, Receipt};

use super::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, SqsQueue, of_code};
use crate::sdk_error::CallError;

/// Said of an entry of which the answer says nothing.
pub(super) const UNANSWERED: &str = "the answer says nothing of this entry";

/// For each entry, by its place: whether it was done.
type EntryResults = Vec<(usize, Result<(), QueueError>)>;

impl SqsQueue {
    pub(super) fn change(
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
            .map_err(|why| self.refused(op, QueueErrorKind::Unexpected, why))
    }

    pub(super) async fn change_all(
        &self,
        op: &'static str,
        changes: Vec<ChangeMessageVisibilityBatchRequestEntry>,
    ) -> Result<EntryResults, QueueError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.url(op).await?;
        let places: Vec<usize> = changes.iter().filter_map(|change| change.id().parse().ok()).collect();
        let client = if op == "extend" { &self.extending } else { &self.client };
        let request = client.change_message_visibility_batch().queue_url(url).set_entries(Some(changes));
        let answer = request.send().await.map_err(|error| self.failed(op, CallError::of(error)))?;
        let done: Vec<&str> = answer.successful.iter().map(ChangeMessageVisibilityBatchResultEntry::id).collect();
        Ok(self.entries(op, places, &done, &answer.failed))
    }

    pub(super) async fn delete_all(&self, receipts: &[Receipt]) -> Result<EntryResults, QueueError> {
        const OP: &str = "acknowledge";
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.url(OP).await?;
        let entry = |(at, receipt): (usize, &Receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(&*receipt.0).build()
        };
        let entries: Result<Vec<_>, _> = receipts.iter().enumerate().map(entry).collect();
        let entries = entries.map_err(|why| self.refused(OP, QueueErrorKind::Unexpected, why))?;
        let request = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = request.send().await.map_err(|error| self.failed(OP, CallError::of(error)))?;
        let done: Vec<&str> = answer.successful.iter().map(DeleteMessageBatchResultEntry::id).collect();
        Ok(self.entries(OP, (0..receipts.len()).collect(), &done, &answer.failed))
    }

    fn entries(
        &self,
        op: &'static str,
        places: Vec<usize>,
        done: &[&str],
        failed: &[BatchResultErrorEntry],
    ) -> EntryResults {
        let result = |at: usize| {
            let id = at.to_string();
            match failed.iter().find(|failed| failed.id() == id) {
                // Also of one that is said to be done besides.
                Some(failed) => Err(self.entry_failed(op, failed)),
                None if done.contains(&id.as_str()) => Ok(()),
                None => Err(self.refused(op, QueueErrorKind::Unexpected, UNANSWERED)),
            }
        };
        places.into_iter().map(|at| (at, result(at))).collect()
    }

    fn entry_failed(&self, op: &'static str, failed: &BatchResultErrorEntry) -> QueueError {
        let message = failed.message().unwrap_or("no reason given");
        // The service has one code for every value that it does not take; of an entry, only its receipt can be wrong.
        let gone = failed.code() == "InvalidParameterValue" && failed.sender_fault();
        let kind = if gone { QueueErrorKind::ReceiptExpired } else { of_code(failed.code()) };
        self.refused(op, kind, format!("{}: {message}", failed.code()))
    }
}
