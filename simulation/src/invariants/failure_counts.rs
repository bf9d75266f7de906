//! Only failures count as failures, a task that can never succeed is not tried again, and a task that failed often enough is
//! dead-lettered.

use mill_model::QueueName;

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

pub(super) struct OnlyFailuresCount;

impl Invariant for OnlyFailuresCount {
    fn name(&self) -> &'static str {
        "only failures count"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        match event {
            Event::Sent { by, decoded, .. } => {
                let (Some(envelope), Some(task)) = (&decoded.envelope, model.tasks.get(&decoded.key)) else {
                    return Ok(());
                };
                let failures = envelope.failures;
                let may = if decoded.is_dead_letter { task.failed + task.permanent } else { task.failed };
                if failures > may {
                    return Err(format!("{by} sent {decoded}, but only {may} of its executions failed so"));
                }
                if !decoded.is_dead_letter && failures >= model.tolerances.failures_max {
                    return Err(format!("{by} sent {decoded} once more instead of giving it up"));
                }
                if decoded.is_dead_letter && failures < model.tolerances.failures_max && task.permanent == 0 {
                    return Err(format!("{by} gave {decoded} up too early"));
                }
                Ok(())
            }
            // A body in the dead-letter queue is dead-lettered already: its receives count only failures of the drain.
            Event::Received { queue, decoded, count, .. }
                if *queue != QueueName::DeadLetter && *count > model.tolerances.receives_max =>
            {
                Err(format!("{decoded} was received {count} times"))
            }
            _ => Ok(()),
        }
    }
}
