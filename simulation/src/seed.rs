//! One seed: its world is drawn, runs, comes to rest and is judged.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mill_hooks::slot_probe::observe_slots;
use mill_model::{AccountId, Algorithm, QueueName, SpaceId, StoreAddress, StoreId};
use mill_ports::{Clock, Rng};
use mill_testkit::{MemoryQueue, MemoryStore, QueueBehavior, SimClock, StoreBehavior};

use super::attempts::Attempts;
use super::audit_checks;
use super::audit_world::AuditWorld;
use super::chaos::Chaos;
use super::event::USERS;
use super::fault::FaultCounts;
use super::fleet::{PRODUCER_TIMEOUT, SimFleet};
use super::model::{Tolerances, WorldModel};
use super::policies::{self, STORES};
use super::quiescence::Quiescence;
use super::rng::SimRng;
use super::run_scenario::RunScenarios;
use super::scripted_checks;
use super::sim_queue::SimQueue;
use super::sim_store::SimStore;
use super::swarm::Swarm;
use super::users::Users;
use super::world::{Journal, Violation, World, WorldParts};

/// The outcome of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The hash of all events in order: the same for each run of the seed.
    pub trace_hash: u64,
    /// How many events the trace has.
    pub events: u64,
    /// Deliveries of tasks.
    pub deliveries: u64,
    /// How much simulated time passed.
    pub virtual_time: Duration,
    /// How often each fault struck.
    pub faults: FaultCounts,
    /// The first promise that was broken, if any was.
    pub violation: Option<Violation>,
    /// The trace, line by line, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed to its end, on this thread.
pub fn run(seed: u64, lines: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // The supervisors of processes are not `Send`, so they need a `LocalSet`.
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let world = draw_world(seed, lines);
        let listening = world.clone();
        let listener = move |workman: &str, taken| Attempts::observe_slots(&listening, workman, taken);
        observe_slots(Some(Rc::new(listener)));
        run_world(&world, &RunScenarios::draw(seed)).await;
        observe_slots(None);
        let journal = world.journal();
        Outcome {
            seed,
            trace_hash: journal.trace.hash(),
            events: journal.trace.events(),
            deliveries: journal.deliveries,
            virtual_time: world.now().since_origin(),
            faults: journal.counts.clone(),
            violation: journal.violation.clone(),
            lines: journal.trace.lines().to_vec(),
        }
    }))
}

async fn run_world(world: &Arc<World>, runs: &RunScenarios) {
    let mut fleet = SimFleet::new(world);
    world.set_calm(false);
    Chaos { world, fleet: &mut fleet }.run().await;
    runs.play_with_faults(world).await;
    let settled = !world.is_over() && settle(world, &mut fleet).await.is_some();
    if settled && runs.at_rest && !world.is_over() {
        fleet.stop_all(true).await;
        runs.play_at_rest(world).await;
    }
    if settled && !world.is_over() {
        audit_checks::judge(world, &mut fleet).await;
    }
    fleet.stop_all(false).await;
}

async fn settle(world: &Arc<World>, fleet: &mut SimFleet) -> Option<()> {
    let mut quiescence = Quiescence::begin(world, fleet);
    let held = quiescence.come_to_rest().await?;
    quiescence.judge(&held);
    quiescence.stays_at_rest().await?;
    if let Some(drill) = world.swarm.drill {
        scripted_checks::run(&mut quiescence, drill).await?;
    } else if world.swarm.confirms && !held.is_empty() {
        quiescence.confirmed_loop().await?;
        // If names fold, a deleted item makes room for one that was refused until then, and that one goes on to the next store.
        let held = if world.swarm.folds { quiescence.come_to_rest().await? } else { quiescence.one_loop().await? };
        quiescence.judge(&held);
    }
    Some(())
}

fn draw_world(seed: u64, lines: bool) -> Arc<World> {
    let rng = SimRng::new(seed);
    let swarm = Swarm::draw(&rng.fork());
    let world = empty_world(swarm, &rng, AuditWorld::draw(seed), lines);
    populate(&world);
    world
}

/// A world without any items.
pub(crate) fn empty_world(swarm: Swarm, rng: &SimRng, audit: Option<AuditWorld>, lines: bool) -> Arc<World> {
    let clock = Arc::new(SimClock::new());
    let as_clock: Arc<dyn Clock> = clock.clone();
    let accounts: Vec<AccountId> =
        ["ann", "bob"].iter().take(swarm.accounts as usize).map(|name| AccountId::new(*name).unwrap()).collect();
    let spaces: Vec<SpaceId> =
        ["photos", "texts"].iter().take(swarm.spaces as usize).map(|name| SpaceId::new(*name).unwrap()).collect();
    let mut sim_stores = BTreeMap::new();
    for account in &accounts {
        let of_logs = audit.iter().flat_map(AuditWorld::own_stores).cloned();
        for store in STORES.map(|store| StoreId::new(store).unwrap()).into_iter().chain(of_logs) {
            let address = StoreAddress { account: account.clone(), store };
            sim_stores.insert(address.clone(), sim_store(address, &swarm, &as_clock));
        }
    }
    let policy_address =
        StoreAddress { account: AccountId::new("mill").unwrap(), store: StoreId::new("policies").unwrap() };
    let policy_store = MemoryStore::new(policy_address.clone(), StoreBehavior::default(), clock.clone());
    let model = WorldModel::new(tolerances(&swarm));
    World::new(WorldParts {
        sim_queues: sim_queues(&swarm, &as_clock, rng, audit.is_some()),
        policy_store: SimStore::new(policy_address, policy_store, true),
        journal: Journal::new(model, lines),
        rng: rng.fork(),
        swarm,
        clock,
        sim_stores,
        audit,
        accounts,
        spaces,
    })
}

