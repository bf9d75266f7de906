//! The parts of an engine.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{AccountId, QueueName};
use mill_ports::{EngineExt as _, OutgoingMessage, RowKey, RowPrecondition, TaskQueue};

use crate::subject::EngineSubject;

/// Longer than a case runs.
const LONG: Duration = Duration::from_mins(5);

/// Two tables that every installation has.
const TABLES: [&str; 2] = ["owners", "seals"];

fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

async fn send(queue: &dyn TaskQueue, body: &'static str, delay: Duration) {
    let out = OutgoingMessage { group: account(), body: Bytes::from(body), delay };
    queue.send(&[out]).await.unwrap().into_result().unwrap();
}

/// One receive, which waits a little.
async fn received(queue: &dyn TaskQueue) -> Vec<Bytes> {
    let deliveries = queue.receive(NonZeroU32::MIN, LONG, Duration::from_secs(1)).await.unwrap();
    deliveries.into_iter().map(|delivery| delivery.body).collect()
}

/// Two calls for a queue return the same queue, with its name.
pub async fn each_name_is_one_queue_and_no_other(subject: EngineSubject) {
    let engine = subject.engine;
    send(&*engine.queue(QueueName::DuplicationLow), "low", Duration::ZERO).await;
    for (name, queue) in engine.queues() {
        assert_eq!(queue.name(), name);
        if name != QueueName::DuplicationLow {
            assert_eq!(queue.depth().await.unwrap().total(), 0, "{name}");
        }
    }
    assert_eq!(engine.queues().len(), QueueName::ALL.len());
    assert_eq!(received(&*engine.queue(QueueName::DuplicationLow)).await, ["low"]);
}

/// Two calls for a table return the same rows, with its name.
pub async fn each_name_is_one_table_and_no_other(subject: EngineSubject) {
    let engine = subject.engine;
    let key = RowKey::new("partition", "row");
    let [one, other] = TABLES;
    engine.table(one).put(&key, Bytes::from("value"), RowPrecondition::Always).await.unwrap();
    assert_eq!(engine.table(one).get(&key).await.unwrap().unwrap().value, "value");
    assert!(engine.table(other).get(&key).await.unwrap().is_none());
    assert_eq!((engine.table(one).name(), engine.table(other).name()), (one, other));
}

/// If they are not reported, workmen count in a table.
pub async fn depths_by_account_are_reported_just_where_that_is_said(subject: EngineSubject) {
    let queue = subject.engine.queue(QueueName::DuplicationLow);
    send(&*queue, "body", Duration::ZERO).await;
    let depth = queue.depth_of(&account()).await.unwrap();
    assert_eq!(depth, subject.engine.reports_depth_by_account().then_some(1));
}

/// Messages in flight or delayed are gone too.
pub async fn purging_empties_all_queues_or_none(subject: EngineSubject) {
    let (low, high) =
        (subject.engine.queue(QueueName::DuplicationLow), subject.engine.queue(QueueName::DuplicationHigh));
    send(&*low, "in flight", Duration::ZERO).await;
    assert_eq!(received(&*low).await, ["in flight"]);
    send(&*low, "delayed", LONG).await;
    send(&*high, "visible", Duration::ZERO).await;
    subject.engine.purge_queues().await.unwrap();
    let left = [low.depth().await.unwrap().total(), high.depth().await.unwrap().total()];
    assert!([[0, 0], [2, 1]].contains(&left), "{left:?}");
}

/// Messages in flight stay in flight.
pub async fn delayed_bodies_become_due_at_once_or_stay(subject: EngineSubject) {
    let queue = subject.engine.queue(QueueName::DuplicationLow);
    send(&*queue, "in flight", Duration::ZERO).await;
    assert_eq!(received(&*queue).await, ["in flight"]);
    send(&*queue, "delayed", LONG).await;
    subject.engine.make_delayed_due().await.unwrap();
    let next = received(&*queue).await;
    assert!(next.is_empty() || next == ["delayed"], "{next:?}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.delayed), if next.is_empty() { (1, 1) } else { (2, 0) });
}

/// A profile whose bounds cross would make a producer wait for ever, or never.
#[allow(clippy::unused_async)] // as all cases are
pub async fn nothing_waits_longer_than_the_longest_pause(subject: EngineSubject) {
    let polling = subject.engine.polling();
    assert!(polling.full_poll <= polling.full_poll_most, "{polling:?}");
    assert!(polling.session_pause_least <= polling.session_pause_most, "{polling:?}");
    assert!(
        polling.looks_to_be_sure >= 1 && polling.looks_to_be_sure <= polling.looks_where_counts_differ,
        "{polling:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::TABLES;

    #[test]
    fn the_tables_of_the_cases_are_those_of_an_installation() {
        let all = mill_records::tables::TABLES.map(|table| table.name);
        assert!(TABLES.iter().all(|table| all.contains(table)));
    }
}
