//! One turn of a morsel: all its deletes, unless they are done in this run; then one nibble of copies.

use std::sync::atomic::Ordering::Relaxed;

use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{DuplicateTask, SurveySum};
use mill_policy::StorePolicy;

use mill_records::Versioned;
use mill_records::producer_state::{DeleteProgress, PairMorsel, PairSurvey, SurveySubject};

use super::delete_step::DeleteStepOutcome;
use super::endpoints::{Endpoints, SpaceError};
use super::merge::Merge;
use super::nibble::Nibble;
use super::plan::{DuplicationSession, DuplicationStepError, PairBasis, PairRead};
use super::report::UncopiedEntry;
use crate::crash_points;
use crate::looping::{Gate, ReadBasis, ReadKey, ReadOutcome, TurnOutcome};

/// A morsel whose listings stay open between its turns.
pub(crate) struct OpenMorsel {
    endpoints: Endpoints,
    merge: Merge,
}

impl DuplicationSession<'_> {
    /// Gives a morsel its turn. The gate must be open.
    pub(crate) async fn step_morsel(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        policy: StorePolicy,
    ) -> Result<TurnOutcome, DuplicationStepError> {
        let pair = morsel.record.pair.clone();
        let (endpoints, merge) = match self.plan.open_morsels.remove(&pair) {
            Some(OpenMorsel { endpoints, merge }) if endpoints.policy == policy => (endpoints, Some(merge)),
            _ => {
                let (stores, owners) = (self.stores.clone(), self.plan.owners.clone());
                let (of, by) = (pair.clone(), policy.clone());
                let look = async move { Endpoints::open(&of, by, &stores, &owners).await };
                let basis = ReadBasis::Morsel(PairBasis { policy: policy.clone(), found: None, marker: None });
                match self.read(ReadKey::Morsel(pair.clone(), PairRead::Endpoints), basis, look).await? {
                    ReadOutcome::Done(endpoints) => (endpoints?, None),
                    ReadOutcome::GoesOn => return Ok(TurnOutcome::Reading),
                    ReadOutcome::Stopped => return Ok(TurnOutcome::Stopped),
                }
            }
        };
        if !endpoints.source_present {
            return self.step_missing_space(morsel, &endpoints).await;
        }
        self.forget_missing_mark(&pair).await?;
        let mut surveyed = None;
        let mut settled = !Self::has_deletes(&morsel.record, &endpoints);
        while !settled {
            match self.step_deletes(morsel, &endpoints).await? {
                DeleteStepOutcome::Settled(nibble) => {
                    surveyed = nibble.or(surveyed);
                    settled = true;
                }
                DeleteStepOutcome::More => {}
                DeleteStepOutcome::Reading => return Ok(TurnOutcome::Reading),
                DeleteStepOutcome::Stopped => return Ok(TurnOutcome::Stopped),
            }
            match self.check_gate(&pair.account).await? {
                Gate::Open => {}
                other => return Ok(self.outcome_at_gate(other)),
            }
        }
        let (nibble, merge) = if let Some(nibble) = surveyed {
            (*nibble, None)
        } else {
            let sync_proofs = &self.plan.sync_proofs;
            let mut merge =
                merge.unwrap_or_else(|| endpoints.merge_for_copies(sync_proofs, morsel.record.marker.as_ref()));
            let (empty, most) = (endpoints.nibble(self.names_all()), self.settings.nibble.get());
            let gather = async move {
                let nibble = empty.gather(&mut merge, most).await;
                (nibble, merge)
            };
            let basis = endpoints.read_basis(morsel.record.marker.as_ref());
            match self.read(ReadKey::Morsel(pair.clone(), PairRead::Nibble), basis, gather).await? {
                ReadOutcome::Done((nibble, merge)) => (nibble, Some(merge)),
                ReadOutcome::GoesOn => return Ok(TurnOutcome::Reading),
                ReadOutcome::Stopped => return Ok(TurnOutcome::Stopped),
            }
        };
        self.send_copies(morsel, &endpoints, nibble, merge).await
    }

    /// Queues a nibble of copies, then moves the marker after it.
    async fn send_copies(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        mut nibble: Nibble,
        merge: Option<Merge>,
    ) -> Result<TurnOutcome, DuplicationStepError> {
        let pair = &endpoints.pair;
        if morsel.record.marker.is_none() && !endpoints.destination_present {
            self.queue_tasks(&pair.account, std::iter::once(DuplicateTask::of(pair.clone(), None))).await?;
            crash_point(crash_points::PRODUCER_SPACE_SENT);
        }
        crash_point(crash_points::PRODUCER_BEFORE_NIBBLE);
        let tasks = nibble.items.iter().map(|(id, _)| DuplicateTask::of(pair.clone(), Some(id.clone())));
        // Before they are sent: what becomes of an item may be known before the send returns.
        self.keep_queued(pair, &nibble.items).await;
        let queued = self.queue_tasks(&pair.account, tasks).await?;
        crash_point(crash_points::PRODUCER_NIBBLE_SENT);
        self.deps.statistics.bytes_queued.fetch_add(nibble.bytes(), Relaxed);
        let (sum, named) = nibble.settle(queued);
        sum.check().map_err(SpaceError::from)?;
        morsel.record.unproven += nibble.unproven;
        self.keep_surveyed(pair, std::mem::take(&mut nibble.unchanged), &named).await;
        // Where vanished items are removed, they are deleted or held, and counted there.
        if !endpoints.policy.remove_vanished {
            self.report.findings.only_in_copies += nibble.only_in_copy.0;
        }
        self.note_nibble(morsel, sum, named);
        if let Some(last) = nibble.last {
            morsel.record.marker = Some(last);
        }
        morsel.record.nibbles += 1;
        if nibble.end {
            if let Some(merge) = &merge {
                self.remember_places(pair, merge.source_places()).await?;
            }
            self.note_survey(&morsel.record).await?;
            return Ok(TurnOutcome::Done);
        }
        self.state.save(morsel).await?;
        crash_point(crash_points::PRODUCER_MARKER_SAVED);
        if let Some(error) = nibble.broken {
            return Err(error.into());
        }
        if let Some(merge) =
            merge.filter(|_| self.plan.open_morsels.len() + self.morsels_being_read() < self.settings.listings_open_max)
        {
            self.plan.open_morsels.insert(pair.clone(), OpenMorsel { endpoints: endpoints.clone(), merge });
        }
        Ok(TurnOutcome::Again)
    }

    /// Adds the sums of a nibble to the survey.
    fn note_nibble(&mut self, morsel: &mut Versioned<PairMorsel>, sum: SurveySum, named: Vec<UncopiedEntry>) {
        morsel.record.began.get_or_insert(self.step_began);
        morsel.record.sum += sum;
        self.add_to_survey(&morsel.record.pair.account, sum);
        self.tell_uncopied(&morsel.record.pair, &named);
        self.report.findings.name(named);
    }

    /// Saves the complete survey of a morsel.
    async fn note_survey(&mut self, morsel: &PairMorsel) -> Result<(), DuplicationStepError> {
        morsel.sum.check().map_err(SpaceError::from)?;
        let held = match morsel.deletes {
            DeleteProgress::Held { count, .. } => count,
            DeleteProgress::Pending | DeleteProgress::Sending { .. } | DeleteProgress::Done => 0,
        };
        let run_began = || self.runs.get(&morsel.pair.account).map_or(self.step_began, |run| run.row.record.started);
        let began = morsel.began.unwrap_or_else(run_began);
        let PairMorsel { sum, unproven, .. } = *morsel;
        let in_sync = (unproven == 0 || is_planted(PlantedBug::UnprovenCalledInSync)).then_some(began);
        let survey = PairSurvey { pair: morsel.pair.clone(), run: morsel.run, began, sum, unproven, held, in_sync };
        self.state.note_surveys(&[survey]).await?;
        Ok(self.forget_failure(&SurveySubject::Morsel(morsel.pair.clone())).await?)
    }
}
