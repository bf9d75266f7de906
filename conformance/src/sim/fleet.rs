//! The processes: workmen with their drains, and producers. Each lives until it dies or is told to stop, and is started
//! again with nothing in memory.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{QueueName, StoreAddress};
use mill_ports::{CapUnknown, Registry, Statistics, StoreCaps, TaskQueue};
use mill_processors::{DuplicateFactory, RemoveFactory};
use mill_producer::{AbsentSource, DuplicationProducer, RunStart, SessionReport, WhenFull};
use mill_records::account_counts::AccountCounts;
use mill_records::dead_letters::DeadLetters;
use mill_records::delete_lists::DeleteLists;
use mill_records::owners::Owners;
use mill_records::permits::PermitRepository;
use mill_records::policies::PolicyRepository;
use mill_records::sync_proofs::SyncProofs;
use mill_workman::{
    DeadLetterDrain, DrainSettings, OnFinalFailure, OnUnavailable, StopSignal, Workman, WorkmanDeps, WorkmanSettings,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::desk::Slot;
use super::errand::ErrandFactory;
use super::event::Event;
use super::ledger::Ledger;
use super::line::Line;
use super::policies;
use super::shelf::{Way, Ways};
use super::watched::Watched;
use super::world::{World, lock};

/// How long the producers' lease outlives its last beat.
pub(crate) const PRODUCER_TIMEOUT: Duration = Duration::from_mins(1);

/// After the first failure of a task, and after each further one.
pub(crate) const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A process that lives, and how it is told to stop.
#[derive(Debug, Clone)]
pub(crate) struct Living {
    pub(crate) line: Arc<Line>,
    pub(crate) stop: StopSignal,
}

/// All processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    world: Arc<World>,
    keepers: JoinSet<()>,
    living: Arc<Mutex<Vec<Living>>>,
    down: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Workman,
    Producer,
}

impl Fleet {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: world.clone(), keepers: JoinSet::new(), living: Arc::default(), down: CancellationToken::new() }
    }

    /// Starts workmen, and producers where they are wanted.
    pub(crate) fn muster(&mut self, with_producers: bool) {
        self.down = CancellationToken::new();
        let producers = if with_producers { self.world.swarm.producers } else { 0 };
        let kinds = (0..self.world.swarm.workmen).map(|_| Kind::Workman).chain((0..producers).map(|_| Kind::Producer));
        for kind in kinds {
            let keeper =
                Keeper { world: self.world.clone(), living: self.living.clone(), down: self.down.clone(), kind };
            self.keepers.spawn_local(keeper.keep());
        }
    }

    /// Ends all processes: gently, or by killing them.
    pub(crate) async fn stand_down(&mut self, gently: bool) {
        self.down.cancel();
        for living in self.living() {
            if gently {
                living.stop.gentle.cancel();
            } else {
                living.line.die();
            }
        }
        while self.keepers.join_next().await.is_some() {}
    }

    /// Those that live now.
    pub(crate) fn living(&self) -> Vec<Living> {
        lock(&self.living).clone()
    }
}

/// Keeps one process alive.
struct Keeper {
    world: Arc<World>,
    living: Arc<Mutex<Vec<Living>>>,
    down: CancellationToken,
    kind: Kind,
}

impl Keeper {
    async fn keep(self) {
        let world = &self.world;
        while !self.down.is_cancelled() {
            let name = if self.kind == Kind::Workman { "workman" } else { "producer" };
            let life = Living { line: Line::new(world, name), stop: StopSignal::default() };
            let _ = life.line.stop.set(life.stop.clone());
            lock(&self.living).push(life.clone());
            if self.kind == Kind::Workman {
                world.begins(&life.line);
            }
            let died = {
                let work = async {
                    match self.kind {
                        Kind::Workman => work(&life).await,
                        Kind::Producer => produce(&life).await,
                    }
                };
                let death = life.line.death.cancelled();
                matches!(
                    futures::future::select(std::pin::pin!(death), std::pin::pin!(work)).await,
                    futures::future::Either::Left(_)
                )
            };
            lock(&self.living).retain(|living| living.line.name != life.line.name);
            // Whatever it had begun and is not dropped yet goes no further.
            life.line.die();
            lock(&world.dead).insert(life.line.name.clone());
            world.see(&Event::Ended { by: &life.line.name, killed: died });
            if !self.down.is_cancelled() {
                let pause = world.dice.duration(Duration::from_millis(100), Duration::from_secs(30));
                futures::future::select(
                    std::pin::pin!(self.down.cancelled()),
                    std::pin::pin!(tokio::time::sleep(pause)),
                )
                .await;
            }
        }
    }
}

