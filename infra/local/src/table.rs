//! The tables of Mill's state: rows ordered by the bytes of their keys.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mill_ports::{KeyRange, Row, RowKey, RowPage, RowPrecondition, RowVersion, Table, TableError, TableErrorKind};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::database::writer::{Durability, WriteTransaction};
use crate::database::{Database, DatabaseError, error};

/// Most bytes in one value.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Most rows of one `put_many` that are written in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// A page of a query ends after so many rows, or so many bytes of values.
const PAGE_ROWS_MAX: usize = 10_000;
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One table in a [`Database`].
#[derive(Debug, Clone)]
pub struct SqliteTable {
    database: Arc<Database>,
    name: Arc<str>,
}

impl SqliteTable {
    /// The table `name` of the database. All handles made with one name are the same table.
    pub fn new(database: Arc<Database>, name: &str) -> Self {
        Self { database, name: name.into() }
    }

    fn error(&self, op: &'static str, kind: TableErrorKind) -> TableError {
        TableError { kind, op, table: self.name.to_string(), source: None }
    }

    fn failed(&self, op: &'static str) -> impl Fn(DatabaseError) -> TableError {
        move |failure| TableError { source: Some(Box::new(failure.clone())), ..self.error(op, failure.table_kind()) }
    }

    fn check_value(&self, op: &'static str, value: &Bytes) -> Result<(), TableError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(self.error(op, TableErrorKind::TooLarge));
        }
        Ok(())
    }
}

#[async_trait]
impl Table for SqliteTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let (name, key) = (Arc::clone(&self.name), key.clone());
        self.database.read(move |connection| read(connection, &name, &key)).await.map_err(self.failed("get"))
    }

    async fn put(&self, key: &RowKey, value: Bytes, when: RowPrecondition) -> Result<RowVersion, TableError> {
        self.check_value("put", &value)?;
        let (name, key, bytes) = (Arc::clone(&self.name), key.clone(), value.len());
        let work = move |transaction: &mut WriteTransaction<'_>| write(transaction, &name, &key, &value, &when);
        let written = self.database.write(Durability::Power, bytes, work).await.map_err(self.failed("put"))?;
        written.map(version).ok_or_else(|| self.error("put", TableErrorKind::Conflict))
    }

    async fn put_many(&self, rows: &[(RowKey, Bytes)]) -> Result<(), TableError> {
        rows.iter().try_for_each(|(_, value)| self.check_value("put_many", value))?;
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let (name, rows) = (Arc::clone(&self.name), rows.to_vec());
            let bytes = rows.iter().map(|(_, value)| value.len()).sum();
            let work = move |transaction: &mut WriteTransaction<'_>| {
                rows.iter().try_for_each(|(key, value)| {
                    write(transaction, &name, key, value, &RowPrecondition::Always).map(|_| ())
                })
            };
            self.database.write(Durability::Power, bytes, work).await.map_err(self.failed("put_many"))?;
        }
        Ok(())
    }

    async fn delete(&self, key: &RowKey, when: RowPrecondition) -> Result<(), TableError> {
        let (name, key) = (Arc::clone(&self.name), key.clone());
        let work = move |transaction: &mut WriteTransaction<'_>| remove(transaction, &name, &key, &when);
        let done = self.database.write(Durability::Power, 0, work).await.map_err(self.failed("delete"))?;
        if done { Ok(()) } else { Err(self.error("delete", TableErrorKind::Conflict)) }
    }

    async fn query(&self, partition: &str, range: &KeyRange, limit: usize) -> Result<RowPage, TableError> {
        let bounds = KeyBounds::of(range);
        let (name, partition, limit) = (Arc::clone(&self.name), partition.to_owned(), limit.clamp(1, PAGE_ROWS_MAX));
        let work = move |connection: &Connection| page(connection, &name, &partition, &bounds, limit);
        self.database.read(work).await.map_err(self.failed("query"))
    }
}

fn version(number: i64) -> RowVersion {
    RowVersion(number.to_string().into())
}

/// The number in a version; `None` for a version that no row of this back end has.
fn number(version: &RowVersion) -> Option<i64> {
    version.0.parse().ok()
}

fn read(connection: &Connection, name: &str, key: &RowKey) -> rusqlite::Result<Option<Row>> {
    let mut statement = connection
        .prepare_cached("SELECT value, version FROM entry WHERE book = ?1 AND partition = ?2 AND sort = ?3")?;
    let found = statement.query_row(params![name, key.partition.as_bytes(), key.sort.as_bytes()], |row| {
        Ok((Bytes::from(row.get::<_, Vec<u8>>(0)?), row.get(1)?))
    });
    let row = |(value, number)| Row { sort: key.sort.clone(), value, version: version(number) };
    Ok(found.optional()?.map(row))
}

