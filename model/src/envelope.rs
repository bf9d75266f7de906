//! The envelope: a task on its way through queues, with its history.

use crate::ids::TaskId;
use crate::queue::QueueName;
use crate::task::Task;
use crate::time::Timestamp;

/// One failed execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: Timestamp,
    /// The workman that ran it.
    pub workman: String,
    /// What went wrong, at most [`Failure::REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

impl Failure {
    /// The longest reason kept, in bytes.
    pub const REASON_BYTES_MAX: usize = 1024;

    /// Makes a failure. A longer reason is cut at a character boundary.
    pub fn new(at: Timestamp, workman: impl Into<String>, reason: &str) -> Self {
        let mut end = reason.len().min(Self::REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { at, workman: workman.into(), reason: reason[..end].to_owned() }
    }
}

/// A task on its way through queues, and all that has happened to it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The task's id; it stays the same through retries.
    pub id: TaskId,
    /// The queue it was first sent to. A retry goes back there.
    pub origin: QueueName,
    /// When it was first sent.
    pub first_sent: Timestamp,
    /// Executions that failed. Throttling and an unavailable store do not count.
    pub failures: u32,
    /// How often it was snoozed without having failed.
    pub snoozes: u32,
    /// The failures, oldest first. The oldest are dropped when the envelope would grow too large.
    pub history: Vec<Failure>,
    /// A text by which the sender finds the task in the logs.
    pub trace: Option<String>,
    /// The work.
    pub task: Task,
}

impl Envelope {
    /// The largest written form, in bytes.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// The envelope of a new task that has not been executed.
    pub fn new(id: TaskId, origin: QueueName, now: Timestamp, task: Task) -> Self {
        Self { id, origin, first_sent: now, failures: 0, snoozes: 0, history: Vec::new(), trace: None, task }
    }

    /// The same task after one more failed execution.
    #[must_use]
    pub fn failed(mut self, failure: Failure) -> Self {
        self.failures = self.failures.saturating_add(1);
        self.history.push(failure);
        self
    }

    /// The same task snoozed, perhaps changed.
    #[must_use]
    pub fn snoozed(mut self, changed: Option<Task>) -> Self {
        self.snoozes = self.snoozes.saturating_add(1);
        if let Some(task) = changed {
            self.task = task;
        }
        self
    }
}
