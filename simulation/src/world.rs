//! The world: back ends that outlive every process, their troubles, and the journal of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mill_model::{AccountId, Monotonic, QueueName, SpaceId, StoreAddress, StoreId};
use mill_ports::Clock as _;
use mill_records::tables::table_names;
use mill_testkit::{MemoryTable, SimClock};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::attempts::Attempts;
use super::audit_world::AuditWorld;
use super::desired_policies::DesiredPolicies;
use super::event::Event;
use super::fairness::Fairness;
use super::fault::{FaultCounts, SimFault};
use super::in_flight_bodies::InFlightBodies;
use super::invariants::{self, Invariant};
use super::model::WorldModel;
use super::rng::SimRng;
use super::sim_process::SimProcess;
use super::sim_queue::SimQueue;
use super::sim_store::SimStore;
use super::swarm::Swarm;
use super::trace::Trace;

/// The records of a running world.
pub(crate) struct Journal {
    pub(crate) trace: Trace,
    pub(crate) model: WorldModel,
    pub(crate) counts: FaultCounts,
    pub(crate) deliveries: u64,
    invariants: Vec<Box<dyn Invariant>>,
    pub(crate) violation: Option<Violation>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What is wrong, for a person.
    pub what: String,
}

/// The whole simulated world.
pub(crate) struct World {
    pub(crate) swarm: Swarm,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) rng: SimRng,
    pub(crate) sim_queues: BTreeMap<QueueName, Arc<SimQueue>>,
    pub(crate) sim_stores: BTreeMap<StoreAddress, Arc<SimStore>>,
    pub(crate) policy_store: Arc<SimStore>,
    /// The audit logs, if the world has any.
    pub(crate) audit: Option<AuditWorld>,
    pub(crate) tables: BTreeMap<&'static str, Arc<MemoryTable>>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) spaces: Vec<SpaceId>,
    /// The policies that users want now.
    pub(crate) desired_policies: Mutex<DesiredPolicies>,
    journal: Mutex<Journal>,
    calm: AtomicBool,
    /// Cancelled when a promise was broken: it ends the world.
    pub(crate) over: CancellationToken,
    /// How many processes were ever started; makes their names unique.
    pub(crate) born: std::sync::atomic::AtomicU64,
    /// The running attempts of all processes.
    pub(crate) attempts: Mutex<Attempts>,
    /// Which process holds which body.
    pub(crate) in_flight_bodies: Mutex<InFlightBodies>,
    /// Since when tasks wait.
    pub(crate) fairness: Mutex<Fairness>,
    /// The workmen, living and dead.
    workmen: Mutex<Vec<Weak<SimProcess>>>,
    /// The names of dead processes.
    pub(crate) dead: Mutex<std::collections::BTreeSet<String>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("swarm", &self.swarm).finish_non_exhaustive()
    }
}

impl Journal {
    pub(crate) fn new(model: WorldModel, lines: bool) -> Self {
        Self {
            trace: Trace::new(lines),
            model,
            counts: FaultCounts::default(),
            deliveries: 0,
            invariants: invariants::all(),
            violation: None,
        }
    }
}

/// The parts from which a world is made.
pub(crate) struct WorldParts {
    pub(crate) swarm: Swarm,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) rng: SimRng,
    pub(crate) sim_queues: BTreeMap<QueueName, Arc<SimQueue>>,
    pub(crate) sim_stores: BTreeMap<StoreAddress, Arc<SimStore>>,
    pub(crate) policy_store: Arc<SimStore>,
    pub(crate) audit: Option<AuditWorld>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) spaces: Vec<SpaceId>,
    pub(crate) journal: Journal,
}

impl World {
    pub(crate) fn new(parts: WorldParts) -> Arc<Self> {
        let WorldParts { swarm, clock, rng, sim_queues, sim_stores, policy_store, audit, accounts, spaces, journal } =
            parts;
        let tables = table_names().map(|name| (name, Arc::new(MemoryTable::with_pages_of(name, 7)))).collect();
        Arc::new(Self {
            swarm,
            clock,
            rng,
            sim_queues,
            sim_stores,
            policy_store,
            audit,
            tables,
            accounts,
            spaces,
            desired_policies: Mutex::default(),
            journal: Mutex::new(journal),
            calm: AtomicBool::new(true),
            over: CancellationToken::new(),
            born: std::sync::atomic::AtomicU64::new(0),
            attempts: Mutex::default(),
            in_flight_bodies: Mutex::default(),
            fairness: Mutex::default(),
            workmen: Mutex::default(),
            dead: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Records an event and lets every invariant judge it.
    pub(crate) fn see(&self, event: &Event<'_>) {
        let mut journal = self.journal.lock();
        let journal = &mut *journal;
        journal.model.now = self.now();
        journal.trace.note(journal.model.now, format_args!("{event}"));
        journal.model.apply(event);
        if matches!(event, Event::Received { .. }) {
            journal.deliveries += 1;
        }
        if journal.violation.is_some() {
            return;
        }
        for invariant in &mut journal.invariants {
            if let Err(what) = invariant.see(event, &journal.model) {
                let name = invariant.name();
                journal.trace.note(journal.model.now, format_args!("VIOLATION of {name}: {what}"));
                journal.violation = Some(Violation { invariant: name, what });
                self.over.cancel();
                return;
            }
        }
    }

    /// Records a violation that a check outside the invariants found.
    pub(crate) fn violated(&self, invariant: &'static str, what: String) {
        let mut journal = self.journal.lock();
        let now = self.now();
        journal.trace.note(now, format_args!("VIOLATION of {invariant}: {what}"));
        journal.violation.get_or_insert(Violation { invariant, what });
        drop(journal);
        self.over.cancel();
    }

    /// Registers a workman that starts.
    pub(crate) fn begins(&self, workman: &Arc<SimProcess>) {
        let mut workmen = self.workmen.lock();
        workmen.retain(|process| process.strong_count() > 0);
        workmen.push(Arc::downgrade(workman));
    }

    /// The workmen that live now.
    pub(crate) fn workmen(&self) -> Vec<Arc<SimProcess>> {
        let all: Vec<_> = self.workmen.lock().iter().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|process| !process.is_dead()).collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub(crate) fn note(&self, by: &str, what: fmt::Arguments<'_>) {
        self.see(&Event::Note { by, what: &what });
    }

    /// Counts a fault.
    pub(crate) fn count(&self, fault: SimFault, by: &str) {
        let mut journal = self.journal.lock();
        journal.counts.count(fault);
        let now = self.now();
        journal.trace.note(now, format_args!("{by}: * {fault}"));
    }

    /// Draws whether a fault strikes, and counts it if it does.
    pub(crate) fn inject(&self, fault: SimFault, per_mille: u32, by: &str) -> bool {
        let struck = !self.is_calm() && self.rng.happens(per_mille);
        if struck {
            self.count(fault, by);
        }
        struck
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
        self.note("world", format_args!("{}", if calm { "all faults end" } else { "faults begin" }));
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }

    pub(crate) fn model<R>(&self, read: impl FnOnce(&WorldModel) -> R) -> R {
        let mut journal = self.journal();
        journal.model.now = self.now();
        read(&journal.model)
    }

    pub(crate) fn sim_store(&self, account: &AccountId, store: &StoreId) -> Option<&Arc<SimStore>> {
        self.sim_stores.get(&StoreAddress::of(account, store))
    }

    pub(crate) async fn sleep(&self, by: Duration) {
        self.clock.sleep(by).await;
    }
}
