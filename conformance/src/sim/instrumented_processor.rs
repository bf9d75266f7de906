//! Production processors, watched: what each execution answers, and which of them makes a call.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_trait::async_trait;
use futures::FutureExt as _;
use mill_model::{Remove, SpaceId, StoreAddress, Task, TaskKind};
use mill_ports::{
    Attempt, DeliveryLease, FailureClass, FollowUp, ProcessorError, TaskOutcome, TaskProcessor, TaskProcessorFactory,
};

use super::attempts::Attempts;
use super::event::{Event, Verdict};
use super::line::Line;
use super::turns::Turns;

/// An execution that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it is to delete, if anything.
    pub(crate) remove: Option<Remove>,
    lease: DeliveryLease,
    deletes: AtomicU32,
}

impl Running {
    pub(crate) fn is_leased(&self) -> bool {
        self.lease.holds()
    }

    /// Whether this is the execution's first delete.
    pub(crate) fn first_delete(&self) -> bool {
        self.deletes.fetch_add(1, Relaxed) == 0
    }
}

std::thread_local! {
    static RUNNING: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Puts back who was polled before, also when a processor panics.
struct Polling(Option<Arc<Running>>);

impl Drop for Polling {
    fn drop(&mut self) {
        RUNNING.set(self.0.take());
    }
}

/// The execution that is being polled now, if one is.
pub(crate) fn running() -> Option<Arc<Running>> {
    RUNNING.with_borrow(Clone::clone)
}

/// A factory whose processors are watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn TaskProcessorFactory>,
    pub(crate) line: Arc<Line>,
}

impl TaskProcessorFactory for Watched {
    fn recognises(&self, task: &Task) -> bool {
        self.inner.recognises(task)
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        let inner = self.inner.processor(task)?;
        Ok(Box::new(WatchedProcessor { inner, line: self.line.clone() }))
    }
}

struct WatchedProcessor {
    inner: Box<dyn TaskProcessor>,
    line: Arc<Line>,
}

#[async_trait]
impl TaskProcessor for WatchedProcessor {
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
        let Self { inner, line } = *self;
        let stores = inner.stores();
        let _attempt = Attempts::begin(&line, &stores, attempt);
        let task = &attempt.envelope.task;
        let remove = (task.kind == TaskKind::REMOVE).then(|| Remove::from_task(task).ok()).flatten();
        let running = Arc::new(Running { remove, lease: attempt.lease.clone(), deletes: AtomicU32::new(0) });
        let mut work = pin!(AssertUnwindSafe(inner.run(attempt)).catch_unwind());
        let answer = std::future::poll_fn(|context| {
            let _running = Polling(RUNNING.replace(Some(running.clone())));
            work.as_mut().poll(context)
        });
        let answer = answer.await;
        let key = attempt.envelope.id.to_string();
        let verdict = answer.as_ref().map_or(Verdict::Panicked, verdict);
        if matches!(verdict, Verdict::Throttled | Verdict::Unavailable) {
            Turns::stores_troubled(&line.world, &stores);
        }
        line.world.see(&Event::Ran { by: &line.name, key: &key, verdict: &verdict });
        answer.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

fn verdict(answer: &Result<TaskOutcome, ProcessorError>) -> Verdict {
    match answer {
        Ok(TaskOutcome::Done { follow_ups }) => {
            Verdict::Done { follow_ups: follow_ups.iter().filter_map(mark).collect() }
        }
        Ok(TaskOutcome::Snooze { .. }) => Verdict::Snoozed,
        Ok(TaskOutcome::Discard { .. }) => Verdict::Discarded,
        Err(error) => match error.class {
            FailureClass::Retryable => Verdict::Retryable,
            FailureClass::Throttled { .. } => Verdict::Throttled,
            FailureClass::Unavailable { .. } | FailureClass::Unreachable { .. } => Verdict::Unavailable,
            FailureClass::Permanent => Verdict::Permanent,
            FailureClass::Fatal => Verdict::Fatal,
            FailureClass::LeaseLost => Verdict::LeaseLost,
        },
    }
}

fn mark(follow_up: &FollowUp) -> Option<String> {
    follow_up.task.detail.get("mark")?.as_str().map(str::to_owned)
}
