//! What a failed call on a store means: one function decides.

use mill_model::ids::escape_for_display;
use mill_model::{ItemAddress, SpaceId};
use mill_ports::{BoxError, RefusalReason, StoreError, StoreErrorKind};

use super::StoreInner;
use crate::sdk_error::{CallError, CallErrorCause};

/// What was being done when the service said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallPurpose {
    /// Reaching the store or a space: what stands in the way concerns all items.
    Reach,
    /// Reading one item.
    Read,
    /// Writing one item.
    Write,
}

impl StoreInner {
    pub(super) fn error(&self, op: &'static str, subject: String, kind: StoreErrorKind) -> StoreError {
        StoreError { kind, op, store: self.settings.address.clone(), subject, source: None }
    }

    pub(super) fn of_item(&self, op: &'static str, item: &ItemAddress, kind: StoreErrorKind) -> StoreError {
        self.error(op, item.to_string(), kind)
    }

    pub(super) fn of_space(&self, op: &'static str, space: &SpaceId, kind: StoreErrorKind) -> StoreError {
        let source = (kind == StoreErrorKind::SpaceAbsent).then(|| self.whereabouts.to_string().into());
        StoreError { source, ..self.error(op, space.to_string(), kind) }
    }

    /// An answer that contradicts itself or what was asked.
    pub(super) fn unexpected(&self, op: &'static str, item: &ItemAddress, why: impl Into<BoxError>) -> StoreError {
        StoreError { source: Some(why.into()), ..self.of_item(op, item, StoreErrorKind::Unexpected) }
    }

    /// The failure of a call, as far as its answer alone tells.
    #[allow(clippy::needless_pass_by_value)] // told once: whoever has it is done with it
    pub(super) fn meant(
        &self,
        op: &'static str,
        subject: String,
        during: CallPurpose,
        trouble: CallError,
    ) -> StoreError {
        let trouble = self.whereabouts.judged(trouble);
        let kind = match kind(during, &trouble) {
            // Where spaces share a bucket, it is the store itself that is not there.
            StoreErrorKind::SpaceAbsent if !self.bucket_is_space() => StoreErrorKind::Unavailable,
            kind => kind,
        };
        let words = self.whereabouts.told(&kind, &trouble, trouble.to_string());
        StoreError { source: Some(words.into()), ..self.error(op, subject, kind) }
    }
}

/// A text of a service or a key, fit for a message.
pub(super) fn fit(text: &str) -> String {
    escape_for_display(text)
}

/// The one place where an answer becomes a kind. Absence of an item is told apart before this is asked.
pub(super) fn kind(during: CallPurpose, trouble: &CallError) -> StoreErrorKind {
    match trouble.cause {
        CallErrorCause::Throttled { retry_after } => StoreErrorKind::Throttled { retry_after },
        // To whom one item is denied, others may be granted; where that is not so, `reach` finds it out.
        CallErrorCause::Denied if during == CallPurpose::Read => StoreErrorKind::Refused(RefusalReason::Unreadable),
        // To read needs no room.
        CallErrorCause::StorageFull if during == CallPurpose::Read => StoreErrorKind::Unreachable,
        CallErrorCause::Denied
        | CallErrorCause::Credentials
        | CallErrorCause::WrongAddress(_)
        | CallErrorCause::StorageFull
        | CallErrorCause::Unsupported
        | CallErrorCause::LoginRequired(_)
        | CallErrorCause::HtmlPage => StoreErrorKind::Unavailable,
        CallErrorCause::Unreachable | CallErrorCause::ServerError => StoreErrorKind::Unreachable,
        CallErrorCause::Malformed => StoreErrorKind::Unexpected,
        CallErrorCause::OtherResponse => of_code(during, trouble),
    }
}

