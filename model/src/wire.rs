//! The written form of an envelope and of a dead letter: JSON of version 1. DuraCloud's own messages are read too.
//!
//! Every later Mill reads version 1; golden files check it. A reader ignores unknown members, so that an older Mill can
//! read a newer one's envelope of the same version.

mod dead_letter;
mod duracloud;
mod duracloud_audit;

pub use dead_letter::{RawBody, decode_dead_letter, encode_dead_letter};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::envelope::{Envelope, Failure};
use crate::ids::{AccountId, IdError, TaskId};
use crate::queue::QueueName;
use crate::task::{NotificationTask, Task, TaskArgs as _, TaskError, TaskKind};
use crate::time::Timestamp;

/// The id, queue and time for a body that has none (DuraCloud's).
#[derive(Debug, Clone, Copy)]
pub struct ReceiveContext {
    /// The id to give it.
    pub id: TaskId,
    /// The queue it was received from.
    pub queue: QueueName,
    /// When it was sent to the queue.
    pub sent_at: Timestamp,
}

/// Why a body is no envelope. Such a body is dead-lettered as it is.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Neither JSON nor Java properties.
    #[error("the body is neither a Mill envelope (JSON) nor a DuraCloud message (Java properties): {0}")]
    Malformed(String),
    /// JSON of a version that this Mill does not know.
    #[error("the envelope is of version {0}; this mill opens version 1")]
    Version(u64),
    /// Larger than an envelope may be.
    #[error("the body has {0} bytes; an envelope has at most {max}", max = Envelope::BYTES_MAX)]
    TooLarge(usize),
    /// A DuraCloud message of a type that has no task here.
    #[error("a DuraCloud message of type `{0}` has no counterpart here")]
    DuraCloudType(String),
    /// An id in it is not valid.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Its members do not make a task.
    #[error(transparent)]
    Task(#[from] TaskError),
}

#[derive(Serialize, Deserialize)]
struct EnvelopeV1 {
    v: u64,
    id: String,
    kind: String,
    account: String,
    queue: String,
    first_sent: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    failures: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    snoozes: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<FailureV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    task: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct FailureV1 {
    at: u64,
    workman: String,
    reason: String,
}

impl FailureV1 {
    fn of(failure: &Failure) -> Self {
        Self { at: failure.at.as_millis(), workman: failure.workman.clone(), reason: failure.reason.clone() }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Writes an envelope. The oldest failures are left out as the size limit requires; their count stays.
///
/// # Errors
/// [`WireError::TooLarge`] when the task itself does not fit.
pub fn encode(envelope: &Envelope) -> Result<Bytes, WireError> {
    let mut from = 0;
    loop {
        let body = encode_with_history(envelope, from)?;
        if body.len() <= Envelope::BYTES_MAX {
            return Ok(body.into());
        }
        if from == envelope.history.len() {
            return Err(WireError::TooLarge(body.len()));
        }
        from += 1;
    }
}

fn encode_with_history(envelope: &Envelope, history_from: usize) -> Result<Vec<u8>, WireError> {
    let wire = EnvelopeV1 {
        v: 1,
        id: envelope.id.to_string(),
        kind: envelope.task.kind.as_str().to_owned(),
        account: envelope.task.account.as_str().to_owned(),
        queue: envelope.origin.as_str().to_owned(),
        first_sent: envelope.first_sent.as_millis(),
        failures: envelope.failures,
        snoozes: envelope.snoozes,
        history: envelope.history[history_from..].iter().map(FailureV1::of).collect(),
        trace: envelope.trace.clone(),
        task: envelope.task.detail.clone(),
    };
    serde_json::to_vec(&wire).map_err(|error| WireError::Malformed(error.to_string()))
}

/// Reads a body: an envelope of version 1 or a DuraCloud message.
///
/// # Errors
/// [`WireError`] for anything else.
pub fn decode(body: &[u8], arrival: ReceiveContext) -> Result<Envelope, WireError> {
    if body.len() > Envelope::BYTES_MAX {
        return Err(WireError::TooLarge(body.len()));
    }
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return duracloud::decode(body, arrival);
    }
    let malformed = |error: serde_json::Error| WireError::Malformed(error.to_string());
    let wire: EnvelopeV1 = match serde_json::from_slice(body) {
        Ok(wire) => wire,
        Err(error) => match other_version(body) {
            Some(version) => return Err(version),
            None if arrival.queue == QueueName::Audit => return notification(body, arrival),
            None => return Err(malformed(error)),
        },
    };
    if wire.v != 1 {
        return Err(WireError::Version(wire.v));
    }
    Ok(Envelope {
        id: TaskId::parse(&wire.id)?,
        origin: wire.queue.parse()?,
        first_sent: Timestamp::from_millis(wire.first_sent),
        failures: wire.failures,
        snoozes: wire.snoozes,
        history: wire
            .history
            .into_iter()
            .map(|failure| Failure::new(Timestamp::from_millis(failure.at), failure.workman, &failure.reason))
            .collect(),
        trace: wire.trace,
        task: Task { kind: TaskKind::new(wire.kind), account: AccountId::new(wire.account)?, detail: wire.task },
    })
}

/// JSON of another system in the audit queue: what a store's service tells of its objects. Its processor reads it.
fn notification(body: &[u8], arrival: ReceiveContext) -> Result<Envelope, WireError> {
    if body.len() > NotificationTask::BODY_BYTES_MAX {
        return Err(WireError::TooLarge(body.len()));
    }
    let text = std::str::from_utf8(body).map_err(|error| WireError::Malformed(error.to_string()))?;
    let task = NotificationTask::of(text)?.to_task()?;
    Ok(Envelope::new(arrival.id, arrival.queue, arrival.sent_at, task))
}

/// The error for a body of another version, so that the reason given is the true one.
fn other_version(body: &[u8]) -> Option<WireError> {
    #[derive(Deserialize)]
    struct OnlyVersion {
        v: u64,
    }
    let version = serde_json::from_slice::<OnlyVersion>(body).ok()?.v;
    (version != 1).then_some(WireError::Version(version))
}

/// Checks that a golden file is read as a task of these arguments, and that they are written as it is.
#[cfg(test)]
pub(crate) fn assert_golden<A: crate::TaskArgs + PartialEq>(golden: &[u8], args: &A) {
    let arrival = ReceiveContext {
        id: TaskId::new(Timestamp::default(), [0; 10]),
        queue: QueueName::Audit,
        sent_at: Timestamp::default(),
    };
    let envelope = decode(golden, arrival).expect("the golden file is an envelope");
    assert_eq!(A::from_task(&envelope.task).expect("it is read"), *args);
    assert_eq!(args.to_task().expect("it is written"), envelope.task);
    assert_eq!(encode(&envelope).expect("it is written"), golden.trim_ascii_end());
}

#[cfg(test)]
mod tests;
