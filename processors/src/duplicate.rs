//! The kind `duplicate`: bring one space, or one item of it, of a destination in sync with its source.
//!
//! What is done with an item depends on what both sides hold when the task runs (an error of either side ends the attempt):
//!
//! | source | destination | done |
//! |---|---|---|
//! | absent | absent | nothing |
//! | here | absent | copied, if there is still none |
//! | here | here, of another size | copied, if the destination is still as seen |
//! | here | here, both as proven | nothing |
//! | here | here, other bytes | copied, if the destination is still as seen |
//! | here, with bytes that a verification found damaged | here, other bytes | refused by name |
//! | here | here, same bytes, other properties | the source's properties set, if the destination is still as seen |
//! | here | here, same bytes and properties | recorded as proven |
//! | absent | here | nothing: only a task of the kind [`remove`](crate::remove) deletes |
//! | its space absent | any | nothing, discarded |
//!
//! A space that the source has is claimed for the source, and created at the destination if it is absent there.
//!
//! Another item at the destination may be in the way (`a` is in the way of `a/b`). If policy removes vanished items, the task
//! fails and is tried again, since the delete of the other item may be on its way; on its last attempt the item is refused by
//! name.
//!
//! The destination may fold the item's name to that of another item (`readme` finds `README`). That item is never replaced: if
//! it is gone at the source and holds the same bytes, it is given the new spelling; otherwise the item is refused by name (see
//! `respelling`).
//!
//! Bytes are compared by a checksum that both stores hold, or that the sync proof has for an unchanged side; otherwise
//! the unknown side is read. A sync proof of equal sides is recorded if both versions are settled. If they are too
//! young for that, a sync proof of replaced bytes is deleted.
//!
//! Reading order: this file (the handler), `item` and `space` (the tables), `compare` (the comparison), `respelling`
//! (folded names), `transfer`, `copy_check` and `checksum_capabilities` (the copy), `context` (the calls),
//! `ownership_cache` (the owner).
//!
//! **Invariant:** the destination is held by a type that has no method that deletes.

mod checksum_capabilities;
mod compare;
mod context;
mod copy_check;
mod item;
mod ownership_cache;
mod respelling;
mod space;
mod transfer;

use async_trait::async_trait;
use mill_model::{
    ContentId, DuplicateScope, DuplicateTask, EventSubject, ItemAddress, ItemOutcome, SpacePair, SubjectSort,
    TaskArgs as _, TaskError,
};
use mill_ports::{
    Attempt, FailureClass, FollowUp, OutcomeDetail, ProcessorError, RateLimitedLog, StoreError, StoreErrorKind,
    TaskHandler, TaskOutcome, error_chain,
};
use tracing::warn;

use self::checksum_capabilities::ChecksumCapabilities;
use self::context::AttemptContext;
use self::ownership_cache::OwnershipCache;
use crate::ProcessorDeps;
use crate::current_policy::{self, CurrentPolicy};
use crate::early_exit::EarlyExit;
use crate::failure::{self, ErrorMeaning};
use crate::refusals::{Refusal, RefusedDeed};
use crate::retry::StoreRetry;
use crate::slow_items::SlowItems;

/// Does `duplicate` tasks.
#[derive(Debug)]
pub(crate) struct DuplicateHandler {
    deps: ProcessorDeps,
    retry: StoreRetry,
    ownership: OwnershipCache,
    checksum_capabilities: ChecksumCapabilities,
    seal_warnings: RateLimitedLog,
    slow_items: SlowItems,
}

impl DuplicateHandler {
    pub(crate) fn new(deps: ProcessorDeps) -> Self {
        Self {
            retry: StoreRetry::new(deps.clock.clone(), deps.chance.clone()),
            ownership: OwnershipCache::default(),
            checksum_capabilities: ChecksumCapabilities::default(),
            seal_warnings: RateLimitedLog::default(),
            slow_items: SlowItems::new(deps.give_up_after),
            deps,
        }
    }
}

#[async_trait]
impl TaskHandler<DuplicateTask> for DuplicateHandler {
    async fn handle(&self, task: DuplicateTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let space = || task.pair.space.clone();
        let item = match &task.scope {
            DuplicateScope::Space => None,
            DuplicateScope::Item(id) => Some(ItemAddress { space: space(), id: id.clone() }),
            DuplicateScope::Items(ids) => return split(&task.pair, ids, attempt),
        };
        DuplicateExecution { shared: self, task, item }.run(attempt).await
    }
}

/// Sends a task for each item, before anything is done of any, so that each item fails and is tried again by itself.
fn split(pair: &SpacePair, ids: &[ContentId], attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
    let queue = attempt.envelope.origin;
    let single = |id: &ContentId| {
        let task = DuplicateTask::of(pair.clone(), Some(id.clone())).to_task()?;
        Ok(FollowUp::now(queue, task))
    };
    let follow_ups = ids.iter().map(single).collect::<Result<_, TaskError>>();
    let follow_ups = follow_ups
        .map_err(|error| failure::processor_error(FailureClass::Permanent, &pair.space.to_string(), error))?;
    Ok(TaskOutcome::Done { follow_ups })
}

