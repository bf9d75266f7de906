//! The history of a task travels with it: each sent body extends an earlier one.

use super::Invariant;
use crate::event::{Event, OPERATOR};
use crate::model::WorldModel;

pub(super) struct HistoriesGrow;

impl Invariant for HistoriesGrow {
    fn name(&self) -> &'static str {
        "histories grow"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Sent { by, decoded, .. } = event else { return Ok(()) };
        let (Some(envelope), Some(task)) = (&decoded.envelope, model.tasks.get(&decoded.key)) else { return Ok(()) };
        let (failures, snoozes, history) = (envelope.failures, envelope.snoozes, envelope.history.len());
        let grew_from = |(f, s, h): &(u32, u32, usize)| {
            (failures, snoozes, history) == (*f + 1, *s, *h + 1) || (failures, snoozes, history) == (*f, *s + 1, *h)
        };
        let fresh = (failures, snoozes, history) == (0, 0, 0);
        let forgiven =
            *by == OPERATOR && failures == 0 && task.states.iter().any(|(_, s, h)| (*s, *h) == (snoozes, history));
        let known = task.earlier.contains(&(failures, snoozes, history));
        if (fresh && task.earlier.is_empty()) || known || forgiven || task.earlier.iter().any(grew_from) {
            return Ok(());
        }
        Err(format!("{by} sent {decoded} with a history of {history}; it grew out of none of {:?}", task.earlier))
    }
}
