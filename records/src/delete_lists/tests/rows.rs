//! Rows: how many ids they hold, that no id is lost, and that each row has one result.

use super::*;
use crate::delete_lists::rows::IdsDigest;
use futures::StreamExt as _;

/// Splits ids into rows, as the producer's writer does.
fn split(ids: impl IntoIterator<Item = ListedId>) -> Vec<DeleteListRow> {
    let mut rows = vec![DeleteListRow::default()];
    for listed in ids {
        if rows.last().unwrap().is_full() {
            rows.push(DeleteListRow::default());
        }
        rows.last_mut().unwrap().ids.push(listed);
    }
    rows
}

async fn write(lists: &DeleteLists, id: DeleteListId, rows: &[DeleteListRow]) {
    for (number, row) in (0..).zip(rows) {
        lists.put_row(&pair(), id, number, row).await.unwrap();
    }
}

#[test]
fn a_row_takes_256_short_ids() {
    let rows = split((0..600).map(|number| listed(&format!("{number:05}"))));
    assert_eq!(rows.iter().map(|row| row.ids.len()).collect::<Vec<_>>(), [256, 256, 88]);
}

/// DynamoDB accepts 400 KB for a row, names and keys included; a control character takes six bytes in JSON.
#[test]
fn a_row_of_the_nastiest_ids_fits_every_table() {
    for bytes in [1, 234, 235, 1_024] {
        for nasty in ['\u{0}', '\u{1f}', '"', '\u{7f}'] {
            let ids = (0..300).map(|_| listed(&nasty.to_string().repeat(bytes)));
            for row in split(ids) {
                assert_fits(&row);
            }
        }
    }
    // As many ids as fit before it is full, then the longest possible id.
    let mut row = split((0..254).map(|_| listed(&"\u{1}".repeat(235)))).remove(0);
    row.ids.push(listed(&"\u{1}".repeat(309)));
    assert!(!row.is_full());
    row.ids.push(listed(&"\u{1}".repeat(1_024)));
    assert!(row.is_full() && row.ids.len() <= DeleteListRow::IDS_MAX);
    assert_fits(&row);
}

fn assert_fits(row: &DeleteListRow) {
    let written = row.written().len();
    assert!(row.ids.len() <= DeleteListRow::IDS_MAX);
    assert!(written + 1_500 < 400_000, "{} ids, {written} bytes", row.ids.len());
    assert_eq!(DeleteListRow::read(&row.written()).as_ref(), Some(row));
}

#[tokio::test]
async fn ids_come_in_order_over_many_rows_and_pages() {
    let (lists, _) = repository();
    let ids: Vec<ListedId> = (0..3_000).map(|number| listed(&format!("{number:05}/ü\u{0}\n\""))).collect();
    let rows = split(ids.clone());
    assert_eq!(rows.len(), 12, "more rows than one page of the table");
    write(&lists, list(1), &rows).await;
    // Other lists, of this pair and of another, are not mixed in.
    write(&lists, list(2), &split([listed("other")])).await;
    lists.put_row(&pair_of_space("q"), list(1), 0, &split([listed("other")])[0]).await.unwrap();
    lists.record(&pair(), list(1), 0, &RowResult::default()).await.unwrap();
    let found: Vec<ListedId> = lists.ids(&pair(), list(1)).try_collect().await.unwrap();
    assert!(found == ids);
    assert_eq!(lists.row(&pair(), list(1), 11).await.unwrap().as_ref(), Some(&rows[11]));
    assert_eq!(lists.row(&pair(), list(1), 12).await.unwrap(), None);
}

