//! The deletes of a morsel: a survey, a list of what vanished, and its tasks once it is granted.
//!
//! ```text
//!   pending ──▶ a list is granted and not carried out ──────────────▶ sending its rows ──▶ done
//!          └──▶ survey ──▶ nothing vanished ──────────────────────────────────────────────▶ done
//!                     ├──▶ rule lets it go: list granted ──▶ sending its rows ──▶ done
//!                     └──▶ a person must decide: list held ──▶ held
//! ```
//!
//! While a granted list is being carried out, no further survey is made: what vanishes meanwhile is found by a later run.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use mill_model::DeleteListId;
use mill_ports::{CrashPoint, Place, PlantedBug, RngExt as _, crash_point, planted};
use mill_records::delete_lists::{
    DeleteListError, DeletePairState, DeletionScope, GrantedBy, HeldList, HoldReason, ListHead, ListRow, ListState,
    RowResult, Versioned,
};
use mill_records::producer_state::{DeleteProgress, Kept, Morsel};
use mill_records::sync_proofs::{SpacePair, SyncProofs};
use tracing::{info, warn};

use crate::copies::Nibble;
use crate::ends::{Ends, SpaceError};
use crate::list_writer::{ListWriter, WrittenRows};
use crate::merge::Merge;
use crate::report::HeldDeletes;
use crate::respelled::Respelled;
use crate::session::{Read, Reading, Session, StepError};
use crate::survey::{Survey, Vanishing};

/// How a deletes step ended.
pub(crate) enum DeletesStep {
    /// Settled for this turn; with what the survey found to copy, if that is all there is.
    Settled(Option<Box<Nibble>>),
    /// There is more of it.
    More,
    /// What it reads takes long: the turn begins anew once that is done.
    Reading,
    /// Told to stop.
    Stopped,
}

/// The list of a pair that is held, granted, being carried out, or was dropped by a person since the last survey.
struct CurrentList {
    id: DeleteListId,
    head: Versioned<ListHead>,
}

/// What a survey found of the items that a held list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StillHeld {
    /// All of them are back, or left the destination otherwise.
    No,
    /// Some have still vanished.
    Vanished,
    /// Some may lie where the source could not be looked into, or have another spelling there: neither back nor surely gone.
    Unknown,
}

