//! Tasks without work, to measure everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mill_local::{OsClock, OsRng};
use mill_model::{
    AccountId, ContentId, DuplicateTask, Envelope, QueueName, SpaceId, SpacePair, StoreId, TaskArgs as _, wire,
};
use mill_ports::{Attempt, Clock as _, OutgoingMessage, ProcessorError, RngExt as _, TaskHandler, TaskOutcome};

/// Counts the tasks that it receives.
#[derive(Debug, Default)]
pub(crate) struct Nothing(pub(crate) Arc<AtomicU64>);

#[async_trait]
impl TaskHandler<DuplicateTask> for Nothing {
    async fn handle(&self, _: DuplicateTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        attempt.may_act()?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(TaskOutcome::done())
    }
}

/// A task like those that a producer sends.
pub(crate) fn outgoing(number: u64) -> OutgoingMessage {
    let account = AccountId::new("acct").unwrap();
    let pair = SpacePair {
        account: account.clone(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new("photographs").unwrap(),
    };
    let id = ContentId::new(format!("1998/summer/image-{number:07}.tiff")).unwrap();
    let task = DuplicateTask::of(pair, Some(id)).to_task().unwrap();
    let now = OsClock.now();
    let envelope = Envelope::new(OsRng.task_id(now), QueueName::DuplicationLow, now, task);
    OutgoingMessage { group: account, body: wire::encode(&envelope).unwrap(), delay: Duration::ZERO }
}
