//! A task's follow-ups are in a queue before the task leaves its own.

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

pub(super) struct FollowUpsComeFirst;

impl Invariant for FollowUpsComeFirst {
    fn name(&self) -> &'static str {
        "follow-ups come first"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Acknowledged { by, decoded, .. } = event else { return Ok(()) };
        let Some(task) = model.tasks.get(&decoded.key).filter(|task| task.is_settled()) else {
            return Ok(());
        };
        match task.follow_ups.iter().find(|mark| !model.marks.contains(*mark)) {
            Some(mark) => Err(format!("{by} acknowledged {decoded} before its follow-up `{mark}` was sent")),
            None => Ok(()),
        }
    }
}
