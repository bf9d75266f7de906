//! The closing survey: one more comparison of listings and proofs after the work of a run. It reads no bytes and queues
//! nothing. It reports whether every entry is in sync, where the sums of the run alone do not show that.

use std::sync::Arc;

use mill_model::{ContentId, SpacePair, SurveySum, Timestamp};
use mill_policy::AccountPolicy;
use mill_ports::{RefusalReason, error_chain};
use mill_records::lease::AcquireOutcome;
use mill_records::policies::PolicyError;
use mill_records::producer_state::{DuplicationRows, PairSurvey, ProducerRows, ProducerState, SurveySubject};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::DuplicationProducer;
use super::endpoints::{Endpoints, SpaceError};
use super::merge::{Merge, MergedEntry, Proof};
use super::plan::DuplicationSession;
use super::report::{MissingEntry, SessionReport};
use crate::looping::report::{ProducerError, SessionEnd};
use crate::looping::{ActiveRun, Leased, LoopingProducer, SurveyFailures};

/// Whether a task of the run refused an item by name. Such an item is neither in sync nor missing.
pub type IsRefused<'a> = &'a (dyn Fn(&SpacePair, &ContentId) -> bool + Sync);

/// The result of a closing survey.
#[derive(Debug, Clone)]
pub struct ClosingReport {
    /// When it began. It saw everything that was at the sources by then.
    pub began: Timestamp,
    /// How the entries were classified. `queued` counts the entries that nothing shows to be in sync; none of them is queued.
    pub sum: SurveySum,
    /// The first entries that nothing shows to be in sync, at most [`ClosingReport::MISSING_MAX`].
    pub missing_first: Vec<MissingEntry>,
    /// How many items only destinations have, where policy removes them and none of them waits for a person.
    pub extra: u64,
    /// The accounts and spaces that could not be surveyed, in the fields for failures.
    pub session: SessionReport,
}

impl ClosingReport {
    /// The most missing entries that a report names.
    pub const MISSING_MAX: usize = 50;

    /// Whether each entry is in sync or is named as one that is not copied.
    pub fn is_in_sync(&self) -> bool {
        matches!(self.session.ended, SessionEnd::Finished { .. })
            && !self.session.failed_in_part()
            && self.sum.queued + self.extra == 0
    }
}

impl DuplicationProducer {
    /// Compares listings and proofs of all covered spaces once more. An item that was refused by name does not count as missing.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own table fails. A space that cannot be surveyed is no error; the report names it.
    pub async fn closing_survey(
        &self,
        is_refused: IsRefused<'_>,
        stop: &CancellationToken,
    ) -> Result<ClosingReport, ProducerError> {
        let nothing = |ended| ClosingReport {
            began: self.looping.deps.clock.now(),
            sum: SurveySum::default(),
            missing_first: Vec::new(),
            extra: 0,
            session: SessionReport::new(ended),
        };
        let lease = match self.looping.acquire_lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => return Ok(nothing(SessionEnd::HeldByAnother { holder })),
        };
        let state = (self.looping.state(lease.epoch()), lease.taken_over());
        match LoopingProducer::work_under(lease, Box::pin(ClosingSurvey::run(self, state, is_refused, stop))).await? {
            Leased::Done(report) => Ok(report),
            Leased::HeldByAnother { holder } => Ok(nothing(SessionEnd::HeldByAnother { holder })),
        }
    }

    /// Records that everything the last run surveyed is in sync, except for the items of each pair that were refused by name.
    /// Records nothing while another producer works: its surveys are newer.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own table fails.
    pub async fn note_in_sync(&self, refused: &(dyn Fn(&SpacePair) -> u64 + Sync)) -> Result<(), ProducerError> {
        let AcquireOutcome::Ours(lease) = self.looping.acquire_lease().await? else { return Ok(()) };
        let state = self.looping.state::<DuplicationRows>(lease.epoch());
        let noted = async {
            let runs = ActiveRun::<SpacePair>::of_all(state.load(lease.taken_over()).await?.runs);
            let surveys = state.surveys().await?.into_iter().map(|kept| kept.record);
            let is_of_run = |survey: &PairSurvey| {
                runs.get(&survey.pair.account).is_some_and(|run| run.row.record.number == survey.run)
            };
            let ours = surveys.filter(|survey| is_of_run(survey) && survey.sum.queued > 0);
            let in_sync = |mut survey: PairSurvey| {
                let queued = std::mem::take(&mut survey.sum.queued);
                let refused = refused(&survey.pair).min(queued);
                survey.sum.refused += refused;
                survey.sum.unchanged += queued - refused;
                PairSurvey { in_sync: Some(survey.began), unproven: 0, ..survey }
            };
            state.note_surveys(&ours.map(in_sync).collect::<Vec<_>>()).await
        }
        .await;
        LoopingProducer::release_lease(lease, noted.is_ok()).await;
        Ok(noted?)
    }
}

