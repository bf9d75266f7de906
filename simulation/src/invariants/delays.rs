//! A failed task comes again only after its delay.

use std::time::Duration;

use mill_model::Envelope;

use super::Invariant;
use crate::event::Event;
use crate::fleet::RETRY_DELAYS;
use crate::model::{TaskModel, WorldModel};

pub(super) struct DelaysKept;

impl Invariant for DelaysKept {
    fn name(&self) -> &'static str {
        "what failed waits"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Sent { by, decoded, due, .. } = event else { return Ok(()) };
        let (Some(envelope), Some(task)) = (&decoded.envelope, model.tasks.get(&decoded.key)) else { return Ok(()) };
        if decoded.is_dead_letter || !by.starts_with("workman") {
            return Ok(());
        }
        let (least, waits) = (least(envelope, task), due.since(model.now));
        if waits >= least {
            return Ok(());
        }
        Err(format!("{by} sent {decoded} to come again after {waits:?}, and not after {least:?}"))
    }
}

/// How long the task must wait at least. A body with no more failures than an earlier one was not sent for a new failure.
fn least(envelope: &Envelope, task: &TaskModel) -> Duration {
    let Envelope { failures, .. } = *envelope;
    let failed_before = task.earlier.iter().any(|(before, ..)| *before >= failures);
    if failures > 0 && !failed_before {
        return RETRY_DELAYS[(failures as usize - 1).min(RETRY_DELAYS.len() - 1)];
    }
    Duration::ZERO
}
