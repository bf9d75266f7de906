//! `mill run`: produce and work until every copy is in sync.

use std::path::Path;

use anyhow::Result;
use indicatif::MultiProgress;
use mill_app::UsageError;
use mill_app::config::{Config, EngineType};
use mill_app::held_deletes::HeldDeleteReview;
use mill_app::installation::{Installation, producer_settings, workman_settings};
use mill_app::item_report::ReportFile;
use mill_app::result_code::ResultCode;
use mill_app::run_conclusion::RunConclusion;
use mill_app::run_events::RunEvents;
use mill_app::subject_names::SubjectNames;
use mill_app::wait_limit::WaitLimit;
use mill_app::worker_processes::WorkerProcesses;
use mill_app::workers::Workers;
use mill_hooks::crash_point;
use mill_producer::{QueueSizing, WhenFull};
use mill_run::RunUntilDone;
use mill_run::silence::one_answer_max;
use mill_workman::OnFinalFailure;
use tokio::sync::mpsc;

use super::held::person;
use crate::args::RunArgs as Args;
use crate::crash_points;
use crate::progress::Progress;
use crate::recorded_run::RecordedRun;
use crate::stop;

/// Runs it.
pub(super) async fn run(args: Args, config: &Config, file: Option<&Path>, bars: MultiProgress) -> Result<ResultCode> {
    let stopping = stop::on_signals()?;
    let wait_limit = WaitLimit { give_up_after: args.options.give_up_after, stop: stopping.gentle.clone() };
    let report = open_report(&args, config)?;
    let installation = Installation::opened(config, true, &wait_limit).await?;
    let installation = Installation { item_patience: args.options.give_up_after, ..installation };
    stopping.when_damaged();
    let (names, report) = (SubjectNames::Policies, (report, &*config.engine.data));
    let recorded = RecordedRun::listen(&installation, (&args.options, &names), report, &bars)?;
    HeldDeleteReview::of(&installation.engine).confirm_for_run(args.confirm_deletes.as_ref(), &person()).await?;
    // The person wants everything tried now, including tasks that were snoozed because a store failed.
    installation.make_delayed_due().await?;
    crash_point(crash_points::CLI_HASTENED);
    let settings = producer_settings(config)?;
    let looping = mill_producer::LoopingSettings {
        // The producer checks the queue again so soon that no more tasks need to wait in it.
        queue_sizing: QueueSizing::Fixed,
        when_full: WhenFull::Wait {
            poll: installation.engine.polling().full_poll,
            poll_most: installation.engine.polling().full_poll,
        },
        run_start: mill_producer::RunStart::Together,
        give_up_after: args.options.give_up_after,
        silence_max: one_answer_max(args.options.give_up_after),
        ..settings.looping
    };
    let producer = installation.producer(mill_producer::ProducerSettings { looping, ..settings });
    let queues = config.workman.queues.clone();
    let workers = if args.processes == 0 {
        let mut settings = workman_settings(config, args.workers);
        settings.poll_wait = installation.engine.polling().poll_wait;
        if args.options.fail_fast {
            settings.on_final_failure = OnFinalFailure::FailFast;
        }
        Workers::Here(Box::new(installation.workman(&queues, settings)))
    } else {
        let arguments = child_arguments(&args, file);
        let children =
            WorkerProcesses::start(args.processes as usize, &arguments, (&installation.refusals, &recorded.events))?;
        crash_point(crash_points::CLI_CHILDREN_STARTED);
        Workers::WorkerProcesses(children)
    };
    let (stop, detailed) = (stopping.gentle.clone(), args.options.detailed_exit_code);
    let (quiet, give_up_after) = (args.options.quiet, args.options.give_up_after);
    recorded.begin().await;
    let _settling = installation.settle_changes().await;
    let (progress, snapshots) = mpsc::channel(1);
    let run = RunUntilDone {
        deps: installation.run_deps(&queues),
        producer: &producer,
        workers,
        stopping: stopping.signal(),
        progress,
        give_up_after,
    };
    let shown = Progress::begin(&bars, &names, quiet);
    let (ran, ()) = tokio::join!(run.until_in_sync(), shown.follow(snapshots));
    installation.log_requests();
    let ran = recorded.unless_failed(ran).await?;
    if let Some(stores) = installation.configured.as_ref().filter(|_| args.processes > 0) {
        // Nobody else removes what a killed worker process left.
        stores.remove_stale_uploads_again().await;
    }
    let conclusion = RunConclusion {
        installation: &installation,
        producer: &producer,
        names: &names,
        stop,
        detailed,
        give_up_after,
    };
    let (exit, summary) = recorded.unless_failed(conclusion.of(ran).await).await?;
    Ok(recorded.end(exit, summary).await)
}

/// Opens the file of the report, before anything is done.
fn open_report(args: &Args, config: &Config) -> Result<Option<ReportFile>> {
    let Some(path) = &args.options.report else { return Ok(None) };
    if config.engine.engine_type != EngineType::Local {
        let why = "--report needs an engine of this host: on a fleet, workmen of other hosts do the work, and no file here can \
                   name all of it; the logs of the workmen name it";
        return Err(UsageError(why.into()).into());
    }
    ReportFile::open(path).map(Some)
}

fn child_arguments(args: &Args, file: Option<&Path>) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    if let Some(file) = file {
        arguments.extend(["--config".into(), file.to_string_lossy().into_owned()]);
    }
    arguments.extend(["work".into(), "--child".into()]);
    if let Some(workers) = args.workers {
        arguments.extend(["--workers".into(), workers.to_string()]);
    }
    if args.options.fail_fast {
        arguments.push("--fail-fast".into());
    }
    let told = if args.options.verbose { usize::MAX } else { RunEvents::NAMED_MAX };
    arguments.extend(["--tell".into(), told.to_string()]);
    if args.options.report.is_some() {
        arguments.push("--for-report".into());
    }
    arguments
}