impl Session<'_> {
    /// Takes the next step of a morsel's deletes.
    pub(crate) async fn deletes(&mut self, morsel: &mut Kept<Morsel>, ends: &Ends) -> Result<DeletesStep, StepError> {
        if let DeleteProgress::Sending { list, next } = morsel.row.deletes.clone() {
            return self.send_rows(morsel, ends, list, next).await;
        }
        let pair = &ends.pair;
        let mut state = self.deps.delete_lists.pair(pair).await?;
        let current = self.current_list(pair, &mut state, DeletionScope::Items).await?;
        if let Some(list) = current.as_ref().filter(|list| list.head.record.is_granted()) {
            self.report.removes_by_earlier_list = true;
            return self.begin_sending(morsel, list.id).await;
        }
        if matches!(morsel.row.deletes, DeleteProgress::Held { .. }) {
            // Surveyed in this run already, and nobody has granted it since.
            return Ok(DeletesStep::Settled(None));
        }
        self.survey(morsel, ends, state, current).await
    }

    /// Whether a deletes step is due.
    pub(crate) fn has_deletes(morsel: &Morsel, ends: &Ends) -> bool {
        ends.policy.remove_vanished && ends.destination_here && morsel.deletes != DeleteProgress::Done
    }

    /// The list in hand: one that is held, or one that is granted and about what is to be looked at now. One that was carried
    /// out is closed; a granted one about something else is withdrawn, since the space went away, or came back.
    async fn current_list(
        &mut self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
        of: DeletionScope,
    ) -> Result<Option<CurrentList>, StepError> {
        let lists = self.deps.delete_lists.clone();
        self.adopt_next(pair, state).await?;
        let Some(id) = state.record.list() else { return Ok(None) };
        let Some(mut head) = lists.head(pair, id).await? else { return Ok(None) };
        let record = &mut head.record;
        match record.state.clone() {
            ListState::Granted { by, .. } => {
                let results = lists.results(pair, id).await?;
                let all_done = results.len() == record.rows as usize && record.of == DeletionScope::Items;
                if all_done {
                    let deleted = results.iter().map(|(_, result): &(u32, RowResult)| result.deleted).sum();
                    if matches!(by, GrantedBy::Person(_)) {
                        // With the list, the person accepted the places at which it was made.
                        state.record.accept_places(record.places(), &[]);
                    }
                    record.state = ListState::Done { by, deleted };
                } else if record.of == of {
                    self.settled_rows.insert(id, results.into_iter().map(|(row, _)| row).collect());
                    return Ok(Some(CurrentList { id, head }));
                } else {
                    record.state = ListState::Withdrawn;
                }
            }
            // Also when the space went away or came back since: what is held stays held.
            ListState::Held { .. } | ListState::Withdrawn => return Ok(Some(CurrentList { id, head })),
            ListState::Done { .. } => return Ok(None),
        }
        lists.save_head(pair, id, &mut head).await?;
        lists.note_not_held(pair, id).await?;
        state.record.set_list(None);
        lists.save_pair(pair, state).await?;
        Ok(None)
    }

    /// A list whose writer died after its head was there, and before the pair knew: people see it, so it holds.
    async fn adopt_next(&self, pair: &SpacePair, state: &mut Versioned<DeletePairState>) -> Result<(), StepError> {
        let lists = &self.deps.delete_lists;
        let Some(next) = state.record.next() else { return Ok(()) };
        if lists.head(pair, next).await?.is_none() {
            // Nobody ever saw it. A later list, if any, takes its place.
            return Ok(());
        }
        let before = state.record.list();
        state.record.set_list(Some(next));
        lists.save_pair(pair, state).await?;
        if let Some(before) = before
            && let Some(head) = lists.head(pair, before).await?
        {
            self.drop_list(pair, CurrentList { id: before, head }).await?;
        }
        Ok(())
    }

    /// Ends a list whose place another took.
    async fn drop_list(
        &self,
        pair: &SpacePair,
        CurrentList { id, mut head }: CurrentList,
    ) -> Result<(), DeleteListError> {
        head.record.state = ListState::Withdrawn;
        self.deps.delete_lists.save_head(pair, id, &mut head).await?;
        self.deps.delete_lists.remove_rows(pair, id).await
    }

    async fn survey(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        state: Versioned<DeletePairState>,
        current: Option<CurrentList>,
    ) -> Result<DeletesStep, StepError> {
        // What a marker has passed was compared in an earlier turn.
        let copies_max = morsel.row.marker.is_none().then(|| self.settings.nibble.get());
        let keep_max = self.settings.thresholds.unasked_max + 1;
        let (of, seals) = (ends.clone(), self.deps.seals.clone());
        let reading = async move { vanished(&of, &seals, keep_max, copies_max).await };
        let basis = ends.basis(morsel.row.marker.as_ref());
        let survey = match self.read(Read::Survey(ends.pair.clone()), basis, reading).await? {
            Reading::Done(survey) => survey?,
            Reading::GoesOn => return Ok(DeletesStep::Reading),
            Reading::Stopped => return Ok(DeletesStep::Stopped),
        };
        let Some(mut survey) = survey else {
            // The source need not be listed for that.
            let mut state = state;
            self.lift(&ends.pair, &mut state, current).await?;
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        let copies = survey.copies.take().map(Box::new);
        let settled = self.judge(morsel, ends, state, current, survey).await?;
        Ok(match settled {
            DeletesStep::Settled(_) => DeletesStep::Settled(copies),
            other => other,
        })
    }

    /// Decides about what a survey found to have vanished.
    async fn judge(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        mut state: Versioned<DeletePairState>,
        current: Option<CurrentList>,
        survey: Survey,
    ) -> Result<DeletesStep, StepError> {
        let pair = &ends.pair;
        let lists = self.deps.delete_lists.clone();
        let unasked_today = state.record.unasked_today(&*self.deps.clock);
        let known = state.record.knows_places();
        let changed = survey.changed_beneath(&state.record);
        // Where none is known and something vanished, a person accepts them with the list.
        if !survey.places.is_empty() && (known || survey.count == 0) {
            state.record.accept_places(survey.places.iter().cloned(), &changed);
        }
        let mut reason = survey.hold_reason(&self.settings.thresholds, unasked_today, known.then_some(&changed));
        if let Some(held) = &current {
            // What is held stays held until it is back or confirmed, however few are left of it.
            match self.still_held(pair, held.id, &survey).await? {
                StillHeld::No => {}
                StillHeld::Unknown if held.head.record.held().is_some() || survey.count == 0 => {
                    lists.save_pair(pair, &mut state).await?;
                    return self.leave_held(morsel, pair, current).await;
                }
                StillHeld::Unknown | StillHeld::Vanished => {
                    let before = held.head.record.held().map(HoldReason::still);
                    let before = before.unwrap_or(HoldReason::ListWithdrawn);
                    reason = reason.or(Some(before));
                }
            }
        }
        if survey.count == 0 {
            self.lift(pair, &mut state, current).await?;
            return self.settle(morsel, DeleteProgress::Done).await;
        }
        let Some(reason) = reason else {
            self.lift(pair, &mut state, current).await?;
            state.record.grant_unasked(survey.count);
            let (by, at) = (GrantedBy::Rule, self.deps.clock.now().as_millis());
            let list = self.write_list(pair, survey, ListState::Granted { by, at }).await?;
            state.record.set_list(Some(list));
            lists.save_pair(pair, &mut state).await?;
            return self.begin_sending(morsel, list).await;
        };
        let (count, items_total) = (survey.count, survey.items_total);
        self.hold(ends, &mut state, current, (survey, DeletionScope::Items), reason).await?;
        self.settle(morsel, DeleteProgress::Held { count, items_total }).await
    }

    /// Whether something that a list names has still vanished, or may have.
    async fn still_held(&self, pair: &SpacePair, list: DeleteListId, survey: &Survey) -> Result<StillHeld, StepError> {
        let all_kept = survey.vanished.len() as u64 == survey.count;
        if (survey.count == 0 && !survey.has_unknown()) || planted(PlantedBug::HoldForgotten) {
            return Ok(StillHeld::No);
        }
        let vanished: BTreeSet<_> = survey.vanished.iter().map(|listed| &listed.id).collect();
        let mut still = if all_kept { StillHeld::No } else { StillHeld::Vanished };
        let mut ids = self.deps.delete_lists.ids(pair, list);
        while let Some(listed) = ids.try_next().await? {
            if survey.may_be_there(&listed.id) {
                return Ok(StillHeld::Unknown);
            }
            if vanished.contains(&listed.id) {
                still = StillHeld::Vanished;
                if !survey.has_unknown() {
                    break;
                }
            }
        }
        Ok(still)
    }

    /// Leaves a list as it is until all that it names can be looked at again.
    async fn leave_held(
        &mut self,
        morsel: &mut Kept<Morsel>,
        pair: &SpacePair,
        current: Option<CurrentList>,
    ) -> Result<DeletesStep, StepError> {
        let Some(CurrentList { id, head }) = current.filter(|list| list.head.record.held().is_some()) else {
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        let (count, items_total) = (head.record.count, head.record.items_total);
        self.report_held(&HeldList { pair: pair.clone(), list: id, head });
        self.settle(morsel, DeleteProgress::Held { count, items_total }).await
    }

    /// Drops a held list: what it names is back.
    async fn lift(
        &self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
        current: Option<CurrentList>,
    ) -> Result<(), StepError> {
        let lists = &self.deps.delete_lists;
        if let Some(CurrentList { id, mut head }) = current {
            info!(account = %pair.account, space = %pair.space, "what was held is back; the hold ends");
            head.record.state = ListState::Withdrawn;
            lists.save_head(pair, id, &mut head).await?;
            lists.note_not_held(pair, id).await?;
            lists.remove_rows(pair, id).await?;
            state.record.set_list(None);
        }
        Ok(lists.save_pair(pair, state).await?)
    }

    /// Remembers the places at which a source was listed, so that a later survey finds out which are gone.
    pub(crate) async fn remember_places(&self, pair: &SpacePair, places: &[Place]) -> Result<(), StepError> {
        let mut state = self.deps.delete_lists.pair(pair).await?;
        if state.record.add_places(places) {
            self.deps.delete_lists.save_pair(pair, &mut state).await?;
        }
        Ok(())
    }

    /// The list of a pair that is granted and not carried out yet.
    pub(crate) async fn granted_list(
        &mut self,
        pair: &SpacePair,
        of: DeletionScope,
    ) -> Result<Option<DeleteListId>, StepError> {
        let mut state = self.deps.delete_lists.pair(pair).await?;
        let current = self.current_list(pair, &mut state, of).await?;
        Ok(current.filter(|list| list.head.record.is_granted()).map(|list| list.id))
    }

    /// Grants the deletion of a whole space: a bug on purpose, nothing else ever does.
    pub(crate) async fn grant_space(
        &mut self,
        ends: &Ends,
        survey: Survey,
        granted: ListState,
    ) -> Result<DeleteListId, StepError> {
        let mut state = self.deps.delete_lists.pair(&ends.pair).await?;
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        self.write_long_list(ends, list, survey, (DeletionScope::Space, granted)).await?;
        state.record.set_list(Some(list));
        self.deps.delete_lists.save_pair(&ends.pair, &mut state).await?;
        Ok(list)
    }

    /// Holds what vanished until a person decides: under the list that names exactly it already, or under a new one.
    pub(crate) async fn hold_list(
        &mut self,
        ends: &Ends,
        survey: (Survey, DeletionScope),
        reason: HoldReason,
    ) -> Result<(), StepError> {
        let mut state = self.deps.delete_lists.pair(&ends.pair).await?;
        let current = self.current_list(&ends.pair, &mut state, survey.1).await?;
        self.hold(ends, &mut state, current, survey, reason).await
    }

    async fn hold(
        &mut self,
        ends: &Ends,
        state: &mut Versioned<DeletePairState>,
        current: Option<CurrentList>,
        (survey, of): (Survey, DeletionScope),
        reason: HoldReason,
    ) -> Result<(), StepError> {
        let pair = &ends.pair;
        let lists = self.deps.delete_lists.clone();
        let same = |list: &&CurrentList| {
            let head = &list.head.record;
            head.held().is_some() && head.digest == survey.digest && head.count == survey.count && head.of == of
        };
        if let Some(CurrentList { id, head }) = current.as_ref().filter(same) {
            let (id, mut head) = (*id, head.clone());
            let state_now = ListState::Held { reason };
            // It may have been written over by a list that was given up half-written, or whose run was killed.
            lists.note_held(pair, id).await?;
            if head.record.state != state_now {
                head.record.state = state_now;
                lists.save_head(pair, id, &mut head).await?;
            }
            lists.save_pair(pair, state).await?;
            self.report_held(&HeldList { pair: pair.clone(), list: id, head });
            return Ok(());
        }
        // The pair knows the new list before anybody can see it, and before the old one is dropped: wherever this run is
        // killed, no hold is forgotten.
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        state.record.set_next(list);
        lists.save_pair(pair, state).await?;
        self.write_long_list(ends, list, survey, (of, ListState::Held { reason })).await?;
        if planted(PlantedBug::UngrantedListDeletes) {
            self.sending.send_removes(pair, list, std::iter::once(Some(0))).await?;
        }
        state.record.set_list(Some(list));
        lists.save_pair(pair, state).await?;
        if let Some(current) = current {
            self.drop_list(pair, current).await?;
        }
        if let Some(head) = lists.head(pair, list).await? {
            self.report_held(&HeldList { pair: pair.clone(), list, head });
        }
        Ok(())
    }

    /// Writes a list of what is in memory: its rows, then its head.
    async fn write_list(&self, pair: &SpacePair, survey: Survey, state: ListState) -> Result<DeleteListId, StepError> {
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        let mut writer = ListWriter::new(&self.deps.delete_lists, pair, list);
        for listed in survey.vanished {
            writer.push(listed).await?;
        }
        let rows = writer.finish().await?;
        self.add_head(pair, list, rows, (survey.items_total, survey.places, DeletionScope::Items, state)).await?;
        Ok(list)
    }

    /// Writes a list that may be longer than what is in memory: both sides are gone through once more then.
    async fn write_long_list(
        &self,
        ends: &Ends,
        list: DeleteListId,
        survey: Survey,
        (of, state): (DeletionScope, ListState),
    ) -> Result<(), StepError> {
        let pair = &ends.pair;
        let mut writer = ListWriter::new(&self.deps.delete_lists, pair, list);
        let (mut items_total, mut places) = (survey.items_total, survey.places);
        if survey.vanished.len() as u64 == survey.count {
            for listed in survey.vanished {
                writer.push(listed).await?;
            }
        } else {
            let mut merge = self.vanished_again(ends, of);
            let mut vanishing = Vanishing::new(survey.respelled);
            while let Some(found) = merge.next().await? {
                if let Some((listed, _)) = vanishing.take(&found) {
                    writer.push(listed).await?;
                }
            }
            items_total = merge.items_at_destination();
            if of == DeletionScope::Items {
                places = merge.source_places().to_vec();
            }
        }
        if planted(PlantedBug::HeadBeforeRow) {
            let (rows, writer) = writer.finish_later();
            self.deps.delete_lists.note_held(pair, list).await?;
            self.add_head(pair, list, rows, (items_total, places, of, state)).await?;
            writer.finish().await?;
            return Ok(());
        }
        let rows = writer.finish().await?;
        // Before the head, so that no list waits for a person who cannot find it.
        self.deps.delete_lists.note_held(pair, list).await?;
        self.add_head(pair, list, rows, (items_total, places, of, state)).await?;
        Ok(())
    }

    fn vanished_again(&self, ends: &Ends, of: DeletionScope) -> Merge {
        match of {
            DeletionScope::Items => ends.both(&self.deps.seals),
            DeletionScope::Space => ends.all_at_destination(),
        }
    }

    async fn add_head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        rows: WrittenRows,
        (items_total, places, of, state): (u64, Vec<Place>, DeletionScope, ListState),
    ) -> Result<(), DeleteListError> {
        let WrittenRows { rows, count, digest } = rows;
        let made = self.deps.clock.now().as_millis();
        let mut places: Vec<(String, String)> =
            places.into_iter().map(|Place { path, identity }| (path, identity)).collect();
        places.sort();
        places.dedup();
        let head = ListHead { of, made, count, items_total, rows, digest, places, state };
        self.deps.delete_lists.add_head(pair, list, head).await?;
        Ok(())
    }

    /// Notes deletes that wait for a person, once a session.
    pub(crate) fn report_held(&mut self, held: &HeldList) {
        let held = HeldDeletes::of(held);
        let HeldDeletes { account, space, source, destination, count, items_total, reason, token } = &held;
        if self.report.held.iter().any(|before| before.token == *token) {
            return;
        }
        warn!(%account, %space, %source, %destination, count, items_total, ?reason, token,
            "deletes are held until a person confirms them");
        self.deps.statistics.count(|work| work.held += *count);
        self.report.held.push(held);
    }

    async fn settle(&mut self, morsel: &mut Kept<Morsel>, deletes: DeleteProgress) -> Result<DeletesStep, StepError> {
        morsel.row.deletes = deletes;
        self.state.save(morsel).await?;
        crash_point(CrashPoint::ProducerDeletesSaved);
        Ok(DeletesStep::Settled(None))
    }

    pub(crate) async fn begin_sending(
        &mut self,
        morsel: &mut Kept<Morsel>,
        list: DeleteListId,
    ) -> Result<DeletesStep, StepError> {
        crash_point(CrashPoint::ProducerBeforeDeletes);
        morsel.row.deletes = DeleteProgress::Sending { list, next: 0 };
        self.state.save(morsel).await?;
        Ok(DeletesStep::More)
    }

    /// Queues the tasks of some rows of a granted list, those that have a result left out.
    pub(crate) async fn send_rows(
        &mut self,
        morsel: &mut Kept<Morsel>,
        ends: &Ends,
        list: DeleteListId,
        next: u32,
    ) -> Result<DeletesStep, StepError> {
        let pair = &ends.pair;
        let head = self.deps.delete_lists.head(pair, list).await?.map(|head| head.record);
        let Some(head) = head.filter(ListHead::is_granted) else {
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        if !self.settled_rows.contains_key(&list) {
            let results = self.deps.delete_lists.results(pair, list).await?;
            self.settled_rows.insert(list, results.into_iter().map(|(row, _)| row).collect());
        }
        let steps_max = u32::try_from(self.settings.nibble.get() / ListRow::IDS_MAX).unwrap_or(u32::MAX).max(1);
        let end = Lanes::of(head.rows).steps();
        let until = next.saturating_add(steps_max).min(end);
        let settled = self.settled_rows.get(&list);
        let due = (next..until)
            .filter_map(|step| Lanes::of(head.rows).row(step))
            .filter(|row| settled.is_none_or(|settled| !settled.contains(row)));
        let mut tasks: Vec<Option<u32>> = due.map(Some).collect();
        if until == end && head.of == DeletionScope::Space {
            // Its processor removes the space once it is empty; until then it is found again in the next run.
            tasks.push(None);
        }
        self.will_send(&pair.account, tasks.len()).await?;
        let sent = self.sending.send_removes(pair, list, tasks.into_iter()).await?;
        self.sent(sent);
        self.report.removing += sent;
        crash_point(CrashPoint::ProducerDeletesSent);
        if until < end {
            morsel.row.deletes = DeleteProgress::Sending { list, next: until };
            self.state.save(morsel).await?;
            return Ok(DeletesStep::More);
        }
        self.settle(morsel, DeleteProgress::Done).await
    }
}

/// The order in which rows are sent: by turns out of several stretches of the list, so that deletes and the removal of
/// their proofs do not all fall on one part of a service.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    rows: u32,
    width: u32,
}

