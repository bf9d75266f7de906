//! Why a body is not understood.

use mill_model::ids::shorten_for_display;

use super::BYTES_MAX;

/// Why the body of a message is no notification of S3 that this Mill understands. Such a body is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// Longer than a message may be.
    #[error("the body has {0} bytes; a notification has at most {BYTES_MAX}")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the body is no text: {0}")]
    NotText(String),
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON of another form.
    #[error("the body is no notification of S3, SNS or EventBridge: {0}")]
    UnknownForm(String),
    /// A message of SNS about a subscription, of this type. A person has to confirm it.
    #[error("the body is a message of SNS of type `{}`, which a person has to look at", shorten_for_display(.0))]
    SnsHandshake(String),
    /// What is in an envelope of SNS is not understood.
    #[error("in an envelope of SNS: {0}")]
    Sns(#[source] Box<NotificationError>),
    /// One of several records is not understood.
    #[error("record {number} of {count}: {fault}")]
    Record {
        /// Which, counted from 1.
        number: usize,
        /// How many the body has.
        count: usize,
        /// What is wrong with it.
        #[source]
        fault: EventFault,
    },
    /// The only event of the body is not understood.
    #[error(transparent)]
    Event(EventFault),
}

/// What is wrong with one event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// A member that it must have is missing, `null` or empty.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member occurs twice, so that readers could differ about the event.
    #[error("`{0}` occurs twice")]
    Twice(&'static str),
    /// A member is of another kind.
    #[error("`{member}` is {found} and should be {expected}")]
    Kind {
        /// Its name.
        member: &'static str,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The structure of the event is of a version that is unknown here.
    #[error("`{member}` is `{}`; this mill reads {known}", shorten_for_display(.found))]
    Version {
        /// The member that says so.
        member: &'static str,
        /// The version.
        found: String,
        /// The known ones.
        known: &'static str,
    },
    /// It is an event of another service.
    #[error("it is an event of `{}`, not of S3", shorten_for_display(.0))]
    OtherService(String),
    /// It is a record of a call, not an event of a bucket.
    #[error("it is a record of CloudTrail (`{}`), and only what the bucket itself sends to EventBridge is read",
        shorten_for_display(.0))]
    CloudTrail(String),
    /// The time is none.
    #[error("`{member}` is no time: `{}`", shorten_for_display(.found))]
    Time {
        /// The member.
        member: &'static str,
        /// What it says.
        found: String,
    },
    /// The key cannot be decoded.
    #[error("the key `{}` {why}", shorten_for_display(.written))]
    Key {
        /// As it was written.
        written: String,
        /// What is wrong with it.
        why: KeyFault,
    },
}

/// Why a key cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A `%` stands for itself, so the server seems not to encode keys.
    #[error("has a `%` without two hexadecimal digits, so it is not encoded as it should be")]
    Percent,
    /// The bytes are no UTF-8.
    #[error("is not UTF-8 after decoding")]
    NotUtf8,
}
