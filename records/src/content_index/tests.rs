use std::sync::Arc;

use mill_model::{ItemState, Version};

use super::*;
use crate::test_table::TestTable;

const HOUR: u64 = 3_600_000;
/// A day on which nothing that a test does is near the epoch.
const NOON: u64 = 1_795_249_800_000;

fn event(action: AuditAction, at: u64, order: Option<&str>) -> AuditEvent {
    let facts = [action.as_str(), order.unwrap_or("-")];
    let mut event = AuditEvent::new(
        EventId::of_facts(Timestamp::from_millis(at), &facts),
        ("1".parse().unwrap(), "s".parse().unwrap(), Some("a\tb\n\u{1F600}".parse().unwrap())),
        action,
        Timestamp::from_millis(at),
        EventSource::Store,
    );
    event.order = order.map(str::to_owned);
    event.size = (action == AuditAction::AddContent).then_some(at % 1000);
    event.version = event.size.map(|size| format!("v{size}"));
    event
}

fn present(size: u64) -> Presence<ItemFacts> {
    Presence::Present(ItemFacts {
        size,
        modified: None,
        version: Version::settled_at(format!("v{size}")),
        checksums: Vec::new(),
        properties: None,
        state: ItemState::Online,
    })
}

fn space() -> IndexedSpace {
    IndexedSpace { account: "a".parse().unwrap(), store: "1".parse().unwrap(), space: "s".parse().unwrap() }
}

/// Applies events, and looks at the item where the index asks for it.
async fn apply_all(events: &[AuditEvent], truth: &Presence<ItemFacts>) -> (IndexRow, u32) {
    let index = ContentIndex::new(Arc::new(TestTable::default()));
    let mut looks = 0;
    for event in events {
        while index.apply(&space().account, event, None).await.unwrap() == Applied::NeedsLook {
            looks += 1;
            if index.apply(&space().account, event, Some(truth)).await.unwrap() != Applied::NeedsLook {
                break;
            }
        }
    }
    let row = index.get(&space(), events[0].item.as_ref().unwrap()).await.unwrap().unwrap();
    (row, looks)
}

#[tokio::test]
async fn the_store_s_own_order_decides_however_events_arrive() {
    let events = [
        event(AuditAction::AddContent, NOON + 1, Some("01")),
        // The clock of another host of the service is an hour behind.
        event(AuditAction::DeleteContent, NOON - HOUR, Some("02")),
        event(AuditAction::AddContent, NOON + 3, Some("03")),
        event(AuditAction::DeleteContent, NOON + 4, Some("04")),
    ];
    for order in permutations(4) {
        for last in 1..=4 {
            let mut known: Vec<AuditEvent> =
                order.iter().filter(|at| **at < last).map(|at| events[*at].clone()).collect();
            known.push(known[0].clone());
            let (row, looks) = apply_all(&known, &Presence::Absent).await;
            assert_eq!((row.event, row.deleted, looks), (events[last - 1].id, last % 2 == 0, 0), "{order:?} {last}");
        }
    }
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let with =
        |order: &Vec<usize>| (0..of).map(|at| [&order[..at], &[of - 1], &order[at..]].concat()).collect::<Vec<_>>();
    shorter.iter().flat_map(with).collect()
}

#[tokio::test]
async fn of_clocks_an_hour_apart_the_item_itself_decides() {
    let (add, delete) =
        (event(AuditAction::AddContent, NOON, None), event(AuditAction::DeleteContent, NOON - HOUR, None));
    for events in [[add.clone(), delete.clone()], [delete.clone(), add.clone()]] {
        for truth in [Presence::Absent, present(add.size.unwrap()), present(77)] {
            let (row, looks) = apply_all(&events, &truth).await;
            assert_eq!(looks, 1);
            match &truth {
                Presence::Absent => assert!(row.deleted),
                Presence::Present(facts) => assert_eq!((row.deleted, row.size), (false, Some(facts.size))),
            }
        }
    }
}

