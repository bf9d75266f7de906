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
use mill_hooks::{PlantedBug, crash_point, is_planted};
use mill_model::{DeleteListId, RemoveTask, SpacePair};
use mill_ports::{Place, RngExt as _};
use mill_records::Versioned;
use mill_records::delete_lists::{
    DeleteListError, DeleteListHead, DeleteListRow, DeleteListState, DeletePairState, DeletionScope, GrantedBy,
    HeldList, HoldReason, RowResult,
};
use mill_records::producer_state::{DeleteProgress, PairMorsel};
use mill_records::sync_proofs::SyncProofs;
use tracing::{info, warn};

use super::delete_scan::{DeleteScan, VanishedFilter};
use super::endpoints::{Endpoints, SpaceError};
use super::list_writer::{ListWriter, RowsSummary};
use super::merge::Merge;
use super::nibble::Nibble;
use super::plan::{DuplicationSession, DuplicationStepError, PairRead};
use super::report::HeldDeletes;
use super::respelled_items::RespelledItems;
use crate::crash_points;
use crate::looping::{ReadKey, ReadOutcome};

/// How a step of the deletes ended.
pub(crate) enum DeleteStepOutcome {
    /// The deletes are done for this turn. Holds the items to copy, if the scan collected all of them.
    Settled(Option<Box<Nibble>>),
    /// Another step is due.
    More,
    /// A read of the stores takes long. The turn starts again once it is done.
    Reading,
    /// The session must stop.
    Stopped,
}

/// The current delete list of a pair: held, granted, being carried out, or withdrawn by a person since the last scan.
struct CurrentList {
    id: DeleteListId,
    head: Versioned<DeleteListHead>,
}

/// What a scan shows about the items that a held list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldItemsState {
    /// Every item is back at the source or no longer at the destination.
    No,
    /// Some items are still missing at the source.
    Vanished,
    /// Some items may lie in an unreadable part of the source or have another spelling there: neither back nor surely gone.
    Unknown,
}

