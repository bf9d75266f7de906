//! Ranges of rows, in order.

use mill_ports::{KeyRange, RowKey};

use super::key;
use crate::subject::TableSubject;

fn prefix(prefix: &str) -> KeyRange {
    KeyRange { prefix: prefix.into(), after: None }
}

fn after(after: &str) -> KeyRange {
    KeyRange { prefix: String::new(), after: Some(after.into()) }
}

async fn with(subject: &TableSubject, sorts: &[&str]) {
    for sort in sorts {
        subject.put(&key(sort), sort).await;
    }
}

/// The order is that of UTF-8 bytes: not of letters, of any language, nor of UTF-16.
pub async fn rows_are_in_order_of_bytes(subject: TableSubject) {
    let sorted = ["\u{1}", " ", "A", "Z", "a", "a-b", "a/b", "a0", "z", "é", "日", "\u{FF5E}", "\u{1F600}"];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.swap(2, 7);
    with(&subject, &shuffled).await;
    assert_eq!(subject.sorts(&KeyRange::default()).await, sorted);
}

/// The rows of one partition never appear in another.
pub async fn partitions_are_read_apart(subject: TableSubject) {
    for (partition, sort) in [("p", "1"), ("pp", "2"), ("P", "3"), ("p\0", "4"), ("p ", "5"), ("o", "6")] {
        subject.put(&RowKey::new(partition, sort), "").await;
    }
    let rows = subject.rows("p", &KeyRange::default(), 100).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].sort, "1");
}

/// An empty range is a valid answer.
pub async fn an_unknown_partition_is_empty_and_at_its_end(subject: TableSubject) {
    let page = subject.table.query("unknown", &KeyRange::default(), 10).await.unwrap();
    assert!(page.rows.is_empty() && page.end);
}

/// No character of a prefix is a wildcard.
pub async fn a_prefix_is_meant_literally(subject: TableSubject) {
    with(&subject, &["a%b", "a_b", "axb", "Axb", "a*b", "a\\b", "a[x]b", "e\u{301}", "é"]).await;
    assert_eq!(subject.sorts(&prefix("a%")).await, ["a%b"]);
    assert_eq!(subject.sorts(&prefix("a_")).await, ["a_b"]);
    assert_eq!(subject.sorts(&prefix("a*")).await, ["a*b"]);
    assert_eq!(subject.sorts(&prefix("a\\")).await, ["a\\b"]);
    assert_eq!(subject.sorts(&prefix("a[x]")).await, ["a[x]b"]);
    assert_eq!(subject.sorts(&prefix("A")).await, ["Axb"]);
    assert_eq!(subject.sorts(&prefix("é")).await, ["é"]);
}

/// The range of a prefix has all its rows and no neighbours, whatever its last character.
pub async fn a_prefix_ends_where_its_last_character_does(subject: TableSubject) {
    for last in ["a", "z", "\u{7f}", "\u{7ff}", "\u{d7ff}", "\u{ffff}", "\u{10ffff}"] {
        let inside = [format!("k{last}"), format!("k{last}\0"), format!("k{last}\u{10ffff}\u{10ffff}")];
        for sort in &inside {
            subject.put(&RowKey::new(last, sort), "").await;
        }
        for sort in ["k", "j", "l", "k\0"] {
            subject.put(&RowKey::new(last, sort), "").await;
        }
        let rows = subject.rows(last, &prefix(&format!("k{last}")), 100).await;
        assert_eq!(rows.into_iter().map(|row| row.sort).collect::<Vec<_>>(), inside, "{last:?}");
    }
}

/// A page after a marker begins where the last page stopped.
pub async fn after_leaves_its_own_key_out(subject: TableSubject) {
    with(&subject, &["a", "a\0", "b", "c"]).await;
    assert_eq!(subject.sorts(&after("a")).await, ["a\0", "b", "c"]);
    assert_eq!(subject.sorts(&after("c")).await, Vec::<String>::new());
}

/// The row of a marker may be deleted meanwhile.
pub async fn after_need_not_be_there(subject: TableSubject) {
    with(&subject, &["a", "c"]).await;
    assert_eq!(subject.sorts(&after("b")).await, ["c"]);
    assert_eq!(subject.sorts(&after("")).await, ["a", "c"]);
}

/// Prefix and marker apply together.
pub async fn after_and_prefix_work_together(subject: TableSubject) {
    with(&subject, &["a", "b", "ba", "bb", "c"]).await;
    let range = |after: &str| KeyRange { prefix: "b".into(), after: Some(after.into()) };
    assert_eq!(subject.sorts(&range("a")).await, ["b", "ba", "bb"]);
    assert_eq!(subject.sorts(&range("b")).await, ["ba", "bb"]);
    assert_eq!(subject.sorts(&range("ba")).await, ["bb"]);
    assert_eq!(subject.sorts(&range("c")).await, Vec::<String>::new());
}

/// The pages of a range are complete, whatever their size.
pub async fn pages_reach_every_row_once(subject: TableSubject) {
    let sorts: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    for sort in &sorts {
        subject.put(&key(sort), sort).await;
    }
    for limit in [1, 5, 7, 24, 25, 26, 1000] {
        let rows = subject.rows("partition", &KeyRange::default(), limit).await;
        assert_eq!(rows.into_iter().map(|row| row.sort).collect::<Vec<_>>(), sorts, "in pages of {limit}");
    }
}

/// A page has no more rows than its limit.
pub async fn a_page_holds_no_more_than_its_limit(subject: TableSubject) {
    with(&subject, &["a", "b", "c"]).await;
    let page = subject.table.query("partition", &KeyRange::default(), 2).await.unwrap();
    assert!((1..=2).contains(&page.rows.len()) && !page.end, "{page:?}");
}

/// Only the last page is the end.
pub async fn the_end_is_told_and_true(subject: TableSubject) {
    with(&subject, &["a", "b"]).await;
    let first = subject.table.query("partition", &KeyRange::default(), 1).await.unwrap();
    assert!(!first.end);
    let rest = subject.table.query("partition", &after("b"), 1).await.unwrap();
    assert!(rest.end && rest.rows.is_empty());
    // The end is that of the range, not of the partition.
    let page = subject.table.query("partition", &prefix("a"), 10).await.unwrap();
    assert!(page.end && page.rows.len() == 1);
}

/// One row has one value and one version, however it is read.
pub async fn a_row_in_a_page_is_as_it_reads_alone(subject: TableSubject) {
    let version = subject.put(&key("a"), "value").await;
    let rows = subject.rows("partition", &KeyRange::default(), 10).await;
    assert_eq!(rows[0].version, version);
    assert_eq!(rows, [subject.table.get(&key("a")).await.unwrap().unwrap()]);
}

/// A paged read sees rows that were written ahead of it.
pub async fn rows_written_ahead_of_a_walk_are_met(subject: TableSubject) {
    with(&subject, &["a", "b", "d"]).await;
    let page = subject.table.query("partition", &KeyRange::default(), 1).await.unwrap();
    assert_eq!(page.rows[0].sort, "a");
    subject.put(&key("c"), "c").await;
    assert_eq!(subject.sorts(&after("a")).await, ["b", "c", "d"]);
}
