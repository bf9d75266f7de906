use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;
use async_trait::async_trait;
use mill_model::{AccountId, QueueName, StoreAddress, StoreId};
use mill_ports::{Clock, OutgoingMessage, PollingProfile, Rng, Statistics, StoreWait, TaskQueue};
use mill_testkit::{
    FaultInjector, FaultKind, FaultPlan, FaultRates, InjectedFault, MemoryQueue, PortCall, QueueBehavior, SeededRng,
    SimClock,
};

use super::*;
use crate::until_done::StateWatch;

const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// As a fleet has it: the depth of its queues is late and inexact.
const POLLING: PollingProfile = PollingProfile {
    linger: Duration::ZERO,
    recheck: Duration::ZERO,
    look_every: Duration::from_secs(1),
    looks_to_be_sure: 3,
    looks_where_counts_differ: 70,
    poll_wait: Duration::from_secs(2),
    full_poll: Duration::from_secs(5),
    full_poll_most: Duration::from_secs(30),
    session_pause_least: Duration::from_secs(1),
    session_pause_most: Duration::from_secs(1),
};

/// Workers that others look after.
#[derive(Debug)]
struct NoWorkers;

#[async_trait]
impl RunWorkers for NoWorkers {
    fn is_exact(&self) -> bool {
        true
    }

    fn begin(&mut self, _: StopSignal) {}

    fn add_to(&self, _: &mut RunProgress) {}

