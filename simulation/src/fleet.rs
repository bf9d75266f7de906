//! The processes: workmen with their drains, and producers. Each runs until it dies or is told to stop, and is restarted with
//! empty memory.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{QueueName, StoreAddress};
use mill_ports::{CapUnknownError, Registry, Statistics, StoreCaps, Stores, TaskQueue};
use mill_processors::{ProcessorDeps, Refusals};
use mill_producer::{AbsentSource, DuplicationProducer, LoopingSettings, RunStart, SessionReport, WhenFull};
use mill_records::account_counts::AccountCounts;
use mill_records::dead_letters::DeadLetters;
use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::permits::PermitRepository;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_records::tables;
use mill_workman::{
    DeadLetterDrain, DrainSettings, Heartbeat, OnFinalFailure, OnUnavailable, StopSignal, Workman, WorkmanDeps,
    WorkmanSettings,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::audit_world::{self, AuditWorld};
use super::event::Event;
use super::instrumented_processor::InstrumentedFactory;
use super::policies;
use super::probe_task::ProbeHandler;
use super::sim_process::SimProcess;
use super::sim_queue::QueueClient;
use super::sim_store::{StoreClient, StoreClients};
use super::sim_table::TableClient;
use super::world::World;

/// How long the producers' lease outlives its last heartbeat.
pub(crate) const PRODUCER_TIMEOUT: Duration = Duration::from_mins(1);

/// After the first failure of a task, and after each further one.
pub(crate) const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A running process and its stop signal.
#[derive(Debug, Clone)]
pub(crate) struct ProcessHandle {
    pub(crate) process: Arc<SimProcess>,
    pub(crate) stop: StopSignal,
}

/// All processes.
#[derive(Debug)]
pub(crate) struct SimFleet {
    world: Arc<World>,
    supervisors: JoinSet<()>,
    processes: Arc<Mutex<Vec<ProcessHandle>>>,
    down: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessKind {
    Workman,
    Producer,
}

impl SimFleet {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self {
            world: world.clone(),
            supervisors: JoinSet::new(),
            processes: Arc::default(),
            down: CancellationToken::new(),
        }
    }

    /// Starts all workmen, and all producers if wanted.
    pub(crate) fn start_all(&mut self, with_producers: bool) {
        self.down = CancellationToken::new();
        let producers = if with_producers { self.world.swarm.producers } else { 0 };
        let kinds = (0..self.world.swarm.workmen)
            .map(|_| ProcessKind::Workman)
            .chain((0..producers).map(|_| ProcessKind::Producer));
        for kind in kinds {
            let supervisor = ProcessSupervisor {
                world: self.world.clone(),
                processes: self.processes.clone(),
                down: self.down.clone(),
                kind,
            };
            self.supervisors.spawn_local(supervisor.supervise());
        }
    }

    /// Ends all processes: gently, or by killing them.
    pub(crate) async fn stop_all(&mut self, gently: bool) {
        self.down.cancel();
        for handle in self.running_processes() {
            if gently {
                handle.stop.gentle.cancel();
            } else {
                handle.process.die();
            }
        }
        while self.supervisors.join_next().await.is_some() {}
    }

    /// The processes that run now.
    pub(crate) fn running_processes(&self) -> Vec<ProcessHandle> {
        self.processes.lock().clone()
    }
}

/// Restarts one process whenever it dies or ends.
struct ProcessSupervisor {
    world: Arc<World>,
    processes: Arc<Mutex<Vec<ProcessHandle>>>,
    down: CancellationToken,
    kind: ProcessKind,
}

impl ProcessSupervisor {
    async fn supervise(self) {
        let world = &self.world;
        while !self.down.is_cancelled() {
            let name = if self.kind == ProcessKind::Workman { "workman" } else { "producer" };
            let handle = ProcessHandle { process: SimProcess::new(world, name), stop: StopSignal::default() };
            let _ = handle.process.stop.set(handle.stop.clone());
            self.processes.lock().push(handle.clone());
            if self.kind == ProcessKind::Workman {
                world.begins(&handle.process);
            }
            let died = {
                let work = async {
                    match self.kind {
                        ProcessKind::Workman => work(&handle).await,
                        ProcessKind::Producer => produce(&handle).await,
                    }
                };
                let death = handle.process.death.cancelled();
                matches!(
                    futures::future::select(std::pin::pin!(death), std::pin::pin!(work)).await,
                    futures::future::Either::Left(_)
                )
            };
            self.processes.lock().retain(|other| other.process.name != handle.process.name);
            // Calls of it that are not dropped yet go no further.
            handle.process.die();
            world.dead.lock().insert(handle.process.name.clone());
            world.see(&Event::Ended { by: &handle.process.name, killed: died });
            if !self.down.is_cancelled() {
                let pause = world.rng.duration(Duration::from_millis(100), Duration::from_secs(30));
                futures::future::select(
                    std::pin::pin!(self.down.cancelled()),
                    std::pin::pin!(tokio::time::sleep(pause)),
                )
                .await;
            }
        }
    }
}

/// The dependencies of a process: its clients of queues and tables.
pub(crate) struct ProcessDeps {
    pub(crate) process: Arc<SimProcess>,
    policies: Arc<PolicyRepository>,
    queues: BTreeMap<QueueName, Arc<dyn TaskQueue>>,
    pub(crate) stores: Arc<dyn Stores>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) refusals: Arc<Refusals>,
    /// How long an item waits at which its store asks to slow down.
    pub(crate) give_up_after: Duration,
}

