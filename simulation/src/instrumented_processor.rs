//! Wraps the real processors: records the result of each execution, and knows which execution makes a call.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_trait::async_trait;
use futures::FutureExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{RemoveTask, SpaceId, StoreAddress, Task, TaskArgs as _};
use mill_ports::{
    Attempt, DeliveryLease, FailureClass, FollowUp, ProcessorError, TaskOutcome, TaskProcessor, TaskProcessorFactory,
};

use super::attempts::Attempts;
use super::event::{Event, ExecutionResult};
use super::fairness::Fairness;
use super::planted_calls;
use super::sim_process::SimProcess;

/// A running execution.
#[derive(Debug)]
pub(crate) struct RunningExecution {
    /// Its remove task, if it is one.
    pub(crate) remove: Option<RemoveTask>,
    lease: DeliveryLease,
    deletes: AtomicU32,
}

impl RunningExecution {
    pub(crate) fn is_leased(&self) -> bool {
        self.lease.holds()
    }

    /// Whether this is the execution's first delete.
    pub(crate) fn first_delete(&self) -> bool {
        self.deletes.fetch_add(1, Relaxed) == 0
    }
}

std::thread_local! {
    static RUNNING: RefCell<Option<Arc<RunningExecution>>> = const { RefCell::new(None) };
}

/// Restores the execution that was polled before, also when a processor panics.
struct PollingGuard(Option<Arc<RunningExecution>>);

impl Drop for PollingGuard {
    fn drop(&mut self) {
        RUNNING.set(self.0.take());
    }
}

/// The execution that is being polled now, if there is one.
pub(crate) fn running() -> Option<Arc<RunningExecution>> {
    RUNNING.with_borrow(Clone::clone)
}

/// A factory whose processors are instrumented.
#[derive(Debug)]
pub(crate) struct InstrumentedFactory {
    pub(crate) inner: Arc<dyn TaskProcessorFactory>,
    pub(crate) process: Arc<SimProcess>,
}

impl TaskProcessorFactory for InstrumentedFactory {
    fn recognises(&self, task: &Task) -> bool {
        self.inner.recognises(task)
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        let inner = self.inner.processor(task)?;
        Ok(Box::new(InstrumentedProcessor { inner, process: self.process.clone() }))
    }
}

struct InstrumentedProcessor {
    inner: Box<dyn TaskProcessor>,
    process: Arc<SimProcess>,
}

#[async_trait]
impl TaskProcessor for InstrumentedProcessor {
    fn stores(&self) -> Vec<StoreAddress> {
        self.inner.stores()
    }

    fn space(&self) -> Option<SpaceId> {
        self.inner.space()
    }

    fn subject(&self) -> String {
        self.inner.subject()
    }

    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let Self { inner, process } = *self;
        let stores = inner.stores();
        let _attempt = Attempts::begin(&process, &stores, attempt);
        let task = &attempt.envelope.task;
        let remove = RemoveTask::from_task(task).ok();
        let running = Arc::new(RunningExecution { remove, lease: attempt.lease.clone(), deletes: AtomicU32::new(0) });
        let mut work = pin!(AssertUnwindSafe(run_with_planted_bug(&process, inner, attempt)).catch_unwind());
        let answer = std::future::poll_fn(|context| {
            let _running = PollingGuard(RUNNING.replace(Some(running.clone())));
            work.as_mut().poll(context)
        });
        let answer = answer.await;
        let key = attempt.envelope.id.to_string();
        let execution_result = answer.as_ref().map_or(ExecutionResult::Panicked, execution_result);
        if matches!(execution_result, ExecutionResult::Throttled | ExecutionResult::Unavailable) {
            Fairness::stores_troubled(&process.world, &stores);
        }
        process.world.see(&Event::Ran { by: &process.name, key: &key, execution_result: &execution_result });
        answer.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

async fn run_with_planted_bug(
    process: &Arc<SimProcess>,
    processor: Box<dyn TaskProcessor>,
    attempt: &Attempt,
) -> Result<TaskOutcome, ProcessorError> {
    let envelope = &attempt.envelope;
    if is_planted(PlantedBug::AcknowledgeBeforeWrite) {
        planted_calls::acknowledge_at_once(process, &envelope.id.to_string()).await;
    }
    let answer = processor.run(attempt).await;
    if is_planted(PlantedBug::DuplicateDeletes) && answer.is_ok() {
        let _ = planted_calls::delete_vanished(process, &envelope.task).await;
    }
    answer
}

fn execution_result(answer: &Result<TaskOutcome, ProcessorError>) -> ExecutionResult {
    match answer {
        Ok(TaskOutcome::Done { follow_ups }) => {
            ExecutionResult::Done { follow_ups: follow_ups.iter().filter_map(mark).collect() }
        }
        Ok(TaskOutcome::Snooze { .. }) => ExecutionResult::Snoozed,
        Ok(TaskOutcome::Discard { .. }) => ExecutionResult::Discarded,
        Err(error) => match error.class {
            FailureClass::Retryable => ExecutionResult::Retryable,
            FailureClass::Throttled { .. } => ExecutionResult::Throttled,
            FailureClass::Unavailable { .. } | FailureClass::Unreachable { .. } => ExecutionResult::Unavailable,
            FailureClass::Permanent => ExecutionResult::Permanent,
            FailureClass::Fatal => ExecutionResult::Fatal,
            FailureClass::LeaseLost => ExecutionResult::LeaseLost,
        },
    }
}

fn mark(follow_up: &FollowUp) -> Option<String> {
    follow_up.task.detail.get("mark")?.as_str().map(str::to_owned)
}
