//! Dead letters: which tasks were dead-lettered, why, and what a person decided about each.
//!
//! A queue cannot be browsed and forgets after its retention, so each dead letter is written here before it is
//! acknowledged. A dead letter's id begins with the time at which it was dead-lettered and ends with a hash of its
//! body: ids sort by time, and a dead letter that is drained twice has one row.
//!
//! **Invariant:** a row is written before its dead letter is acknowledged, and a retried dead letter is sent before it
//! is marked. A crash between the two steps may repeat a task but never loses one.

mod row;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::wire::{self, ReceiveContext, WireError};
use mill_model::{AccountId, Envelope, Failure, QueueName, Task, TaskId, TaskKind, Timestamp};
use mill_ports::{
    Delivery, KeyRange, OutgoingMessage, QueueError, Row, RowKey, RowPrecondition, Table, TableError, TableErrorKind,
    TaskQueue,
};
use sha2::{Digest as _, Sha256};

use crate::crash_points;

/// The table's only partition.
const PARTITION: &str = "letters";

/// A dead letter's id: the time at which it was dead-lettered, and a hash of its body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId(String);

impl DeadLetterId {
    fn of(at: Timestamp, body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let digest = digest.iter().take(8).fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte));
        // Thirteen digits of milliseconds sort as numbers do until the year 2286.
        Self(format!("{:013}-{digest:016x}", at.as_millis()))
    }

    /// Makes an id from a person's text. Whether such a dead letter exists is not checked.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mill_model::ids::shorten_for_display(&self.0))
    }
}

/// A task that was dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id in the table.
    pub id: DeadLetterId,
    /// When it was dead-lettered, or first sent if the back end's own redrive moved it.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The task's account, if its body can be decoded.
    pub account: Option<AccountId>,
    /// The task's kind, if its body can be decoded.
    pub kind: Option<TaskKind>,
    /// What the task is about, if its processor knows: `account/space/item`.
    pub subject: Option<String>,
    /// The queue to which a retry goes, if known.
    pub origin: Option<QueueName>,
    /// Executions that failed.
    pub failures: u32,
    /// The failures that the envelope kept, oldest first.
    pub history: Vec<Failure>,
    /// The original body: an envelope with its last failure, or a body that could not be decoded.
    pub body: Bytes,
    /// What a person decided about it.
    pub state: DeadLetterState,
}

/// What became of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterState {
    /// It waits for a person.
    Open,
    /// It was sent again.
    Retried {
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// The task will not be done.
    Discarded {
        /// Why not.
        reason: String,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
}

impl DeadLetterState {
    /// The name of the state.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retried { .. } => "retried",
            Self::Discarded { .. } => "discarded",
        }
    }
}

impl DeadLetter {
    /// Reads any delivery of the dead-letter queue. `subject` returns what a task is about.
    pub fn read(delivery: &Delivery, subject: impl FnOnce(&Task) -> Option<String>) -> Self {
        let (at, reason, body, origin) = match wire::decode_dead_letter(&delivery.body) {
            Ok(letter) => (letter.given_up.at, letter.given_up.reason, letter.body, Some(letter.origin)),
            Err(_) => (delivery.sent_at, worker_lost(delivery.receive_count), delivery.body.clone(), None),
        };
        let envelope = decode_body(&body, delivery.sent_at).ok();
        let mut letter = Self {
            id: DeadLetterId::of(at, &body),
            at,
            reason,
            account: None,
            kind: None,
            subject: None,
            origin,
            failures: 0,
            history: Vec::new(),
            body,
            state: DeadLetterState::Open,
        };
        if let Some(envelope) = envelope {
            letter.subject = subject(&envelope.task);
            // A body without an origin was given the queue it was found in.
            letter.origin = letter.origin.or(Some(envelope.origin)).filter(|origin| *origin != QueueName::DeadLetter);
            letter.account = Some(envelope.task.account);
            letter.kind = Some(envelope.task.kind);
            letter.failures = envelope.failures;
            letter.history = envelope.history;
        }
        letter
    }

    /// The body to send again: its count of failures is zero, their history is kept.
    fn body_for_retry(&self) -> Result<Bytes, WireError> {
        match decode_body(&self.body, self.at) {
            Ok(envelope) => wire::encode(&Envelope { failures: 0, ..envelope }),
            // Another version may be able to decode it.
            Err(_) => Ok(self.body.clone()),
        }
    }
}

