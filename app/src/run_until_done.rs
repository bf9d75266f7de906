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

use crate::installation::Works;
use crate::local_state;
use crate::snapshot::{AwaitedStores, Snapshot};
use crate::stop::Stopping;
use crate::worker_processes::Children;

use self::silence::{Silent, Stillness, time, whole_run_max};

/// A run that ends by itself.
#[derive(Debug)]
pub struct Run<'a> {
    /// The installation.
    pub works: &'a Works,
    /// What finds the work.
    pub producer: &'a DuplicationProducer,
    /// Who does it.
    pub hands: Hands,
    /// The queues that must be empty at the end.
    pub queues: Vec<QueueName>,
    /// How it is stopped.
    pub stopping: Stopping,
    /// Where the run stands, again and again, until its work is over. What is not taken in time is left out.
    pub progress: mpsc::Sender<Snapshot>,
    /// How long a store that does not answer is waited for.
    pub give_up_after: Duration,
}

/// Who does the work.
#[derive(Debug)]
pub enum Hands {
    /// A workman in this process.
    Here(Box<(Workman, Heartbeat)>),
    /// Workmen in processes of their own.
    Children(Children),
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
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
struct Stuck {
    why: String,
    remedy: Remedy,
}

/// How long nothing may move, with tasks put off, before a run is taken to wait for what does not pass by itself.
const NOTHING_MOVES: Duration = Duration::from_secs(12);

impl Run<'_> {
    /// Runs until the producer's loop is complete and its queues are empty, or until it is stopped.
    pub async fn until_in_sync(self) -> Result<Ran> {
        let Self { works, producer, hands, queues, stopping, progress, give_up_after } = self;
        let produced = Arc::new(AtomicBool::new(false));
        let exact = matches!(hands, Hands::Here(_));
        if exact {
            works.statistics.follow_tasks();
        }
        let mut hands = Working::begin(hands, &stopping);
        let producing = stopping.gentle.child_token();
        let (produced_by, ending) = (&produced, producing.clone());
        let watch = Watch {
            works,
            hands: &hands,
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
                hands.end.cancel();
            }
            report
        };
        let (report, (took, stuck)) = tokio::join!(produce, watch.until_done(progress));
        let ended = hands.join().await;
        works.engine.log_requests();
        let all = hands.snapshot(works, false);
        let report = report.context("the producer could not go on")?;
        if let mill_producer::SessionEnd::HeldByAnother { holder } = &report.ended {
            bail!("another producer is at work on this installation: {holder}");
        }
        let ended = ended?;
        // Workmen's processes tell no more than that they are gone.
        let for_stores = stuck.is_some() || exact && ended.is_some();
        let stopped = || Stuck { why: "it was stopped".into(), remedy: Remedy::GoOn };
        // Workmen end by themselves only for what a person must look at.
        let ended = ended.map(|why| Stuck { why, remedy: Remedy::SetRight });
        let cut_short = ended.or(stuck).or_else(|| stopping.gentle.is_cancelled().then(stopped));
        let remedy = cut_short.as_ref().map_or(Remedy::RunAgain, |stuck| stuck.remedy);
        let cut_short = cut_short.map(|stuck| stuck.why);
        let earlier = works.statistics.outcomes_of_others();
        let sum = RunSum { survey: report.survey, fates: all.run.fates };
        let totals = RunTotals { sum, ..all.totals };
        Ok(Ran { totals, earlier, exact, took, produced: report, cut_short, for_stores, remedy })
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
struct Watch<'a> {
    works: &'a Works,
    hands: &'a Working,
    queues: &'a [QueueName],
    stopping: &'a Stopping,
    produced: &'a AtomicBool,
    /// Cancelled when the producer is to end.
    producing: CancellationToken,
    give_up_after: Duration,
}

