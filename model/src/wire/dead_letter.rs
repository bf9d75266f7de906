//! The written form of a dead letter, and of bodies inside other documents.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FailureV1, WireError};
use crate::dead_letter::DeadLetterMessage;
use crate::envelope::Failure;
use crate::time::Timestamp;

/// A body within a JSON document: as a text where it is one, else in hexadecimal.
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
    /// Takes a body in, whatever it is.
    pub fn of(body: &[u8]) -> Self {
        use std::fmt::Write as _;
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(body.iter().fold(String::with_capacity(body.len() * 2), |mut out, byte| {
                let _ = write!(out, "{byte:02x}");
                out
            })),
        }
    }

    /// The body as it was.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when the hexadecimal is damaged.
    pub fn bytes(&self) -> Result<Bytes, WireError> {
        match self {
            Self::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Hex(hex) => unhex(hex).map(Bytes::from),
        }
    }
}

fn unhex(hex: &str) -> Result<Vec<u8>, WireError> {
    let damaged = || WireError::Malformed("a body's hexadecimal is damaged".into());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(damaged)
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
/// [`WireError::Malformed`], which no letter is known to cause.
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
/// [`WireError`] for every body that is none, such as an envelope that the back end's own redrive has moved.
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