impl ProcessDeps {
    /// Opens them as at the start of a process.
    pub(crate) fn new(process: &Arc<SimProcess>) -> Self {
        let world = &process.world;
        let files = Arc::new(StoreClient::new(process, &world.policy_store, world.swarm.policies_quiet));
        let policies = PolicyRepository::of_store(files, policies::space(), process.clock.clone(), world.swarm.refresh);
        let queue_client = |sim_queue: &Arc<super::sim_queue::SimQueue>| QueueClient {
            process: process.clone(),
            sim_queue: sim_queue.clone(),
        };
        let queues = world
            .sim_queues
            .iter()
            .map(|(name, sim_queue)| (*name, Arc::new(queue_client(sim_queue)) as Arc<dyn TaskQueue>));
        Self {
            process: process.clone(),
            policies: Arc::new(policies),
            queues: queues.collect(),
            stores: Arc::new(StoreClients(process.clone())),
            statistics: Arc::default(),
            refusals: Arc::default(),
            give_up_after: Duration::MAX,
        }
    }

    pub(crate) fn queues(&self) -> &BTreeMap<QueueName, Arc<dyn TaskQueue>> {
        &self.queues
    }

    pub(crate) fn sync_proofs(&self) -> SyncProofs {
        SyncProofs::new(TableClient::new(&self.process, tables::SYNC_PROOFS))
    }

    pub(crate) fn owners(&self) -> Owners {
        Owners::new(TableClient::new(&self.process, tables::OWNERS))
    }

    pub(crate) fn delete_lists(&self) -> DeleteLists {
        DeleteLists::new(TableClient::new(&self.process, DeleteLists::TABLE))
    }

