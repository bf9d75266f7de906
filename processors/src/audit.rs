//! The kind `audit`: records changes, and has them duplicated at once.
//!
//! For each event, in this order:
//!
//! | step | a repeat |
//! |---|---|
//! | the content index has it, unless a later change is known; where the order is unknown, the item itself is looked at | finds it |
//! | it waits for its place in the account's audit log, if there is one | finds its row, or its place |
//! | a high-priority task for each store policy whose source changed | looks once more |
//! | a deleted item: a delete list of its own, within the rule's few (`delete_grant`) | is the same list |
//! | a new space: its listener hears of it | hears of it again |
//! | a task publishes the log soon | is asked for once |
//!
//! Events of the log's own space are left out: they would record themselves for ever.
//!
//! Reading order: this file, `delete_grant` (whether an event's delete is granted).

mod delete_grant;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_hooks::crash_point;
use mill_model::{
    AccountId, AuditAction, AuditEvent, AuditTask, DuplicateTask, EventId, ItemAddress, ItemFacts, PublishLogTask,
    QueueName, SpaceId, SpacePair, StoreId, TaskArgs,
};
use mill_policy::{AccountPolicy, AuditLogSpec};
use mill_ports::{
    Attempt, FailureClass, FollowUp, Presence, ProcessorError, RateLimitedLog, StoreErrorKind, TaskHandler, TaskOutcome,
};
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::opening::SigningKeys;
use mill_records::audit_log::publisher::LogPublisher;
use mill_records::content_index::{Applied, ContentIndex};
use mill_records::delete_lists::DeleteThresholds;
use mill_records::policies::PolicyError;
use tracing::{debug, info};

use crate::ProcessorDeps;
use crate::crash_points;
use crate::current_policy;
use crate::early_exit::EarlyExit;
use crate::failure::{self, ErrorMeaning};
use crate::retry::StoreRetry;

/// What records changes.
#[derive(Debug, Clone)]
pub struct AuditDeps {
    /// The events that wait for their places, and these.
    pub log: AuditLog,
    /// What is known of each item.
    pub index: ContentIndex,
    /// Publishes the logs.
    pub publisher: LogPublisher,
    /// Where signing keys are.
    pub keys: Arc<dyn SigningKeys>,
    /// The rule: how many deletes are granted unasked.
    pub thresholds: DeleteThresholds,
    /// How long events wait for others, so that they share a checkpoint.
    pub publish_after: Duration,
    /// Who hears of new spaces.
    pub new_spaces: Option<Arc<dyn NewSpaceListener>>,
}

/// Hears of each space that is new.
#[async_trait]
pub trait NewSpaceListener: fmt::Debug + Send + Sync {
    /// There is a new space; its event is recorded. Called more than once only if a process was killed.
    async fn new_space(&self, account: &AccountId, store: &StoreId, space: &SpaceId);
}

/// Does `audit` tasks.
#[derive(Debug)]
pub(crate) struct AuditHandler {
    deps: ProcessorDeps,
    audit: AuditDeps,
    retry: StoreRetry,
    /// Warnings of deletes that wait for a survey.
    postponed: RateLimitedLog,
}

/// The context of one attempt.
struct Recording<'a> {
    shared: &'a AuditHandler,
    account: &'a AccountId,
    policy: &'a AccountPolicy,
    attempt: &'a Attempt,
}

impl AuditHandler {
    pub(crate) fn new(deps: ProcessorDeps, audit: AuditDeps) -> Self {
        let retry = StoreRetry::new(deps.clock.clone(), deps.chance.clone());
        Self { retry, deps, audit, postponed: RateLimitedLog::default() }
    }
}

