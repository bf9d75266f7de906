//! Single rows and their versions.

use bytes::Bytes;
use mill_ports::{KeyRange, RowKey, RowPrecondition};

use super::{assert_conflict, key};
use crate::subject::TableSubject;

/// A row reads as it was written, with the version that the write returned.
pub async fn a_row_reads_as_it_was_written(subject: TableSubject) {
    let version = subject.put(&key("a"), "value").await;
    let row = subject.table.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((row.sort.as_str(), &row.value[..], row.version), ("a", &b"value"[..], version));
}

/// An absent row reads as absent.
pub async fn a_row_never_written_is_not_there(subject: TableSubject) {
    subject.put(&key("a"), "value").await;
    assert_eq!(subject.value(&key("b")).await, None);
    assert_eq!(subject.value(&RowKey::new("other", "a")).await, None);
}

/// The last write counts, also if it wrote the same value.
pub async fn writing_again_replaces_the_row_and_its_version(subject: TableSubject) {
    let first = subject.put(&key("a"), "one").await;
    let second = subject.put(&key("a"), "two").await;
    let third = subject.put(&key("a"), "two").await;
    assert!(first != second && second != third && first != third);
    assert_eq!(subject.value(&key("a")).await.unwrap(), "two");
}

/// Values are bytes, not text.
pub async fn every_byte_is_kept_in_a_value(subject: TableSubject) {
    let value: Bytes = (0..=255u8).collect();
    subject.table.put(&key("a"), value.clone(), RowPrecondition::Always).await.unwrap();
    assert_eq!(subject.value(&key("a")).await.unwrap(), value);
}

/// An empty value is not an absent row.
pub async fn an_empty_value_is_a_row(subject: TableSubject) {
    subject.put(&key("a"), "").await;
    assert_eq!(subject.value(&key("a")).await.unwrap(), "");
    assert_eq!(subject.sorts(&KeyRange::default()).await, ["a"]);
    assert_conflict(subject.put_when(&key("a"), "x", RowPrecondition::Absent).await);
}

/// A body as large as a queue takes fits a row.
pub async fn a_large_value_is_kept(subject: TableSubject) {
    let value = Bytes::from(vec![7; 256 << 10]);
    subject.table.put(&key("a"), value.clone(), RowPrecondition::Always).await.unwrap();
    assert_eq!(subject.value(&key("a")).await.unwrap(), value);
}

/// No character of a key is special, and none is folded into another.
pub async fn keys_are_kept_to_the_byte(subject: TableSubject) {
    let sorts =
        ["a", "A", "a ", " a", "a\0", "a\0b", "\0", "a\n", "%", "_", "'", "\\", "a/b", "é", "e\u{301}", "\u{1F600}"];
    for sort in sorts {
        subject.put(&key(sort), sort).await;
    }
    for sort in sorts {
        assert_eq!(subject.value(&key(sort)).await.unwrap(), sort, "{sort:?}");
    }
    let mut expected = sorts.map(str::to_owned);
    expected.sort();
    assert_eq!(subject.sorts(&KeyRange::default()).await, expected);
}

/// A key is two texts, not one.
pub async fn partition_and_sort_key_never_run_together(subject: TableSubject) {
    let keys = [("a", "bc"), ("ab", "c"), ("a\0", "b"), ("a", "\0b"), ("a/", "b"), ("a", "/b")];
    for (partition, sort) in keys {
        subject.put(&RowKey::new(partition, sort), &format!("{partition}|{sort}")).await;
    }
    for (partition, sort) in keys {
        let value = subject.value(&RowKey::new(partition, sort)).await.unwrap();
        assert_eq!(value, format!("{partition}|{sort}"));
    }
}

/// Of many concurrent creations, one succeeds.
pub async fn absent_put_has_one_winner(subject: TableSubject) {
    let (subject, key) = (&subject, &key("a"));
    let put = |number: usize| async move { subject.put_when(key, &number.to_string(), RowPrecondition::Absent).await };
    let answers = futures::future::join_all((0..16).map(put)).await;
    let winners: Vec<usize> = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert_eq!(subject.value(key).await.unwrap(), winners[0].to_string());
    answers.into_iter().filter(Result::is_err).for_each(assert_conflict);
}

/// A conflict leaves the row as it was.
pub async fn absent_put_of_a_row_that_is_there_conflicts(subject: TableSubject) {
    let version = subject.put(&key("a"), "first").await;
    assert_conflict(subject.put_when(&key("a"), "second", RowPrecondition::Absent).await);
    let row = subject.table.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((&row.value[..], row.version), (&b"first"[..], version));
}

/// Of many writers that read the same version, one succeeds.
pub async fn a_put_under_one_version_has_one_winner(subject: TableSubject) {
    let version = subject.put(&key("a"), "start").await;
    let (subject, key, version) = (&subject, &key("a"), &version);
    let put = |number: usize| async move {
        subject.put_when(key, &number.to_string(), RowPrecondition::VersionIs(version.clone())).await
    };
    let answers = futures::future::join_all((0..16).map(put)).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    answers.into_iter().filter(Result::is_err).for_each(assert_conflict);
}