#[tokio::test]
async fn rows_are_in_order_beyond_ten_thousand() {
    let (lists, _) = repository();
    for number in [0, 9, 10, 99_999, 100_000, 3_906_250] {
        let row = DeleteListRow { ids: vec![listed(&format!("{number:08}"))] };
        lists.put_row(&pair(), list(1), number, &row).await.unwrap();
    }
    let found: Vec<ListedId> = lists.ids(&pair(), list(1)).try_collect().await.unwrap();
    assert!(found.is_sorted_by_key(|listed| listed.id.clone()) && found.len() == 6);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_and_no_end() {
    let (lists, table) = repository();
    write(&lists, list(1), &split((0..600).map(|number| listed(&format!("{number:05}"))))).await;
    let key = row_key(&pair(), list(1), 1);
    let digest = "0".repeat(32);
    for damaged in [
        String::new(),
        "[".into(),
        "{}".into(),
        format!(r#"[["","{digest}"]]"#),
        format!(r#"[["x","{}"]]"#, &digest[1..]),
        format!(r#"[["x","+{}"]]"#, &digest[1..]),
        r#"[["x","not hexadecimal, though of 32 b"]]"#.into(),
        r#"[["x"]]"#.into(),
    ] {
        table.put(&key, damaged.clone().into(), RowPrecondition::Always).await.unwrap();
        let error = lists.row(&pair(), list(1), 1).await.unwrap_err();
        assert!(matches!(error, DeleteListError::Unreadable { .. }), "{damaged}");
        let all: Vec<_> = lists.ids(&pair(), list(1)).collect().await;
        assert!(all[..256].iter().all(Result::is_ok) && all[256].is_err(), "{damaged}");
    }
}

#[tokio::test]
async fn the_first_result_of_a_row_stands() {
    let (lists, _) = repository();
    let result = |deleted, gone| RowResult { deleted, gone, ..RowResult::default() };
    assert_eq!(lists.result(&pair(), list(1), 0).await.unwrap(), None);
    lists.record(&pair(), list(1), 0, &result(5, 2)).await.unwrap();
    lists.record(&pair(), list(1), 0, &result(0, 7)).await.unwrap();
    assert_eq!(lists.result(&pair(), list(1), 0).await.unwrap(), Some(result(5, 2)));
    assert_eq!(lists.result(&pair(), list(2), 0).await.unwrap(), None);
    assert_eq!(lists.result(&pair_of_space("q"), list(1), 0).await.unwrap(), None);
}

#[tokio::test]
async fn results_of_a_list_come_by_row_over_many_pages() {
    let (lists, table) = repository();
    let result = |row| RowResult { deleted: row, gone: 1, kept: 2, failed: 3 };
    for row in [7, 0, 12, 3, 10, 1] {
        lists.record(&pair(), list(1), row, &result(row.into())).await.unwrap();
    }
    lists.record(&pair(), list(2), 4, &result(9)).await.unwrap();
    let found = lists.results(&pair(), list(1)).await.unwrap();
    assert_eq!(found, [0, 1, 3, 7, 10, 12].map(|row| (row, result(row.into()))));
    assert_eq!(found[5].1.total(), 18);
    let key = result_key(&pair(), list(1), 3);
    table.put(&key, "{".into(), RowPrecondition::Always).await.unwrap();
    assert!(matches!(lists.results(&pair(), list(1)).await, Err(DeleteListError::Unreadable { .. })));
    assert!(matches!(lists.result(&pair(), list(1), 3).await, Err(DeleteListError::Unreadable { .. })));
}

#[tokio::test]
async fn rows_of_a_list_that_is_dropped_go_and_nothing_else() {
    let (lists, _) = repository();
    for id in [list(1), list(2)] {
        write(&lists, id, &split((0..1_500).map(|number| listed(&format!("{number:05}"))))).await;
        lists.add_head(&pair(), id, head(1_500, DeleteListState::Withdrawn)).await.unwrap();
    }
    lists.remove_rows(&pair(), list(1)).await.unwrap();
    assert_eq!(lists.ids(&pair(), list(1)).count().await, 0);
    assert_eq!(lists.ids(&pair(), list(2)).count().await, 1_500);
    assert!(lists.head(&pair(), list(1)).await.unwrap().is_some(), "what was decided stays on record");
}

#[tokio::test]
async fn a_digest_tells_ids_apart_by_where_they_end() {
    let digest = |ids: &[&str]| {
        let mut digest = IdsDigest::default();
        for id in ids {
            digest.add(&ContentId::new(*id).unwrap());
        }
        digest.finish()
    };
    assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
    for other in [&["a", "bc"][..], &["abc"], &["c", "ab"], &["ab"], &[]] {
        assert_ne!(digest(&["ab", "c"]), digest(other), "{other:?}");
    }
    assert_eq!(digest(&[]).len(), 64);
}
