//! What became of each entry in a run, passed on to whoever asked for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mill_model::ItemEvent;
use mill_ports::ItemEvents;
use parking_lot::Mutex;

use crate::event_line::EventLine;

/// Tells events, one at a time.
pub type EventTeller = Box<dyn Fn(&ItemEvent) + Send + Sync>;

/// The listener of a run.
#[derive(Default)]
pub struct RunEvents {
    /// Tells of each entry that was changed or could not be.
    pub teller: Option<EventTeller>,
}

impl fmt::Debug for RunEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunEvents").field("tells", &self.teller.is_some()).finish_non_exhaustive()
    }
}

impl RunEvents {
    /// Whether anybody wants to know anything.
    pub fn is_needed(&self) -> bool {
        self.teller.is_some()
    }
}

#[async_trait]
impl ItemEvents for RunEvents {
    fn wants_all(&self) -> bool {
        false
    }

    fn begin_survey(&self) {}

    async fn keep(&self, _events: &[ItemEvent]) {}

    fn tell(&self, events: &[ItemEvent]) {
        let Some(teller) = &self.teller else { return };
        events.iter().filter(|event| !event.fate.is_quiet()).for_each(teller);
    }
}

/// What a worker process has to tell the process that started it.
#[derive(Debug, Default)]
pub struct EventOutbox {
    lines: Mutex<Vec<EventLine>>,
    taken: AtomicUsize,
}

impl EventOutbox {
    /// Makes a teller that puts the first `most` events into this.
    pub fn teller(self: &Arc<Self>, most: usize) -> EventTeller {
        let outbox = self.clone();
        Box::new(move |event| {
            if outbox.taken.fetch_add(1, Ordering::Relaxed) < most {
                outbox.lines.lock().push(EventLine::of(event));
            }
        })
    }

    /// Takes out what is in it.
    pub fn take(&self) -> Vec<EventLine> {
        std::mem::take(&mut *self.lines.lock())
    }
}
