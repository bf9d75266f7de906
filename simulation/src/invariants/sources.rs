//! A source is never written: no writing call reaches a store that was never a destination of any policy.

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

pub(super) struct SourcesUntouched;

impl Invariant for SourcesUntouched {
    fn name(&self) -> &'static str {
        "sources are untouched"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        match event {
            Event::Calls { by, op, store, subject, .. } if !model.destinations.contains(store) => {
                Err(format!("{by} called {op} of {subject} in {store}, which no policy writes to"))
            }
            _ => Ok(()),
        }
    }
}
