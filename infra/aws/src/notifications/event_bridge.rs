//! Events as S3 sends them to EventBridge. Keys are written as they are.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use mill_model::Timestamp;

use super::Sequencer;
use super::error::EventFault;
use super::event::{EventKind, ObjectEvent};
use super::json::Json;
use super::names::event_bridge_kind;
use super::records::AMAZON;

/// Reads the event of a body.
pub(super) fn read(body: &Json) -> Result<ObjectEvent, EventFault> {
    let source = body.required_text("source")?;
    if source != "aws.s3" {
        return Err(EventFault::OtherService(source.to_owned()));
    }
    let detail_type = body.required_text("detail-type")?;
    if detail_type.ends_with("via CloudTrail") {
        return Err(EventFault::CloudTrail(detail_type.to_owned()));
    }
    check_major("version", body.text("version")?.unwrap_or("0"), "0", "version 0")?;
    check_major("detail.event-version", body.text("detail.event-version")?.unwrap_or("1.0"), "1", "versions of 1")?;
    let kind = event_bridge_kind(detail_type, body.text("detail.reason")?, body.text("detail.deletion-type")?);
    let removed = matches!(kind, EventKind::Removed(_));
    Ok(ObjectEvent {
        service: AMAZON.to_owned(),
        bucket: body.required_text("detail.bucket.name")?.to_owned(),
        key: body.required_text("detail.object.key")?.to_owned(),
        sequencer: body.text("detail.object.sequencer")?.and_then(Sequencer::parse),
        at: time(body, "time")?,
        size: body.whole("detail.object.size")?.filter(|_| !removed),
        etag: body.text("detail.object.etag")?.filter(|_| !removed).and_then(unquoted),
        version_id: body.text("detail.object.version-id")?.map(str::to_owned),
        principal: body.text("detail.requester")?.map(str::to_owned),
        kind,
    })
}

/// Checks that a version such as `2.1` is of a known major version.
pub(super) fn check_major(
    member: &'static str,
    found: &str,
    major: &str,
    known: &'static str,
) -> Result<(), EventFault> {
    let of_major = found == major || found.strip_prefix(major).is_some_and(|minor| minor.starts_with('.'));
    if of_major { Ok(()) } else { Err(EventFault::Version { member, found: found.to_owned(), known }) }
}

/// A time of RFC 3339. What is finer than a millisecond is left out. Without a zone, as moto writes it, it is in UTC.
pub(super) fn time(event: &Json, member: &'static str) -> Result<Timestamp, EventFault> {
    let found = event.required_text(member)?;
    let parse = |text: &str| DateTime::from_str(text, Format::DateTimeWithOffset).ok();
    let time = parse(found).or_else(|| parse(&format!("{found}Z")));
    time.and_then(|time| time.to_millis().ok())
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| EventFault::Time { member, found: found.to_owned() })
}

/// An entity tag without the quotes that some servers leave.
pub(super) fn unquoted(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    (!inner.is_empty()).then(|| inner.to_owned())
}
