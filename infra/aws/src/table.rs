//! Tables in DynamoDB: a row's partition and sort key are the item's keys, unchanged.
//!
//! Reads are consistent. Each write gives a row a new random version, so that no two states of a row share one.

mod batch;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemError, builders::DeleteItemFluentBuilder};
use aws_sdk_dynamodb::operation::put_item::{PutItemError, builders::PutItemFluentBuilder};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use bytes::Bytes;
use mill_ports::{
    Clock, KeyRange, Rng, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind,
};

use crate::connection::Connection;
use crate::deployment::{PARTITION_KEY, SORT_KEY, VALUE_ATTRIBUTE, VERSION_ATTRIBUTE};
use crate::request_stats::AttemptCounter;
use crate::response::CompleteResponses;
use crate::sdk_error::{CallError, CallErrorCause};

/// Most bytes of an item, names of its attributes included. Source: Amazon DynamoDB developer guide, *Quotas*.
const ITEM_BYTES_MAX: usize = 400 * 1024;

/// Most bytes of a sort key, and of a partition key. Source: the same.
const SORT_BYTES_MAX: usize = 1024;
const PARTITION_BYTES_MAX: usize = 2048;

/// One table.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    name: Arc<str>,
    table: Arc<str>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

type DynamoItem = HashMap<String, AttributeValue>;

impl DynamoTable {
    /// The table that Mill calls `name` and the service calls `table`.
    pub fn new(connection: &Connection, name: &str, table: &str, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(&connection.config)
            .interceptor(connection.request_counter())
            .interceptor(CompleteResponses);
        Self { client: Client::from_conf(config.build()), name: name.into(), table: table.into(), clock, rng }
    }

    fn error(&self, op: &'static str, kind: TableErrorKind) -> TableError {
        TableError { kind, op, table: self.name.to_string(), source: None }
    }

    fn call_error(&self, op: &'static str, failure: &CallError) -> TableError {
        let source = Some(format!("table `{}`: {failure}", self.table).into());
        TableError { source, ..self.error(op, error_kind(failure)) }
    }

