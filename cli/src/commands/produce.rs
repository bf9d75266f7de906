//! `mill produce`: one session of a producer, for cron, or one after another, as a service.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::held_deletes::HeldDeleteReview;
use mill_app::installation::{Installation, producer_settings};
use mill_app::result_code::ResultCode;
use mill_app::stop_tokens::StopTokens;
use mill_app::subject_names::SubjectNames;
use mill_app::wait_limit::WaitLimit;
use mill_model::SurveySum;
use mill_producer::{DuplicationProducer, RunStart, SessionEnd, SessionPauses, SessionReport, WhenFull};

use super::held::person;
use crate::args::ProduceCommand;
use crate::output::line;
use crate::stop;

/// Runs it: one line on standard output, unless it is to be quiet.
pub(super) async fn run(args: ProduceCommand, config: &Config) -> Result<ResultCode> {
    let ProduceCommand::Duplication { now, stay: stays, reset, confirm_deletes, quiet } = args;
    let stopping = stop::on_signals()?;
    let installation = Installation::opened(config, false, &WaitLimit::until(stopping.gentle.clone())).await?;
    stopping.when_damaged();
    let run_start = if now { RunStart::Now } else { RunStart::WhenDue };
    let mut settings = producer_settings(config)?;
    settings.looping.run_start = run_start;
    if stays {
        let polling = installation.engine.polling();
        settings.looping.when_full = WhenFull::Wait { poll: polling.full_poll, poll_most: polling.full_poll_most };
    }
    HeldDeleteReview::of(&installation.engine).confirm_for_run(confirm_deletes.as_ref(), &person()).await?;
    let producer = installation.producer(settings);
    if reset {
        producer.reset().await?;
        line("duplication: the loop's place is forgotten; the next one begins at the beginning");
        return Ok(ResultCode::Done);
    }
    if stays {
        return stay(&installation, &producer, &stopping).await;
    }
    let report = producer.run_session(&stopping.gentle).await?;
    if !quiet {
        line(said(&report));
    }
    let warned = warn_of(&installation, &report);
    let exit = match (could_look_at_nothing(&report), warned) {
        (true, _) => ResultCode::Error,
        (false, true) => ResultCode::Warnings,
        (false, false) => ResultCode::Done,
    };
    Ok(installation.misplaced.exit(exit))
}

/// Whether accounts or spaces failed, and no entry of any other was listed.
fn could_look_at_nothing(report: &SessionReport) -> bool {
    report.failed() && report.survey.listed + report.queued == 0
}

/// Works until told to stop: a line for each loop.
async fn stay(
    installation: &Installation,
    producer: &DuplicationProducer,
    stopping: &StopTokens,
) -> Result<ResultCode> {
    let polling = installation.engine.polling();
    let pauses = SessionPauses { least: polling.session_pause_least, most: polling.session_pause_most };
    let mut last = String::new();
    let mut tell = |report: &SessionReport| {
        let text = said(report);
        // Another process at work, or a repeated failure, is reported once.
        if !matches!(report.ended, SessionEnd::NotDue { .. }) && text != last {
            line(&text);
            warn_of(installation, report);
            last = text;
        }
    };
    producer.run_until_stopped(pauses, &stopping.gentle, &mut tell).await?;
    Ok(installation.misplaced.exit(ResultCode::Done))
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
        SessionEnd::HeldByAnother { holder } => format!(
            "duplication: another producer is at work, so this one did nothing ({holder}); should that one be dead, the next takes over once its lease has ended"
        ),
        SessionEnd::Stopped => format!("duplication: stopped, {queued} tasks queued; the next session goes on"),
    }
}

/// Logs what a person should know of a session. Returns whether there is anything.
fn warn_of(installation: &Installation, report: &SessionReport) -> bool {
    for (account, why) in &report.accounts_failed {
        tracing::error!(%account, "passed over: {why}");
    }
    for failed in &report.spaces_failed {
        let space = failed.space.as_ref().map(tracing::field::display);
        tracing::error!(account = %failed.account, space, store = %failed.source, "passed over: {}", failed.reason);
    }
    for remark in installation.misplaced.remarks() {
        tracing::error!("{remark}");
    }
    let warned = report.failed() || !report.findings.held.is_empty() || report.leaves_out() || report.no_account();
    if report.no_account() {
        tracing::warn!("no account is configured");
    }
    for held in &report.findings.held {
        tracing::warn!("{}", SubjectNames::Policies.held(held, true));
    }
    warned
}