/// What a process has of the books.
pub(crate) struct Room {
    pub(crate) line: Arc<Line>,
    policies: Arc<PolicyRepository>,
    queues: BTreeMap<QueueName, Arc<dyn TaskQueue>>,
}

impl Room {
    /// As a process finds it when it starts.
    pub(crate) fn new(line: &Arc<Line>) -> Self {
        let world = &line.world;
        let files = Arc::new(Way::new(line, &world.policy_shelf, world.swarm.policies_quiet));
        let policies = PolicyRepository::of_store(files, policies::space(), line.clock.clone(), world.swarm.refresh);
        let slot = |desk: &Arc<super::desk::Desk>| Slot { line: line.clone(), desk: desk.clone() };
        let queues = world.desks.iter().map(|(name, desk)| (*name, Arc::new(slot(desk)) as Arc<dyn TaskQueue>));
        Self { line: line.clone(), policies: Arc::new(policies), queues: queues.collect() }
    }

    pub(crate) fn queues(&self) -> &BTreeMap<QueueName, Arc<dyn TaskQueue>> {
        &self.queues
    }

    pub(crate) fn seals(&self) -> SyncProofs {
        SyncProofs::new(Ledger::new(&self.line, "seals"))
    }

    pub(crate) fn owners(&self) -> Owners {
        Owners::new(Ledger::new(&self.line, "owners"))
    }

    pub(crate) fn delete_lists(&self) -> DeleteLists {
        DeleteLists::new(Ledger::new(&self.line, DeleteLists::BOOK))
    }

    pub(crate) fn letters(&self) -> DeadLetters {
        DeadLetters::new(Ledger::new(&self.line, DeadLetters::BOOK))
    }

    fn permits(&self) -> PermitRepository {
        let world = self.line.world.clone();
        let same_host = world.swarm.same_host;
        PermitRepository {
            table: Ledger::new(&self.line, PermitRepository::BOOK),
            clock: self.line.clock.clone(),
            timeout: world.swarm.visibility,
            surely_dead: Arc::new(move |name| same_host && lock(&world.dead).contains(name)),
        }
    }

    /// The queues of the world cannot tell how many tasks of an account they hold.
    fn counts(&self) -> AccountCounts {
        AccountCounts {
            table: Ledger::new(&self.line, AccountCounts::BOOK),
            clock: self.line.clock.clone(),
            queue: QueueName::DuplicationLow,
        }
    }

    fn chance(&self) -> Arc<dyn mill_ports::Rng> {
        Arc::new(self.line.world.dice.fork())
    }

    fn registry(&self) -> Registry {
        let duplicate = DuplicateFactory::new(mill_processors::DuplicateDeps {
            policies: self.policies.clone(),
            stores: Arc::new(Ways(self.line.clone())),
            seals: self.seals(),
            owners: self.owners(),
            clock: self.line.clock.clone(),
            chance: self.chance(),
            statistics: Arc::default(),
            refusals: Arc::default(),
        });
        let remove = RemoveFactory::new(mill_processors::remove::RemoveDeps {
            policies: self.policies.clone(),
            stores: Arc::new(Ways(self.line.clone())),
            delete_lists: self.delete_lists(),
            seals: self.seals(),
            owners: self.owners(),
            clock: self.line.clock.clone(),
            chance: self.chance(),
            statistics: Arc::default(),
        });
        let watched = |inner| Arc::new(Watched { inner, line: self.line.clone() });
        let registry = Registry::default().with(watched(Arc::new(duplicate))).with(watched(Arc::new(remove)));
        registry.with(watched(Arc::new(ErrandFactory(self.line.clone()))))
    }

