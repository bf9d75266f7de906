//! Processors: a workman gives a task to one and receives an outcome or an error.
//!
//! A kind of task is a [`TaskHandler`] of its arguments, registered once. A workman knows no kinds: it asks the
//! [`Registry`] for a [`TaskProcessor`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    Envelope, EventSubject, ItemEvent, ItemOutcome, Monotonic, QueueName, SpaceId, StoreAddress, Task, TaskArgs,
};
use tokio_util::sync::CancellationToken;

use crate::BoxError;
use crate::clock::Clock;
use crate::item_events::OutcomeDetail;

/// Runs the tasks of one kind. Its state is what these tasks share.
///
/// Running any task any number of times, in any order, gives the same end state.
#[async_trait]
pub trait TaskHandler<A: TaskArgs>: fmt::Debug + Send + Sync + 'static {
    /// Runs one task. The future may be dropped at any await; then the attempt counts as not made.
    async fn handle(&self, task: A, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError>;
}

/// Recognises tasks of its kind and makes a processor for each. [`Registry::register`] makes a factory of a
/// [`TaskHandler`]; other factories wrap one.
pub trait TaskProcessorFactory: fmt::Debug + Send + Sync + 'static {
    /// Whether a task is of this factory's kind. Only the kind is examined.
    fn recognises(&self, task: &Task) -> bool;

    /// The processor of one task.
    ///
    /// # Errors
    /// [`FailureClass::Permanent`] for a task that cannot be understood.
    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError>;
}

/// Runs one task of any kind.
#[async_trait]
pub trait TaskProcessor: Send {
    /// As [`TaskArgs::stores`].
    fn stores(&self) -> Vec<StoreAddress>;

    /// As [`TaskArgs::space`].
    fn space(&self) -> Option<SpaceId>;

    /// As [`TaskArgs::subject`].
    fn subject(&self) -> String;

    /// As [`TaskHandler::handle`].
    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError>;
}

/// The factories of all kinds of task that a workman can run. The first that recognises a task makes its processor.
///
/// ```
/// use mill_model::{AccountId, StoreAddress, TaskArgs, TaskKind};
/// use mill_ports::{Attempt, ProcessorError, Registry, TaskHandler, TaskOutcome};
///
/// /// Say a word.
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// struct GreetTask {
///     account: AccountId,
///     word: String,
/// }
///
/// impl TaskArgs for GreetTask {
///     const KIND: TaskKind = TaskKind::of("greet");
///
///     fn account(&self) -> &AccountId {
///         &self.account
///     }
///     fn subject(&self) -> String {
///         format!("{}/{}", self.account, self.word)
///     }
///     fn stores(&self) -> Vec<StoreAddress> {
///         Vec::new()
///     }
/// }
///
/// #[derive(Debug)]
/// struct Greeter;
///
/// #[async_trait::async_trait]
/// impl TaskHandler<GreetTask> for Greeter {
///     async fn handle(&self, task: GreetTask, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
///         attempt.may_act()?;
///         println!("{}", task.word);
///         Ok(TaskOutcome::done())
///     }
/// }
///
/// let registry = Registry::default().register(Greeter);
/// let task = GreetTask { account: "archive".parse()?, word: "hello".into() }.to_task()?;
/// assert_eq!(registry.processor(task)?.subject(), "archive/hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry(Vec<Arc<dyn TaskProcessorFactory>>);

impl Registry {
    /// Adds a kind after the existing ones.
    #[must_use]
    pub fn register<A: TaskArgs>(self, handler: impl TaskHandler<A>) -> Self {
        self.with(Arc::new(HandlerFactory { handler: Arc::new(handler), kind: PhantomData }))
    }

    /// Adds a factory after the existing ones.
    #[must_use]
    pub fn with(mut self, factory: Arc<dyn TaskProcessorFactory>) -> Self {
        self.0.push(factory);
        self
    }

    /// The same kinds, each wrapped.
    #[must_use]
    pub fn wrapped(self, wrap: impl Fn(Arc<dyn TaskProcessorFactory>) -> Arc<dyn TaskProcessorFactory>) -> Self {
        Self(self.0.into_iter().map(wrap).collect())
    }

    /// The processor for a task.
    ///
    /// # Errors
    /// [`FailureClass::Permanent`] when no factory recognises it, or the one that does cannot understand it.
    pub fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        match self.0.iter().find(|factory| factory.recognises(&task)) {
            Some(factory) => factory.processor(task),
            None => Err(ProcessorError {
                class: FailureClass::Permanent,
                message: format!("no processor is registered for tasks of kind `{}`", task.kind),
                source: None,
            }),
        }
    }
}