/// A closing survey in progress.
struct ClosingSurvey<'a> {
    session: DuplicationSession<'a>,
    is_refused: IsRefused<'a>,
    /// The surveys of the run.
    surveyed: Vec<PairSurvey>,
    report: ClosingReport,
}

impl<'a> ClosingSurvey<'a> {
    async fn run(
        producer: &'a DuplicationProducer,
        (state, claim): (ProducerState<DuplicationRows>, bool),
        is_refused: IsRefused<'a>,
        stop: &'a CancellationToken,
    ) -> Result<ClosingReport, ProducerError> {
        let ProducerRows { runs, failures, .. } = state.load(claim).await?;
        let mut session = DuplicationSession::new(&producer.looping, producer.plan(), state, stop);
        session.runs = ActiveRun::of_all(runs);
        session.failures = SurveyFailures::of(failures);
        let surveys = session.state.surveys().await?.into_iter().map(|kept| kept.record);
        let report = ClosingReport {
            began: session.deps.clock.now(),
            sum: SurveySum::default(),
            missing_first: Vec::new(),
            extra: 0,
            session: SessionReport::new(SessionEnd::Stopped),
        };
        let surveyed = surveys.filter(|survey| survey.run == session.run_number(&survey.pair.account)).collect();
        let mut closing = Self { session, is_refused, surveyed, report };
        closing.survey_accounts().await?;
        closing.session.save_failures().await?;
        let next_run = closing.session.next_run();
        let Self { session, mut report, .. } = closing;
        report.session = session.report;
        if !stop.is_cancelled() {
            report.session.ended = SessionEnd::Finished { next_run };
        }
        let SurveySum { listed, queued: missing, .. } = report.sum;
        info!(listed, missing, "the closing survey ends");
        Ok(report)
    }

    async fn survey_accounts(&mut self) -> Result<(), ProducerError> {
        let accounts = self.session.deps.policies.accounts().await.map_err(ProducerError::Accounts)?;
        for (account, _) in accounts {
            match self.session.deps.policies.account(&account).await {
                Ok(policy) => self.survey_account(&policy).await?,
                Err(PolicyError::NotListed { .. }) => {}
                Err(error) => self.session.account_failed(&account, &error),
            }
        }
        Ok(())
    }

    async fn survey_account(&mut self, policy: &Arc<AccountPolicy>) -> Result<(), ProducerError> {
        let pairs = match self.session.subjects_of(policy).await {
            Ok(pairs) => pairs,
            Err(error) => {
                self.session.account_failed(policy.account(), &error);
                return Ok(());
            }
        };
        for pair in pairs {
            if self.session.stop.is_cancelled() {
                return Ok(());
            }
            let Some(rule) = policy.covering(&pair) else { continue };
            let (stores, owners) = (self.session.stores, &self.session.plan.owners);
            let looking = self.session.unless_stopped(Endpoints::open(&pair, rule, stores, owners));
            let Some(endpoints) = looking.await else { return Ok(()) };
            match self.survey_pair(&pair, endpoints).await {
                Ok(()) => {}
                Err(error) => self.session.space_failed(&pair, &error),
            }
        }
        Ok(())
    }

