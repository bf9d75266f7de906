//! A kind of task of the world's own, so that workmen meet every answer that a processor may give.

use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, QueueName, StoreAddress, StoreId, Task, TaskKind};
use mill_ports::{Attempt, FailureClass, FollowUp, Outcome, ProcessorError, TaskProcessor, TaskProcessorFactory};
use serde_json::Map;

/// What errands do.
const DEEDS: [&str; 7] = ["done", "follows", "fails", "permanent", "snoozes", "throttled", "unavailable"];

/// Their kind.
pub(crate) fn kind() -> TaskKind {
    TaskKind::new("errand")
}

/// An errand; `mark` names it among all.
pub(crate) fn task(account: &AccountId, deed: u64, mark: &str) -> Task {
    let mut detail = Map::new();
    detail.insert("does".into(), DEEDS[deed as usize % DEEDS.len()].into());
    detail.insert("mark".into(), mark.into());
    Task { kind: kind(), account: account.clone(), detail }
}

/// Makes the processors of errands.
#[derive(Debug)]
pub(crate) struct ErrandFactory;

impl TaskProcessorFactory for ErrandFactory {
    fn recognises(&self, task: &Task) -> bool {
        task.kind == kind()
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        Ok(Box::new(Errand { task }))
    }
}

struct Errand {
    task: Task,
}

impl Errand {
    fn text(&self, member: &'static str) -> &str {
        self.task.text(member).unwrap_or_default()
    }

    fn store(&self) -> StoreAddress {
        // No store of any policy, so that its pauses hold up nothing else.
        StoreAddress { account: self.task.account.clone(), store: StoreId::new("errands").unwrap() }
    }

    fn follow_up(&self, number: u32) -> FollowUp {
        let mark = format!("{}.{number}", self.text("mark"));
        FollowUp { queue: QueueName::DuplicationHigh, task: task(&self.task.account, 0, &mark) }
    }
}

fn failed(class: FailureClass) -> Result<Outcome, ProcessorError> {
    Err(ProcessorError { class, message: "the errand failed, as it was to".into(), source: None })
}

#[async_trait]
impl TaskProcessor for Errand {
    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }

    fn subject(&self) -> String {
        format!("errand {}", self.text("mark"))
    }

    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<Outcome, ProcessorError> {
        let envelope = &attempt.envelope;
        match self.text("does") {
            "follows" => Ok(Outcome::Done { follow_ups: vec![self.follow_up(1), self.follow_up(2)] }),
            "fails" if envelope.failures < 2 => failed(FailureClass::Retryable),
            "permanent" => failed(FailureClass::Permanent),
            "snoozes" if envelope.snoozes < 2 => {
                Ok(Outcome::Snooze { delay: Duration::from_secs(20), task: Some(self.task.clone()) })
            }
            "throttled" if envelope.snoozes < 4 => {
                failed(FailureClass::Throttled { store: self.store(), retry_after: None })
            }
            "unavailable" if envelope.snoozes < 4 => failed(FailureClass::Unavailable { store: self.store() }),
            _ => Ok(Outcome::done()),
        }
    }
}
