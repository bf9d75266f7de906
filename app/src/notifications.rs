//! The kind `notification`: what a bucket reports of its objects becomes events of the stores that are in the bucket.
//!
//! Only this room knows both: buckets (of `infra`) and the accounts' stores.

use std::sync::Arc;

use async_trait::async_trait;
use mill_aws::notifications::{self, EventKind, Notification, ObjectCreation, ObjectEvent};
use mill_model::{
    AccountId, Algorithm, AuditAction, AuditEvent, Checksum, ContentId, EventId, EventSource, ItemAddress,
    NotificationTask, SpaceId, StoreId,
};
use mill_policy::{Buckets, StoreKind};
use mill_ports::{
    Attempt, BoxError, FailureClass, Presence, ProcessorError, StoreErrorKind, Stores, TaskHandler, TaskOutcome,
};
use mill_records::audit_sender::AuditSender;
use mill_records::policies::{PolicyError, PolicyRepository};
use tracing::debug;

/// Does `notification` tasks.
#[derive(Debug)]
pub(crate) struct NotificationHandler {
    pub(crate) policies: Arc<PolicyRepository>,
    pub(crate) stores: Arc<dyn Stores>,
    pub(crate) sender: AuditSender,
}

/// A store in a bucket, and the item of a key there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StoreItem {
    account: AccountId,
    store: StoreId,
    item: ItemAddress,
    /// Whether an entity tag of 32 digits is the MD5 of the bytes.
    md5_tags: bool,
}

#[async_trait]
impl TaskHandler<NotificationTask> for NotificationHandler {
    async fn handle(&self, task: NotificationTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let notification =
            notifications::decode(task.body.as_bytes()).map_err(|error| failed(FailureClass::Permanent, error))?;
        let Notification::Events(events) = notification else {
            return Ok(TaskOutcome::Discard { reason: "it is the test with which a service begins".into() });
        };
        let mut found = Vec::new();
        for event in events.iter().filter(|event| event.is_reason_to_look()) {
            let items = self.items_of(event).await?;
            if items.is_empty() {
                let why = format!("no store of any account is in the bucket `{}` with its key", event.bucket);
                return Err(failed(FailureClass::Permanent, why));
            }
            for item in items {
                let event = self.event(event, &item).await?;
                found.push((item.account, event));
            }
        }
        for (account, event) in found {
            attempt.may_act()?;
            let sent = self.sender.send(&account, vec![event]).await;
            sent.map_err(|error| failed(FailureClass::Retryable, error))?;
        }
        Ok(TaskOutcome::done())
    }
}

impl NotificationHandler {
    /// The items that the object is, in all stores of all accounts.
    async fn items_of(&self, event: &ObjectEvent) -> Result<Vec<StoreItem>, ProcessorError> {
        let unknown = |error: PolicyError| failed(FailureClass::Retryable, error);
        let mut found = Vec::new();
        for account in self.policies.account_ids().await.map_err(unknown)? {
            let policy = match self.policies.account(&account).await {
                Ok(policy) => policy,
                Err(PolicyError::NotListed { .. }) => continue,
                // It may be this account's bucket.
                Err(error) => return Err(unknown(error)),
            };
            for spec in policy.stores() {
                let StoreKind::S3(s3) = &spec.kind else { continue };
                let Some((space, id)) = split_key(&s3.buckets, &event.bucket, &event.key) else { continue };
                found.push(StoreItem {
                    account: account.clone(),
                    store: spec.id.clone(),
                    item: ItemAddress { space, id },
                    md5_tags: s3.dialect.md5_tags,
                });
            }
        }
        Ok(found)
    }

    async fn event(&self, reported: &ObjectEvent, of: &StoreItem) -> Result<AuditEvent, ProcessorError> {
        let action = match &reported.kind {
            EventKind::Created(ObjectCreation::Copy) => AuditAction::CopyContent,
            EventKind::Created(_) => AuditAction::AddContent,
            EventKind::Removed(_) if reported.may_concern_another_version() && self.is_there(of).await? => {
                debug!(item = %of.item, "a version was deleted, and the item is there");
                AuditAction::UpdateContentProperties
            }
            EventKind::Removed(_) => AuditAction::DeleteContent,
            EventKind::TagsChanged | EventKind::AclChanged | EventKind::Unknown(_) | EventKind::Ignored(_) => {
                AuditAction::UpdateContentProperties
            }
        };
        let order = reported.sequencer.as_ref().map(|sequencer| sequencer.as_str().to_owned());
        let kind = format!("{:?}", reported.kind);
        let facts = [
            of.store.as_str(),
            &reported.bucket,
            &reported.key,
            &kind,
            order.as_deref().unwrap_or(""),
            reported.version_id.as_deref().unwrap_or(""),
        ];
        let id = EventId::of_facts(reported.at, &facts);
        let subject = (of.store.clone(), of.item.space.clone(), Some(of.item.id.clone()));
        let event = AuditEvent::new(id, subject, action, reported.at, EventSource::Store);
        let states_content = matches!(action, AuditAction::AddContent | AuditAction::CopyContent);
        let md5 = reported.etag.as_deref().filter(|_| of.md5_tags && states_content).and_then(md5_of_tag);
        Ok(AuditEvent {
            size: reported.size.filter(|_| states_content),
            checksums: md5.into_iter().collect(),
            user: reported.principal.clone(),
            order,
            ..event
        })
    }

    async fn is_there(&self, of: &StoreItem) -> Result<bool, ProcessorError> {
        let looked = async { self.stores.source(&of.account, &of.store).await?.head(&of.item).await };
        match looked.await {
            Ok(found) => Ok(matches!(found, Presence::Present(_))),
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => Ok(false),
            Err(error) => Err(failed(FailureClass::Retryable, error)),
        }
    }
}

/// The space and the item of a key, if the bucket is of these.
fn split_key(buckets: &Buckets, bucket: &str, key: &str) -> Option<(SpaceId, ContentId)> {
    let (space, id) = match buckets {
        Buckets::One(one) => key.split_once('/').filter(|_| one == bucket)?,
        Buckets::Prefix(prefix) => (bucket.strip_prefix(prefix.as_str())?, key),
    };
    Some((SpaceId::new(space).ok()?, ContentId::new(id).ok()?))
}

/// The MD5 that an entity tag is, if it looks like one.
fn md5_of_tag(tag: &str) -> Option<Checksum> {
    format!("{}:{}", Algorithm::Md5.as_str(), tag.to_ascii_lowercase()).parse().ok()
}

fn failed(class: FailureClass, source: impl Into<BoxError>) -> ProcessorError {
    ProcessorError { class, message: "the notification is not recorded".into(), source: Some(source.into()) }
}

#[cfg(test)]
mod tests;
