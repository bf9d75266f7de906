//! No side effect begins after the task's lease has ended.

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

pub(super) struct LeasedEffects;

impl Invariant for LeasedEffects {
    fn name(&self) -> &'static str {
        "effects are leased"
    }

    fn see(&mut self, event: &Event<'_>, _: &WorldModel) -> Result<(), String> {
        match event {
            Event::Calls { by, op, store, subject, leased: Some(false) } => {
                Err(format!("{by} began {op} of {store} {subject} after its task's lease was over"))
            }
            _ => Ok(()),
        }
    }
}
