//! The closing survey: after the work of a run, one more comparison of listings and proofs, which reads no bytes and queues
//! nothing. It says whether every entry is in sync where the sum of the run alone does not.

use std::sync::Arc;

use mill_model::{ContentId, SurveySum, Timestamp};
use mill_policy::AccountPolicy;
use mill_ports::{RefusalReason, error_chain};
use mill_records::lease::AcquireOutcome;
use mill_records::policies::PolicyError;
use mill_records::producer_state::{Loaded, PairSurvey, ProducerState, StateError, SurveySubject};
use mill_records::sync_proofs::SpacePair;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::duplication::DuplicationProducer;
use crate::ends::{Ends, SpaceError};
use crate::merge::{Found, Merge, Proof};
use crate::report::{Ended, MissingEntry, ProducerError, SessionReport};
use crate::session::{ActiveRun, Failures, Session};

/// Whether a task of the run refused an item, by name: it is not in sync, and not missing either.
pub type IsRefused<'a> = &'a (dyn Fn(&SpacePair, &ContentId) -> bool + Sync);

/// What a closing survey found.
#[derive(Debug, Clone)]
pub struct ClosingReport {
    /// When it began: what was at the sources by then, it saw.
    pub began: Timestamp,
    /// What was made of each entry. *Queued* are those of which nothing shows that they are in sync: nothing is queued.
    pub sum: SurveySum,
    /// The first of these, at most [`ClosingReport::MISSING_MAX`].
    pub missing_first: Vec<MissingEntry>,
    /// Items that only destinations have, where policy removes such items and none of them waits for a person.
    pub extra: u64,
    /// What could not be surveyed, in the fields for what failed.
    pub session: SessionReport,
}

impl ClosingReport {
    /// Most missing entries that a report names.
    pub const MISSING_MAX: usize = 50;

    /// Whether each entry is in sync, or was named as one that is not copied.
    pub fn is_in_sync(&self) -> bool {
        matches!(self.session.ended, Ended::Finished { .. })
            && !self.session.failed_in_part()
            && self.sum.queued + self.extra == 0
    }
}

impl DuplicationProducer {
    /// Compares listings and proofs of all that policies ask for once more. What is refused by name is not missing.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own book fails. What cannot be surveyed is no error; the report names it.
    pub async fn closing_survey(
        &self,
        is_refused: IsRefused<'_>,
        stop: &CancellationToken,
    ) -> Result<ClosingReport, ProducerError> {
        let nothing = |ended| ClosingReport {
            began: self.deps.clock.now(),
            sum: SurveySum::default(),
            missing_first: Vec::new(),
            extra: 0,
            session: SessionReport::new(ended),
        };
        let lease = match self.lease().await? {
            AcquireOutcome::Ours(lease) => lease,
            AcquireOutcome::HeldByAnother { holder } => return Ok(nothing(Ended::HeldByAnother { holder })),
        };
        let (state, claim) = (self.state(lease.epoch()), lease.inherited());
        match lease.hold(Box::pin(Closing::run(self, (state, claim), is_refused, stop))).await {
            Some(Err(ProducerError::State(StateError::TakenOver { .. }))) | None => {
                let holder = lease.held_by().await.unwrap_or_else(|| "another".to_owned());
                Ok(nothing(Ended::HeldByAnother { holder }))
            }
            Some(report) => {
                Self::give_back(lease, report.is_ok()).await;
                report
            }
        }
    }

    /// Writes down that all that the last run surveyed is in sync, as its sum shows, but for the items of each pair that were
    /// refused by name. Where another producer is at work by now, it knows better.
    ///
    /// # Errors
    /// [`ProducerError`] when the producer's own book fails.
    pub async fn note_in_sync(&self, refused: &(dyn Fn(&SpacePair) -> u64 + Sync)) -> Result<(), ProducerError> {
        let AcquireOutcome::Ours(lease) = self.lease().await? else { return Ok(()) };
        let state = self.state(lease.epoch());
        let noted = async {
            let runs = ActiveRun::of_all(state.load(lease.inherited()).await?.runs);
            let surveys = state.surveys().await?.into_iter().map(|kept| kept.row);
            let is_of_run = |survey: &PairSurvey| {
                runs.get(&survey.pair.account).is_some_and(|run| run.row.row.number == survey.run)
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
        Self::give_back(lease, noted.is_ok()).await;
        Ok(noted?)
    }
}

/// A closing survey going on.
struct Closing<'a> {
    session: Session<'a>,
    is_refused: IsRefused<'a>,
    /// What the run surveyed.
    surveyed: Vec<PairSurvey>,
    report: ClosingReport,
}

impl<'a> Closing<'a> {
    async fn run(
        producer: &'a DuplicationProducer,
        (state, claim): (ProducerState, bool),
        is_refused: IsRefused<'a>,
        stop: &'a CancellationToken,
    ) -> Result<ClosingReport, ProducerError> {
        let Loaded { runs, failures, .. } = state.load(claim).await?;
        let mut session = Session::new(producer, state, stop);
        session.runs = ActiveRun::of_all(runs);
        session.failures = Failures::of(failures);
        let surveys = session.state.surveys().await?.into_iter().map(|kept| kept.row);
        let report = ClosingReport {
            began: session.deps.clock.now(),
            sum: SurveySum::default(),
            missing_first: Vec::new(),
            extra: 0,
            session: SessionReport::new(Ended::Stopped),
        };
        let surveyed = surveys.filter(|survey| survey.run == session.run_number(&survey.pair.account)).collect();
        let mut closing = Self { session, is_refused, surveyed, report };
        closing.accounts().await?;
        closing.session.save_failures().await?;
        let next_run = closing.session.next_run();
        let Self { session, mut report, .. } = closing;
        report.session = session.report;
        if !stop.is_cancelled() {
            report.session.ended = Ended::Finished { next_run };
        }
        let SurveySum { listed, queued: missing, .. } = report.sum;
        info!(listed, missing, "the closing survey ends");
        Ok(report)
    }