/// One execution of a task of one item, or of the space itself.
struct DuplicateExecution<'a> {
    shared: &'a DuplicateHandler,
    task: DuplicateTask,
    /// The item, or `None` for the space itself.
    item: Option<ItemAddress>,
}

impl DuplicateExecution<'_> {
    async fn run(&self, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let subject = self.task.subject();
        if let Some(item) = self.item.as_ref().filter(|_| self.shared.deps.statistics.events().is_some()) {
            attempt.outcome.about(EventSubject::of(&self.task.pair, item.id.as_str(), SubjectSort::Source));
        }
        let outcome = match self.reconcile(attempt).await {
            Ok(()) => {
                let now = self.shared.deps.clock.monotonic();
                self.shared.slow_items.note_served((&self.task.stores(), &self.task.pair.space), &subject, now);
                TaskOutcome::done()
            }
            Err(EarlyExit::TaskOutcome(outcome)) => outcome,
            Err(EarlyExit::Refused { deed, reason }) => self.refused(attempt, deed, reason),
            Err(EarlyExit::Failed { class, source }) => {
                return Err(failure::processor_error(class, &subject, source));
            }
            Err(EarlyExit::Store(error)) => {
                // An error that came after the lease was lost says nothing about the store.
                attempt.may_act()?;
                if let Some(reason) = self.always_throttled(&error) {
                    return Ok(self.refused(attempt, RefusedDeed::Copy, reason));
                }
                let deed = RefusedDeed::of_copy(&error.kind);
                match ErrorMeaning::of(error, &subject) {
                    ErrorMeaning::Refused { reason } => self.refused(attempt, deed, reason),
                    ErrorMeaning::Failed(failure) => return Err(failure),
                }
            }
        };
        Ok(outcome)
    }

    async fn reconcile(&self, attempt: &Attempt) -> Result<(), EarlyExit> {
        let policy = match current_policy::look_up(&self.shared.deps.policies, &self.task.pair).await {
            CurrentPolicy::Covers(policy) => policy,
            CurrentPolicy::Discard { reason } => {
                let detail = OutcomeDetail { reason: Some(reason.to_owned()), ..OutcomeDetail::default() };
                attempt.outcome.note_with(ItemOutcome::Dropped, detail);
                return Err(EarlyExit::discard(reason));
            }
            CurrentPolicy::Unknown { reason } => {
                return Err(current_policy::snooze_until_known(&self.task.subject(), &reason));
            }
        };
        let SpacePair { account, source, destination, .. } = &self.task.pair;
        // Before the destination is opened: opening removes stale uploads, also of a store that is refused.
        self.shared.deps.stores.ensure_no_overlap(account, source, destination).await?;
        let context = AttemptContext {
            shared: self.shared,
            pair: &self.task.pair,
            attempt,
            policy,
            source: self.shared.deps.stores.source(account, source).await?,
            destination: self.shared.deps.stores.destination(account, destination).await?,
        };
        let done = match &self.item {
            Some(item) => context.sync_item(item).await,
            None => context.sync_space().await,
        };
        let waits = context.policy.remove_vanished && !attempt.is_last();
        done.map_err(|stop| match stop {
            EarlyExit::Store(error)
                if waits && error.store.store == *destination && failure::is_name_conflict(&error) =>
            {
                EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() }
            }
            other => other,
        })
    }

    /// The reason to refuse the item, if its store has throttled it for long enough while it served others.
    fn always_throttled(&self, error: &StoreError) -> Option<String> {
        let StoreErrorKind::Throttled { .. } = error.kind else { return None };
        let now = self.shared.deps.clock.monotonic();
        let waited = self
            .shared
            .slow_items
            .note_throttled((&error.store, &self.task.pair.space), &self.task.subject(), now)?
            .as_secs();
        let said = error.source.as_ref().map_or_else(String::new, |source| format!(": {}", error_chain(&**source)));
        Some(format!("for {waited} s store `{}` asked to slow down at each try, and served others{said}", error.store))
    }

    fn refused(&self, attempt: &Attempt, deed: RefusedDeed, reason: String) -> TaskOutcome {
        let subject = self.task.subject();
        warn!(target: mill_ports::REPORTED, reason, "refused");
        let detail = OutcomeDetail { reason: Some(reason.clone()), ..OutcomeDetail::default() };
        attempt.outcome.note_with(ItemOutcome::Refused, detail);
        self.shared.deps.refusals.note(Refusal { subject, reason: reason.clone(), deed });
        TaskOutcome::Discard { reason }
    }
}

#[cfg(test)]
mod tests;
