//! What a run comes to, written into its state for `mill runs`.

use std::sync::Arc;

use anyhow::Result;
use mill_model::Timestamp;
use mill_ports::{Clock, Engine, error_chain};
use mill_records::run_log::{RunDetails, RunHead, RunId, RunLog};
use mill_records::tables;

use crate::config::Config;
use crate::engine_choice;
use crate::mirror::{self, MirrorRequest};
use crate::result_code::ResultCode;
use crate::run_events::RunEvents;
use crate::run_summary::RunSummary;
use crate::subject_names::SubjectNames;
use crate::wait_limit::WaitLimit;

/// A run that goes on, as its state remembers it.
#[derive(Debug)]
pub struct RunRecord {
    log: RunLog,
    clock: Arc<dyn Clock>,
    /// The run.
    pub id: RunId,
    /// When it began.
    pub began: Timestamp,
}

impl RunRecord {
    /// The record of a run that is about to begin.
    pub fn new(engine: &Arc<dyn Engine>) -> Self {
        let clock = engine.clock();
        let began = clock.now();
        Self { log: log_of(engine), id: RunId::new(began, &*engine.rng()), clock, began }
    }

    /// Writes down that the run begins. A run goes on without its record.
    pub async fn begin(&self) {
        if let Err(error) = self.log.begin(&self.id, self.began).await {
            tracing::warn!(error = error_chain(&error), "that a run begins could not be written down");
        }
    }

    /// Writes down what the run came to. `sentence`: its closing sentence.
    pub async fn end(&self, exit: ResultCode, sentence: String, summary: &RunSummary, events: &RunEvents) {
        let sums = summary.totals.each().into_iter().filter(|(_, count)| *count > 0);
        let sums = sums.map(|(counter, count)| (counter.name.to_owned(), count)).collect();
        let details = RunDetails::bounded(summary.remarks.clone(), events.named());
        self.write(RunHead { exit_code: Some(exit.code()), sentence, sums, ..RunHead::default() }, &details).await;
    }

    /// Writes down why the run could not go on, if it could not.
    ///
    /// # Errors
    /// The given one.
    pub async fn unless_failed<T>(&self, ran: Result<T>, names: &SubjectNames, events: &RunEvents) -> Result<T> {
        if let Err(error) = &ran {
            let (exit, sentence) = (ResultCode::of_error(error), names.text(&format!("{error:#}")));
            let details = RunDetails::bounded(Vec::new(), events.named());
            self.write(RunHead { exit_code: Some(exit.code()), sentence, ..RunHead::default() }, &details).await;
        }
        ran
    }

    async fn write(&self, head: RunHead, details: &RunDetails) {
        let head = RunHead { began: self.began.as_millis(), ended: Some(self.clock.now().as_millis()), ..head };
        if let Err(error) = self.log.end(&self.id, &head, details).await {
            tracing::warn!(error = error_chain(&error), "what the run came to could not be written down");
        }
    }
}

fn log_of(engine: &Arc<dyn Engine>) -> RunLog {
    RunLog::new(engine.table(tables::PRODUCER_STATE))
}

/// The runs of the installation that a configuration describes.
///
/// # Errors
/// Its engine cannot be opened.
pub async fn runs_of(config: &Config) -> Result<RunLog> {
    Ok(log_of(&engine_choice::open_engine(config, false, &WaitLimit::endless()).await?))
}

/// The runs of a mirror.
///
/// # Errors
/// There was no such mirror yet, or its state cannot be opened.
pub async fn runs_of_mirror(request: &MirrorRequest) -> Result<RunLog> {
    Ok(log_of(&mirror::engine_of(request).await?))
}
