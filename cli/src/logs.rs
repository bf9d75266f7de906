//! Logs on standard error, written around the progress bar if there is one.
//!
//! Lines for people name their task, and lines of one task are grouped ([`grouped`]). Lines for machines (`--log-json`)
//! are written at once, because a machine can sort them.

mod grouped;
mod groups;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::MultiProgress;
use mill_app::subject_names::SubjectNames;
use mill_ports::REPORTED;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use self::grouped::Grouped;
use self::groups::{GroupFlusher, Groups};

/// The AWS library describes at length what it looks for and does not find.
const FILTER: &str = "warn,aws_config=error,aws_runtime=error,aws_smithy_runtime=error";

/// What is logged unless somebody asks for more. `reports`: the command ends with a report for people.
pub(crate) fn default_filter(reports: bool) -> String {
    if reports { format!("{FILTER},{REPORTED}=error") } else { FILTER.to_owned() }
}

/// Begins logging. `filter` is as in `MILL_LOG`; `names` are the names of things in lines for people. The returned
/// value writes lines that are still held back when it is dropped.
pub(crate) fn begin(
    filter: &str,
    json: bool,
    names: SubjectNames,
    bars: &MultiProgress,
) -> Result<Option<GroupFlusher>> {
    let filter = EnvFilter::try_new(filter).context("the log filter makes no sense")?;
    let filter = filter.and(filter_fn(bears_no_secret));
    let out = AroundBars { bars: bars.clone() };
    if json {
        let layer = fmt::layer().json().with_writer(out);
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        return Ok(None);
    }
    let groups = Groups::writing(move |lines| out.write(lines));
    let keeper = groups.keeper().context("the thread that writes the log cannot be started")?;
    let layer = Grouped::new(groups, names, io::stderr().is_terminal());
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(Some(keeper))
}

/// Whether an event may be logged. The AWS library traces everything that it reads from the environment and profiles,
/// including keys.
fn bears_no_secret(event: &Metadata<'_>) -> bool {
    let reads_settings = ["aws_config", "aws_runtime"].iter().any(|room| event.target().starts_with(room));
    *event.level() != Level::TRACE || !reads_settings
}

/// Hides the progress bars while something is written.
struct AroundBars {
    bars: MultiProgress,
}

impl AroundBars {
    fn write(&self, text: &[u8]) {
        self.bars.suspend(|| {
            // Nothing can be done about a log that cannot be written.
            let _ = io::stderr().write_all(text);
        });
    }
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { out: self, text: Vec::new() }
    }
}

/// One line, written whole when it is dropped.
struct Line<'a> {
    out: &'a AroundBars,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.out.write(&self.text);
    }
}