/// The factory of a handler.
#[derive(Debug)]
struct HandlerFactory<A> {
    handler: Arc<dyn TaskHandler<A>>,
    kind: PhantomData<fn(A)>,
}

impl<A: TaskArgs> TaskProcessorFactory for HandlerFactory<A> {
    fn recognises(&self, task: &Task) -> bool {
        task.kind == A::KIND
    }

    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError> {
        let task = A::from_task(&task).map_err(|error| ProcessorError {
            class: FailureClass::Permanent,
            message: "the task cannot be understood".into(),
            source: Some(error.into()),
        })?;
        Ok(Box::new(HandledTask { handler: self.handler.clone(), task }))
    }
}

/// A task and its handler.
struct HandledTask<A> {
    handler: Arc<dyn TaskHandler<A>>,
    task: A,
}

#[async_trait]
impl<A: TaskArgs> TaskProcessor for HandledTask<A> {
    fn stores(&self) -> Vec<StoreAddress> {
        self.task.stores()
    }

    fn space(&self) -> Option<SpaceId> {
        self.task.space().cloned()
    }

    fn subject(&self) -> String {
        self.task.subject()
    }

    async fn run(self: Box<Self>, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError> {
        let Self { handler, task } = *self;
        handler.handle(task, attempt).await
    }
}

/// One execution of a task, as its processor sees it.
#[derive(Debug)]
pub struct Attempt {
    /// The envelope as received: its failures and snoozes so far.
    pub envelope: Envelope,
    /// How many executions may fail before the task is dead-lettered.
    pub failures_max: u32,
    /// How often the queue has delivered the task.
    pub receive_count: u32,
    /// Cancelled when the workman stops at once or the delivery's lease is lost.
    pub cancelled: CancellationToken,
    /// The lease of the delivery.
    pub lease: DeliveryLease,
    /// What became of the task's item.
    pub outcome: ItemOutcomeNote,
}

/// The outcome of the item that a task is about, if it is about one. It is counted when the task is settled and
/// acknowledged: once, and not at all if the attempt fails.
#[derive(Debug, Clone, Default)]
pub struct ItemOutcomeNote(Arc<NotedOutcome>);

#[derive(Debug, Default)]
struct NotedOutcome {
    subject: OnceLock<Arc<EventSubject>>,
    outcome: OnceLock<(ItemOutcome, OutcomeDetail)>,
}

impl ItemOutcomeNote {
    /// Records the outcome once it is certain. A second one in the same attempt is ignored.
    pub fn note(&self, outcome: ItemOutcome) {
        self.note_with(outcome, OutcomeDetail::default());
    }

    /// The same with what else is known of it.
    pub fn note_with(&self, outcome: ItemOutcome, detail: OutcomeDetail) {
        let _ = self.0.outcome.set((outcome, detail));
    }

    /// Records what the task is about, for an event. Called before anything is done, where somebody listens.
    pub fn about(&self, subject: EventSubject) {
        let _ = self.0.subject.set(Arc::new(subject));
    }

    /// The recorded outcome.
    pub fn get(&self) -> Option<ItemOutcome> {
        self.0.outcome.get().map(|(outcome, _)| *outcome)
    }

    /// The event of the task's item, which ended as `outcome`. `None` if nobody listens, or the task is about no item.
    pub fn event(&self, outcome: ItemOutcome) -> Option<ItemEvent> {
        let event = ItemEvent::new(self.0.subject.get()?.clone(), outcome.into());
        let noted = self.0.outcome.get().filter(|(noted, _)| *noted == outcome);
        let OutcomeDetail { part, bytes, reason } = noted.map(|(_, detail)| detail.clone()).unwrap_or_default();
        Some(ItemEvent { part, bytes, reason, ..event })
    }
}

impl Attempt {
    /// Whether this is the last execution before the task is dead-lettered.
    pub fn is_last(&self) -> bool {
        self.envelope.failures + 1 >= self.failures_max
    }

    /// Whether this is the execution before the last one, which waits for slow changes elsewhere.
    pub fn is_penultimate(&self) -> bool {
        self.envelope.failures + 2 == self.failures_max
    }

