//! Records, as S3 sends them to SQS and SNS, and as other servers send them.
//!
//! What differs among servers: MinIO begins names of events with `s3:`, encodes `/` in keys and repeats a name and a plain key
//! above the records. Ceph does not encode keys, writes sizes as texts in some versions, and `""` for a version that
//! there is none of. Removals have neither size nor tag at Amazon, and both elsewhere: `0` and `""`, or what was removed.
//! Moto writes neither a user nor the zone of a time.

use super::error::{EventFault, NotificationError};
use super::event::{EventKind, ObjectEvent};
use super::json::Json;
use super::key::{form_decoded, writes_keys_plainly};
use super::names::record_kind;
use super::{Sequencer, event_bridge};

/// Reads all records of a body.
pub(super) fn read(body: &Json) -> Result<Vec<ObjectEvent>, NotificationError> {
    const RECORDS: &str = "Records";
    let records = match body.at(RECORDS).map_err(NotificationError::Event)? {
        Some(Json::List(records)) => records,
        other => {
            let found = other.map_or("missing", Json::kind);
            return Err(NotificationError::Event(EventFault::Kind { member: RECORDS, found, expected: "a list" }));
        }
    };
    let count = records.len();
    let numbered = records.iter().enumerate();
    numbered
        .map(|(at, record)| {
            read_one(record).map_err(|fault| NotificationError::Record { number: at + 1, count, fault })
        })
        .collect()
}

fn read_one(record: &Json) -> Result<ObjectEvent, EventFault> {
    if !matches!(record, Json::Object(_)) {
        return Err(EventFault::Kind { member: "Records", found: record.kind(), expected: "a list of objects" });
    }
    let service = service(record)?;
    check_version(record.required_text("eventVersion")?)?;
    let kind = record_kind(record.required_text("eventName")?);
    let written = record.text("s3.object.key")?;
    let key = match written {
        Some(written) if writes_keys_plainly(service) => written.to_owned(),
        Some(written) => form_decoded(written)?,
        None if matches!(kind, EventKind::Ignored(_)) => String::new(),
        None => return Err(EventFault::Missing("s3.object.key")),
    };
    let sequencer = record.text("s3.object.sequencer")?.filter(|_| service == AMAZON).and_then(Sequencer::parse);
    let removed = matches!(kind, EventKind::Removed(_));
    Ok(ObjectEvent {
        service: service.to_owned(),
        bucket: record.required_text("s3.bucket.name")?.to_owned(),
        key,
        sequencer,
        at: event_bridge::time(record, "eventTime")?,
        size: record.whole("s3.object.size")?.filter(|_| !removed),
        etag: record.text("s3.object.eTag")?.filter(|_| !removed).and_then(event_bridge::unquoted),
        version_id: record.text("s3.object.versionId")?.map(str::to_owned),
        principal: record.text("userIdentity.principalId")?.map(str::to_owned),
        kind,
    })
}

/// The name of Amazon's service in records.
pub(super) const AMAZON: &str = "aws:s3";

/// The service that made a record. SNS writes this member with a capital.
fn service(record: &Json) -> Result<&str, EventFault> {
    let named = record.text("eventSource")?.or(record.text("EventSource")?);
    let service = named.ok_or(EventFault::Missing("eventSource"))?;
    if service.ends_with(":s3") { Ok(service) } else { Err(EventFault::OtherService(service.to_owned())) }
}

/// Checks the version of a record. Within one major version, members are only added.
///
/// Amazon has sent 2.0 to 2.6 so far. Source: Amazon S3 user guide, *Event message structure*.
fn check_version(version: &str) -> Result<(), EventFault> {
    event_bridge::check_major("eventVersion", version, "2", "versions 2.0 to 2.6 and later ones of 2")
}