/// Writes the policies and the items with which the world begins.
fn populate(world: &Arc<World>) {
    world.note("world", format_args!("{:?}", world.swarm));
    for account in &world.accounts {
        let desired_policy = policies::first_policy(world);
        world.desired_policies.lock().0.insert(account.clone(), desired_policy);
    }
    policies::write_all(world);
    if !world.swarm.policies_quiet {
        policies::note_trouble(world);
    }
    for sim_store in
        world.sim_stores.values().filter(|sim_store| ["1", "4"].contains(&sim_store.address.store.as_str()))
    {
        let users = Users { world, sim_store };
        for space in &world.spaces {
            if world.rng.below(5) > 0 {
                users.make_space(space);
            }
        }
        for _ in 0..world.rng.between(0, world.swarm.items_max) {
            users.write_new();
        }
    }
    world.note(USERS, format_args!("begin"));
}

fn sim_store(address: StoreAddress, swarm: &Swarm, clock: &Arc<dyn Clock>) -> Arc<SimStore> {
    let source = ["1", "4"].contains(&address.store.as_str());
    let mut checksums = match if source { swarm.source_checksums } else { swarm.destination_checksums } {
        0 => Vec::new(),
        1 => vec![Algorithm::Md5],
        2 => vec![Algorithm::Sha256],
        _ => vec![Algorithm::Md5, Algorithm::Sha256],
    };
    if swarm.one_service {
        // Such a service checks its server-side copies by this checksum.
        checksums.push(Algorithm::Crc64Nvme);
    }
    let checks = !checksums.is_empty();
    let behavior = StoreBehavior {
        page_entries_max: swarm.page,
        piece_bytes_max: swarm.piece,
        checksums,
        properties_in_listings: swarm.properties_listed,
        reads_are_snapshots: swarm.snapshots,
        settles_after: if swarm.settles { Duration::from_secs(2) } else { Duration::ZERO },
        // S3's is a second; this long, changes often fall into one.
        version_tick: swarm.settles.then_some(Duration::from_secs(10)),
        service: swarm.one_service.then_some(1),
        unholdable: None,
        folds_names: swarm.folds && !source,
        ids_are_paths: false,
    };
    SimStore::new(address.clone(), MemoryStore::new(address, behavior, clock.clone()), checks)
}

fn sim_queues(
    swarm: &Swarm,
    clock: &Arc<dyn Clock>,
    rng: &SimRng,
    audited: bool,
) -> BTreeMap<QueueName, Arc<SimQueue>> {
    let chance: Arc<dyn Rng> = Arc::new(rng.fork());
    // The queues themselves double nothing: the world does, so that each body can be accounted for.
    let behavior = QueueBehavior {
        short_receives_per_mille: swarm.short_receives,
        max_receive_count: swarm.receives_max,
        batch_max: std::num::NonZeroU32::new(swarm.batch).unwrap(),
        visibility_total_max: swarm.held_max,
        // As the engine of one host has them.
        knows_accounts: swarm.recheck.is_zero(),
        ..QueueBehavior::well_behaved()
    };
    let queue =
        |name, redrive| Arc::new(MemoryQueue::new(name, behavior.clone(), clock.clone(), chance.clone(), redrive));
    let letters = queue(QueueName::DeadLetter, None);
    let mut sim_queues = BTreeMap::new();
    let of_logs = audited.then_some(QueueName::Audit);
    for name in [QueueName::DuplicationHigh, QueueName::DuplicationLow].into_iter().chain(of_logs) {
        sim_queues.insert(name, SimQueue::new(name, queue(name, Some(letters.clone()))));
    }
    sim_queues.insert(QueueName::DeadLetter, SimQueue::new(QueueName::DeadLetter, letters));
    sim_queues
}

/// The tolerances of this world.
fn tolerances(swarm: &Swarm) -> Tolerances {
    let minutes = Duration::from_mins;
    let frozen = if swarm.on.frozen + swarm.rates.frozen > 0 { minutes(40) } else { Duration::ZERO };
    let proof_age = if swarm.policies_quiet { Duration::from_millis(100) } else { minutes(10) };
    Tolerances {
        failures_max: swarm.failures_max,
        receives_max: swarm.receives_max,
        refresh: swarm.refresh,
        proof_age: proof_age + frozen,
        tries_age: minutes(10) + frozen,
        producer_timeout: PRODUCER_TIMEOUT,
        unasked_max: swarm.thresholds.unasked_max,
        unasked_few: swarm.thresholds.few,
        each_session_begins: swarm.frequency.is_zero(),
    }
}
