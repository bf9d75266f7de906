//! Who wants to know what became of each entry.

use std::fmt;

use async_trait::async_trait;
use mill_model::{ItemEvent, UpdatedPart};

/// Learns what became of each entry. Without a listener in [`Statistics`](crate::Statistics), no event is made.
///
/// Each event comes twice: first to be kept, if the listener wants all, before its deed is acknowledged or a marker passes
/// its entry; and then, once the sums count it, to be told. After a crash in between it is kept again.
#[async_trait]
pub trait ItemEvents: fmt::Debug + Send + Sync + 'static {
    /// Whether it wants each entry: those that are unchanged or queued too.
    fn wants_all(&self) -> bool;

    /// Begins anew: a survey from its beginning lists the entries again.
    fn begin_survey(&self);

    /// Keeps events durably. A failure is the listener's to report: the work goes on.
    async fn keep(&self, events: &[ItemEvent]);

    /// Tells events that were counted.
    fn tell(&self, events: &[ItemEvent]);
}

/// What a processor knows of an outcome, beside the outcome itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeDetail {
    /// What was updated.
    pub part: Option<UpdatedPart>,
    /// The content bytes that were written.
    pub bytes: Option<u64>,
    /// Why it was refused or dropped, or what its copy lacks.
    pub reason: Option<String>,
}
