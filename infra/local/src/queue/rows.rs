//! The statements of the queues.

use std::collections::BTreeSet;

use bytes::Bytes;
use mill_model::{AccountId, QueueName, Timestamp};
use mill_ports::{QueueDepth, Receipt};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub(super) use crate::database::writer::WriteTransaction;

use super::{HIDDEN_MAX, RECEIVES_MAX, excluded_accounts};

/// A queue's number in the file. It must never change.
pub(super) const fn code(queue: QueueName) -> i64 {
    match queue {
        QueueName::Audit => 1,
        QueueName::DuplicationHigh => 2,
        QueueName::DuplicationLow => 3,
        QueueName::BitIntegrity => 4,
        QueueName::BitError => 5,
        QueueName::BitReport => 6,
        QueueName::DeadLetter => 7,
    }
}

/// A queue's index in an array with one element for each of the seven.
pub(super) const fn index(queue: QueueName) -> usize {
    code(queue) as usize - 1
}

/// A time as the file stores it.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// No message is hidden until later than this, unless the clock has stepped back.
fn latest_plausible_deadline(now: Timestamp) -> i64 {
    millis(now.plus(HIDDEN_MAX))
}

/// A delivery as its receipt identifies it: the row, and the receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryKey {
    pub(super) id: i64,
    pub(super) handle: i64,
}

impl DeliveryKey {
    /// `None` for a text that is no receipt of this back end.
    pub(super) fn of(receipt: &Receipt) -> Option<Self> {
        let (id, handle) = receipt.0.split_once('.')?;
        let key = Self { id: i64::from_str_radix(id, 16).ok()?, handle: i64::from_str_radix(handle, 16).ok()? };
        (key.id > 0 && key.handle > 0).then_some(key)
    }

    pub(super) fn receipt(self) -> Receipt {
        Receipt(format!("{:x}.{:x}", self.id, self.handle).into())
    }
}

/// A message to be added.
pub(super) struct NewMessage {
    pub(super) visible_at: Timestamp,
    pub(super) account: AccountId,
    pub(super) body: Bytes,
}

/// Adds messages.
pub(super) fn add(
    transaction: &mut WriteTransaction<'_>,
    queue: QueueName,
    now: Timestamp,
    messages: &[NewMessage],
) -> rusqlite::Result<()> {
    let mut statement = transaction.statement(
        "INSERT INTO message (id, queue, visible_at, sent_at, body, account) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for message in messages {
        let id = transaction.next_number()?;
        let (visible_at, account) = (millis(message.visible_at), message.account.as_str());
        statement.execute(params![id, code(queue), visible_at, millis(now), &message.body[..], account])?;
        transaction.add_to_count(index(queue), 1);
        if message.visible_at <= now {
            transaction.note_arrival(index(queue));
        }
    }
    Ok(())
}

/// A receive: how many messages, which accounts it excludes, and how it marks the deliveries.
#[derive(Debug, Clone)]
pub(super) struct ReceiveQuery {
    pub(super) queue: QueueName,
    pub(super) now: Timestamp,
    pub(super) until: Timestamp,
    pub(super) handle: i64,
    pub(super) max: u32,
    pub(super) excluded: BTreeSet<AccountId>,
}

/// A received message.
pub(super) struct ReceivedMessage {
    pub(super) key: DeliveryKey,
    pub(super) body: Bytes,
    pub(super) receives: u32,
    pub(super) sent_at: Timestamp,
}

impl ReceivedMessage {
    /// Reads a row of id, count of receives, time of the send, and body.
    pub(super) fn of(row: &Row<'_>, handle: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            key: DeliveryKey { id: row.get(0)?, handle },
            receives: row.get::<_, u32>(1)?.saturating_add(1),
            sent_at: timestamp(row.get(2)?),
            body: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        })
    }
}

/// Receives visible messages, the longest visible first. Moves those received too often to the dead letters instead.
pub(super) fn receive(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveQuery,
) -> rusqlite::Result<Vec<ReceivedMessage>> {
    let mut received = Vec::new();
    let passes = !request.excluded.is_empty();
    if passes {
        excluded_accounts::expire_in_flight(transaction, request)?;
    }
    loop {
        let wanted = request.max - received.len() as u32;
        let seen = if passes {
            excluded_accounts::visible(transaction, request, wanted)
        } else {
            visible(transaction, request, wanted)
        }?;
        let exhausted = seen.len() < wanted as usize;
        for seen in seen {
            if seen.receives > RECEIVES_MAX && request.queue != QueueName::DeadLetter {
                move_to_dead_letters(transaction, request, &seen)?;
            } else {
                hide(transaction, request, &seen)?;
                received.push(seen);
            }
        }
        if received.len() == request.max as usize
            || (exhausted && !(received.is_empty() && show_after_clock_step_back(transaction, request)?))
        {
            return Ok(received);
        }
    }
}