    fn new_version(&self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    /// Refuses, with a clear message, what the service would refuse.
    fn check_size(&self, op: &'static str, key: &RowKey, value: &Bytes) -> Result<(), TableError> {
        let names = PARTITION_KEY.len() + SORT_KEY.len() + VALUE_ATTRIBUTE.len() + VERSION_ATTRIBUTE.len();
        let bytes = key.partition.len() + key.sort.len() + value.len() + names + 2 * size_of::<u128>();
        let why = if bytes > ITEM_BYTES_MAX {
            format!("a row of {bytes} bytes; at most {ITEM_BYTES_MAX} are taken")
        } else if key.sort.len() > SORT_BYTES_MAX || key.partition.len() > PARTITION_BYTES_MAX {
            format!("a key of {} and {} bytes", key.partition.len(), key.sort.len())
        } else {
            return Ok(());
        };
        Err(TableError { source: Some(why.into()), ..self.error(op, TableErrorKind::TooLarge) })
    }

    /// The error of a response that contradicts itself or the request.
    fn unexpected(&self, op: &'static str, why: impl Into<mill_ports::BoxError>) -> TableError {
        TableError { source: Some(why.into()), ..self.error(op, TableErrorKind::Unexpected) }
    }

    /// A row of the requested partition.
    fn row(&self, op: &'static str, partition: &str, mut item: DynamoItem) -> Result<Row, TableError> {
        if item.get(PARTITION_KEY).and_then(|found| found.as_s().ok()).is_none_or(|found| found != partition) {
            return Err(self.unexpected(op, "an item of another partition, or of none"));
        }
        let mut text = |name| match item.remove(name) {
            Some(AttributeValue::S(text)) => Some(text),
            _ => None,
        };
        let (sort, mark) = (text(SORT_KEY), text(VERSION_ATTRIBUTE));
        let value = match item.remove(VALUE_ATTRIBUTE) {
            Some(AttributeValue::B(value)) => Some(Bytes::from(value.into_inner())),
            _ => None,
        };
        match (sort, mark, value) {
            (Some(sort), Some(mark), Some(value)) => Ok(Row { sort, value, version: RowVersion(mark.into()) }),
            _ => Err(self.unexpected(op, "an item that is no row of a table")),
        }
    }

    /// Writes under a condition. If it fails, the service returns the present row. If that is this very write, an earlier
    /// attempt took effect and only its response was lost.
    async fn write(&self, put: PutItemFluentBuilder, mark: &str) -> Result<(), TableError> {
        let Err(refusal) = put.send().await else { return Ok(()) };
        if let Some(PutItemError::ConditionalCheckFailedException(refusal)) = refusal.as_service_error() {
            let found = refusal.item().and_then(|item| item.get(VERSION_ATTRIBUTE)).and_then(|found| found.as_s().ok());
            let ours = found.is_some_and(|found| found == mark);
            return if ours { Ok(()) } else { Err(self.error("put", TableErrorKind::Conflict)) };
        }
        Err(self.call_error("put", &CallError::from_sdk(refusal)))
    }
}

#[async_trait]
impl Table for DynamoTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let get = self.client.get_item().table_name(&*self.table).set_key(Some(keys(key))).consistent_read(true);
        let answer = get.send().await.map_err(|error| self.call_error("get", &CallError::from_sdk(error)))?;
        let row = answer.item.map(|item| self.row("get", &key.partition, item)).transpose()?;
        match row {
            Some(row) if row.sort != key.sort => Err(self.unexpected("get", "another row than the one asked for")),
            row => Ok(row),
        }
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.check_size("put", key, &value)?;
        let mark = self.new_version();
        let put = self.client.put_item().table_name(&*self.table).set_item(Some(item(key, value, &mark)));
        let put = match when {
            RowPrecondition::Always => put,
            RowPrecondition::Absent => {
                return_old_item(put.condition_expression(format!("attribute_not_exists({VERSION_ATTRIBUTE})")))
            }
            RowPrecondition::VersionIs(version) => return_old_item(
                put.condition_expression(format!("{VERSION_ATTRIBUTE} = :mark"))
                    .expression_attribute_values(":mark", AttributeValue::S(version.0.into())),
            ),
        };
        self.write(put, &mark).await?;
        Ok(RowVersion(mark.into()))
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        self.write_many(rows).await
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let delete = self.client.delete_item().table_name(&*self.table).set_key(Some(keys(key)));
        let by_version = matches!(when, RowPrecondition::VersionIs(_));
        let attempts = AttemptCounter::default();
        let done = conditional(delete, when).customize().interceptor(attempts.clone()).send().await;
        let Err(refusal) = done else { return Ok(()) };
        if let Some(DeleteItemError::ConditionalCheckFailedException(refusal)) = refusal.as_service_error() {
            // The row is gone after more than one attempt: an earlier one took effect, and only its response was lost. Not
            // every server returns the present row, so it is read.
            let gone = refusal.item().is_none_or(HashMap::is_empty);
            let ours = by_version && gone && attempts.was_retried() && self.get(key).await?.is_none();
            return if ours { Ok(()) } else { Err(self.error("delete", TableErrorKind::Conflict)) };
        }
        Err(self.call_error("delete", &CallError::from_sdk(refusal)))
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let Some(stretch) = SortKeyRange::of(range) else { return Ok(RowPage { rows: Vec::new(), end: true }) };
        let limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
        let mut query = self
            .client
            .query()
            .table_name(&*self.table)
            .consistent_read(true)
            .limit(limit)
            .expression_attribute_values(":partition", AttributeValue::S(partition.to_owned()));
        let condition = format!("{PARTITION_KEY} = :partition");
        query = match stretch.condition() {
            None => query.key_condition_expression(condition),
            Some((more, name, value)) => query
                .key_condition_expression(format!("{condition} AND {more}"))
                .expression_attribute_values(name, AttributeValue::S(value.to_owned())),
        };
        if let (Some(_), Some(after)) = (stretch.prefix, stretch.after) {
            query = query.set_exclusive_start_key(Some(keys(&RowKey::new(partition, after))));
        }
        let answer = query.send().await.map_err(|error| self.call_error("query", &CallError::from_sdk(error)))?;
        let end = answer.last_evaluated_key.is_none_or(|key| key.is_empty());
        let items = answer.items.ok_or_else(|| self.unexpected("query", "the answer holds no list of rows"))?;
        if usize::try_from(answer.count) != Ok(items.len()) {
            let why = format!("the answer tells of {} rows, and {} came", answer.count, items.len());
            return Err(self.unexpected("query", why));
        }
        let rows = items.into_iter().map(|item| self.row("query", partition, item)).collect::<Result<Vec<Row>, _>>()?;
        let asked = |row: &Row| {
            row.sort.starts_with(&range.prefix) && range.after.as_ref().is_none_or(|after| row.sort > *after)
        };
        if !rows.iter().all(asked) || !rows.is_sorted_by(|one, next| one.sort < next.sort) {
            return Err(self.unexpected("query", "rows that were not asked for, or out of order"));
        }
        if rows.is_empty() && !end {
            // The query has no filter, so an empty page that is not the end would be requested for ever.
            return Err(self.error("query", TableErrorKind::Unexpected));
        }
        Ok(RowPage { rows, end })
    }
}