    pub(crate) fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(TableClient::new(&self.process, DeadLetters::TABLE))
    }

    fn permits(&self) -> PermitRepository {
        let world = self.process.world.clone();
        let same_host = world.swarm.same_host;
        PermitRepository {
            table: TableClient::new(&self.process, PermitRepository::TABLE),
            clock: self.process.clock.clone(),
            timeout: world.swarm.visibility,
            holder_is_dead: Arc::new(move |name| same_host && world.dead.lock().contains(name)),
        }
    }

    /// The counts of workmen: the simulated queues cannot count the tasks of an account.
    fn counts(&self) -> AccountCounts {
        AccountCounts {
            table: TableClient::new(&self.process, AccountCounts::TABLE),
            clock: self.process.clock.clone(),
            queue: QueueName::DuplicationLow,
        }
    }

    fn chance(&self) -> Arc<dyn mill_ports::Rng> {
        Arc::new(self.process.world.rng.fork())
    }

    fn registry(&self) -> Registry {
        let registry = mill_processors::registry(&ProcessorDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            delete_lists: self.delete_lists(),
            sync_proofs: self.sync_proofs(),
            owners: self.owners(),
            clock: self.process.clock.clone(),
            chance: self.chance(),
            statistics: self.statistics.clone(),
            refusals: self.refusals.clone(),
            dry_run: false,
            another_source: false,
            give_up_after: self.give_up_after,
            audit: self.process.world.audit.as_ref().map(|_| AuditWorld::deps(&self.process)),
        });
        let registry = registry.register(ProbeHandler(self.process.clone()));
        registry.wrapped(|inner| Arc::new(InstrumentedFactory { inner, process: self.process.clone() }))
    }

    pub(crate) fn producer(&self, force: bool) -> DuplicationProducer {
        self.producer_with(self.looping_settings(force))
    }

    /// The settings of a producer that runs session after session.
    pub(crate) fn looping_settings(&self, force: bool) -> LoopingSettings {
        let world = &self.process.world;
        let swarm = &world.swarm;
        LoopingSettings {
            holder: self.process.name.clone(),
            lease_timeout: PRODUCER_TIMEOUT,
            queue_sizing: mill_producer::QueueSizing::Fixed,
            queue_max: if force { 10_000 } else { swarm.queue_max },
            nibble: swarm.nibble.try_into().unwrap(),
            frequency: if force { Duration::ZERO } else { swarm.frequency },
            when_full: if swarm.short_receives > 0 && !force {
                WhenFull::Wait { poll: Duration::from_secs(5), poll_most: Duration::from_secs(5) }
            } else {
                WhenFull::Leave
            },
            run_start: if force { RunStart::Now } else { RunStart::WhenDue },
            listings_open_max: *world.rng.pick(&[1, 16]),
            give_up_after: Duration::ZERO,
            silence_max: Duration::from_mins(5),
            sends_at_once: 2.try_into().unwrap(),
        }
    }

    pub(crate) fn producer_with(&self, looping: LoopingSettings) -> DuplicationProducer {
        let world = self.process.world.clone();
        let swarm = &world.swarm;
        let settings = mill_producer::ProducerSettings {
            looping,
            thresholds: swarm.thresholds,
            absent_source: AbsentSource::Retire,
        };
        let same_host = swarm.same_host;
        let looping = mill_producer::LoopingDeps {
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            queue: self.queues[&QueueName::DuplicationLow].clone(),
            state: TableClient::new(&self.process, tables::PRODUCER_STATE),
            counts: Some(self.counts()),
            clock: self.process.clock.clone(),
            chance: self.chance(),
            statistics: self.statistics.clone(),
            holder_is_dead: {
                let world = world.clone();
                Arc::new(move |name| same_host && world.dead.lock().contains(name))
            },
        };
        let deps = mill_producer::ProducerDeps {
            looping,
            sync_proofs: self.sync_proofs(),
            delete_lists: self.delete_lists(),
            owners: self.owners(),
        };
        DuplicationProducer::new(deps, settings)
    }
}

/// The caps of stores, from the policies in use.
#[derive(Debug)]
struct PolicyCaps(Arc<PolicyRepository>);

#[async_trait]
impl StoreCaps for PolicyCaps {
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknownError> {
        let policy = self.0.account(&store.account).await.map_err(|_| CapUnknownError)?;
        Ok(policy.workers().and_then(NonZeroU32::new))
    }

    async fn several_accounts(&self) -> bool {
        self.0.account_count().await.map_or(true, |accounts| accounts > 1)
    }
}

/// How a workman asks its queues.
pub(crate) struct Polls {
    pub(crate) idle_backoff: Vec<Duration>,
    pub(crate) poll_wait: Duration,
}

