//! A fixture: queues in memory that can be made to fail, virtual time, and one probe.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mill_model::wire;
use mill_model::{AccountId, DeadLetterMessage, Envelope, QueueName, StoreAddress, Timestamp};
use mill_ports::{
    Clock, Delivery, OutgoingMessage, Registry, Rng, RngExt as _, Statistics, StoreCaps, Table, TaskQueue,
};
use mill_records::account_counts::AccountCounts;
use mill_records::permits::PermitRepository;
use mill_testkit::{
    CallRecorder, FaultInjector, FaultPlan, MemoryQueue, MemoryQueues, MemoryTable, QueueBehavior, SeededRng, SimClock,
};
use mill_workman::{
    Heartbeat, OnFinalFailure, OnUnavailable, StopSignal, Workman, WorkmanDeps, WorkmanEndReason, WorkmanError,
    WorkmanSettings,
};
use parking_lot::Mutex;

use crate::probe::{Answer, Call, Probe, ProbeHandler, task};

pub(crate) const HIGH: QueueName = QueueName::DuplicationHigh;
pub(crate) const LOW: QueueName = QueueName::DuplicationLow;

pub(crate) struct Fixture {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Rng>,
    pub(crate) queues: MemoryQueues,
    pub(crate) plan: Arc<FaultPlan>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) settings: WorkmanSettings,
    pub(crate) stop: StopSignal,
    pub(crate) caps: Arc<Caps>,
    pub(crate) permits: Option<PermitRepository>,
    pub(crate) counts: Option<AccountCounts>,
}

/// The caps of stores, for the test to set, and whether there are several accounts.
#[derive(Debug, Default)]
pub(crate) struct Caps(Mutex<BTreeMap<StoreAddress, u32>>, AtomicBool);

impl Caps {
    pub(crate) fn several_accounts(&self) {
        self.1.store(true, Ordering::Release);
    }

    /// Zero for no limit, the maximum for an unknown one.
    pub(crate) fn set(&self, store: &StoreAddress, cap: u32) {
        self.0.lock().insert(store.clone(), cap);
    }
}

#[async_trait]
impl StoreCaps for Caps {
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, mill_ports::CapUnknownError> {
        match self.0.lock().get(store) {
            Some(&u32::MAX) => Err(mill_ports::CapUnknownError),
            cap => Ok(cap.copied().and_then(NonZeroU32::new)),
        }
    }

