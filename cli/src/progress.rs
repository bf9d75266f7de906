//! One progress display for everything that runs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mill_app::subject_names::SubjectNames;
use mill_app::write_log::{WriteLog, long_writes};
use mill_model::StoreAddress;
use mill_ports::StoreWait;
use mill_run::RunProgress;
use tokio::sync::mpsc;

use crate::output::bytes;

/// Shows a run's progress: a bar on a terminal, a line every ten seconds elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    below: Vec<ProgressBar>,
    began: Instant,
    said: Instant,
    names: SubjectNames,
    quiet: bool,
    log: WriteLog,
}

/// How many transfers in flight are shown.
const IN_HAND_SHOWN: usize = 4;
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// Begins.
    pub(crate) fn begin(bars: &MultiProgress, names: &SubjectNames, quiet: bool) -> Self {
        let total = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = bars.add(ProgressBar::new(0));
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed_precise}] [{wide_bar}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let now = Instant::now();
        let (bars, names, log) = (bars.clone(), names.clone(), WriteLog::default());
        Self { bars, total, below: Vec::new(), began: now, said: now, names, quiet, log }
    }

    /// Shows the run's progress until its work is over; then removes the bars.
    pub(crate) async fn follow(mut self, mut snapshots: mpsc::Receiver<RunProgress>) {
        while let Some(snapshot) = snapshots.recv().await {
            self.show(&snapshot);
        }
        for bar in self.below.drain(..).chain(self.total.take()) {
            bar.finish_and_clear();
        }
    }

    /// Shows the progress.
    fn show(&mut self, snapshot: &RunProgress) {
        let since = self.began.elapsed();
        let Some(total) = &self.total else {
            self.log.look(&snapshot.writes);
            if !self.quiet && self.said.elapsed() >= PLAIN_EVERY {
                self.said = Instant::now();
                self.say(&progress_line(snapshot, since, &self.names));
            }
            return;
        };
        let moved = snapshot.totals.work.bytes + snapshot.bytes_moving;
        // By bytes if there are many to copy, else by items: a million empty files must move the bar too.
        let (at, of) = if snapshot.bytes_queued > snapshot.run.survey.queued.saturating_mul(4096) {
            (moved, snapshot.bytes_queued)
        } else {
            (snapshot.run.done(), snapshot.run.survey.listed)
        };
        total.set_length(of.max(1));
        total.set_position(at.min(of));
        total.set_message(progress_line(snapshot, since, &self.names));
        total.tick();
        self.show_in_hand(&snapshot.in_hand);
    }

    fn show_in_hand(&mut self, in_hand: &[(String, u64, u64)]) {
        let shown = in_hand.len().min(IN_HAND_SHOWN);
        while self.below.len() < shown {
            let bar = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("    {wide_msg}") {
                bar.set_style(style);
            }
            self.below.push(bar);
        }
        for bar in self.below.drain(shown..) {
            bar.finish_and_clear();
        }
        for (bar, (subject, moved, size)) in self.below.iter().zip(in_hand) {
            bar.set_message(format!("{}: {} of {}", self.names.text(subject), bytes(*moved), bytes(*size)));
        }
    }

    fn say(&self, line: &str) {
        use std::io::Write as _;
        self.bars.suspend(|| {
            // Nothing can be done about a progress line that cannot be written.
            let _ = writeln!(std::io::stderr(), "mill: {line}");
        });
    }
}

/// The progress of a run, in one line.
fn progress_line(snapshot: &RunProgress, since: Duration, names: &SubjectNames) -> String {
    let moved = snapshot.totals.work.bytes + snapshot.bytes_moving;
    let seconds = since.as_secs_f64().max(0.001);
    let more = if snapshot.producing { "+" } else { "" };
    let left = match snapshot.bytes_queued.saturating_sub(moved) {
        0 => String::new(),
        left if moved > 0 && !snapshot.producing => {
            let left = Duration::from_secs((left as f64 / (moved as f64 / seconds)) as u64);
            format!(", {} left", humantime::format_duration(left))
        }
        _ => String::new(),
    };
    let waits = |(store, awaited): (&StoreAddress, &StoreWait)| {
        names.text(&format!("; waits for store `{store}`: {}", awaited.reason))
    };
    let waits: String = snapshot.awaited.iter().map(waits).collect();
    let writes: String = long_writes(&snapshot.writes).map(|(_, said)| names.text(&format!("; {said}"))).collect();
    format!(
        "{} of {}{more} items, {} of {}{more}, {}/s{left}{waits}{writes}",
        snapshot.run.done(),
        snapshot.run.survey.listed,
        bytes(moved),
        bytes(snapshot.bytes_queued.max(moved)),
        bytes((moved as f64 / seconds) as u64),
    )
}

#[cfg(test)]
mod tests {
    use mill_model::{AccountId, StoreId};

    use super::*;

    #[test]
    fn a_write_that_hangs_is_shown_with_its_store_and_since_when() {
        let store = |id| StoreAddress { account: AccountId::new("x").unwrap(), store: StoreId::new(id).unwrap() };
        let seconds = Duration::from_secs;
        let writes = [(store("1"), seconds(29)), (store("2"), seconds(45))].into();
        let snapshot = RunProgress { writes, ..RunProgress::default() };
        let line = progress_line(&snapshot, seconds(60), &SubjectNames::Policies);
        assert!(line.ends_with("/s; waits for store `x:2` to write (45s)"), "{line}");
    }
}
