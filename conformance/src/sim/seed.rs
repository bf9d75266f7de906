//! One seed: a world is drawn, lives, comes to rest and is judged.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mill_engine::{MemoryQueue, MemoryStore, QueueBehavior, SimClock, StoreBehavior};
use mill_model::{AccountId, Algorithm, QueueName, SpaceId, StoreAddress, StoreId};
use mill_ports::witness::hear_slots;
use mill_ports::{Clock, Rng};

use super::attempts::Attempts;
use super::desk::Desk;
use super::dice::Dice;
use super::drills;
use super::event::PEOPLE;
use super::fault::Counts;
use super::fleet::{Fleet, PRODUCER_TIMEOUT};
use super::people::People;
use super::policies::{self, STORES};
use super::rest::Rest;
use super::shelf::Shelf;
use super::swarm::Swarm;
use super::truth::{Terms, Truth};
use super::weather::Weather;
use super::world::{Books, Parts, Violation, World, lock};

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Of everything that happened, in order: the same for each run of the seed.
    pub trace_hash: u64,
    /// How many events the trace has.
    pub events: u64,
    /// Deliveries of tasks.
    pub deliveries: u64,
    /// How much time passed in the world.
    pub virtual_time: Duration,
    /// How often each trouble struck.
    pub faults: Counts,
    /// The first promise that was broken, if any was.
    pub violation: Option<Violation>,
    /// The trace, line by line, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed to its end, on this thread.
pub fn run(seed: u64, lines: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Keepers of processes are not sent to other threads; what a workman runs could be.
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let world = draw(seed, lines);
        let listening = world.clone();
        let listener = move |workman: &str, taken| Attempts::hear_slots(&listening, workman, taken);
        hear_slots(Some(Rc::new(listener)));
        live(&world).await;
        hear_slots(None);
        let books = world.books();
        Outcome {
            seed,
            trace_hash: books.trace.hash(),
            events: books.trace.events(),
            deliveries: books.deliveries,
            virtual_time: world.now().since_origin(),
            faults: books.counts.clone(),
            violation: books.violation.clone(),
            lines: books.trace.lines().to_vec(),
        }
    }))
}

async fn live(world: &Arc<World>) {
    let mut fleet = Fleet::new(world);
    world.set_calm(false);
    Weather { world, fleet: &mut fleet }.blow().await;
    if !world.is_over() {
        settle(world, &mut fleet).await;
    }
    fleet.stand_down(false).await;
}

async fn settle(world: &Arc<World>, fleet: &mut Fleet) -> Option<()> {
    let mut rest = Rest::begin(world, fleet);
    let held = rest.come_to_rest().await?;
    rest.judge(&held);
    rest.stays_at_rest().await?;
    if let Some(drill) = world.swarm.drill {
        drills::hold(&mut rest, drill).await?;
    } else if world.swarm.confirms && !held.is_empty() {
        rest.confirmed_loop().await?;
        // Where names fold, what is gone makes room for what was refused until then, and that goes on to the next store.
        let held = if world.swarm.folds { rest.come_to_rest().await? } else { rest.one_loop().await? };
        rest.judge(&held);
    }
    Some(())
}

fn draw(seed: u64, lines: bool) -> Arc<World> {
    let dice = Dice::new(seed);
    let swarm = Swarm::draw(&dice.fork());
    let world = empty(swarm, &dice, lines);
    furnish(&world);
    world
}

