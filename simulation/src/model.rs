//! The model of the world, written from events alone: every state of every item, where each task is, every policy that ever
//! held.

mod audit;
mod dead_letters;
mod stores;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, ContentId, ItemAddress, Monotonic, SpaceId, SpacePair, StoreAddress, TaskArgs as _};

pub(crate) use self::audit::{AuditModel, ChangeKey, LogModel, committed};
pub(crate) use self::stores::{ItemSnapshot, StoreModel};
pub(crate) use self::tasks::TaskModel;
use super::desired_policies::DesiredPolicies;
use super::event::{Event, USERS};

/// The tolerances of the judges, by this seed's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerances {
    pub(crate) failures_max: u32,
    pub(crate) receives_max: u32,
    /// How old a policy may be that a process uses.
    pub(crate) refresh: Duration,
    /// The longest time between a proof and the first call that acts on it.
    pub(crate) proof_age: Duration,
    /// The longest time between a proof and the last attempt of that call.
    pub(crate) tries_age: Duration,
    pub(crate) producer_timeout: Duration,
    /// The most deletes of a pair that the rule may grant within 24 hours.
    pub(crate) unasked_max: u64,
    /// The most that it may grant for events, together with all others.
    pub(crate) unasked_few: u64,
    /// Whether each session of a producer may begin runs.
    pub(crate) each_session_begins: bool,
}

/// The state of the world, as events show it.
#[derive(Debug)]
pub(crate) struct WorldModel {
    pub(crate) tolerances: Tolerances,
    pub(crate) now: Monotonic,
    pub(crate) stores: BTreeMap<StoreAddress, StoreModel>,
    pub(crate) tasks: BTreeMap<String, TaskModel>,
    /// The dead letters in the table, by row.
    pub(crate) dead_letters: BTreeMap<String, dead_letters::DeadLetterModel>,
    /// All policies that ever held, oldest first, and since when.
    pub(crate) policy_history: Vec<(Monotonic, DesiredPolicies)>,
    /// The stores that any policy ever wrote to.
    pub(crate) destinations: BTreeSet<StoreAddress>,
    /// When a producer last queued a task about an item, or a space.
    pub(crate) queued: BTreeMap<(SpacePair, Option<ContentId>), Monotonic>,
    /// When each run of an account began, by its number.
    pub(crate) runs: BTreeMap<(AccountId, u64), Monotonic>,
    /// The runs that each producer has saved in its current or last session.
    pub(crate) session_runs: BTreeMap<String, BTreeMap<AccountId, u64>>,
    /// The runs that were finished when each producer's session began, by account.
    pub(crate) over_before: BTreeMap<String, BTreeMap<AccountId, u64>>,
    /// The finished runs, by account.
    over: BTreeMap<AccountId, u64>,
    /// When the operator last confirmed deletes, and how many.
    pub(crate) confirmed: Option<(Monotonic, u64)>,
    /// The unmounted disks beneath spaces: their path, and since when.
    pub(crate) unmounted: BTreeMap<(StoreAddress, SpaceId), (String, Monotonic)>,
    /// How often Mill changed any item.
    pub(crate) effects: u64,
    /// The marks of all probe tasks that were ever sent.
    pub(crate) marks: BTreeSet<String>,
    /// When policy files were last unreadable or broken.
    pub(crate) policies_troubled: Option<Monotonic>,
    /// What the audit logs must tell.
    pub(crate) audit: AuditModel,
}

impl WorldModel {
    pub(crate) fn new(tolerances: Tolerances) -> Self {
        Self {
            tolerances,
            now: Monotonic::default(),
            stores: BTreeMap::new(),
            tasks: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            policy_history: Vec::new(),
            destinations: BTreeSet::new(),
            queued: BTreeMap::new(),
            runs: BTreeMap::new(),
            session_runs: BTreeMap::new(),
            over_before: BTreeMap::new(),
            over: BTreeMap::new(),
            confirmed: None,
            unmounted: BTreeMap::new(),
            effects: 0,
            marks: BTreeSet::new(),
            policies_troubled: None,
            audit: AuditModel::default(),
        }
    }

    /// Applies an event.
    pub(crate) fn apply(&mut self, event: &Event<'_>) {
        self.audit.apply(event, self.now);
        match event {
            Event::Item { by, store, item, holds, .. } => {
                self.effects += u64::from(*by != USERS);
                let snapshot = ItemSnapshot { holds: *holds, since: self.now };
                self.stores.entry((*store).clone()).or_default().record(item, snapshot);
            }
            Event::Respelled { store, item, from, holds, .. } => {
                self.effects += 1;
                let store_model = self.stores.entry((*store).clone()).or_default();
                let before = ItemAddress { space: item.space.clone(), id: (*from).clone() };
                store_model.record(&before, ItemSnapshot { holds: None, since: self.now });
                store_model.record(item, ItemSnapshot { holds: Some(*holds), since: self.now });
            }
            Event::Space { by, store, space, here, .. } => {
                let known = self.stores.get(*store).and_then(|store_model| store_model.spaces.get(*space));
                self.effects += u64::from(*by != USERS && known.is_none_or(|known| known.0 != *here));
                self.stores.entry((*store).clone()).or_default().space(space, *here, self.now);
            }
            Event::Mounted { store, space, path, here } => {
                let key = ((*store).clone(), (*space).clone());
                if *here {
                    self.unmounted.remove(&key);
                } else {
                    self.unmounted.insert(key, ((*path).to_owned(), self.now));
                }
            }
            Event::Sent { by, decoded, .. } => {
                if by.starts_with("producer")
                    && let Some(task) = decoded.duplicate()
                {
                    let items = task.items().iter().map(|id| Some(id.clone()));
                    let space = task.items().is_empty().then_some(None);
                    self.queued.extend(items.chain(space).map(|item| ((task.pair.clone(), item), self.now)));
                }
                if let Some(mark) = decoded.envelope.as_ref().and_then(|envelope| envelope.task.detail.get("mark")) {
                    self.marks.extend(mark.as_str().map(str::to_owned));
                }
                let task = self.task(decoded);
                if decoded.is_hopeless() {
                    // No processor is ever made for it, so no result is recorded.
                    task.permanent = task.permanent.max(1);
                }
                task.sent(decoded, by);
            }
            Event::Received { decoded, .. } => self.task(decoded).deliveries += 1,
            Event::Acknowledged { decoded, .. } => self.task(decoded).copies -= 1,
            Event::Purged { decoded, .. } => {
                let task = self.task(decoded);
                task.copies -= 1;
                task.purged = true;
            }
            Event::Ran { key, execution_result, .. } => {
                self.tasks.entry((*key).to_owned()).or_default().ran(execution_result);
            }
            Event::Row { by, table, sort, value, .. } => match *table {
                mill_records::dead_letters::DeadLetters::TABLE => self.letter(sort, *value),
                "producer-state" if *sort == "lease" => self.lease(by, *value),
                "producer-state" => {
                    if let Some(account) = sort.strip_prefix("account-run/").and_then(|id| AccountId::new(id).ok()) {
                        self.run(by, account, *value);
                    }
                }
                _ => {}
            },
            Event::Confirmed { deletes } => self.confirmed = Some((self.now, *deletes)),
            _ => {}
        }
    }