/// Visible messages as they will be once received, without those that this very receive has received with no timeout.
fn visible(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveQuery,
    wanted: u32,
) -> rusqlite::Result<Vec<ReceivedMessage>> {
    // Two ranges of the index, merged: messages not in flight, and messages in flight whose timeout is over.
    let mut statement = transaction.statement(
        "SELECT id, receives, sent_at, body, visible_at, in_flight FROM message
         WHERE queue = ?1 AND in_flight = 0 AND visible_at <= ?2 AND handle <> ?4
         UNION ALL
         SELECT id, receives, sent_at, body, visible_at, in_flight FROM message
         WHERE queue = ?1 AND in_flight = 1 AND visible_at <= ?2 AND handle <> ?4
         ORDER BY visible_at, in_flight LIMIT ?3",
    )?;
    let of = params![code(request.queue), millis(request.now), wanted, request.handle];
    statement.query_map(of, |row| ReceivedMessage::of(row, request.handle))?.collect()
}

/// Hides a message as a delivery.
fn hide(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveQuery,
    received: &ReceivedMessage,
) -> rusqlite::Result<()> {
    let mut statement = transaction.statement(
        "UPDATE message SET visible_at = ?2, in_flight = 1, handle = ?3, received_at = ?4, receives = ?5 WHERE id = ?1",
    )?;
    let (until, now) = (millis(request.until), millis(request.now));
    statement.execute(params![received.key.id, until, received.key.handle, now, received.receives])?;
    Ok(())
}

/// Moves a message to the dead letters in one statement: it is always in one of the two queues.
fn move_to_dead_letters(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveQuery,
    dead: &ReceivedMessage,
) -> rusqlite::Result<()> {
    let mut statement = transaction.statement(
        "UPDATE message SET queue = ?2, visible_at = ?3, in_flight = 0, handle = 0, receives = 0 WHERE id = ?1",
    )?;
    statement.execute(params![dead.key.id, code(QueueName::DeadLetter), millis(request.now)])?;
    tracing::warn!(queue = %request.queue, message = dead.key.id, receives = RECEIVES_MAX, "moved to the dead letters");
    transaction.add_to_count(index(request.queue), -1);
    transaction.add_to_count(index(QueueName::DeadLetter), 1);
    transaction.note_arrival(index(QueueName::DeadLetter));
    Ok(())
}

/// Makes messages visible that are hidden for longer than allowed, because the clock has stepped back since.
fn show_after_clock_step_back(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveQuery,
) -> rusqlite::Result<bool> {
    let mut statement = transaction.statement(
        "UPDATE message SET visible_at = ?2, in_flight = 0
         WHERE queue = ?1 AND in_flight IN (0, 1) AND visible_at > ?3",
    )?;
    let rescued =
        statement.execute(params![code(request.queue), millis(request.now), latest_plausible_deadline(request.now)])?;
    if rescued > 0 {
        tracing::warn!(queue = %request.queue, bodies = rescued, "the clock has stepped back; made hidden bodies visible");
    }
    Ok(rescued > 0)
}

/// Whether a receive that excludes these accounts would find a message.
pub(super) fn any_visible(
    connection: &Connection,
    queue: QueueName,
    excluded: &BTreeSet<AccountId>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let exists = |sql: &str, at: i64| connection.prepare_cached(sql)?.exists(params![code(queue), at]);
    let hidden_too_long = "SELECT 1 FROM message WHERE queue = ?1 AND in_flight IN (0, 1) AND visible_at > ?2";
    let visible = "SELECT 1 FROM message WHERE queue = ?1 AND in_flight IN (0, 1) AND visible_at <= ?2";
    let found = if excluded.is_empty() {
        exists(visible, millis(now))?
    } else {
        excluded_accounts::any_visible(connection, queue, excluded, now)?
    };
    Ok(found || exists(hidden_too_long, latest_plausible_deadline(now))?)
}

/// The result of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtendOutcome {
    /// The delivery is hidden until the new deadline.
    Granted,
    /// The receipt no longer counts.
    Expired,
    /// The message would be in flight for longer than allowed. Its deadline stays.
    TooLong,
}