/// A world in which nothing stands yet.
pub(crate) fn empty(swarm: Swarm, dice: &Dice, lines: bool) -> Arc<World> {
    let clock = Arc::new(SimClock::new());
    let as_clock: Arc<dyn Clock> = clock.clone();
    let accounts: Vec<AccountId> =
        ["ann", "bob"].iter().take(swarm.accounts as usize).map(|name| AccountId::new(*name).unwrap()).collect();
    let spaces: Vec<SpaceId> =
        ["photos", "texts"].iter().take(swarm.spaces as usize).map(|name| SpaceId::new(*name).unwrap()).collect();
    let mut shelves = BTreeMap::new();
    for account in &accounts {
        for store in STORES {
            let address = StoreAddress { account: account.clone(), store: StoreId::new(store).unwrap() };
            shelves.insert(address.clone(), shelf(address, &swarm, &as_clock));
        }
    }
    let policy_address =
        StoreAddress { account: AccountId::new("mill").unwrap(), store: StoreId::new("policies").unwrap() };
    let policy_store = MemoryStore::new(policy_address.clone(), StoreBehavior::default(), clock.clone());
    let truth = Truth::new(terms(&swarm));
    World::new(Parts {
        desks: desks(&swarm, &as_clock, dice),
        policy_shelf: Shelf::new(policy_address, policy_store, true),
        books: Books::new(truth, lines),
        dice: dice.fork(),
        swarm,
        clock,
        shelves,
        accounts,
        spaces,
    })
}

/// What stands there before anything begins.
fn furnish(world: &Arc<World>) {
    world.note("world", format_args!("{:?}", world.swarm));
    for account in &world.accounts {
        let wish = policies::first_wish(world);
        lock(&world.wishes).0.insert(account.clone(), wish);
    }
    policies::write_all(world);
    if !world.swarm.policies_quiet {
        policies::trouble(world);
    }
    for shelf in world.shelves.values().filter(|shelf| ["1", "4"].contains(&shelf.address.store.as_str())) {
        let people = People { world, shelf };
        for space in &world.spaces {
            if world.dice.below(5) > 0 {
                people.make_space(space);
            }
        }
        for _ in 0..world.dice.between(0, world.swarm.items_max) {
            people.write_new();
        }
    }
    world.note(PEOPLE, format_args!("begin"));
}

fn shelf(address: StoreAddress, swarm: &Swarm, clock: &Arc<dyn Clock>) -> Arc<Shelf> {
    let source = ["1", "4"].contains(&address.store.as_str());
    let mut checksums = match if source { swarm.source_checksums } else { swarm.destination_checksums } {
        0 => Vec::new(),
        1 => vec![Algorithm::Md5],
        2 => vec![Algorithm::Sha256],
        _ => vec![Algorithm::Md5, Algorithm::Sha256],
    };
    if swarm.one_service {
        // By it such a service judges what it brings.
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
        service: swarm.one_service.then_some(1),
        unholdable: None,
        folds_names: swarm.folds && !source,
        ids_are_paths: false,
    };
    Shelf::new(address.clone(), MemoryStore::new(address, behavior, clock.clone()), checks)
}

fn desks(swarm: &Swarm, clock: &Arc<dyn Clock>, dice: &Dice) -> BTreeMap<QueueName, Arc<Desk>> {
    let chance: Arc<dyn Rng> = Arc::new(dice.fork());
    // Copies are the world's own doing, so that each body can be accounted for.
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
    let mut desks = BTreeMap::new();
    for name in [QueueName::DuplicationHigh, QueueName::DuplicationLow] {
        desks.insert(name, Desk::new(name, queue(name, Some(letters.clone()))));
    }
    desks.insert(QueueName::DeadLetter, Desk::new(QueueName::DeadLetter, letters));
    desks
}

/// How strictly this world can be judged.
fn terms(swarm: &Swarm) -> Terms {
    let minutes = Duration::from_mins;
    let frozen = if swarm.on.frozen + swarm.rates.frozen > 0 { minutes(40) } else { Duration::ZERO };
    let proof_age = if swarm.policies_quiet { Duration::from_millis(100) } else { minutes(10) };
    Terms {
        failures_max: swarm.failures_max,
        receives_max: swarm.receives_max,
        refresh: swarm.refresh,
        proof_age: proof_age + frozen,
        tries_age: minutes(10) + frozen,
        producer_timeout: PRODUCER_TIMEOUT,
        unasked_max: swarm.thresholds.unasked_max,
        each_session_begins: swarm.frequency.is_zero(),
    }
}
