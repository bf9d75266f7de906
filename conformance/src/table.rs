//! The promises of every table.

pub mod ranges;
pub mod rows;

use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPrecondition, RowVersion, TableError, TableErrorKind};

use crate::subject::TableSubject;

/// Makes the tests of a table in a module of its own.
///
/// ```ignore
/// table_suite!(name, path::to::open);
/// ```
#[macro_export]
macro_rules! table_suite {
    ($name:ident, $open:path) => {
        mod $name {
            $crate::cases! { $open, table::rows;
                a_row_reads_as_it_was_written
                a_row_never_written_is_not_there
                writing_again_replaces_the_row_and_its_version
                every_byte_is_kept_in_a_value
                an_empty_value_is_a_row
                a_large_value_is_kept
                keys_are_kept_to_the_byte
                partition_and_sort_key_never_run_together
                absent_put_has_one_winner
                absent_put_of_a_row_that_is_there_conflicts
                a_put_under_one_version_has_one_winner
                a_put_under_a_stale_version_conflicts
                a_put_under_the_version_of_an_absent_row_conflicts
                a_deleted_row_is_gone
                deleting_what_is_not_there_is_done
                a_delete_under_a_stale_version_conflicts
                a_delete_under_the_right_version_is_done
                a_conditional_delete_of_an_absent_row_conflicts
                a_row_deleted_and_written_again_bears_no_old_version
                many_rows_are_written_at_once
                of_the_same_key_the_last_of_many_wins
                writing_many_changes_versions
                writing_none_is_fine
            }
            $crate::cases! { $open, table::ranges;
                rows_are_in_order_of_bytes
                partitions_are_read_apart
                an_unknown_partition_is_empty_and_at_its_end
                a_prefix_is_meant_literally
                a_prefix_ends_where_its_last_character_does
                after_leaves_its_own_key_out
                after_need_not_be_there
                after_and_prefix_work_together
                pages_reach_every_row_once
                a_page_holds_no_more_than_its_limit
                the_end_is_told_and_true
                a_row_in_a_page_is_as_it_reads_alone
                rows_written_ahead_of_a_walk_are_met
            }
        }
    };
}

/// A key in the partition that most cases use.
pub(crate) fn key(sort: &str) -> RowKey {
    RowKey::new("partition", sort)
}

/// Asserts a conflict.
pub(crate) fn assert_conflict<T: std::fmt::Debug>(answer: Result<T, TableError>) {
    assert_eq!(answer.unwrap_err().kind, TableErrorKind::Conflict);
}

impl TableSubject {
    pub(crate) async fn put(&self, key: &RowKey, value: &str) -> RowVersion {
        self.table.put(key, Bytes::from(value.to_owned()), RowPrecondition::Always).await.unwrap()
    }

    pub(crate) async fn put_when(
        &self,
        key: &RowKey,
        value: &str,
        when: RowPrecondition,
    ) -> Result<RowVersion, TableError> {
        self.table.put(key, Bytes::from(value.to_owned()), when).await
    }

    pub(crate) async fn value(&self, key: &RowKey) -> Option<Bytes> {
        self.table.get(key).await.unwrap().map(|row| row.value)
    }

    /// Returns all rows of a range, page by page. Asserts that each page moves on and that only the last one is the end.
    pub(crate) async fn rows(&self, partition: &str, range: &KeyRange, limit: usize) -> Vec<Row> {
        let (mut rows, mut range) = (Vec::<Row>::new(), range.clone());
        loop {
            let page = self.table.query(partition, &range, limit).await.unwrap();
            assert!(page.rows.len() <= limit, "{} rows in a page of {limit}", page.rows.len());
            assert!(page.end || !page.rows.is_empty(), "a page that neither moves on nor ends");
            for row in page.rows {
                assert!(range.after.as_ref() < Some(&row.sort), "{:?} stands after {:?}", row.sort, range.after);
                range.after = Some(row.sort.clone());
                rows.push(row);
            }
            if page.end {
                return rows;
            }
        }
    }

    /// The sort keys of a range.
    pub(crate) async fn sorts(&self, range: &KeyRange) -> Vec<String> {
        self.rows("partition", range, 100).await.into_iter().map(|row| row.sort).collect()
    }
}