#[tokio::test]
async fn a_day_apart_no_look_is_needed() {
    let (add, delete) =
        (event(AuditAction::AddContent, NOON, None), event(AuditAction::DeleteContent, NOON + 25 * HOUR, None));
    for events in [[add.clone(), delete.clone()], [delete.clone(), add]] {
        let (row, looks) = apply_all(&events, &present(1)).await;
        assert_eq!((row.event, row.deleted, looks), (delete.id, true, 0));
    }
}

#[tokio::test]
async fn a_change_of_properties_alone_keeps_what_is_known_of_the_content() {
    let update = event(AuditAction::UpdateContentProperties, NOON + 1, Some("02"));
    let add = event(AuditAction::AddContent, NOON, Some("01"));
    for events in [vec![add.clone(), update.clone()], vec![update.clone(), add], vec![update.clone()]] {
        let (row, _) = apply_all(&events, &present(5)).await;
        assert_eq!((row.event, row.size, row.version.as_deref()), (update.id, Some(5), Some("v5")));
    }
}

#[tokio::test]
async fn what_changed_since_the_look_asks_for_another_look() {
    let table = Arc::new(TestTable::yielding());
    let index = ContentIndex::new(table);
    let (first, second) = (event(AuditAction::AddContent, NOON, None), event(AuditAction::AddContent, NOON + 2, None));
    let other = event(AuditAction::DeleteContent, NOON + 1, None);
    let account = space().account;
    index.apply(&account, &first, None).await.unwrap();
    let (seen, gone) = (present(2), Presence::Absent);
    let both = futures::join!(index.apply(&account, &second, Some(&seen)), index.apply(&account, &other, Some(&gone)));
    let outcomes = [both.0.unwrap(), both.1.unwrap()];
    assert!(outcomes.contains(&Applied::NeedsLook) && outcomes.contains(&Applied::Current), "{outcomes:?}");
}