    async fn survey_pair(
        &mut self,
        pair: &SpacePair,
        endpoints: Result<Endpoints, SpaceError>,
    ) -> Result<(), SpaceError> {
        let before = self.surveyed.iter().find(|survey| survey.pair == *pair);
        let endpoints = endpoints?;
        if !endpoints.source_present {
            // A space that the run surveyed must be there. One that it did not find is named by the run or never was this source's.
            return if before.is_some() { Err(SpaceError::SourceAbsent) } else { Ok(()) };
        }
        let held = before.map_or(0, |survey| survey.held);
        let began = self.session.deps.clock.now();
        let room = ClosingReport::MISSING_MAX - self.report.missing_first.len();
        let mut merge = endpoints.merge_for_closing(&self.session.plan.sync_proofs);
        let comparing = compare_pair(pair, &mut merge, self.is_refused, room);
        let Some(compared) = self.session.unless_stopped(comparing).await else { return Ok(()) };
        let PairComparison { sum, missing, only_at_destination } = compared?;
        // An item in a part of the source that could not be listed is not known to be gone.
        let is_complete = endpoints.policy.remove_vanished && held + sum.hidden + sum.refused == 0;
        let extra = if is_complete { only_at_destination } else { 0 };
        self.report.sum += sum;
        self.report.extra += extra;
        self.report.missing_first.extend(missing);
        let (run, in_sync) = (self.session.run_number(&pair.account), (sum.queued + extra == 0).then_some(began));
        let survey = PairSurvey { pair: pair.clone(), run, began, sum, unproven: sum.queued, held, in_sync };
        let noted = async {
            self.session.state.note_surveys(&[survey]).await?;
            self.session.forget_failure(&SurveySubject::Morsel(pair.clone())).await
        };
        if let Err(error) = noted.await {
            warn!(error = error_chain(&error), "what the closing survey found cannot be written down");
        }
        Ok(())
    }
}

/// The result of comparing both sides of a pair.
struct PairComparison {
    /// How the entries of the source were classified.
    sum: SurveySum,
    /// The first entries that nothing shows to be in sync.
    missing: Vec<MissingEntry>,
    /// How many items only the destination has.
    only_at_destination: u64,
}

/// Compares both sides. Names at most `room` of the missing entries.
async fn compare_pair(
    pair: &SpacePair,
    merge: &mut Merge,
    is_refused: IsRefused<'_>,
    room: usize,
) -> Result<PairComparison, SpaceError> {
    let (mut sum, mut missing, mut only_at_destination) = (SurveySum::default(), Vec::new(), 0);
    while let Some(found) = merge.next().await? {
        match found {
            MergedEntry::AtSource { proof: Proof::Complete | Proof::Written, .. } => sum.unchanged += 1,
            MergedEntry::AtSource { id, .. } if is_refused(pair, &id) => sum.refused += 1,
            MergedEntry::AtSource { id, .. } => {
                sum.queued += 1;
                if missing.len() < room {
                    missing.push(MissingEntry { pair: pair.clone(), id });
                }
            }
            MergedEntry::Refused { reason: RefusalReason::Reserved, .. } => sum.ignored += 1,
            MergedEntry::Refused { .. } | MergedEntry::PathConflict { .. } => sum.refused += 1,
            MergedEntry::Hidden { .. } => sum.hidden += 1,
            MergedEntry::OnlyAtDestination { .. } => only_at_destination += 1,
        }
    }
    sum.listed = merge.listed_since();
    sum.check()?;
    Ok(PairComparison { sum, missing, only_at_destination })
}
