//! `mill produce`: one session of a producer, as cron starts it.

use anyhow::Result;
use mill_model::SurveySum;
use mill_producer::Ended;

use crate::args::Produce;
use crate::config::Config;
use crate::exit::Exit;
use crate::names::Names;
use crate::output::line;
use crate::stop;
use crate::works::{Works, producer_settings};

/// Runs it: one line on standard output, for cron's mail.
pub(super) async fn run(args: Produce, config: &Config) -> Result<Exit> {
    let Produce::Duplication { now, reset, confirm_deletes } = args;
    let stopping = stop::on_signals()?;
    let works = Works::configured(config).await?;
    stopping.when_damaged();
    let settings = mill_producer::Settings { force: now, ..producer_settings(config)? };
    super::held::confirm(&works.delete_lists(), confirm_deletes.as_ref(), &*works.engine.clock).await?;
    let producer = works.producer(settings);
    if reset {
        producer.reset().await?;
        line("duplication: the loop's place is forgotten; the next one begins at the beginning");
        return Ok(Exit::Done);
    }
    let report = producer.session(&stopping.gentle).await?;
    let queued = report.queued;
    let SurveySum { listed, queued: differ, .. } = report.survey;
    line(match &report.ended {
        Ended::Finished { next_run } => {
            let at = report.began;
            format!(
                "duplication: loop finished; as of {at}: {listed} listed, {differ} differ, {queued} tasks queued; next \
                 {next_run}"
            )
        }
        Ended::QueueFull => format!("duplication: queue full, {queued} tasks queued; the next session goes on"),
        Ended::NotDue { next_run } => format!("duplication: not due; next {next_run}"),
        Ended::HeldByAnother { holder } => format!("duplication: another producer is at work ({holder})"),
        Ended::Stopped => format!("duplication: stopped, {queued} tasks queued; the next session goes on"),
    });
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
    Ok(works.misplaced.exit(if warned { Exit::Warnings } else { Exit::Done }))
}