/// Writes a row and returns its version's number; `None` when the precondition does not hold.
fn write(
    transaction: &mut WriteTransaction<'_>,
    name: &str,
    key: &RowKey,
    value: &Bytes,
    when: &RowPrecondition,
) -> rusqlite::Result<Option<i64>> {
    let new_version = transaction.next_number()?;
    let values = params![name, key.partition.as_bytes(), key.sort.as_bytes(), new_version, &value[..]];
    let changed = match when {
        RowPrecondition::Always => transaction
            .statement(
                "INSERT INTO entry (book, partition, sort, version, value) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET version = excluded.version, value = excluded.value",
            )?
            .execute(values)?,
        RowPrecondition::Absent => transaction
            .statement(
                "INSERT INTO entry (book, partition, sort, version, value) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(values)?,
        RowPrecondition::VersionIs(expected) => {
            let Some(expected) = number(expected) else { return Ok(None) };
            transaction
                .statement(
                    "UPDATE entry SET version = ?4, value = ?5
                     WHERE book = ?1 AND partition = ?2 AND sort = ?3 AND version = ?6",
                )?
                .execute(params![
                    name,
                    key.partition.as_bytes(),
                    key.sort.as_bytes(),
                    new_version,
                    &value[..],
                    expected
                ])?
        }
    };
    Ok((changed > 0).then_some(new_version))
}

/// Deletes a row. Returns `false` when the precondition does not hold.
fn remove(
    transaction: &mut WriteTransaction<'_>,
    name: &str,
    key: &RowKey,
    when: &RowPrecondition,
) -> rusqlite::Result<bool> {
    let (partition, sort) = (key.partition.as_bytes(), key.sort.as_bytes());
    match when {
        RowPrecondition::Always => {
            let mut statement =
                transaction.statement("DELETE FROM entry WHERE book = ?1 AND partition = ?2 AND sort = ?3")?;
            statement.execute(params![name, partition, sort])?;
            Ok(true)
        }
        RowPrecondition::Absent => {
            let mut statement =
                transaction.statement("SELECT 1 FROM entry WHERE book = ?1 AND partition = ?2 AND sort = ?3")?;
            Ok(!statement.exists(params![name, partition, sort])?)
        }
        RowPrecondition::VersionIs(expected) => {
            let Some(expected) = number(expected) else { return Ok(false) };
            let mut statement = transaction
                .statement("DELETE FROM entry WHERE book = ?1 AND partition = ?2 AND sort = ?3 AND version = ?4")?;
            Ok(statement.execute(params![name, partition, sort, expected])? > 0)
        }
    }
}

/// A key range as bytes: from `from` up to, but without, `before`.
struct KeyBounds {
    from: Vec<u8>,
    before: Vec<u8>,
}

impl KeyBounds {
    fn of(range: &KeyRange) -> Self {
        let mut before = range.prefix.clone().into_bytes();
        match before.last_mut() {
            // No byte of UTF-8 is 255, so the last byte can always be increased.
            Some(last) => *last += 1,
            None => before.push(u8::MAX),
        }
        // No key lies between a key and the same key with a zero byte appended.
        let after = range.after.as_ref().map(|after| [after.as_bytes(), &[0]].concat());
        let prefix = range.prefix.clone().into_bytes();
        Self { from: after.unwrap_or_default().max(prefix), before }
    }
}

fn page(
    connection: &Connection,
    name: &str,
    partition: &str,
    bounds: &KeyBounds,
    limit: usize,
) -> rusqlite::Result<RowPage> {
    let mut statement = connection.prepare_cached(
        "SELECT sort, value, version FROM entry
         WHERE book = ?1 AND partition = ?2 AND sort >= ?3 AND sort < ?4 ORDER BY sort",
    )?;
    let mut rows = statement.query(params![name, partition.as_bytes(), bounds.from, bounds.before])?;
    let mut page = RowPage::default();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if page.rows.len() == limit || bytes > PAGE_BYTES_MAX {
            return Ok(page);
        }
        let sort = String::from_utf8(row.get(0)?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
        })?;
        // A damaged page can still be readable, and a merge of two listings would take a misplaced row for absent.
        if page.rows.last().is_some_and(|last| last.sort >= sort) || sort.as_bytes() < &bounds.from[..] {
            return Err(error::out_of_order());
        }
        let value = Bytes::from(row.get::<_, Vec<u8>>(1)?);
        bytes += value.len() + sort.len();
        page.rows.push(Row { sort, value, version: version(row.get(2)?) });
    }
    page.end = true;
    Ok(page)
}
