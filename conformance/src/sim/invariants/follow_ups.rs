//! What follows from a task is in a queue before the task leaves its own.

use super::Invariant;
use crate::sim::event::Event;
use crate::sim::truth::Truth;

pub(super) struct FollowUpsComeFirst;

impl Invariant for FollowUpsComeFirst {
    fn name(&self) -> &'static str {
        "follow-ups come first"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Acknowledged { by, sealed, .. } = event else { return Ok(()) };
        let Some(task) = truth.tasks.get(&sealed.key).filter(|task| task.is_settled()) else {
            return Ok(());
        };
        match task.follow_ups.iter().find(|mark| !truth.marks.contains(*mark)) {
            Some(mark) => Err(format!("{by} acknowledged {sealed} before its follow-up `{mark}` was sent")),
            None => Ok(()),
        }
    }
}