#[async_trait]
impl TaskHandler<AuditTask> for AuditHandler {
    async fn handle(&self, task: AuditTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        match self.record(&task, attempt).await {
            Ok(follow_ups) => Ok(TaskOutcome::Done { follow_ups }),
            Err(EarlyExit::TaskOutcome(outcome)) => Ok(outcome),
            Err(EarlyExit::Refused { reason, .. }) => Err(failed(FailureClass::Permanent, &task.subject(), reason)),
            Err(EarlyExit::Failed { class, source }) => Err(failed(class, &task.subject(), source)),
            Err(EarlyExit::Store(error)) => {
                attempt.may_act()?;
                match ErrorMeaning::of(error, &task.subject()) {
                    ErrorMeaning::Refused { reason } => Err(failed(FailureClass::Permanent, &task.subject(), reason)),
                    ErrorMeaning::Failed(failure) => Err(failure),
                }
            }
        }
    }
}

impl AuditHandler {
    async fn record(&self, task: &AuditTask, attempt: &Attempt) -> Result<Vec<FollowUp>, EarlyExit> {
        let account = &task.account;
        let policy = match self.deps.policies.account(account).await {
            Ok(policy) => policy,
            // The change was made, and nothing else says so.
            Err(PolicyError::NotListed { .. }) => {
                let source = "its account is not listed: list it again and retry this, or discard it".into();
                return Err(EarlyExit::Failed { class: FailureClass::Permanent, source });
            }
            Err(error) => {
                return Err(current_policy::snooze_until_known(&task.subject(), &mill_ports::error_chain(&error)));
            }
        };
        let recording = Recording { shared: self, account, policy: &policy, attempt };
        let mut follow_ups = Vec::new();
        let mut recorded = 0;
        for event in task.events.iter().cloned().chain(recording.stored(&task.stored).await?) {
            recorded += u64::from(recording.event(&event, &mut follow_ups).await?);
        }
        if recorded > 0 {
            follow_ups.extend(recording.publishing().await?);
        }
        for id in &task.stored {
            self.audit.log.remove_large(account, *id).await.map_err(of_rows)?;
        }
        Ok(follow_ups)
    }
}

