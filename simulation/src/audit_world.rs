//! The audited part of a world: accounts with an audit log, stores whose changes are recorded, and services that report what
//! people did.
//!
//! Some worlds have it. All that it decides comes from random numbers of its own, so that worlds without it stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mill_model::{
    AccountId, AuditAction, AuditEvent, AuditTask, ContentId, Envelope, EventId, EventSource, ItemAddress, QueueName,
    SpaceId, StoreAddress, StoreId, TaskArgs as _, TaskId, Timestamp, wire,
};
use mill_policy::{AUDIT_LOG_SPACE, SecretReference};
use mill_ports::{BoxError, Clock as _, DeletableStore, OutgoingMessage};
use mill_processors::AuditDeps;
use mill_records::audit_intents::Intents;
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::opening::SigningKeys;
use mill_records::audit_log::publisher::LogPublisher;
use mill_records::audit_sender::AuditSender;
use mill_records::audited_store::AuditedStore;
use mill_records::content_index::ContentIndex;
use mill_transparency::{LogSigner, LogVerifier};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::event::{Event, USERS};
use super::fault::SimFault;
use super::rng::SimRng;
use super::sim_process::SimProcess;
use super::sim_queue::QueueClient;
use super::sim_store::{SimStore, StoreClient};
use super::sim_table::TableClient;
use super::world::World;

/// Of so many worlds, one has audit logs.
const WORLDS: u64 = 8;

/// The stores whose changes are recorded: those that hold copies.
const AUDITED: [&str; 2] = ["2", "3"];

/// How often a workman looks for the changes of lost writers.
const SETTLE_EVERY: Duration = Duration::from_mins(5);

/// The audit logs of a world, and the notifications of its stores.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a freedom of its own
pub(crate) struct AuditWorld {
    rng: SimRng,
    /// The stores that have the log of each account.
    pub(crate) log_stores: Vec<StoreId>,
    /// Whether the notifications of a store have an order.
    has_order: bool,
    /// Whether notifications get lost, and come twice or late.
    loses: bool,
    doubles: bool,
    delays: bool,
    /// How far the clock of each store is off, in milliseconds.
    clocks_off: BTreeMap<String, i64>,
    notified: Mutex<Notified>,
}

/// What people did, and what the stores reported of it.
#[derive(Debug, Default)]
pub(crate) struct Notified {
    changes: u64,
    /// The events that were reported at least once.
    pub(crate) reported: BTreeMap<EventId, AccountId>,
    /// The items whose last change was reported.
    pub(crate) last_reported: BTreeSet<(StoreAddress, ItemAddress)>,
}

/// Whether the changes of a store are recorded, where there are audit logs.
pub(crate) fn is_audited(store: &StoreAddress) -> bool {
    AUDITED.contains(&store.store.as_str())
}

/// Whether a space has an audit log.
pub(crate) fn is_log(space: &SpaceId) -> bool {
    space.as_str() == AUDIT_LOG_SPACE
}

impl AuditWorld {
    /// The audited part of the world with that seed, if it has one.
    pub(crate) fn draw(seed: u64) -> Option<Self> {
        const OWN_STREAM: u64 = 0x6175_6469;
        let rng = SimRng::new(seed ^ OWN_STREAM.rotate_left(32));
        if rng.below(WORLDS) > 0 {
            return None;
        }
        let log_stores = *rng.pick::<&[&str]>(&[&["6"], &["6", "7"], &["3", "6"], &["3"]]);
        let hour: u64 = 3_600_000;
        let off = || rng.below(hour).cast_signed() - (hour / 2).cast_signed();
        let clocks_off = ["1", "2", "3", "4"].iter().map(|store| ((*store).to_owned(), off())).collect();
        Some(Self {
            log_stores: log_stores.iter().map(|store| StoreId::new(*store).unwrap()).collect(),
            has_order: rng.below(2) == 0,
            loses: rng.below(2) == 0,
            doubles: rng.below(2) == 0,
            delays: rng.below(2) == 0,
            clocks_off,
            notified: Mutex::default(),
            rng,
        })
    }

    /// The stores that an account has for its log alone.
    pub(crate) fn own_stores(&self) -> impl Iterator<Item = &StoreId> {
        self.log_stores.iter().filter(|store| !AUDITED.contains(&store.as_str()))
    }

