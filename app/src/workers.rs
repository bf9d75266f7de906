//! The workers of a run: a workman in this process, or worker processes.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use mill_ports::{QueueError, QueueErrorKind};
use mill_run::until_done::ended_early;
use mill_run::{RunProgress, RunWorkers};
use mill_workman::{Heartbeat, StopSignal, Workman};
use tokio::task::JoinHandle;

use crate::worker_processes::WorkerProcesses;

/// The workers of a run.
#[derive(Debug)]
pub enum Workers {
    /// A workman in this process that has not begun.
    Here(Box<(Workman, Heartbeat)>),
    /// A workman in this process that works, or that has ended and was joined.
    Working(Option<JoinHandle<Result<Option<String>>>>),
    /// Workmen in their own processes.
    WorkerProcesses(WorkerProcesses),
}

#[async_trait]
impl RunWorkers for Workers {
    fn is_exact(&self) -> bool {
        !matches!(self, Self::WorkerProcesses(_))
    }

    fn begin(&mut self, stop: StopSignal) {
        match std::mem::replace(self, Self::Working(None)) {
            Self::Here(workman) => {
                *self = Self::Working(Some(tokio::spawn(async move {
                    let ((workman, heartbeat), ended) = (*workman, stop.gentle.clone());
                    let result = work(workman, heartbeat, stop).await;
                    ended.cancel();
                    result
                })));
            }
            begun => {
                if let Self::WorkerProcesses(children) = &begun {
                    children.end_with(&stop.gentle);
                }
                *self = begun;
            }
        }
    }

    fn add_to(&self, progress: &mut RunProgress) {
        if let Self::WorkerProcesses(children) = self {
            children.add_to(progress);
        }
    }

    async fn join(&mut self) -> Result<Option<String>> {
        match self {
            Self::WorkerProcesses(children) => children.join().await,
            Self::Working(running) => match running.take() {
                Some(running) => running.await.context("the workman's task failed")?,
                None => Ok(None),
            },
            Self::Here(_) => Ok(None),
        }
    }
}

/// Adds to an error what to do if a queue is missing.
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

/// Runs a workman, with its heartbeat on its own thread, so that no slow transfer can delay a lease.
///
/// # Errors
/// It could not go on. Returns a text if it ended early.
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
    Ok(ended_early(ended.map_err(|error| with_way_out(error.into()))?))
}
