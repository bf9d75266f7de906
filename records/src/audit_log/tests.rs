use std::sync::Arc;

use mill_model::{AuditAction, EventSource};
use mill_testkit::SeededRng;

use super::*;
use crate::test_table::TestTable;

pub(super) fn event(number: u64) -> AuditEvent {
    let at = Timestamp::from_millis(1_795_249_800_000 + number);
    let mut event = AuditEvent::new(
        EventId::of_facts(at, &["x"]),
        ("1".parse().unwrap(), "s".parse().unwrap(), Some(format!("item {}", number % 7).parse().unwrap())),
        AuditAction::AddContent,
        at,
        EventSource::Mill,
    );
    event.user = (number.is_multiple_of(2)).then(|| "Zoë".into());
    event
}

fn account() -> AccountId {
    "a".parse().unwrap()
}

#[tokio::test]
async fn a_repeated_event_waits_once_with_the_same_entry() {
    let log = AuditLog::new(Arc::new(TestTable::default()));
    let chance = SeededRng::new(1);
    log.add_ready(&account(), &event(0), &chance).await.unwrap();
    let entry = log.ready(&account(), 10).await.unwrap()[0].entry(&account());
    log.add_ready(&account(), &event(0), &chance).await.unwrap();
    let ready = log.ready(&account(), 10).await.unwrap();
    assert_eq!((ready.len(), ready[0].entry(&account())), (1, entry));
}

#[tokio::test]
async fn events_of_one_item_are_ready_in_their_order_whatever_the_limit() {
    let log = AuditLog::new(Arc::new(TestTable::with_page_max(3)));
    let chance = SeededRng::new(1);
    for number in (0..100).rev() {
        log.add_ready(&account(), &event(number), &chance).await.unwrap();
    }
    log.add_ready(&"b".parse().unwrap(), &event(1000), &chance).await.unwrap();
    for most in [1, 7, 100, 1000] {
        let ready = log.ready(&account(), most).await.unwrap();
        assert!((most.min(7)..=most.max(7) + 16).contains(&ready.len()), "{most}: {}", ready.len());
        let ids: Vec<u64> = ready.iter().map(|ready| ready.event.at).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
}

#[tokio::test]
async fn the_log_is_asked_for_once_until_its_publisher_begins() {
    let log = AuditLog::new(Arc::new(TestTable::default()));
    let now = Timestamp::from_millis(1_795_249_800_000);
    let (one, other) = (TaskId::new(now, [1; 10]), TaskId::new(now, [2; 10]));
    assert!(log.want_published(&account(), one, now).await.unwrap());
    assert!(!log.want_published(&account(), other, now).await.unwrap());
    // The first task is delivered again: what it meant to send may not have been sent.
    assert!(log.want_published(&account(), one, now).await.unwrap());
    log.publishing(&account()).await.unwrap();
    assert!(log.want_published(&account(), other, now).await.unwrap());
    // Whoever asked may be lost, or a clock was wrong.
    assert!(log.want_published(&account(), one, now.plus(Duration::from_mins(5))).await.unwrap());
    assert!(log.want_published(&account(), other, now).await.unwrap());
}

#[tokio::test]
async fn an_event_that_no_row_can_hold_is_refused_by_name() {
    let log = AuditLog::new(Arc::new(TestTable::default()));
    let mut large = event(1);
    large.properties = Some([("p".to_owned(), "x".repeat(100 * 1024))].into());
    log.store_large(&account(), &large).await.unwrap();
    assert_eq!(log.large(&account(), large.id).await.unwrap(), Some(large.clone()));
    log.remove_large(&account(), large.id).await.unwrap();
    assert_eq!(log.large(&account(), large.id).await.unwrap(), None);

    large.properties = Some([("p".to_owned(), "x".repeat(400 * 1024))].into());
    let refusal = log.store_large(&account(), &large).await.unwrap_err().to_string();
    assert!(refusal.contains("s/item 1"), "{refusal}");
}
