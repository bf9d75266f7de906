//! Producing and working at once, until every copy is in sync.

pub mod silence;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mill_local::Standstill;
use mill_model::{ItemOutcomes, QueueName, RunSum, RunTotals};
use mill_ports::{QueueError, QueueErrorKind};
use mill_producer::{DuplicationProducer, SessionReport};
use mill_workman::{Heartbeat, StopSignal, Workman, WorkmanEndReason};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::installation::Installation;
use crate::local_state;
use crate::run_progress::{AwaitedStores, RunProgress};
use crate::stop_tokens::StopTokens;
use crate::worker_processes::WorkerProcesses;

use self::silence::{IdleTimer, SilentStoresError, time, whole_run_max};

/// A run that ends by itself.
#[derive(Debug)]
pub struct RunUntilDone<'a> {
    /// The installation.
    pub installation: &'a Installation,
    /// What finds the work.
    pub producer: &'a DuplicationProducer,
    /// Who does it.
    pub workers: Workers,
    /// The queues that must be empty at the end.
    pub queues: Vec<QueueName>,
    /// How it is stopped.
    pub stopping: StopTokens,
    /// Where the run stands, again and again, until its work is over. What is not taken in time is left out.
    pub progress: mpsc::Sender<RunProgress>,
    /// How long a store that does not answer is waited for.
    pub give_up_after: Duration,
}

/// Who does the work.
#[derive(Debug)]
pub enum Workers {
    /// A workman in this process.
    Here(Box<(Workman, Heartbeat)>),
    /// Workmen in processes of their own.
    WorkerProcesses(WorkerProcesses),
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

/// Why a run's work ended before all was done.
#[derive(Debug)]
struct StuckReason {
    why: String,
    remedy: Remedy,
}

/// How long nothing may move, with tasks put off, before a run is taken to wait for what does not pass by itself.
const NOTHING_MOVES: Duration = Duration::from_secs(12);

impl RunUntilDone<'_> {
    /// Runs until the producer's loop is complete and its queues are empty, or until it is stopped.
    pub async fn until_in_sync(self) -> Result<RunReport> {
        let Self { installation, producer, workers, queues, stopping, progress, give_up_after } = self;
        let produced = Arc::new(AtomicBool::new(false));
        let exact = matches!(workers, Workers::Here(_));
        if exact {
            installation.statistics.follow_tasks();
        }
        let mut workers = WorkerTasks::begin(workers, &stopping);
        let producing = stopping.gentle.child_token();
        let (produced_by, ending) = (&produced, producing.clone());
        let watch = CompletionMonitor {
            installation,
            workers: &workers,
            queues: &queues,
            stopping: &stopping,
            produced: produced_by,
            producing: ending,
            give_up_after,
        };
        let produce = async {
            let report = enduring_loop(producer, &producing).await;
            produced.store(true, Ordering::Release);
            if report.is_err() {
                workers.end.cancel();
            }
            report
        };
        let (report, (took, stuck)) = tokio::join!(produce, watch.until_done(progress));
        let ended = workers.join().await;
        installation.log_requests();
        let all = workers.snapshot(installation, false);
        let report = report.context("the producer could not go on")?;
        if let mill_producer::SessionEnd::HeldByAnother { holder } = &report.ended {
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
        let earlier = installation.statistics.outcomes_of_others();
        let sum = RunSum { survey: report.survey, outcomes: all.run.outcomes };
        let totals = RunTotals { sum, ..all.totals };
        Ok(RunReport { totals, earlier, exact, took, produced: report, cut_short, for_stores, remedy })
    }
}

/// A write that failed is taken to say for so long that none succeeds; after that one may have.
const FAILS_NOW: Duration = Duration::from_secs(1);

/// How long a producer rests that finds its own state standing still.
const STATE_REST: Duration = Duration::from_secs(2);

/// The same as [`whole_loop`]; while nothing can be written to Mill's own state, it is waited for as for a store.
async fn enduring_loop(
    producer: &DuplicationProducer,
    stop: &CancellationToken,
) -> Result<SessionReport, mill_producer::ProducerError> {
    loop {
        let error = match whole_loop(producer, stop).await {
            Err(error) if local_state::standstill().is_some() && !stop.is_cancelled() => error,
            ended => return ended,
        };
        tracing::warn!("the producer waits for mill's own state: {}", mill_ports::error_chain(&error));
        let _ = stop.run_until_cancelled(tokio::time::sleep(STATE_REST)).await;
        if stop.is_cancelled() {
            return Err(error);
        }
    }
}

/// Produces one loop that began after it was asked for. A loop that an earlier process left unfinished is brought to its
/// end first; but what changed behind its markers since would be found only by the next one.
async fn whole_loop(
    producer: &DuplicationProducer,
    stop: &CancellationToken,
) -> Result<SessionReport, mill_producer::ProducerError> {
    let report = producer.run_session(stop).await?;
    let finished = matches!(report.ended, mill_producer::SessionEnd::Finished { .. });
    if report.resumed && finished { producer.run_session(stop).await } else { Ok(report) }
}

/// How often it is said where a run stands.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Watches until there is nothing more to do.
struct CompletionMonitor<'a> {
    installation: &'a Installation,
    workers: &'a WorkerTasks,
    queues: &'a [QueueName],
    stopping: &'a StopTokens,
    produced: &'a AtomicBool,
    /// Cancelled when the producer is to end.
    producing: CancellationToken,
    give_up_after: Duration,
}

