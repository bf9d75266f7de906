//! `mill work`: do queued work until told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use mill_app::config::Config;
use mill_app::installation::{Installation, workman_settings};
use mill_app::item_report::EntryReport;
use mill_app::local_state::OpenedState;
use mill_app::result_code::ResultCode;
use mill_app::run_events::{EventOutbox, RunEvents};
use mill_app::stop_tokens::StopTokens;
use mill_app::wait_limit::WaitLimit;
use mill_app::watch::SourceWatches;
use mill_app::worker_processes::WorkerReport;
use mill_app::workers;
use mill_app::write_log::WriteLog;
use mill_model::QueueName;
use mill_processors::Refusals;
use mill_run::{RunProgress, StateWatch as _};
use mill_workman::{DrainError, OnFinalFailure, StopSignal};
use tokio::io::AsyncReadExt;

use crate::args::WorkArgs;
use crate::output::line;
use crate::stop;

/// How often a child reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How often long writes are checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs it.
pub(super) async fn run(args: WorkArgs, config: &Config) -> Result<ResultCode> {
    let stopping = stop::on_signals()?;
    let installation = Installation::opened(config, true, &WaitLimit::until(stopping.gentle.clone())).await?;
    stopping.when_damaged();
    let outbox = Arc::<EventOutbox>::default();
    let teller = (args.tell > 0).then(|| outbox.teller(args.tell));
    let report = args.for_report.then(|| EntryReport::join(&config.engine.data)).transpose()?;
    let events = Arc::new(RunEvents::new(teller, report));
    if args.tell > 0 || args.for_report {
        installation.listen(&events);
    }
    let queues = queues(&args, config);
    let mut settings = workman_settings(config, args.workers);
    if args.fail_fast {
        settings.on_final_failure = OnFinalFailure::FailFast;
    }
    if args.child {
        settings.poll_wait = Duration::from_secs(1);
    }
    if !args.child {
        let (names, file) = (queues.iter().map(|queue| queue.as_str()).collect::<Vec<_>>(), config.file().display());
        line(format!(
            "works on the queues {} of `{file}`, at most {} items at once, until stopped (Ctrl-C)",
            names.join(", "),
            settings.workers
        ));
    }
    let _settling = if args.child { None } else { Some(installation.settle_changes().await) };
    let (workman, heartbeat) = installation.workman(&queues, settings);
    // If the workman or the drain ends by itself, the other must end too.
    let gentle = stopping.gentle.child_token();
    let stop = StopSignal { gentle: gentle.clone(), immediate: stopping.at_once.clone() };
    let drain = installation.drain();
    let work = async {
        let working = async {
            let cut_short = workers::work(workman, heartbeat, stop.clone()).await;
            gentle.cancel();
            cut_short
        };
        let draining = async {
            let drained = drain.run(&stop).await;
            gentle.cancel();
            drained
        };
        let watching = async {
            if args.watch {
                SourceWatches::of(&installation, config).run(gentle.clone()).await;
            }
        };
        let (cut_short, drained, ()) = tokio::join!(working, draining, watching);
        let cut_short = cut_short?;
        drained.map_err(|error| {
            workers::with_way_out(match error {
                DrainError::Queue(error) => error.into(),
                error @ DrainError::Book(_) => error.into(),
            })
        })?;
        anyhow::Ok(cut_short)
    };
    let cut_short = if args.child {
        let mut reporter = Reporter {
            installation: &installation,
            refusals: installation.refusals.clone(),
            refused: 0,
            outbox,
            events,
        };
        let beside = async { tokio::join!(end_with_standard_input(stopping), reporter.report()) };
        let cut_short = tokio::select! {
            cut_short = work => cut_short,
            _ = beside => Ok(None), // It never ends.
        };
        line(reporter.text()?);
        cut_short?
    } else {
        tokio::select! {
            cut_short = work => cut_short?,
            () = log_writes(&installation) => None, // It never ends.
        }
    };
    for remark in installation.misplaced.remarks() {
        tracing::error!("{remark}");
    }
    if let Some(why) = &cut_short {
        tracing::error!("{why}");
    }
    Ok(installation.misplaced.exit(if cut_short.is_some() { ResultCode::Partial } else { ResultCode::Done }))
}

/// The queues to serve. What a watch finds goes through two of them, whatever the configuration says.
fn queues(args: &WorkArgs, config: &Config) -> Vec<QueueName> {
    const OF_WATCHES: [QueueName; 2] = [QueueName::Audit, QueueName::DuplicationHigh];
    if !args.queues.is_empty() {
        return args.queues.clone();
    }
    let configured = config.workman.queues.iter().copied();
    let missing = OF_WATCHES.into_iter().filter(|name| args.watch && !config.workman.queues.contains(name));
    missing.chain(configured).collect()
}

fn snapshot(installation: &Installation) -> RunProgress {
    let here = RunProgress::of(&installation.statistics, &*installation.engine.clock());
    RunProgress { still: OpenedState.standstill(), ..here }
}

/// Logs for which store a write waits. For a child, its parent does.
async fn log_writes(installation: &Installation) {
    let mut log = WriteLog::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        log.look(&snapshot(installation).writes);
    }
}

/// Stops gently when the parent closes the pipe, also by dying.
async fn end_with_standard_input(stopping: StopTokens) {
    let mut bytes = [0; 64];
    while tokio::io::stdin().read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    stopping.gentle.cancel();
    std::future::pending::<()>().await;
}

/// Reports to the parent process what this process does.
struct Reporter<'w> {
    installation: &'w Installation,
    refusals: Arc<Refusals>,
    /// How many refusals are reported already.
    refused: usize,
    /// What it has to tell of items.
    outbox: Arc<EventOutbox>,
    events: Arc<RunEvents>,
}

impl Reporter<'_> {
    async fn report(&mut self) {
        let mut last = String::new();
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            if let Ok(text) = self.text()
                && text != last
            {
                line(&text);
                last = text;
            }
        }
    }

    fn text(&mut self) -> serde_json::Result<String> {
        let refused = self.refusals.named_since(self.refused);
        self.refused += refused.len();
        let failure = self.events.report_failure();
        serde_json::to_string(&WorkerReport::of(&snapshot(self.installation), refused, (self.outbox.take(), failure)))
    }
}