impl Recording<'_> {
    /// The events that are too large for a task. One that is not there was recorded by an earlier attempt.
    async fn stored(&self, ids: &[EventId]) -> Result<Vec<AuditEvent>, EarlyExit> {
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            let event = self.shared.audit.log.large(self.account, *id).await.map_err(of_rows)?;
            if event.is_none() {
                info!(account = %self.account, event = %id, "its stored change was recorded before");
            }
            events.extend(event);
        }
        Ok(events)
    }

    /// Records one event. Returns whether it waits for its place in the log.
    async fn event(&self, event: &AuditEvent, follow_ups: &mut Vec<FollowUp>) -> Result<bool, EarlyExit> {
        let log = self.policy.audit_log();
        if log.is_some_and(|log| is_of_log(log, event)) {
            return Ok(false);
        }
        self.attempt.may_act()?;
        if self.index(event).await? == Applied::Repeated {
            debug!(account = %self.account, event = %event.id, "the same change is recorded under another id");
            return Ok(false);
        }
        crash_point(crash_points::AUDIT_INDEXED);
        if log.is_some() {
            let chance = &*self.shared.deps.chance;
            self.shared.audit.log.add_ready(self.account, event, chance).await.map_err(of_rows)?;
            crash_point(crash_points::AUDIT_LOGGED);
        }
        self.duplicates(event, follow_ups).await?;
        if event.action == AuditAction::CreateSpace {
            info!(account = %self.account, store = %event.store, space = %event.space, "there is a new space");
            if let Some(listener) = &self.shared.audit.new_spaces {
                listener.new_space(self.account, &event.store, &event.space).await;
            }
        }
        Ok(log.is_some())
    }

    /// Brings the content index up to date.
    async fn index(&self, event: &AuditEvent) -> Result<Applied, EarlyExit> {
        let index = &self.shared.audit.index;
        let mut found = None;
        for _ in 0..LOOKS_MAX {
            let applied = index
                .apply(self.account, event, found.as_ref())
                .await
                .map_err(|error| EarlyExit::Failed { class: FailureClass::Retryable, source: error.into() })?;
            match applied {
                Applied::Current | Applied::Repeated => return Ok(applied),
                Applied::Outdated => {
                    debug!(account = %self.account, event = %event.id, "a later change of it is known");
                    return Ok(applied);
                }
                Applied::NeedsLook => found = Some(self.look(event).await?),
            }
            self.attempt.may_act()?;
        }
        let source = "its row in the content index is changed by others all the time".into();
        Err(EarlyExit::Failed { class: FailureClass::Retryable, source })
    }

    /// What is at the place of an event now.
    async fn look(&self, event: &AuditEvent) -> Result<Presence<ItemFacts>, EarlyExit> {
        let Some(id) = &event.item else { return Ok(Presence::Absent) };
        let item = ItemAddress { space: event.space.clone(), id: id.clone() };
        let store = self.shared.deps.stores.source(self.account, &event.store).await?;
        match self.shared.retry.source_head(&*store, &item).await {
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => Ok(Presence::Absent),
            found => Ok(found?),
        }
    }

    /// The tasks that bring the change to each store whose source it is.
    async fn duplicates(&self, event: &AuditEvent, follow_ups: &mut Vec<FollowUp>) -> Result<(), EarlyExit> {
        for policy in self.policy.for_space(&event.space).policies {
            if policy.source != event.store {
                continue;
            }
            let pair = SpacePair {
                account: self.account.clone(),
                source: policy.source.clone(),
                destination: policy.destination.clone(),
                space: event.space.clone(),
            };
            match event.action {
                AuditAction::DeleteContent if policy.remove_vanished => {
                    if let Some(remove) = self.granted_delete(&pair, event).await? {
                        follow_ups.push(high(&remove)?);
                    }
                }
                // A space's deletion is always a person's to confirm.
                AuditAction::DeleteContent | AuditAction::DeleteSpace => {}
                _ => follow_ups.push(high(&DuplicateTask::of(pair, event.item.clone()))?),
            }
        }
        Ok(())
    }

    /// The task that publishes the log, if no other one is on its way.
    async fn publishing(&self) -> Result<Option<FollowUp>, EarlyExit> {
        let (by, now) = (self.attempt.envelope.id, self.shared.deps.clock.now());
        if !self.shared.audit.log.want_published(self.account, by, now).await.map_err(of_rows)? {
            return Ok(None);
        }
        let task = PublishLogTask { account: self.account.clone() }.to_task().map_err(unwritable)?;
        Ok(Some(FollowUp { queue: QueueName::Audit, task, delay: self.shared.audit.publish_after }))
    }
}

/// How often an item is looked at in one attempt.
const LOOKS_MAX: u32 = 5;

fn is_of_log(AuditLogSpec { stores, space, .. }: &AuditLogSpec, event: &AuditEvent) -> bool {
    *space == event.space && stores.contains(&event.store)
}

fn high(task: &impl TaskArgs) -> Result<FollowUp, EarlyExit> {
    Ok(FollowUp::now(QueueName::DuplicationHigh, task.to_task().map_err(unwritable)?))
}

fn unwritable(error: mill_model::TaskError) -> EarlyExit {
    EarlyExit::Failed { class: FailureClass::Permanent, source: error.into() }
}

fn of_rows(error: mill_records::audit_log::AuditLogError) -> EarlyExit {
    let class = match &error {
        mill_records::audit_log::AuditLogError::TooLarge { .. } => FailureClass::Permanent,
        _ => FailureClass::Retryable,
    };
    EarlyExit::Failed { class, source: error.into() }
}

fn failed(class: FailureClass, subject: &str, source: impl Into<mill_ports::BoxError>) -> ProcessorError {
    let error = failure::processor_error(class, subject, source);
    ProcessorError { message: format!("`{subject}` is not recorded yet"), ..error }
}

#[cfg(test)]
mod tests;
