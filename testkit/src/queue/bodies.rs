//! The messages of a memory queue: each is in exactly one of the states visible, delayed and in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mill_model::{AccountId, Monotonic, Timestamp};
use mill_ports::{Delivery, Receipt};

use super::QueuedBody;

/// The messages of one queue, in the order of the sends.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    stored: BTreeMap<u64, StoredBody>,
    /// Ids of the visible messages, in any order; each message knows its slot here.
    visible: Vec<u64>,
    /// The hidden messages, by when they become visible.
    delayed: BTreeSet<(Monotonic, u64)>,
    in_flight: BTreeSet<(Monotonic, u64)>,
    next: u64,
}

/// A body as it was sent.
#[derive(Debug, Clone)]
pub(super) struct SentBody {
    pub(super) group: AccountId,
    pub(super) body: Bytes,
    pub(super) sent_at: Timestamp,
}

#[derive(Debug, Clone)]
struct StoredBody {
    sent: SentBody,
    receive_count: u32,
    state: BodyState,
}

#[derive(Debug, Clone, Copy)]
enum BodyState {
    Visible { slot: usize, since: Monotonic },
    Delayed { until: Monotonic },
    InFlight { until: Monotonic, received: Monotonic },
}

/// A body as received.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    id: u64,
    stored: StoredBody,
    deadline: Monotonic,
}

impl ReceivedBody {
    pub(super) fn into_delivery(self) -> Delivery {
        Delivery {
            receipt: Receipt(format!("{}#{}", self.id, self.stored.receive_count).into()),
            body: self.stored.sent.body,
            receive_count: self.stored.receive_count,
            sent_at: self.stored.sent.sent_at,
            deadline: self.deadline,
        }
    }
}

impl Bodies {
    /// Continues the ids of `before`, so that its receipts have no effect.
    pub(super) fn continue_ids_after(&mut self, before: &Self) {
        self.next = before.next;
    }

    pub(super) fn add(&mut self, sent: SentBody, now: Monotonic, delay: Duration) {
        let state = BodyState::Delayed { until: now.plus(delay) };
        let id = self.insert(StoredBody { sent, receive_count: 0, state });
        if delay.is_zero() {
            self.show(id, now);
        }
    }

    fn insert(&mut self, stored: StoredBody) -> u64 {
        let id = self.next;
        self.next += 1;
        if let BodyState::Delayed { until } = stored.state {
            self.delayed.insert((until, id));
        }
        self.stored.insert(id, stored);
        id
    }

    /// Makes the messages visible whose time is over at `now`.
    pub(super) fn wake(&mut self, now: Monotonic) {
        while let Some(&(until, id)) = self.delayed.first().filter(|(until, _)| *until <= now) {
            self.show(id, until);
        }
        while let Some(&(until, id)) = self.in_flight.first().filter(|(until, _)| *until <= now) {
            self.show(id, until);
        }
    }

    /// When the next hidden message becomes visible.
    pub(super) fn next_waking(&self) -> Option<Monotonic> {
        let firsts = [self.delayed.first(), self.in_flight.first()];
        firsts.into_iter().flatten().map(|(until, _)| *until).min()
    }

    pub(super) fn visible(&self) -> usize {
        self.visible.len()
    }

    /// The number of visible messages, without those of excluded accounts.
    pub(super) fn visible_but(&self, passed_over: &BTreeSet<AccountId>) -> usize {
        if passed_over.is_empty() { self.visible.len() } else { self.slots_but(passed_over).count() }
    }

    /// The slot of one of them.
    pub(super) fn slot(&self, which: usize, passed_over: &BTreeSet<AccountId>) -> Option<usize> {
        if passed_over.is_empty() { Some(which) } else { self.slots_but(passed_over).nth(which) }
    }

    fn slots_but<'a>(&'a self, passed_over: &'a BTreeSet<AccountId>) -> impl Iterator<Item = usize> + 'a {
        (0..self.visible.len()).filter(|slot| !passed_over.contains(&self.stored[&self.visible[*slot]].sent.group))
    }