    async fn join(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A state that can be written.
#[derive(Debug)]
struct WellState;

impl StateWatch for WellState {
    fn standstill(&self) -> Option<StateStandstill> {
        None
    }

    fn abandon(&self) {}
}

/// A run whose producer and workers are played by a test.
struct Scene {
    plan: Arc<FaultPlan>,
    queue: Arc<FaultInjector<MemoryQueue>>,
    deps: RunDeps,
    workers_end: CancellationToken,
    stopping: StopSignal,
    produced: AtomicBool,
    producing: CancellationToken,
}

impl Scene {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let chance: Arc<dyn Rng> = Arc::new(SeededRng::new(1));
        let plan = FaultPlan::new(clock.clone(), chance.clone());
        let behavior = QueueBehavior::well_behaved();
        let inner = MemoryQueue::new(QueueName::DuplicationLow, behavior, clock.clone(), chance, None);
        let queue = Arc::new(FaultInjector::new(Arc::new(inner), plan.clone()));
        let deps = RunDeps {
            clock,
            statistics: Arc::<Statistics>::default(),
            queues: vec![queue.clone()],
            polling: POLLING,
            state: Arc::new(WellState),
        };
        let (workers_end, producing) = (CancellationToken::new(), CancellationToken::new());
        let (stopping, produced) = (StopSignal::default(), AtomicBool::new(false));
        Self { plan, queue, deps, workers_end, stopping, produced, producing }
    }

    /// Why the run is over, if it is so within an hour.
    async fn over(&self) -> Option<Option<StuckReason>> {
        let monitor = CompletionMonitor {
            deps: &self.deps,
            workers: &NoWorkers,
            workers_end: &self.workers_end,
            stopping: &self.stopping,
            produced: &self.produced,
            producing: &self.producing,
            give_up_after: GIVE_UP_AFTER,
        };
        let done = tokio::time::timeout(Duration::from_hours(1), monitor.until_done(mpsc::channel(1).0)).await;
        done.ok().map(|(_, stuck)| stuck)
    }

    /// Sends a task that stays snoozed.
    async fn snooze_one(&self) {
        let group = AccountId::new("ann").unwrap();
        let task = OutgoingMessage { group, body: b"task".as_slice().into(), delay: Duration::from_mins(15) };
        assert!(self.queue.send(&[task]).await.unwrap().failed.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fails_now_and_then_keeps_no_run_from_its_end() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    // An earlier run had left this one: the end is believed only after many checks.
    scene.deps.statistics.ended.store(1, Relaxed);
    scene.plan.set_rates(FaultRates { before: 300, ..FaultRates::default() });
    let began = scene.deps.clock.monotonic();
    assert!(matches!(scene.over().await, Some(None)));
    assert!(scene.deps.clock.monotonic().since(began) > POLLING.look_every * POLLING.looks_where_counts_differ);
    assert!(scene.plan.fired().contains_key(&(PortCall::Depth, "before")));
}

#[tokio::test(start_paused = true)]
async fn a_task_seen_once_more_begins_the_checks_for_the_end_anew() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    scene.plan.fail(PortCall::Depth, 3, InjectedFault::Before(FaultKind::Unreachable));
    let began = scene.deps.clock.monotonic();
    let seen = async {
        // Between the second check that finds nothing and the next that is answered.
        scene.deps.clock.sleep(Duration::from_millis(2_500)).await;
        let group = AccountId::new("ann").unwrap();
        let task = OutgoingMessage { group, body: b"task".as_slice().into(), delay: Duration::ZERO };
        assert!(scene.queue.send(&[task]).await.unwrap().failed.is_empty());
        scene.deps.clock.sleep(Duration::from_secs(2)).await;
        let one = std::num::NonZeroU32::MIN;
        let got = scene.queue.receive(one, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        assert!(scene.queue.acknowledge(&[got[0].receipt.clone()]).await.unwrap().failed.is_empty());
    };
    let (over, ()) = tokio::join!(scene.over(), seen);
    assert!(matches!(over, Some(None)));
    assert_eq!(scene.deps.clock.monotonic().since(began).as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_answers_no_more_ends_a_run() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    scene.plan.set_outage(Some(FaultKind::Unreachable));
    let began = scene.deps.clock.monotonic();
    let stuck = scene.over().await.unwrap().unwrap();
    assert!(stuck.why.contains("the queues have not answered for 31s"), "{}", stuck.why);
    assert_eq!(stuck.remedy, Remedy::RunAgain);
    assert_eq!(scene.deps.clock.monotonic().since(began).as_secs(), 31);
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_tasks_that_wait_in_vain_ends_a_run() {
    let scene = Scene::new();
    scene.snooze_one().await;
    let _room_wait = scene.deps.statistics.begin_wait_for_room();
    let stuck = scene.over().await.unwrap().unwrap();
    assert!(stuck.why.contains("the queue is full: tasks were snoozed (1)"), "{}", stuck.why);
    assert_eq!(stuck.remedy, Remedy::RunAgain);
    assert!(scene.producing.is_cancelled() && scene.workers_end.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_tasks_of_a_store_that_needs_a_person_names_that_store() {
    let scene = Scene::new();
    scene.snooze_one().await;
    let _room_wait = scene.deps.statistics.begin_wait_for_room();
    let store = StoreAddress { account: AccountId::new("ann").unwrap(), store: StoreId::new("disk").unwrap() };
    let full = StoreWait { reason: "no space left".into(), may_pass: false };
    scene.deps.statistics.note_store_wait(&store, full);
    let stuck = scene.over().await.unwrap().unwrap();
    assert!(stuck.why.contains("disk` cannot be used: no space left"), "{}", stuck.why);
    assert_eq!(stuck.remedy, Remedy::SetRight);
    assert!(scene.producing.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_lists_for_long_is_not_given_up_for_snoozed_tasks() {
    let scene = Scene::new();
    scene.snooze_one().await;
    // It has waited for room, and there was some.
    drop(scene.deps.statistics.begin_wait_for_room());
    assert!(scene.over().await.is_none());
    assert!(!scene.producing.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn an_item_that_a_store_throttles_is_given_up_before_the_run_is() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    scene.snooze_one().await;
    let store = StoreAddress { account: AccountId::new("ann").unwrap(), store: StoreId::new("cloud").unwrap() };
    scene.deps.statistics.note_store_wait(&store, StoreWait { reason: "slow down".into(), may_pass: true });
    let given_up = async {
        // The worker has counted since the first answer, which came late.
        scene.deps.clock.sleep(GIVE_UP_AFTER + Duration::from_secs(7)).await;
        assert!(!scene.workers_end.is_cancelled());
    };
    let (stuck, ()) = tokio::join!(scene.over(), given_up);
    let stuck = stuck.unwrap().unwrap();
    assert!(stuck.why.contains("cloud` has let nothing through: slow down"), "{}", stuck.why);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_put_back_until_its_turn_is_waited_for() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    scene.snooze_one().await;
    let began = scene.deps.clock.monotonic();
    scene.deps.statistics.note_turn(began.plus(Duration::from_secs(40)));
    scene.deps.statistics.note_turn(began.plus(Duration::from_secs(20)));
    let stuck = scene.over().await.unwrap().unwrap();
    assert!(stuck.why.contains("tasks were snoozed (1)"), "{}", stuck.why);
    assert_eq!(scene.deps.clock.monotonic().since(began).as_secs(), 52);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_come_again_in_vain_at_different_times_end_a_run() {
    let scene = Scene::new();
    scene.produced.store(true, Ordering::Release);
    let group = AccountId::new("ann").unwrap();
    let ready = OutgoingMessage { group, body: b"task".as_slice().into(), delay: Duration::ZERO };
    assert!(scene.queue.send(&[ready]).await.unwrap().failed.is_empty());
    let store = StoreAddress { account: AccountId::new("ann").unwrap(), store: StoreId::new("cloud").unwrap() };
    let work = async {
        // Some work takes long, and counts nothing meanwhile.
        let _call = scene.deps.statistics.begin_call(&store);
        for _ in 0..80 {
            scene.deps.clock.sleep(Duration::from_secs(15)).await;
            scene.deps.statistics.answers.fetch_add(1, Relaxed);
        }
        assert!(!scene.workers_end.is_cancelled());
    };
    let (stuck, ()) = tokio::join!(scene.over(), work);
    let stuck = stuck.unwrap().unwrap();
    assert!(stuck.why.contains("tasks were snoozed (1)"), "{}", stuck.why);
}
