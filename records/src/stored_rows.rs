//! What all repositories do with rows: write a record as JSON, and read a partition page by page.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use mill_ports::{KeyRange, Row, Table, TableError, TableErrorKind};
use serde::Serialize;

/// The value of a record's row.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    // Structs of texts and numbers are always JSON; an empty value would read as an unreadable row.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Streams the rows of a partition whose sort keys have this prefix, in order. One page is in memory at a time.
///
/// The stream ends in an error if a page is empty and not the last: rows may follow that nobody would see.
pub(crate) fn partition_rows(
    table: Arc<dyn Table>,
    (partition, prefix): (String, String),
    page_rows: usize,
) -> BoxStream<'static, Result<Row, TableError>> {
    let start = (table, Some(KeyRange { prefix, after: None }));
    let pages = stream::try_unfold(start, move |(table, range)| {
        let partition = partition.clone();
        async move {
            let Some(range) = range else { return Ok(None) };
            let page = table.query(&partition, &range, page_rows).await?;
            let after = page.rows.last().map(|row| row.sort.clone());
            // A page that promises more but has no last row would be requested again for ever.
            let next = (!page.end && after.is_some()).then_some(KeyRange { after, ..range });
            if !page.end && next.is_none() {
                return Err(TableError {
                    kind: TableErrorKind::Unexpected,
                    op: "query",
                    table: table.name().to_owned(),
                    source: Some("an empty page that is not the last".into()),
                });
            }
            Ok(Some((stream::iter(page.rows.into_iter().map(Ok)), (table, next))))
        }
    });
    pages.try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use mill_ports::{RowKey, RowPage, RowPrecondition, RowVersion};

    use super::*;

    /// A table that answers a query with no row, and says that more follow.
    #[derive(Debug)]
    struct EmptyPages;

    #[async_trait]
    impl Table for EmptyPages {
        fn name(&self) -> &'static str {
            "empty pages"
        }

        async fn get(&self, _: &RowKey) -> Result<Option<Row>, TableError> {
            Ok(None)
        }

        async fn put(&self, _: &RowKey, _: Bytes, _: RowPrecondition) -> Result<RowVersion, TableError> {
            Ok(RowVersion("1".into()))
        }

        async fn put_many(&self, _: &[(RowKey, Bytes)]) -> Result<(), TableError> {
            Ok(())
        }

        async fn delete(&self, _: &RowKey, _: RowPrecondition) -> Result<(), TableError> {
            Ok(())
        }

        async fn query(&self, _: &str, _: &KeyRange, _: usize) -> Result<RowPage, TableError> {
            Ok(RowPage { rows: Vec::new(), end: false })
        }
    }

    #[tokio::test]
    async fn an_empty_page_that_is_not_the_last_is_no_end() {
        let rows = partition_rows(Arc::new(EmptyPages), ("p".into(), String::new()), 10);
        let read: Result<Vec<Row>, TableError> = rows.try_collect().await;
        assert_eq!(read.unwrap_err().kind, TableErrorKind::Unexpected);
    }
}