impl CompletionMonitor<'_> {
    /// Returns how long it took, and what it waited for in vain, if it did.
    async fn until_done(&self, progress: mpsc::Sender<RunProgress>) -> (Duration, Option<StuckReason>) {
        let began = Instant::now();
        let mut stillness = IdleTimer::new();
        let mut shown = Instant::now();
        let polling = self.installation.engine.polling();
        let mut empty = 0;
        let stuck = loop {
            tokio::select! {
                biased;
                () = self.workers.end.cancelled() => break None,
                () = self.stopping.gentle.cancelled() => break None,
                () = tokio::time::sleep(polling.look_every) => {}
            }
            let snapshot = self.workers.snapshot(self.installation, !self.produced.load(Ordering::Acquire));
            if shown.elapsed() >= PROGRESS_EVERY {
                let _ = progress.try_send(snapshot.clone());
                shown = Instant::now();
            }
            let (still, unanswered) = stillness.look(&snapshot);
            if let Some(why) = self.state_in_vain(snapshot.still.as_ref()) {
                local_state::give_up();
                self.producing.cancel();
                break Some(why);
            }
            let most = whole_run_max(self.give_up_after);
            if let Some(silent) = SilentStoresError::after(unanswered, most, &snapshot.asked) {
                // Who waits for such an answer would not end gently.
                self.producing.cancel();
                self.stopping.at_once.cancel();
                break Some(if snapshot.awaited.is_empty() {
                    StuckReason { why: silent.to_string(), remedy: Remedy::RunAgain }
                } else {
                    unusable(still, &snapshot.awaited)
                });
            }
            if !self.produced.load(Ordering::Acquire) {
                continue;
            }
            match self.depth().await {
                Ok((0, 0)) => {
                    empty += 1;
                    if empty >= polling.looks(snapshot.sent, snapshot.ended) {
                        break None;
                    }
                    continue;
                }
                Ok((ready, put_off)) => {
                    if let Some(why) = self.in_vain(still, (ready, put_off), &snapshot.awaited) {
                        break Some(why);
                    }
                }
                Err(error) => tracing::warn!("the queues do not answer: {}", mill_ports::error_chain(&error)),
            }
            empty = 0;
        };
        self.workers.end.cancel();
        (began.elapsed(), stuck)
    }

    /// Why nothing could be written to Mill's own state for so long that it is given up.
    fn state_in_vain(&self, still: Option<&Standstill>) -> Option<StuckReason> {
        let still = still?;
        // Only while it fails right now: otherwise it may have passed.
        if still.since.elapsed() <= self.give_up_after || still.last.elapsed() > FAILS_NOW {
            return None;
        }
        let waited = time(still.since.elapsed());
        let why = format!("mill's own state could not be written for {waited}: {}", still.why);
        Some(StuckReason { why, remedy: Remedy::SetRight })
    }

    /// What the tasks that are left wait for in vain, when nothing has moved for so long that they are given up.
    fn in_vain(&self, still: Duration, (ready, put_off): (u64, u64), awaited: &AwaitedStores) -> Option<StuckReason> {
        if awaited.is_empty() {
            return (ready == 0 && still > NOTHING_MOVES).then(|| StuckReason {
                why: format!("{put_off} tasks were snoozed; they stay queued"),
                remedy: Remedy::RunAgain,
            });
        }
        let may_pass = awaited.values().any(|awaited| awaited.may_pass);
        let most = if may_pass { self.give_up_after } else { NOTHING_MOVES };
        (still > most).then(|| unusable(still, awaited))
    }

    /// Tasks ready or in hand, and tasks put off.
    async fn depth(&self) -> Result<(u64, u64), QueueError> {
        let mut sum = (0, 0);
        for name in self.queues {
            let depth = self.installation.engine.queue(*name).depth().await?;
            sum.0 += depth.visible + depth.in_flight;
            sum.1 += depth.delayed;
        }
        Ok(sum)
    }
}