impl Lanes {
    const LANES: u32 = 16;

    fn of(rows: u32) -> Self {
        Self { rows, width: rows.div_ceil(Self::LANES) }
    }

    /// How many steps there are; some of them name no row.
    fn steps(self) -> u32 {
        self.width * Self::LANES
    }

    /// The row of a step.
    fn row(self, step: u32) -> Option<u32> {
        let row = (step % Self::LANES) * self.width + step / Self::LANES;
        (row < self.rows).then_some(row)
    }
}

/// Surveys both sides; `None` where the destination is empty. Where it takes names for one another and something vanished, they
/// are gone through twice more: what is at the source under another spelling has not vanished.
async fn vanished(
    ends: &Ends,
    seals: &SyncProofs,
    keep_max: u64,
    copies_max: Option<usize>,
) -> Result<Option<Survey>, SpaceError> {
    let mut merge = ends.both(seals);
    if merge.destination_is_over().await? {
        return Ok(None);
    }
    let copies = || copies_max.map(|most| (ends.nibble(), most));
    let survey = Survey::of(&mut merge, (keep_max, copies()), Respelled::default()).await?;
    if survey.count == 0 || !ends.destination.folds_names(&ends.pair.space).await? {
        return Ok(Some(survey));
    }
    let respelled = Respelled::of(&mut ends.both(seals)).await?;
    Ok(Some(Survey::of(&mut ends.both(seals), (keep_max, copies()), respelled).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_sent_once_in_some_order() {
        for rows in [0, 1, 15, 16, 17, 100, 3907] {
            let lanes = Lanes::of(rows);
            let sent: Vec<u32> = (0..lanes.steps()).filter_map(|step| lanes.row(step)).collect();
            let each: BTreeSet<u32> = sent.iter().copied().collect();
            assert_eq!((sent.len(), each.len()), (rows as usize, rows as usize), "{rows}");
        }
    }
}
