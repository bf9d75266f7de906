//! Event notifications of S3: what a bucket says about its objects, read from the body of a message.
//!
//! A notification reaches a queue on several ways, and each leaves its mark on the body. All are read here:
//!
//! | way | body |
//! |---|---|
//! | S3 → SQS, and S3 → SNS → SQS with raw delivery | `{"Records":[…]}` |
//! | S3 → SNS → SQS | `{"Type":"Notification","Message":"…"}`, the records as a text in it |
//! | S3 → EventBridge → SQS | `{"source":"aws.s3","detail-type":"Object Created","detail":{…}}` |
//! | S3 → EventBridge → SNS → SQS | the same in an envelope of SNS |
//! | MinIO, Ceph, StorageGRID, RustFS and others | `{"Records":[…]}` with differences of their own (`records`) |
//!
//! Reading order: [`ObjectEvent`] (what is reported), [`Sequencer`] (which of two events came later), `names` (what the names of
//! events mean), `records` and `event_bridge` (the two forms), `key` (how keys are encoded), `json` (members by name).
//!
//! **Invariant:** an event is a reason to look, never an order. It may be late, repeated, out of order or lost, so it
//! says where something happened, and never what is there now. A body is read whole or not at all: one malformed record
//! makes the body an error that names it, so that the body can be kept as a dead letter and nothing of it is lost.
//!
//! Sources: Amazon S3 user guide, *Event message structure*, *EventBridge event message structure*, *Event ordering and
//! duplicate events*; Amazon SNS developer guide, *Raw message delivery*.

mod error;
mod event;
mod event_bridge;
mod json;
mod key;
mod names;
mod records;
mod sequencer;
#[cfg(test)]
mod tests;

pub use error::{EventFault, KeyFault, NotificationError};
pub use event::{EventKind, ObjectCreation, ObjectEvent, ObjectRemoval};
pub use sequencer::Sequencer;

use json::Json;

/// Longest body that is read, in bytes. Source: Amazon SQS developer guide, *Quotas*: a message has at most 1 MiB.
pub const BYTES_MAX: usize = 1024 * 1024;

/// What a body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// S3 sends this once when notifications of a bucket are set up. It is about no object.
    Test,
    /// The events, in the order of the body, which is no order in time. May be empty.
    Events(Vec<ObjectEvent>),
}

/// Reads the body of a message.
///
/// # Errors
/// [`NotificationError`] when the body, or any event in it, is not understood. Then none of it is returned.
pub fn decode(body: &[u8]) -> Result<Notification, NotificationError> {
    if body.len() > BYTES_MAX {
        return Err(NotificationError::TooLarge(body.len()));
    }
    let text = std::str::from_utf8(body).map_err(|error| NotificationError::NotText(error.to_string()))?;
    let body = Json::parse(text).map_err(NotificationError::NotJson)?;
    if let Some(kind) = body.get("Type").and_then(Json::as_text)
        && body.get("TopicArn").is_some()
    {
        return decode_sns(kind, &body);
    }
    decode_own(&body)
}

/// Reads what is in an envelope of SNS.
fn decode_sns(kind: &str, envelope: &Json) -> Result<Notification, NotificationError> {
    if kind != "Notification" {
        return Err(NotificationError::SnsHandshake(kind.to_owned()));
    }
    let within = |error| NotificationError::Sns(Box::new(error));
    let message = envelope.required_text("Message").map_err(|fault| within(NotificationError::Event(fault)))?;
    let message = Json::parse(message).map_err(|error| within(NotificationError::NotJson(error)))?;
    decode_own(&message).map_err(within)
}

/// Reads what S3 or EventBridge wrote.
fn decode_own(body: &Json) -> Result<Notification, NotificationError> {
    let Json::Object(members) = body else {
        return Err(NotificationError::UnknownForm(format!("it is {}", body.kind())));
    };
    if body.get("Records").is_some() {
        return records::read(body).map(Notification::Events);
    }
    if body.get("Event").and_then(Json::as_text) == Some("s3:TestEvent") {
        return Ok(Notification::Test);
    }
    if body.get("detail-type").is_some() {
        let event = event_bridge::read(body).map_err(NotificationError::Event)?;
        return Ok(Notification::Events(vec![event]));
    }
    Err(NotificationError::UnknownForm(json::describe_members(members)))
}
