//! Accounts' shares of the queue: tasks of a slow account must not keep out those of others.
//!
//! If the queue cannot count the tasks of an account, the producer saves how many it is about to send (one write per nibble),
//! and reads how many have ended from the counts of workmen (one read of the counts and one of the depth now and then).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, Monotonic};
use mill_ports::error_chain;
use mill_records::Versioned;
use mill_records::producer_state::{AccountShare, MorselSubject as _};
use mill_records::queue_shares::QueueShares;
use tracing::warn;

use super::plan::{MorselSubjectOf, Plan};
use super::report::ProducerError;
use super::{RoundPriority, Session};

/// How long the last counts are used before they are read again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After how long without new counts the shares are no longer applied. Then only the queue's maximum applies.
const COUNTS_OLD: Duration = Duration::from_mins(1);

/// The next candidate among the waiting morsels.
pub(super) enum NextCandidate<S> {
    Morsel(RoundPriority<S>),
    /// Each account that could have a turn has used up its share of the queue.
    Full,
    /// The stores of all waiting morsels are being read, or none waits.
    BeingRead,
}

/// The shares of a queue that cannot count the tasks of an account.
#[derive(Default)]
pub(super) struct AccountShares {
    known: QueueShares,
    rows: BTreeMap<AccountId, Versioned<AccountShare>>,
    looked: Option<Monotonic>,
    /// When the counts were last read successfully.
    counted: Option<Monotonic>,
}

impl AccountShares {
    /// Restores the shares from their rows.
    pub(super) fn of(rows: Vec<Versioned<AccountShare>>) -> Self {
        let known = QueueShares::new(rows.iter().map(|kept| kept.record.clone()));
        let rows = rows.into_iter().map(|kept| (kept.record.account.clone(), kept)).collect();
        Self { known, rows, looked: None, counted: None }
    }
}

impl<P: Plan> Session<'_, P> {
    /// The first morsel that may step, of an account with less than its share of the queue.
    pub(super) async fn next_candidate(&mut self) -> Result<NextCandidate<MorselSubjectOf<P>>, ProducerError> {
        let with_work = self.accounts_with_work();
        let (most, background_reads) = (self.settings.listings_open_max, &self.background_reads);
        let mut free = self.waiting.keys().filter(|place| background_reads.may_step(&place.2, most));
        if with_work < 2 {
            return Ok(free.next().map_or(NextCandidate::BeingRead, |place| NextCandidate::Morsel(place.clone())));
        }
        let share = (self.queue_max() / with_work).max(self.settings.nibble.get() as u64);
        let mut seen = BTreeSet::new();
        let firsts: Vec<RoundPriority<MorselSubjectOf<P>>> =
            free.filter(|place| seen.insert(place.2.account())).cloned().collect();
        if firsts.is_empty() {
            return Ok(NextCandidate::BeingRead);
        }
        for place in firsts {
            if self.background_reads.has_result(&place.2)
                || self.queued_tasks_of(place.2.account()).await?.is_none_or(|held| held < share)
            {
                return Ok(NextCandidate::Morsel(place));
            }
        }
        Ok(NextCandidate::Full)
    }

    /// How many accounts have open morsels.
    fn accounts_with_work(&self) -> u64 {
        self.runs.values().filter(|run| !run.open.is_empty()).count() as u64
    }

    /// Whether an account may add to a full queue: it may if it holds less than its share. So an account whose tasks hang, and
    /// that filled the queue while no other had work, does not keep others waiting.
    pub(super) async fn may_add_to_a_full_queue(&mut self, account: &AccountId) -> Result<bool, ProducerError> {
        if self.runs.len() < 2 {
            return Ok(false);
        }
        let share = self.queue_max() / self.accounts_with_work().max(2);
        Ok(self.queued_tasks_of(account).await?.is_some_and(|held| held < share))
    }

    /// How many tasks of an account the queue holds; `None` if that is unknown.
    async fn queued_tasks_of(&mut self, account: &AccountId) -> Result<Option<u64>, ProducerError> {
        if self.deps.counts.is_none() {
            return self.task_sender.depth_of(account).await;
        }
        self.refresh_shares().await?;
        let now = self.deps.clock.monotonic();
        let is_known = self.shares.counted.is_some_and(|counted| now.since(counted) < COUNTS_OLD);
        Ok(is_known.then(|| self.shares.known.in_queue(account)))
    }

    /// Saves that tasks of an account are about to be sent, if the queue cannot count them.
    pub(super) async fn note_before_send(&mut self, account: &AccountId, tasks: usize) -> Result<(), ProducerError> {
        if self.deps.counts.is_none() || tasks == 0 {
            return Ok(());
        }
        self.refresh_shares().await?;
        let row = self.shares.known.note_sends(account, tasks as u64, self.deps.clock.now());
        let mut kept = self.shares.rows.remove(account).unwrap_or_else(|| Versioned::unsaved(row.clone()));
        kept.record = row;
        self.state.save_over_earlier(&mut kept).await?;
        self.shares.rows.insert(account.clone(), kept);
        Ok(())
    }

    /// Reads how many tasks have ended since the last read.
    async fn refresh_shares(&mut self) -> Result<(), ProducerError> {
        let Some(counts) = &self.deps.counts else { return Ok(()) };
        let now = self.deps.clock.monotonic();
        if self.shares.looked.is_some_and(|looked| now.since(looked) < LOOK_EVERY) {
            return Ok(());
        }
        self.shares.looked = Some(now);
        let counted = match counts.read(&self.shares.known.known()).await {
            Ok(counted) => counted,
            Err(error) => {
                warn!(
                    error = error_chain(&error),
                    "what workmen have counted cannot be read; accounts may have more than their share"
                );
                return Ok(());
            }
        };
        let depth = self.task_sender.depth().await?;
        self.shares.counted = Some(now);
        self.shares.known.update(counted, depth, self.deps.clock.now());
        for account in self.shares.known.forget_idle() {
            if let Some(kept) = self.shares.rows.remove(&account) {
                self.state.remove(&kept).await?;
            }
        }
        Ok(())
    }
}