/// Hides a delivery until `until`.
pub(super) fn extend(
    transaction: &mut WriteTransaction<'_>,
    queue: QueueName,
    key: DeliveryKey,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<ExtendOutcome> {
    let mut statement = transaction.statement(
        "SELECT received_at FROM message WHERE id = ?1 AND queue = ?2 AND handle = ?3 AND visible_at > ?4",
    )?;
    let received_at: Option<i64> =
        statement.query_row(params![key.id, code(queue), key.handle, millis(now)], |row| row.get(0)).optional()?;
    let Some(received_at) = received_at else { return Ok(ExtendOutcome::Expired) };
    if until > timestamp(received_at).plus(HIDDEN_MAX) {
        return Ok(ExtendOutcome::TooLong);
    }
    // Before a clock stepped back, the message may have been marked as not in flight.
    let mut statement = transaction.statement("UPDATE message SET visible_at = ?2, in_flight = 1 WHERE id = ?1")?;
    statement.execute(params![key.id, millis(until)])?;
    Ok(ExtendOutcome::Granted)
}

/// Makes a delivery visible at once. Returns `false` when the receipt no longer counts.
pub(super) fn release(
    transaction: &mut WriteTransaction<'_>,
    queue: QueueName,
    key: DeliveryKey,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut statement = transaction.statement(
        "UPDATE message SET visible_at = min(visible_at, ?4), in_flight = 0, handle = 0
         WHERE id = ?1 AND queue = ?2 AND handle = ?3",
    )?;
    let released = statement.execute(params![key.id, code(queue), key.handle, millis(now)])? > 0;
    if released {
        transaction.note_arrival(index(queue));
    }
    Ok(released)
}

/// Deletes a message. Returns `false` when another receiver may have received it since, and `true` when it is already
/// gone.
pub(super) fn remove(
    transaction: &mut WriteTransaction<'_>,
    queue: QueueName,
    key: DeliveryKey,
) -> rusqlite::Result<bool> {
    let mut statement = transaction.statement("DELETE FROM message WHERE id = ?1 AND queue = ?2 AND handle = ?3")?;
    if statement.execute(params![key.id, code(queue), key.handle])? > 0 {
        transaction.add_to_count(index(queue), -1);
        return Ok(true);
    }
    Ok(!transaction.statement("SELECT 1 FROM message WHERE id = ?1")?.exists([key.id])?)
}

/// The number of an account's messages. Counted in an index, a million within some tens of milliseconds, but for those
/// in flight, which are few.
pub(super) fn depth_of(connection: &Connection, queue: QueueName, account: &AccountId) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM message INDEXED BY message_by_account
                 WHERE queue = ?1 AND in_flight = 0 AND account = ?2)
              + (SELECT count(*) FROM message WHERE queue = ?1 AND in_flight = 1 AND account = ?2)",
    )?;
    statement.query_row(params![code(queue), account.as_str()], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// The numbers of messages. The cost grows with the number of hidden ones; only one row is read.
pub(super) fn depth(connection: &Connection, queue: QueueName, now: Timestamp) -> rusqlite::Result<QueueDepth> {
    let snapshot = connection.unchecked_transaction()?;
    let total: i64 = snapshot
        .prepare_cached("SELECT messages FROM queue WHERE id = ?1")?
        .query_row([code(queue)], |row| row.get(0))?;
    let mut hidden = snapshot
        .prepare_cached("SELECT count(*) FROM message WHERE queue = ?1 AND in_flight = ?2 AND visible_at > ?3")?;
    let mut hidden = |in_flight: i64| -> rusqlite::Result<i64> {
        hidden.query_row(params![code(queue), in_flight, millis(now)], |row| row.get(0))
    };
    let (delayed, in_flight) = (hidden(0)?, hidden(1)?);
    // The message that has been visible longest: near enough the oldest, without an index by age.
    let mut first = snapshot.prepare_cached(
        "SELECT sent_at, visible_at FROM message WHERE queue = ?1 AND in_flight = ?2 ORDER BY visible_at LIMIT 1",
    )?;
    let mut first = |in_flight: i64| {
        let row = |row: &Row<'_>| Ok((row.get(1)?, row.get(0)?));
        first.query_row(params![code(queue), in_flight], row).optional()
    };
    let first: Option<(i64, i64)> = first(0)?.into_iter().chain(first(1)?).min();
    Ok(QueueDepth {
        visible: (total - delayed - in_flight).max(0) as u64,
        in_flight: in_flight as u64,
        delayed: delayed as u64,
        oldest_age: first.map(|(_, sent_at)| now.since(timestamp(sent_at))),
    })
}
