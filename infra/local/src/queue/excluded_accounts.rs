//! Receives that exclude accounts. They cost two index seeks for each account, however many messages an excluded
//! account has.
//!
//! The index by account contains only messages that are not in flight. So a message costs one entry, which no extension
//! or acknowledgement changes. A receive first [puts into it](expire_in_flight) the messages in flight whose timeout is
//! over, which are no more than workmen can hold. The statements name the index: SQLite's planner would choose the
//! index by time, which contains the messages of all accounts.

use std::collections::BTreeSet;

use mill_model::{AccountId, QueueName, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{ReceiveQuery, ReceivedMessage, WriteTransaction, code, millis};

/// The accounts with messages in the queue that are not in flight, without the excluded ones.
fn other_accounts(
    connection: &Connection,
    queue: QueueName,
    excluded: &BTreeSet<AccountId>,
) -> rusqlite::Result<Vec<String>> {
    let mut first = connection.prepare_cached(
        "SELECT account FROM message INDEXED BY message_by_account
         WHERE queue = ?1 AND in_flight = 0 ORDER BY account LIMIT 1",
    )?;
    let mut next = connection.prepare_cached(
        "SELECT account FROM message INDEXED BY message_by_account
         WHERE queue = ?1 AND in_flight = 0 AND account > ?2 ORDER BY account LIMIT 1",
    )?;
    let mut other_accounts = Vec::new();
    let mut found: Option<String> = first.query_row([code(queue)], |row| row.get(0)).optional()?;
    while let Some(account) = found {
        found = next.query_row(params![code(queue), account], |row| row.get(0)).optional()?;
        if !contains_account(excluded, &account) {
            other_accounts.push(account);
        }
    }
    Ok(other_accounts)
}

/// Messages without an account, sent before accounts were stored, are never excluded.
fn contains_account(accounts: &BTreeSet<AccountId>, account: &str) -> bool {
    AccountId::new(account).is_ok_and(|account| accounts.contains(&account))
}

/// Since when the account's longest visible message has been visible, if it has one.
fn oldest_visible(
    connection: &Connection,
    queue: QueueName,
    account: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT visible_at FROM message INDEXED BY message_by_account
         WHERE queue = ?1 AND in_flight = 0 AND account = ?2 AND visible_at <= ?3 ORDER BY visible_at LIMIT 1",
    )?;
    statement.query_row(params![code(queue), account, millis(now)], |row| row.get(0)).optional()
}

/// Marks messages whose timeout is over as not in flight. Their receipts count until the next receive.
pub(super) fn expire_in_flight(transaction: &WriteTransaction<'_>, request: &ReceiveQuery) -> rusqlite::Result<()> {
    let mut statement = transaction
        .statement("UPDATE message SET in_flight = 0 WHERE queue = ?1 AND in_flight = 1 AND visible_at <= ?2")?;
    statement.execute(params![code(request.queue), millis(request.now)]).map(drop)
}

/// Visible messages as they will be once received, those of the account first whose message has been visible longest.
pub(super) fn visible(
    transaction: &WriteTransaction<'_>,
    request: &ReceiveQuery,
    wanted: u32,
) -> rusqlite::Result<Vec<ReceivedMessage>> {
    let connection = transaction.connection();
    let mut fronts = Vec::new();
    for account in other_accounts(connection, request.queue, &request.excluded)? {
        if let Some(since) = oldest_visible(connection, request.queue, &account, request.now)? {
            fronts.push((since, account));
        }
    }
    fronts.sort_unstable();
    let mut statement = transaction.statement(
        "SELECT id, receives, sent_at, body FROM message INDEXED BY message_by_account
         WHERE queue = ?1 AND in_flight = 0 AND account = ?2 AND visible_at <= ?3 ORDER BY visible_at LIMIT ?4",
    )?;
    let mut received: Vec<ReceivedMessage> = Vec::new();
    for (_, account) in fronts {
        let left = wanted - received.len() as u32;
        if left == 0 {
            break;
        }
        let of = params![code(request.queue), account, millis(request.now), left];
        for one in statement.query_map(of, |row| ReceivedMessage::of(row, request.handle))? {
            received.push(one?);
        }
    }
    Ok(received)
}

