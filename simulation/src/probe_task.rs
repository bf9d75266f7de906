//! Probe tasks: a task kind of the simulation, so that workmen meet every result that a processor may return, and processors
//! that panic, kill their process or take very long.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{AccountId, Envelope, QueueName, StoreAddress, StoreId, Task, TaskArgs, TaskKind};
use mill_ports::{Attempt, Clock as _, FailureClass, FollowUp, ProcessorError, TaskHandler, TaskOutcome};
use serde::{Deserialize, Serialize};

use super::fault::SimFault;
use super::sim_process::SimProcess;

/// The behaviors of probe tasks.
const BEHAVIORS: [&str; 14] = [
    "done",
    "follows",
    "fails",
    "permanent",
    "snoozes",
    "throttled",
    "unavailable",
    "panics",
    "panics-late",
    "waits-long",
    "takes-long",
    "takes-long",
    "takes-long",
    "kills",
];

/// How long a probe task is snoozed.
const SNOOZE: Duration = Duration::from_secs(20);
/// Longer than any queue can delay a task.
const LONG_SNOOZE: Duration = Duration::from_hours(1);

/// A probe task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProbeTask {
    account: AccountId,
    /// One of the behaviors.
    does: String,
    /// Identifies it.
    mark: String,
}

impl TaskArgs for ProbeTask {
    const KIND: TaskKind = TaskKind::of("errand");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        format!("errand {}", self.mark)
    }

    fn stores(&self) -> Vec<StoreAddress> {
        Vec::new()
    }
}

/// A probe task; `mark` identifies it.
pub(crate) fn task(account: &AccountId, behavior: u64, mark: &str) -> Task {
    let does = BEHAVIORS[behavior as usize % BEHAVIORS.len()].into();
    ProbeTask { account: account.clone(), does, mark: mark.into() }.to_task().unwrap()
}

/// The number of a behavior that no real processor has.
pub(crate) fn rare_behavior(any: u64) -> u64 {
    const RARE: u64 = 7;
    BEHAVIORS.len() as u64 - 1 - any % RARE
}

/// Does probe tasks, for one process.
#[derive(Debug)]
pub(crate) struct ProbeHandler(pub(crate) Arc<SimProcess>);

/// One execution of a probe task.
struct ProbeExecution<'a> {
    task: ProbeTask,
    process: &'a Arc<SimProcess>,
}

impl ProbeExecution<'_> {
    fn store(&self) -> StoreAddress {
        // A store that no policy names, so that its pauses delay nothing else.
        StoreAddress { account: self.task.account.clone(), store: StoreId::new("errands").unwrap() }
    }

    fn follow_up(&self, number: u32) -> FollowUp {
        let mark = format!("{}.{number}", self.task.mark);
        FollowUp::now(QueueName::DuplicationHigh, task(&self.task.account, 0, &mark))
    }

    fn count(&self, fault: SimFault) {
        if !self.process.world.is_calm() {
            self.process.world.count(fault, &self.process.name);
        }
    }

    /// Takes longer than a lease lasts that is not extended.
    async fn take_long(&self, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        self.count(SimFault::TaskTakesLong);
        self.process.clock.sleep(self.process.world.swarm.visibility * 4).await;
        attempt.may_act()?;
        Ok(TaskOutcome::done())
    }

    /// Kills its whole process.
    async fn kill(&self) -> Result<TaskOutcome, ProcessorError> {
        self.count(SimFault::TaskKills);
        self.process.die();
        std::future::pending().await
    }
}

fn snoozed(envelope: &Envelope, delay: Duration) -> TaskOutcome {
    TaskOutcome::Snooze { delay, task: Some(envelope.task.clone()) }
}

fn failed(class: FailureClass) -> Result<TaskOutcome, ProcessorError> {
    Err(ProcessorError { class, message: "the errand failed, as it was to".into(), source: None })
}

/// Panics without a message on standard error.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("the errand panicked, as it was to"))
}

#[async_trait]
impl TaskHandler<ProbeTask> for ProbeHandler {
    async fn handle(&self, task: ProbeTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        ProbeExecution { task, process: &self.0 }.run(attempt).await
    }
}

impl ProbeExecution<'_> {
    async fn run(&self, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let envelope = &attempt.envelope;
        let calm = self.process.world.is_calm();
        match self.task.does.as_str() {
            "follows" => Ok(TaskOutcome::Done { follow_ups: vec![self.follow_up(1), self.follow_up(2)] }),
            "fails" if envelope.failures < 2 => failed(FailureClass::Retryable),
            "permanent" => failed(FailureClass::Permanent),
            "snoozes" if envelope.snoozes < 2 => Ok(snoozed(envelope, SNOOZE)),
            "throttled" if envelope.snoozes < 4 => {
                failed(FailureClass::Throttled { store: self.store(), retry_after: None })
            }
            "unavailable" if envelope.snoozes < 4 => failed(FailureClass::Unavailable { store: self.store() }),
            "panics" if envelope.failures < 2 => {
                self.count(SimFault::ProcessorPanics);
                panic()
            }
            "panics-late" if envelope.failures < 1 => {
                self.count(SimFault::ProcessorPanics);
                self.process.clock.sleep(Duration::from_secs(3)).await;
                panic()
            }
            "waits-long" if envelope.snoozes < 1 => {
                self.count(SimFault::DelayTooLong);
                Ok(snoozed(envelope, LONG_SNOOZE))
            }
            "takes-long" if !calm && envelope.snoozes < 2 => self.take_long(attempt).await,
            "kills" if !calm => self.kill().await,
            _ => Ok(TaskOutcome::done()),
        }
    }
}
