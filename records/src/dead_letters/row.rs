//! The written form of a row: JSON of version 1.

use bytes::Bytes;
use mill_model::wire::RawBody;
use mill_model::{AccountId, Failure, TaskKind, Timestamp};
use mill_ports::Row;
use serde::{Deserialize, Serialize};

use super::{DeadLetter, DeadLetterError, DeadLetterId, DeadLetterState};

#[derive(Serialize, Deserialize)]
struct DeadLetterRowV1 {
    v: u64,
    at: u64,
    reason: String,
    account: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    origin: Option<String>,
    failures: u32,
    history: Vec<HistoryEntryV1>,
    body: RawBody,
    state: DeadLetterStateV1,
}

#[derive(Serialize, Deserialize)]
struct HistoryEntryV1 {
    at: u64,
    workman: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeadLetterStateV1 {
    Open,
    Retried { by: String, at: u64 },
    Discarded { reason: String, by: String, at: u64 },
}

pub(super) fn encode(letter: &DeadLetter) -> Result<Bytes, DeadLetterError> {
    let failure = |failure: &Failure| HistoryEntryV1 {
        at: failure.at.as_millis(),
        workman: failure.workman.clone(),
        reason: failure.reason.clone(),
    };
    let row = DeadLetterRowV1 {
        v: 1,
        at: letter.at.as_millis(),
        reason: letter.reason.clone(),
        account: letter.account.as_ref().map(|account| account.as_str().to_owned()),
        kind: letter.kind.as_ref().map(|kind| kind.as_str().to_owned()),
        subject: letter.subject.clone(),
        origin: letter.origin.map(|origin| origin.as_str().to_owned()),
        failures: letter.failures,
        history: letter.history.iter().map(failure).collect(),
        body: RawBody::of(&letter.body),
        state: match &letter.state {
            DeadLetterState::Open => DeadLetterStateV1::Open,
            DeadLetterState::Retried { by, at } => DeadLetterStateV1::Retried { by: by.clone(), at: at.as_millis() },
            DeadLetterState::Discarded { reason, by, at } => {
                DeadLetterStateV1::Discarded { reason: reason.clone(), by: by.clone(), at: at.as_millis() }
            }
        },
    };
    serde_json::to_vec(&row)
        .map(Bytes::from)
        .map_err(|error| DeadLetterError::Damaged { id: letter.id.clone(), why: error.to_string() })
}

pub(super) fn decode(row: &Row) -> Result<DeadLetter, DeadLetterError> {
    let id = DeadLetterId(row.sort.clone());
    decode_value(&id, &row.value).map_err(|why| DeadLetterError::Damaged { id, why })
}

fn decode_value(id: &DeadLetterId, value: &[u8]) -> Result<DeadLetter, String> {
    let row: DeadLetterRowV1 = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if row.v != 1 {
        return Err(format!("it is of version {}", row.v));
    }
    let time = Timestamp::from_millis;
    Ok(DeadLetter {
        id: id.clone(),
        at: time(row.at),
        reason: row.reason,
        account: row.account.map(AccountId::new).transpose().map_err(|error| error.to_string())?,
        kind: row.kind.map(TaskKind::new),
        subject: row.subject,
        origin: row
            .origin
            .map(|origin| origin.parse())
            .transpose()
            .map_err(|error: mill_model::IdError| error.to_string())?,
        failures: row.failures,
        history: row
            .history
            .into_iter()
            .map(|failure| Failure::new(time(failure.at), failure.workman, &failure.reason))
            .collect(),
        body: row.body.bytes().map_err(|error| error.to_string())?,
        state: match row.state {
            DeadLetterStateV1::Open => DeadLetterState::Open,
            DeadLetterStateV1::Retried { by, at } => DeadLetterState::Retried { by, at: time(at) },
            DeadLetterStateV1::Discarded { reason, by, at } => DeadLetterState::Discarded { reason, by, at: time(at) },
        },
    })
}
