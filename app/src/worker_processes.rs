//! Workmen as child processes. Each reports what it does.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mill_model::{AccountId, Counter, ItemEvent, ItemOutcomes, RunSum, RunTotals, StoreAddress, StoreId, WorkCounts};
use mill_ports::{ItemEvents as _, StoreWait};
use mill_processors::refusals::{Refusal, Refusals, RefusedDeed};
use mill_run::RunProgress;
use mill_run::progress::StateStandstill;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event_line::EventLine;
use crate::result_code::ResultCode;
use crate::run_events::RunEvents;

/// One line of a child's report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Outcomes and other counters that are not zero, by name.
    #[serde(rename = "fates")]
    outcomes: BTreeMap<String, u64>,
    work: BTreeMap<String, u64>,
    ended: u64,
    bytes_moving: u64,
    in_hand: Vec<(String, u64, u64)>,
    /// The stores for which it waits: account, store, the reason, and whether it may pass.
    #[serde(default)]
    awaited: Vec<(String, String, String, bool)>,
    /// How often stores have answered it, and the stores with unanswered calls: account and store.
    #[serde(default)]
    answers: u64,
    #[serde(default)]
    asked: Vec<(String, String)>,
    /// The stores whose writes it waits for: account, store and seconds.
    #[serde(default)]
    writes: Vec<(String, String, u64)>,
    /// If it cannot write to Mill's own state: the reason, and how many ms ago the first and the last write failed.
    #[serde(default)]
    still: Option<(String, u64, u64)>,
    /// What was refused since the previous line, why, and whether it is copied all the same, without a part.
    #[serde(default)]
    refused: Vec<(String, String, String)>,
    /// What became of items since the previous line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventLine>,
    /// Why the run's report lacks some of them, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report_failure: Option<String>,
}

impl WorkerReport {
    /// The report of a child.
    pub fn of(
        snapshot: &RunProgress,
        refused: Vec<Refusal>,
        (events, report_failure): (Vec<EventLine>, Option<String>),
    ) -> Self {
        let named = |(counter, count): (&Counter, u64)| (count > 0).then(|| (counter.name.to_owned(), count));
        Self {
            outcomes: snapshot.totals.sum.outcomes.each().filter_map(named).collect(),
            work: snapshot.totals.work.each().filter_map(named).collect(),
            ended: snapshot.ended,
            bytes_moving: snapshot.bytes_moving,
            in_hand: snapshot.in_hand.clone(),
            awaited: snapshot
                .awaited
                .iter()
                .map(|(at, it)| (at.account.to_string(), at.store.to_string(), it.reason.clone(), it.may_pass))
                .collect(),
            answers: snapshot.answers,
            asked: snapshot.asked.iter().map(|at| (at.account.to_string(), at.store.to_string())).collect(),
            writes: snapshot
                .writes
                .iter()
                .filter(|(_, waited)| waited.as_secs() > 0)
                .map(|(at, waited)| (at.account.to_string(), at.store.to_string(), waited.as_secs()))
                .collect(),
            still: snapshot.still.as_ref().map(|still| {
                let ms = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                (still.why.to_string(), ms(still.first_failed), ms(still.last_failed))
            }),
            refused: refused.into_iter().map(|it| (it.subject, it.reason, it.deed.as_str().to_owned())).collect(),
            events,
            report_failure,
        }
    }

    fn totals(&self) -> RunTotals {
        let of = |counters: &BTreeMap<String, u64>, name: &str| counters.get(name).copied().unwrap_or(0);
        let outcomes = ItemOutcomes::read(|name| of(&self.outcomes, name));
        RunTotals { sum: RunSum { outcomes, ..RunSum::default() }, work: WorkCounts::read(|name| of(&self.work, name)) }
    }
}

fn awaited((account, store, reason, may_pass): &(String, String, String, bool)) -> Option<(StoreAddress, StoreWait)> {
    Some((address(account, store)?, StoreWait { reason: reason.clone(), may_pass: *may_pass }))
}

fn address(account: &str, store: &str) -> Option<StoreAddress> {
    Some(StoreAddress { account: AccountId::new(account).ok()?, store: StoreId::new(store).ok()? })
}

/// Why a child cannot write its state, as of its last line.
fn still((why, first, last): &(String, u64, u64)) -> StateStandstill {
    let (first_failed, last_failed) = (Duration::from_millis(*first), Duration::from_millis(*last));
    StateStandstill { why: why.as_str().into(), first_failed, last_failed }
}

/// The children of a run.
#[derive(Debug)]
pub struct WorkerProcesses {
    reports: Arc<Mutex<Vec<WorkerReport>>>,
    running: JoinSet<Result<(), String>>,
    end: CancellationToken,
    count: usize,
}

impl WorkerProcesses {
    /// Starts `count` processes of this program with `arguments`. Their refusals and events are those of this run.
    pub fn start(
        count: usize,
        arguments: &[String],
        (refusals, events): (&Arc<Refusals>, &Arc<RunEvents>),
    ) -> Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let reports = Arc::new(Mutex::new(vec![WorkerReport::default(); count]));
        let end = CancellationToken::new();
        let mut running = JoinSet::new();
        for index in 0..count {
            let mut child = Command::new(&program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("a workman's process cannot be started")?;
            // The child works while this pipe is open, and ends when it closes, even by this process's death.
            let Some(work) = child.stdin.take() else { bail!("a workman's process has no standard input") };
            let (refusals, events) = (refusals.clone(), events.clone());
            let inbox = ReportReceiver { index, reports: reports.clone(), refusals, events };
            running.spawn(follow(child, work, inbox, end.clone()));
        }
        Ok(Self { reports, running, end, count })
    }

