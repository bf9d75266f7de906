//! Accounts' shares of the queue: a slow one's tasks are not to keep out those of others.
//!
//! Where the queue cannot tell how many tasks of an account it holds, what was sent is written down before it is sent (one
//! write a nibble), and what has ended is read from what workmen count (one read and one look at the depth in a while).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mill_model::{AccountId, Monotonic};
use mill_ports::error_chain;
use mill_records::producer_state::{AccountShare, Kept};
use mill_records::queue_shares::QueueShares;
use tracing::warn;

use super::{Place, Session};
use crate::report::ProducerError;

/// What was looked at is believed for so long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What could not be looked at for so long is not believed any more: then the queue's maximum alone holds.
const COUNTS_OLD: Duration = Duration::from_mins(1);

/// Whose turn is next, of those that wait.
pub(super) enum First {
    Place(Place),
    /// Each account that could have a turn has its share of the queue.
    Full,
    /// The stores of all that wait are being read, or none waits.
    BeingRead,
}

/// What is known of the shares of a queue that cannot tell them.
#[derive(Default)]
pub(super) struct Shares {
    known: QueueShares,
    rows: BTreeMap<AccountId, Kept<AccountShare>>,
    looked: Option<Monotonic>,
    /// When that last succeeded.
    counted: Option<Monotonic>,
}

impl Shares {
    /// As the book has them.
    pub(super) fn of(rows: Vec<Kept<AccountShare>>) -> Self {
        let known = QueueShares::new(rows.iter().map(|kept| kept.row.clone()));
        let rows = rows.into_iter().map(|kept| (kept.row.account.clone(), kept)).collect();
        Self { known, rows, looked: None, counted: None }
    }
}

impl Session<'_> {
    /// The first place of an account of which the queue holds less than its share, and none of whose stores is being read.
    pub(super) async fn first_with_a_share(&mut self) -> Result<First, ProducerError> {
        let with_work = self.accounts_with_work();
        let (most, readings) = (self.settings.listings_open_max, &self.readings);
        let mut free = self.waiting.keys().filter(|place| readings.may_turn(&place.2, most));
        if with_work < 2 {
            return Ok(free.next().map_or(First::BeingRead, |place| First::Place(place.clone())));
        }
        let share = (self.queue_max() / with_work).max(self.settings.nibble.get() as u64);
        let mut seen = BTreeSet::new();
        let firsts: Vec<Place> = free.filter(|place| seen.insert(&place.2.account)).cloned().collect();
        if firsts.is_empty() {
            return Ok(First::BeingRead);
        }
        for place in firsts {
            if self.readings.holds(&place.2) || self.held_of(&place.2.account).await?.is_none_or(|held| held < share) {
                return Ok(First::Place(place));
            }
        }
        Ok(First::Full)
    }

    /// How many accounts have something that waits or rests.
    fn accounts_with_work(&self) -> u64 {
        self.runs.values().filter(|run| !run.open.is_empty()).count() as u64
    }

    /// Whether a full queue is others' doing: then an account that holds less than its share of it may add to it. So one whose
    /// tasks hang, and that has filled the queue while nobody else had work, keeps none of them waiting.
    pub(super) async fn may_add_to_a_full_queue(&mut self, account: &AccountId) -> Result<bool, ProducerError> {
        if self.runs.len() < 2 {
            return Ok(false);
        }
        let share = self.queue_max() / self.accounts_with_work().max(2);
        Ok(self.held_of(account).await?.is_some_and(|held| held < share))
    }

    /// How many tasks of an account the queue holds, if that can be told.
    async fn held_of(&mut self, account: &AccountId) -> Result<Option<u64>, ProducerError> {
        if self.deps.counts.is_none() {
            return self.sending.depth_of(account).await;
        }
        self.look_at_shares().await?;
        let now = self.deps.clock.monotonic();
        let is_known = self.shares.counted.is_some_and(|counted| now.since(counted) < COUNTS_OLD);
        Ok(is_known.then(|| self.shares.known.held(account)))
    }

    /// Writes down that tasks of an account are about to be sent, where the queue cannot tell.
    pub(crate) async fn will_send(&mut self, account: &AccountId, tasks: usize) -> Result<(), ProducerError> {
        if self.deps.counts.is_none() || tasks == 0 {
            return Ok(());
        }
        self.look_at_shares().await?;
        let row = self.shares.known.sends(account, tasks as u64, self.deps.clock.now());
        let mut kept = self.shares.rows.remove(account).unwrap_or_else(|| Kept::fresh(row.clone()));
        kept.row = row;
        self.state.save_over_earlier(&mut kept).await?;
        self.shares.rows.insert(account.clone(), kept);
        Ok(())
    }

    /// Takes in what has ended since the last look.
    async fn look_at_shares(&mut self) -> Result<(), ProducerError> {
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
        let depth = self.sending.depth().await?;
        self.shares.counted = Some(now);
        self.shares.known.looked(counted, depth, self.deps.clock.now());
        for account in self.shares.known.forget_idle() {
            if let Some(kept) = self.shares.rows.remove(&account) {
                self.state.remove(&kept).await?;
            }
        }
        Ok(())
    }
}
