//! Tasks that take no work, for measurements of all that is around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mill_local::{OsClock, OsRng};
use mill_model::{
    AccountId, ContentId, DuplicateTask, Envelope, QueueName, SpaceId, StoreAddress, StoreId, Task, wire,
};
use mill_ports::{
    Attempt, Clock as _, OutgoingMessage, ProcessorError, RngExt as _, TaskOutcome, TaskProcessor, TaskProcessorFactory,
};

/// Counts what it is given to do.
#[derive(Debug, Default)]
pub(crate) struct Nothing(pub(crate) Arc<AtomicU64>);

impl TaskProcessorFactory for Nothing {
    fn recognises(&self, _: &Task) -> bool {
        true
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        DuplicateTask::from_task(&task).unwrap();
        Ok(Box::new(Counted(self.0.clone())))
    }
}

struct Counted(Arc<AtomicU64>);

#[async_trait]
impl TaskProcessor for Counted {
    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }

    fn space(&self) -> Option<SpaceId> {
        None
    }

    fn subject(&self) -> String {
        "nothing".into()
    }

    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        attempt.may_act()?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(TaskOutcome::done())
    }
}

/// A task like those that a producer sends.
pub(crate) fn outgoing(number: u64) -> OutgoingMessage {
    let account = AccountId::new("acct").unwrap();
    let duplicate = DuplicateTask {
        account: account.clone(),
        source: StoreId::new("1").unwrap(),
        destination: StoreId::new("2").unwrap(),
        space: SpaceId::new("photographs").unwrap(),
        item: Some(ContentId::new(format!("1998/summer/image-{number:07}.tiff")).unwrap()),
    };
    let now = OsClock.now();
    let envelope = Envelope::new(OsRng.task_id(now), QueueName::DuplicationLow, now, duplicate.into_task());
    OutgoingMessage { group: account, body: wire::encode(&envelope).unwrap(), delay: Duration::ZERO }
}