/// A workman and its heartbeat.
pub(crate) fn workman(process_deps: &ProcessDeps, polls: Polls) -> (Workman, Heartbeat) {
    let process = &process_deps.process;
    let swarm = &process.world.swarm;
    let settings = WorkmanSettings {
        name: process.name.clone(),
        workers: swarm.workers,
        visibility: swarm.visibility,
        failures_max: swarm.failures_max,
        retry_delays: RETRY_DELAYS.to_vec(),
        idle_backoff: polls.idle_backoff,
        poll_wait: polls.poll_wait,
        batch_linger: swarm.linger,
        recheck: swarm.recheck,
        reserved_low: 0.0,
        reserved_high: 0.05,
        on_final_failure: OnFinalFailure::Drain,
        on_unavailable: OnUnavailable::Wait,
        grace: Duration::from_secs(30),
    };
    let deps = WorkmanDeps {
        queues: [QueueName::Audit, QueueName::DuplicationHigh, QueueName::DuplicationLow]
            .iter()
            .filter_map(|name| process_deps.queues.get(name).cloned())
            .collect(),
        all_queues: process_deps.queues.clone(),
        dead_letter: process_deps.queues[&QueueName::DeadLetter].clone(),
        registry: process_deps.registry(),
        clock: process.clock.clone(),
        chance: process_deps.chance(),
        statistics: process_deps.statistics.clone(),
        caps: Arc::new(PolicyCaps(process_deps.policies.clone())),
        permits: Some(process_deps.permits()),
        counts: Some(process_deps.counts()),
    };
    Workman::new(deps, settings)
}

/// Runs a workman and its drain.
async fn work(handle: &ProcessHandle) {
    let (process, stop) = (&handle.process, &handle.stop);
    let process_deps = ProcessDeps::new(process);
    let seconds = Duration::from_secs;
    let polls = Polls { idle_backoff: [1, 10, 60].map(seconds).to_vec(), poll_wait: seconds(300) };
    let (workman, heartbeat) = workman(&process_deps, polls);
    let drain = DeadLetterDrain {
        queue: process_deps.queues[&QueueName::DeadLetter].clone(),
        dead_letters: process_deps.dead_letters(),
        registry: process_deps.registry(),
        clock: process.clock.clone(),
        settings: DrainSettings { visibility: seconds(60), poll_wait: seconds(300) },
    };
    let working = async {
        let ended = workman.run(stop.clone()).await;
        // The drain goes with its workman, as it does in a real process.
        stop.immediate.cancel();
        ended
    };
    if process.world.audit.is_none() {
        let (_, (), _) = futures::join!(working, heartbeat.run(), drain.run(stop));
        return;
    }
    let settling = audit_world::settle_now_and_then(process, &stop.gentle, &stop.immediate);
    let (_, (), _, ()) = futures::join!(working, heartbeat.run(), drain.run(stop), settling);
}

/// Runs a producer: one session after another, like cron.
async fn produce(handle: &ProcessHandle) {
    let world = &handle.process.world;
    while !handle.stop.gentle.is_cancelled() {
        let process_deps = ProcessDeps::new(&handle.process);
        let _ = session(&process_deps, false, &handle.stop.gentle).await;
        let pause = world.rng.duration(Duration::from_secs(1), world.swarm.pause_max * 4);
        futures::future::select(
            std::pin::pin!(handle.stop.gentle.cancelled()),
            std::pin::pin!(tokio::time::sleep(pause)),
        )
        .await;
    }
}

/// Runs one session and records its report as an event.
pub(crate) async fn session(
    process_deps: &ProcessDeps,
    force: bool,
    stop: &CancellationToken,
) -> Option<SessionReport> {
    let (world, by) = (&process_deps.process.world, &process_deps.process.name);
    match process_deps.producer(force).run_session(stop).await {
        Ok(report) => {
            world.see(&Event::Session { by, report: &report });
            Some(report)
        }
        Err(error) => {
            world.note(by, format_args!("session broke off: {}", mill_ports::error_chain(&error)));
            None
        }
    }
}
