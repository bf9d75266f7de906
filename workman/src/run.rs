//! The loop: asks queues, starts attempts, and stops.

mod arrivals;
mod receiving;
mod shared_permits;
mod shutdown;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use mill_model::{AccountId, Monotonic, QueueName, StoreAddress, Task};
use mill_ports::{
    Clock, PlantedBug, QueueError, QueueErrorKind, Registry, Rng, Statistics, StoreCaps, TaskQueue, error_chain,
    planted, tell_slots,
};
use mill_records::permits::PermitRepository;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use self::arrivals::LookupResult;
use self::receiving::{ExclusionState, ReceiveResult};
use crate::account_counter::{AccountCounter, keep_counts};
use crate::admission::{Admission, AdmissionSettings};
use crate::completer::{ROUND_MAX, settle_all};
use crate::heartbeat::Heartbeat;
use crate::in_flight::InFlightTasks;
use crate::permits::{PermitKeeper, PermitResult};
use crate::poller::{PollSettings, PollStep, Poller, ReceiveRequest, ReceiveSummary, slots};
use crate::settings::{Queues, StopSignal, WorkmanDeps, WorkmanEndReason, WorkmanError, WorkmanSettings};
use crate::stages::{DecodedTask, ReceivedTask, SettledTask};
use crate::store_backoff::StoreBackoff;
use crate::warnings::Warnings;

/// Takes tasks from queues and has them executed, until it is stopped.
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
    /// The queues it takes from, highest first.
    pub(crate) lanes: Vec<Arc<dyn TaskQueue>>,
    /// The queues it sends to.
    pub(crate) queues: Queues,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Rng>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) in_flight: Arc<InFlightTasks>,
    pub(crate) pauses: StoreBackoff,
    pub(crate) warnings: Warnings,
    pub(crate) caps: Arc<dyn StoreCaps>,
    pub(crate) permits: Option<PermitRepository>,
    pub(crate) counting: Option<AccountCounter>,
    /// Slots freed since the loop last looked, each with what was taken of stores.
    freed: Mutex<Vec<FreedSlot>>,
    /// When the tasks sent since the loop last looked can be received.
    expected: Mutex<BTreeSet<Monotonic>>,
    woken: Notify,
    /// Why it ends by itself; the first reason stays.
    end: Mutex<Option<Result<WorkmanEndReason, WorkmanError>>>,
    ending: CancellationToken,
}

impl WorkmanShared {
    /// Notes that tasks were sent that can be received at these times.
    pub(crate) fn expect(&self, at: BTreeSet<Monotonic>) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).extend(at);
        self.woken.notify_one();
    }

    /// Whether it ends by itself.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Ends the workman gently.
    pub(crate) fn end(&self, why: Result<WorkmanEndReason, WorkmanError>) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.ending.cancel();
    }
}

/// A slot that an attempt takes up, and its permits at its stores, until it is dropped, whatever becomes of the attempt.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    shared: Arc<WorkmanShared>,
    lane: usize,
    account: AccountId,
    stores: Vec<StoreAddress>,
    began: Monotonic,
}

