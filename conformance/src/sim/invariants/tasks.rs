//! No accepted task is ever lost: it is in a queue, among the open letters, done, or thrown away by a person.

use super::Invariant;
use crate::sim::event::{Event, Sealed};
use crate::sim::truth::Truth;

pub(super) struct NoTaskIsLost;

impl Invariant for NoTaskIsLost {
    fn name(&self) -> &'static str {
        "no task is lost"
    }

    fn see(&mut self, event: &Event<'_>, truth: &Truth) -> Result<(), String> {
        let Event::Acknowledged { by, queue, sealed } = event else { return Ok(()) };
        let known = truth.tasks.get(&sealed.key);
        if known.is_some_and(crate::sim::truth::TaskTruth::is_accounted_for) {
            return Ok(());
        }
        let sealed: &Sealed = sealed;
        Err(format!("{by} acknowledged {sealed} in {queue}, and it is nowhere, not done, and nobody threw it away"))
    }
}
