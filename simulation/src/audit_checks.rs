//! What is judged of the audit logs at the very end of a world: after enough time nothing waits, the log of each account is the
//! same in all its stores and tells exactly what happened, and the content index equals the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mill_model::{
    AccountId, AuditAction, AuditEvent, EventCertainty, EventSource, ItemAddress, SpaceId, StoreAddress, StoreId,
};
use mill_policy::AUDIT_LOG_SPACE;
use mill_records::audit_log::AuditLog;
use mill_records::audit_log::entry::{ReadEntry, read_entry};
use mill_records::content_index::ContentIndex;
use mill_transparency::{Checkpoint, LogPath, RightEdge, verify_log};
use serde_json::Value;

use super::audit_world::{self, AuditWorld};
use super::fleet::SimFleet;
use super::model::{AuditModel, ChangeKey};
use super::operator::Operator;
use super::quiescence::Quiescence;
use super::sim_process::SimProcess;
use super::world::World;

/// The promises.
const NOTHING_WAITS: &str = "no change waits for ever for its place in the audit log";
const TELLS_ALL: &str = "the audit log tells exactly what happened";
const INDEX: &str = "the content index equals the stores";

/// After so long it is decided about each lost writer.
const LONG: Duration = Duration::from_hours(9 * 24);

/// Lets time pass until nothing waits, and judges.
pub(crate) async fn judge(world: &Arc<World>, fleet: &mut SimFleet) -> Option<()> {
    let audit = world.audit.as_ref()?;
    fleet.stop_all(true).await;
    world.sleep(LONG).await;
    fleet.start_all(false);
    let mut quiescence = Quiescence { world, fleet };
    let mut left = String::new();
    for _ in 0..10 {
        audit_world::settle(&SimProcess::new(world, "workman")).await;
        quiescence.empty_queues().await?;
        let letters = Operator::new(world).decide_dead_letters(true).await.unwrap_or(1);
        quiescence.empty_queues().await?;
        match what_waits(world) {
            None if letters == 0 => {
                let judged = judge_logs(world, audit).and_then(|()| judge_index(world, audit));
                return judged.map_err(|(promise, what)| world.violated(promise, what)).ok();
            }
            waits => left = waits.unwrap_or_else(|| "dead letters".to_owned()),
        }
    }
    world.violated(NOTHING_WAITS, format!("after ten rounds without a fault there still is {left}"));
    None
}

/// A row that is still to be dealt with.
fn what_waits(world: &World) -> Option<String> {
    let rows = world.tables[AuditLog::TABLE].rows();
    rows.into_iter().find_map(|(key, value)| {
        let waits = ["ready/", "intent/", "large/"].iter().any(|kind| key.partition.starts_with(kind));
        let state: Value = serde_json::from_slice(&value).unwrap_or_default();
        let unfinished = key.sort == "state" && !state["base"].is_null();
        (waits || unfinished).then(|| format!("{} {}", key.partition, key.sort))
    })
}

