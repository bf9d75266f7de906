//! The kind `publish-log`: gives the events that wait their places in the account's audit log, and publishes it.

use std::time::Duration;

use async_trait::async_trait;
use mill_model::{PublishLogTask, QueueName, TaskArgs as _};
use mill_ports::{Attempt, FailureClass, FollowUp, ProcessorError, TaskHandler, TaskOutcome, error_chain};
use mill_records::audit_log::opening::OpenLogError;
use mill_records::audit_log::publisher::{OpenedLog, PublishError};
use mill_records::policies::PolicyError;
use tracing::{debug, info};

use crate::ProcessorDeps;
use crate::audit::AuditDeps;
use crate::failure;

/// Does `publish-log` tasks.
#[derive(Debug)]
pub(crate) struct PublishLogHandler {
    deps: ProcessorDeps,
    audit: AuditDeps,
}

impl PublishLogHandler {
    pub(crate) fn new(deps: ProcessorDeps, audit: AuditDeps) -> Self {
        Self { deps, audit }
    }
}

/// How long a task waits for another that publishes the same log.
const CONTENTION_DELAY: Duration = Duration::from_secs(5);

/// After so many snoozes something else must be wrong.
const SNOOZES_MAX: u32 = 100;

/// After so many entries in one task, another task goes on.
const ENTRIES_MAX: u64 = 10_000;

#[async_trait]
impl TaskHandler<PublishLogTask> for PublishLogHandler {
    async fn handle(&self, task: PublishLogTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let account = &task.account;
        let policy = match self.deps.policies.account(account).await {
            Ok(policy) => policy,
            Err(PolicyError::NotListed { .. }) => {
                return Ok(TaskOutcome::Discard { reason: "its account is not listed any more".into() });
            }
            Err(error) => return Err(failed(FailureClass::Retryable, error)),
        };
        let Some(spec) = policy.audit_log() else {
            return Ok(TaskOutcome::Discard { reason: "its account has no audit log any more".into() });
        };
        attempt.may_act()?;
        let log = OpenedLog::open(account, spec, &*self.deps.stores, &*self.audit.keys).await.map_err(not_opened)?;
        let published = match self.audit.publisher.publish(account, &log).await {
            Ok(published) => published,
            Err(error) if error.is_contention() && attempt.envelope.snoozes < SNOOZES_MAX => {
                debug!(%account, error = error_chain(&error), "another process publishes the audit log; this one tries again");
                return Ok(TaskOutcome::Snooze { delay: CONTENTION_DELAY, task: None });
            }
            Err(error) => return Err(not_published(error)),
        };
        info!(%account, entries = published.entries, size = published.size, "the audit log is published");
        if published.entries < ENTRIES_MAX {
            return Ok(TaskOutcome::done());
        }
        let next = task.to_task().map_err(|error| failed(FailureClass::Permanent, error))?;
        Ok(TaskOutcome::Done { follow_ups: vec![FollowUp::now(QueueName::Audit, next)] })
    }
}

fn not_opened(error: OpenLogError) -> ProcessorError {
    match error {
        OpenLogError::Store(error) => of_store(error),
        other => failed(FailureClass::Retryable, other),
    }
}

fn not_published(error: PublishError) -> ProcessorError {
    let class = if error.may_pass() { FailureClass::Retryable } else { FailureClass::Permanent };
    failed(class, error)
}

fn of_store(error: mill_ports::StoreError) -> ProcessorError {
    let class = failure::failure_class(&error).unwrap_or(FailureClass::Retryable);
    failed(class, error)
}

fn failed(class: FailureClass, source: impl Into<mill_ports::BoxError>) -> ProcessorError {
    ProcessorError { class, message: "the audit log is not published".into(), source: Some(source.into()) }
}