impl Watch<'_> {
    /// Returns how long it took, and what it waited for in vain, if it did.
    async fn until_done(&self, progress: mpsc::Sender<Snapshot>) -> (Duration, Option<Stuck>) {
        let began = Instant::now();
        let mut stillness = Stillness::new();
        let mut shown = Instant::now();
        let pace = self.works.engine.pace;
        let mut empty = 0;
        let stuck = loop {
            tokio::select! {
                biased;
                () = self.hands.end.cancelled() => break None,
                () = self.stopping.gentle.cancelled() => break None,
                () = tokio::time::sleep(pace.look_every) => {}
            }
            let snapshot = self.hands.snapshot(self.works, !self.produced.load(Ordering::Acquire));
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
            if let Some(silent) = Silent::after(unanswered, most, &snapshot.asked) {
                // Who waits for such an answer would not end gently.
                self.producing.cancel();
                self.stopping.at_once.cancel();
                break Some(if snapshot.awaited.is_empty() {
                    Stuck { why: silent.to_string(), remedy: Remedy::RunAgain }
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
                    if empty >= pace.looks(snapshot.sent, snapshot.ended) {
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
        self.hands.end.cancel();
        (began.elapsed(), stuck)
    }

    /// Why nothing could be written to Mill's own state for so long that it is given up.
    fn state_in_vain(&self, still: Option<&Standstill>) -> Option<Stuck> {
        let still = still?;
        // Only while it fails right now: otherwise it may have passed.
        if still.since.elapsed() <= self.give_up_after || still.last.elapsed() > FAILS_NOW {
            return None;
        }
        let waited = time(still.since.elapsed());
        let why = format!("mill's own state could not be written for {waited}: {}", still.why);
        Some(Stuck { why, remedy: Remedy::SetRight })
    }

    /// What the tasks that are left wait for in vain, when nothing has moved for so long that they are given up.
    fn in_vain(&self, still: Duration, (ready, put_off): (u64, u64), awaited: &AwaitedStores) -> Option<Stuck> {
        if awaited.is_empty() {
            return (ready == 0 && still > NOTHING_MOVES).then(|| Stuck {
                why: format!("{put_off} tasks were put off; they stay queued"),
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
            let depth = self.works.engine.queue(*name).depth().await?;
            sum.0 += depth.visible + depth.in_flight;
            sum.1 += depth.delayed;
        }
        Ok(sum)
    }
}

/// That stores could not be used for so long, in their own words.
fn unusable(still: Duration, awaited: &AwaitedStores) -> Stuck {
    let stores = awaited.iter().map(|(store, awaited)| format!("store `{store}` cannot be used: {}", awaited.reason));
    let stores = stores.collect::<Vec<_>>().join("; ");
    let all_may_pass = awaited.values().all(|awaited| awaited.may_pass);
    let remedy = if all_may_pass { Remedy::RunAgain } else { Remedy::SetRight };
    Stuck { why: format!("nothing went on for {}: {stores}", time(still)), remedy }
}

/// The hands at work.
struct Working {
    /// Cancelled when the work is to end gently, by whomever.
    end: CancellationToken,
    doing: Doing,
}

enum Doing {
    Here(JoinHandle<Result<Option<String>>>),
    Children(Children),
}

impl Working {
    fn begin(hands: Hands, stopping: &Stopping) -> Self {
        let end = stopping.gentle.child_token();
        let doing = match hands {
            Hands::Here(workman) => {
                let stop = StopSignal { gentle: end.clone(), immediate: stopping.at_once.clone() };
                let ended = end.clone();
                Doing::Here(tokio::spawn(async move {
                    let (workman, heartbeat) = *workman;
                    let result = work(workman, heartbeat, stop).await;
                    ended.cancel();
                    result
                }))
            }
            Hands::Children(children) => {
                children.end_with(&end);
                Doing::Children(children)
            }
        };
        Self { end, doing }
    }

    fn snapshot(&self, works: &Works, producing: bool) -> Snapshot {
        let mut snapshot = Snapshot { producing, ..Snapshot::of(&works.statistics, &*works.engine.clock) };
        if let Doing::Children(children) = &self.doing {
            children.add_to(&mut snapshot);
        }
        snapshot
    }

    /// Waits for the hands to end. A text says why they ended early.
    async fn join(&mut self) -> Result<Option<String>> {
        match &mut self.doing {
            Doing::Here(handle) => handle.await.context("the workman's task failed")?,
            Doing::Children(children) => children.join().await,
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
