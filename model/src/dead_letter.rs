//! A dead letter: a body that a workman dead-lettered, with the reason.

use bytes::Bytes;

use crate::envelope::Failure;
use crate::queue::QueueName;

/// What a workman puts into the dead-letter queue.
///
/// A body in that queue that is no dead letter was moved there by the back end's own redrive: each time it was
/// delivered, its worker was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterMessage {
    /// The body as it was, or the envelope with its last failure.
    pub body: Bytes,
    /// The queue it was taken from.
    pub origin: QueueName,
    /// When, by whom and why it was dead-lettered.
    pub given_up: Failure,
    /// How often the queue had delivered that body.
    pub receive_count: u32,
}
