//! Whether the database is as Mill left it.
//!
//! SQLite detects malformed pages when it reads them. It does not detect missing or changed rows in a well-formed page:
//! a page that the disk never wrote, a flipped bit in a key. So triggers keep the number and a digest of the rows of
//! all but the two large tables, and each opening compares them with the rows.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

/// The digest covers only the length of a larger value, so that an opening does not read long lists.
const SUMMED_BYTES_MAX: usize = 1024;

/// Tables with one row for each item. They hold what can be found out again, and are too large to be read at each
/// opening.
const LARGE: [&str; 2] = ["folder-properties", "seals"];

/// `counted`: the number of rows in all tables but the [`LARGE`] ones, and the exclusive or of their hashes. The
/// triggers update it, whichever process writes. An older Mill lacks their function, and cannot write these tables.
pub(super) const TABLES: &str = "
    CREATE TABLE counted (entries INTEGER NOT NULL, digest INTEGER NOT NULL) STRICT;
    CREATE TRIGGER entry_added AFTER INSERT ON entry WHEN NEW.book NOT IN ('folder-properties', 'seals') BEGIN
        UPDATE counted SET entries = entries + 1,
            digest = mill_toggled(digest, NEW.book, NEW.partition, NEW.sort, NEW.version, NEW.value);
    END;
    CREATE TRIGGER entry_removed AFTER DELETE ON entry WHEN OLD.book NOT IN ('folder-properties', 'seals') BEGIN
        UPDATE counted SET entries = entries - 1,
            digest = mill_toggled(digest, OLD.book, OLD.partition, OLD.sort, OLD.version, OLD.value);
    END;
    CREATE TRIGGER entry_changed AFTER UPDATE ON entry WHEN OLD.book NOT IN ('folder-properties', 'seals') BEGIN
        UPDATE counted SET digest = mill_toggled(
            mill_toggled(digest, OLD.book, OLD.partition, OLD.sort, OLD.version, OLD.value),
            NEW.book, NEW.partition, NEW.sort, NEW.version, NEW.value);
    END;
";

/// The names of the tables, to check that all exist.
const NAMES: [&str; 6] = ["counted", "entry", "installation", "message", "number", "queue"];

/// Registers the triggers' function with a connection.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("mill_toggled", 6, flags, |call| {
        let digest = call.get::<i64>(0)?;
        Ok(digest ^ hash([1, 2, 3, 4, 5].map(|place| call.get_raw(place))))
    })
}

/// Writes the count and digest of the existing rows, for a database that has none yet.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    let (entries, digest) = sum(connection)?;
    connection.execute("INSERT INTO counted (entries, digest) VALUES (?1, ?2)", [entries, digest]).map(drop)
}

/// The first finding in the parts that each opening checks: the list of tables, the count and digest of the rows.
pub(super) fn first_finding(connection: &Connection) -> rusqlite::Result<Option<String>> {
    // One snapshot: others may write meanwhile.
    let connection = connection.unchecked_transaction()?;
    let mut statement = connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    for name in NAMES {
        if !statement.exists([name])? {
            return Ok(Some(format!("the table `{name}` is missing")));
        }
    }
    let kept: (i64, i64) =
        connection.query_row("SELECT entries, digest FROM counted", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = sum(&connection)?;
    Ok((kept != found).then(|| match found.0 - kept.0 {
        0 => "some of its rows are not as they were written".to_owned(),
        missing @ ..0 => format!("{} of its rows are missing", -missing),
        more => format!("it has {more} rows that were never written"),
    }))
}

/// The number and the digest of all rows but those of the large tables, which are skipped, not read.
fn sum(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    // SQLite knows a value's length without reading it.
    let rows = format!(
        "SELECT book, partition, sort, version,
             CASE WHEN length(value) <= {SUMMED_BYTES_MAX} THEN value ELSE length(value) END FROM entry"
    );
    let mut statement = connection.prepare(&format!(
        "{rows} WHERE book < ?1 UNION ALL {rows} WHERE book > ?1 AND book < ?2 UNION ALL {rows} WHERE book > ?2"
    ))?;
    let mut rows = statement.query(params![LARGE[0], LARGE[1]])?;
    let (mut entries, mut digest) = (0, 0);
    while let Some(row) = rows.next()? {
        entries += 1;
        digest ^= hash([row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?, row.get_ref(3)?, row.get_ref(4)?]);
    }
    Ok((entries, digest))
}

/// FNV-1a of 64 bits over the values, each preceded by its length. Databases store it, so it must never change.
///
/// Source: Fowler, Noll, Vo, RFC 9923.
fn hash(values: [ValueRef<'_>; 5]) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for value in values {
        match value {
            ValueRef::Blob(bytes) if bytes.len() > SUMMED_BYTES_MAX => add(&(bytes.len() as u64).to_be_bytes()),
            ValueRef::Integer(number) => add(&number.to_be_bytes()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => add(bytes),
            // These tables are strict: such values never occur.
            ValueRef::Null | ValueRef::Real(_) => add(&[]),
        }
    }
    hash.cast_signed()
}

/// The findings of `quick_check` or `integrity_check`, at most ten.
pub(super) fn findings(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}(10)"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// The queues whose stored count of messages differs from the number of their messages.
pub(super) fn miscounts(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT id, messages, (SELECT count(*) FROM message WHERE message.queue = queue.id) AS counted
         FROM queue WHERE messages <> counted",
    )?;
    let lines = statement.query_map([], |row| {
        let (queue, kept, counted): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("queue {queue} is said to hold {kept} bodies and holds {counted}"))
    })?;
    lines.collect()
}
