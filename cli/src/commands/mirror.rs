//! `mill mirror`: one folder or bucket made a faithful copy of another, with no configuration.

use anyhow::{Context, Result};
use indicatif::MultiProgress;
use mill_app::conclude::Conclusion;
use mill_app::exit::Exit;
use mill_app::held_deletes::confirm;
use mill_app::mirror::{self, LockedMirror};
use mill_app::patience::Patience;
use mill_app::run_until_done::{Hands, Run};
use mill_model::QueueName;
use mill_ports::{CrashPoint, crash_point};
use mill_workman::OnFinalFailure;
use tokio::sync::mpsc;

use super::held::person;
use crate::args::Mirror;
use crate::output::line;
use crate::progress::Progress;
use crate::report;
use crate::stop;

/// Runs it.
pub(super) async fn run(args: Mirror, bars: MultiProgress) -> Result<Exit> {
    // Before anything is looked at: it may lie on a mount that hangs.
    let stopping = stop::on_signals()?;
    let (stop, names) = (stopping.gentle.clone(), args.names());
    let patience = Patience { give_up_after: args.ending.give_up_after, stop: stop.clone() };
    let locked = LockedMirror::lock(args.request(), &patience).await?;
    let first = locked.is_first_run();
    if first && !args.ending.json {
        // Also said to whoever knows better: then the state was lost.
        let folder = locked.state_folder().display();
        line(format!("First run: nothing is known of an earlier one of this pair; its state is kept in `{folder}`."));
    }
    let works = locked.open(&stopping, &patience).await?;
    confirm(&works.delete_lists(), args.confirm_deletes.as_ref(), &person(), &*works.engine.clock).await?;
    works.engine.purge_queues().await?;
    crash_point(CrashPoint::MirrorPurged);
    let on_final_failure = if args.ending.fail_fast { OnFinalFailure::FailFast } else { OnFinalFailure::Drain };
    let workman = mirror::workman_settings(&works, args.workers, on_final_failure);
    let workman = works.workman(&[QueueName::DuplicationLow], workman);
    let producer = works.producer(mirror::producer_settings(args.ending.give_up_after)?);
    producer.reset().await.context("the state of the last run cannot be cleared")?;
    crash_point(CrashPoint::MirrorReset);
    let (progress, snapshots) = mpsc::channel(1);
    let run = Run {
        works: &works,
        producer: &producer,
        hands: Hands::Here(Box::new(workman)),
        queues: vec![QueueName::DuplicationLow],
        stopping,
        progress,
        give_up_after: args.ending.give_up_after,
    };
    let shown = Progress::begin(&bars, &names, args.ending.quiet);
    let (ran, ()) = tokio::join!(run.until_in_sync(), shown.follow(snapshots));
    let ran = ran?;
    let conclusion = Conclusion {
        works: &works,
        producer: &producer,
        names: &names,
        stop,
        detailed: args.ending.detailed_exit_code,
        give_up_after: args.ending.give_up_after,
    };
    let (exit, mut summary) = conclusion.of(ran).await?;
    summary.first_run = Some(first);
    let exit = locked.judge_nothing(&names, exit, &mut summary);
    report::print(&summary, args.ending.json, exit);
    Ok(exit)
}