type Judged = Result<(), (&'static str, String)>;

fn judge_logs(world: &World, audit: &AuditWorld) -> Judged {
    for account in &world.accounts {
        let told = |what| (TELLS_ALL, format!("{account}: {what}"));
        let mut logs = Vec::new();
        for store in &audit.log_stores {
            logs.push(read_log(world, account, store).map_err(|what| told(format!("in store {store}, {what}")))?);
        }
        let [first, others @ ..] = &logs[..] else { continue };
        if others.iter().any(|other| other != first) {
            return Err(told("its stores have different logs".to_owned()));
        }
        world.model(|model| judge_entries(world, account, &model.audit, first)).map_err(told)?;
        world.model(|model| judge_checkpoints(account, &model.audit, first)).map_err(told)?;
    }
    Ok(())
}

/// The entries of an account's log in a store, once they are verified.
fn read_log(world: &World, account: &AccountId, store: &StoreId) -> Result<Vec<Vec<u8>>, String> {
    let space = SpaceId::new(AUDIT_LOG_SPACE).unwrap();
    let sim_store = world.sim_store(account, store).ok_or("there is no such store")?;
    let contents = sim_store.inner.contents(&space).unwrap_or_default();
    let read = |path: LogPath| contents.get(&path.to_string().parse().unwrap()).map(|(bytes, _)| bytes.to_vec());
    let Some(note) = read(LogPath::Checkpoint) else { return Ok(Vec::new()) };
    let checkpoint: Checkpoint =
        audit_world::verifier(account).open(&note).map_err(|error| error.to_string())?.checkpoint;
    let mut entries = Vec::new();
    let verified =
        verify_log(&checkpoint, None, |path| Ok::<_, String>(read(path)), |_, entry| entries.push(entry.to_vec()));
    verified.map_err(|error| format!("of {} entries: {error}", checkpoint.size))?;
    Ok(entries)
}

/// Each checkpoint that ever stood in a store was one of this log.
fn judge_checkpoints(account: &AccountId, model: &AuditModel, entries: &[Vec<u8>]) -> Result<(), String> {
    let mut edge = RightEdge::empty();
    let mut roots = vec![edge.root().to_string()];
    for entry in entries {
        edge = edge.append(&[entry]).map_err(|error| error.to_string())?.edge;
        roots.push(edge.root().to_string());
    }
    for (store, log) in model.logs_of(account) {
        for (size, root) in &log.checkpoints {
            if roots.get(*size as usize) != Some(root) {
                return Err(format!("{store} had a checkpoint of {size} entries with the root {root}, of another log"));
            }
        }
    }
    Ok(())
}

fn judge_entries(world: &World, account: &AccountId, model: &AuditModel, entries: &[Vec<u8>]) -> Result<(), String> {
    let mut events = Vec::new();
    for entry in entries {
        match read_entry(entry).map_err(|error| error.to_string())? {
            ReadEntry::Whole(entry) if entry.account == *account => events.push(entry.event),
            _ => return Err("an entry is of another account, or too large".to_owned()),
        }
    }
    let ids: BTreeSet<_> = events.iter().map(|event| event.id).collect();
    if ids.len() < events.len() {
        return Err("an event has two entries".to_owned());
    }
    judge_reports(world, account, &events)?;
    judge_changes(account, model, &events, world.swarm.on.clocks > 0)?;
    judge_order(model, &events)
}

/// Each event that a store reported has its entry, and no other is in its name.
fn judge_reports(world: &World, account: &AccountId, events: &[AuditEvent]) -> Result<(), String> {
    let Some(audit) = &world.audit else { return Ok(()) };
    let entered: BTreeSet<_> =
        events.iter().filter(|event| event.source == EventSource::Store).map(|event| event.id).collect();
    let notified = audit.notified();
    let reported: BTreeSet<_> =
        notified.reported.iter().filter(|(_, of)| *of == account).map(|(event, _)| *event).collect();
    if let Some(lost) = reported.difference(&entered).next() {
        return Err(format!("the reported event {lost} has no entry"));
    }
    entered.difference(&reported).next().map_or(Ok(()), |event| Err(format!("nobody reported the event {event}")))
}

/// Each change of Mill has its entry, and each entry that its writer sent has its change. Each has an intent.
fn judge_changes(
    account: &AccountId,
    model: &AuditModel,
    events: &[AuditEvent],
    clocks_step: bool,
) -> Result<(), String> {
    let mut entries: BTreeMap<ChangeKey, EntryCounts> = BTreeMap::new();
    for event in events.iter().filter(|event| event.source == EventSource::Mill) {
        let id = event.id.to_string();
        if !model.intents.contains_key(&id) {
            return Err(format!("nobody intended the event {id} of {}", event.subject()));
        }
        let key = ChangeKey {
            store: StoreAddress::of(account, &event.store),
            space: event.space.clone(),
            item: event.item.clone(),
            action: event.action,
        };
        let counts = entries.entry(key).or_default();
        match event.certainty {
            EventCertainty::Superseded => counts.superseded += 1,
            EventCertainty::Certain if model.is_first_hand(&id) => counts.first_hand += 1,
            EventCertainty::Certain => counts.found += 1,
        }
    }
    let keys: BTreeSet<&ChangeKey> =
        model.changes.keys().filter(|key| key.store.account == *account).chain(entries.keys()).collect();
    let keys = keys.into_iter().filter(|key| key.action != AuditAction::UpdateSpaceProperties);
    for key in keys {
        let made = model.changes.get(key).copied().unwrap_or(0);
        let counts = entries.get(key).copied().unwrap_or_default();
        let EntryCounts { first_hand, found, superseded } = counts;
        let may_be = made.saturating_add(by_others(model, key));
        // Whose clock steps forward takes young intents for old ones.
        let too_many = !clocks_step && first_hand > may_be;
        if made > first_hand + found + superseded || too_many || (first_hand + found > 0 && may_be == 0) {
            let ChangeKey { store, space, item, action } = key;
            let item = item.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(format!("{action} of {space}/{item} in {store} happened {made} times, and has {counts:?}"));
        }
    }
    Ok(())
}

/// The entries of one kind of change.
#[derive(Debug, Clone, Copy, Default)]
struct EntryCounts {
    /// Those that the writer sent.
    first_hand: u64,
    /// Those of a writer that was lost, sent by whoever found its item as it was to be. Of several writers of the same content,
    /// nobody can tell which one left it: so there may be more of these than changes.
    found: u64,
    /// Those that say that nobody knows.
    superseded: u64,
}

/// How many entries of a change may stand for what others did, which looks the same: nobody can tell a lost writer's item from
/// what people wrote in its place with the same size and properties, nor who of several created a space.
fn by_others(model: &AuditModel, key: &ChangeKey) -> u64 {
    match (&key.item, key.action) {
        (None, _) => u64::MAX / 2,
        // A respelling that found nothing left to respell.
        (_, AuditAction::DeleteContent | AuditAction::CopyContent) if respelled_in_vain(model, key) => u64::MAX / 2,
        (_, AuditAction::DeleteContent) => 0,
        (Some(id), _) => {
            let item = ItemAddress { space: key.space.clone(), id: id.clone() };
            model.written_by_users.get(&(key.store.clone(), item)).copied().unwrap_or(0)
        }
    }
}

fn respelled_in_vain(model: &AuditModel, ChangeKey { store, space, .. }: &ChangeKey) -> bool {
    let action = AuditAction::UpdateSpaceProperties;
    model.changes.contains_key(&ChangeKey { store: store.clone(), space: space.clone(), item: None, action })
}

/// Of two events of one item, the later one by its id does not come first if both waited for their places.
fn judge_order(model: &AuditModel, events: &[AuditEvent]) -> Result<(), String> {
    let subject = |event: &AuditEvent| (event.store.clone(), event.space.clone(), event.item.clone());
    let mut by_subject: BTreeMap<_, Vec<&AuditEvent>> = BTreeMap::new();
    for event in events {
        by_subject.entry(subject(event)).or_default().push(event);
    }
    for of_item in by_subject.values() {
        for (at, first) in of_item.iter().enumerate() {
            let Some(seen) = model.committed_after.get(&first.id.to_string()) else { continue };
            let earlier = |next: &&&AuditEvent| {
                next.id < first.id && model.ready.get(&next.id.to_string()).is_some_and(|ready| ready <= seen)
            };
            if let Some(next) = of_item[at + 1..].iter().find(earlier) {
                return Err(format!("of {}, the event {} comes before {}", first.subject(), first.id, next.id));
            }
        }
    }
    Ok(())
}

/// The index has what stands at the sources, wherever the last change was reported.
fn judge_index(world: &World, audit: &AuditWorld) -> Judged {
    let rows: BTreeMap<(String, String), Value> = world.tables[ContentIndex::TABLE]
        .rows()
        .into_iter()
        .map(|(key, value)| ((key.partition, key.sort), serde_json::from_slice(&value).unwrap_or_default()))
        .collect();
    for (store, item) in &audit.notified().last_reported {
        if !["1", "4"].contains(&store.store.as_str()) {
            continue;
        }
        let partition = format!("index/{}/{}/{}", store.account.as_str(), store.store.as_str(), item.space.as_str());
        let row = rows.get(&(partition, item.id.as_str().to_owned()));
        let stands = world.sim_stores[store].inner.content(item).map(|(bytes, _)| bytes.len() as u64);
        let known = row.and_then(|row| if row["deleted"] == true { None } else { row["size"].as_u64() });
        if row.is_none() || known != stands {
            return Err((INDEX, format!("{item} in {store} has {stands:?} bytes, and the index says {row:?}")));
        }
    }
    Ok(())
}
