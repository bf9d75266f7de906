//! The receiving processes of this host, so that the messages in flight of a killed one need not wait for their
//! timeout.
//!
//! Each receiving process has a row in the table `receivers`: its name, and as the row's version a unique number. The
//! handle of each of its receives contains that number. A receive that finds nothing checks, now and then, whether
//! another receiver is dead. It makes the messages of a dead one visible, and deletes its row.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mill_model::{Monotonic, QueueName, Timestamp};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::sync::OnceCell;

use super::rows::{self, WriteTransaction};
use crate::database::writer::Durability;
use crate::database::{Database, DatabaseError};
use crate::process;

const TABLE: &str = "receivers";

/// How many bits of a handle count the receives of one process. They need only distinguish the receives of one message.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: i64 = (1 << COUNT_BITS) - 1;

/// Numbers of receivers wrap around here. The earlier receiver of that number is long deleted.
const NUMBER_MASK: i64 = (1 << (63 - COUNT_BITS)) - 1;

/// How often an idle process checks the other receivers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A message received this often waits for its timeout all the same. It may be what kills the processes, and must
/// neither kill all of them in a row nor become a dead letter within seconds.
const RECEIVES_MAX: u32 = 5;

/// Rows of this age are deleted: their processes are of an earlier boot or another machine, so nobody can check them.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(30 * 24);

/// This process as a receiver, and when it last checked the others.
#[derive(Debug, Default)]
pub(crate) struct ReceiverRegistry {
    number: OnceCell<i64>,
    receives: AtomicU32,
    last_check: Mutex<Option<Monotonic>>,
}

/// A process that receives messages, dead or alive.
#[derive(Debug, Clone)]
struct Receiver {
    name: String,
    number: i64,
}

/// A handle for one receive of this process.
pub(super) async fn handle(database: &Database) -> Result<i64, DatabaseError> {
    let ours = database.receivers();
    let number = *ours.number.get_or_try_init(|| register(database, process::this_process())).await?;
    Ok(handle_of(number, ours.receives.fetch_add(1, Ordering::Relaxed)))
}

/// Positive: 0 is the handle of a message that is not in flight.
fn handle_of(number: i64, count: u32) -> i64 {
    (((number & NUMBER_MASK) << COUNT_BITS) | (i64::from(count) & COUNT_MASK)).max(1)
}

/// The handles of a receiver, from the first to the last.
fn handles_of(number: i64) -> (i64, i64) {
    let first = (number & NUMBER_MASK) << COUNT_BITS;
    (first, first | COUNT_MASK)
}

/// Gives a process its number.
async fn register(database: &Database, process: String) -> Result<i64, DatabaseError> {
    // A process that opens the database twice is two receivers.
    let name = format!("{process} {:x}", database.chance().next_u64());
    let now = rows::millis(database.clock().now());
    let forgotten = now.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX));
    let work = move |transaction: &mut WriteTransaction<'_>| {
        transaction
            .statement("DELETE FROM entry WHERE book = ?1 AND CAST(CAST(value AS TEXT) AS INTEGER) < ?2")?
            .execute(params![TABLE, forgotten])?;
        let number = transaction.next_number()?;
        let mut statement = transaction
            .statement("INSERT INTO entry (book, partition, sort, version, value) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        let (name, value) = (name.as_bytes(), now.to_string().into_bytes());
        statement.execute(params![TABLE, &b""[..], name, number, value])?;
        Ok(number)
    };
    database.write(Durability::Process, 0, work).await
}

/// Makes the messages in flight of dead receivers visible. Returns whether there were any.
pub(super) async fn release_from_dead_receivers(database: &Database) -> Result<bool, DatabaseError> {
    let present = database.clock().monotonic();
    {
        let mut last_check = database.receivers().last_check.lock();
        if last_check.is_some_and(|last_check| present.since(last_check) < LOOK_EVERY) {
            return Ok(false);
        }
        *last_check = Some(present);
    }
    let dead_receivers = database.read(dead_receivers).await?;
    if dead_receivers.is_empty() {
        return Ok(false);
    }
    let now = database.clock().now();
    let freed = database
        .write(Durability::Process, 0, move |transaction| release_messages(transaction, &dead_receivers, now))
        .await?;
    if freed > 0 {
        tracing::info!(tasks = freed, "a process was killed; what it had in hand is ready again");
    }
    Ok(freed > 0)
}