/// A write that expects an older version fails.
pub async fn a_put_under_a_stale_version_conflicts(subject: TableSubject) {
    let stale = subject.put(&key("a"), "one").await;
    let current = subject.put(&key("a"), "two").await;
    assert_conflict(subject.put_when(&key("a"), "three", RowPrecondition::VersionIs(stale)).await);
    assert_eq!(subject.value(&key("a")).await.unwrap(), "two");
    subject.put_when(&key("a"), "three", RowPrecondition::VersionIs(current)).await.unwrap();
    assert_eq!(subject.value(&key("a")).await.unwrap(), "three");
}

/// A write that expects a version of an absent row fails.
pub async fn a_put_under_the_version_of_an_absent_row_conflicts(subject: TableSubject) {
    let version = subject.put(&key("a"), "one").await;
    assert_conflict(subject.put_when(&key("b"), "two", RowPrecondition::VersionIs(version.clone())).await);
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    assert_conflict(subject.put_when(&key("a"), "two", RowPrecondition::VersionIs(version)).await);
    assert!(subject.sorts(&KeyRange::default()).await.is_empty());
}

/// A delete removes its row and no other.
pub async fn a_deleted_row_is_gone(subject: TableSubject) {
    subject.put(&key("a"), "one").await;
    subject.put(&key("ab"), "two").await;
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    assert_eq!(subject.value(&key("a")).await, None);
    assert_eq!(subject.sorts(&KeyRange::default()).await, ["ab"]);
}

/// A second delete is no error.
pub async fn deleting_what_is_not_there_is_done(subject: TableSubject) {
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    subject.put(&key("a"), "one").await;
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
}

/// A delete that expects an older version fails.
pub async fn a_delete_under_a_stale_version_conflicts(subject: TableSubject) {
    let stale = subject.put(&key("a"), "one").await;
    subject.put(&key("a"), "two").await;
    assert_conflict(subject.table.delete(&key("a"), RowPrecondition::VersionIs(stale)).await);
    assert_eq!(subject.value(&key("a")).await.unwrap(), "two");
}

/// A delete that expects the current version succeeds.
pub async fn a_delete_under_the_right_version_is_done(subject: TableSubject) {
    let version = subject.put(&key("a"), "one").await;
    subject.table.delete(&key("a"), RowPrecondition::VersionIs(version)).await.unwrap();
    assert_eq!(subject.value(&key("a")).await, None);
}

/// A delete that expects a version of an absent row fails.
pub async fn a_conditional_delete_of_an_absent_row_conflicts(subject: TableSubject) {
    let version = subject.put(&key("a"), "one").await;
    subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    assert_conflict(subject.table.delete(&key("a"), RowPrecondition::VersionIs(version)).await);
}

/// A recreated row does not have the version of its predecessor.
pub async fn a_row_deleted_and_written_again_bears_no_old_version(subject: TableSubject) {
    let mut versions = Vec::new();
    for _ in 0..4 {
        versions.push(subject.put_when(&key("a"), "same", RowPrecondition::Absent).await.unwrap());
        subject.table.delete(&key("a"), RowPrecondition::Always).await.unwrap();
    }
    subject.put(&key("a"), "same").await;
    for version in versions {
        assert_conflict(subject.put_when(&key("a"), "other", RowPrecondition::VersionIs(version)).await);
    }
    assert_eq!(subject.value(&key("a")).await.unwrap(), "same");
}

/// A write of many rows writes them all, in any number of partitions.
pub async fn many_rows_are_written_at_once(subject: TableSubject) {
    let row =
        |number: u32| (RowKey::new(format!("p{}", number % 3), format!("{number:04}")), number.to_string().into());
    let rows: Vec<(RowKey, Bytes)> = (0..1000).map(row).collect();
    subject.table.put_many(&rows).await.unwrap();
    let mut found = 0;
    for partition in ["p0", "p1", "p2"] {
        for row in subject.rows(partition, &KeyRange::default(), 400).await {
            assert_eq!(row.value, row.sort.parse::<u32>().unwrap().to_string());
            found += 1;
        }
    }
    assert_eq!(found, 1000);
}

/// Within one call, the last write of a row counts.
pub async fn of_the_same_key_the_last_of_many_wins(subject: TableSubject) {
    let row = |value: &'static str| (key("a"), Bytes::from(value));
    subject.table.put_many(&[row("one"), (key("b"), Bytes::from("other")), row("two"), row("three")]).await.unwrap();
    assert_eq!(subject.value(&key("a")).await.unwrap(), "three");
    assert_eq!(subject.value(&key("b")).await.unwrap(), "other");
}

/// A write among many changes the version like a single one.
pub async fn writing_many_changes_versions(subject: TableSubject) {
    let before = subject.put(&key("a"), "one").await;
    subject.table.put_many(&[(key("a"), Bytes::from("one"))]).await.unwrap();
    assert_conflict(subject.put_when(&key("a"), "two", RowPrecondition::VersionIs(before)).await);
}

/// An empty write is no error.
pub async fn writing_none_is_fine(subject: TableSubject) {
    subject.table.put_many(&[]).await.unwrap();
}
