//! The kind of a failed call on a store: one function decides.

use mill_model::ids::escape_for_display;
use mill_model::{ItemAddress, SpaceId};
use mill_ports::{BoxError, RefusalReason, StoreError, StoreErrorKind};

use super::StoreInner;
use crate::sdk_error::{CallError, CallErrorCause};

/// The purpose of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallPurpose {
    /// Reaching the store or a space: a failure concerns all items.
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

    pub(super) fn item_error(&self, op: &'static str, item: &ItemAddress, kind: StoreErrorKind) -> StoreError {
        self.error(op, item.to_string(), kind)
    }

    pub(super) fn space_error(&self, op: &'static str, space: &SpaceId, kind: StoreErrorKind) -> StoreError {
        let source = (kind == StoreErrorKind::SpaceAbsent).then(|| self.error_context.to_string().into());
        StoreError { source, ..self.error(op, space.to_string(), kind) }
    }

    /// The error of a response that contradicts itself or the request.
    pub(super) fn unexpected(&self, op: &'static str, item: &ItemAddress, why: impl Into<BoxError>) -> StoreError {
        StoreError { source: Some(why.into()), ..self.item_error(op, item, StoreErrorKind::Unexpected) }
    }

    /// The error of a failed call, judged by its response alone.
    #[allow(clippy::needless_pass_by_value)] // callers are done with it
    pub(super) fn store_error(
        &self,
        op: &'static str,
        subject: String,
        during: CallPurpose,
        failure: CallError,
    ) -> StoreError {
        let failure = self.error_context.reinterpret(failure);
        let kind = match kind(during, &failure) {
            // Where spaces share a bucket, a missing bucket means that the whole store is missing.
            StoreErrorKind::SpaceAbsent if !self.bucket_is_space() => StoreErrorKind::Unavailable,
            kind => kind,
        };
        let words = self.error_context.with_context(&kind, &failure, failure.to_string());
        StoreError { source: Some(words.into()), ..self.error(op, subject, kind) }
    }
}

/// Escapes a key, or a text of a service, for a message.
pub(super) fn displayable(text: &str) -> String {
    escape_for_display(text)
}

/// The one place where a failed call becomes an error kind. Callers handle an absent item before.
pub(super) fn kind(during: CallPurpose, failure: &CallError) -> StoreErrorKind {
    match failure.cause {
        CallErrorCause::Throttled { retry_after } => StoreErrorKind::Throttled { retry_after },
        // One denied item does not mean that others are denied; `failure_scope` finds that out.
        CallErrorCause::Denied if during == CallPurpose::Read => StoreErrorKind::Refused(RefusalReason::Unreadable),
        // Reading needs no free space.
        CallErrorCause::StorageFull if during == CallPurpose::Read => StoreErrorKind::Unreachable,
        CallErrorCause::Denied
        | CallErrorCause::Credentials
        | CallErrorCause::WrongAddress(_)
        | CallErrorCause::StorageFull
        | CallErrorCause::Unsupported
        | CallErrorCause::LoginRequired(_)
        | CallErrorCause::HtmlPage => StoreErrorKind::Unavailable,
        CallErrorCause::Unreachable | CallErrorCause::ServerError => StoreErrorKind::Unreachable,
        CallErrorCause::UnreadableHeader => {
            StoreErrorKind::Refused(RefusalReason::UnreadableProperties(failure.to_string()))
        }
        CallErrorCause::Malformed => StoreErrorKind::Unexpected,
        CallErrorCause::OtherResponse => kind_of_code(during, failure),
    }
}

fn kind_of_code(during: CallPurpose, failure: &CallError) -> StoreErrorKind {
    let (code, status) = (failure.code.as_deref().unwrap_or_default(), failure.status);
    let unholdable = |why: &str| StoreErrorKind::Refused(RefusalReason::UnrepresentableId(why.to_owned()));
    match (code, status) {
        ("NoSuchBucket", _) => StoreErrorKind::SpaceAbsent,
        ("PreconditionFailed", _) | (_, Some(412)) if during == CallPurpose::Read => StoreErrorKind::Changed,
        ("PreconditionFailed", _) | (_, Some(412)) => StoreErrorKind::Precondition,
        // Two writers at one moment: a retry finds out who won.
        ("ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout", _) => {
            StoreErrorKind::Throttled { retry_after: None }
        }
        ("InvalidObjectState" | "ObjectNotInActiveTierError", _) => StoreErrorKind::Refused(RefusalReason::Archived(
            failure.archive_tier.clone().unwrap_or_else(|| "of its store".to_owned()),
        )),
        _ if during == CallPurpose::Read && failure.needs_customer_key() => {
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
            assert_eq!(kind(during, &CallError::new(cause, "")), expected, "{during:?} {cause:?}");
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
            let mut failure = CallError::new(CallErrorCause::OtherResponse, "");
            (failure.code, failure.status) = (Some(code.to_owned()), Some(status));
            failure.archive_tier = Some("GLACIER".into());
            assert_eq!(kind_of_code(during, &failure), expected, "{during:?} {code}");
        }
    }
}