    /// The stores file of an account, made of its other stores.
    pub(crate) fn stores_file(&self, account: &AccountId, mut stores: Vec<Value>) -> Value {
        for store in stores.iter_mut().filter(|store| AUDITED.iter().any(|audited| store["id"] == *audited)) {
            store["audited"] = true.into();
        }
        stores.extend(self.own_stores().map(|store| {
            json!({ "id": store.as_str(), "type": "folder", "root": format!("{}-{}", account.as_str(), store.as_str()) })
        }));
        let log_stores: Vec<&str> = self.log_stores.iter().map(StoreId::as_str).collect();
        json!({
            "stores": stores,
            "auditLog": { "stores": log_stores, "origin": origin(account), "signingKeyEnv": account.as_str() },
        })
    }

    pub(crate) fn notified(&self) -> parking_lot::MutexGuard<'_, Notified> {
        self.notified.lock()
    }

    /// What the processors of changes work with, in one process.
    pub(crate) fn deps(process: &Arc<SimProcess>) -> AuditDeps {
        let log = AuditLog::new(TableClient::new(process, AuditLog::TABLE));
        AuditDeps {
            publisher: LogPublisher::new(log.clone()),
            log,
            index: ContentIndex::new(TableClient::new(process, ContentIndex::TABLE)),
            keys: Arc::new(SimKeys),
            thresholds: process.world.swarm.thresholds,
            publish_after: Duration::from_secs(if process.world.swarm.recheck.is_zero() { 1 } else { 10 }),
            new_spaces: None,
        }
    }

    /// A process's client of a store, which records its changes if the store is audited.
    pub(crate) fn audited(&self, process: &Arc<SimProcess>, store: StoreClient) -> Result<AuditedStore, StoreClient> {
        let address = store.address().clone();
        if !AUDITED.contains(&address.store.as_str()) {
            return Err(store);
        }
        let of_log = self.log_stores.contains(&address.store).then(|| SpaceId::new(AUDIT_LOG_SPACE).unwrap());
        let table = TableClient::new(process, AuditLog::TABLE);
        let sim_queue = process.world.sim_queues[&QueueName::Audit].clone();
        let sender = AuditSender {
            queue: Arc::new(QueueClient { process: process.clone(), sim_queue }),
            log: AuditLog::new(table.clone()),
            clock: process.clock.clone(),
            chance: Arc::new(self.rng.fork()),
        };
        let inner: Arc<dyn DeletableStore> = Arc::new(store);
        Ok(AuditedStore::new(inner, address, of_log, (Intents::new(table), sender)))
    }
}

/// Settles, now and then, what lost writers left, until the process is told to stop.
pub(crate) async fn settle_now_and_then(
    process: &Arc<SimProcess>,
    gentle: &CancellationToken,
    now: &CancellationToken,
) {
    let settling = async {
        loop {
            process.clock.sleep(SETTLE_EVERY).await;
            settle(process).await;
        }
    };
    let stopped = futures::future::select(Box::pin(gentle.cancelled()), Box::pin(now.cancelled()));
    futures::future::select(stopped, std::pin::pin!(settling)).await;
}

/// Settles once what lost writers left at all stores.
pub(crate) async fn settle(process: &Arc<SimProcess>) {
    let world = &process.world;
    let Some(audit) = &world.audit else { return };
    for sim_store in world.sim_stores.values() {
        let client = StoreClient::new(process, sim_store, false);
        let Ok(audited) = audit.audited(process, client) else { continue };
        if let Err(error) = audited.settle().await {
            world.note(&process.name, format_args!("not all is settled: {}", mill_ports::error_chain(&error)));
        }
    }
}

/// What people did to an item, or to a space.
pub(crate) struct UserChange<'a> {
    pub(crate) space: &'a SpaceId,
    pub(crate) item: Option<&'a ContentId>,
    pub(crate) action: AuditAction,
    /// The size afterwards.
    pub(crate) size: Option<u64>,
}

