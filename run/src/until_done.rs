//! Producing and working at once, until every copy is in sync.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use mill_model::{ItemOutcomes, RunSum, RunTotals};
use mill_ports::{Clock, PollingProfile, Statistics, TaskQueue};
use mill_producer::{DuplicationProducer, ProducerError, SessionEnd, SessionReport};
use mill_workman::{StopSignal, WorkmanEndReason};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::completion::{CompletionMonitor, StuckReason};
use crate::progress::{RunProgress, StateStandstill};

/// A run that ends by itself.
#[derive(Debug)]
pub struct RunUntilDone<'a, W> {
    /// What it stands on.
    pub deps: RunDeps,
    /// What finds the work.
    pub producer: &'a DuplicationProducer,
    /// Who does it.
    pub workers: W,
    /// How it is stopped.
    pub stopping: StopSignal,
    /// Where the run stands, again and again, until its work is over. What is not taken in time is left out.
    pub progress: mpsc::Sender<RunProgress>,
    /// How long a store that does not answer is waited for.
    pub give_up_after: Duration,
}

/// What a run stands on.
#[derive(Debug, Clone)]
pub struct RunDeps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What this process has done so far: its producer, its workers and its stores count there.
    pub statistics: Arc<Statistics>,
    /// The queues that must be empty at the end.
    pub queues: Vec<Arc<dyn TaskQueue>>,
    /// How often they are asked.
    pub polling: PollingProfile,
    /// Whether Mill's own state can be written.
    pub state: Arc<dyn StateWatch>,
}

impl RunDeps {
    /// Where this process stands.
    pub(crate) fn snapshot(&self) -> RunProgress {
        RunProgress { still: self.state.standstill(), ..RunProgress::of(&self.statistics, &*self.clock) }
    }
}

/// Reports whether Mill's own state can be written.
pub trait StateWatch: fmt::Debug + Send + Sync {
    /// Since when nothing can be written to the state of this process, and why; only where nothing can.
    fn standstill(&self) -> Option<StateStandstill>;

    /// Has what is still to be written fail soon, where nothing can be written.
    fn abandon(&self);
}

/// Who does the work of a run: workmen of this process, or processes of their own.
#[async_trait]
pub trait RunWorkers: fmt::Debug + Send + Sync {
    /// Whether all tasks end in this process, and so are counted once each.
    fn is_exact(&self) -> bool;

    /// Begins to work, until `stop` is cancelled. Whoever ends before that by itself cancels `stop.gentle`.
    fn begin(&mut self, stop: StopSignal);

    /// Adds what other processes have reported.
    fn add_to(&self, progress: &mut RunProgress);

    /// Waits until they have ended. A text says why they ended early.
    async fn join(&mut self) -> Result<Option<String>>;
}

/// What a run came to.
#[derive(Debug)]
pub struct RunReport {
    /// What was done. Of items, what became of those that this run queued.
    pub totals: RunTotals,
    /// What became of the items of tasks that an earlier run had sent.
    pub earlier: ItemOutcomes,
    /// Whether all tasks ended in this process, each counted once. Else counts are least ones, which prove nothing.
    pub exact: bool,
    /// How long it took.
    pub took: Duration,
    /// What the producer's last session said.
    pub produced: SessionReport,
    /// Why the work ended early, if it did.
    pub cut_short: Option<String>,
    /// Whether that was since stores could not be used.
    pub for_stores: bool,
    /// What is to be done about it.
    pub remedy: Remedy,
}

/// What brings the rest, where a run has not done all: the more a person must do, the later it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Remedy {
    /// It may pass by itself: the next run tries again.
    #[default]
    RunAgain,
    /// A person must set something right first.
    SetRight,
    /// It was stopped, and goes on where it was.
    GoOn,
}

