//! What a memory queue holds: each body is visible, delayed or in flight, and in exactly one of the three.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mill_model::{AccountId, Monotonic, Timestamp};
use mill_ports::{Delivery, Receipt};

use super::Standing;

/// The bodies of one queue, by the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    held: BTreeMap<u64, Held>,
    /// Ids of the visible, in any order; each knows its place here.
    visible: Vec<u64>,
    /// The hidden, by when they become visible.
    delayed: BTreeSet<(Monotonic, u64)>,
    in_flight: BTreeSet<(Monotonic, u64)>,
    next: u64,
}

/// A body as it was sent.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) group: AccountId,
    pub(super) body: Bytes,
    pub(super) sent_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Held {
    fresh: Fresh,
    receive_count: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Visible { slot: usize, since: Monotonic },
    Delayed { until: Monotonic },
    InFlight { until: Monotonic, received: Monotonic },
}

/// A body as received.
#[derive(Debug)]
pub(super) struct Taken {
    id: u64,
    held: Held,
    deadline: Monotonic,
}

impl Taken {
    pub(super) fn into_delivery(self) -> Delivery {
        Delivery {
            receipt: Receipt(format!("{}#{}", self.id, self.held.receive_count).into()),
            body: self.held.fresh.body,
            receive_count: self.held.receive_count,
            sent_at: self.held.fresh.sent_at,
            deadline: self.deadline,
        }
    }
}

impl Bodies {
    /// Gives out no id that `before` gave out, so that its receipts stay without effect.
    pub(super) fn go_on_after(&mut self, before: &Self) {
        self.next = before.next;
    }

    pub(super) fn add(&mut self, fresh: Fresh, now: Monotonic, delay: Duration) {
        let place = Place::Delayed { until: now.plus(delay) };
        let id = self.insert(Held { fresh, receive_count: 0, place });
        if delay.is_zero() {
            self.show(id, now);
        }
    }

    fn insert(&mut self, held: Held) -> u64 {
        let id = self.next;
        self.next += 1;
        if let Place::Delayed { until } = held.place {
            self.delayed.insert((until, id));
        }
        self.held.insert(id, held);
        id
    }

    /// Makes visible whatever was hidden until `now`.
    pub(super) fn wake(&mut self, now: Monotonic) {
        while let Some(&(until, id)) = self.delayed.first().filter(|(until, _)| *until <= now) {
            self.show(id, until);
        }
        while let Some(&(until, id)) = self.in_flight.first().filter(|(until, _)| *until <= now) {
            self.show(id, until);
        }
    }

    /// When the next hidden body becomes visible.
    pub(super) fn next_waking(&self) -> Option<Monotonic> {
        let firsts = [self.delayed.first(), self.in_flight.first()];
        firsts.into_iter().flatten().map(|(until, _)| *until).min()
    }

    pub(super) fn visible(&self) -> usize {
        self.visible.len()
    }

    /// How many are visible, but for those of some accounts.
    pub(super) fn visible_but(&self, passed_over: &BTreeSet<AccountId>) -> usize {
        if passed_over.is_empty() { self.visible.len() } else { self.slots_but(passed_over).count() }
    }

    /// The place of one of them.
    pub(super) fn slot(&self, which: usize, passed_over: &BTreeSet<AccountId>) -> Option<usize> {
        if passed_over.is_empty() { Some(which) } else { self.slots_but(passed_over).nth(which) }
    }

    fn slots_but<'a>(&'a self, passed_over: &'a BTreeSet<AccountId>) -> impl Iterator<Item = usize> + 'a {
        (0..self.visible.len()).filter(|slot| !passed_over.contains(&self.held[&self.visible[*slot]].fresh.group))
    }

