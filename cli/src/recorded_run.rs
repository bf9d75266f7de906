//! A run with those who learn what becomes of its entries (`-v`, `--report`), and with its record for `mill runs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use indicatif::MultiProgress;
use mill_app::installation::Installation;
use mill_app::item_report::{ReportFile, ReportHeader};
use mill_app::result_code::ResultCode;
use mill_app::run_events::RunEvents;
use mill_app::run_record::RunRecord;
use mill_app::run_summary::RunSummary;
use mill_app::subject_names::SubjectNames;

use crate::args::RunOptions;
use crate::{event_lines, report};

/// A run of an installation or a mirror.
pub(crate) struct RecordedRun<'r> {
    installation: &'r Installation,
    options: &'r RunOptions,
    names: &'r SubjectNames,
    record: RunRecord,
    /// Who learns what becomes of its entries.
    pub(crate) events: Arc<RunEvents>,
}

impl<'r> RecordedRun<'r> {
    /// Begins to listen. `file`: of the report, and the folder of the run's state.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn listen(
        installation: &'r Installation,
        (options, names): (&'r RunOptions, &'r SubjectNames),
        (file, state): (Option<ReportFile>, &Path),
        bars: &MultiProgress,
    ) -> Result<Self> {
        let teller = options.verbose.then(|| event_lines::teller(bars, names, installation.dry_run));
        let record = RunRecord::new(&installation.engine);
        let header = ReportHeader::new(record.id.as_str(), record.began, names);
        let header = ReportHeader { dry_run: installation.dry_run, ..header };
        let report = file.map(|file| file.begin(state, &header, names)).transpose()?;
        let events = Arc::new(RunEvents::new(teller, report));
        installation.listen(&events);
        Ok(Self { installation, options, names, record, events })
    }

    /// Writes down that the run begins.
    pub(crate) async fn begin(&self) {
        self.record.begin().await;
    }

    /// Writes down why the run could not go on, if it could not.
    ///
    /// # Errors
    /// The given one.
    pub(crate) async fn unless_failed<T>(&self, ran: Result<T>) -> Result<T> {
        self.record.unless_failed(ran, self.names, &self.events).await
    }

    /// Writes the report and the record, and prints the summary. Returns how the run ends.
    pub(crate) async fn end(&self, exit: ResultCode, mut summary: RunSummary) -> ResultCode {
        let exit = self.events.finish_report(self.installation.engine.clock().now(), exit, &mut summary).await;
        self.record.end(exit, report::sentence(&summary, exit), &summary, &self.events).await;
        let told = if self.options.verbose { self.events.named_entries() } else { BTreeSet::new() };
        report::print(&summary, self.options, exit, &told);
        exit
    }
}
