//! One progress figure over everything that goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mill_local::Standstill;
use mill_model::{RunSum, StoreAddress, Totals};
use mill_ports::{Awaited, Clock, Statistics};

use crate::local_state;
use crate::names::Names;
use crate::output::bytes;
use crate::running::silence::time;

/// Where a run stands, summed over all its processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// What is done, for whichever run its tasks were sent.
    pub(crate) totals: Totals,
    /// What the run's survey has listed so far, and what became of that.
    pub(crate) run: RunSum,
    /// Tasks sent so far.
    pub(crate) sent: u64,
    /// Tasks ended so far. Others' may be among them, and one that was delivered twice counts twice.
    pub(crate) ended: u64,
    /// Content bytes queued so far, as far as they were known.
    pub(crate) bytes_queued: u64,
    /// Bytes of transfers going on.
    pub(crate) bytes_moving: u64,
    /// Whether work is still being found.
    pub(crate) producing: bool,
    /// The larger transfers going on: what, bytes moved, size.
    pub(crate) in_hand: Vec<(String, u64, u64)>,
    /// The stores for which work waits.
    pub(crate) awaited: AwaitedStores,
    /// How often stores have answered.
    pub(crate) answers: u64,
    /// The stores that have not answered all that they were asked.
    pub(crate) asked: BTreeSet<StoreAddress>,
    /// The stores that are waited for to write, and for how long at the longest.
    pub(crate) writes: BTreeMap<StoreAddress, Duration>,
    /// Whether Mill's own state cannot be written.
    pub(crate) still: Option<Standstill>,
}

/// The stores for which work waits, and why.
pub(crate) type AwaitedStores = BTreeMap<StoreAddress, Awaited>;

impl Snapshot {
    /// Where this process stands; whether it still finds work is the caller's to say.
    pub(crate) fn of(statistics: &Statistics, clock: &dyn Clock) -> Self {
        let now = clock.monotonic();
        Self {
            totals: statistics.totals(),
            run: statistics.totals_of_run().sum,
            sent: statistics.sent.load(Relaxed),
            ended: statistics.ended.load(Relaxed),
            bytes_queued: statistics.bytes_queued.load(Relaxed),
            bytes_moving: statistics.bytes_moving.load(Relaxed),
            producing: false,
            in_hand: statistics
                .in_hand()
                .iter()
                .map(|one| (one.subject.clone(), one.moved.load(Relaxed), one.size))
                .collect(),
            awaited: statistics.awaited(),
            answers: statistics.answers.load(Relaxed),
            asked: statistics.asked(),
            writes: statistics.writes().into_iter().map(|(store, since)| (store, now.since(since))).collect(),
            still: local_state::standstill(),
        }
    }

    fn line(&self, since: Duration, names: &Names) -> String {
        let moved = self.totals.work.bytes + self.bytes_moving;
        let seconds = since.as_secs_f64().max(0.001);
        let more = if self.producing { "+" } else { "" };
        let left = match self.bytes_queued.saturating_sub(moved) {
            0 => String::new(),
            left if moved > 0 && !self.producing => {
                let left = Duration::from_secs((left as f64 / (moved as f64 / seconds)) as u64);
                format!(", {} left", humantime::format_duration(left))
            }
            _ => String::new(),
        };
        let waits = |(store, awaited): (&StoreAddress, &Awaited)| {
            names.text(&format!("; waits for store `{store}`: {}", awaited.reason))
        };
        let waits: String = self.awaited.iter().map(waits).collect();
        let writes: String = long_writes(&self.writes).map(|(_, said)| names.text(&format!("; {said}"))).collect();
        format!(
            "{} of {}{more} items, {} of {}{more}, {}/s{left}{waits}{writes}",
            self.run.done(),
            self.run.survey.listed,
            bytes(moved),
            bytes(self.bytes_queued.max(moved)),
            bytes((moved as f64 / seconds) as u64),
        )
    }
}

/// A write is said to be waited for from then on. It may take long: that ends no run.
const LONG_WRITE: Duration = Duration::from_secs(30);

/// The stores that are waited for to write for so long that it is said, and what is said.
fn long_writes(writes: &BTreeMap<StoreAddress, Duration>) -> impl Iterator<Item = (&StoreAddress, String)> {
    let long = writes.iter().filter(|(_, waited)| **waited >= LONG_WRITE);
    long.map(|(store, waited)| (store, format!("waits for store `{store}` to write ({})", time(*waited))))
}

/// Says in the log, once each time, that a store is waited for to write: where nothing shows it.
#[derive(Debug, Default)]
pub(crate) struct WriteLog {
    said: BTreeSet<StoreAddress>,
}

impl WriteLog {
    pub(crate) fn look(&mut self, writes: &BTreeMap<StoreAddress, Duration>) {
        let long: BTreeMap<&StoreAddress, String> = long_writes(writes).collect();
        self.said.retain(|store| long.contains_key(store));
        for (store, said) in long {
            if self.said.insert(store.clone()) {
                tracing::warn!("{said}");
            }
        }
    }
}

/// Shows a run's progress: a bar on a terminal, a line every ten seconds elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    below: Vec<ProgressBar>,
    began: Instant,
    said: Instant,
    names: Names,
    quiet: bool,
    log: WriteLog,
}

/// How many transfers in hand are shown.
const IN_HAND_SHOWN: usize = 4;
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// How often [`Progress::show`] wants to be called.
    pub(crate) const EVERY: Duration = Duration::from_millis(100);

    /// Begins.
    pub(crate) fn begin(bars: &MultiProgress, names: &Names, quiet: bool) -> Self {
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

    /// Shows where the run stands.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let since = self.began.elapsed();
        let Some(total) = &self.total else {
            self.log.look(&snapshot.writes);
            if !self.quiet && self.said.elapsed() >= PLAIN_EVERY {
                self.said = Instant::now();
                self.say(&snapshot.line(since, &self.names));
            }
            return;
        };
        let moved = snapshot.totals.work.bytes + snapshot.bytes_moving;
        // By bytes where there are many to move, else by items: a million empty files must move the bar as well.
        let (at, of) = if snapshot.bytes_queued > snapshot.run.survey.queued.saturating_mul(4096) {
            (moved, snapshot.bytes_queued)
        } else {
            (snapshot.run.done(), snapshot.run.survey.listed)
        };
        total.set_length(of.max(1));
        total.set_position(at.min(of));
        total.set_message(snapshot.line(since, &self.names));
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

    /// Ends, and takes the bars away.
    pub(crate) fn end(mut self) -> Duration {
        for bar in self.below.drain(..).chain(self.total.take()) {
            bar.finish_and_clear();
        }
        self.began.elapsed()
    }
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
        let snapshot = Snapshot { writes, ..Snapshot::default() };
        let line = snapshot.line(seconds(60), &Names::Policies);
        assert!(line.ends_with("/s; waits for store `x:2` to write (45s)"), "{line}");
    }
}
