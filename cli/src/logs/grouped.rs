//! Lines for people: time, level, what the work is about, what happened, its facts.
//!
//! ```text
//! 2026-11-21T08:00:01.000Z  WARN account/space/item (duplicate 4f1c…): a task failed reason="…" failures=1
//! ```

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::groups::Groups;
use crate::names::Names;

/// Writes events as lines, those of one span as a group.
pub(super) struct Grouped {
    groups: Groups,
    names: Names,
    colours: bool,
}

/// What a span says of the work done in it.
#[derive(Debug, Default)]
struct About {
    subject: Option<String>,
    facts: Vec<String>,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(subject) => write!(f, "{subject} ({})", self.facts.join(" ")),
            None => f.write_str(&self.facts.join(" ")),
        }
    }
}

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "subject" => self.subject = Some(format!("{value:?}")),
            // Bare: they say themselves what they are.
            "task.kind" | "task.id" => self.facts.push(format!("{value:?}")),
            name => self.facts.push(format!("{name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// What an event says: its message, then its facts.
#[derive(Debug, Default)]
struct Said {
    message: String,
    facts: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.facts, " {name}={value:?}"),
        };
    }
}

impl Grouped {
    pub(super) fn new(groups: Groups, names: Names, colours: bool) -> Self {
        Self { groups, names, colours }
    }

    fn line(&self, level: Level, about: Option<&About>, event: &Event<'_>) -> String {
        let mut said = Said::default();
        event.record(&mut said);
        let mut line = String::with_capacity(160);
        // The system's time can be written; were it not, the line would go without.
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        let (on, off) = if self.colours { (colour(level), "\u{1b}[0m") } else { ("", "") };
        let _ = write!(line, " {on}{level:>5}{off} ");
        if let Some(about) = about {
            let _ = write!(line, "{about}: ");
        }
        let _ = writeln!(line, "{}{}", said.message, said.facts);
        self.names.log_line(&line)
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Grouped {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut about = About::default();
            attributes.record(&mut about);
            span.extensions_mut().insert(about);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(about) = span.extensions_mut().get_mut::<About>()
        {
            values.record(about);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        let Some(span) = context.event_span(event) else {
            return self.groups.line(&self.line(level, None, event));
        };
        let line = self.line(level, span.extensions().get::<About>(), event);
        self.groups.line_of(span.id().into_u64(), &line, level == Level::ERROR);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.groups.end(id.into_u64());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn every_line_of_a_task_says_what_it_is_about() {
        let written = Arc::new(Mutex::new(String::new()));
        let out = written.clone();
        let groups = Groups::writing(move |text| out.lock().unwrap().push_str(std::str::from_utf8(text).unwrap()));
        let subscriber = tracing_subscriber::registry().with(Grouped::new(groups, Names::Policies, false));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::warn_span!(
                "attempt",
                task.kind = %"duplicate",
                task.id = %"4f1c",
                subject = tracing::field::Empty,
                queue = %"high",
            );
            span.record("subject", "a/s/i");
            span.in_scope(|| tracing::warn!(reason = "it rains", "a task failed"));
            span.in_scope(|| tracing::info!("put off"));
            tracing::info!(loops = 1, "alone");
        });
        let written = written.lock().unwrap();
        let lines: Vec<&str> = written.lines().filter_map(|line| Some(line.split_once("Z ")?.1.trim_start())).collect();
        let facts = "a/s/i (duplicate 4f1c queue=high)";
        let failed = format!("WARN {facts}: a task failed reason=\"it rains\"");
        assert_eq!(lines, ["INFO alone loops=1", &failed, &format!("INFO {facts}: put off")]);
    }
}