fn worker_lost(receive_count: u32) -> String {
    format!("worker lost {receive_count} times: the queue itself gave the task up, no attempt ever ended")
}

fn decode_body(body: &[u8], at: Timestamp) -> Result<Envelope, WireError> {
    wire::decode(body, ReceiveContext { id: TaskId::new(at, [0; 10]), queue: QueueName::DeadLetter, sent_at: at })
}

/// Which dead letters to list; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only those in the state of this name.
    pub state: Option<&'static str>,
    /// Only those of this account.
    pub account: Option<AccountId>,
    /// Only those of this kind.
    pub kind: Option<TaskKind>,
    /// Only those dead-lettered at or after this time.
    pub since: Option<Timestamp>,
}

impl DeadLetterFilter {
    fn matches(&self, letter: &DeadLetter) -> bool {
        self.state.is_none_or(|state| letter.state.as_str() == state)
            && self.account.as_ref().is_none_or(|account| letter.account.as_ref() == Some(account))
            && self.kind.as_ref().is_none_or(|kind| letter.kind.as_ref() == Some(kind))
    }
}

/// A page of dead letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// Where the next page starts, if there may be more.
    pub next: Option<DeadLetterId>,
}

/// Who decides, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorDecision {
    /// The person.
    pub by: String,
    /// The time.
    pub at: Timestamp,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is no such dead letter.
    #[error("there is no dead letter `{0}`; `mill deadletters list` shows those there are")]
    Unknown(DeadLetterId),
    /// It was decided already.
    #[error("the dead letter `{id}` is {state} already")]
    Decided {
        /// The dead letter.
        id: DeadLetterId,
        /// Its state.
        state: &'static str,
    },
    /// Its body has no origin and no queue was given, or the given queue is not known here.
    #[error("the dead letter `{0}` has no queue to go back to; name one")]
    NoQueue(DeadLetterId),
    /// The row cannot be read.
    #[error("the row of the dead letter `{id}` cannot be read: {why}")]
    Damaged {
        /// The dead letter.
        id: DeadLetterId,
        /// What is wrong with it.
        why: String,
    },
    /// The task cannot be written as an envelope any more.
    #[error("the task of the dead letter `{id}` cannot be sent")]
    Wire {
        /// The dead letter.
        id: DeadLetterId,
        /// Why not.
        #[source]
        source: WireError,
    },
    /// The queue did not accept it; the dead letter is unchanged.
    #[error("the task of the dead letter `{id}` was not sent")]
    Queue {
        /// The dead letter.
        id: DeadLetterId,
        /// The queue's error.
        #[source]
        source: QueueError,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The repository of dead letters: one row for each.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    table: Arc<dyn Table>,
}

