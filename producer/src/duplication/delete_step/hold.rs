//! Deletes that wait for a person: held, kept as they are, and ended.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{DeleteListId, SpacePair};
use mill_ports::RngExt as _;
use mill_records::Versioned;
use mill_records::delete_lists::{DeleteListState, DeletePairState, DeletionScope, HeldList, HoldReason};
use mill_records::producer_state::{DeleteProgress, PairMorsel};
use tracing::{info, warn};

use super::DeleteStepOutcome;
use super::current_list::CurrentList;
use crate::duplication::delete_scan::DeleteScan;
use crate::duplication::endpoints::Endpoints;
use crate::duplication::plan::{DuplicationSession, DuplicationStepError};
use crate::duplication::report::HeldDeletes;

/// What a scan shows about the items that a held list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldItemsState {
    /// Every item is back at the source or no longer at the destination.
    No,
    /// Some items are still missing at the source.
    Vanished,
    /// Some items may lie in an unreadable part of the source or have another spelling there: neither back nor surely gone.
    Unknown,
}

impl DuplicationSession<'_> {
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

    pub(super) async fn hold(
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

    /// Whether an item that a list names is still missing at the source, or may be.
    pub(super) async fn held_items_state(
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
    pub(super) async fn keep_held(
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
    pub(super) async fn end_hold(
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

    /// Reports deletes that wait for a person, once per session.
    pub(crate) fn report_held(&mut self, held: &HeldList) {
        let held = HeldDeletes::of(held);
        let HeldDeletes { account, space, source, destination, count, items_total, reason, token } = &held;
        if self.report.findings.held.iter().any(|before| before.token == *token) {
            return;
        }
        warn!(target: mill_ports::REPORTED, %account, %space, %source, %destination, count, items_total, %reason, token,
            "deletes are held until a person confirms them");
        self.deps.statistics.count(|work| work.held += *count);
        self.report.findings.held.push(held);
    }
}