#[tokio::test]
async fn a_tombstone_goes_only_while_nothing_changed() {
    let index = ContentIndex::new(Arc::new(TestTable::with_page_max(1)));
    let account = space().account;
    let (delete, add) =
        (event(AuditAction::DeleteContent, NOON, Some("01")), event(AuditAction::AddContent, NOON, Some("02")));
    let item = delete.item.clone().unwrap();
    index.apply(&account, &delete, None).await.unwrap();
    let tombstone = index.get(&space(), &item).await.unwrap().unwrap();
    index.apply(&account, &add, None).await.unwrap();
    assert!(!index.forget(&space(), &item, &tombstone).await.unwrap());
    let rows: Vec<_> = index.items(&space()).try_collect().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(index.forget(&space(), &item, &rows[0].1).await.unwrap());
    assert_eq!(index.get(&space(), &item).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_and_stays() {
    let table = Arc::new(TestTable::default());
    let index = ContentIndex::new(table.clone());
    let add = event(AuditAction::AddContent, NOON, None);
    let key = RowKey::new(space().partition(), add.item.as_ref().unwrap().as_str());
    table.put(&key, "garbage".into(), RowPrecondition::Always).await.unwrap();
    assert!(matches!(index.apply(&space().account, &add, None).await, Err(IndexError::Unreadable { .. })));
    assert_eq!(table.get(&key).await.unwrap().unwrap().value, "garbage");
}

#[tokio::test]
async fn one_change_that_mill_reports_under_two_ids_is_recorded_once() {
    let mill = |action, at, version: &str| AuditEvent {
        source: EventSource::Mill,
        version: Some(version.to_owned()),
        ..event(action, at, None)
    };
    let index = ContentIndex::new(Arc::new(TestTable::default()));
    let account = space().account;
    let (add, again) = (mill(AuditAction::AddContent, NOON, "v1"), mill(AuditAction::AddContent, NOON + 1, "v1"));
    assert_eq!(index.apply(&account, &add, None).await.unwrap(), Applied::Current);
    assert_eq!(index.apply(&account, &again, None).await.unwrap(), Applied::Repeated);
    assert_eq!(index.apply(&account, &again, Some(&present(1))).await.unwrap(), Applied::Repeated);
    let gone = Presence::Absent;
    let (delete, twice) =
        (mill(AuditAction::DeleteContent, NOON + 5, "v1"), mill(AuditAction::DeleteContent, NOON + 9, "v1"));
    assert_eq!(index.apply(&account, &delete, Some(&gone)).await.unwrap(), Applied::Current);
    assert_eq!(index.apply(&account, &twice, None).await.unwrap(), Applied::Repeated);
    // Another state is another change, and so is one that a store reports.
    let other = mill(AuditAction::AddContent, NOON + 12, "v2");
    assert_eq!(index.apply(&account, &other, Some(&present(2))).await.unwrap(), Applied::Current);
    let told = AuditEvent { source: EventSource::Store, ..mill(AuditAction::AddContent, NOON + 13, "v2") };
    assert_eq!(index.apply(&account, &told, Some(&present(2))).await.unwrap(), Applied::Current);
}

#[tokio::test]
async fn what_a_watch_sees_of_a_change_that_is_known_is_recorded_once() {
    let seen = |source, action, at, version: Option<&str>| AuditEvent {
        source,
        version: version.map(str::to_owned),
        ..event(action, at, None)
    };
    let index = ContentIndex::new(Arc::new(TestTable::default()));
    let account = space().account;
    let written = seen(EventSource::Mill, AuditAction::AddContent, NOON, Some("v1"));
    index.apply(&account, &written, None).await.unwrap();
    let watched = seen(EventSource::Watch, AuditAction::AddContent, NOON + 1, Some("v1"));
    assert_eq!(index.apply(&account, &watched, None).await.unwrap(), Applied::Repeated);
    let edited = seen(EventSource::Watch, AuditAction::AddContent, NOON + 2, Some("v2"));
    assert_eq!(index.apply(&account, &edited, Some(&present(2))).await.unwrap(), Applied::Current);
    let gone = seen(EventSource::Watch, AuditAction::DeleteContent, NOON + 3, None);
    assert_eq!(index.apply(&account, &gone, Some(&Presence::Absent)).await.unwrap(), Applied::Current);
    let again = AuditEvent { id: written.id, ..seen(EventSource::Watch, AuditAction::DeleteContent, NOON + 4, None) };
    assert_eq!(index.apply(&account, &again, None).await.unwrap(), Applied::Repeated);
}

#[tokio::test]
async fn a_space_that_two_make_at_once_is_recorded_once_and_again_after_it_was_deleted() {
    let index = ContentIndex::new(Arc::new(TestTable::default()));
    let account = space().account;
    let of_space = |action, at| AuditEvent {
        item: None,
        source: EventSource::Mill,
        version: Some("the same".into()),
        ..event(action, at, None)
    };
    let (one, other) = (of_space(AuditAction::CreateSpace, NOON), of_space(AuditAction::CreateSpace, NOON + 1));
    for (event, applied) in [(&one, Applied::Current), (&other, Applied::Repeated), (&one, Applied::Current)] {
        assert_eq!(index.apply(&account, event, None).await.unwrap(), applied);
    }
    let (delete, again) = (of_space(AuditAction::DeleteSpace, NOON + 2), of_space(AuditAction::CreateSpace, NOON + 3));
    for event in [&delete, &again] {
        assert_eq!(index.apply(&account, event, None).await.unwrap(), Applied::Current);
    }
}

#[tokio::test]
async fn a_rebuild_writes_over_no_row_that_an_event_changed_meanwhile() {
    let index = ContentIndex::new(Arc::new(TestTable::default()));
    let (account, space) = (space().account, space());
    let first = event(AuditAction::AddContent, NOON, None);
    let item = first.item.clone().unwrap();
    index.apply(&account, &first, None).await.unwrap();
    let known = index.get(&space, &item).await.unwrap().unwrap();
    let found = IndexRow { size: Some(77), ..known.clone() };
    let later = event(AuditAction::AddContent, NOON + 100_000_000, None);
    index.apply(&account, &later, None).await.unwrap();
    assert!(!index.replace(&space, &item, (Some(&known), &found)).await.unwrap());
    assert!(!index.replace(&space, &item, (None, &found)).await.unwrap());
    let now = index.get(&space, &item).await.unwrap().unwrap();
    assert_eq!(now.event, later.id);
    assert!(index.replace(&space, &item, (Some(&now), &found)).await.unwrap());
    assert_eq!(index.get(&space, &item).await.unwrap().unwrap(), found);
}
