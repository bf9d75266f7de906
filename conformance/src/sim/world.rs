//! The world: back ends that outlive every process, the troubles they are in, and the books of what is so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mill_engine::{MemoryTable, SimClock};
use mill_model::{AccountId, Monotonic, QueueName, SpaceId, StoreAddress, StoreId};
use mill_ports::Clock as _;
use mill_records::account_counts::AccountCounts;
use mill_records::permits::PermitRepository;
use tokio_util::sync::CancellationToken;

use super::attempts::Attempts;
use super::desk::Desk;
use super::dice::Dice;
use super::event::Event;
use super::fault::{Counts, Fault};
use super::hands::Hands;
use super::invariants::{self, Invariant};
use super::line::Line;
use super::shelf::Shelf;
use super::swarm::Swarm;
use super::trace::Trace;
use super::truth::Truth;
use super::turns::Turns;
use super::wishes::Wishes;

/// What is written down while a world runs.
pub(crate) struct Books {
    pub(crate) trace: Trace,
    pub(crate) truth: Truth,
    pub(crate) counts: Counts,
    pub(crate) deliveries: u64,
    invariants: Vec<Box<dyn Invariant>>,
    pub(crate) violation: Option<Violation>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

/// The whole of it.
pub(crate) struct World {
    pub(crate) swarm: Swarm,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) dice: Dice,
    pub(crate) desks: BTreeMap<QueueName, Arc<Desk>>,
    pub(crate) shelves: BTreeMap<StoreAddress, Arc<Shelf>>,
    pub(crate) policy_shelf: Arc<Shelf>,
    pub(crate) tables: BTreeMap<&'static str, Arc<MemoryTable>>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) spaces: Vec<SpaceId>,
    /// What the people want now.
    pub(crate) wishes: Mutex<Wishes>,
    books: Mutex<Books>,
    calm: AtomicBool,
    /// Ends everything: a promise was broken.
    pub(crate) over: CancellationToken,
    /// How many processes were ever started, for names that none bears twice.
    pub(crate) born: std::sync::atomic::AtomicU64,
    /// The attempts that run now, of all processes.
    pub(crate) attempts: Mutex<Attempts>,
    /// Who has which body in hand.
    pub(crate) hands: Mutex<Hands>,
    /// Since when tasks have waited for their turn.
    pub(crate) turns: Mutex<Turns>,
    /// The lives of workmen.
    workmen: Mutex<Vec<Weak<Line>>>,
    /// Names of processes that live no more.
    pub(crate) dead: Mutex<std::collections::BTreeSet<String>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("swarm", &self.swarm).finish_non_exhaustive()
    }
}

/// Locks; what a panicking task left behind is still the best there is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    pub(crate) fn new(truth: Truth, lines: bool) -> Self {
        Self {
            trace: Trace::new(lines),
            truth,
            counts: Counts::default(),
            deliveries: 0,
            invariants: invariants::all(),
            violation: None,
        }
    }
}

/// What a world is made of, before anything lives in it.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) dice: Dice,
    pub(crate) desks: BTreeMap<QueueName, Arc<Desk>>,
    pub(crate) shelves: BTreeMap<StoreAddress, Arc<Shelf>>,
    pub(crate) policy_shelf: Arc<Shelf>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) spaces: Vec<SpaceId>,
    pub(crate) books: Books,
}

impl World {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { swarm, clock, dice, desks, shelves, policy_shelf, accounts, spaces, books } = parts;
        let tables = [
            "producer-state",
            "seals",
            "owners",
            "delete-lists",
            PermitRepository::BOOK,
            AccountCounts::BOOK,
            mill_records::dead_letters::DeadLetters::BOOK,
        ];
        let tables = tables.into_iter().map(|name| (name, Arc::new(MemoryTable::with_pages_of(name, 7)))).collect();
        Arc::new(Self {
            swarm,
            clock,
            dice,
            desks,
            shelves,
            policy_shelf,
            tables,
            accounts,
            spaces,
            wishes: Mutex::default(),
            books: Mutex::new(books),
            calm: AtomicBool::new(true),
            over: CancellationToken::new(),
            born: std::sync::atomic::AtomicU64::new(0),
            attempts: Mutex::default(),
            hands: Mutex::default(),
            turns: Mutex::default(),
            workmen: Mutex::default(),
            dead: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Writes an event down and has every invariant judge it.
    pub(crate) fn see(&self, event: &Event<'_>) {
        let mut books = lock(&self.books);
        let books = &mut *books;
        books.truth.now = self.now();
        books.trace.note(books.truth.now, format_args!("{event}"));
        books.truth.learn(event);
        if matches!(event, Event::Received { .. }) {
            books.deliveries += 1;
        }
        if books.violation.is_some() {
            return;
        }
        for invariant in &mut books.invariants {
            if let Err(what) = invariant.see(event, &books.truth) {
                let name = invariant.name();
                books.trace.note(books.truth.now, format_args!("VIOLATION of {name}: {what}"));
                books.violation = Some(Violation { invariant: name, what });
                self.over.cancel();
                return;
            }
        }
    }

    /// Notes that a promise was found broken by who looked for it.
    pub(crate) fn violated(&self, invariant: &'static str, what: String) {
        let mut books = lock(&self.books);
        let now = self.now();
        books.trace.note(now, format_args!("VIOLATION of {invariant}: {what}"));
        books.violation.get_or_insert(Violation { invariant, what });
        drop(books);
        self.over.cancel();
    }

    /// A workman lives from now on.
    pub(crate) fn begins(&self, workman: &Arc<Line>) {
        let mut workmen = lock(&self.workmen);
        workmen.retain(|line| line.strong_count() > 0);
        workmen.push(Arc::downgrade(workman));
    }

    /// The workmen that live now.
    pub(crate) fn workmen(&self) -> Vec<Arc<Line>> {
        let all: Vec<_> = lock(&self.workmen).iter().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|line| !line.is_dead()).collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub(crate) fn note(&self, by: &str, what: fmt::Arguments<'_>) {
        self.see(&Event::Note { by, what: &what });
    }

    /// Counts a trouble.
    pub(crate) fn count(&self, fault: Fault, by: &str) {
        let mut books = lock(&self.books);
        books.counts.count(fault);
        let now = self.now();
        books.trace.note(now, format_args!("{by}: * {fault}"));
    }

    /// Whether something goes wrong here and now; counted, if it does.
    pub(crate) fn strikes(&self, fault: Fault, per_mille: u32, by: &str) -> bool {
        let struck = !self.is_calm() && self.dice.happens(per_mille);
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

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    pub(crate) fn truth<R>(&self, read: impl FnOnce(&Truth) -> R) -> R {
        let mut books = self.books();
        books.truth.now = self.now();
        read(&books.truth)
    }

    pub(crate) fn shelf(&self, account: &AccountId, store: &StoreId) -> Option<&Arc<Shelf>> {
        self.shelves.get(&StoreAddress { account: account.clone(), store: store.clone() })
    }

    pub(crate) async fn sleep(&self, by: Duration) {
        self.clock.sleep(by).await;
    }
}
