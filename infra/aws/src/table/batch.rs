//! Writes many rows: in as many requests as needed, and again for the rows that the service left undone.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_ports::{Backoff, RngExt as _, RowKey, TableError, TableErrorKind};

use super::{DynamoTable, item};
use crate::sdk_error::CallError;

/// Most rows of one request. Source: Amazon DynamoDB API reference, *BatchWriteItem*.
const ROWS_AT_ONCE: usize = 25;

/// Requests at once.
const REQUESTS_AT_ONCE: usize = 8;

/// How often rows left undone are sent again, and the pauses before.
const TRIES: u32 = 10;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

impl DynamoTable {
    pub(super) async fn write_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        // A request may hold a key only once, and requests run in parallel: for each key only its last row is written.
        let mut last: BTreeMap<&RowKey, &Bytes> = BTreeMap::new();
        for (key, value) in rows {
            self.check_size("put_many", key, value)?;
            last.insert(key, value);
        }
        let rows: Vec<(&RowKey, &Bytes)> = last.into_iter().collect();
        let batches = rows.chunks(ROWS_AT_ONCE).map(|rows| self.requests(rows)).collect::<Result<Vec<_>, _>>()?;
        let written = stream::iter(batches).map(|batch| self.write_all(batch)).buffer_unordered(REQUESTS_AT_ONCE);
        written.try_collect().await
    }

    fn requests(&self, rows: &[(&RowKey, &Bytes)]) -> Result<Vec<WriteRequest>, TableError> {
        let request = |(key, value): &(&RowKey, &Bytes)| {
            let put = PutRequest::builder().set_item(Some(item(key, (*value).clone(), &self.new_version()))).build();
            put.map(|put| WriteRequest::builder().put_request(put).build())
        };
        rows.iter().map(request).collect::<Result<_, _>>().map_err(|why| TableError {
            source: Some(why.into()),
            ..self.error("put_many", TableErrorKind::Unexpected)
        })
    }

    /// Writes a batch until nothing of it is left.
    async fn write_all(&self, mut left: Vec<WriteRequest>) -> Result<(), TableError> {
        for tries in 1..=TRIES {
            let request = self.client.batch_write_item().request_items(&*self.table, left);
            let answer =
                request.send().await.map_err(|error| self.call_error("put_many", &CallError::from_sdk(error)))?;
            let mut undone = answer
                .unprocessed_items
                .ok_or_else(|| self.unexpected("put_many", "the answer does not say what was left undone"))?;
            left = undone.remove(&*self.table).unwrap_or_default();
            if let Some(other) = undone.into_iter().find_map(|(table, rows)| (!rows.is_empty()).then_some(table)) {
                // Rows left undone must not count as written, whatever name the service gives their table.
                let why = format!("table `{}`: rows of `{other}` are said to be left undone", self.table);
                return Err(self.unexpected("put_many", why));
            }
            if left.is_empty() {
                return Ok(());
            }
            self.clock.sleep(self.rng.equal_jitter(BACKOFF.pause(tries))).await;
        }
        Err(self.error("put_many", TableErrorKind::Throttled))
    }
}
