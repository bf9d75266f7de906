//! A source space that is missing: it counts as gone only after a day, once a person has confirmed it.

use std::time::Duration;

use mill_model::{ItemAddress, SpacePair, Timestamp};
use mill_policy::Rule;
use mill_records::Versioned;
use mill_records::delete_lists::{DeletionScope, HoldReason};
use mill_records::elapsed::ElapsedTime;
use mill_records::producer_state::{DeleteProgress, MissingSpace, PairMorsel};
use tracing::{info, warn};

use super::delete_scan::DeleteScan;
use super::delete_step::DeleteStepOutcome;
use super::endpoints::{Endpoints, SpaceError};
use super::plan::{DuplicationSession, DuplicationStepError, PairRead, missing_key};
use super::report::AbsentSpace;
use super::respelled_items::RespelledItems;
use super::settings::AbsentSource;
use crate::looping::{Gate, ReadKey, ReadOutcome, TurnOutcome};

/// How long a space must be missing before it may count as gone.
const MISSING_MIN: Duration = Duration::from_hours(24);

/// Since when a source space is missing.
#[derive(Debug, Clone, Copy)]
struct MissingSince {
    first: Timestamp,
    /// Whether two clocks agree that a day has passed since.
    for_a_day: bool,
}

impl DuplicationSession<'_> {
    /// Steps a morsel whose source space is missing, though its store answers.
    pub(crate) async fn step_missing_space(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
    ) -> Result<TurnOutcome, DuplicationStepError> {
        if self.plan.absent_source == AbsentSource::Unknown {
            return Err(SpaceError::SourceAbsent.into());
        }
        if !endpoints.destination_present || !endpoints.policy.remove_vanished || !endpoints.owned {
            // Nothing was copied, or nothing is to be removed, so there is nothing to decide.
            self.report_absent_source(endpoints).await;
            return Ok(TurnOutcome::Done);
        }
        let since = self.missing_since(&endpoints.pair).await?;
        loop {
            let step = self.survey_missing_space(morsel, endpoints, since).await?;
            match step {
                DeleteStepOutcome::Settled(_) => return Ok(TurnOutcome::Done),
                DeleteStepOutcome::Reading => return Ok(TurnOutcome::Reading),
                DeleteStepOutcome::Stopped => return Ok(TurnOutcome::Stopped),
                DeleteStepOutcome::More => {}
            }
            match self.check_gate(&endpoints.pair.account).await? {
                Gate::Open => {}
                other => return Ok(self.outcome_at_gate(other)),
            }
        }
    }

    /// Reports that a space is not at its source, if a policy names the space or this source was copied before.
    async fn report_absent_source(&mut self, endpoints: &Endpoints) {
        let SpacePair { account, source, destination, space } = endpoints.pair.clone();
        let policy = self.deps.policies.account(&account).await;
        let named = policy.is_ok_and(|policy| policy.for_space(&space).rule == Rule::Own);
        if named || endpoints.owned {
            warn!(target: mill_ports::REPORTED, %account, %space, %source, %destination, "the space is not at its source");
            let has_copy = endpoints.destination_present;
            self.report.findings.sources_absent.push(AbsentSpace { account, space, source, destination, has_copy });
        }
    }

    async fn survey_missing_space(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        since: MissingSince,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        if let DeleteProgress::Sending { list, next } = morsel.record.deletes.clone() {
            return self.send_rows(morsel, endpoints, list, next).await;
        }
        if let Some(list) = self.granted_list(&endpoints.pair, DeletionScope::Space).await? {
            return self.begin_sending(morsel, list).await;
        }
        let mut merge = endpoints.merge_destination_alone();
        let keep_max = self.plan.thresholds.unasked_max + 1;
        let of = endpoints.clone();
        let reading = async move {
            let mut survey = DeleteScan::of(&mut merge, (keep_max, None), RespelledItems::default()).await?;
            if let Some(listed) = survey.vanished.first() {
                let item = ItemAddress { space: of.pair.space.clone(), id: listed.id.clone() };
                let places = of.source.places(&item).await?;
                survey.places = places.into_iter().filter(|place| place.path.is_empty()).collect();
            }
            Ok::<_, SpaceError>(survey)
        };
        let basis = endpoints.read_basis(morsel.record.marker.as_ref());
        let survey =
            match self.read(ReadKey::Morsel(endpoints.pair.clone(), PairRead::RetiringSurvey), basis, reading).await? {
                ReadOutcome::Done(survey) => survey?,
                ReadOutcome::GoesOn => return Ok(DeleteStepOutcome::Reading),
                ReadOutcome::Stopped => return Ok(DeleteStepOutcome::Stopped),
            };
        let MissingSince { first, for_a_day } = since;
        let reason = HoldReason::SpaceMissing { since: first.as_millis(), for_a_day };
        self.hold_list(endpoints, (survey, DeletionScope::Space), reason).await?;
        Ok(DeleteStepOutcome::Settled(None))
    }

    /// Notes that the source space is missing in this run, and returns since when it is.
    async fn missing_since(&mut self, pair: &SpacePair) -> Result<MissingSince, DuplicationStepError> {
        let SpacePair { account, source, space, .. } = pair.clone();
        let (first, run) = (self.deps.clock.now(), self.run_number(&account));
        let row = MissingSpace { account, store: source, space, first, run, elapsed: ElapsedTime::default() };
        let kept = self.plan.missing.entry(missing_key(&row)).or_insert_with(|| {
            info!(account = %row.account, source = %row.store, space = %row.space, "the source space is missing");
            Versioned::unsaved(MissingSpace { run: 0, ..row })
        });
        if kept.record.run != run {
            kept.record.run = run;
            kept.record.elapsed.read(&*self.deps.clock);
            self.state.save(kept).await?;
        }
        Ok(MissingSince { first: kept.record.first, for_a_day: kept.record.elapsed.agreed() >= MISSING_MIN })
    }

    /// Forgets that a source space was missing: it is back.
    pub(crate) async fn forget_missing_mark(&mut self, pair: &SpacePair) -> Result<(), DuplicationStepError> {
        if self.plan.missing.is_empty() {
            return Ok(());
        }
        let key = (pair.account.clone(), pair.source.clone(), pair.space.clone());
        if let Some(kept) = self.plan.missing.remove(&key) {
            self.state.remove(&kept).await?;
        }
        Ok(())
    }
}