/// That stores could not be used for so long, in their own words.
fn unusable(still: Duration, awaited: &AwaitedStores) -> StuckReason {
    let stores = awaited.iter().map(|(store, awaited)| format!("store `{store}` cannot be used: {}", awaited.reason));
    let stores = stores.collect::<Vec<_>>().join("; ");
    let all_may_pass = awaited.values().all(|awaited| awaited.may_pass);
    let remedy = if all_may_pass { Remedy::RunAgain } else { Remedy::SetRight };
    StuckReason { why: format!("nothing went on for {}: {stores}", time(still)), remedy }
}

/// The hands at work.
struct WorkerTasks {
    /// Cancelled when the work is to end gently, by whomever.
    end: CancellationToken,
    running: RunningWorkers,
}

enum RunningWorkers {
    Here(JoinHandle<Result<Option<String>>>),
    WorkerProcesses(WorkerProcesses),
}

impl WorkerTasks {
    fn begin(workers: Workers, stopping: &StopTokens) -> Self {
        let end = stopping.gentle.child_token();
        let running = match workers {
            Workers::Here(workman) => {
                let stop = StopSignal { gentle: end.clone(), immediate: stopping.at_once.clone() };
                let ended = end.clone();
                RunningWorkers::Here(tokio::spawn(async move {
                    let (workman, heartbeat) = *workman;
                    let result = work(workman, heartbeat, stop).await;
                    ended.cancel();
                    result
                }))
            }
            Workers::WorkerProcesses(children) => {
                children.end_with(&end);
                RunningWorkers::WorkerProcesses(children)
            }
        };
        Self { end, running }
    }

    fn snapshot(&self, installation: &Installation, producing: bool) -> RunProgress {
        let mut snapshot =
            RunProgress { producing, ..RunProgress::of(&installation.statistics, &*installation.engine.clock()) };
        if let RunningWorkers::WorkerProcesses(children) = &self.running {
            children.add_to(&mut snapshot);
        }
        snapshot
    }

    /// Waits for the hands to end. A text says why they ended early.
    async fn join(&mut self) -> Result<Option<String>> {
        match &mut self.running {
            RunningWorkers::Here(handle) => handle.await.context("the workman's task failed")?,
            RunningWorkers::WorkerProcesses(children) => children.join().await,
        }
    }
}

/// The same error, with what to do where a queue is missing.
pub fn with_way_out(error: anyhow::Error) -> anyhow::Error {
    let missing = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<QueueError>().is_some_and(|error| error.kind == QueueErrorKind::QueueMissing)
    };
    if !error.chain().any(missing) {
        return error;
    }
    error.context(
        "a queue is gone (`mill infra check` compares them all; `mill infra create`, or the template, makes it anew)",
    )
}

/// Runs a workman, its heartbeat on a thread of its own, so that no slow transfer can hold up a lease.
///
/// # Errors
/// When it could not go on. A text tells why it ended early, if it did.
pub async fn work(workman: Workman, heartbeat: Heartbeat, stop: StopSignal) -> Result<Option<String>> {
    let (done, over) = tokio::sync::oneshot::channel::<()>();
    let beating = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                () = heartbeat.run() => {}
                _ = over => {}
            }
        });
        std::io::Result::Ok(())
    })?;
    let ended = workman.run(stop).await;
    drop(done);
    match beating.join() {
        Ok(result) => result.context("the heartbeat could not run")?,
        Err(_) => bail!("the heartbeat's thread failed"),
    }
    Ok(match ended.map_err(|error| with_way_out(error.into()))? {
        WorkmanEndReason::Stopped => None,
        WorkmanEndReason::FailedFast { subject, reason } => Some(format!("`{subject}` failed for good: {reason}")),
        WorkmanEndReason::StoreUnavailable { store, reason } => {
            Some(format!("store `{store}` cannot be used: {reason}"))
        }
    })
}
