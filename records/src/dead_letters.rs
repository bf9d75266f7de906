//! Dead letters: which tasks were dead-lettered, why, and what a person decided about each.
//!
//! A queue cannot be browsed and forgets after its retention, so each letter is written here before it is acknowledged.
//! A letter's id begins with the time at which it was given up and ends with a mark of its body: ids sort by time,
//! and a letter that is drained twice has one row.
//!
//! **Invariant:** a row is written before its letter is acknowledged, and a letter that is retried is sent before it
//! is marked. A crash between may repeat a task, never lose one.

mod row;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::wire::{self, ReceiveContext, WireError};
use mill_model::{AccountId, Envelope, Failure, QueueName, Task, TaskId, TaskKind, Timestamp};
use mill_ports::{
    CrashPoint, Delivery, KeyRange, OutgoingMessage, PlantedBug, QueueError, Row, RowKey, RowPrecondition, Table,
    TableError, TableErrorKind, TaskQueue, crash_point, planted,
};
use sha2::{Digest as _, Sha256};

/// The table's only partition.
const PARTITION: &str = "letters";

/// A letter's name: the time at which it was given up, and a mark of its body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId(String);

impl DeadLetterId {
    fn of(at: Timestamp, body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let digest = digest.iter().take(8).fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte));
        // Thirteen digits of milliseconds sort as numbers do until the year 2286.
        Self(format!("{:013}-{digest:016x}", at.as_millis()))
    }

    /// An id as a person gives it; whether there is such a letter is found out by looking.
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
        f.write_str(&mill_model::ids::escape_for_display(&self.0))
    }
}

/// A task that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id in the table.
    pub id: DeadLetterId,
    /// When it was given up, or first sent where the back end's own redrive moved it.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Whose task, if its body can be opened.
    pub account: Option<AccountId>,
    /// What sort of task, if its body can be opened.
    pub kind: Option<TaskKind>,
    /// What the task is about, if its processor could tell: `account/space/item`.
    pub subject: Option<String>,
    /// The queue to which a retry goes, if known.
    pub origin: Option<QueueName>,
    /// Executions that failed.
    pub failures: u32,
    /// The failures, oldest first, as far as the envelope kept them.
    pub history: Vec<Failure>,
    /// The body as it was: an envelope with its last failure, or what could not be opened.
    pub body: Bytes,
    /// What a person decided.
    pub state: DeadLetterState,
}

/// What became of a letter.
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
    /// It will not be done.
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
    /// Reads what came out of the dead-letter queue, whatever it is. `subject` tells what a task is about.
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
            // A body that does not say where it came from was given the queue it was found in.
            letter.origin = letter.origin.or(Some(envelope.origin)).filter(|origin| *origin != QueueName::DeadLetter);
            letter.account = Some(envelope.task.account);
            letter.kind = Some(envelope.task.kind);
            letter.failures = envelope.failures;
            letter.history = envelope.history;
        }
        letter
    }

    /// The body to send again: its failures forgiven, their history kept.
    fn body_for_retry(&self) -> Result<Bytes, WireError> {
        match decode_body(&self.body, self.at) {
            Ok(envelope) => wire::encode(&Envelope { failures: 0, ..envelope }),
            // Another version may be able to open it.
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

/// Which letters to list; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only those in the state of this name.
    pub state: Option<&'static str>,
    /// Only this account's.
    pub account: Option<AccountId>,
    /// Only of this kind.
    pub kind: Option<TaskKind>,
    /// Only those given up at or after this time.
    pub since: Option<Timestamp>,
}

impl DeadLetterFilter {
    fn matches(&self, letter: &DeadLetter) -> bool {
        self.state.is_none_or(|state| letter.state.as_str() == state)
            && self.account.as_ref().is_none_or(|account| letter.account.as_ref() == Some(account))
            && self.kind.as_ref().is_none_or(|kind| letter.kind.as_ref() == Some(kind))
    }
}

/// Some letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Where to go on, if there may be more.
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
    /// There is no such letter.
    #[error("there is no dead letter `{0}`; `mill deadletters list` shows those there are")]
    Unknown(DeadLetterId),
    /// Its fate is decided already.
    #[error("the dead letter `{id}` is {state} already")]
    Decided {
        /// The letter.
        id: DeadLetterId,
        /// What it is.
        state: &'static str,
    },
    /// Its body does not say where it came from, and no queue was given; or the queue given is not known here.
    #[error("the dead letter `{0}` has no queue to go back to; name one")]
    NoQueue(DeadLetterId),
    /// The row cannot be read.
    #[error("the row of the dead letter `{id}` cannot be read: {why}")]
    Damaged {
        /// The letter.
        id: DeadLetterId,
        /// What is wrong with it.
        why: String,
    },
    /// The task cannot be written as an envelope any more.
    #[error("the task of the dead letter `{id}` cannot be sent")]
    Wire {
        /// The letter.
        id: DeadLetterId,
        /// Why not.
        #[source]
        source: WireError,
    },
    /// The queue did not take it; the letter is as it was.
    #[error("the task of the dead letter `{id}` was not sent")]
    Queue {
        /// The letter.
        id: DeadLetterId,
        /// What the queue said.
        #[source]
        source: QueueError,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The table.
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

    /// Writes a letter down, durably. One that is there already stays as it is, with what was decided about it.
    ///
    /// # Errors
    /// [`DeadLetterError::Table`]: then the letter must not be acknowledged.
    pub async fn note(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        match self.table.put(&key(&letter.id), row::encode(letter)?, RowPrecondition::Absent).await {
            Err(error) if error.kind != TableErrorKind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Up to `limit` letters that pass, oldest first, from the one after `after` on.
    pub async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterId>,
        limit: usize,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        // Sorts before all ids that begin with it: those of letters of that time.
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

    /// How many letters pass.
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

    /// One letter.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`] when there is none of that name.
    pub async fn show(&self, id: &DeadLetterId) -> Result<DeadLetter, DeadLetterError> {
        row::decode(&self.row(id).await?)
    }

    /// Sends a letter's task again, its failures forgiven, and then marks the letter. It goes to `queue`, or else to
    /// where it came from.
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
        crash_point(CrashPoint::LettersBeforeRetry);
        let outgoing = OutgoingMessage {
            group: letter.account.clone().unwrap_or_else(unknown_account),
            body,
            delay: Duration::ZERO,
        };
        let sent = queue.send(&[outgoing]).await.and_then(mill_ports::BatchReport::into_result);
        sent.map_err(|source| DeadLetterError::Queue { id: id.clone(), source })?;
        crash_point(CrashPoint::LettersRetrySent);
        let OperatorDecision { by, at } = decision;
        self.decide(&row, letter, DeadLetterState::Retried { by, at }).await?;
        Ok(name)
    }

    /// Marks a letter as not to be done, with a reason. The row stays.
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

    /// A letter about which nothing is decided, and its row.
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
        let when = if planted(PlantedBug::DecidedTwice) { RowPrecondition::Always } else { version };
        match self.table.put(&key(&letter.id), row::encode(&letter)?, when).await {
            Ok(_) => {
                crash_point(CrashPoint::LettersDecided);
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

/// Stands for the account of a body that does not tell it.
#[allow(clippy::expect_used)] // the text is a valid id: a test retries a letter without account
fn unknown_account() -> AccountId {
    AccountId::new("unknown").expect("a plain word is an account id")
}

#[cfg(test)]
mod tests;
