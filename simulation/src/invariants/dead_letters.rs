//! A dead letter is marked as retried only once its task is in a queue again, and a decision about a dead letter never changes.

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

pub(super) struct RetriedOnceSent;

impl Invariant for RetriedOnceSent {
    fn name(&self) -> &'static str {
        "letters are retried once sent"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Row { by, table, sort, .. } = event else { return Ok(()) };
        if *table != mill_records::dead_letters::DeadLetters::TABLE {
            return Ok(());
        }
        let Some(row) = model.dead_letters.get(*sort).filter(|row| !row.open) else { return Ok(()) };
        let task = model.tasks.get(&row.task);
        if task.is_some_and(|task| task.is_accounted_for() && (task.discarded || task.resent)) {
            return Ok(());
        }
        Err(format!("{by} marked the letter {sort} as retried before its task was sent"))
    }
}

pub(super) struct DecisionsStand;

impl Invariant for DecisionsStand {
    fn name(&self) -> &'static str {
        "decisions about letters stand"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Row { by, table, sort, .. } = event else { return Ok(()) };
        let of_letter = *table == mill_records::dead_letters::DeadLetters::TABLE;
        match model.dead_letters.get(*sort) {
            Some(row) if of_letter && row.decided_again => {
                Err(format!("{by} decided once more about the letter {sort}"))
            }
            _ => Ok(()),
        }
    }
}
