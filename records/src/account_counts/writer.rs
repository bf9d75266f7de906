//! Writes the counts of one workman.

use bytes::Bytes;
use mill_ports::{RowPrecondition, RowVersion, TableError, TableErrorKind};

use super::rows::CountsRow;
use super::{AccountCounts, CountsByAccount, add_counts};

/// The most accounts in one row; a workman with more begins another row.
const ROW_ACCOUNTS: usize = 500;

/// How often a write is tried again when the row has changed since.
const TRIES_MAX: u32 = 3;

/// Writes one workman's sums.
#[derive(Debug)]
pub struct CountsWriter {
    table: AccountCounts,
    /// The workman's name. It is unique, and a restarted workman has a new one.
    holder: String,
    /// Which of its rows it writes.
    part: u32,
    /// The row as it certainly is in the table.
    kept: CountsByAccount,
    version: Option<RowVersion>,
    /// The value of the last write. It may be in the table even if the write got no answer.
    tried: Bytes,
}

impl CountsWriter {
    /// Makes the writer of a workman that has counted nothing yet.
    pub fn new(table: AccountCounts, holder: String) -> Self {
        Self { table, holder, part: 0, kept: CountsByAccount::new(), version: None, tried: Bytes::new() }
    }

    /// Adds what was counted since the last successful call. `last`: no call follows.
    ///
    /// # Errors
    /// The table's. Then pass the same counts again, together with what was counted meanwhile.
    pub async fn add(&mut self, fresh: &CountsByAccount, last: bool) -> Result<(), TableError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut counts = self.kept.clone();
            add_counts(&mut counts, fresh);
            if counts.len() > ROW_ACCOUNTS && !self.kept.is_empty() {
                self.begin_another_row();
                continue;
            }
            let row = CountsRow { written: self.table.clock.now(), last, counts, ..CountsRow::default() };
            let when = self.version.clone().map_or(RowPrecondition::Absent, RowPrecondition::VersionIs);
            let before = std::mem::replace(&mut self.tried, row.value());
            match self.table.table.put(&self.key(), self.tried.clone(), when).await {
                Ok(version) => {
                    (self.kept, self.version) = (row.counts, Some(version));
                    return Ok(());
                }
                Err(error) if error.kind == TableErrorKind::Conflict && tries < TRIES_MAX => {
                    self.adopt_unanswered_write(&before).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds out what the table has: the value of an earlier write that got no answer, or no row of this workman.
    async fn adopt_unanswered_write(&mut self, before: &Bytes) -> Result<(), TableError> {
        match self.table.table.get(&self.key()).await? {
            Some(row) if row.value == *before || row.value == self.tried => self.version = Some(row.version),
            _ => self.begin_another_row(),
        }
        Ok(())
    }

    fn begin_another_row(&mut self) {
        self.part += 1;
        (self.kept, self.version) = (CountsByAccount::new(), None);
    }

    fn key(&self) -> mill_ports::RowKey {
        self.table.key(&format!("{}/{}", self.holder, self.part))
    }
}
