//! One producer works at a time: the lease is taken only after it was released, ran out, or its holder died.

use mill_model::Monotonic;
use serde::Deserialize;

use super::Invariant;
use crate::event::Event;
use crate::model::WorldModel;

#[derive(Default)]
pub(super) struct OneProducer {
    last: Option<(JournaledLease, Monotonic)>,
    dead: std::collections::BTreeSet<String>,
}

#[derive(Deserialize, Clone)]
struct JournaledLease {
    holder: String,
    epoch: u64,
    #[serde(default)]
    released: bool,
}

impl Invariant for OneProducer {
    fn name(&self) -> &'static str {
        "one producer works at a time"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        if let Event::Ended { by, .. } = event {
            self.dead.insert((*by).to_owned());
        }
        let Event::Row { by, table: "producer-state", sort: "lease", value: Some(value), .. } = event else {
            return Ok(());
        };
        let Ok(beat) = serde_json::from_slice::<JournaledLease>(value) else { return Ok(()) };
        let before = self.last.replace((beat.clone(), model.now));
        let Some((last, at)) = before.filter(|(last, _)| last.epoch != beat.epoch) else { return Ok(()) };
        let ran_out = model.now.since(at) >= model.tolerances.producer_timeout;
        if last.released || ran_out || self.dead.contains(&last.holder) {
            return Ok(());
        }
        Err(format!("{by} took the lease of {}, which beat {:?} ago", last.holder, model.now.since(at)))
    }
}
