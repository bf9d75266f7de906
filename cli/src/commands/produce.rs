//! `mill produce`: one session of a producer, as cron starts it, or one after another, as a service has it.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::held_deletes::confirm;
use mill_app::installation::{Works, producer_settings};
use mill_app::names::Names;
use mill_app::patience::Patience;
use mill_app::stop::Stopping;
use mill_model::SurveySum;
use mill_producer::{DuplicationProducer, RunStart, SessionEnd, SessionReport, WhenFull};

use super::held::person;
use crate::args::Produce;
use crate::output::line;
use crate::stop;

/// Runs it: one line on standard output, for cron's mail.
pub(super) async fn run(args: Produce, config: &Config) -> Result<Exit> {
    let Produce::Duplication { now, stay: stays, reset, confirm_deletes } = args;
    let stopping = stop::on_signals()?;
    let works = Works::opened(config, false, &Patience::until(stopping.gentle.clone())).await?;
    stopping.when_damaged();
    let run_start = if now { RunStart::Now } else { RunStart::WhenDue };
    let mut settings = mill_producer::ProducerSettings { run_start, ..producer_settings(config)? };
    if stays {
        let pace = works.engine.pace;
        settings.when_full = WhenFull::Wait { poll: pace.full_poll, poll_most: pace.full_poll_most };
    }
    confirm(&works.delete_lists(), confirm_deletes.as_ref(), &person(), &*works.engine.clock).await?;
    let producer = works.producer(settings);
    if reset {
        producer.reset().await?;
        line("duplication: the loop's place is forgotten; the next one begins at the beginning");
        return Ok(Exit::Done);
    }
    if stays {
        return stay(&works, &producer, &stopping).await;
    }
    let report = producer.run_session(&stopping.gentle).await?;
    line(said(&report));
    let warned = warn_of(&works, &report);
    let exit = match (could_look_at_nothing(&report), warned) {
        (true, _) => Exit::Error,
        (false, true) => Exit::Warnings,
        (false, false) => Exit::Done,
    };
    Ok(works.misplaced.exit(exit))
}

/// Whether accounts or spaces failed, and not one entry of any other was seen.
fn could_look_at_nothing(report: &SessionReport) -> bool {
    report.failed() && report.survey.listed + report.queued == 0
}

/// Works until told to stop: a line for each loop.
async fn stay(works: &Works, producer: &DuplicationProducer, stopping: &Stopping) -> Result<Exit> {
    let mut last = String::new();
    let mut tell = |report: &SessionReport| {
        let text = said(report);
        // Who else is at work, and what fails again and again, is said once.
        if !matches!(report.ended, SessionEnd::NotDue { .. }) && text != last {
            line(&text);
            warn_of(works, report);
            last = text;
        }
    };
    producer.run_until_stopped(works.engine.pace.stay, &stopping.gentle, &mut tell).await?;
    Ok(works.misplaced.exit(Exit::Done))
}

/// A session in one line.
fn said(report: &SessionReport) -> String {
    let queued = report.queued;
    let SurveySum { listed, queued: to_do, .. } = report.survey;
    match &report.ended {
        SessionEnd::Finished { next_run } => {
            let (at, runs, accounts) = (report.began, report.runs, report.accounts);
            let whose = if runs < accounts { format!("of {runs} of {accounts} accounts ") } else { String::new() };
            format!(
                "duplication: loop {whose}finished; as of {at}: {listed} listed, {to_do} to be compared or copied, \
                 {queued} tasks queued; next {next_run}"
            )
        }
        SessionEnd::QueueFull => format!("duplication: queue full, {queued} tasks queued; the next session goes on"),
        SessionEnd::NotDue { next_run } => format!("duplication: not due; next {next_run}"),
        SessionEnd::HeldByAnother { holder } => format!("duplication: another producer is at work ({holder})"),
        SessionEnd::Stopped => format!("duplication: stopped, {queued} tasks queued; the next session goes on"),
    }
}

/// Says in the log what a person should know of a session; whether there is any.
fn warn_of(works: &Works, report: &SessionReport) -> bool {
    for (account, why) in &report.accounts_failed {
        tracing::error!(%account, "passed over: {why}");
    }
    for failed in &report.spaces_failed {
        let space = failed.space.as_ref().map(tracing::field::display);
        tracing::error!(account = %failed.account, space, store = %failed.source, "passed over: {}", failed.reason);
    }
    for remark in works.misplaced.remarks() {
        tracing::error!("{remark}");
    }
    let warned = report.failed() || !report.held.is_empty() || report.leaves_out() || report.no_account();
    if report.no_account() {
        tracing::warn!("no account is configured");
    }
    for held in &report.held {
        tracing::warn!("{}", Names::Policies.held(held));
    }
    warned
}
