//! Distinguishes a silent store from work that takes long.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mill_model::{Monotonic, RunTotals, StoreAddress};
use mill_ports::{Clock, Statistics};

use crate::progress::RunProgress;

/// How often answers are checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The shortest time that a client gets: it tries a call several times before it reports the failure.
const SILENT_MIN: Duration = Duration::from_secs(10);

/// The additional time before a run ends. The producer first gives up a space that does not answer, checks its store, and
/// continues with others; a worker first gives up an item that its store always throttles. Both began to count later.
const PARTS_FIRST: Duration = Duration::from_secs(12);

/// How long to wait for one answer, with `--give-up-after`.
pub fn one_answer_max(give_up_after: Duration) -> Duration {
    give_up_after.max(SILENT_MIN)
}

/// How long a run continues while no store answers, with `--give-up-after`.
pub fn whole_run_max(give_up_after: Duration) -> Duration {
    one_answer_max(give_up_after).saturating_add(PARTS_FIRST)
}

/// How long a run continues while stores answer, but let nothing progress, with `--give-up-after`.
pub(super) fn throttled_run_max(give_up_after: Duration) -> Duration {
    give_up_after.saturating_add(PARTS_FIRST)
}

/// Measures how long nothing has progressed.
#[derive(Debug)]
pub(super) struct IdleTimer {
    work: (RunTotals, u64),
    work_since: Monotonic,
    answers: u64,
    silent_since: Monotonic,
}

impl IdleTimer {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { work: (RunTotals::default(), 0), work_since: now, answers: 0, silent_since: now }
    }

    /// Returns how long no count and no byte has changed, and how long no store has answered either. A store that
    /// accepts nothing more still answers.
    pub(super) fn look(&mut self, snapshot: &RunProgress, now: Monotonic) -> (Duration, Duration) {
        let work = (snapshot.totals, snapshot.bytes_moving);
        if self.work != work {
            (self.work, self.work_since, self.silent_since) = (work, now, now);
        }
        if self.answers != snapshot.answers {
            (self.answers, self.silent_since) = (snapshot.answers, now);
        }
        (now.since(self.work_since), now.since(self.silent_since))
    }
}

/// The stores that were silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing went on for {}: {} not answer; `--give-up-after` allows longer", time(*.waited), shown(.stores))]
pub struct SilentStoresError {
    waited: Duration,
    stores: BTreeSet<StoreAddress>,
}

impl SilentStoresError {
    /// The stores that do not answer, if nothing has progressed for longer than `most`.
    pub(super) fn after(waited: Duration, most: Duration, stores: &BTreeSet<StoreAddress>) -> Option<Self> {
        (waited > one_answer_max(most) && !stores.is_empty()).then(|| Self { waited, stores: stores.clone() })
    }
}

/// Runs `work`, unless all stores that it calls are silent for too long.
pub async fn unless_silent<W: Future>(
    work: W,
    (statistics, clock): (&Statistics, &dyn Clock),
    give_up_after: Duration,
) -> Result<W::Output, SilentStoresError> {
    let silent = async {
        let (mut answers, mut since) = (statistics.answers.load(Relaxed), clock.monotonic());
        loop {
            clock.sleep(LOOK_EVERY).await;
            let (answered, now) = (statistics.answers.load(Relaxed), clock.monotonic());
            if answers != answered {
                (answers, since) = (answered, now);
            }
            if let Some(silent) = SilentStoresError::after(now.since(since), give_up_after, &statistics.pending_calls())
            {
                return silent;
            }
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        silent = silent => Err(silent),
    }
}

/// A time in whole seconds, for a message.
pub fn time(waited: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(waited.as_secs()))
}

fn shown(stores: &BTreeSet<StoreAddress>) -> String {
    let names: Vec<String> = stores.iter().map(|store| format!("store `{store}`")).collect();
    let verb = if names.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", names.join(" and "))
}
