//! The statements of the queues.

use std::collections::BTreeSet;

use bytes::Bytes;
use mill_model::{AccountId, QueueName, Timestamp};
use mill_ports::{QueueDepth, Receipt};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub(super) use crate::database::writer::WriteTransaction;

use super::{HIDDEN_MAX, RECEIVES_MAX, excluded_accounts};

/// A queue's number in the file, for ever.
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

/// A queue's place where one thing is kept for each of the seven.
pub(super) const fn index(queue: QueueName) -> usize {
    code(queue) as usize - 1
}

/// A time as the file keeps it.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Later than this nothing can rightly be hidden: the clock has stepped back.
fn latest_plausible_deadline(now: Timestamp) -> i64 {
    millis(now.plus(HIDDEN_MAX))
}

/// A delivery as its receipt names it: the row, and the receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryKey {
    pub(super) id: i64,
    pub(super) handle: i64,
}

impl DeliveryKey {
    /// `None` for what is no receipt of this back end.
    pub(super) fn of(receipt: &Receipt) -> Option<Self> {
        let (id, handle) = receipt.0.split_once('.')?;
        let key = Self { id: i64::from_str_radix(id, 16).ok()?, handle: i64::from_str_radix(handle, 16).ok()? };
        (key.id > 0 && key.handle > 0).then_some(key)
    }

    pub(super) fn receipt(self) -> Receipt {
        Receipt(format!("{:x}.{:x}", self.id, self.handle).into())
    }
}

/// A body on its way in.
pub(super) struct NewMessage {
    pub(super) visible_at: Timestamp,
    pub(super) account: AccountId,
    pub(super) body: Bytes,
}

/// Adds bodies.
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

/// A receive: how many bodies, whose not, and how to mark them.
#[derive(Debug, Clone)]
pub(super) struct ReceiveRequest {
    pub(super) queue: QueueName,
    pub(super) now: Timestamp,
    pub(super) until: Timestamp,
    pub(super) handle: i64,
    pub(super) max: u32,
    pub(super) excluded: BTreeSet<AccountId>,
}

/// A body received.
pub(super) struct ReceivedMessage {
    pub(super) key: DeliveryKey,
    pub(super) body: Bytes,
    pub(super) receives: u32,
    pub(super) sent_at: Timestamp,
}

impl ReceivedMessage {
    /// From its id, how often it was received, when it was sent, and its body.
    pub(super) fn of(row: &Row<'_>, handle: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            key: DeliveryKey { id: row.get(0)?, handle },
            receives: row.get::<_, u32>(1)?.saturating_add(1),
            sent_at: timestamp(row.get(2)?),
            body: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        })
    }
}

/// Takes visible bodies, those longest visible first. Those received too often go to the dead letters instead.
pub(super) fn receive(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveRequest,
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

/// Visible bodies as they will be once they are received; none that this receive has taken and did not hide.
fn visible(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveRequest,
    wanted: u32,
) -> rusqlite::Result<Vec<ReceivedMessage>> {
    // Two stretches of the index, merged: what is in nobody's hands, and what was in hands whose time is over.
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

/// Hides a body as a delivery.
fn hide(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveRequest,
    received: &ReceivedMessage,
) -> rusqlite::Result<()> {
    let mut statement = transaction.statement(
        "UPDATE message SET visible_at = ?2, in_flight = 1, handle = ?3, received_at = ?4, receives = ?5 WHERE id = ?1",
    )?;
    let (until, now) = (millis(request.until), millis(request.now));
    statement.execute(params![received.key.id, until, received.key.handle, now, received.receives])?;
    Ok(())
}

/// Moves a body to the dead letters, in one statement: it is never in neither queue.
fn move_to_dead_letters(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveRequest,
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

/// Makes visible what a clock that has stepped back since would hide for longer than anything may be.
fn show_after_clock_step_back(
    transaction: &mut WriteTransaction<'_>,
    request: &ReceiveRequest,
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

/// Whether a receive that passes these accounts over would find anything.
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

/// What became of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtendOutcome {
    /// It is hidden until then.
    Granted,
    /// It is no longer held.
    Expired,
    /// It would be in flight for longer than anything may be; its deadline stays.
    TooLong,
}

/// Hides a delivery until then.
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
    // It may have been noted that it is in nobody's hands, before a clock stepped back.
    let mut statement = transaction.statement("UPDATE message SET visible_at = ?2, in_flight = 1 WHERE id = ?1")?;
    statement.execute(params![key.id, millis(until)])?;
    Ok(ExtendOutcome::Granted)
}

/// Makes a delivery visible at once; `false` when it is no longer held.
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

/// Removes a delivery for good; `false` when somebody else may hold it by now. One that is gone already is removed.
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

/// How many bodies of an account there are. Counted in an index, a million within some tens of milliseconds, but for those
/// in hand, which are few.
pub(super) fn depth_of(connection: &Connection, queue: QueueName, account: &AccountId) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM message INDEXED BY message_by_account
                 WHERE queue = ?1 AND in_flight = 0 AND account = ?2)
              + (SELECT count(*) FROM message WHERE queue = ?1 AND in_flight = 1 AND account = ?2)",
    )?;
    statement.query_row(params![code(queue), account.as_str()], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// How many bodies there are. Costs as much as there are hidden ones; never reads a body but the first.
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
    // The one that waits longest to be received: near enough the oldest, and no index by age is kept for it.
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
