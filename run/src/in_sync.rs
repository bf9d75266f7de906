//! Whether all copies are in sync after a run, and the evidence for it.
//!
//! A run is in sync if its sum shows that every listed entry is equal or reported, or else if a closing survey finds
//! that. A run that failed in part is not examined: it must be run again anyway.

use std::time::Duration;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::{Evidence, ItemOutcomes, RunSum};
use mill_ports::{Clock, Statistics};
use mill_producer::{ClosingReport, DuplicationProducer, IsRefused, ProducerError, SessionEnd, SpaceFailure};
use tokio_util::sync::CancellationToken;

use crate::silence::{SilentStoresError, unless_silent, whole_run_max};
use crate::until_done::RunReport;

/// Whether all copies are in sync, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InSync {
    /// They are not, or it is not known.
    #[default]
    No,
    /// The run's sum: each listed entry was found or made equal, or was named.
    Sum,
    /// A closing survey: each entry is proven, or named.
    ClosingSurvey,
}

/// The evidence that is still needed after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofNeeded {
    /// The run's sum shows that it is.
    Nothing,
    /// A closing survey.
    ClosingSurvey,
    /// No evidence is possible: the run has failed in part, or its sum is wrong.
    AnotherRun,
}

impl RunReport {
    /// Whether it has failed in part, so that it must be run again.
    pub fn is_partial(&self) -> bool {
        let has_skipped = self.produced.failed_in_part() && !is_planted(PlantedBug::SkippedSpaceForgotten);
        has_skipped || self.cut_short.is_some() || self.totals.dead_lettered() > 0
    }

    /// What the sums prove. Counts that are not exact prove nothing of what was queued.
    pub fn evidence(&self) -> Evidence {
        let outcomes = if self.exact { self.totals.sum.outcomes } else { ItemOutcomes::default() };
        let survey = self.produced.survey;
        let evidence = RunSum { survey, outcomes }.evidence();
        // A producer that began anew in this run and was stopped at once has not added up what it had listed before.
        let is_whole = matches!(self.produced.ended, SessionEnd::Finished { .. });
        match evidence {
            Evidence::SumMismatch(_) if !is_whole && survey.check().is_ok() => Evidence::Open { items: 0 },
            evidence => evidence,
        }
    }

    /// The evidence that is still needed.
    pub fn proof_needed(&self) -> ProofNeeded {
        if self.is_partial() {
            return ProofNeeded::AnotherRun;
        }
        match self.evidence() {
            Evidence::Complete if !self.produced.findings.removes_by_earlier_list => ProofNeeded::Nothing,
            Evidence::Open { .. } if is_planted(PlantedBug::OpenItemsCalledInSync) => ProofNeeded::Nothing,
            Evidence::Complete | Evidence::NotAll | Evidence::Open { .. } => ProofNeeded::ClosingSurvey,
            Evidence::SumMismatch(_) => ProofNeeded::AnotherRun,
        }
    }
}

/// The closing survey of a run.
#[derive(Debug)]
pub struct ClosingCheck<'a> {
    /// The producer of the run.
    pub producer: &'a DuplicationProducer,
    /// The counters of the run's stores.
    pub statistics: &'a Statistics,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Cancelled when the run is to stop.
    pub stop: &'a CancellationToken,
    /// How long to wait for a store that does not answer.
    pub give_up_after: Duration,
}

impl ClosingCheck<'_> {
    /// Surveys once more.
    ///
    /// # Errors
    /// The outer: the stores do not answer. The inner: the producer's own table fails.
    pub async fn survey(
        &self,
        is_refused: IsRefused<'_>,
    ) -> Result<Result<ClosingReport, ProducerError>, SilentStoresError> {
        let closing = self.producer.closing_survey(is_refused, self.stop);
        unless_silent(closing, (self.statistics, self.clock), whole_run_max(self.give_up_after)).await
    }
}

/// The result of a closing survey. `is_new` returns whether a space that failed as a whole was readable during the run;
/// otherwise the run has reported it.
pub fn by_closing_survey(closing: &ClosingReport, is_new: impl FnMut(&SpaceFailure) -> bool) -> InSync {
    let newly_failed = closing.session.spaces_failed.iter().any(is_new);
    if closing.is_in_sync() && !newly_failed { InSync::ClosingSurvey } else { InSync::No }
}
