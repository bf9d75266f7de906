//! What Mill changed at audited stores, what waits for its place in a log, and the logs as their stores have them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, AuditAction, ContentId, ItemAddress, Monotonic, QueueName, SpaceId, StoreAddress};
use mill_records::audit_log::AuditLog;
use serde_json::Value;

use crate::event::{Event, USERS};

/// A kind of change of one item or space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeKey {
    pub(crate) store: StoreAddress,
    pub(crate) space: SpaceId,
    pub(crate) item: Option<ContentId>,
    pub(crate) action: AuditAction,
}

/// All that the audit logs must tell.
#[derive(Debug, Default)]
pub(crate) struct AuditModel {
    /// How often Mill made each change.
    pub(crate) changes: BTreeMap<ChangeKey, u64>,
    /// Who wrote the intent of each event, and when.
    pub(crate) intents: BTreeMap<String, (String, Monotonic)>,
    /// Who first sent each event of Mill, and when.
    pub(crate) sent: BTreeMap<String, (String, Monotonic)>,
    /// How often people wrote each item.
    pub(crate) written_by_users: BTreeMap<(StoreAddress, ItemAddress), u64>,
    /// The log of each store.
    pub(crate) logs: BTreeMap<StoreAddress, LogModel>,
    /// When each event first waited for its place, as a number of writes.
    pub(crate) ready: BTreeMap<String, u64>,
    /// Of each event in a log, when the state was written that its commit followed.
    pub(crate) committed_after: BTreeMap<String, u64>,
    /// When the state of each log was last written.
    state_written: BTreeMap<String, u64>,
    writes: u64,
}

/// A log, as one store has it.
#[derive(Debug, Default)]
pub(crate) struct LogModel {
    /// Its files.
    pub(crate) paths: BTreeSet<String>,
    /// The size and root of each checkpoint that ever stood there as the newest, in the order of writing.
    pub(crate) checkpoints: Vec<(u64, String)>,
}

impl AuditModel {
    pub(super) fn apply(&mut self, event: &Event<'_>, now: Monotonic) {
        match event {
            Event::Changed { store, space, item, action, .. } => {
                let key = ChangeKey {
                    store: (*store).clone(),
                    space: (*space).clone(),
                    item: item.cloned(),
                    action: *action,
                };
                *self.changes.entry(key).or_default() += 1;
            }
            Event::Item { by, store, item, holds: Some(_), .. } if *by == USERS => {
                *self.written_by_users.entry(((*store).clone(), (*item).clone())).or_default() += 1;
            }
            Event::Sent { by, queue: QueueName::Audit, decoded, .. } => {
                for event in decoded.changes().into_iter().flat_map(|task| task.events) {
                    self.sent.entry(event.id.to_string()).or_insert_with(|| ((*by).to_owned(), now));
                }
            }
            Event::LogFile { store, path, bytes, .. } => {
                let log = self.logs.entry((*store).clone()).or_default();
                log.paths.insert((*path).to_owned());
                if *path == "checkpoint" {
                    log.checkpoints.push(size_and_root(bytes));
                }
            }
            Event::Row { by, table, partition, sort, value: Some(value) } if *table == AuditLog::TABLE => {
                self.writes += 1;
                if partition.starts_with("intent/") {
                    let id = sort.rsplit('/').next().unwrap_or(sort);
                    self.intents.entry(id.to_owned()).or_insert_with(|| ((*by).to_owned(), now));
                } else if partition.starts_with("ready/") {
                    self.ready.entry((*sort).to_owned()).or_insert(self.writes);
                } else if *sort == "state" {
                    self.state(partition, value);
                }
            }
            _ => {}
        }
    }

    /// A publisher reads what is ready after it has read the state that its commit replaces.
    fn state(&mut self, partition: &str, value: &[u8]) {
        let before = self.state_written.insert(partition.to_owned(), self.writes).unwrap_or(0);
        for id in committed(value) {
            self.committed_after.entry(id).or_insert(before);
        }
    }

    /// Whether an event was sent by the very writer that made its change, not later by whoever found its intent.
    pub(crate) fn is_first_hand(&self, id: &str) -> bool {
        /// Nobody looks at an intent that is younger.
        const YOUNG: Duration = Duration::from_secs(50);
        let (Some((wrote, intended)), Some((sender, sent))) = (self.intents.get(id), self.sent.get(id)) else {
            return false;
        };
        wrote == sender && sent.since(*intended) < YOUNG
    }

    /// The logs of an account.
    pub(crate) fn logs_of(&self, account: &AccountId) -> impl Iterator<Item = (&StoreAddress, &LogModel)> {
        let account = account.clone();
        self.logs.iter().filter(move |(store, _)| store.account == account)
    }
}

/// The ids of the events that a state row commits, in the order of their entries.
pub(crate) fn committed(value: &[u8]) -> Vec<String> {
    let state: Value = serde_json::from_slice(value).unwrap_or_default();
    let pending = state["pending"].as_array().into_iter().flatten();
    pending.filter_map(|event| event[1].as_str().map(str::to_owned)).collect()
}

/// What a checkpoint says, by a reading of the simulator's own.
fn size_and_root(note: &[u8]) -> (u64, String) {
    let text = String::from_utf8_lossy(note);
    let mut lines = text.lines().skip(1);
    let size = lines.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    (size, lines.next().unwrap_or_default().to_owned())
}
