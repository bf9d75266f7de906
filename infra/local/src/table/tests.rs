use std::sync::Arc;

use bytes::Bytes;
use mill_ports::{KeyRange, RowKey, RowPrecondition, RowVersion, Table as _, TableErrorKind};
use proptest::prelude::*;

use super::{SqliteTable, VALUE_BYTES_MAX};
use crate::{Database, OsClock, OsRng};

fn table() -> (tempfile::TempDir, SqliteTable) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mill.db");
    let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
    (directory, SqliteTable::new(database, "seals"))
}

fn key(sort: &str) -> RowKey {
    RowKey::new("p", sort)
}

#[tokio::test]
async fn absent_put_has_one_winner() {
    let (_directory, table) = table();
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..64_u8 {
        let table = table.clone();
        tries.spawn(async move { table.put(&key("x"), vec![number].into(), RowPrecondition::Absent).await });
    }
    let ends = tries.join_all().await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1);
    assert!(ends.iter().filter_map(|end| end.as_ref().err()).all(|error| error.kind == TableErrorKind::Conflict));
}

#[tokio::test]
async fn a_version_fits_one_state_of_a_row_and_never_comes_back() {
    let (_directory, table) = table();
    let value = || Bytes::from_static(b"v");
    let first = table.put(&key("x"), value(), RowPrecondition::Absent).await.unwrap();
    let second = table.put(&key("x"), value(), RowPrecondition::VersionIs(first.clone())).await.unwrap();
    assert_ne!(first, second);
    let stale = |end: Result<RowVersion, mill_ports::TableError>| end.unwrap_err().kind == TableErrorKind::Conflict;
    assert!(stale(table.put(&key("x"), value(), RowPrecondition::VersionIs(first.clone())).await));
    assert!(stale(table.put(&key("y"), value(), RowPrecondition::VersionIs(second.clone())).await));
    assert!(stale(table.put(&key("x"), value(), RowPrecondition::VersionIs(RowVersion("other".into()))).await));
    assert_eq!(
        table.delete(&key("x"), RowPrecondition::VersionIs(first)).await.unwrap_err().kind,
        TableErrorKind::Conflict
    );
    assert_eq!(table.delete(&key("x"), RowPrecondition::Absent).await.unwrap_err().kind, TableErrorKind::Conflict);
    table.delete(&key("x"), RowPrecondition::VersionIs(second.clone())).await.unwrap();
    table.delete(&key("x"), RowPrecondition::Always).await.unwrap();
    table.delete(&key("x"), RowPrecondition::Absent).await.unwrap();
    let third = table.put(&key("x"), value(), RowPrecondition::Absent).await.unwrap();
    assert!(third != second, "a row written again after its deletion bears a new mark");
}

#[tokio::test]
async fn tables_and_partitions_are_apart() {
    let (_directory, table) = table();
    let other = SqliteTable::new(Arc::clone(&table.database), "other");
    table.put(&key("x"), Bytes::new(), RowPrecondition::Always).await.unwrap();
    assert_eq!(other.get(&key("x")).await.unwrap(), None);
    assert_eq!(table.get(&RowKey::new("q", "x")).await.unwrap(), None);
    assert!(table.get(&key("x")).await.unwrap().is_some());
    assert!(other.query("p", &KeyRange::default(), 10).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn of_many_rows_the_last_of_a_key_wins_and_all_are_there() {
    let (_directory, table) = table();
    let mut rows: Vec<_> = (0..1200).map(|n| (key(&format!("{n:05}")), Bytes::from(format!("{n}")))).collect();
    rows.push((key("00007"), Bytes::from_static(b"last")));
    table.put_many(&rows).await.unwrap();
    assert_eq!(&table.get(&key("00007")).await.unwrap().unwrap().value[..], b"last");
    let page = table.query("p", &KeyRange::default(), 5000).await.unwrap();
    assert_eq!((page.rows.len(), page.end), (1200, true));
}

#[tokio::test]
async fn a_value_too_large_is_refused_and_large_pages_end_early() {
    let (_directory, table) = table();
    let large = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let larger = Bytes::from(vec![7; VALUE_BYTES_MAX + 1]);
    let refused = table.put(&key("x"), larger, RowPrecondition::Always).await.unwrap_err();
    assert_eq!(refused.kind, TableErrorKind::TooLarge);
    for n in 0..5 {
        table.put(&key(&n.to_string()), large.clone(), RowPrecondition::Always).await.unwrap();
    }
    let page = table.query("p", &KeyRange::default(), 5).await.unwrap();
    assert!(!page.end && !page.rows.is_empty() && page.rows.len() < 5);
}

/// Keys with everything that might be special: NUL, the highest characters, prefixes of each other.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![Just("\0"), Just("a"), Just("b"), Just("/"), Just("\u{7f}"), Just("é"), Just("\u{10FFFF}")];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

#[test]
fn queries_give_the_range_in_byte_order_page_by_page() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_directory, table) = table();
    let case = std::sync::atomic::AtomicUsize::new(0);
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let keys = proptest::collection::btree_set(text(), 0..40);
    proptest!(config, |(keys in keys, prefix in text(), after in proptest::option::of(text()), limit in 1..9_usize)| {
        let partition = case.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after)).cloned().collect();
        let found = runtime.block_on(async {
            let rows: Vec<_> = keys.iter().map(|sort| (RowKey::new(&partition, sort), Bytes::from(sort.clone()))).collect();
            table.put_many(&rows).await.unwrap();
            let (mut found, mut range) = (Vec::new(), KeyRange { prefix: prefix.clone(), after: after.clone() });
            loop {
                let page = table.query(&partition, &range, limit).await.unwrap();
                assert!(page.rows.len() <= limit && (page.end || !page.rows.is_empty()));
                range.after = page.rows.last().map(|row| row.sort.clone()).or(range.after);
                found.extend(page.rows.into_iter().map(|row| row.sort));
                if page.end {
                    return found;
                }
            }
        });
        assert_eq!(found, expected);
    });
}
