//! The current delete list of a pair, and the places at which its source was listed.

use mill_model::{DeleteListId, SpacePair};
use mill_ports::Place;
use mill_records::Versioned;
use mill_records::delete_lists::{
    DeleteListError, DeleteListHead, DeleteListState, DeletePairState, DeletionScope, GrantedBy, RowResult,
};

use crate::duplication::plan::{DuplicationSession, DuplicationStepError};

/// The current delete list of a pair: held, granted, being carried out, or withdrawn by a person since the last scan.
pub(super) struct CurrentList {
    pub(super) id: DeleteListId,
    pub(super) head: Versioned<DeleteListHead>,
}

impl DuplicationSession<'_> {
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

    /// The current list of a pair: a held list, or a granted one whose scope is `of`. Closes a list that was carried out.
    /// Withdraws a granted list of the other scope: the source space went away or came back since.
    pub(super) async fn current_list(
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
    pub(super) async fn drop_list(
        &self,
        pair: &SpacePair,
        CurrentList { id, mut head }: CurrentList,
    ) -> Result<(), DeleteListError> {
        head.record.state = DeleteListState::Withdrawn;
        self.plan.delete_lists.save_head(pair, id, &mut head).await?;
        self.plan.delete_lists.remove_rows(pair, id).await
    }

    /// Records the places at which a source was listed, so that a later scan notices which ones are gone.
    pub(crate) async fn remember_places(&self, pair: &SpacePair, places: &[Place]) -> Result<(), DuplicationStepError> {
        let mut state = self.plan.delete_lists.pair(pair).await?;
        if state.record.add_places(places) {
            self.plan.delete_lists.save_pair(pair, &mut state).await?;
        }
        Ok(())
    }
}