    /// Ends them gently when `token` is cancelled, and cancels it when all of them have ended by themselves.
    pub fn end_with(&self, token: &CancellationToken) {
        let (ours, theirs) = (self.end.clone(), token.clone());
        let alive = Arc::downgrade(&self.reports);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = theirs.cancelled() => return ours.cancel(),
                    () = tokio::time::sleep(Duration::from_millis(200)) => {
                        // The reader of each child holds one, and `WorkerProcesses` another.
                        if alive.strong_count() <= 1 {
                            return theirs.cancel();
                        }
                    }
                }
            }
        });
    }

    /// Adds what the children have reported.
    pub fn add_to(&self, snapshot: &mut RunProgress) {
        for line in self.reports.lock().iter() {
            let totals = line.totals();
            snapshot.totals += totals;
            snapshot.run.outcomes += totals.sum.outcomes;
            snapshot.ended += line.ended;
            snapshot.bytes_moving += line.bytes_moving;
            snapshot.in_hand.extend(line.in_hand.iter().cloned());
            snapshot.awaited.extend(line.awaited.iter().filter_map(awaited));
            snapshot.answers += line.answers;
            snapshot.asked.extend(line.asked.iter().filter_map(|(account, store)| address(account, store)));
            for (account, store, seconds) in &line.writes {
                let Some(store) = address(account, store) else { continue };
                let longest = snapshot.writes.entry(store).or_default();
                *longest = Duration::from_secs(*seconds).max(*longest);
            }
            let still = line.still.as_ref().map(still);
            // The child that failed last shows whether writes fail now.
            snapshot.still =
                snapshot.still.take().into_iter().chain(still).max_by_key(|still| Reverse(still.last_failed));
        }
    }

    /// Waits for all children. Returns a text if all of them ended early.
    pub async fn join(&mut self) -> Result<Option<String>> {
        let mut lost = Vec::new();
        while let Some(ended) = self.running.join_next().await {
            if let Err(how) = ended.context("a workman's process was lost from sight")? {
                lost.push(how);
            }
        }
        Ok((lost.len() == self.count).then(|| format!("all workmen ended early: {}", lost.join("; "))))
    }
}

/// Receives the reports of one child.
struct ReportReceiver {
    index: usize,
    reports: Arc<Mutex<Vec<WorkerReport>>>,
    refusals: Arc<Refusals>,
    events: Arc<RunEvents>,
}

impl ReportReceiver {
    fn take(&self, text: &str) {
        let Ok(mut line) = serde_json::from_str::<WorkerReport>(text) else { return };
        for (subject, reason, deed) in line.refused.drain(..) {
            let deed = RefusedDeed::ALL.into_iter().find(|of| of.as_str() == deed).unwrap_or(RefusedDeed::Copy);
            self.refusals.note(Refusal { subject, reason, deed });
        }
        let told: Vec<ItemEvent> = line.events.drain(..).filter_map(EventLine::event).collect();
        self.events.tell(&told);
        if let Some(why) = &line.report_failure {
            self.events.note_failure(why);
        }
        self.reports.lock()[self.index] = line;
    }
}

/// Reads one child's reports until it ends.
async fn follow(
    mut child: Child,
    work: ChildStdin,
    inbox: ReportReceiver,
    end: CancellationToken,
) -> Result<(), String> {
    let mut work = Some(work);
    let read = async {
        let Some(out) = child.stdout.take() else { return Ok(()) };
        let mut lines = BufReader::new(out).lines();
        loop {
            tokio::select! {
                biased;
                line = lines.next_line() => match line? {
                    None => return io::Result::Ok(()),
                    Some(text) => inbox.take(&text),
                },
                () = end.cancelled(), if work.is_some() => drop(work.take()),
            }
        }
    };
    let heard = read.await;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    let number = inbox.index + 1;
    if let Err(error) = heard {
        tracing::warn!(workman = number, "its reports ended: {error}");
    }
    if status.success() || status.code() == Some(i32::from(ResultCode::Partial.code())) && end.is_cancelled() {
        return Ok(());
    }
    let how = format!("workman {number} ended early ({status})");
    tracing::warn!("{how}; the others go on, and what it had in hand comes back to them");
    Err(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The run itself writes nothing while it waits for the children.
    #[tokio::test]
    async fn a_run_knows_that_its_processes_cannot_write_to_its_state() {
        let (first_failed, last_failed) = (Duration::from_secs(7), Duration::ZERO);
        let still = StateStandstill { why: "the disk is full".into(), first_failed, last_failed };
        let line = WorkerReport::of(
            &RunProgress { still: Some(still), ..RunProgress::default() },
            Vec::new(),
            (Vec::new(), None),
        );
        let line: WorkerReport = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
        let reports = Arc::new(Mutex::new(vec![WorkerReport::default(), line]));
        let children = WorkerProcesses { reports, running: JoinSet::new(), end: CancellationToken::new(), count: 2 };
        let mut snapshot = RunProgress::default();
        children.add_to(&mut snapshot);
        let still = snapshot.still.unwrap();
        assert_eq!(&*still.why, "the disk is full");
        assert_eq!((still.first_failed, still.last_failed), (first_failed, last_failed));
    }
}
