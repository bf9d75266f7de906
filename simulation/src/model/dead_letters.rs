//! The dead letters, as their rows state them.

use mill_model::wire::RawBody;
use serde::Deserialize;

use super::WorldModel;
use crate::event::DecodedBody;

/// The row of a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterModel {
    pub(crate) task: String,
    pub(crate) open: bool,
    /// Whether it contradicts an earlier decision.
    pub(crate) decided_again: bool,
    state: serde_json::Value,
}

#[derive(Deserialize)]
struct StoredDeadLetter {
    body: RawBody,
    state: serde_json::Value,
}

impl WorldModel {
    pub(super) fn letter(&mut self, sort: &str, value: Option<&[u8]>) {
        let written = value.and_then(|value| serde_json::from_slice::<StoredDeadLetter>(value).ok());
        let Some((written, body)) = written.and_then(|written| Some((written.body.bytes().ok()?, written.state)))
        else {
            return;
        };
        let (body, state) = (written, body);
        let decoded = DecodedBody::of(&body);
        let open = state.as_str() == Some("open");
        let decided_again = self.dead_letters.get(sort).is_some_and(|before| !before.open && before.state != state);
        let row = DeadLetterModel { task: decoded.key.clone(), open, decided_again, state: state.clone() };
        let before = self.dead_letters.insert(sort.to_owned(), row);
        let task = self.tasks.entry(decoded.key.clone()).or_default();
        task.letters += i64::from(open) - i64::from(before.is_some_and(|row| row.open));
        if state.get("discarded").is_some() {
            task.discarded = true;
        }
        if state.get("retried").is_some() {
            task.forgiven += 1;
        }
    }
}