/// A slot that is free again.
#[derive(Debug)]
struct FreedSlot {
    lane: usize,
    account: AccountId,
    stores: Vec<StoreAddress>,
    took: Duration,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let took = self.shared.clock.monotonic().since(self.began);
        let mut stores = std::mem::take(&mut self.stores);
        if planted(PlantedBug::PermitNeverGivenBack) {
            stores.clear();
        }
        let freed = FreedSlot { lane: self.lane, account: self.account.clone(), stores, took };
        self.shared.freed.lock().unwrap_or_else(PoisonError::into_inner).push(freed);
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
            queues: lanes,
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
        for lane in &lanes {
            all_queues.entry(lane.name()).or_insert_with(|| lane.clone());
        }
        all_queues.insert(QueueName::DeadLetter, dead_letter);
        let over = CancellationToken::new();
        let shared = Arc::new(WorkmanShared {
            caps,
            permits,
            counting: counts.map(AccountCounter::new),
            freed: Mutex::default(),
            in_flight: Arc::new(InFlightTasks::new(clock.clone())),
            lanes,
            queues: all_queues,
            registry,
            clock,
            chance,
            statistics,
            pauses: StoreBackoff::default(),
            warnings: Warnings::default(),
            expected: Mutex::default(),
            woken: Notify::new(),
            end: Mutex::default(),
            ending: CancellationToken::new(),
            settings,
        });
        let heartbeat = Heartbeat {
            in_flight: shared.in_flight.clone(),
            queues: shared.lanes.clone(),
            clock: shared.clock.clone(),
            visibility: shared.settings.visibility,
            over: over.clone(),
            warnings: shared.warnings.clone(),
        };
        (Self { shared, over: over.drop_guard() }, heartbeat)
    }

    /// Works until it is stopped or cannot go on. Must be polled within a tokio runtime, whose threads it uses.
    ///
    /// Dropping the future is like a crash: what is in hand comes again after its visibility timeout.
    ///
    /// # Errors
    /// [`WorkmanError`] when a person must act. Trouble that may pass is waited out.
    pub async fn run(self, stop: StopSignal) -> Result<WorkmanEndReason, WorkmanError> {
        if self.shared.lanes.is_empty() {
            return Err(WorkmanError::NoQueue);
        }
        let shared = self.shared.clone();
        let settings = &shared.settings;
        info!(name = settings.name, workers = settings.workers, "the workman begins");
        let mut running = RunLoop::new(shared.clone());
        running.work(&stop).await;
        running.wind_down(&stop).await;
        drop(self.over);
        let end = shared.end.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    /// Questions for caps that are under way.
    asked: JoinSet<LookupResult>,
    /// Whether one of them is for those that wait.
    asked_for_those_waiting: bool,
    /// When it was asked last whether there are several accounts, and whether that was ever answered.
    accounts_asked: Option<Monotonic>,
    accounts_known: bool,
    /// Where workmen share caps.
    keeper: Option<PermitKeeper>,
    /// Questions to the book of permits that are under way.
    permit_calls: JoinSet<PermitResult>,
    /// Who is passed over by what is asked.
    passing: ExclusionState,
    /// When those that wait are looked at next.
    tick: Monotonic,
    /// The receive under way. Not dropped before it has answered, or what it takes would stay hidden for nothing.
    asking: Option<(ReceiveRequest, BoxFuture<'static, ReceiveResult>)>,
    /// A long one beside it, for slots that are reserved for higher queues.
    listening: Option<(ReceiveRequest, BoxFuture<'static, ReceiveResult>)>,
    decided: mpsc::Sender<SettledTask>,
    settler: JoinSet<()>,
    /// Writes down what is counted, until its token says that it is over.
    counting: (JoinSet<()>, CancellationToken),
}

impl RunLoop {
    fn new(shared: Arc<WorkmanShared>) -> Self {
        let settings = &shared.settings;
        let workers = settings.workers.max(1);
        let reserved = slots(workers, settings.reserved_low);
        let poller = Poller::new(
            PollSettings {
                workers,
                reserved,
                reserved_high: Poller::reserved_high(workers, shared.lanes.len(), settings.reserved_high, reserved),
                idle_backoff: settings.idle_backoff.clone(),
                poll_wait: settings.poll_wait,
                linger: settings.linger,
                recheck: settings.recheck,
            },
            shared.lanes.iter().map(|queue| queue.limits().batch_max.get()),
        );
        let (decided, to_settle) = mpsc::channel(ROUND_MAX);
        let mut settler = JoinSet::new();
        settler.spawn(settle_all(shared.clone(), to_settle));
        let (mut counting, counted) = (JoinSet::new(), CancellationToken::new());
        if shared.counting.is_some() {
            counting.spawn(keep_counts(shared.clone(), counted.clone()));
        }
        Self {
            admission: Admission::new(AdmissionSettings {
                queues: shared.lanes.len(),
                workers,
                alone: shared.permits.is_none(),
            }),
            accounts_asked: None,
            accounts_known: false,
            asked_for_those_waiting: false,
            keeper: shared
                .permits
                .as_ref()
                .map(|book| PermitKeeper::new(shared.settings.name.clone(), book.timeout, shared.clock.clone())),
            permit_calls: JoinSet::new(),
            passing: ExclusionState::new(shared.lanes.len()),
            tick: shared.clock.monotonic(),
            shared,
            poller,
            attempts: JoinSet::new(),
            asked: JoinSet::new(),
            asking: None,
            listening: None,
            decided,
            settler,
            counting: (counting, counted),
        }
    }

    async fn work(&mut self, stop: &StopSignal) {
        let shared = self.shared.clone();
        loop {
            self.look();
            // A short receive is to fill the slots that it was asked for; while the queues are listened to, they are free.
            if self.asking.as_ref().is_none_or(|(ask, _)| !ask.wait.is_zero()) {
                self.begin_those_ready();
            }
            let now = shared.clock.monotonic();
            let tick = self.tick_if_due(now);
            self.wake_if_others_are_passed_over(now);
            self.ask_for_accounts(now);
            self.keep_permits();
            let mut rest = None;
            // Before it is known whether there are others, one account could take all slots.
            if self.asking.is_none() && self.accounts_known {
                let busy = !shared.in_flight.is_empty();
                let mut next = self.poller.next(now, busy);
                if let PollStep::Listen(ask) = next {
                    self.listening = Some((ask, self.ask(&ask)));
                    next = self.poller.next(now, busy);
                }
                match next {
                    PollStep::Receive(ask) => self.asking = Some((ask, self.ask(&ask))),
                    PollStep::Wait { until } => rest = Some(until.since(now)),
                    // There is one at most.
                    PollStep::Full | PollStep::Listen(_) => {}
                }
            }
            tell_slots(&shared.settings.name, self.begun());
            tokio::select! {
                biased;
                () = stop.immediate.cancelled() => break,
                () = stop.gentle.cancelled() => break,
                () = shared.ending.cancelled() => break,
                Some(joined) = self.attempts.join_next() => note(joined),
                Some(news) = self.asked.join_next() => self.learn(news),
                Some(answer) = self.permit_calls.join_next() => self.take_permits(answer),
                (ask, received) = answered(&mut self.asking) => self.arrive(&ask, received),
                (ask, received) = answered(&mut self.listening) => self.arrive(&ask, received),
                () = rested(shared.clock.as_ref(), rest) => {}
                () = rested(shared.clock.as_ref(), tick) => {}
                () = shared.woken.notified() => {}
            }
        }
        tell_slots(&shared.settings.name, 0);
    }

    /// Takes in what happened meanwhile.
    fn look(&mut self) {
        while let Some(joined) = self.attempts.try_join_next() {
            note(joined);
        }
        let freed = std::mem::take(&mut *self.shared.freed.lock().unwrap_or_else(PoisonError::into_inner));
        for FreedSlot { lane, account, stores, took } in freed {
            self.poller.freed(lane);
            self.admission.left(&account, &stores, took, self.shared.clock.monotonic());
        }
        let expected = std::mem::take(&mut *self.shared.expected.lock().unwrap_or_else(PoisonError::into_inner));
        for at in expected {
            self.poller.expect(at);
        }
    }

    fn visibility(&self, lane: usize) -> Duration {
        self.shared.settings.visibility.min(self.shared.lanes[lane].limits().visibility_max)
    }

    /// Keeps the leases of what was received, and tells the poller.
    fn taken(&mut self, ask: &ReceiveRequest, received: ReceiveResult) -> Vec<ReceivedTask> {
        let visibility = self.visibility(ask.lane);
        let (mut taken, mut failed) = (Vec::new(), false);
        let ReceiveResult { answers, passed_over, woken } = received;
        for answer in answers {
            match answer {
                Ok(deliveries) => taken.extend(deliveries.into_iter().map(|delivery| {
                    let held = self.shared.in_flight.hold(ask.lane, &delivery, visibility);
                    ReceivedTask { lane: ask.lane, delivery, held }
                })),
                Err(error) => {
                    failed = true;
                    self.not_received(error);
                }
            }
        }
        let received = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let answer = ReceiveSummary { received, failed, passed_over, woken };
        self.poller.answer(ask, answer, self.shared.clock.monotonic());
        taken
    }

    fn not_received(&self, error: QueueError) {
        if matches!(error.kind, QueueErrorKind::Denied | QueueErrorKind::QueueMissing) {
            error!(error = error_chain(&error), "no tasks can be taken from a queue");
            self.shared.end(Err(WorkmanError::Queue { queue: error.queue, source: error }));
        } else if let Some(suppressed) = self.shared.warnings.due("receive", self.shared.clock.monotonic()) {
            warn!(error = error_chain(&error), suppressed, "no tasks could be taken from a queue for now");
        }
    }
}

async fn answered(
    asking: &mut Option<(ReceiveRequest, BoxFuture<'static, ReceiveResult>)>,
) -> (ReceiveRequest, ReceiveResult) {
    let Some((ask, answer)) = asking else { return std::future::pending().await };
    let (ask, received) = (*ask, answer.await);
    *asking = None;
    (ask, received)
}

async fn rested(clock: &dyn Clock, rest: Option<Duration>) {
    match rest {
        Some(rest) => clock.sleep(rest).await,
        None => std::future::pending().await,
    }
}

/// A processor's panic is caught within the attempt: this is a fault of the workman's own.
fn note(joined: Result<(), JoinError>) {
    if let Err(error) = joined {
        error!(%error, "an attempt broke down; its task will come again");
    }
}