impl<W: RunWorkers> RunUntilDone<'_, W> {
    /// Runs until the producer's loop is complete and its queues are empty, or until it is stopped.
    ///
    /// # Errors
    /// The producer or the workers could not go on, or another producer is at work.
    pub async fn until_in_sync(self) -> Result<RunReport> {
        let Self { deps, producer, mut workers, stopping, progress, give_up_after } = self;
        let exact = workers.is_exact();
        if exact {
            deps.statistics.follow_tasks();
        }
        let end = stopping.gentle.child_token();
        workers.begin(StopSignal { gentle: end.clone(), immediate: stopping.immediate.clone() });
        let (produced, producing) = (AtomicBool::new(false), stopping.gentle.child_token());
        let watch = CompletionMonitor {
            deps: &deps,
            workers: &workers,
            workers_end: &end,
            stopping: &stopping,
            produced: &produced,
            producing: &producing,
            give_up_after,
        };
        let produce = async {
            let report = enduring_loop(producer, &deps, &producing).await;
            produced.store(true, Ordering::Release);
            if report.is_err() {
                end.cancel();
            }
            report
        };
        let (report, (took, stuck)) = tokio::join!(produce, watch.until_done(progress));
        let ended = workers.join().await;
        let mut all = deps.snapshot();
        workers.add_to(&mut all);
        let report = report.context("the producer could not go on")?;
        if let SessionEnd::HeldByAnother { holder } = &report.ended {
            bail!("another producer is at work on this installation: {holder}");
        }
        let ended = ended?;
        // Workmen's processes tell no more than that they are gone.
        let for_stores = stuck.is_some() || exact && ended.is_some();
        let stopped = || StuckReason { why: "it was stopped".into(), remedy: Remedy::GoOn };
        // Workmen end by themselves only for what a person must look at.
        let ended = ended.map(|why| StuckReason { why, remedy: Remedy::SetRight });
        let cut_short = ended.or(stuck).or_else(|| stopping.gentle.is_cancelled().then(stopped));
        let remedy = cut_short.as_ref().map_or(Remedy::RunAgain, |stuck| stuck.remedy);
        let cut_short = cut_short.map(|stuck| stuck.why);
        let earlier = deps.statistics.outcomes_of_others();
        let sum = RunSum { survey: report.survey, outcomes: all.run.outcomes };
        let totals = RunTotals { sum, ..all.totals };
        Ok(RunReport { totals, earlier, exact, took, produced: report, cut_short, for_stores, remedy })
    }
}

/// Why a workman ended before its run was done, if it was not stopped.
pub fn ended_early(reason: WorkmanEndReason) -> Option<String> {
    match reason {
        WorkmanEndReason::Stopped => None,
        WorkmanEndReason::FailedFast { subject, reason } => Some(format!("`{subject}` failed for good: {reason}")),
        WorkmanEndReason::StoreUnavailable { store, reason } => {
            Some(format!("store `{store}` cannot be used: {reason}"))
        }
    }
}

/// How long a producer rests that finds its own state standing still.
const STATE_REST: Duration = Duration::from_secs(2);

/// The same as [`whole_loop`]; while nothing can be written to Mill's own state, it is waited for as for a store.
async fn enduring_loop(
    producer: &DuplicationProducer,
    deps: &RunDeps,
    stop: &CancellationToken,
) -> Result<SessionReport, ProducerError> {
    loop {
        let error = match whole_loop(producer, stop).await {
            Err(error) if deps.state.standstill().is_some() && !stop.is_cancelled() => error,
            ended => return ended,
        };
        tracing::warn!("the producer waits for mill's own state: {}", mill_ports::error_chain(&error));
        let _ = stop.run_until_cancelled(deps.clock.sleep(STATE_REST)).await;
        if stop.is_cancelled() {
            return Err(error);
        }
    }
}

/// Produces one loop that began after it was asked for. A loop that an earlier process left unfinished is brought to its
/// end first; but what changed behind its markers since would be found only by the next one.
async fn whole_loop(producer: &DuplicationProducer, stop: &CancellationToken) -> Result<SessionReport, ProducerError> {
    let report = producer.run_session(stop).await?;
    let finished = matches!(report.ended, SessionEnd::Finished { .. });
    if report.resumed && finished { producer.run_session(stop).await } else { Ok(report) }
}
