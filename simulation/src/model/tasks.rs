//! Where a task is, and what happened to it.

use std::collections::BTreeSet;

use crate::event::{DecodedBody, ExecutionResult, OPERATOR};

/// One task, by its id.
#[allow(clippy::struct_excessive_bools)] // four facts that are independent of each other
#[derive(Debug, Default, Clone)]
pub(crate) struct TaskModel {
    /// Who sent it first.
    pub(crate) sent_by: String,
    /// Its bodies in all queues, including hidden and late ones.
    pub(crate) copies: i64,
    /// Its open dead letters.
    pub(crate) letters: i64,
    /// Whether any execution reported that nothing is left to do.
    pub(crate) done: bool,
    pub(crate) purged: bool,
    /// Whether the operator discarded it.
    pub(crate) discarded: bool,
    pub(crate) deliveries: u64,
    /// Executions that failed and may be tried again.
    pub(crate) failed: u32,
    /// Executions that failed for good.
    pub(crate) permanent: u32,
    /// How often the operator reset its failures.
    pub(crate) forgiven: u32,
    /// The failures, snoozes and history length of every body that was ever sent.
    pub(crate) states: BTreeSet<(u32, u32, usize)>,
    /// The same before the last send.
    pub(crate) earlier: BTreeSet<(u32, u32, usize)>,
    /// Whether the operator sent it again.
    pub(crate) resent: bool,
    /// The marks of the follow-ups of its successful executions.
    pub(crate) follow_ups: Vec<String>,
}

impl TaskModel {
    pub(super) fn sent(&mut self, decoded: &DecodedBody, by: &str) {
        self.copies += 1;
        if self.sent_by.is_empty() {
            by.clone_into(&mut self.sent_by);
        }
        self.resent |= by == OPERATOR;
        if let Some(envelope) = &decoded.envelope {
            self.earlier.clone_from(&self.states);
            self.states.insert((envelope.failures, envelope.snoozes, envelope.history.len()));
        }
    }

    pub(super) fn ran(&mut self, execution_result: &ExecutionResult) {
        match execution_result {
            ExecutionResult::Done { follow_ups } => {
                self.done = true;
                self.follow_ups.extend(follow_ups.iter().cloned());
            }
            ExecutionResult::Discarded => self.done = true,
            ExecutionResult::Retryable | ExecutionResult::Panicked => self.failed += 1,
            ExecutionResult::Permanent => self.permanent += 1,
            ExecutionResult::Snoozed
            | ExecutionResult::Throttled
            | ExecutionResult::Unavailable
            | ExecutionResult::Fatal
            | ExecutionResult::LeaseLost => {}
        }
    }

    /// Whether it left the queues because it was done, not because of the operator and not as a dead letter.
    pub(crate) fn is_settled(&self) -> bool {
        self.copies == 0 && self.letters == 0 && !self.purged && !self.discarded
    }

    /// Whether it is in a queue, among the dead letters, done, or thrown away by a person.
    pub(crate) fn is_accounted_for(&self) -> bool {
        self.copies > 0 || self.letters > 0 || self.done || self.purged || self.discarded
    }
}
