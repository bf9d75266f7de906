//! The kind `remove`: deletes at a destination the items that one row of a granted delete list names. Nothing else ever deletes.
//!
//! The conditions for each id of the row, checked in this order (an error of either side deletes nothing):
//!
//! | condition | otherwise |
//! |---|---|
//! | the list is granted, and this row has no result yet | nothing, discarded |
//! | the current policy removes vanished items | nothing, discarded |
//! | the destination space belongs to this source, or to nobody | nothing, discarded |
//! | both ends lie apart, and no other Mill of this host keeps the destination in sync | nothing, discarded or an error |
//! | the destination has the item, in the state that the list saw | kept, or gone already |
//! | the places of the source above the item are those of the survey, before and after the look | kept |
//! | the source, whose space answers, does not have the item | kept |
//! | no verification found the source of the item damaged | kept, and named |
//!
//! Of a list of a whole space, the last condition is that the source store, which answers, does not have the space. Once all
//! its rows have results, the task without a row removes the empty space and forgets its owner.
//!
//! A row's result is written once, after its last id. A task that runs again finds the result, or finds gone what an
//! earlier run deleted, so it deletes nothing more.
//!
//! Reading order: this file (the handler), `row` (a row and its ids), `space` (the space itself).

mod row;
mod space;

use std::sync::Arc;

use async_trait::async_trait;
use mill_model::{ItemAddress, RemoveTask, SpacePair, TaskArgs as _};
use mill_policy::StorePolicy;
use mill_ports::{
    Attempt, DeletableStore, FailureClass, Presence, ProcessorError, SourceStore, SpaceFacts, TaskHandler, TaskOutcome,
};
use mill_records::Versioned;
use mill_records::delete_lists::{DeleteListError, DeleteListHead, DeletionScope};
use mill_records::owners::{DestinationSpace, OwnerError};
use tracing::info;

use crate::ProcessorDeps;
use crate::current_policy::{self, CurrentPolicy};
use crate::early_exit::EarlyExit;
use crate::failure::{self, ErrorMeaning};
use crate::refusals::RefusedDeed;
use crate::retry::StoreRetry;

/// Does `remove` tasks.
#[derive(Debug)]
pub(crate) struct RemoveHandler {
    deps: ProcessorDeps,
    retry: StoreRetry,
}

impl RemoveHandler {
    pub(crate) fn new(deps: ProcessorDeps) -> Self {
        Self { retry: StoreRetry::new(deps.clock.clone(), deps.chance.clone()), deps }
    }
}

/// The context of one attempt.
struct Removal<'a> {
    shared: &'a RemoveHandler,
    pair: &'a SpacePair,
    remove: &'a RemoveTask,
    attempt: &'a Attempt,
    head: Versioned<DeleteListHead>,
    source: Arc<dyn SourceStore>,
    destination: Arc<dyn DeletableStore>,
}

#[async_trait]
impl TaskHandler<RemoveTask> for RemoveHandler {
    async fn handle(&self, task: RemoveTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        match self.reconcile(&task, attempt).await {
            Ok(()) => Ok(TaskOutcome::done()),
            Err(EarlyExit::TaskOutcome(outcome)) => Ok(outcome),
            Err(EarlyExit::Refused { reason, .. }) => {
                info!(reason, "nothing is deleted");
                Ok(TaskOutcome::Discard { reason })
            }
            Err(EarlyExit::Failed { class, source }) => Err(failure::processor_error(class, &task.subject(), source)),
            Err(EarlyExit::Store(error)) => {
                // An error that came after the lease was lost says nothing about the store.
                attempt.may_act()?;
                match ErrorMeaning::of(error, &task.subject()) {
                    ErrorMeaning::Refused { reason } => Ok(TaskOutcome::Discard { reason }),
                    ErrorMeaning::Failed(failure) => Err(failure),
                }
            }
        }
    }
}

impl RemoveHandler {
    async fn reconcile(&self, task: &RemoveTask, attempt: &Attempt) -> Result<(), EarlyExit> {
        let (deps, pair) = (&self.deps, &task.pair);
        removing_policy(deps, pair, &task.subject()).await?;
        let head = deps.delete_lists.head(pair, task.list).await.map_err(list_exit)?;
        let Some(head) = head.filter(|head| head.record.is_granted()) else {
            return Err(EarlyExit::discard("its delete list is not granted, or not any more"));
        };
        self.belongs_to_source(pair, head.record.of, attempt).await?;
        let SpacePair { account, source, destination, .. } = pair;
        deps.stores.ensure_no_overlap(account, source, destination).await?;
        attempt.may_act()?;
        deps.stores.ensure_owned(pair, head.record.of == DeletionScope::Items).await?;
        let removal = Removal {
            shared: self,
            pair,
            remove: task,
            attempt,
            head,
            source: deps.stores.source(account, source).await?,
            destination: deps.stores.deletable(account, destination).await?,
        };
        match task.row {
            Some(row) => removal.process_row(row).await,
            None => removal.remove_space().await,
        }
    }

    /// Makes sure that the destination space belongs to this source now. A space without an owner is claimed to delete items of
    /// a list; it is not claimed to be deleted as a whole.
    async fn belongs_to_source(&self, pair: &SpacePair, of: DeletionScope, attempt: &Attempt) -> Result<(), EarlyExit> {
        let place = DestinationSpace::of(pair);
        let asked = pair.source_address();
        match self.deps.owners.owner(&place).await {
            Ok(Some(owner)) if owner == asked => Ok(()),
            Ok(Some(owner)) => {
                let reason = OwnerError::Owned { place, owner, asked }.to_string();
                Err(EarlyExit::Refused { deed: RefusedDeed::Delete, reason })
            }
            Ok(None) if of == DeletionScope::Items => {
                attempt.may_act()?;
                Ok(self.deps.owners.claim(&place, &asked).await?)
            }
            Ok(None) => Err(EarlyExit::discard("its space at the destination is not this source's")),
            Err(error) => Err(error.into()),
        }
    }
}

impl Removal<'_> {
    /// Whether the source space exists. `Absent` only if its store answers.
    async fn source_space(&self) -> Result<Presence<SpaceFacts>, EarlyExit> {
        Ok(self.shared.retry.run(|| self.source.space(&self.pair.space)).await?)
    }

    fn item(&self, id: &mill_model::ContentId) -> ItemAddress {
        ItemAddress { space: self.pair.space.clone(), id: id.clone() }
    }
}

/// The current policy, if it removes vanished items.
async fn removing_policy(deps: &ProcessorDeps, pair: &SpacePair, subject: &str) -> Result<StorePolicy, EarlyExit> {
    match current_policy::look_up(&deps.policies, pair).await {
        CurrentPolicy::Covers(policy) if policy.remove_vanished => Ok(policy),
        CurrentPolicy::Covers(_) => Err(EarlyExit::discard("today's policy keeps what vanished")),
        CurrentPolicy::Discard { reason } => Err(EarlyExit::discard(reason)),
        CurrentPolicy::Unknown { reason } => Err(current_policy::snooze_until_known(&subject, &reason)),
    }
}

fn list_exit(error: DeleteListError) -> EarlyExit {
    EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
}

#[cfg(test)]
mod tests;
