//! Log lines for people: time, level, subject, message, fields.
//!
//! ```text
//! 2026-11-21T08:00:01.000Z  WARN account/space/item (duplicate 4f1c…): a task failed reason="…" failures=1
//! ```

use std::fmt::{self, Write as _};

use mill_app::subject_names::SubjectNames;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::groups::Groups;

/// Writes events as lines, those of one span as a group.
pub(super) struct Grouped {
    groups: Groups,
    names: SubjectNames,
    colours: bool,
}

/// The subject of the work in a span.
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
            // Without names: the values are clear by themselves.
            "task.kind" | "task.id" => self.facts.push(format!("{value:?}")),
            name => self.facts.push(format!("{name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// The message of an event and its fields.
#[derive(Debug)]
struct Said<'n> {
    names: &'n SubjectNames,
    message: String,
    facts: String,
}

impl Visit for Said<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message.push_str(&value);
        } else if let Some(value) = self.names.fact(field.name(), &value) {
            // Writing to a string cannot fail.
            let _ = write!(self.facts, " {}={value}", field.name());
        }
    }
}

impl Grouped {
    pub(super) fn new(groups: Groups, names: SubjectNames, colours: bool) -> Self {
        Self { groups, names, colours }
    }

    fn line(&self, level: Level, about: Option<&About>, event: &Event<'_>) -> String {
        let mut said = Said { names: &self.names, message: String::new(), facts: String::new() };
        event.record(&mut said);
        let mut line = String::with_capacity(160);
        // Formatting the time cannot fail; if it did, the line would lack it.
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        let (on, off) = if self.colours { (colour(level), "\u{1b}[0m") } else { ("", "") };
        let _ = write!(line, " {on}{level:>5}{off} ");
        if let Some(about) = about {
            let _ = write!(line, "{about}: ");
        }
        let _ = writeln!(line, "{}{}", said.message, said.facts);
        self.names.text(&line)
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
        self.groups.add_line(span.id().into_u64(), &line, level == Level::ERROR);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.groups.end(id.into_u64());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::prelude::*;

    use super::*;

    /// The lines that are logged under these names, from their level on.
    fn lines(names: SubjectNames, log: impl FnOnce()) -> Vec<String> {
        let written = Arc::new(Mutex::new(String::new()));
        let out = written.clone();
        let groups = Groups::writing(move |text| out.lock().push_str(std::str::from_utf8(text).unwrap()));
        let subscriber = tracing_subscriber::registry().with(Grouped::new(groups, names, false));
        tracing::subscriber::with_default(subscriber, log);
        let written = written.lock();
        written.lines().filter_map(|line| Some(line.split_once("Z ")?.1.trim_start().to_owned())).collect()
    }

    #[test]
    fn a_mirrors_lines_bear_no_names_that_nobody_gave() {
        let names =
            SubjectNames::Mirror { source: "src".into(), destination: "my copies".into(), words: String::new() };
        let lines = lines(names, || {
            let of_store = "list of `` in store `mirror:source` failed";
            let (account, space, source, destination) = ("mirror", "content", "source", "destination");
            tracing::warn!(%account, %space, %source, %destination, reason = of_store, "the space is passed over");
            tracing::warn!(%account, store = %"source", more = 1, "left out");
            tracing::warn!(account, store = "destination", "left out");
            tracing::warn!(store = %"mirror:destination", seconds = 2, "a store cannot be used; its tasks wait");
            // What is a person's own.
            tracing::warn!(%account, item = "content/a", space = %"content too", "named");
            let span = tracing::warn_span!("attempt", task.kind = %"duplicate", subject = %"mirror/content/content/a");
            span.in_scope(|| tracing::warn!(reason = "it rains", "a task failed"));
        });
        let expected = [
            "WARN the space is passed over reason=\"list of `src` failed\"",
            "WARN left out store=src more=1",
            "WARN left out store=my copies",
            "WARN a store cannot be used; its tasks wait store=my copies seconds=2",
            "WARN named item=\"content/a\" space=content too",
            "WARN content/a (duplicate): a task failed reason=\"it rains\"",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn every_line_of_a_task_says_what_it_is_about() {
        let lines = lines(SubjectNames::Policies, || {
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
        let facts = "a/s/i (duplicate 4f1c queue=high)";
        let failed = format!("WARN {facts}: a task failed reason=\"it rains\"");
        assert_eq!(lines, ["INFO alone loops=1", &failed, &format!("INFO {facts}: put off")]);
    }
}
