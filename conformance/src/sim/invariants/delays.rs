//! What failed comes again only after its delay.

use std::time::Duration;

use mill_model::Envelope;

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::fleet::RETRY_DELAYS;
use crate::sim::truth::{TaskTruth, Truth};

pub(super) struct DelaysKept;

impl Invariant for DelaysKept {
    fn name(&self) -> &'static str {
        "what failed waits"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Sent { by, sealed, due, .. } = event else { return Ok(()) };
        let (Some(envelope), Some(task)) = (&sealed.envelope, truth.tasks.get(&sealed.key)) else { return Ok(()) };
        if sealed.letter || !by.starts_with("workman") {
            return Ok(());
        }
        let (least, waits) = (least(envelope, task), due.since(truth.now));
        if waits >= least {
            return Ok(());
        }
        Err(format!("{by} sent {sealed} to come again after {waits:?}, and not after {least:?}"))
    }
}

/// How long it is to wait at least. What was there before in the same state, or further on, only goes back.
fn least(envelope: &Envelope, task: &TaskTruth) -> Duration {
    let Envelope { failures, .. } = *envelope;
    let failed_before = task.earlier.iter().any(|(before, ..)| *before >= failures);
    if failures > 0 && !failed_before {
        return RETRY_DELAYS[(failures as usize - 1).min(RETRY_DELAYS.len() - 1)];
    }
    Duration::ZERO
}
