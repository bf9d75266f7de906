//! One turn of a morsel: its deletes first, all of them, if it is fresh; then one nibble of copies.

use std::sync::atomic::Ordering::Relaxed;

use mill_model::{Monotonic, SurveySum};
use mill_policy::StorePolicy;
use mill_ports::{CrashPoint, PlantedBug, crash_point, planted};
use mill_records::producer_state::{DeleteProgress, Kept, Morsel, PairSurvey, SurveySubject};

use crate::copies::Nibble;
use crate::delete_step::DeletesStep;
use crate::ends::{Ends, SpaceError};
use crate::merge::Merge;
use crate::report::NamedEntry;
use crate::session::{Basis, Read, Reading, Room, Session, StepError};

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more of it: its next turn comes.
    Again,
    /// Nothing of it is left in this run.
    Done,
    /// It failed in a way that may pass: its next turn comes then.
    Later(Monotonic),
    /// It failed and stays as it is until the next session.
    PassedOver,
    /// What it reads takes long: its turn begins anew once that is done.
    Reading,
    /// The queue is full.
    Full,
    /// Told to stop.
    Stopped,
}

/// A morsel whose listings are kept open between its turns.
pub(crate) struct Opened {
    ends: Ends,
    merge: Merge,
}

impl Session<'_> {
    /// Gives a morsel its turn, for whose first step there is room.
    pub(crate) async fn turn(&mut self, morsel: &mut Kept<Morsel>, policy: StorePolicy) -> Result<Turn, StepError> {
        let pair = morsel.row.pair.clone();
        self.turn_began = self.deps.clock.now();
        let (ends, merge) = match self.opened.remove(&pair) {
            Some(Opened { ends, merge }) if ends.policy == policy => (ends, Some(merge)),
            _ => {
                let (stores, owners) = (self.stores.clone(), self.deps.owners.clone());
                let (of, by) = (pair.clone(), policy.clone());
                let look = async move { Ends::look(&of, by, &stores, &owners).await };
                let basis = Basis::SpacePair { policy: policy.clone(), found: None, marker: None };
                match self.read(Read::Ends(pair.clone()), basis, look).await? {
                    Reading::Done(ends) => (ends?, None),
                    Reading::GoesOn => return Ok(Turn::Reading),
                    Reading::Stopped => return Ok(Turn::Stopped),
                }
            }
        };
        if !ends.source_here {
            return self.absent(morsel, &ends).await;
        }
        self.found_again(&pair).await?;
        let mut surveyed = None;
        let mut settled = !Self::has_deletes(&morsel.row, &ends);
        while !settled {
            match self.deletes(morsel, &ends).await? {
                DeletesStep::Settled(nibble) => {
                    surveyed = nibble.or(surveyed);
                    settled = true;
                }
                DeletesStep::More => {}
                DeletesStep::Reading => return Ok(Turn::Reading),
                DeletesStep::Stopped => return Ok(Turn::Stopped),
            }
            match self.room(&pair.account).await? {
                Room::Yes => {}
                other => return Ok(self.without_room(other)),
            }
        }
        let (nibble, merge) = if let Some(nibble) = surveyed {
            (*nibble, None)
        } else {
            let seals = &self.deps.seals;
            let mut merge = merge.unwrap_or_else(|| ends.to_copy(seals, morsel.row.marker.as_ref()));
            let (empty, most) = (ends.nibble(), self.settings.nibble.get());
            let gather = async move {
                let nibble = empty.gather(&mut merge, most).await;
                (nibble, merge)
            };
            let basis = ends.basis(morsel.row.marker.as_ref());
            match self.read(Read::Nibble(pair.clone()), basis, gather).await? {
                Reading::Done((nibble, merge)) => (nibble, Some(merge)),
                Reading::GoesOn => return Ok(Turn::Reading),
                Reading::Stopped => return Ok(Turn::Stopped),
            }
        };
        self.copies(morsel, &ends, nibble, merge).await
    }

    /// Queues a nibble of copies, then moves the marker behind it.
    async fn copies(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        mut nibble: Nibble,
        merge: Option<Merge>,
    ) -> Result<Turn, StepError> {
        let pair = &ends.pair;
        if morsel.row.marker.is_none() && !ends.destination_here {
            self.will_send(&pair.account, 1).await?;
            self.sent(self.sending.send(pair, std::iter::once(None)).await?);
            crash_point(CrashPoint::ProducerSpaceSent);
        }
        if planted(PlantedBug::MarkerBeforeSend) && !nibble.end {
            morsel.row.marker.clone_from(&nibble.last);
            self.state.save(morsel).await?;
        }
        crash_point(CrashPoint::ProducerBeforeNibble);
        self.will_send(&pair.account, nibble.items.len()).await?;
        let queued = self.sending.send(pair, nibble.items.iter().map(|(id, _)| Some(id))).await?;
        crash_point(CrashPoint::ProducerNibbleSent);
        self.sent(queued);
        self.deps.statistics.bytes_queued.fetch_add(nibble.bytes(), Relaxed);
        let (sum, named) = nibble.settled(queued);
        sum.check().map_err(SpaceError::from)?;
        morsel.row.unproven += nibble.unproven;
        self.surveyed(morsel, sum, named);
        if let Some(last) = nibble.last {
            morsel.row.marker = Some(last);
        }
        morsel.row.nibbles += 1;
        if nibble.end {
            if let Some(merge) = &merge {
                self.remember_places(pair, merge.source_places()).await?;
            }
            self.note_survey(&morsel.row).await?;
            return Ok(Turn::Done);
        }
        self.state.save(morsel).await?;
        crash_point(CrashPoint::ProducerMarkerSaved);
        if let Some(error) = nibble.broken {
            return Err(error.into());
        }
        if let Some(merge) = merge.filter(|_| self.listings_open() < self.settings.listings_open_max) {
            self.opened.insert(pair.clone(), Opened { ends: ends.clone(), merge });
        }
        Ok(Turn::Again)
    }

    /// Adds what was made of a stretch of the listing.
    fn surveyed(&mut self, morsel: &mut Kept<Morsel>, sum: SurveySum, named: Vec<NamedEntry>) {
        morsel.row.began.get_or_insert(self.turn_began);
        morsel.row.sum += sum;
        if let Some(run) = self.runs.get_mut(&morsel.row.pair.account) {
            run.surveyed += sum;
        }
        self.deps.statistics.add_survey(sum);
        self.report.name(named);
    }

    /// Writes down what the complete survey of a morsel found.
    async fn note_survey(&mut self, morsel: &Morsel) -> Result<(), StepError> {
        morsel.sum.check().map_err(SpaceError::from)?;
        let held = match morsel.deletes {
            DeleteProgress::Held { count, .. } => count,
            DeleteProgress::Pending | DeleteProgress::Sending { .. } | DeleteProgress::Done => 0,
        };
        let run_began = || self.runs.get(&morsel.pair.account).map_or(self.turn_began, |run| run.row.row.started);
        let began = morsel.began.unwrap_or_else(run_began);
        let Morsel { sum, unproven, .. } = *morsel;
        let in_sync = (unproven == 0 || planted(PlantedBug::UnprovenCalledInSync)).then_some(began);
        let survey = PairSurvey { pair: morsel.pair.clone(), run: morsel.run, began, sum, unproven, held, in_sync };
        self.state.note_surveys(&[survey]).await?;
        Ok(self.forget_failure(&SurveySubject::SpacePair(morsel.pair.clone())).await?)
    }

    pub(crate) fn sent(&mut self, tasks: u64) {
        self.report.queued += tasks;
        self.drain().sent(tasks);
        self.deps.statistics.sent.fetch_add(tasks, Relaxed);
    }
}