fn dead_receivers(connection: &Connection) -> rusqlite::Result<Vec<Receiver>> {
    let mut statement = connection.prepare_cached("SELECT CAST(sort AS TEXT), version FROM entry WHERE book = ?1")?;
    let all = statement.query_map([TABLE], |row| Ok(Receiver { name: row.get(0)?, number: row.get(1)? }))?;
    let all = all.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_dead = |receiver: &Receiver| receiver.name.split(' ').next().is_some_and(process::is_dead);
    Ok(all.into_iter().filter(is_dead).collect())
}

fn release_messages(
    transaction: &mut WriteTransaction<'_>,
    dead_receivers: &[Receiver],
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let mut freed = 0;
    for Receiver { name, number } in dead_receivers {
        let (first, last) = handles_of(*number);
        for queue in QueueName::ALL {
            // The index limits this to rows in flight.
            let mut statement = transaction.statement(
                "UPDATE message SET visible_at = ?2, in_flight = 0, handle = 0
                 WHERE queue = ?1 AND visible_at > ?2 AND in_flight = 1 AND handle BETWEEN ?3 AND ?4 AND receives < ?5",
            )?;
            let here = statement.execute(params![rows::code(queue), rows::millis(now), first, last, RECEIVES_MAX])?;
            if here > 0 {
                transaction.note_arrival(rows::index(queue));
                freed += here;
            }
        }
        let mut statement =
            transaction.statement("DELETE FROM entry WHERE book = ?1 AND partition = ?2 AND sort = ?3")?;
        statement.execute(params![TABLE, &b""[..], name.as_bytes()])?;
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use super::*;
    use crate::{OsClock, OsRng};

    struct Killed {
        database: Arc<Database>,
        _directory: tempfile::TempDir,
        child: Child,
    }

    /// A message in flight at a living process.
    async fn held(receives: u32) -> Killed {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mill.db");
        let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let number = register(&database, process::name_of(child.id())).await.unwrap();
        let now = database.clock().now();
        let work = move |transaction: &mut WriteTransaction<'_>| {
            let until = rows::millis(now.plus(Duration::from_hours(1)));
            let sql = "INSERT INTO message (id, queue, visible_at, in_flight, receives, handle, sent_at, body)
                       VALUES (?1, ?2, ?3, 1, ?4, ?5, 0, x'')";
            let (id, queue) = (transaction.next_number()?, QueueName::DuplicationLow);
            transaction.add_to_count(rows::index(queue), 1);
            transaction.statement(sql)?.execute(params![id, rows::code(queue), until, receives, handle_of(number, 7)])
        };
        database.write(Durability::Process, 0, work).await.unwrap();
        Killed { database, _directory: directory, child }
    }

    impl Killed {
        async fn frees(&self) -> bool {
            *self.database.receivers().last_check.lock() = None;
            release_from_dead_receivers(&self.database).await.unwrap()
        }

        fn kill(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_killed_process_held_is_ready_again_and_nothing_of_one_that_lives() {
        let mut one = held(1).await;
        assert!(!one.frees().await, "its holder lives");
        one.kill();
        assert!(one.frees().await);
        assert!(!one.frees().await, "it is in nobody's hands");
        assert!(one.database.check().await.unwrap().is_empty(), "the database is whole");
    }

    #[tokio::test]
    async fn what_was_in_the_hands_of_many_that_died_is_not_hastened() {
        let mut one = held(RECEIVES_MAX).await;
        one.kill();
        assert!(!one.frees().await);
    }

    #[test]
    fn no_handle_is_another_receivers_and_none_is_nobodys() {
        for number in [1, 2, 1 << 38, NUMBER_MASK] {
            let (first, last) = handles_of(number);
            assert!(handle_of(number, 0) == first && handle_of(number, u32::MAX) == last, "{number}");
            assert!(handles_of(number - 1).1 < first && first > 0, "{number}");
        }
        assert_eq!(handle_of(0, 0), 1);
    }
}
