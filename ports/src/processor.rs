//! What a workman hands a task to, and what it hears back.
//!
//! A kind of task is a [`TaskHandler`] of its arguments, registered once. A workman does not know kinds: it asks the [`Registry`]
//! for a [`TaskProcessor`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{Envelope, ItemOutcome, Monotonic, QueueName, SpaceId, StoreAddress, Task, TaskArgs};
use tokio_util::sync::CancellationToken;

use crate::BoxError;
use crate::clock::Clock;
use crate::planted_bugs::{PlantedBug, planted};

/// Does the tasks of one kind: its state is what all of them share.
///
/// Running any task any number of times, in any order, gives the same end state.
#[async_trait]
pub trait TaskHandler<A: TaskArgs>: fmt::Debug + Send + Sync + 'static {
    /// Does one task. The future may be dropped at any await; what it had begun then counts for nothing.
    async fn handle(&self, task: A, attempt: &Attempt) -> Result<TaskOutcome, ProcessorError>;
}

/// Recognises tasks of its kind and makes one processor for each. [`Registry::register`] makes it of a [`TaskHandler`]; others
/// wrap one.
pub trait TaskProcessorFactory: fmt::Debug + Send + Sync + 'static {
    /// Whether a task is of its kind. Looks at the kind alone.
    fn recognises(&self, task: &Task) -> bool;

    /// The processor of one task.
    ///
    /// # Errors
    /// [`FailureClass::Permanent`] for a task that cannot be understood.
    fn processor(&self, task: Task) -> Result<Box<dyn TaskProcessor>, ProcessorError>;
}

/// Does one task, of any kind.
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

/// The kinds by which a workman knows what to do with a task; the first that recognises it is taken.
///
/// ```
/// use mill_model::{AccountId, ContentId, SpaceId, StoreAddress, TaskArgs, TaskKind};
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
///     fn space(&self) -> Option<&SpaceId> {
///         None
///     }
///     fn items(&self) -> &[ContentId] {
///         &[]
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
    /// Adds a kind behind those there are.
    #[must_use]
    pub fn register<A: TaskArgs>(self, handler: impl TaskHandler<A>) -> Self {
        self.with(Arc::new(HandlerFactory { handler: Arc::new(handler), kind: PhantomData }))
    }

    /// Adds a factory behind those there are.
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
    /// How often the queue has delivered it.
    pub receive_count: u32,
    /// Cancelled when the workman stops at once or the delivery's lease is lost.
    pub cancelled: CancellationToken,
    /// Until when the lease is known to hold.
    pub lease: DeliveryLease,
    /// What became of the task's item.
    pub outcome: ItemOutcomeNote,
}

/// What a processor notes of the item that its task is about, if it is about one. It is counted when the task is settled and
/// acknowledged, so once, and not at all when the attempt comes to nothing.
#[derive(Debug, Clone, Default)]
pub struct ItemOutcomeNote(Arc<OnceLock<ItemOutcome>>);

impl ItemOutcomeNote {
    /// Notes it, once it is so. A second note of the same attempt is not taken.
    pub fn note(&self, outcome: ItemOutcome) {
        let _ = self.0.set(outcome);
    }

    /// What was noted.
    pub fn get(&self) -> Option<ItemOutcome> {
        self.0.get().copied()
    }
}

impl Attempt {
    /// Whether this is the last execution before the task is dead-lettered.
    pub fn is_last(&self) -> bool {
        self.envelope.failures + 1 >= self.failures_max
    }

    /// Whether it is the one before the last, at which slow changes elsewhere are given time.
    pub fn is_penultimate(&self) -> bool {
        self.envelope.failures + 2 == self.failures_max
    }

    /// Asks whether a side effect may begin: called before each.
    ///
    /// # Errors
    /// [`FailureClass::LeaseLost`] when another workman may have the task by now, or the workman is stopping.
    pub fn may_act(&self) -> Result<(), ProcessorError> {
        if (self.cancelled.is_cancelled() || !self.lease.holds()) && !planted(PlantedBug::LostLeaseIgnored) {
            return Err(ProcessorError {
                class: FailureClass::LeaseLost,
                message: "the task's lease ended before its next side effect".into(),
                source: None,
            });
        }
        Ok(())
    }
}

/// Until when a delivery is surely hidden from others; extended by the heartbeat while the attempt runs.
#[derive(Debug, Clone)]
pub struct DeliveryLease {
    clock: Arc<dyn Clock>,
    deadline: Arc<std::sync::atomic::AtomicU64>,
    /// What else must last for the attempt to act: its permits at stores.
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

    /// From now on the attempt may act only while these last too. Said once, before the attempt begins.
    pub fn bind(&self, permits: Vec<Self>) {
        let _ = self.permits.set(permits);
    }

    /// Whether the deadline is still ahead, that of the delivery itself.
    pub fn is_ahead(&self) -> bool {
        self.clock.monotonic() < self.deadline()
    }

    /// Whether permits that it needs are over, and it is not.
    pub fn lacks_permits(&self) -> bool {
        self.is_ahead() && !self.has_permits()
    }

    fn has_permits(&self) -> bool {
        self.permits.get().is_none_or(|permits| permits.iter().all(Self::is_ahead))
    }

    /// Whether the attempt may act: the deadline is still ahead, and so are those of its permits.
    pub fn holds(&self) -> bool {
        self.is_ahead() && self.has_permits()
    }
}

/// What a processor answers; an error is the fourth answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutcome {
    /// The work is done, and durable. The follow-ups are sent before the task is acknowledged.
    Done {
        /// Tasks that follow from it.
        follow_ups: Vec<FollowUp>,
    },
    /// Not yet: the task comes again after a delay, perhaps changed. It has not failed.
    Snooze {
        /// How long to wait.
        delay: Duration,
        /// The task to come instead, such as one that carries a checkpoint.
        task: Option<Task>,
    },
    /// The task asks for nothing any more.
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

/// The fates of a task whose execution failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureClass {
    /// Counts as a failure; tried again until the failures reach their maximum.
    Retryable,
    /// Never counts; slows the store.
    Throttled {
        /// The store that asked.
        store: StoreAddress,
        /// How long to wait before the next call, if it said so.
        retry_after: Option<Duration>,
    },
    /// Never counts; pauses the store, until a person has acted.
    Unavailable {
        /// The store that cannot be used.
        store: StoreAddress,
    },
    /// Never counts; pauses the store, until its trouble has passed by itself.
    Unreachable {
        /// The store that does not answer.
        store: StoreAddress,
    },
    /// Dead-lettered at once: trying again cannot help.
    Permanent,
    /// Given back; the workman must stop.
    Fatal,
    /// Given up without any effect: another workman may have the task.
    LeaseLost,
}
