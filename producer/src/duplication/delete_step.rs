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
//!
//! Reading order: this file (the steps, and the decision), `current_list` (the list there is), `hold` (what a person must decide),
//! `write_list` and `sending` (what was granted).

mod current_list;
mod hold;
mod sending;
mod write_list;

use mill_hooks::crash_point;
use mill_records::Versioned;
use mill_records::delete_lists::{DeleteListState, DeletePairState, DeletionScope, GrantedBy, HoldReason};
use mill_records::producer_state::{DeleteProgress, PairMorsel};
use mill_records::sync_proofs::SyncProofs;

use self::current_list::CurrentList;
use self::hold::HeldItemsState;
use super::delete_scan::DeleteScan;
use super::endpoints::{Endpoints, SpaceError};
use super::nibble::Nibble;
use super::plan::{DuplicationSession, DuplicationStepError, PairRead};
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

    async fn scan_deletes(
        &mut self,
        morsel: &mut Versioned<PairMorsel>,
        endpoints: &Endpoints,
        state: Versioned<DeletePairState>,
        current: Option<CurrentList>,
    ) -> Result<DeleteStepOutcome, DuplicationStepError> {
        // An earlier turn has compared the items up to the marker.
        let copies_max = morsel.record.marker.is_none().then(|| (self.settings.nibble.get(), self.names_all()));
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
}

/// Scans both sides for vanished items. Returns `None` if the destination is empty. If something vanished and the destination
/// folds names, scans both sides twice more: an item that the source has under another spelling has not vanished.
async fn vanished(
    endpoints: &Endpoints,
    sync_proofs: &SyncProofs,
    keep_max: u64,
    copies_max: Option<(usize, bool)>,
) -> Result<Option<DeleteScan>, SpaceError> {
    let mut merge = endpoints.merge_both_sides(sync_proofs);
    if merge.destination_is_over().await? {
        return Ok(None);
    }
    let copies = || copies_max.map(|(most, names_all)| (endpoints.nibble(names_all), most));
    let survey = DeleteScan::of(&mut merge, (keep_max, copies()), RespelledItems::default()).await?;
    if survey.count == 0 || !endpoints.destination.folds_names(&endpoints.pair.space).await? {
        return Ok(Some(survey));
    }
    let respelled = RespelledItems::of(&mut endpoints.merge_both_sides(sync_proofs)).await?;
    Ok(Some(DeleteScan::of(&mut endpoints.merge_both_sides(sync_proofs), (keep_max, copies()), respelled).await?))
}
