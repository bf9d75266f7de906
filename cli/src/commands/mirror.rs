//! `mill mirror`: makes one folder or bucket a faithful copy of another, without a configuration.

use anyhow::{Context, Result};
use indicatif::MultiProgress;
use mill_app::held_deletes::HeldDeleteReview;
use mill_app::item_report::ReportFile;
use mill_app::mirror::{self, LockedMirror};
use mill_app::result_code::ResultCode;
use mill_app::run_conclusion::RunConclusion;
use mill_app::wait_limit::WaitLimit;
use mill_app::workers::Workers;
use mill_hooks::crash_point;
use mill_model::QueueName;
use mill_run::RunUntilDone;
use mill_workman::OnFinalFailure;
use tokio::sync::mpsc;

use super::held::person;
use crate::args::MirrorArgs;
use crate::crash_points;
use crate::output::line;
use crate::progress::Progress;
use crate::recorded_run::RecordedRun;
use crate::stop;

/// Runs it.
pub(super) async fn run(args: MirrorArgs, bars: MultiProgress) -> Result<ResultCode> {
    // Before any path is touched: it may be on a hanging mount.
    let stopping = stop::on_signals()?;
    let (stop, names) = (stopping.gentle.clone(), args.names());
    let wait_limit = WaitLimit { give_up_after: args.options.give_up_after, stop: stop.clone() };
    let locked = LockedMirror::lock(args.request(), &wait_limit).await?;
    let report = args.options.report.as_deref();
    if let Some(path) = report {
        locked.ensure_outside(path, &wait_limit).await?;
    }
    let report = report.map(ReportFile::open).transpose()?;
    let first = locked.is_first_run();
    if first && !args.dry_run && !args.options.json && !args.options.quiet {
        // A person who knows of an earlier run learns from this that the state was lost.
        let folder = locked.state_folder().display();
        line(format!("First run: nothing is known of an earlier one of this pair; its state is kept in `{folder}`."));
    }
    let installation = locked.open(&stopping, &wait_limit).await?;
    let report = (report, locked.state_folder());
    let recorded = RecordedRun::listen(&installation, (&args.options, &names), report, &bars)?;
    HeldDeleteReview::of(&installation.engine).confirm_for_run(args.confirm_deletes.as_ref(), &person()).await?;
    installation.purge_queues().await?;
    crash_point(crash_points::MIRROR_PURGED);
    let on_final_failure = if args.options.fail_fast { OnFinalFailure::FailFast } else { OnFinalFailure::Drain };
    let workman = mirror::workman_settings(&installation, args.workers, on_final_failure)?;
    let workman = installation.workman(&[QueueName::DuplicationLow], workman);
    let producer = installation.producer(mirror::producer_settings(args.options.give_up_after)?);
    producer.reset().await.context("the state of the last run cannot be cleared")?;
    crash_point(crash_points::MIRROR_RESET);
    recorded.begin().await;
    let (progress, snapshots) = mpsc::channel(1);
    let run = RunUntilDone {
        deps: installation.run_deps(&[QueueName::DuplicationLow]),
        producer: &producer,
        workers: Workers::Here(Box::new(workman)),
        stopping: stopping.signal(),
        progress,
        give_up_after: args.options.give_up_after,
    };
    // Nothing is copied, so there is no speed to show.
    let shown = Progress::begin(&bars, &names, args.options.quiet || args.dry_run);
    let (ran, ()) = tokio::join!(run.until_in_sync(), shown.follow(snapshots));
    installation.log_requests();
    let ran = recorded.unless_failed(ran).await?;
    let conclusion = RunConclusion {
        installation: &installation,
        producer: &producer,
        names: &names,
        stop,
        detailed: args.options.detailed_exit_code,
        give_up_after: args.options.give_up_after,
    };
    let (exit, mut summary) = recorded.unless_failed(conclusion.of(ran).await).await?;
    summary.first_run = Some(first);
    let exit = locked.judge_nothing(&names, exit, &mut summary);
    Ok(recorded.end(exit, summary).await)
}
