//! Produces and works at the same time, until every copy is in sync.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use mill_hooks::{PlantedBug, is_planted};
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
    /// Its dependencies.
    pub deps: RunDeps,
    /// The producer, which finds the work.
    pub producer: &'a DuplicationProducer,
    /// The workers.
    pub workers: W,
    /// How it is stopped.
    pub stopping: StopSignal,
    /// Receives the progress repeatedly until the work is over. Progress that is not received in time is dropped.
    pub progress: mpsc::Sender<RunProgress>,
    /// How long to wait for a store that does not answer.
    pub give_up_after: Duration,
}

/// The dependencies of a run.
#[derive(Debug, Clone)]
pub struct RunDeps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The counters of this process: its producer, workers and stores.
    pub statistics: Arc<Statistics>,
    /// The queues that must be empty at the end.
    pub queues: Vec<Arc<dyn TaskQueue>>,
    /// How often they are polled.
    pub polling: PollingProfile,
    /// Whether Mill's own state can be written.
    pub state: Arc<dyn StateWatch>,
}

impl RunDeps {
    /// The progress of this process.
    pub(crate) fn snapshot(&self) -> RunProgress {
        RunProgress { still: self.state.standstill(), ..RunProgress::of(&self.statistics, &*self.clock) }
    }
}

/// Reports whether Mill's own state can be written.
pub trait StateWatch: fmt::Debug + Send + Sync {
    /// If nothing can be written to the state of this process: since when, and why.
    fn standstill(&self) -> Option<StateStandstill>;

    /// Makes pending writes fail soon, if nothing can be written.
    fn abandon(&self);
}

/// The workers of a run: a workman in this process, or worker processes.
#[async_trait]
pub trait RunWorkers: fmt::Debug + Send + Sync {
    /// Whether all tasks end in this process, and so are counted once each.
    fn is_exact(&self) -> bool;

    /// Begins to work, until `stop` is cancelled. A worker that ends by itself before that cancels `stop.gentle`.
    fn begin(&mut self, stop: StopSignal);

    /// Adds what other processes have reported.
    fn add_to(&self, progress: &mut RunProgress);

    /// Waits until they have ended. Returns the reason if they ended early.
    async fn join(&mut self) -> Result<Option<String>>;
}

/// The result of a run.
#[derive(Debug)]
pub struct RunReport {
    /// What was done. For items, the outcomes of those that this run queued.
    pub totals: RunTotals,
    /// What became of the items of tasks that an earlier run had sent.
    pub earlier: ItemOutcomes,
    /// Whether all tasks ended in this process, each counted once. Otherwise the counts are lower bounds, which prove
    /// nothing.
    pub exact: bool,
    /// How long it took.
    pub took: Duration,
    /// The report of the producer's last session.
    pub produced: SessionReport,
    /// Why the work ended early, if it did.
    pub cut_short: Option<String>,
    /// Whether it ended early because stores could not be used.
    pub for_stores: bool,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What to do about the rest, if a run has not done all. The variants are ordered by the effort of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Remedy {
    /// It may pass by itself: the next run tries again.
    #[default]
    RunAgain,
    /// A person must fix something first.
    SetRight,
    /// It was stopped, and the next run continues.
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
            bail!(
                "another `mill run` or `mill produce` is at work on this installation ({holder}): wait until it has ended, or stop it there; should it be dead, its lease ends within minutes"
            );
        }
        let ended = ended?;
        // Worker processes report no more than that they are gone.
        let for_stores = stuck.is_some() || exact && ended.is_some();
        let stopped = || StuckReason { why: "it was stopped".into(), remedy: Remedy::GoOn };
        // Workmen end by themselves only for problems that need a person.
        let ended = ended.map(|why| StuckReason { why, remedy: Remedy::SetRight });
        let is_stopped = stopping.gentle.is_cancelled() && !is_planted(PlantedBug::StopUnsaid);
        let cut_short = ended.or(stuck).or_else(|| is_stopped.then(stopped));
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

/// The pause of a producer whose own state cannot be written.
const STATE_REST: Duration = Duration::from_secs(2);

/// The same as [`whole_loop`], but waits while nothing can be written to Mill's own state, as for a store.
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

/// Produces one loop that begins after this call. A loop that an earlier process left unfinished is finished first; but
/// changes before its markers are found only by the next loop.
async fn whole_loop(producer: &DuplicationProducer, stop: &CancellationToken) -> Result<SessionReport, ProducerError> {
    let report = producer.run_session(stop).await?;
    let finished = matches!(report.ended, SessionEnd::Finished { .. });
    if report.resumed && finished { producer.run_session(stop).await } else { Ok(report) }
}