impl DuplicationSession<'_> {
    /// Does the next step of a morsel's deletes.
    pub(crate) async fn step_deletes(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        if let DeleteProgress::Sending { list, next } = morsel.record.deletes.clone() {
            return self.send_rows(morsel, endpoints, list, next).await;
        }
        let pair = &endpoints.pair;
        let mut state = self.plan.delete_lists.pair(pair).await?;
        let current = self.current_list(pair, &mut state, DeletionScope::Items).await?;
        if let Some(list) = current.as_ref().filter(|list| list.head.record.is_granted()) {
            self.report.findings.removes_by_earlier_list = true;
            return self.begin_sending(morsel, list.id).await;
        }
        if matches!(morsel.record.deletes, DeleteProgress::Held { .. }) {
            // This run has scanned the pair already, and nobody has granted the list since.
            return Ok(DeleteStepOutcome::Settled(None));
        }
        self.scan_deletes(morsel, endpoints, state, current).await
    }

    /// Whether a deletes step is due.
    pub(crate) fn has_deletes(morsel: &PairMorsel, endpoints: &Endpoints) -> bool {
        endpoints.policy.remove_vanished && endpoints.destination_present && morsel.deletes != DeleteProgress::Done
    }

    /// The current list of a pair: a held list, or a granted one whose scope is `of`. Closes a list that was carried out.
    /// Withdraws a granted list of the other scope: the source space went away or came back since.
    async fn current_list(
        &mut self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
        of: DeletionScope,
    ) -> Result<Option<CurrentList>, DuplicationStepError> {
        let lists = self.plan.delete_lists.clone();
        self.adopt_next_list(pair, state).await?;
        let Some(id) = state.record.list() else { return Ok(None) };
        let Some(mut head) = lists.head(pair, id).await? else { return Ok(None) };
        let record = &mut head.record;
        match record.state.clone() {
            DeleteListState::Granted { by, .. } => {
                let results = lists.results(pair, id).await?;
                let all_done = results.len() == record.rows as usize && record.of == DeletionScope::Items;
                if all_done {
                    let deleted = results.iter().map(|(_, result): &(u32, RowResult)| result.deleted).sum();
                    if matches!(by, GrantedBy::Person(_)) {
                        // With the list, the person accepted the places at which it was made.
                        state.record.accept_places(record.places(), &[]);
                    }
                    record.state = DeleteListState::Done { by, deleted };
                } else if record.of == of {
                    self.plan.settled_rows.insert(id, results.into_iter().map(|(row, _)| row).collect());
                    return Ok(Some(CurrentList { id, head }));
                } else {
                    record.state = DeleteListState::Withdrawn;
                }
            }
            // A held list stays held also when the source space went away or came back since.
            DeleteListState::Held { .. } | DeleteListState::Withdrawn => return Ok(Some(CurrentList { id, head })),
            DeleteListState::Done { .. } => return Ok(None),
        }
        lists.save_head(pair, id, &mut head).await?;
        lists.note_not_held(pair, id).await?;
        state.record.set_list(None);
        lists.save_pair(pair, state).await?;
        Ok(None)
    }

    /// Adopts a list whose writer died after it wrote the head and before it updated the pair. People see it, so it counts.
    async fn adopt_next_list(
        &self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
    ) -> Result<(), DuplicationStepError> {
        let lists = &self.plan.delete_lists;
        let Some(next) = state.record.next() else { return Ok(()) };
        if lists.head(pair, next).await?.is_none() {
            // Nobody ever saw this list. A later one replaces it.
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

    /// Withdraws a list that another one replaced.
    async fn drop_list(
        &self,
        pair: &SpacePair,
        CurrentList { id, mut head }: CurrentList,
    ) -> Result<(), DeleteListError> {
        head.record.state = DeleteListState::Withdrawn;
        self.plan.delete_lists.save_head(pair, id, &mut head).await?;
        self.plan.delete_lists.remove_rows(pair, id).await
    }

    async fn scan_deletes(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        state: Versioned<DeletePairState>,
        current: Option<CurrentList>,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        // An earlier turn has compared the items up to the marker.
        let copies_max = morsel.record.marker.is_none().then(|| self.settings.nibble.get());
        let keep_max = self.plan.thresholds.unasked_max + 1;
        let (of, sync_proofs) = (endpoints.clone(), self.plan.sync_proofs.clone());
        let reading = async move { vanished(&of, &sync_proofs, keep_max, copies_max).await };
        let basis = endpoints.read_basis(morsel.record.marker.as_ref());
        let survey =
            match self.read(ReadKey::Morsel(endpoints.pair.clone(), PairRead::DeleteScan), basis, reading).await? {
                ReadOutcome::Done(survey) => survey?,
                ReadOutcome::GoesOn => return Ok(DeleteStepOutcome::Reading),
                ReadOutcome::Stopped => return Ok(DeleteStepOutcome::Stopped),
            };
        let Some(mut survey) = survey else {
            // The destination has no items, so the source need not be listed.
            let mut state = state;
            self.end_hold(&endpoints.pair, &mut state, current).await?;
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        let copies = survey.copies.take().map(Box::new);
        let settled = self.decide(morsel, endpoints, state, current, survey).await?;
        Ok(match settled {
            DeleteStepOutcome::Settled(_) => DeleteStepOutcome::Settled(copies),
            other => other,
        })
    }

    /// Decides about the items that a scan found to have vanished.
    async fn decide(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        mut state: Versioned<DeletePairState>,
        current: Option<CurrentList>,
        survey: DeleteScan,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        let pair = &endpoints.pair;
        let lists = self.plan.delete_lists.clone();
        let unasked_today = state.record.unasked_today(&*self.deps.clock);
        let known = state.record.knows_places();
        let changed = survey.changed_beneath(&state.record);
        // Where no place is known and something vanished, a person accepts the places with the list.
        if !survey.places.is_empty() && (known || survey.count == 0) {
            state.record.accept_places(survey.places.iter().cloned(), &changed);
        }
        let mut reason = survey.hold_reason(&self.plan.thresholds, unasked_today, known.then_some(&changed));
        if let Some(held) = &current {
            // Held items stay held until they are back or confirmed, however few are left.
            match self.held_items_state(pair, held.id, &survey).await? {
                HeldItemsState::No => {}
                HeldItemsState::Unknown if held.head.record.held().is_some() || survey.count == 0 => {
                    lists.save_pair(pair, &mut state).await?;
                    return self.keep_held(morsel, pair, current).await;
                }
                HeldItemsState::Unknown | HeldItemsState::Vanished => {
                    let before = held.head.record.held().map(HoldReason::still);
                    let before = before.unwrap_or(HoldReason::ListWithdrawn);
                    reason = reason.or(Some(before));
                }
            }
        }
        if survey.count == 0 {
            self.end_hold(pair, &mut state, current).await?;
            return self.settle(morsel, DeleteProgress::Done).await;
        }
        let Some(reason) = reason else {
            self.end_hold(pair, &mut state, current).await?;
            state.record.grant_unasked(survey.count);
            let (by, at) = (GrantedBy::Rule, self.deps.clock.now().as_millis());
            let list = self.write_list(pair, survey, DeleteListState::Granted { by, at }).await?;
            state.record.set_list(Some(list));
            lists.save_pair(pair, &mut state).await?;
            return self.begin_sending(morsel, list).await;
        };
        let (count, items_total) = (survey.count, survey.items_total);
        self.hold(endpoints, &mut state, current, (survey, DeletionScope::Items), reason).await?;
        self.settle(morsel, DeleteProgress::Held { count, items_total }).await
    }

    /// Whether an item that a list names is still missing at the source, or may be.
    async fn held_items_state(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        survey: &DeleteScan,
    ) -> Result<HeldItemsState, DuplicationStepError> {
        let all_kept = survey.vanished.len() as u64 == survey.count;
        if (survey.count == 0 && !survey.has_unknown()) || is_planted(PlantedBug::HoldForgotten) {
            return Ok(HeldItemsState::No);
        }
        let vanished: BTreeSet<_> = survey.vanished.iter().map(|listed| &listed.id).collect();
        let mut still = if all_kept { HeldItemsState::No } else { HeldItemsState::Vanished };
        let mut ids = self.plan.delete_lists.ids(pair, list);
        while let Some(listed) = ids.try_next().await? {
            if survey.may_be_there(&listed.id) {
                return Ok(HeldItemsState::Unknown);
            }
            if vanished.contains(&listed.id) {
                still = HeldItemsState::Vanished;
                if !survey.has_unknown() {
                    break;
                }
            }
        }
        Ok(still)
    }

    /// Keeps a list as it is until every item it names can be examined again.
    async fn keep_held(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        pair: &SpacePair,
        current: Option<CurrentList>,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        let Some(CurrentList { id, head }) = current.filter(|list| list.head.record.held().is_some()) else {
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        let (count, items_total) = (head.record.count, head.record.items_total);
        self.report_held(&HeldList { pair: pair.clone(), list: id, head });
        self.settle(morsel, DeleteProgress::Held { count, items_total }).await
    }

    /// Withdraws a held list: its items are back.
    async fn end_hold(
        &self,
        pair: &SpacePair,
        state: &mut Versioned<DeletePairState>,
        current: Option<CurrentList>,
    ) -> Result<(), DuplicationStepError> {
        let lists = &self.plan.delete_lists;
        if let Some(CurrentList { id, mut head }) = current {
            info!(account = %pair.account, space = %pair.space, "what was held is back; the hold ends");
            head.record.state = DeleteListState::Withdrawn;
            lists.save_head(pair, id, &mut head).await?;
            lists.note_not_held(pair, id).await?;
            lists.remove_rows(pair, id).await?;
            state.record.set_list(None);
        }
        Ok(lists.save_pair(pair, state).await?)
    }

    /// Records the places at which a source was listed, so that a later scan notices which ones are gone.
    pub(crate) async fn remember_places(&self, pair: &SpacePair, places: &[Place]) -> Result<(), DuplicationStepError> {
        let mut state = self.plan.delete_lists.pair(pair).await?;
        if state.record.add_places(places) {
            self.plan.delete_lists.save_pair(pair, &mut state).await?;
        }
        Ok(())
    }

    /// The granted list of a pair that is not carried out yet.
    pub(crate) async fn granted_list(
        &mut self,
        pair: &SpacePair,
        of: DeletionScope,
    ) -> Result<Option<DeleteListId>, DuplicationStepError> {
        let mut state = self.plan.delete_lists.pair(pair).await?;
        let current = self.current_list(pair, &mut state, of).await?;
        Ok(current.filter(|list| list.head.record.is_granted()).map(|list| list.id))
    }

    /// Holds the vanished items until a person decides: keeps the current list if it names exactly these, else writes a new one.
    pub(crate) async fn hold_list(
        &mut self,
        endpoints: &Endpoints,
        survey: (DeleteScan, DeletionScope),
        reason: HoldReason,
    ) -> Result<(), DuplicationStepError> {
        let mut state = self.plan.delete_lists.pair(&endpoints.pair).await?;
        let current = self.current_list(&endpoints.pair, &mut state, survey.1).await?;
        self.hold(endpoints, &mut state, current, survey, reason).await
    }

    async fn hold(
        &mut self,
        endpoints: &Endpoints,
        state: &mut Versioned<DeletePairState>,
        current: Option<CurrentList>,
        (survey, of): (DeleteScan, DeletionScope),
        reason: HoldReason,
    ) -> Result<(), DuplicationStepError> {
        let pair = &endpoints.pair;
        let lists = self.plan.delete_lists.clone();
        let same = |list: &&CurrentList| {
            let head = &list.head.record;
            head.held().is_some() && head.digest == survey.digest && head.count == survey.count && head.of == of
        };
        if let Some(CurrentList { id, head }) = current.as_ref().filter(same) {
            let (id, mut head) = (*id, head.clone());
            let state_now = DeleteListState::Held { reason };
            // The note may be gone: a list whose run failed or was killed half-way may have replaced it.
            lists.note_held(pair, id).await?;
            if head.record.state != state_now {
                head.record.state = state_now;
                lists.save_head(pair, id, &mut head).await?;
            }
            lists.save_pair(pair, state).await?;
            self.report_held(&HeldList { pair: pair.clone(), list: id, head });
            return Ok(());
        }
        // The pair records the new list before anybody can see it and before the old list is dropped. So no hold is lost,
        // wherever this run is killed.
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        state.record.set_next(list);
        lists.save_pair(pair, state).await?;
        self.write_long_list(endpoints, list, survey, (of, DeleteListState::Held { reason })).await?;
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

    /// Writes a list of the items in memory: the rows, then the head.
    async fn write_list(
        &self,
        pair: &SpacePair,
        survey: DeleteScan,
        state: DeleteListState,
    ) -> Result<DeleteListId, DuplicationStepError> {
        let list = self.deps.chance.delete_list_id(self.deps.clock.now());
        let mut writer = ListWriter::new(&self.plan.delete_lists, pair, list);
        for listed in survey.vanished {
            writer.push(listed).await?;
        }
        let rows = writer.finish().await?;
        self.add_head(pair, list, rows, (survey.items_total, survey.places, DeletionScope::Items, state)).await?;
        Ok(list)
    }

    /// Writes a list that may be longer than the items in memory. If so, both sides are listed once more.
    async fn write_long_list(
        &self,
        endpoints: &Endpoints,
        list: DeleteListId,
        survey: DeleteScan,
        (of, state): (DeletionScope, DeleteListState),
    ) -> Result<(), DuplicationStepError> {
        let pair = &endpoints.pair;
        let mut writer = ListWriter::new(&self.plan.delete_lists, pair, list);
        let (mut items_total, mut places) = (survey.items_total, survey.places);
        if survey.vanished.len() as u64 == survey.count {
            for listed in survey.vanished {
                writer.push(listed).await?;
            }
        } else {
            let mut merge = self.rescan_vanished(endpoints, of);
            let mut vanishing = VanishedFilter::new(survey.respelled);
            while let Some(found) = merge.next().await? {
                if let Some((listed, _)) = vanishing.vanished_item(&found) {
                    writer.push(listed).await?;
                }
            }
            items_total = merge.items_at_destination();
            if of == DeletionScope::Items {
                places = merge.source_places().to_vec();
            }
        }
        let rows = writer.finish().await?;
        // The note comes before the head, so that a person can find every list that waits.
        self.plan.delete_lists.note_held(pair, list).await?;
        self.add_head(pair, list, rows, (items_total, places, of, state)).await?;
        Ok(())
    }

    fn rescan_vanished(&self, endpoints: &Endpoints, of: DeletionScope) -> Merge {
        match of {
            DeletionScope::Items => endpoints.merge_both_sides(&self.plan.sync_proofs),
            DeletionScope::Space => endpoints.merge_destination_alone(),
        }
    }

    async fn add_head(
        &self,
        pair: &SpacePair,
        list: DeleteListId,
        rows: RowsSummary,
        (items_total, places, of, state): (u64, Vec<Place>, DeletionScope, DeleteListState),
    ) -> Result<(), DeleteListError> {
        let RowsSummary { rows, count, digest } = rows;
        let made = self.deps.clock.now().as_millis();
        let mut places: Vec<(String, String)> =
            places.into_iter().map(|Place { path, identity }| (path, identity)).collect();
        places.sort();
        places.dedup();
        let head = DeleteListHead { of, made, count, items_total, rows, digest, places, state };
        self.plan.delete_lists.add_head(pair, list, head).await?;
        Ok(())
    }

    /// Reports deletes that wait for a person, once per session.
    pub(crate) fn report_held(&mut self, held: &HeldList) {
        let held = HeldDeletes::of(held);
        let HeldDeletes { account, space, source, destination, count, items_total, reason, token } = &held;
        if self.report.findings.held.iter().any(|before| before.token == *token) {
            return;
        }
        warn!(%account, %space, %source, %destination, count, items_total, ?reason, token,
            "deletes are held until a person confirms them");
        self.deps.statistics.count(|work| work.held += *count);
        self.report.findings.held.push(held);
    }

    async fn settle(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        deletes: DeleteProgress,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        morsel.record.deletes = deletes;
        self.state.save(morsel).await?;
        crash_point(crash_points::PRODUCER_DELETES_SAVED);
        Ok(DeleteStepOutcome::Settled(None))
    }

    pub(crate) async fn begin_sending(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        list: DeleteListId,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        crash_point(crash_points::PRODUCER_BEFORE_DELETES);
        morsel.record.deletes = DeleteProgress::Sending { list, next: 0 };
        self.state.save(morsel).await?;
        Ok(DeleteStepOutcome::More)
    }

    /// Queues the tasks of the next rows of a granted list, except for rows that have a result.
    pub(crate) async fn send_rows(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        list: DeleteListId,
        next: u32,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        let pair = &endpoints.pair;
        let head = self.plan.delete_lists.head(pair, list).await?.map(|head| head.record);
        let Some(head) = head.filter(DeleteListHead::is_granted) else {
            return self.settle(morsel, DeleteProgress::Done).await;
        };
        if !self.plan.settled_rows.contains_key(&list) {
            let results = self.plan.delete_lists.results(pair, list).await?;
            self.plan.settled_rows.insert(list, results.into_iter().map(|(row, _)| row).collect());
        }
        let steps_max = u32::try_from(self.settings.nibble.get() / DeleteListRow::IDS_MAX).unwrap_or(u32::MAX).max(1);
        let end = Lanes::of(head.rows).steps();
        let until = next.saturating_add(steps_max).min(end);
        let settled = self.plan.settled_rows.get(&list);
        let due = (next..until)
            .filter_map(|step| Lanes::of(head.rows).row(step))
            .filter(|row| settled.is_none_or(|settled| !settled.contains(row)));
        let mut tasks: Vec<Option<u32>> = due.map(Some).collect();
        if until == end && head.of == DeletionScope::Space {
            // This task removes the space once it is empty. Until then the next run finds the space again.
            tasks.push(None);
        }
        let tasks = tasks.into_iter().map(|row| RemoveTask { pair: pair.clone(), list, row });
        let sent = self.queue_tasks(&pair.account, tasks).await?;
        self.report.findings.removing += sent;
        crash_point(crash_points::PRODUCER_DELETES_SENT);
        if until < end {
            morsel.record.deletes = DeleteProgress::Sending { list, next: until };
            self.state.save(morsel).await?;
            return Ok(DeleteStepOutcome::More);
        }
        self.settle(morsel, DeleteProgress::Done).await
    }
}

/// The order in which rows are sent: one row of each lane in turn, so that the deletes and the removal of their proofs do not
/// all load one key range of a service.
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

    /// The number of steps. Some steps have no row.
    fn steps(self) -> u32 {
        self.width * Self::LANES
    }

    /// The row of a step.
    fn row(self, step: u32) -> Option<u32> {
        let row = (step % Self::LANES) * self.width + step / Self::LANES;
        (row < self.rows).then_some(row)
    }
}

/// Scans both sides for vanished items. Returns `None` if the destination is empty. If something vanished and the destination
/// folds names, scans both sides twice more: an item that the source has under another spelling has not vanished.
async fn vanished(
    endpoints: &Endpoints,
    sync_proofs: &SyncProofs,
    keep_max: u64,
    copies_max: Option<usize>,
) -> Result<Option<DeleteScan>, SpaceError> {
    let mut merge = endpoints.merge_both_sides(sync_proofs);
    if merge.destination_is_over().await? {
        return Ok(None);
    }
    let copies = || copies_max.map(|most| (endpoints.nibble(), most));
    let survey = DeleteScan::of(&mut merge, (keep_max, copies()), RespelledItems::default()).await?;
    if survey.count == 0 || !endpoints.destination.folds_names(&endpoints.pair.space).await? {
        return Ok(Some(survey));
    }
    let respelled = RespelledItems::of(&mut endpoints.merge_both_sides(sync_proofs)).await?;
    Ok(Some(DeleteScan::of(&mut endpoints.merge_both_sides(sync_proofs), (keep_max, copies()), respelled).await?))
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