    /// Checks whether a side effect may begin. Call it before each.
    ///
    /// # Errors
    /// [`FailureClass::LeaseLost`] when another workman may have the task by now, or the workman is stopping.
    pub fn may_act(&self) -> Result<(), ProcessorError> {
        if (self.cancelled.is_cancelled() || !self.lease.holds()) && !is_planted(PlantedBug::LostLeaseIgnored) {
            return Err(ProcessorError {
                class: FailureClass::LeaseLost,
                message: "the task's lease ended before its next side effect".into(),
                source: None,
            });
        }
        Ok(())
    }
}

/// The time until which a delivery is certainly hidden from others. The heartbeat extends it while the attempt runs.
#[derive(Debug, Clone)]
pub struct DeliveryLease {
    clock: Arc<dyn Clock>,
    deadline: Arc<std::sync::atomic::AtomicU64>,
    /// The leases of the attempt's permits at stores: it may act only while they hold too.
    permits: Arc<OnceLock<Vec<DeliveryLease>>>,
}

impl DeliveryLease {
    /// A lease until `deadline`.
    pub fn until(clock: Arc<dyn Clock>, deadline: Monotonic) -> Self {
        let lease = Self { clock, deadline: Arc::default(), permits: Arc::default() };
        lease.extend(deadline);
        lease
    }

    /// Moves the deadline.
    pub fn extend(&self, deadline: Monotonic) {
        let nanos = u64::try_from(deadline.since_origin().as_nanos()).unwrap_or(u64::MAX);
        self.deadline.store(nanos, std::sync::atomic::Ordering::Release);
    }

    /// The deadline.
    pub fn deadline(&self) -> Monotonic {
        Monotonic::from_origin(Duration::from_nanos(self.deadline.load(std::sync::atomic::Ordering::Acquire)))
    }

    /// Makes the attempt depend on the leases of its permits too. Called once, before the attempt begins.
    pub fn bind(&self, permits: Vec<Self>) {
        let _ = self.permits.set(permits);
    }

    /// Whether the delivery's own deadline is still ahead.
    pub fn is_ahead(&self) -> bool {
        self.clock.monotonic() < self.deadline()
    }

    /// Whether permits that the attempt needs have lapsed while the delivery's lease still holds.
    pub fn lacks_permits(&self) -> bool {
        self.is_ahead() && !self.has_permits()
    }

    fn has_permits(&self) -> bool {
        self.permits.get().is_none_or(|permits| permits.iter().all(Self::is_ahead))
    }

    /// Whether the attempt may act: its deadline and those of its permits are still ahead.
    pub fn holds(&self) -> bool {
        self.is_ahead() && self.has_permits()
    }
}

/// What a processor returns; an error is the fourth possibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutcome {
    /// The work is done and durable. The follow-ups are sent before the task is acknowledged.
    Done {
        /// Tasks that follow from it.
        follow_ups: Vec<FollowUp>,
    },
    /// The task must wait: it is delivered again after a delay, perhaps changed. It has not failed.
    Snooze {
        /// How long to wait.
        delay: Duration,
        /// The task to send instead, such as one with a checkpoint.
        task: Option<Task>,
    },
    /// There is nothing left to do for the task.
    Discard {
        /// Why, for the log.
        reason: String,
    },
}

impl TaskOutcome {
    /// Done, and nothing follows.
    pub fn done() -> Self {
        Self::Done { follow_ups: Vec::new() }
    }
}

/// A task that follows from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUp {
    /// Where to send it.
    pub queue: QueueName,
    /// The task.
    pub task: Task,
    /// How long it stays hidden first.
    pub delay: Duration,
}

impl FollowUp {
    /// A task that may run at once.
    pub fn now(queue: QueueName, task: Task) -> Self {
        Self { queue, task, delay: Duration::ZERO }
    }
}

/// An execution that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProcessorError {
    /// What is to become of the task.
    pub class: FailureClass,
    /// What was being done.
    pub message: String,
    /// What went wrong in it.
    #[source]
    pub source: Option<BoxError>,
}

/// What becomes of a task whose execution failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureClass {
    /// Counts as a failure. The task is retried until the failures reach their maximum.
    Retryable,
    /// Does not count as a failure; slows down work on the store.
    Throttled {
        /// The store that throttles.
        store: StoreAddress,
        /// How long to wait before the next call, if the store says so.
        retry_after: Option<Duration>,
    },
    /// Does not count as a failure; pauses the store until a person has acted.
    Unavailable {
        /// The store that cannot be used.
        store: StoreAddress,
    },
    /// Does not count as a failure; pauses the store until it answers again.
    Unreachable {
        /// The store that does not answer.
        store: StoreAddress,
    },
    /// The task is dead-lettered at once: a retry cannot help.
    Permanent,
    /// The task is released, and the workman must stop.
    Fatal,
    /// The attempt ends without any effect: another workman may have the task.
    LeaseLost,
}
