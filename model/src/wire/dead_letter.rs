//! The written form of a dead letter, and of bodies inside other documents.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FailureV1, WireError};
use crate::dead_letter::DeadLetterMessage;
use crate::envelope::Failure;
use crate::time::Timestamp;

/// A body within a JSON document: as text if it is UTF-8, else in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RawBody {
    /// A body of UTF-8.
    #[serde(rename = "text")]
    Text(String),
    /// Any other.
    #[serde(rename = "hex")]
    Hex(String),
}

impl RawBody {
    /// Makes the written form of a body.
    pub fn of(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(hex::encode(body)),
        }
    }

    /// The original body.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when the hexadecimal is damaged.
    pub fn bytes(&self) -> Result<Bytes, WireError> {
        match self {
            Self::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Hex(digits) => match hex::decode(digits) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(WireError::Malformed("a body's hexadecimal is damaged".into())),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct DeadLetterEnvelopeV1 {
    v: u64,
    letter: DeadLetterV1,
}

#[derive(Serialize, Deserialize)]
struct DeadLetterV1 {
    queue: String,
    given_up: FailureV1,
    receives: u32,
    body: RawBody,
}

/// Writes a dead letter.
///
/// # Errors
/// [`WireError::Malformed`], which no dead letter is known to cause.
pub fn encode_dead_letter(letter: &DeadLetterMessage) -> Result<Bytes, WireError> {
    let envelope = DeadLetterEnvelopeV1 {
        v: 1,
        letter: DeadLetterV1 {
            queue: letter.origin.as_str().to_owned(),
            given_up: FailureV1::of(&letter.given_up),
            receives: letter.receive_count,
            body: RawBody::of(&letter.body),
        },
    };
    serde_json::to_vec(&envelope).map(Bytes::from).map_err(|error| WireError::Malformed(error.to_string()))
}

/// Reads a dead letter.
///
/// # Errors
/// [`WireError`] for a body that is no dead letter, such as an envelope that the back end's own redrive has moved.
pub fn decode_dead_letter(body: &[u8]) -> Result<DeadLetterMessage, WireError> {
    let envelope: DeadLetterEnvelopeV1 =
        serde_json::from_slice(body).map_err(|error| WireError::Malformed(error.to_string()))?;
    if envelope.v != 1 {
        return Err(WireError::Version(envelope.v));
    }
    let DeadLetterV1 { queue, given_up, receives, body } = envelope.letter;
    Ok(DeadLetterMessage {
        body: body.bytes()?,
        origin: queue.parse()?,
        given_up: Failure::new(Timestamp::from_millis(given_up.at), given_up.workman, &given_up.reason),
        receive_count: receives,
    })
}