/// A store reports what people did there: at once, late, twice, or never.
pub(crate) fn report(world: &World, sim_store: &SimStore, change: &UserChange<'_>) {
    let Some(audit) = &world.audit else { return };
    let store = &sim_store.address;
    let UserChange { space, item, .. } = change;
    let subject = item.map(|id| (store.clone(), ItemAddress { space: (*space).clone(), id: id.clone() }));
    // What stood there before all began is known to nobody, and so is what a service lost.
    let begins = world.now() == mill_model::Monotonic::default();
    if begins || (!world.is_calm() && audit.loses && audit.rng.below(8) == 0) {
        if !begins {
            world.count(SimFault::NotificationLost, USERS);
        }
        forget(world, subject);
        return;
    }
    let event = audit.event(world, store, change);
    world.see(&Event::Reported { store, event: &event });
    let mut notified = audit.notified();
    notified.reported.insert(event.id, store.account.clone());
    notified.last_reported.extend(subject);
    drop(notified);
    audit.send(world, &store.account, &event, "first");
    if !world.is_calm() && audit.doubles && audit.rng.below(4) == 0 {
        world.count(SimFault::NotificationDoubled, USERS);
        audit.send(world, &store.account, &event, "again");
    }
}

/// An item changed, and nobody reported that.
pub(crate) fn forget(world: &World, subjects: impl IntoIterator<Item = (StoreAddress, ItemAddress)>) {
    let Some(audit) = &world.audit else { return };
    let mut notified = audit.notified();
    for subject in subjects {
        notified.last_reported.remove(&subject);
    }
}

impl AuditWorld {
    fn event(&self, world: &World, store: &StoreAddress, change: &UserChange<'_>) -> AuditEvent {
        let UserChange { space, item, action, size } = change;
        let number = {
            let mut notified = self.notified();
            notified.changes += 1;
            notified.changes
        };
        let off = self.clocks_off.get(store.store.as_str()).copied().unwrap_or_default();
        let at = Timestamp::from_millis(world.clock.now().as_millis().saturating_add_signed(off));
        let order = format!("{number:016X}");
        let facts = [store.store.as_str(), space.as_str(), item.map_or("", ContentId::as_str), &order];
        let subject = (store.store.clone(), (*space).clone(), item.cloned());
        let mut event = AuditEvent::new(EventId::of_facts(at, &facts), subject, *action, at, EventSource::Store);
        event.size = *size;
        event.order = (self.has_order && item.is_some()).then_some(order);
        event
    }

    /// Sends the event to the audit queue, as the notifications of a service would.
    fn send(&self, world: &World, account: &AccountId, event: &AuditEvent, copy: &str) {
        let late = self.lateness(world);
        let now = world.clock.now();
        let task = AuditTask { account: account.clone(), events: vec![event.clone()], stored: Vec::new() };
        let id = TaskId::of_facts(now, &[&event.id.to_string(), copy]);
        let envelope = Envelope::new(id, QueueName::Audit, now, task.to_task().unwrap());
        let out =
            OutgoingMessage { group: account.clone(), body: wire::encode(&envelope).unwrap(), delay: Duration::ZERO };
        world.sim_queues[&QueueName::Audit].put_late(world, USERS, out, late);
    }

    fn lateness(&self, world: &World) -> Duration {
        if world.is_calm() || !self.delays || self.rng.below(4) > 0 {
            return self.rng.duration(Duration::ZERO, Duration::from_secs(3));
        }
        world.count(SimFault::NotificationLate, USERS);
        let most = *self.rng.pick(&[Duration::from_mins(2), Duration::from_mins(30), Duration::from_hours(8)]);
        self.rng.duration(Duration::from_secs(4), most)
    }
}

/// The name of an account's log.
pub(crate) fn origin(account: &AccountId) -> String {
    format!("example.org/{}", account.as_str())
}

fn signer(account: &str) -> LogSigner {
    let mut random = [7; 32];
    random[0] = account.as_bytes()[0];
    LogSigner::generate(&format!("example.org/{account}"), random).unwrap()
}

/// Knows the key of an account's log.
pub(crate) fn verifier(account: &AccountId) -> LogVerifier {
    LogVerifier::new(vec![signer(account.as_str()).public().clone()]).unwrap()
}

/// The signing keys, as an environment has them.
#[derive(Debug)]
struct SimKeys;

#[async_trait]
impl SigningKeys for SimKeys {
    async fn read(&self, key: &SecretReference) -> Result<String, BoxError> {
        match key {
            SecretReference::Env(account) => Ok(signer(account).to_secret()),
            SecretReference::File(_) => Err("no key is in a file".into()),
        }
    }
}
