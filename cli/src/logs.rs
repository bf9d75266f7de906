//! Logs on standard error, drawn around the progress bar where there is one.

use std::io::{self, Write};

use anyhow::{Context, Result};
use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Begins logging; `filter` as in `MILL_LOG`.
pub(crate) fn begin(filter: Option<&str>, json: bool, bars: &MultiProgress) -> Result<()> {
    let filter = EnvFilter::try_new(filter.unwrap_or("warn")).context("the log filter makes no sense")?;
    let writer = AroundBars { bars: bars.clone() };
    if json {
        let layer = fmt::layer().json().with_writer(writer);
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    } else {
        let layer = fmt::layer().with_writer(writer).with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
        tracing_subscriber::registry().with(layer.with_target(false).with_filter(filter)).init();
    }
    Ok(())
}

/// Lifts the bars for each line that is written.
struct AroundBars {
    bars: MultiProgress,
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bars: self.bars.clone(), text: Vec::new() }
    }
}

/// One line, written whole when it is dropped.
struct Line {
    bars: MultiProgress,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.bars.suspend(|| {
            // Nothing can be done about a log that cannot be written.
            let _ = io::stderr().write_all(&text);
        });
    }
}
