//! How many tasks of each account are in a queue that does not report it: those sent minus those ended.
//!
//! Both sums can be slightly wrong: a workman dies with its last counts, a task is delivered twice, an operator retries
//! dead letters. So they are corrected by what is known:
//!
//! - an account never has fewer than zero tasks: if more ended than were sent, its sums start again;
//! - an account has none if the queue is empty for a minute after its last task was sent or received;
//! - an account has none if none of its tasks was received for longer than a task can be hidden, while workmen received
//!   twice as many other tasks as the queue holds;
//! - tasks in the queue beyond the known ones are attributed to all accounts, in proportion.
//!
//! Only computes; does no IO.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, Timestamp};

use crate::account_counts::{AccountCount, CountsByAccount};
use crate::producer_state::AccountShare;

/// The longest delay of a queue's reported depth.
const DEPTH_DELAY_MAX: Duration = Duration::from_mins(1);

/// Longer than a snoozed task stays hidden.
const HIDDEN_MAX: Duration = Duration::from_mins(20);

/// The shares of all accounts, as of the last update.
#[derive(Debug, Clone, Default)]
pub struct QueueShares {
    shares: BTreeMap<AccountId, AccountShare>,
    counts: CountsByAccount,
    received: u64,
    depth: u64,
    updated: Timestamp,
}

impl QueueShares {
    /// Makes the shares from the rows of the table.
    pub fn new(shares: impl IntoIterator<Item = AccountShare>) -> Self {
        let shares = shares.into_iter().map(|share| (share.account.clone(), share)).collect();
        Self { shares, ..Self::default() }
    }

    /// The known accounts.
    pub fn known(&self) -> BTreeSet<AccountId> {
        self.shares.keys().cloned().collect()
    }

    /// Updates the shares with the workmen's counts and the queue's depth.
    pub fn update(&mut self, counts: CountsByAccount, depth: u64, now: Timestamp) {
        let received = counts.values().map(|counted| counted.received).sum();
        for (account, share) in &mut self.shares {
            let counted = counts.get(account).copied().unwrap_or_default();
            if counted.received != share.received {
                share.renew(counted, received, now);
            }
            // A time in the future is not possible: the clock was wrong when it was written.
            share.since = share.since.min(now);
            let quiet = now.since(share.since);
            let is_empty = depth == 0 && quiet >= DEPTH_DELAY_MAX;
            // Fewer than before: folded rows drop accounts that are not known.
            let others = received.checked_sub(share.received_of_all);
            let passed_over = quiet >= HIDDEN_MAX && others.is_some_and(|others| others >= 2 * depth.max(1));
            if share.sent < counted.ended || is_empty || passed_over {
                share.sent = counted.ended;
            }
            if others.is_none() {
                share.received_of_all = received;
            }
        }
        (self.counts, self.received, self.depth, self.updated) = (counts, received, depth, now);
    }

    /// Counts tasks of an account that are about to be sent, and returns the row that must be saved first.
    pub fn note_sends(&mut self, account: &AccountId, tasks: u64, now: Timestamp) -> AccountShare {
        let (counted, received) = (self.counts.get(account).copied().unwrap_or_default(), self.received);
        let fresh = || AccountShare {
            account: account.clone(),
            sent: counted.ended,
            since: now,
            received: counted.received,
            received_of_all: received,
        };
        let share = self.shares.entry(account.clone()).or_insert_with(fresh);
        share.sent += tasks;
        share.renew(counted, received, now);
        share.clone()
    }

    /// The estimated number of an account's tasks in the queue.
    pub fn in_queue(&self, account: &AccountId) -> u64 {
        let Some(share) = self.shares.get(account) else { return 0 };
        let held = self.unended(share);
        if self.updated.since(share.since) >= DEPTH_DELAY_MAX {
            return self.scaled_to_depth(held).min(self.depth);
        }
        self.scaled_to_depth(held)
    }

    fn unended(&self, share: &AccountShare) -> u64 {
        let ended = self.counts.get(&share.account).map_or(0, |counted| counted.ended);
        share.sent.saturating_sub(ended)
    }

    /// Adds the account's part of the tasks of unknown origin.
    fn scaled_to_depth(&self, held: u64) -> u64 {
        let all: u64 = self.shares.values().map(|share| self.unended(share)).sum();
        if all == 0 || all >= self.depth {
            return held;
        }
        let held = u128::from(held) * u128::from(self.depth) / u128::from(all);
        u64::try_from(held).unwrap_or(u64::MAX)
    }

    /// Forgets accounts that have had no tasks for long, and returns them so that their rows can be removed.
    pub fn forget_idle(&mut self) -> Vec<AccountId> {
        let is_idle = |share: &AccountShare| self.unended(share) == 0 && self.updated.since(share.since) >= HIDDEN_MAX;
        let idle: Vec<_> =
            self.shares.values().filter(|share| is_idle(share)).map(|share| share.account.clone()).collect();
        self.shares.retain(|account, _| !idle.contains(account));
        idle
    }
}

impl AccountShare {
    /// Records that tasks of the account were sent or received now.
    fn renew(&mut self, AccountCount { received, .. }: AccountCount, received_of_all: u64, now: Timestamp) {
        (self.since, self.received, self.received_of_all) = (now, received, received_of_all);
    }
}

#[cfg(test)]
mod tests;
