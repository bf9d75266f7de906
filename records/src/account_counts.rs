//! How many tasks of each account workmen have received from a queue, and how many have left it. Each workman has one
//! row.
//!
//! These counts are for queues that do not report their depth by account. Each workman writes its sums since its start
//! into a row of its own, so that workmen do not wait for each other, and reading or writing twice changes nothing. The
//! cost is one write per workman every ten seconds, however many tasks and accounts there are, and nothing while no
//! task arrives.
//!
//! Readers [fold](AccountCounts::read) the rows of workmen that are gone into one. If such a workman is still alive, it
//! finds its row gone and begins another one.

mod rows;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AccountId, QueueName};
use mill_ports::{Clock, KeyRange, Row, RowKey, RowPrecondition, RowVersion, Table, TableError, error_chain};
use tracing::debug;

use rows::CountsRow;
pub use writer::CountsWriter;

/// A workman whose row was not written for this long is gone.
const GONE_AFTER: Duration = Duration::from_hours(24);

/// The row of all workmen that are gone. No workman's name is empty.
const FOLDED_ROW: &str = "";

/// The repository, for one queue.
#[derive(Clone)]
pub struct AccountCounts {
    /// The table of the rows.
    pub table: Arc<dyn Table>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The queue.
    pub queue: QueueName,
}

impl fmt::Debug for AccountCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountCounts").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// The counts of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountCount {
    /// Tasks received; each delivery counts.
    pub received: u64,
    /// Tasks that have left the queue for good: done, dead-lettered, or sent to another queue.
    pub ended: u64,
}

/// Sums by account.
pub type CountsByAccount = BTreeMap<AccountId, AccountCount>;

/// Adds `more` to `to`.
pub fn add_counts(to: &mut CountsByAccount, more: &CountsByAccount) {
    for (account, AccountCount { received, ended }) in more {
        let sum = to.entry(account.clone()).or_default();
        sum.received += received;
        sum.ended += ended;
    }
}

impl AccountCounts {
    /// The table's name.
    pub const TABLE: &'static str = "account-counts";
    const PAGE_ROWS: usize = 1_000;

    /// The sums of all workmen. Rows of workmen that are gone are folded into one, which keeps only the accounts in
    /// `known`: nobody needs earlier counts of other accounts.
    ///
    /// # Errors
    /// The table's, if the rows cannot be read. Rows that cannot be folded now are folded the next time.
    pub async fn read(&self, known: &BTreeSet<AccountId>) -> Result<CountsByAccount, TableError> {
        let mut folded = (CountsRow::default(), None);
        let mut rows = BTreeMap::new();
        for row in self.rows().await? {
            let Row { sort, version, .. } = &row;
            match CountsRow::read(&row) {
                Some(read) if sort == FOLDED_ROW => folded = (read, Some(version.clone())),
                Some(read) => drop(rows.insert(sort.clone(), read)),
                None => {}
            }
        }
        let folded = self.fold(folded, &rows, known).await;
        let mut counts = folded.counts;
        rows.iter()
            .filter(|(name, _)| !folded.of.contains(*name))
            .for_each(|(_, row)| add_counts(&mut counts, &row.counts));
        Ok(counts)
    }

    async fn rows(&self) -> Result<Vec<Row>, TableError> {
        let (mut rows, mut range) = (Vec::new(), KeyRange::default());
        loop {
            let page = self.table.query(&self.queue.to_string(), &range, Self::PAGE_ROWS).await?;
            range.after = page.rows.last().map(|row| row.sort.clone()).or(range.after);
            rows.extend(page.rows);
            if page.end {
                return Ok(rows);
            }
        }
    }

    /// Adds the rows of workmen that are gone to the row that stands for them, and then deletes them. Returns that row
    /// as it is now. It lists the names of the rows that it includes, so that a row that is still there counts once.
    async fn fold(
        &self,
        (folded, version): (CountsRow, Option<RowVersion>),
        rows: &BTreeMap<String, CountsRow>,
        known: &BTreeSet<AccountId>,
    ) -> CountsRow {
        let now = self.clock.now();
        let is_gone = |(name, row): &(&String, &CountsRow)| {
            (row.last || now.since(row.written) >= GONE_AFTER) && !folded.of.contains(*name)
        };
        let mut more = folded.clone();
        more.of.retain(|name| rows.contains_key(name));
        let gone: Vec<_> = rows.iter().filter(is_gone).collect();
        if !gone.is_empty() {
            for (name, row) in gone {
                add_counts(&mut more.counts, &row.counts);
                more.of.insert(name.clone());
            }
            more.counts.retain(|account, _| known.contains(account));
            more.written = now;
            let when = version.map_or(RowPrecondition::Absent, RowPrecondition::VersionIs);
            if let Err(error) = self.table.put(&self.key(FOLDED_ROW), more.value(), when).await {
                // Another process folds them, or they are folded the next time.
                debug!(error = error_chain(&error), "rows of workmen that are gone were not folded");
                return folded;
            }
        }
        for name in &more.of {
            if let Err(error) = self.table.delete(&self.key(name), RowPrecondition::Always).await {
                debug!(error = error_chain(&error), "a row of a workman that is gone was not deleted");
            }
        }
        more
    }

    fn key(&self, name: &str) -> RowKey {
        RowKey::new(self.queue.to_string(), name)
    }
}

#[cfg(test)]
mod tests;