    pub(crate) fn producer(&self, force: bool) -> DuplicationProducer {
        let world = self.line.world.clone();
        let swarm = &world.swarm;
        let settings = mill_producer::ProducerSettings {
            holder: self.line.name.clone(),
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
            thresholds: swarm.thresholds,
            absent_source: AbsentSource::Retire,
            listings_open_max: *world.dice.pick(&[1, 16]),
            give_up_after: Duration::ZERO,
            silence_max: Duration::from_mins(5),
            sends_at_once: 2.try_into().unwrap(),
        };
        let same_host = swarm.same_host;
        let deps = mill_producer::ProducerDeps {
            policies: self.policies.clone(),
            stores: Arc::new(Ways(self.line.clone())),
            queue: self.queues[&QueueName::DuplicationLow].clone(),
            state: Ledger::new(&self.line, "producer-state"),
            counts: Some(self.counts()),
            sync_proofs: self.seals(),
            delete_lists: self.delete_lists(),
            owners: self.owners(),
            clock: self.line.clock.clone(),
            chance: self.chance(),
            statistics: Arc::new(Statistics::default()),
            surely_dead: {
                let world = world.clone();
                Arc::new(move |name| same_host && lock(&world.dead).contains(name))
            },
        };
        DuplicationProducer::new(deps, settings)
    }
}

/// The caps of stores, as the policies in use have them.
#[derive(Debug)]
struct Caps(Arc<PolicyRepository>);

#[async_trait]
impl StoreCaps for Caps {
    async fn cap(&self, store: &StoreAddress) -> Result<Option<NonZeroU32>, CapUnknown> {
        let policy = self.0.account(&store.account).await.map_err(|_| CapUnknown)?;
        Ok(policy.workers().and_then(NonZeroU32::new))
    }

    async fn several_accounts(&self) -> bool {
        self.0.account_count().await.map_or(true, |accounts| accounts > 1)
    }
}

/// One life of a workman and its drain.
async fn work(living: &Living) {
    let (line, stop) = (&living.line, &living.stop);
    let room = Room::new(line);
    let swarm = &line.world.swarm;
    let seconds = Duration::from_secs;
    let settings = WorkmanSettings {
        name: line.name.clone(),
        workers: swarm.workers,
        visibility: swarm.visibility,
        failures_max: swarm.failures_max,
        retry_delays: RETRY_DELAYS.to_vec(),
        idle_backoff: [1, 10, 60].map(seconds).to_vec(),
        poll_wait: seconds(300),
        linger: swarm.linger,
        recheck: swarm.recheck,
        reserved_low: 0.0,
        reserved_high: 0.05,
        on_final_failure: OnFinalFailure::Drain,
        on_unavailable: OnUnavailable::Wait,
        grace: seconds(30),
    };
    let deps = WorkmanDeps {
        queues: vec![room.queues[&QueueName::DuplicationHigh].clone(), room.queues[&QueueName::DuplicationLow].clone()],
        all_queues: room.queues.clone(),
        dead_letter: room.queues[&QueueName::DeadLetter].clone(),
        registry: room.registry(),
        clock: line.clock.clone(),
        chance: room.chance(),
        statistics: Arc::default(),
        caps: Arc::new(Caps(room.policies.clone())),
        permits: Some(room.permits()),
        counts: Some(room.counts()),
    };
    let drain = DeadLetterDrain {
        queue: room.queues[&QueueName::DeadLetter].clone(),
        book: room.letters(),
        registry: room.registry(),
        clock: line.clock.clone(),
        settings: DrainSettings { visibility: seconds(60), poll_wait: seconds(300) },
    };
    let (workman, heartbeat) = Workman::new(deps, settings);
    let working = async {
        let ended = workman.run(stop.clone()).await;
        // The drain goes with its workman, as it does in a real process.
        stop.immediate.cancel();
        ended
    };
    let (_, (), _) = futures::join!(working, heartbeat.run(), drain.run(stop));
}

/// One life of a producer: session after session, as cron would have it.
async fn produce(life: &Living) {
    let world = &life.line.world;
    while !life.stop.gentle.is_cancelled() {
        let room = Room::new(&life.line);
        let _ = session(&room, false, &life.stop.gentle).await;
        let pause = world.dice.duration(Duration::from_secs(1), world.swarm.pause_max * 4);
        futures::future::select(
            std::pin::pin!(life.stop.gentle.cancelled()),
            std::pin::pin!(tokio::time::sleep(pause)),
        )
        .await;
    }
}

/// One session; its report is an event.
pub(crate) async fn session(room: &Room, force: bool, stop: &CancellationToken) -> Option<SessionReport> {
    let (world, by) = (&room.line.world, &room.line.name);
    match room.producer(force).run_session(stop).await {
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
