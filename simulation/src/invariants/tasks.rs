//! No accepted task is lost: it is in a queue, an open dead letter, done, or thrown away by a person.

use super::Invariant;
use crate::event::{DecodedBody, Event};
use crate::model::WorldModel;

pub(super) struct NoTaskIsLost;

impl Invariant for NoTaskIsLost {
    fn name(&self) -> &'static str {
        "no task is lost"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Acknowledged { by, queue, decoded } = event else { return Ok(()) };
        let known = model.tasks.get(&decoded.key);
        if known.is_some_and(crate::model::TaskModel::is_accounted_for) {
            return Ok(());
        }
        let decoded: &DecodedBody = decoded;
        Err(format!("{by} acknowledged {decoded} in {queue}, and it is nowhere, not done, and nobody threw it away"))
    }
}
