//! `mill run`: produce and work until every copy is in sync.

use std::path::Path;

use anyhow::Result;
use indicatif::MultiProgress;
use mill_app::conclude::Conclusion;
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::held_deletes::confirm;
use mill_app::installation::{Works, producer_settings, workman_settings};
use mill_app::names::Names;
use mill_app::patience::Patience;
use mill_app::run_until_done::silence::one_answer_max;
use mill_app::run_until_done::{Hands, Run};
use mill_app::worker_processes::Children;
use mill_model::QueueName;
use mill_ports::{CrashPoint, crash_point};
use mill_producer::{QueueSizing, WhenFull};
use mill_workman::OnFinalFailure;
use tokio::sync::mpsc;

use super::held::person;
use crate::args::Run as Args;
use crate::progress::Progress;
use crate::report;
use crate::stop;

/// Runs it.
pub(super) async fn run(args: Args, config: &Config, file: Option<&Path>, bars: MultiProgress) -> Result<Exit> {
    let stopping = stop::on_signals()?;
    let patience = Patience { give_up_after: args.ending.give_up_after, stop: stopping.gentle.clone() };
    let works = Works::opened(config, true, &patience).await?;
    let works = Works { item_patience: args.ending.give_up_after, ..works };
    stopping.when_damaged();
    confirm(&works.delete_lists(), args.confirm_deletes.as_ref(), &person(), &*works.engine.clock).await?;
    // Who runs this wants it tried now, also what was put off because a store could not be used.
    works.engine.make_delayed_due().await?;
    crash_point(CrashPoint::CliHastened);
    let producer = works.producer(mill_producer::ProducerSettings {
        // It looks again so soon that no more need wait in the queue.
        queue_sizing: QueueSizing::Fixed,
        when_full: WhenFull::Wait { poll: works.engine.pace.full_poll, poll_most: works.engine.pace.full_poll },
        run_start: mill_producer::RunStart::Together,
        give_up_after: args.ending.give_up_after,
        silence_max: one_answer_max(args.ending.give_up_after),
        ..producer_settings(config)?
    });
    let queues: Vec<QueueName> = config.list("workman.queues")?;
    let hands = if args.processes == 0 {
        let mut settings = workman_settings(config, args.workers)?;
        settings.poll_wait = works.engine.pace.poll_wait;
        if args.ending.fail_fast {
            settings.on_final_failure = OnFinalFailure::FailFast;
        }
        Hands::Here(Box::new(works.workman(&queues, settings)))
    } else {
        let arguments = child_arguments(&args, file);
        let children = Children::start(args.processes as usize, &arguments, &works.refusals)?;
        crash_point(CrashPoint::CliChildrenStarted);
        Hands::Children(children)
    };
    let (stop, detailed) = (stopping.gentle.clone(), args.ending.detailed_exit_code);
    let (quiet, give_up_after) = (args.ending.quiet, args.ending.give_up_after);
    let (progress, snapshots) = mpsc::channel(1);
    let run = Run { works: &works, producer: &producer, hands, queues, stopping, progress, give_up_after };
    let shown = Progress::begin(&bars, &Names::Policies, quiet);
    let (ran, ()) = tokio::join!(run.until_in_sync(), shown.follow(snapshots));
    let ran = ran?;
    if let Some(stores) = works.configured.as_ref().filter(|_| args.processes > 0) {
        // Of a workman's process that was killed, there is nobody else who would.
        stores.tidy_again().await;
    }
    let conclusion =
        Conclusion { works: &works, producer: &producer, names: &Names::Policies, stop, detailed, give_up_after };
    let (exit, summary) = conclusion.of(ran).await?;
    report::print(&summary, args.ending.json, exit);
    Ok(exit)
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
    if args.ending.fail_fast {
        arguments.push("--fail-fast".into());
    }
    arguments
}