impl DeadLetters {
    /// The table's name.
    pub const TABLE: &str = "dead-letters";
    /// Rows read at a time.
    const PAGE_ROWS: usize = 100;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Writes a dead letter, durably. If it is in the table already, it stays as it is, with any decision about it.
    ///
    /// # Errors
    /// [`DeadLetterError::Table`]: then the dead letter must not be acknowledged.
    pub async fn note(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        match self.table.put(&key(&letter.id), row::encode(letter)?, RowPrecondition::Absent).await {
            Err(error) if error.kind != TableErrorKind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Up to `limit` dead letters that pass the filter, oldest first, starting after `after`.
    pub async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterId>,
        limit: usize,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        // This prefix sorts before all ids that begin with it, which are those of this time.
        let since = filter.since.map(|since| format!("{:013}", since.as_millis()));
        let mut after = after.map(|id| id.0.clone()).max(since);
        let mut letters = Vec::new();
        loop {
            let range = KeyRange { prefix: String::new(), after: after.clone() };
            let page = self.table.query(PARTITION, &range, Self::PAGE_ROWS).await?;
            for row in page.rows {
                let letter = row::decode(&row)?;
                after = Some(row.sort);
                if filter.matches(&letter) {
                    letters.push(letter);
                    if letters.len() >= limit.max(1) {
                        return Ok(DeadLetterPage { letters, next: after.map(DeadLetterId) });
                    }
                }
            }
            if page.end {
                return Ok(DeadLetterPage { letters, next: None });
            }
        }
    }

    /// The number of dead letters that pass the filter.
    pub async fn count(&self, filter: &DeadLetterFilter) -> Result<u64, DeadLetterError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.list(filter, after.as_ref(), Self::PAGE_ROWS).await?;
            count += page.letters.len() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    /// Returns one dead letter.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`] when there is no such id.
    pub async fn get(&self, id: &DeadLetterId) -> Result<DeadLetter, DeadLetterError> {
        row::decode(&self.row(id).await?)
    }

    /// Sends a dead letter's task again with its count of failures at zero, and then marks the dead letter as retried.
    /// The task goes to `queue`, or else to its origin.
    ///
    /// # Errors
    /// [`DeadLetterError::Decided`] when it is not open; [`DeadLetterError::NoQueue`]; [`DeadLetterError::Queue`].
    pub async fn retry(
        &self,
        id: &DeadLetterId,
        queue: Option<QueueName>,
        queues: &BTreeMap<QueueName, Arc<dyn TaskQueue>>,
        decision: OperatorDecision,
    ) -> Result<QueueName, DeadLetterError> {
        let (row, letter) = self.open(id).await?;
        let name = queue.or(letter.origin).ok_or_else(|| DeadLetterError::NoQueue(id.clone()))?;
        let queue = queues.get(&name).ok_or_else(|| DeadLetterError::NoQueue(id.clone()))?;
        let body = letter.body_for_retry().map_err(|source| DeadLetterError::Wire { id: id.clone(), source })?;
        crash_point(crash_points::LETTERS_BEFORE_RETRY);
        let outgoing = OutgoingMessage {
            group: letter.account.clone().unwrap_or_else(unknown_account),
            body,
            delay: Duration::ZERO,
        };
        let sent = queue.send(&[outgoing]).await.and_then(mill_ports::BatchReport::into_result);
        sent.map_err(|source| DeadLetterError::Queue { id: id.clone(), source })?;
        crash_point(crash_points::LETTERS_RETRY_SENT);
        let OperatorDecision { by, at } = decision;
        self.decide(&row, letter, DeadLetterState::Retried { by, at }).await?;
        Ok(name)
    }

    /// Marks a dead letter as discarded, with a reason. The row stays.
    ///
    /// # Errors
    /// [`DeadLetterError::Decided`] when it is not open.
    pub async fn discard(
        &self,
        id: &DeadLetterId,
        reason: &str,
        decision: OperatorDecision,
    ) -> Result<(), DeadLetterError> {
        let (row, letter) = self.open(id).await?;
        let OperatorDecision { by, at } = decision;
        self.decide(&row, letter, DeadLetterState::Discarded { reason: reason.to_owned(), by, at }).await
    }

    async fn row(&self, id: &DeadLetterId) -> Result<Row, DeadLetterError> {
        self.table.get(&key(id)).await?.ok_or_else(|| DeadLetterError::Unknown(id.clone()))
    }

    /// A dead letter about which nothing is decided, and its row.
    async fn open(&self, id: &DeadLetterId) -> Result<(Row, DeadLetter), DeadLetterError> {
        let row = self.row(id).await?;
        let letter = row::decode(&row)?;
        match letter.state {
            DeadLetterState::Open => Ok((row, letter)),
            ref decided => Err(DeadLetterError::Decided { id: id.clone(), state: decided.as_str() }),
        }
    }

    async fn decide(&self, row: &Row, mut letter: DeadLetter, state: DeadLetterState) -> Result<(), DeadLetterError> {
        letter.state = state;
        let version = RowPrecondition::VersionIs(row.version.clone());
        let when = if is_planted(PlantedBug::DecidedTwice) { RowPrecondition::Always } else { version };
        match self.table.put(&key(&letter.id), row::encode(&letter)?, when).await {
            Ok(_) => {
                crash_point(crash_points::LETTERS_DECIDED);
                Ok(())
            }
            Err(error) if error.kind == TableErrorKind::Conflict => {
                Err(DeadLetterError::Decided { id: letter.id, state: "being decided by another" })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn key(id: &DeadLetterId) -> RowKey {
    RowKey::new(PARTITION, id.as_str())
}

/// Stands for the account of a body that has none.
#[allow(clippy::expect_used)] // the text is a valid id: a test retries a letter without account
fn unknown_account() -> AccountId {
    AccountId::new("unknown").expect("a plain word is an account id")
}

#[cfg(test)]
mod tests;