    async fn accounts(&mut self) -> Result<(), ProducerError> {
        let accounts = self.session.deps.policies.accounts().await.map_err(ProducerError::Accounts)?;
        for (account, _) in accounts {
            match self.session.deps.policies.account(&account).await {
                Ok(policy) => self.account(&policy).await?,
                Err(PolicyError::NotListed { .. }) => {}
                Err(error) => self.session.account_failed(&account, &error),
            }
        }
        Ok(())
    }

    async fn account(&mut self, policy: &Arc<AccountPolicy>) -> Result<(), ProducerError> {
        let pairs = match self.session.pairs_of(policy).await {
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
            let Some(rule) = policy.covering(&pair.space, &pair.source, &pair.destination) else { continue };
            let (stores, owners) = (self.session.stores, &self.session.deps.owners);
            let looking = self.session.unless_stopped(Ends::look(&pair, rule, stores, owners));
            let Some(ends) = looking.await else { return Ok(()) };
            match self.pair(&pair, ends).await {
                Ok(()) => {}
                Err(error) => self.session.space_failed(&pair, &error),
            }
        }
        Ok(())
    }

    async fn pair(&mut self, pair: &SpacePair, ends: Result<Ends, SpaceError>) -> Result<(), SpaceError> {
        let before = self.surveyed.iter().find(|survey| survey.pair == *pair);
        let ends = ends?;
        if !ends.source_here {
            // One that the run did not find either is named by it, or is none of this source's.
            return if before.is_some() { Err(SpaceError::SourceAbsent) } else { Ok(()) };
        }
        let held = before.map_or(0, |survey| survey.held);
        let began = self.session.deps.clock.now();
        let room = ClosingReport::MISSING_MAX - self.report.missing_first.len();
        let mut merge = ends.to_close(&self.session.deps.seals);
        let comparing = compared(pair, &mut merge, self.is_refused, room);
        let Some(compared) = self.session.unless_stopped(comparing).await else { return Ok(()) };
        let Compared { sum, missing, only_there } = compared?;
        // What the source could not show is not known to be gone.
        let tells = ends.policy.remove_vanished && held + sum.hidden + sum.refused == 0;
        let extra = if tells { only_there } else { 0 };
        self.report.sum += sum;
        self.report.extra += extra;
        self.report.missing_first.extend(missing);
        let (run, in_sync) = (self.session.run_number(&pair.account), (sum.queued + extra == 0).then_some(began));
        let survey = PairSurvey { pair: pair.clone(), run, began, sum, unproven: sum.queued, held, in_sync };
        let noted = async {
            self.session.state.note_surveys(&[survey]).await?;
            self.session.forget_failure(&SurveySubject::SpacePair(pair.clone())).await
        };
        if let Err(error) = noted.await {
            warn!(error = error_chain(&error), "what the closing survey found cannot be written down");
        }
        Ok(())
    }
}

/// What a comparison of both sides found.
struct Compared {
    /// What was made of each entry of the source.
    sum: SurveySum,
    /// The first of those that nothing shows to be in sync.
    missing: Vec<MissingEntry>,
    /// How many items only the destination has.
    only_there: u64,
}

/// Compares both sides; at most `room` of the missing are named.
async fn compared(
    pair: &SpacePair,
    merge: &mut Merge,
    is_refused: IsRefused<'_>,
    room: usize,
) -> Result<Compared, SpaceError> {
    let (mut sum, mut missing, mut only_there) = (SurveySum::default(), Vec::new(), 0);
    while let Some(found) = merge.next().await? {
        match found {
            Found::AtSource { proof: Proof::Complete | Proof::Written, .. } => sum.unchanged += 1,
            Found::AtSource { id, .. } if is_refused(pair, &id) => sum.refused += 1,
            Found::AtSource { id, .. } => {
                sum.queued += 1;
                if missing.len() < room {
                    missing.push(MissingEntry { pair: pair.clone(), id });
                }
            }
            Found::Refused { reason: RefusalReason::Reserved, .. } => sum.ignored += 1,
            Found::Refused { .. } | Found::Crowded { .. } => sum.refused += 1,
            Found::Hidden { .. } => sum.hidden += 1,
            Found::OnlyAtDestination { .. } => only_there += 1,
        }
    }
    sum.listed = merge.listed_since();
    sum.check()?;
    Ok(Compared { sum, missing, only_there })
}
