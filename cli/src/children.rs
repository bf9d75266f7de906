//! Workmen as child processes, each of which reports what it does.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use mill_model::Totals;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::progress::Snapshot;

/// One line of a child's report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    totals: [u64; 11],
    ended: u64,
    bytes_moving: u64,
    in_hand: Vec<(String, u64, u64)>,
}

impl Line {
    /// What a child says of itself.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let t = &snapshot.totals;
        Self {
            totals: [
                t.examined,
                t.copied,
                t.updated,
                t.deleted,
                t.unchanged,
                t.refused,
                t.vanished,
                t.held,
                t.failed,
                t.dead_lettered,
                t.bytes,
            ],
            ended: snapshot.ended,
            bytes_moving: snapshot.bytes_moving,
            in_hand: snapshot.in_hand.clone(),
        }
    }

    fn totals(&self) -> Totals {
        let [examined, copied, updated, deleted, unchanged, refused, vanished, held, failed, dead_lettered, bytes] =
            self.totals;
        Totals { examined, copied, updated, deleted, unchanged, refused, vanished, held, failed, dead_lettered, bytes }
    }
}

/// The children of a run.
#[derive(Debug)]
pub(crate) struct Children {
    reports: Arc<Mutex<Vec<Line>>>,
    running: JoinSet<Result<(), String>>,
    end: CancellationToken,
    count: usize,
}

impl Children {
    /// Starts `count` processes of this very program with `arguments`.
    pub(crate) fn start(count: usize, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let reports = Arc::new(Mutex::new(vec![Line::default(); count]));
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
            // While this pipe is open the child works; when it closes, also by this process's death, it ends.
            let Some(work) = child.stdin.take() else { bail!("a workman's process has no standard input") };
            running.spawn(follow(index, child, work, reports.clone(), end.clone()));
        }
        Ok(Self { reports, running, end, count })
    }

    /// Ends them gently when `token` is cancelled, and cancels it when all of them have ended by themselves.
    pub(crate) fn end_with(&self, token: &CancellationToken) {
        let (ours, theirs) = (self.end.clone(), token.clone());
        let alive = Arc::downgrade(&self.reports);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = theirs.cancelled() => return ours.cancel(),
                    () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                        // Each child's follower holds one, and `Children` itself another.
                        if alive.strong_count() <= 1 {
                            return theirs.cancel();
                        }
                    }
                }
            }
        });
    }

    /// Adds what the children have reported.
    pub(crate) fn add_to(&self, snapshot: &mut Snapshot) {
        for line in self.reports.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            snapshot.totals += line.totals();
            snapshot.ended += line.ended;
            snapshot.bytes_moving += line.bytes_moving;
            snapshot.in_hand.extend(line.in_hand.iter().cloned());
        }
    }

    /// Waits for all. A text tells how they ended early, if all of them did.
    pub(crate) async fn join(&mut self) -> Result<Option<String>> {
        let mut lost = Vec::new();
        while let Some(ended) = self.running.join_next().await {
            if let Err(how) = ended.context("a workman's process was lost from sight")? {
                lost.push(how);
            }
        }
        Ok((lost.len() == self.count).then(|| format!("all workmen ended early: {}", lost.join("; "))))
    }
}

/// Takes in one child's reports until it ends.
async fn follow(
    index: usize,
    mut child: Child,
    work: ChildStdin,
    reports: Arc<Mutex<Vec<Line>>>,
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
                    Some(text) => if let Ok(line) = serde_json::from_str(&text) {
                        reports.lock().unwrap_or_else(PoisonError::into_inner)[index] = line;
                    },
                },
                () = end.cancelled(), if work.is_some() => drop(work.take()),
            }
        }
    };
    let heard = read.await;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    let number = index + 1;
    if let Err(error) = heard {
        tracing::warn!(workman = number, "its reports ended: {error}");
    }
    if status.success() || status.code() == Some(i32::from(Exit::Partial.code())) && end.is_cancelled() {
        return Ok(());
    }
    let how = format!("workman {number} ended early ({status})");
    tracing::warn!("{how}; the others go on, and what it had in hand comes back to them");
    Err(how)
}