    fn task(&mut self, decoded: &super::event::DecodedBody) -> &mut TaskModel {
        self.tasks.entry(decoded.key.clone()).or_default()
    }

    /// A session begins with the first beat of its lease.
    fn lease(&mut self, by: &str, value: Option<&[u8]>) {
        let beat = value.and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
        if beat.is_some_and(|beat| beat["holder"] == by && beat["beat"] == 0) {
            self.session_runs.remove(by);
            self.over_before.insert(by.to_owned(), self.over.clone());
        }
    }

    fn run(&mut self, by: &str, account: AccountId, value: Option<&[u8]>) {
        let row = value.and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
        let Some(number) = row.as_ref().and_then(|row| row["number"].as_u64()) else {
            // The account is no longer listed, as far as that producer could read the list.
            self.over.remove(&account);
            self.over_before.values_mut().for_each(|over| over.retain(|other, _| *other != account));
            return;
        };
        if row.is_some_and(|row| row["finished"].is_null()) {
            self.over.remove(&account);
        } else {
            self.over.insert(account.clone(), number);
        }
        self.runs.entry((account.clone(), number)).or_insert(self.now);
        self.session_runs.entry(by.to_owned()).or_default().insert(account, number);
    }

    /// The runs that a producer saved in its session and that were not finished before: their accounts and when they began.
    pub(crate) fn runs_of_session<'a>(&'a self, by: &str) -> impl Iterator<Item = (&'a AccountId, Monotonic)> {
        let over = self.over_before.get(by);
        let runs = self.session_runs.get(by).into_iter().flatten();
        let runs = runs.filter(move |(account, number)| over.and_then(|over| over.get(*account)) != Some(*number));
        runs.filter_map(|(account, number)| Some((account, *self.runs.get(&(account.clone(), *number))?)))
    }

    /// Whether the disk beneath a space is unmounted.
    pub(crate) fn is_unmounted(&self, store: &StoreAddress, space: &SpaceId) -> bool {
        self.unmounted.contains_key(&(store.clone(), space.clone()))
    }

    /// Since when an item of a source is only hidden: it is on the unmounted disk, and nothing was written under its name at the
    /// mount point since. An item that users wrote and deleted there is gone, not hidden.
    pub(crate) fn out_of_sight(&self, store: &StoreAddress, item: &ItemAddress) -> Option<Monotonic> {
        let (path, since) = self.unmounted.get(&(store.clone(), item.space.clone()))?;
        let snapshots = self.stores.get(store)?.snapshots(item);
        let went = snapshots.last().is_some_and(|snapshot| snapshot.holds.is_none() && snapshot.since == *since);
        (item.id.as_str().starts_with(path.as_str()) && went).then_some(*since)
    }

    /// Sets the policies that hold from now on.
    pub(crate) fn set_policies(&mut self, desired_policies: DesiredPolicies) {
        self.destinations.extend(desired_policies.destinations());
        self.policy_history.push((self.now, desired_policies));
    }

    /// The policies that held at any time since `from`, the latest first.
    pub(crate) fn policies_since(&self, from: Monotonic) -> impl Iterator<Item = &DesiredPolicies> {
        let mut over = false;
        self.policy_history
            .iter()
            .rev()
            .take_while(move |(since, _)| !std::mem::replace(&mut over, *since <= from))
            .map(|(_, desired_policies)| desired_policies)
    }

    /// The earliest time whose policies a process may still use, when it acts on a proof of age `age`.
    pub(crate) fn policies_from(&self, called: Monotonic, age: Duration) -> Monotonic {
        if self.policies_troubled.is_some() {
            // The last good version may be of any age.
            return Monotonic::default();
        }
        back(called, self.tolerances.refresh + age)
    }

    pub(crate) fn space_absent_since(&self, store: &StoreAddress, space: &SpaceId) -> Option<Monotonic> {
        self.stores.get(store).and_then(|store_model| store_model.absent_since(space))
    }
}

/// The time that is `by` before `from`.
pub(crate) fn back(from: Monotonic, by: Duration) -> Monotonic {
    Monotonic::from_origin(from.since_origin().saturating_sub(by))
}