/// Whether a receive that excludes these accounts would find a message.
pub(super) fn any_visible(
    connection: &Connection,
    queue: QueueName,
    excluded: &BTreeSet<AccountId>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    for account in other_accounts(connection, queue, excluded)? {
        if oldest_visible(connection, queue, &account, now)?.is_some() {
            return Ok(true);
        }
    }
    let mut statement = connection
        .prepare_cached("SELECT account FROM message WHERE queue = ?1 AND in_flight = 1 AND visible_at <= ?2")?;
    let mut rows = statement.query(params![code(queue), millis(now)])?;
    while let Some(row) = rows.next()? {
        if !contains_account(excluded, row.get_ref(0)?.as_str()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use mill_ports::{ExcludedAccounts, OutgoingMessage, TaskQueue as _};

    use super::*;
    use crate::queue::{SqliteQueue, rows};
    use crate::{Database, OsClock, OsRng};

    fn account(name: &str) -> AccountId {
        AccountId::new(name).unwrap()
    }

    async fn send(queue: &SqliteQueue, of: &str, bodies: usize) {
        let one = OutgoingMessage { group: account(of), body: Bytes::from_static(b"x"), delay: Duration::ZERO };
        for batch in vec![one; bodies].chunks(100) {
            queue.send(batch).await.unwrap().into_result().unwrap();
        }
    }

    /// The steps of SQLite's machine to find the other account's messages, to receive them, and to look again, beside
    /// so many messages of an excluded account; then to receive without exclusion, and to count the other account's
    /// messages.
    async fn steps_beside(backlog: usize) -> Vec<u64> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mill.db");
        let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
        let queue = SqliteQueue::new(Arc::clone(&database), QueueName::DuplicationLow);
        send(&queue, "a", backlog).await;
        send(&queue, "b", 3).await;
        let (queue, now) = (QueueName::DuplicationLow, database.clock().now());
        let excluded = BTreeSet::from([account("a")]);
        let until = now.plus(Duration::from_mins(1));
        let request = ReceiveQuery { queue, now, until, handle: 7, max: 10, excluded: excluded.clone() };

        let mut connection = Connection::open(&path).unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&steps);
        let count = move || {
            counting.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(1, Some(count)).unwrap();
        let look = || rows::any_visible(&connection, queue, &excluded, now).unwrap();
        assert!(look());
        let looked = steps.swap(0, Ordering::Relaxed);
        assert_eq!(rows::receive(&mut WriteTransaction::new(&connection), &request).unwrap().len(), 3);
        let received = steps.swap(0, Ordering::Relaxed);
        assert!(!look());
        let looked_again = steps.swap(0, Ordering::Relaxed);
        let request = ReceiveQuery { handle: 8, max: 5, excluded: BTreeSet::new(), ..request };
        assert_eq!(rows::receive(&mut WriteTransaction::new(&connection), &request).unwrap().len(), 5);
        let taken_of_all = steps.swap(0, Ordering::Relaxed);
        assert_eq!(rows::depth_of(&connection, queue, &account("b")).unwrap(), 3);
        vec![looked, received, looked_again, taken_of_all, steps.swap(0, Ordering::Relaxed)]
    }

    #[tokio::test]
    async fn an_account_costs_others_the_same_with_ten_bodies_and_with_thousands() {
        let (few, many) = (steps_beside(10).await, steps_beside(5_000).await);
        assert_eq!(few, many);
    }

    #[tokio::test]
    async fn what_many_hands_let_go_at_once_is_received_past_an_account() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mill.db");
        let database = Database::open(&path, Arc::new(OsClock), Arc::new(OsRng)).unwrap();
        let queue = SqliteQueue::new(database, QueueName::DuplicationLow);
        send(&queue, "a", 30).await;
        send(&queue, "b", 30).await;
        let max = NonZeroU32::new(100).unwrap();
        assert_eq!(queue.receive(max, Duration::ZERO, Duration::ZERO).await.unwrap().len(), 60);
        let excluded = ExcludedAccounts { accounts: [account("a")].into(), ..ExcludedAccounts::default() };
        let got = queue.receive_excluding(&excluded, max, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        assert_eq!(got.len(), 30);
        assert!(got.iter().all(|one| one.receive_count == 2));
        assert_eq!(queue.depth_of(&account("a")).await.unwrap(), Some(30));
    }
}
