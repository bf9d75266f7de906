//! What became of each entry in a run, passed on to whoever asked for it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mill_model::ids::escape_bytes_for_display;
use mill_model::{ItemEvent, Timestamp};
use mill_ports::ItemEvents;
use mill_run::Remedy;
use parking_lot::Mutex;

use crate::event_line::EventLine;
use crate::item_report::EntryReport;
use crate::result_code::ResultCode;
use crate::run_summary::RunSummary;

/// Tells events, one at a time.
pub type EventTeller = Box<dyn Fn(&ItemEvent) + Send + Sync>;

/// The listener of a run.
#[derive(Default)]
pub struct RunEvents {
    /// Tells of each entry that was changed or could not be.
    teller: Option<EventTeller>,
    report: Option<EntryReport>,
    named: Mutex<NamedItems>,
}

/// The first entries that were changed or could not be.
#[derive(Debug, Default)]
struct NamedItems {
    lines: Vec<String>,
    more: u64,
    /// The names of the entries, escaped for a message.
    entries: BTreeSet<String>,
}

impl fmt::Debug for RunEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tells = self.teller.is_some();
        f.debug_struct("RunEvents").field("tells", &tells).field("report", &self.report).finish_non_exhaustive()
    }
}

impl RunEvents {
    /// How many entries a run's record names.
    pub const NAMED_MAX: usize = 1_000;

    /// A listener that tells of entries and collects a report, as far as these are wanted.
    pub fn new(teller: Option<EventTeller>, report: Option<EntryReport>) -> Self {
        Self { teller, report, ..Self::default() }
    }

    /// The first entries that were changed or could not be, as lines, and how many more there were.
    pub fn named(&self) -> (Vec<String>, u64) {
        let named = self.named.lock();
        (named.lines.clone(), named.more)
    }

    /// The names of these entries, escaped for a message.
    pub fn named_entries(&self) -> BTreeSet<String> {
        self.named.lock().entries.clone()
    }

    /// Why the report is not complete, if it is not.
    pub fn report_failure(&self) -> Option<String> {
        self.report.as_ref().and_then(EntryReport::failure)
    }

    fn name(&self, event: &ItemEvent) {
        let mut named = self.named.lock();
        if named.lines.len() < Self::NAMED_MAX {
            // Texts and numbers are always JSON.
            named.lines.extend(serde_json::to_string(&EventLine::of(event)).ok());
            named.entries.insert(escape_bytes_for_display(&event.subject.name));
        } else {
            named.more += 1;
        }
    }

    /// Writes the report, if there is to be one. A run whose report is not complete is done in part, and says so.
    pub async fn finish_report(&self, ended: Timestamp, exit: ResultCode, summary: &mut RunSummary) -> ResultCode {
        let Some(report) = &self.report else { return exit };
        let Some(why) = report.finish(ended, exit, summary).await else { return exit };
        summary.remarks.push(why);
        summary.remedy = summary.remedy.max(Remedy::SetRight);
        exit.max(ResultCode::Partial)
    }

    /// Notes that a worker process could not keep all of its events.
    pub(crate) fn note_failure(&self, why: &str) {
        if let Some(report) = &self.report {
            report.note_failure(why.to_owned());
        }
    }
}

#[async_trait]
impl ItemEvents for RunEvents {
    fn wants_all(&self) -> bool {
        self.report.is_some()
    }

    fn begin_survey(&self) {
        if let Some(report) = &self.report {
            report.begin_survey();
        }
    }

    async fn keep(&self, events: &[ItemEvent]) {
        if let Some(report) = &self.report {
            report.keep(events).await;
        }
    }

    fn tell(&self, events: &[ItemEvent]) {
        for event in events.iter().filter(|event| !event.fate.is_quiet()) {
            self.name(event);
            if let Some(teller) = &self.teller {
                teller(event);
            }
        }
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
