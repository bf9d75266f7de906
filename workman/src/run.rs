//! The loop: polls queues, starts attempts, and stops.

mod arrivals;
mod receiving;
mod shared_permits;
mod shutdown;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mill_hooks::{PlantedBug, is_planted, report_slots};
use mill_model::{AccountId, Monotonic, QueueName, StoreAddress, Task};
use mill_ports::{Clock, QueueError, QueueErrorKind, Registry, Rng, Statistics, StoreCaps, TaskQueue, error_chain};
use mill_records::permits::PermitRepository;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use self::arrivals::LookupResult;
use self::receiving::{ExclusionState, ReceiveResult};
use crate::account_counter::{AccountCounter, write_counts};
use crate::admission::{Admission, AdmissionSettings};
use crate::completer::{ROUND_MAX, complete_all};
use crate::heartbeat::Heartbeat;
use crate::in_flight::InFlightTasks;
use crate::permits::{PermitKeeper, PermitResult};
use crate::poller::{PollRequest, PollSettings, PollStep, Poller, ReceiveSummary, share_of};
use crate::settings::{Queues, StopSignal, WorkmanDeps, WorkmanEndReason, WorkmanError, WorkmanSettings};
use crate::stages::{DecodedTask, ReceivedTask, SettledTask};
use crate::store_backoff::StoreBackoff;
use crate::warnings::Warnings;

/// Receives tasks from queues and has them executed, until it is stopped.
#[derive(Debug)]
pub struct Workman {
    shared: Arc<WorkmanShared>,
    /// Ends the heartbeat when the workman is gone.
    over: DropGuard,
}

/// What all parts of one workman share.
#[derive(Debug)]
pub(crate) struct WorkmanShared {
    pub(crate) settings: WorkmanSettings,
    /// The queues it receives from, highest first.
    pub(crate) input_queues: Vec<Arc<dyn TaskQueue>>,
    /// The queues it sends to.
    pub(crate) output_queues: Queues,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Rng>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) in_flight: Arc<InFlightTasks>,
    pub(crate) backoff: StoreBackoff,
    pub(crate) warnings: Warnings,
    pub(crate) caps: Arc<dyn StoreCaps>,
    pub(crate) permits: Option<PermitRepository>,
    pub(crate) account_counter: Option<AccountCounter>,
    /// Slots freed since the loop last looked, each with the stores that its task used.
    freed: Mutex<Vec<FreedSlot>>,
    /// When the tasks sent since the loop last looked can be received.
    expected: Mutex<BTreeSet<Monotonic>>,
    woken: Notify,
    /// Why the workman ends by itself; the first reason stays.
    end: Mutex<Option<Result<WorkmanEndReason, WorkmanError>>>,
    ending: CancellationToken,
}

impl WorkmanShared {
    /// Notes that tasks were sent, and when they can be received.
    pub(crate) fn expect(&self, at: BTreeSet<Monotonic>) {
        self.expected.lock().extend(at);
        self.woken.notify_one();
    }

    /// Whether the workman ends by itself.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Ends the workman gently. The first reason stays.
    pub(crate) fn end(&self, why: Result<WorkmanEndReason, WorkmanError>) {
        self.end.lock().get_or_insert(why);
        self.ending.cancel();
    }
}

/// The slot of an attempt, and its permits at its stores. They are free once this is dropped, however the attempt ends.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    shared: Arc<WorkmanShared>,
    queue_index: usize,
    account: AccountId,
    stores: Vec<StoreAddress>,
    began: Monotonic,
}

/// A slot that is free again.
#[derive(Debug)]
struct FreedSlot {
    queue_index: usize,
    account: AccountId,
    stores: Vec<StoreAddress>,
    took: Duration,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let took = self.shared.clock.monotonic().since(self.began);
        let mut stores = std::mem::take(&mut self.stores);
        if is_planted(PlantedBug::PermitNeverGivenBack) {
            stores.clear();
        }
        let freed = FreedSlot { queue_index: self.queue_index, account: self.account.clone(), stores, took };
        self.shared.freed.lock().push(freed);
    }
}

/// What a task is about, if a processor can tell.
pub(crate) fn subject_of(registry: &Registry, task: &Task) -> Option<String> {
    let subject = || registry.processor(task.clone()).ok().map(|processor| processor.subject());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(subject)).ok().flatten()
}

impl Workman {
    /// A workman and its heartbeat; both are to be run at the same time.
    pub fn new(deps: WorkmanDeps, settings: WorkmanSettings) -> (Self, Heartbeat) {
        let WorkmanDeps {
            queues: input_queues,
            mut all_queues,
            dead_letter,
            registry,
            clock,
            chance,
            statistics,
            caps,
            permits,
            counts,
        } = deps;
        for queue in &input_queues {
            all_queues.entry(queue.name()).or_insert_with(|| queue.clone());
        }
        all_queues.insert(QueueName::DeadLetter, dead_letter);
        let over = CancellationToken::new();
        let shared = Arc::new(WorkmanShared {
            caps,
            permits,
            account_counter: counts.map(AccountCounter::new),
            freed: Mutex::default(),
            in_flight: Arc::new(InFlightTasks::new(clock.clone())),
            input_queues,
            output_queues: all_queues,
            registry,
            clock,
            chance,
            statistics,
            backoff: StoreBackoff::default(),
            warnings: Warnings::default(),
            expected: Mutex::default(),
            woken: Notify::new(),
            end: Mutex::default(),
            ending: CancellationToken::new(),
            settings,
        });
        let heartbeat = Heartbeat {
            in_flight: shared.in_flight.clone(),
            queues: shared.input_queues.clone(),
            clock: shared.clock.clone(),
            visibility: shared.settings.visibility,
            over: over.clone(),
            warnings: shared.warnings.clone(),
        };
        (Self { shared, over: over.drop_guard() }, heartbeat)
    }

