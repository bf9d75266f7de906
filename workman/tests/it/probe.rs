//! A kind of task for tests: the test decides what it does. One file, and one registration in `fixture`.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use mill_model::{AccountId, Monotonic, StoreAddress, StoreId, Task, TaskArgs, TaskKind};
use mill_ports::{Attempt, Clock, FailureClass, ProcessorError, TaskHandler, TaskOutcome};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) type Answer = Result<TaskOutcome, ProcessorError>;
type Act = Box<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// One execution, as the test's closure sees it.
pub(crate) struct Call {
    pub(crate) item: String,
    pub(crate) attempt: Attempt,
}

/// The beginnings and ends, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Begun(String),
    Ended(String),
    /// The future was dropped before it ended.
    Dropped(String),
}

pub(crate) struct Probe {
    act: Act,
    clock: Arc<dyn Clock>,
    events: Mutex<Vec<(Monotonic, Event)>>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    pub(crate) fn new<F>(clock: Arc<dyn Clock>, act: impl Fn(Call) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Arc::new(Self { act: Box::new(move |call| Box::pin(act(call))), clock, events: Mutex::default() })
    }

    fn note(&self, event: Event) {
        self.events.lock().push((self.clock.monotonic(), event));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn begun(&self) -> Vec<String> {
        let begun = |event| if let Event::Begun(item) = event { Some(item) } else { None };
        self.events().into_iter().filter_map(begun).collect()
    }

    pub(crate) fn ended(&self) -> Vec<String> {
        let ended = |event| if let Event::Ended(item) = event { Some(item) } else { None };
        self.events().into_iter().filter_map(ended).collect()
    }

    /// When executions of an item began, in whole seconds since the start.
    pub(crate) fn begun_at(&self, item: &str) -> Vec<u64> {
        let events = self.events.lock();
        let of = events.iter().filter(|(_, event)| *event == Event::Begun(item.to_owned()));
        of.map(|(at, _)| at.since_origin().as_secs()).collect()
    }
}

/// The subject of a test's task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProbeTask {
    account: AccountId,
    item: String,
}

impl TaskArgs for ProbeTask {
    const KIND: TaskKind = TaskKind::of("probe");

    fn account(&self) -> &AccountId {
        &self.account
    }

    fn subject(&self) -> String {
        format!("acct/{}", self.item)
    }

    fn stores(&self) -> Vec<StoreAddress> {
        vec![store_of(self.account.as_str())]
    }
}

pub(crate) fn task(item: &str) -> Task {
    // The part before a slash, if there is one, is the account.
    let account = item.split_once('/').map_or("acct", |(account, _)| account);
    ProbeTask { account: AccountId::new(account).unwrap(), item: item.into() }.to_task().unwrap()
}

pub(crate) fn store() -> StoreAddress {
    store_of("acct")
}

/// The store that the tasks of an account use.
pub(crate) fn store_of(account: &str) -> StoreAddress {
    StoreAddress { account: AccountId::new(account).unwrap(), store: StoreId::new("1").unwrap() }
}

pub(crate) fn failed(class: FailureClass, message: &str) -> ProcessorError {
    ProcessorError { class, message: message.into(), source: Some("as the test wants".into()) }
}

/// Runs probe tasks: all that a new kind needs, besides its arguments and its registration.
#[derive(Debug)]
pub(crate) struct ProbeHandler(pub(crate) Arc<Probe>);

struct Unended<'a>(&'a Probe, Option<String>);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if let Some(item) = self.1.take() {
            self.0.note(Event::Dropped(item));
        }
    }
}

#[async_trait]
impl TaskHandler<ProbeTask> for ProbeHandler {
    async fn handle(&self, ProbeTask { item, .. }: ProbeTask, attempt: &Attempt) -> Answer {
        let attempt = Attempt {
            envelope: attempt.envelope.clone(),
            failures_max: attempt.failures_max,
            receive_count: attempt.receive_count,
            cancelled: attempt.cancelled.clone(),
            lease: attempt.lease.clone(),
            outcome: attempt.outcome.clone(),
        };
        self.0.note(Event::Begun(item.clone()));
        let mut unended = Unended(&self.0, Some(item.clone()));
        let answer = (self.0.act)(Call { item: item.clone(), attempt }).await;
        unended.1 = None;
        self.0.note(Event::Ended(item));
        answer
    }
}
