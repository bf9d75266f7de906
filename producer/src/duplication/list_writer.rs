//! Writes a delete list: its rows in order, each full before the next one.

use mill_model::{DeleteListId, SpacePair};
use mill_records::delete_lists::rows::IdsDigest;
use mill_records::delete_lists::{DeleteListError, DeleteListRow, DeleteLists, ListedId};

/// Writes the rows of one list. Rows without a head have no effect.
pub(crate) struct ListWriter<'a> {
    lists: &'a DeleteLists,
    pair: &'a SpacePair,
    list: DeleteListId,
    row: DeleteListRow,
    rows: u32,
    count: u64,
    digest: IdsDigest,
}

/// The totals of the rows, as the head states them.
#[derive(Debug)]
pub(crate) struct RowsSummary {
    pub(crate) rows: u32,
    pub(crate) count: u64,
    pub(crate) digest: String,
}

impl<'a> ListWriter<'a> {
    pub(crate) fn new(lists: &'a DeleteLists, pair: &'a SpacePair, list: DeleteListId) -> Self {
        let (row, digest) = (DeleteListRow::default(), IdsDigest::default());
        Self { lists, pair, list, row, rows: 0, count: 0, digest }
    }

    /// Adds an id. Ids must come in byte order.
    pub(crate) async fn push(&mut self, listed: ListedId) -> Result<(), DeleteListError> {
        if self.row.is_full() {
            self.flush().await?;
        }
        self.digest.add(&listed.id);
        self.count += 1;
        self.row.ids.push(listed);
        Ok(())
    }

    /// Writes the last row and returns the totals.
    pub(crate) async fn finish(mut self) -> Result<RowsSummary, DeleteListError> {
        self.flush().await?;
        Ok(RowsSummary { rows: self.rows, count: self.count, digest: self.digest.finish() })
    }

    async fn flush(&mut self) -> Result<(), DeleteListError> {
        if !self.row.ids.is_empty() {
            self.lists.put_row(self.pair, self.list, self.rows, &self.row).await?;
            self.rows += 1;
            self.row.ids.clear();
        }
        Ok(())
    }
}