    /// Works until it is stopped or cannot go on. Must be polled within a tokio runtime, whose threads it uses.
    ///
    /// Dropping the future is like a crash: tasks in flight come again after their visibility timeout.
    ///
    /// # Errors
    /// [`WorkmanError`] when a person must act. Failures that may pass are waited out.
    pub async fn run(self, stop: StopSignal) -> Result<WorkmanEndReason, WorkmanError> {
        if self.shared.input_queues.is_empty() {
            return Err(WorkmanError::NoQueue);
        }
        let shared = self.shared.clone();
        let settings = &shared.settings;
        info!(name = settings.name, workers = settings.workers, "the workman begins");
        let mut running = RunLoop::new(shared.clone());
        running.work(&stop).await;
        running.wind_down(&stop).await;
        drop(self.over);
        let end = shared.end.lock().take();
        info!(name = settings.name, "the workman ends");
        end.unwrap_or(Ok(WorkmanEndReason::Stopped))
    }
}

/// Everything that runs.
struct RunLoop {
    shared: Arc<WorkmanShared>,
    poller: Poller,
    admission: Admission<DecodedTask>,
    attempts: JoinSet<()>,
    /// Lookups of caps that are under way.
    lookups: JoinSet<LookupResult>,
    /// Whether one of these lookups is for the waiting tasks.
    looks_up_waiting: bool,
    /// When it was last looked up whether there are several accounts, and whether that is known yet.
    accounts_looked_up_at: Option<Monotonic>,
    accounts_known: bool,
    /// Present where workmen share caps.
    keeper: Option<PermitKeeper>,
    /// Calls to the repository of permits that are under way.
    permit_calls: JoinSet<PermitResult>,
    /// The accounts that the receives under way exclude.
    exclusion: ExclusionState,
    /// When the waiting tasks are looked at next.
    tick: Monotonic,
    /// The receive under way. It is not dropped before it has answered, or its tasks would stay hidden for nothing.
    receiving: Option<(PollRequest, BoxFuture<'static, ReceiveResult>)>,
    /// A long receive beside it, for slots that are reserved for higher queues.
    listening: Option<(PollRequest, BoxFuture<'static, ReceiveResult>)>,
    settled: mpsc::Sender<SettledTask>,
    completer: JoinSet<()>,
    /// Writes the counts of accounts until its token is cancelled.
    account_counter: (JoinSet<()>, CancellationToken),
}

impl RunLoop {
    fn new(shared: Arc<WorkmanShared>) -> Self {
        let settings = &shared.settings;
        let workers = settings.workers.max(1);
        let reserved = share_of(workers, settings.reserved_low);
        let poller = Poller::new(
            PollSettings {
                workers,
                reserved,
                reserved_high: Poller::reserved_high(
                    workers,
                    shared.input_queues.len(),
                    settings.reserved_high,
                    reserved,
                ),
                idle_backoff: settings.idle_backoff.clone(),
                poll_wait: settings.poll_wait,
                batch_linger: settings.batch_linger,
                recheck: settings.recheck,
            },
            shared.input_queues.iter().map(|queue| queue.limits().batch_max.get()),
        );
        let (settled, to_complete) = mpsc::channel(ROUND_MAX);
        let mut completer = JoinSet::new();
        completer.spawn(complete_all(shared.clone(), to_complete));
        let (mut account_counter, counted) = (JoinSet::new(), CancellationToken::new());
        if shared.account_counter.is_some() {
            account_counter.spawn(write_counts(shared.clone(), counted.clone()));
        }
        Self {
            admission: Admission::new(AdmissionSettings {
                queues: shared.input_queues.len(),
                workers,
                alone: shared.permits.is_none(),
            }),
            accounts_looked_up_at: None,
            accounts_known: false,
            looks_up_waiting: false,
            keeper: shared.permits.as_ref().map(|repository| {
                PermitKeeper::new(shared.settings.name.clone(), repository.timeout, shared.clock.clone())
            }),
            permit_calls: JoinSet::new(),
            exclusion: ExclusionState::new(shared.input_queues.len()),
            tick: shared.clock.monotonic(),
            shared,
            poller,
            attempts: JoinSet::new(),
            lookups: JoinSet::new(),
            receiving: None,
            listening: None,
            settled,
            completer,
            account_counter: (account_counter, counted),
        }
    }

    async fn work(&mut self, stop: &StopSignal) {
        let shared = self.shared.clone();
        loop {
            self.take_events();
            // The slots of a short receive are held for its tasks; those of a long one are free meanwhile.
            if self.receiving.as_ref().is_none_or(|(request, _)| !request.wait.is_zero()) {
                self.begin_ready();
            }
            let now = shared.clock.monotonic();
            let tick = self.tick_if_due(now);
            self.wake_if_exclusions_end(now);
            self.look_up_accounts(now);
            self.keep_permits();
            let mut rest = None;
            // Before it is known whether there are several accounts, one of them could take all slots.
            if self.receiving.is_none() && self.accounts_known {
                let busy = !shared.in_flight.is_empty();
                let mut next = self.poller.next(now, busy);
                if let PollStep::Listen(request) = next {
                    self.listening = Some((request, self.receive(&request)));
                    next = self.poller.next(now, busy);
                }
                match next {
                    PollStep::Receive(request) => self.receiving = Some((request, self.receive(&request))),
                    PollStep::Wait { until } => rest = Some(until.since(now)),
                    // There is at most one long receive.
                    PollStep::Full | PollStep::Listen(_) => {}
                }
            }
            report_slots(&shared.settings.name, self.begun());
            tokio::select! {
                biased;
                () = stop.immediate.cancelled() => break,
                () = stop.gentle.cancelled() => break,
                () = shared.ending.cancelled() => break,
                Some(joined) = self.attempts.join_next() => note(joined),
                Some(lookup) = self.lookups.join_next() => self.take_lookup(lookup),
                Some(result) = self.permit_calls.join_next() => self.take_permit_result(result),
                (request, result) = finished(&mut self.receiving) => self.arrive(&request, result),
                (request, result) = finished(&mut self.listening) => self.arrive(&request, result),
                () = sleep_or_wait(shared.clock.as_ref(), rest) => {}
                () = sleep_or_wait(shared.clock.as_ref(), tick) => {}
                () = shared.woken.notified() => {}
            }
        }
        report_slots(&shared.settings.name, 0);
    }

    /// Notes ended attempts, freed slots and sent tasks.
    fn take_events(&mut self) {
        while let Some(joined) = self.attempts.try_join_next() {
            note(joined);
        }
        let freed = std::mem::take(&mut *self.shared.freed.lock());
        for FreedSlot { queue_index, account, stores, took } in freed {
            self.poller.note_freed(queue_index);
            self.admission.note_ended(&account, &stores, took, self.shared.clock.monotonic());
        }
        let expected = std::mem::take(&mut *self.shared.expected.lock());
        for at in expected {
            self.poller.expect_task(at);
        }
    }

    fn visibility(&self, queue_index: usize) -> Duration {
        self.shared.settings.visibility.min(self.shared.input_queues[queue_index].limits().visibility_max)
    }

    /// Keeps the leases of all received tasks from now on, and reports the receives to the poller.
    fn register_received(&mut self, request: &PollRequest, result: ReceiveResult) -> Vec<ReceivedTask> {
        let visibility = self.visibility(request.queue_index);
        let (mut tasks, mut failed) = (Vec::new(), false);
        let ReceiveResult { receives, excluded_any, woken } = result;
        for receive in receives {
            match receive {
                Ok(deliveries) => tasks.extend(deliveries.into_iter().map(|delivery| {
                    let guard = self.shared.in_flight.register(request.queue_index, &delivery, visibility);
                    ReceivedTask { queue_index: request.queue_index, delivery, guard }
                })),
                Err(error) => {
                    failed = true;
                    self.report_failed_receive(error);
                }
            }
        }
        let received = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let summary = ReceiveSummary { received, failed, excluded_any, woken };
        self.poller.note_received(request, summary, self.shared.clock.monotonic());
        tasks
    }

    fn report_failed_receive(&self, error: QueueError) {
        if matches!(error.kind, QueueErrorKind::Denied | QueueErrorKind::QueueMissing) {
            error!(error = error_chain(&error), "no tasks can be taken from a queue");
            self.shared.end(Err(WorkmanError::Queue { queue: error.queue, source: error }));
        } else if let Some(suppressed) = self.shared.warnings.due("receive", self.shared.clock.monotonic()) {
            warn!(error = error_chain(&error), suppressed, "no tasks could be taken from a queue for now");
        }
    }
}

async fn finished(
    receiving: &mut Option<(PollRequest, BoxFuture<'static, ReceiveResult>)>,
) -> (PollRequest, ReceiveResult) {
    let Some((request, receive)) = receiving else { return std::future::pending().await };
    let (request, result) = (*request, receive.await);
    *receiving = None;
    (request, result)
}

async fn sleep_or_wait(clock: &dyn Clock, rest: Option<Duration>) {
    match rest {
        Some(rest) => clock.sleep(rest).await,
        None => std::future::pending().await,
    }
}

/// Logs a panic of the workman itself: a processor's panic is caught within the attempt.
fn note(joined: Result<(), JoinError>) {
    if let Err(error) = joined {
        error!(%error, "an attempt broke down; its task will come again");
    }
}
