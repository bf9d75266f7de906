//! A source space that is not there: nothing is known to be gone until time and a person say so.

use std::time::Duration;

use mill_model::{ItemAddress, Timestamp};
use mill_policy::Rule;
use mill_ports::{PlantedBug, planted};
use mill_records::delete_lists::{DeletionScope, GrantedBy, HoldReason, ListState};
use mill_records::elapsed::ElapsedTime;
use mill_records::producer_state::{DeleteProgress, Kept, MissingSpace, Morsel};
use mill_records::sync_proofs::SpacePair;
use tracing::{info, warn};

use crate::delete_step::DeletesStep;
use crate::ends::{Ends, SpaceError};
use crate::report::AbsentSpace;
use crate::respelled::Respelled;
use crate::session::{Read, Reading, Room, Session, StepError, missing_key};
use crate::settings::AbsentSource;
use crate::survey::Survey;
use crate::turn::Turn;

/// A space must be missing in two passes so far apart before it may be taken as gone.
const MISSING_MIN: Duration = Duration::from_hours(24);

/// How long a source space is missing.
#[derive(Debug, Clone, Copy)]
struct MissingSince {
    first: Timestamp,
    /// Whether two clocks agree that a day has passed since.
    for_a_day: bool,
}

impl Session<'_> {
    /// The turn of a morsel whose source space is not there, though its store answers.
    pub(crate) async fn absent(&mut self, morsel: &mut Kept<Morsel>, ends: &Ends) -> Result<Turn, StepError> {
        if self.settings.absent_source == AbsentSource::Unknown {
            return Err(SpaceError::SourceAbsent.into());
        }
        if !ends.destination_here || !ends.policy.remove_vanished || !ends.owned {
            // Nothing of it was ever copied, or nothing is to be removed: there is nothing to decide.
            self.source_absent(ends).await;
            return Ok(Turn::Done);
        }
        let since = self.missing_since(&ends.pair).await?;
        loop {
            let step = self.retire_step(morsel, ends, since).await?;
            match step {
                DeletesStep::Settled(_) => return Ok(Turn::Done),
                DeletesStep::Reading => return Ok(Turn::Reading),
                DeletesStep::Stopped => return Ok(Turn::Stopped),
                DeletesStep::More => {}
            }
            match self.room(&ends.pair.account).await? {
                Room::Yes => {}
                other => return Ok(self.without_room(other)),
            }
        }
    }

    /// Notes that a space is not at its source, where a policy names the space or this source was copied before.
    async fn source_absent(&mut self, ends: &Ends) {
        let SpacePair { account, source, destination, space } = ends.pair.clone();
        let policy = self.deps.policies.account(&account).await;
        let named = policy.is_ok_and(|policy| policy.for_space(&space).rule == Rule::Own);
        if named || ends.owned {
            warn!(%account, %space, %source, %destination, "the space is not at its source");
            let has_copy = ends.destination_here;
            self.report.sources_absent.push(AbsentSpace { account, space, source, destination, has_copy });
        }
    }

    async fn retire_step(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        since: MissingSince,
    ) -> Result<DeletesStep, StepError> {
        if let DeleteProgress::Sending { list, next } = morsel.row.deletes.clone() {
            return self.send_rows(morsel, ends, list, next).await;
        }
        if let Some(list) = self.granted_list(&ends.pair, DeletionScope::Space).await? {
            return self.begin_sending(morsel, list).await;
        }
        let mut merge = ends.all_at_destination();
        let keep_max = self.settings.thresholds.unasked_max + 1;
        let of = ends.clone();
        let reading = async move {
            let mut survey = Survey::of(&mut merge, (keep_max, None), Respelled::default()).await?;
            if let Some(listed) = survey.vanished.first() {
                let item = ItemAddress { space: of.pair.space.clone(), id: listed.id.clone() };
                let places = of.source.places(&item).await?;
                survey.places = places.into_iter().filter(|place| place.path.is_empty()).collect();
            }
            Ok::<_, SpaceError>(survey)
        };
        let basis = ends.basis(morsel.row.marker.as_ref());
        let survey = match self.read(Read::RetiringSurvey(ends.pair.clone()), basis, reading).await? {
            Reading::Done(survey) => survey?,
            Reading::GoesOn => return Ok(DeletesStep::Reading),
            Reading::Stopped => return Ok(DeletesStep::Stopped),
        };
        if planted(PlantedBug::MissingSpaceRetiredAtOnce) {
            let state = ListState::Granted { by: GrantedBy::Rule, at: 0 };
            let list = self.grant_space(ends, survey, state).await?;
            return self.begin_sending(morsel, list).await;
        }
        let MissingSince { first, for_a_day } = since;
        let reason = HoldReason::SpaceMissing { since: first.as_millis(), for_a_day };
        self.hold_list(ends, (survey, DeletionScope::Space), reason).await?;
        Ok(DeletesStep::Settled(None))
    }

    /// Since when the source space is missing, this run included.
    async fn missing_since(&mut self, pair: &SpacePair) -> Result<MissingSince, StepError> {
        let SpacePair { account, source, space, .. } = pair.clone();
        let (first, run) = (self.deps.clock.now(), self.run_number(&account));
        let row = MissingSpace { account, store: source, space, first, run, elapsed: ElapsedTime::default() };
        let kept = self.missing.entry(missing_key(&row)).or_insert_with(|| {
            info!(account = %row.account, source = %row.store, space = %row.space, "the source space is missing");
            Kept::fresh(MissingSpace { run: 0, ..row })
        });
        if kept.row.run != run {
            kept.row.run = run;
            kept.row.elapsed.read(&*self.deps.clock);
            self.state.save(kept).await?;
        }
        Ok(MissingSince { first: kept.row.first, for_a_day: kept.row.elapsed.agreed() >= MISSING_MIN })
    }

    /// Forgets that a source space was missing: it is there.
    pub(crate) async fn found_again(&mut self, pair: &SpacePair) -> Result<(), StepError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let key = (pair.account.clone(), pair.source.clone(), pair.space.clone());
        if let Some(kept) = self.missing.remove(&key) {
            self.state.remove(&kept).await?;
        }
        Ok(())
    }
}
