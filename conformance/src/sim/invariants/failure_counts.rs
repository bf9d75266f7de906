//! Only what failed counts as failed, what can never succeed is not tried again, and what failed often enough is given
//! up.

use mill_model::QueueName;

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::truth::Truth;

pub(super) struct OnlyFailuresCount;

impl Invariant for OnlyFailuresCount {
    fn name(&self) -> &'static str {
        "only failures count"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Sent { by, sealed, .. } => {
                let (Some(envelope), Some(task)) = (&sealed.envelope, truth.tasks.get(&sealed.key)) else {
                    return Ok(());
                };
                let failures = envelope.failures;
                let may = if sealed.letter { task.failed + task.permanent } else { task.failed };
                if failures > may {
                    return Err(format!("{by} sent {sealed}, but only {may} of its executions failed so"));
                }
                if !sealed.letter && failures >= truth.terms.failures_max {
                    return Err(format!("{by} sent {sealed} once more instead of giving it up"));
                }
                if sealed.letter && failures < truth.terms.failures_max && task.permanent == 0 {
                    return Err(format!("{by} gave {sealed} up too early"));
                }
                Ok(())
            }
            // What is among the letters has been given up already: there only the drain's failures are counted.
            Event::Received { queue, sealed, count, .. }
                if *queue != QueueName::DeadLetter && *count > truth.terms.receives_max =>
            {
                Err(format!("{sealed} was received {count} times"))
            }
            _ => Ok(()),
        }
    }
}