    /// The number of an account's messages.
    pub(super) fn count_of(&self, group: &AccountId) -> u64 {
        self.stored.values().filter(|stored| stored.sent.group == *group).count() as u64
    }

    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.stored.first_key_value().map(|(_, stored)| stored.sent.sent_at)
    }

    pub(super) fn all(&self) -> Vec<Bytes> {
        self.stored.values().map(|stored| stored.sent.body.clone()).collect()
    }

    /// Each message with its state, in the order of the sends.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = QueuedBody> + '_ {
        self.stored.iter().map(|(id, stored)| QueuedBody {
            id: *id,
            body: stored.sent.body.clone(),
            visible_since: match stored.state {
                BodyState::Visible { since, .. } => Some(since),
                BodyState::Delayed { .. } | BodyState::InFlight { .. } => None,
            },
            in_flight: matches!(stored.state, BodyState::InFlight { .. }),
        })
    }

    /// How often the visible body in `slot` was received.
    pub(super) fn receive_count(&self, slot: usize) -> u32 {
        self.stored[&self.visible[slot]].receive_count
    }

    /// Removes the visible message in `slot`.
    pub(super) fn remove_visible(&mut self, slot: usize) -> Option<SentBody> {
        let id = self.visible[slot];
        self.leave(id);
        self.stored.remove(&id).map(|stored| stored.sent)
    }

    /// Adds a second copy of the visible message in `slot`.
    pub(super) fn copy_visible(&mut self, slot: usize) {
        let mut copy = self.stored[&self.visible[slot]].clone();
        if let BodyState::Visible { slot, .. } = &mut copy.state {
            *slot = self.visible.len();
        }
        let id = self.insert(copy);
        self.visible.push(id);
    }

    /// Receives the visible message in `slot`.
    pub(super) fn receive_visible(
        &mut self,
        slot: usize,
        now: Monotonic,
        visibility: Duration,
    ) -> Option<ReceivedBody> {
        let id = self.visible[slot];
        let deadline = now.plus(visibility);
        self.leave(id);
        let stored = self.stored.get_mut(&id)?;
        stored.receive_count += 1;
        stored.state = BodyState::InFlight { until: deadline, received: now };
        self.in_flight.insert((deadline, id));
        Some(ReceivedBody { id, stored: stored.clone(), deadline })
    }

    /// The message of a receipt; `None` if it is gone or the receipt no longer counts.
    pub(super) fn find(&self, receipt: &Receipt, fenced: bool) -> Result<Option<u64>, &'static str> {
        let parts = receipt.0.split_once('#').and_then(|(id, count)| Some((id.parse().ok()?, count.parse().ok()?)));
        let (id, count): (u64, u32) = parts.ok_or("the receipt is none of this queue's")?;
        Ok(self.stored.get(&id).filter(|stored| !fenced || stored.receive_count == count).map(|_| id))
    }

    /// Since when a body is in flight, if it is.
    pub(super) fn received(&self, id: u64) -> Option<Monotonic> {
        match self.stored.get(&id)?.state {
            BodyState::InFlight { received, .. } => Some(received),
            BodyState::Visible { .. } | BodyState::Delayed { .. } => None,
        }
    }

    /// Moves the deadline of a body in flight.
    pub(super) fn hide_until(&mut self, id: u64, deadline: Monotonic) {
        if let Some(stored) = self.stored.get_mut(&id)
            && let BodyState::InFlight { until, .. } = &mut stored.state
        {
            self.in_flight.remove(&(*until, id));
            self.in_flight.insert((deadline, id));
            *until = deadline;
        }
    }

    /// Makes a body visible, as of then.
    pub(super) fn show(&mut self, id: u64, since: Monotonic) {
        self.leave(id);
        if let Some(stored) = self.stored.get_mut(&id) {
            stored.state = BodyState::Visible { slot: self.visible.len(), since };
            self.visible.push(id);
        }
    }

    /// Removes a body for good.
    pub(super) fn remove(&mut self, id: u64) {
        self.leave(id);
        self.stored.remove(&id);
    }

    /// Removes a message from the index of its state. The caller sets another state, or removes the message.
    fn leave(&mut self, id: u64) {
        match self.stored.get(&id).map(|stored| stored.state) {
            Some(BodyState::Visible { slot, .. }) => {
                self.visible.swap_remove(slot);
                if let Some(moved) = self.visible.get(slot)
                    && let Some(stored) = self.stored.get_mut(moved)
                    && let BodyState::Visible { slot: state, .. } = &mut stored.state
                {
                    *state = slot;
                }
            }
            Some(BodyState::Delayed { until }) => {
                self.delayed.remove(&(until, id));
            }
            Some(BodyState::InFlight { until, .. }) => {
                self.in_flight.remove(&(until, id));
            }
            None => {}
        }
    }
}