    async fn several_accounts(&self) -> bool {
        self.1.load(Ordering::Acquire)
    }
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Fixture {
    pub(crate) fn new<F>(act: impl Fn(Arc<dyn Clock>, Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::with(1, &QueueBehavior::well_behaved(), act)
    }

    pub(crate) fn with<F>(
        seed: u64,
        behavior: &QueueBehavior,
        act: impl Fn(Arc<dyn Clock>, Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
        let chance: Arc<dyn Rng> = Arc::new(SeededRng::new(seed));
        let acting = clock.clone();
        Self {
            queues: MemoryQueues::new(behavior, &clock, &chance),
            plan: FaultPlan::new(clock.clone(), Arc::new(SeededRng::new(seed + 1))),
            statistics: Arc::default(),
            probe: Probe::new(clock.clone(), move |call| act(acting.clone(), call)),
            settings: settings(),
            stop: StopSignal::default(),
            caps: Arc::default(),
            permits: None,
            counts: None,
            clock,
            chance,
        }
    }

    fn port(&self, name: QueueName) -> Arc<dyn TaskQueue> {
        Arc::new(FaultInjector::new(self.queues.get(name) as Arc<dyn TaskQueue>, self.plan.clone()))
    }

    pub(crate) fn deps(&self, names: &[QueueName]) -> WorkmanDeps {
        WorkmanDeps {
            queues: names.iter().map(|name| self.port(*name)).collect(),
            all_queues: [HIGH, LOW].into_iter().map(|name| (name, self.port(name))).collect::<BTreeMap<_, _>>(),
            dead_letter: self.port(QueueName::DeadLetter),
            registry: self.registry(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            statistics: self.statistics.clone(),
            caps: self.caps.clone(),
            permits: self.permits.clone(),
            counts: self.counts.clone(),
        }
    }

    /// From now on workmen share caps by a repository; returns its table.
    pub(crate) fn shares(&mut self) -> Arc<CallRecorder<dyn Table>> {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::new(PermitRepository::TABLE));
        let faulty: Arc<dyn Table> = Arc::new(FaultInjector::new(table, self.plan.clone()));
        let recorded = Arc::new(CallRecorder::new(faulty));
        self.permits = Some(PermitRepository {
            table: recorded.clone(),
            clock: self.clock.clone(),
            timeout: self.settings.visibility,
            holder_is_dead: Arc::new(|_| false),
        });
        recorded
    }

    /// From now on workmen count the tasks of each account of the low queue. Returns the table of the counts.
    pub(crate) fn counts(&mut self) -> Arc<CallRecorder<dyn Table>> {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::new(AccountCounts::TABLE));
        let faulty: Arc<dyn Table> = Arc::new(FaultInjector::new(table, self.plan.clone()));
        let recorded = Arc::new(CallRecorder::new(faulty));
        self.counts = Some(AccountCounts { table: recorded.clone(), clock: self.clock.clone(), queue: LOW });
        recorded
    }

    /// Another workman over both queues.
    pub(crate) fn another(&self, name: &str) -> (Workman, Heartbeat) {
        Workman::new(self.deps(&[HIGH, LOW]), WorkmanSettings { name: name.into(), ..self.settings.clone() })
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::default().register(ProbeHandler(self.probe.clone()))
    }

    pub(crate) fn workman(&self, names: &[QueueName]) -> (Workman, Heartbeat) {
        Workman::new(self.deps(names), self.settings.clone())
    }

    /// Runs a workman over both queues while `during` runs, and then stops it gently.
    pub(crate) async fn work(&self, during: impl Future<Output = ()>) -> Result<WorkmanEndReason, WorkmanError> {
        let (workman, heartbeat) = self.workman(&[HIGH, LOW]);
        let during = async {
            during.await;
            self.stop.gentle.cancel();
        };
        let (ended, (), ()) = futures::join!(workman.run(self.stop.clone()), heartbeat.run(), during);
        ended
    }

    /// Runs a workman over both queues until it ends by itself.
    pub(crate) async fn work_to_its_end(&self) -> Result<WorkmanEndReason, WorkmanError> {
        let (workman, heartbeat) = self.workman(&[HIGH, LOW]);
        futures::join!(workman.run(self.stop.clone()), heartbeat.run()).0
    }

    /// Runs a workman until nothing is left in the two queues.
    pub(crate) async fn work_off(&self) -> Result<WorkmanEndReason, WorkmanError> {
        self.work(self.emptied()).await
    }

    pub(crate) async fn emptied(&self) {
        while !self.bodies(HIGH).is_empty() || !self.bodies(LOW).is_empty() {
            assert!(self.clock.monotonic().since_origin() < Duration::from_hours(100), "{:?}", self.probe.events());
            self.pass(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn pass(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    pub(crate) fn envelope(&self, queue: QueueName, item: &str) -> Envelope {
        let now = self.clock.now();
        Envelope::new(self.chance.task_id(now), queue, now, task(item))
    }

    pub(crate) async fn send(&self, queue: QueueName, item: &str) {
        let body = wire::encode(&self.envelope(queue, item)).unwrap();
        self.send_of(task(item).account, queue, body).await;
    }

    pub(crate) async fn send_body(&self, queue: QueueName, body: Bytes) {
        self.send_of(task("").account, queue, body).await;
    }

    async fn send_of(&self, group: AccountId, queue: QueueName, body: Bytes) {
        let out = OutgoingMessage { group, body, delay: Duration::ZERO };
        self.queues.get(queue).send(&[out]).await.unwrap().into_result().unwrap();
    }

    pub(crate) fn bodies(&self, queue: QueueName) -> Vec<Bytes> {
        self.queues.get(queue).bodies()
    }

    /// The visible bodies.
    pub(crate) async fn receive(&self, queue: QueueName) -> Vec<Delivery> {
        let queue: Arc<MemoryQueue> = self.queues.get(queue);
        queue.receive(NonZeroU32::new(10).unwrap(), secs(60), Duration::ZERO).await.unwrap()
    }

    pub(crate) fn letters(&self) -> Vec<DeadLetterMessage> {
        let letters = self.bodies(QueueName::DeadLetter);
        letters.iter().map(|body| wire::decode_dead_letter(body).unwrap()).collect()
    }

    /// The envelope of the only dead letter, and why it was dead-lettered.
    pub(crate) fn only_letter(&self) -> (Envelope, String) {
        let letters = self.letters();
        assert_eq!(letters.len(), 1);
        (self.open(&letters[0].body), letters[0].given_up.reason.clone())
    }

    pub(crate) fn open(&self, body: &[u8]) -> Envelope {
        let arrival = wire::ReceiveContext {
            id: self.chance.task_id(Timestamp::default()),
            queue: QueueName::Audit,
            sent_at: Timestamp::default(),
        };
        wire::decode(body, arrival).unwrap()
    }
}

pub(crate) fn settings() -> WorkmanSettings {
    let minutes = Duration::from_mins;
    WorkmanSettings {
        name: "w1".into(),
        workers: 8,
        visibility: secs(60),
        failures_max: 3,
        retry_delays: vec![secs(10), secs(100)],
        idle_backoff: vec![minutes(1), minutes(2), minutes(4), minutes(8), minutes(8)],
        poll_wait: secs(20),
        batch_linger: Duration::from_millis(2),
        recheck: Duration::ZERO,
        reserved_low: 0.0,
        reserved_high: 0.0,
        on_final_failure: OnFinalFailure::Drain,
        on_unavailable: OnUnavailable::Wait,
        grace: secs(30),
    }
}