    /// How many there are of an account.
    pub(super) fn of(&self, group: &AccountId) -> u64 {
        self.held.values().filter(|held| held.fresh.group == *group).count() as u64
    }

    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.held.first_key_value().map(|(_, held)| held.fresh.sent_at)
    }

    pub(super) fn all(&self) -> Vec<Bytes> {
        self.held.values().map(|held| held.fresh.body.clone()).collect()
    }

    /// Where each body is, in the order in which they came.
    pub(super) fn standing(&self) -> impl Iterator<Item = Standing> + '_ {
        self.held.iter().map(|(id, held)| Standing {
            id: *id,
            body: held.fresh.body.clone(),
            visible_since: match held.place {
                Place::Visible { since, .. } => Some(since),
                Place::Delayed { .. } | Place::InFlight { .. } => None,
            },
            in_flight: matches!(held.place, Place::InFlight { .. }),
        })
    }

    /// How often the visible body in `slot` was received.
    pub(super) fn receive_count(&self, slot: usize) -> u32 {
        self.held[&self.visible[slot]].receive_count
    }

    /// Takes the visible body in `slot` out for good.
    pub(super) fn remove_visible(&mut self, slot: usize) -> Option<Fresh> {
        let id = self.visible[slot];
        self.leave(id);
        self.held.remove(&id).map(|held| held.fresh)
    }

    /// Puts a second copy of the visible body in `slot` beside it.
    pub(super) fn copy_visible(&mut self, slot: usize) {
        let mut copy = self.held[&self.visible[slot]].clone();
        if let Place::Visible { slot, .. } = &mut copy.place {
            *slot = self.visible.len();
        }
        let id = self.insert(copy);
        self.visible.push(id);
    }

    /// Receives the visible body in `slot`.
    pub(super) fn take_visible(&mut self, slot: usize, now: Monotonic, visibility: Duration) -> Option<Taken> {
        let id = self.visible[slot];
        let deadline = now.plus(visibility);
        self.leave(id);
        let held = self.held.get_mut(&id)?;
        held.receive_count += 1;
        held.place = Place::InFlight { until: deadline, received: now };
        self.in_flight.insert((deadline, id));
        Some(Taken { id, held: held.clone(), deadline })
    }

    /// The body of a receipt, `None` when it is not there or the receipt counts no more.
    pub(super) fn find(&self, receipt: &Receipt, fenced: bool) -> Result<Option<u64>, &'static str> {
        let parts = receipt.0.split_once('#').and_then(|(id, count)| Some((id.parse().ok()?, count.parse().ok()?)));
        let (id, count): (u64, u32) = parts.ok_or("the receipt is none of this queue's")?;
        Ok(self.held.get(&id).filter(|held| !fenced || held.receive_count == count).map(|_| id))
    }

    /// Since when a body is in flight, if it is.
    pub(super) fn received(&self, id: u64) -> Option<Monotonic> {
        match self.held.get(&id)?.place {
            Place::InFlight { received, .. } => Some(received),
            Place::Visible { .. } | Place::Delayed { .. } => None,
        }
    }

    /// Moves the deadline of a body in flight.
    pub(super) fn hide_until(&mut self, id: u64, deadline: Monotonic) {
        if let Some(held) = self.held.get_mut(&id)
            && let Place::InFlight { until, .. } = &mut held.place
        {
            self.in_flight.remove(&(*until, id));
            self.in_flight.insert((deadline, id));
            *until = deadline;
        }
    }

    /// Makes a body visible, as of then.
    pub(super) fn show(&mut self, id: u64, since: Monotonic) {
        self.leave(id);
        if let Some(held) = self.held.get_mut(&id) {
            held.place = Place::Visible { slot: self.visible.len(), since };
            self.visible.push(id);
        }
    }

    /// Removes a body for good.
    pub(super) fn remove(&mut self, id: u64) {
        self.leave(id);
        self.held.remove(&id);
    }

    /// Takes a body out of the index of its place; the caller gives it another, or removes it.
    fn leave(&mut self, id: u64) {
        match self.held.get(&id).map(|held| held.place) {
            Some(Place::Visible { slot, .. }) => {
                self.visible.swap_remove(slot);
                if let Some(moved) = self.visible.get(slot)
                    && let Some(held) = self.held.get_mut(moved)
                    && let Place::Visible { slot: place, .. } = &mut held.place
                {
                    *place = slot;
                }
            }
            Some(Place::Delayed { until }) => {
                self.delayed.remove(&(until, id));
            }
            Some(Place::InFlight { until, .. }) => {
                self.in_flight.remove(&(until, id));
            }
            None => {}
        }
    }
}
