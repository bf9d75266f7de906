//! Bugs on purpose that make a call of their own. They stand in what wraps the code that ships, so that none of it makes such a
//! call.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{DuplicateTask, ItemAddress, SpacePair, StoreAddress, Task, TaskArgs as _, Timestamp, Version};
use mill_ports::{
    Body, Precondition, Presence, PutResult, RowKey, StoreError, Stores as _, TagsWritten, TaskQueue as _,
};
use mill_records::dead_letters::DeadLetters;
use mill_records::delete_lists::DeleteLists;
use mill_records::tables;
use serde_json::{Value, json};

use super::event::OPERATOR;
use super::in_flight_bodies::InFlightBodies;
use super::sim_process::SimProcess;
use super::sim_queue::QueueClient;
use super::sim_store::{StoreClient, StoreClients};

/// Acknowledges the task with that key, if the process holds it.
pub(crate) async fn acknowledge_at_once(process: &Arc<SimProcess>, key: &str) {
    let Some((queue, receipt)) = InFlightBodies::held(process, key) else { return };
    let sim_queue = process.world.sim_queues[&queue].clone();
    let _ = QueueClient { process: process.clone(), sim_queue }.acknowledge(&[receipt]).await;
}

/// Deletes those items of a `duplicate` task that are gone at the source.
pub(crate) async fn delete_vanished(process: &Arc<SimProcess>, task: &Task) -> Result<(), StoreError> {
    let Ok(task) = DuplicateTask::from_task(task) else { return Ok(()) };
    let SpacePair { account, source, destination, space } = &task.pair;
    let stores = StoreClients(process.clone());
    let source = stores.source(account, source).await?;
    let destination = stores.deletable(account, destination).await?;
    for id in task.items() {
        let item = ItemAddress { space: space.clone(), id: id.clone() };
        let Presence::Present(found) = destination.head(&item).await? else { continue };
        if matches!(source.head(&item).await?, Presence::Absent) {
            destination.delete(&item, &Precondition::VersionIs(found.version)).await?;
        }
    }
    Ok(())
}

/// Keeps a file of a log back, or returns the body of one that is written at once: a checkpoint.
pub(crate) async fn log_file_kept(
    client: &StoreClient,
    item: &ItemAddress,
    body: Body,
) -> Result<Result<PutResult, Body>, StoreError> {
    if item.id.as_str().starts_with("checkpoint") {
        return Ok(Err(body));
    }
    let pieces: Vec<Bytes> = body.try_collect().await?;
    client.process.late_files.lock().push((client.address().clone(), item.clone(), pieces.concat().into()));
    Ok(Ok(PutResult { version: Version::settled_at("kept"), checksums: Vec::new(), at: None, tags: TagsWritten::None }))
}

/// Writes the files that were kept back, once the checkpoint is there.
pub(crate) async fn write_kept_files(client: &StoreClient, written: &ItemAddress) -> Result<(), StoreError> {
    if written.id.as_str() != "checkpoint" {
        return Ok(());
    }
    let all = std::mem::take(&mut *client.process.late_files.lock());
    let (here, elsewhere) = all.into_iter().partition(|(store, ..)| store == client.address());
    client.process.late_files.lock().extend::<Vec<_>>(elsewhere);
    let here: Vec<(StoreAddress, ItemAddress, Bytes)> = here;
    for (_, item, bytes) in here {
        client.write_log_file(&item, bytes).await?;
    }
    Ok(())
}

/// Grants every held list, as if the operator had confirmed all.
pub(crate) async fn grant_all(lists: &DeleteLists, now: Timestamp) {
    for mut held in lists.held().await.unwrap_or_default() {
        let _ = lists.grant(&mut held, OPERATOR, now).await;
    }
}

/// The head of a delete list as it is written: granted by the rule, if it waits because its source space is missing.
pub(crate) fn grant_missing_space(head: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&head) else { return head };
    if value["state"]["held"]["reason"]["space-missing"].is_null() {
        return head;
    }
    value["state"] = granted();
    value.to_string().into()
}

/// The head of a delete list as a workman reads it that takes every held list for granted.
pub(crate) fn read_as_granted(head: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&head) else { return head };
    if value["state"]["held"].is_null() {
        return head;
    }
    value["state"] = granted();
    value.to_string().into()
}

/// The state of a list that the rule grants.
fn granted() -> Value {
    json!({ "granted": { "by": "rule", "at": 0 } })
}

/// Whether what the process sends waits until the row is written that says that it is sent.
pub(crate) fn sends_late(process: &SimProcess) -> bool {
    match &*process.name {
        OPERATOR => is_planted(PlantedBug::RetryMarkedBeforeSent),
        other => is_planted(PlantedBug::MarkerBeforeSend) && other.starts_with("producer"),
    }
}

/// Whether a row of that table says that something is sent.
pub(crate) fn marks_sent(table: &str, key: &RowKey) -> bool {
    [DeadLetters::TABLE, tables::PRODUCER_STATE].contains(&table) && key.sort != "lease"
}

/// Sends, once, what waited for its mark. What the operator could not mark is forgotten.
pub(crate) async fn send_late(process: &Arc<SimProcess>, marked: bool) {
    if !marked && process.name != OPERATOR {
        return;
    }
    let late = std::mem::take(&mut *process.late_sends.lock());
    for (queue, out) in late.into_iter().filter(|_| marked) {
        let sim_queue = process.world.sim_queues[&queue].clone();
        let _ = QueueClient { process: process.clone(), sim_queue }.send_now(&out).await;
    }
}
