//! What a run comes to, written into its state for `mill runs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use mill_model::Timestamp;
use mill_ports::{Clock, Engine, error_chain};
use mill_records::run_log::{RunDetails, RunHead, RunId, RunLog, VerifiedScope};
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
    /// What it compares, if it is a verification.
    verified: Option<VerifiedScope>,
}

impl RunRecord {
    /// The record of a run that is about to begin.
    pub fn new(engine: &Arc<dyn Engine>) -> Self {
        let clock = engine.clock();
        let began = clock.now();
        Self { log: log_of(engine), id: RunId::new(began, &*engine.rng()), clock, began, verified: None }
    }

    /// The record of a verification.
    pub(crate) fn of_verification(engine: &Arc<dyn Engine>, scope: VerifiedScope) -> Self {
        Self { verified: Some(scope), ..Self::new(engine) }
    }

    /// Writes down what a verification came to. `found`: its remarks; `scope`: what it compared, with the copies with faults.
    pub(crate) async fn end_verification(
        mut self,
        (exit, sentence): (ResultCode, String),
        sums: BTreeMap<String, u64>,
        (found, scope): (Vec<String>, VerifiedScope),
    ) {
        self.verified = Some(scope);
        let details = RunDetails::bounded(found, (Vec::new(), 0));
        self.write(RunHead { exit_code: Some(exit.code()), sentence, sums, ..RunHead::default() }, &details).await;
    }

    /// Writes down that the run begins. A run goes on without its record.
    pub async fn begin(&self) {
        let head = RunHead { began: self.began.as_millis(), verified: self.verified.clone(), ..RunHead::default() };
        if let Err(error) = self.log.begin(&self.id, &head).await {
            tracing::warn!(error = error_chain(&error), "that a run begins could not be written down");
        }
    }

    /// Writes down what the run came to. `sentence`: its closing sentence.
    pub async fn end(&self, exit: ResultCode, sentence: String, summary: &RunSummary, events: &RunEvents) {
        let sums = summary.totals.each().into_iter().filter(|(_, count)| *count > 0);
        let sums = sums.map(|(counter, count)| (counter.name.to_owned(), count)).collect();
        let (named, remarks) = (events.named(), summary.remarks_beside(&events.named_entries()));
        let details = RunDetails::bounded(remarks, named);
        self.write(RunHead { exit_code: Some(exit.code()), sentence, sums, ..RunHead::default() }, &details).await;
    }

    /// Writes down why the run could not go on, if it could not.
    ///
    /// # Errors
    /// The given one.
    pub async fn unless_failed<T>(&self, ran: Result<T>, names: &SubjectNames, events: &RunEvents) -> Result<T> {
        if let Err(error) = &ran {
            self.fail(error, names, events).await;
        }
        ran
    }

    pub(crate) async fn fail(&self, error: &anyhow::Error, names: &SubjectNames, events: &RunEvents) {
        let (exit, sentence) = (ResultCode::of_error(error), names.text(&format!("{error:#}")));
        let details = RunDetails::bounded(Vec::new(), events.named());
        self.write(RunHead { exit_code: Some(exit.code()), sentence, ..RunHead::default() }, &details).await;
    }

    /// Writes down a run that failed before it began.
    pub(crate) async fn failed_at_start(engine: &Arc<dyn Engine>, error: &anyhow::Error, names: &SubjectNames) {
        let record = Self::new(engine);
        record.begin().await;
        record.fail(error, names, &RunEvents::default()).await;
    }

    async fn write(&self, head: RunHead, details: &RunDetails) {
        let (began, ended) = (self.began.as_millis(), Some(self.clock.now().as_millis()));
        let head = RunHead { began, ended, verified: self.verified.clone(), ..head };
        if let Err(error) = self.log.end(&self.id, &head, details).await {
            tracing::warn!(error = error_chain(&error), "what the run came to could not be written down");
        }
    }
}

pub(crate) fn log_of(engine: &Arc<dyn Engine>) -> RunLog {
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