/// A range of sort keys, in the form that the service supports.
struct SortKeyRange<'a> {
    prefix: Option<&'a str>,
    after: Option<&'a str>,
}

impl<'a> SortKeyRange<'a> {
    /// `None` for an empty range. An empty text sorts before every key, and the service does not accept it.
    fn of(range: &'a KeyRange) -> Option<Self> {
        let prefix = Some(range.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let after = range.after.as_deref().filter(|after| !after.is_empty());
        let (Some(begin), Some(from)) = (prefix, after) else { return Some(Self { prefix, after }) };
        if from < begin {
            return Some(Self { prefix, after: None });
        }
        // `from` sorts after the prefix. If it does not begin with the prefix, it sorts after all its keys.
        from.starts_with(begin).then_some(Self { prefix, after })
    }

    /// A condition on the sort key, and the name and value in it.
    fn condition(&self) -> Option<(String, &'static str, &'a str)> {
        match (self.prefix, self.after) {
            (None, None) => None,
            (Some(prefix), _) => Some((format!("begins_with({SORT_KEY}, :prefix)"), ":prefix", prefix)),
            (None, Some(after)) => Some((format!("{SORT_KEY} > :after"), ":after", after)),
        }
    }
}

fn keys(key: &RowKey) -> DynamoItem {
    let text = |text: &String| AttributeValue::S(text.clone());
    HashMap::from([(PARTITION_KEY.to_owned(), text(&key.partition)), (SORT_KEY.to_owned(), text(&key.sort))])
}

fn item(key: &RowKey, value: Bytes, mark: &str) -> DynamoItem {
    let mut item = keys(key);
    item.insert(VALUE_ATTRIBUTE.to_owned(), AttributeValue::B(Blob::new(value)));
    item.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::S(mark.to_owned()));
    item
}

fn return_old_item(put: PutItemFluentBuilder) -> PutItemFluentBuilder {
    put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

fn conditional(delete: DeleteItemFluentBuilder, when: RowPrecondition) -> DeleteItemFluentBuilder {
    match when {
        RowPrecondition::Always => delete,
        RowPrecondition::Absent => delete.condition_expression(format!("attribute_not_exists({VERSION_ATTRIBUTE})")),
        RowPrecondition::VersionIs(version) => delete
            .condition_expression(format!("{VERSION_ATTRIBUTE} = :mark"))
            .expression_attribute_values(":mark", AttributeValue::S(version.0.into()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld),
    }
}

/// What a failed call on a table means.
fn error_kind(failure: &CallError) -> TableErrorKind {
    match failure.cause {
        CallErrorCause::Throttled { .. } => TableErrorKind::Throttled,
        CallErrorCause::Credentials
        | CallErrorCause::WrongAddress(_)
        | CallErrorCause::LoginRequired(_)
        | CallErrorCause::Unreachable
        | CallErrorCause::ServerError
        | CallErrorCause::StorageFull => TableErrorKind::Unavailable,
        CallErrorCause::Denied => TableErrorKind::Denied,
        // A missing table may still be in creation; the message names it.
        CallErrorCause::OtherResponse
            if failure.has_code(&["ResourceNotFoundException", "TransactionConflictException"]) =>
        {
            TableErrorKind::Unavailable
        }
        CallErrorCause::OtherResponse if failure.has_code(&["ItemCollectionSizeLimitExceededException"]) => {
            TableErrorKind::TooLarge
        }
        CallErrorCause::OtherResponse
        | CallErrorCause::UnreadableHeader
        | CallErrorCause::Unsupported
        | CallErrorCause::HtmlPage
        | CallErrorCause::Malformed => TableErrorKind::Unexpected,
    }
}
