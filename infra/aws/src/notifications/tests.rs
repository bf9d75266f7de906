//! Recorded bodies, and what other readers of notifications were seen to get wrong.

mod properties;
mod recorded;
mod reports;

use super::*;

/// A recorded body. What it is of is in its name: the service, the way and the kind of event.
fn recorded(name: &str) -> String {
    let path = format!("{}/testdata/notifications/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn decode_text(body: &str) -> Result<Notification, NotificationError> {
    decode(body.as_bytes())
}

/// The events of a body that has some.
fn events(body: &str) -> Vec<ObjectEvent> {
    match decode_text(body) {
        Ok(Notification::Events(events)) => events,
        other => panic!("{other:?}"),
    }
}

fn only_event(body: &str) -> ObjectEvent {
    let [event] = <[ObjectEvent; 1]>::try_from(events(body)).unwrap();
    event
}

fn why_not(body: &str) -> String {
    decode_text(body).unwrap_err().to_string()
}

/// A record with these members of its object.
fn record(service: &str, name: &str, object: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "eventVersion": "2.1",
        "eventSource": service,
        "eventTime": "2026-03-12T10:15:30.123Z",
        "eventName": name,
        "s3": { "bucket": { "name": "archive" }, "object": object },
    })
}

fn records(of: &[serde_json::Value]) -> String {
    serde_json::json!({ "Records": of }).to_string()
}

/// A body with one record of Amazon.
fn aws(name: &str, object: &serde_json::Value) -> String {
    records(&[record("aws:s3", name, object)])
}

/// A body in an envelope of SNS.
fn in_sns(message: &str) -> String {
    serde_json::json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": message }).to_string()
}

/// A body by EventBridge.
fn by_event_bridge(detail_type: &str, object: &serde_json::Value) -> String {
    serde_json::json!({
        "version": "0",
        "source": "aws.s3",
        "detail-type": detail_type,
        "time": "2026-03-12T10:15:30Z",
        "detail": { "bucket": { "name": "archive" }, "object": object },
    })
    .to_string()
}

/// A key as Amazon encodes it in records; MinIO encodes `/` too.
fn form_encoded(key: &str, plain: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        _ if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(byte).collect()
}