fn of_code(during: CallPurpose, trouble: &CallError) -> StoreErrorKind {
    let (code, status) = (trouble.code.as_deref().unwrap_or_default(), trouble.status);
    let unholdable = |why: &str| StoreErrorKind::Refused(RefusalReason::UnrepresentableId(why.to_owned()));
    match (code, status) {
        ("NoSuchBucket", _) => StoreErrorKind::SpaceAbsent,
        ("PreconditionFailed", _) | (_, Some(412)) if during == CallPurpose::Read => StoreErrorKind::Changed,
        ("PreconditionFailed", _) | (_, Some(412)) => StoreErrorKind::Precondition,
        // Two writers at one moment: who asks again finds out who won.
        ("ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout", _) => {
            StoreErrorKind::Throttled { retry_after: None }
        }
        ("InvalidObjectState" | "ObjectNotInActiveTierError", _) => StoreErrorKind::Refused(RefusalReason::Archived(
            trouble.tier.clone().unwrap_or_else(|| "of its store".to_owned()),
        )),
        _ if during == CallPurpose::Read && trouble.wants_owners_key() => {
            StoreErrorKind::Refused(RefusalReason::Unreadable)
        }
        ("KeyTooLongError" | "KeyTooLong", _) => StoreErrorKind::Refused(RefusalReason::TooLong),
        ("MetadataTooLarge", _) => unholdable("its properties are too large"),
        ("EntityTooLarge", _) => unholdable("it is too large"),
        ("InvalidBucketName" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, Some(301 | 307)) => StoreErrorKind::NotConfigured,
        ("TooManyBuckets", _) => StoreErrorKind::Unavailable,
        ("MethodNotAllowed", _) | (_, Some(405)) if during == CallPurpose::Write => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_the_meaning_that_callers_act_on() {
        use CallPurpose::{Reach, Read, Write};
        for (during, cause, expected) in [
            (Read, CallErrorCause::Denied, StoreErrorKind::Refused(RefusalReason::Unreadable)),
            (Write, CallErrorCause::Denied, StoreErrorKind::Unavailable),
            (Reach, CallErrorCause::Denied, StoreErrorKind::Unavailable),
            (Read, CallErrorCause::Credentials, StoreErrorKind::Unavailable),
            (Read, CallErrorCause::WrongAddress(""), StoreErrorKind::Unavailable),
            (Read, CallErrorCause::Unreachable, StoreErrorKind::Unreachable),
            (Read, CallErrorCause::ServerError, StoreErrorKind::Unreachable),
            (Read, CallErrorCause::Malformed, StoreErrorKind::Unexpected),
            (Write, CallErrorCause::StorageFull, StoreErrorKind::Unavailable),
            (Read, CallErrorCause::StorageFull, StoreErrorKind::Unreachable),
            (Reach, CallErrorCause::Unsupported, StoreErrorKind::Unavailable),
            (Read, CallErrorCause::LoginRequired(""), StoreErrorKind::Unavailable),
            (Reach, CallErrorCause::HtmlPage, StoreErrorKind::Unavailable),
            (Write, CallErrorCause::Throttled { retry_after: None }, StoreErrorKind::Throttled { retry_after: None }),
        ] {
            assert_eq!(kind(during, &CallError::plain(cause, "")), expected, "{during:?} {cause:?}");
        }
    }

    #[test]
    fn every_code_has_the_meaning_that_callers_act_on() {
        use CallPurpose::{Read, Write};
        for (during, code, status, expected) in [
            (Read, "NoSuchBucket", 404, StoreErrorKind::SpaceAbsent),
            (Read, "PreconditionFailed", 412, StoreErrorKind::Changed),
            (Write, "PreconditionFailed", 412, StoreErrorKind::Precondition),
            (Write, "", 412, StoreErrorKind::Precondition),
            (Write, "ConditionalRequestConflict", 409, StoreErrorKind::Throttled { retry_after: None }),
            (Read, "InvalidObjectState", 403, StoreErrorKind::Refused(RefusalReason::Archived("GLACIER".into()))),
            (Write, "PermanentRedirect", 301, StoreErrorKind::NotConfigured),
            (Write, "TooManyBuckets", 400, StoreErrorKind::Unavailable),
            (Write, "BadDigest", 400, StoreErrorKind::Unexpected),
            (Read, "NoSuchKey", 404, StoreErrorKind::Unexpected),
        ] {
            let mut trouble = CallError::plain(CallErrorCause::OtherResponse, "");
            (trouble.code, trouble.status) = (Some(code.to_owned()), Some(status));
            trouble.tier = Some("GLACIER".into());
            assert_eq!(of_code(during, &trouble), expected, "{during:?} {code}");
        }
    }
}
