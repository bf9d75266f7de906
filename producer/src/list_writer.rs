//! A delete list being written: its rows first, each full before the next.

use mill_model::DeleteListId;
use mill_records::delete_lists::rows::IdsDigest;
use mill_records::delete_lists::{DeleteListError, DeleteLists, ListRow, ListedId};
use mill_records::sync_proofs::SpacePair;

/// Writes the rows of one list. Without a head they mean nothing yet.
pub(crate) struct ListWriter<'a> {
    lists: &'a DeleteLists,
    pair: &'a SpacePair,
    list: DeleteListId,
    row: ListRow,
    rows: u32,
    count: u64,
    digest: IdsDigest,
}

/// What the rows come to.
#[derive(Debug)]
pub(crate) struct WrittenRows {
    pub(crate) rows: u32,
    pub(crate) count: u64,
    pub(crate) digest: String,
}

impl<'a> ListWriter<'a> {
    pub(crate) fn new(lists: &'a DeleteLists, pair: &'a SpacePair, list: DeleteListId) -> Self {
        let (row, digest) = (ListRow::default(), IdsDigest::default());
        Self { lists, pair, list, row, rows: 0, count: 0, digest }
    }

    /// Adds an id. They come in the order of their bytes.
    pub(crate) async fn push(&mut self, listed: ListedId) -> Result<(), DeleteListError> {
        if self.row.is_full() {
            self.flush().await?;
        }
        self.digest.add(&listed.id);
        self.count += 1;
        self.row.ids.push(listed);
        Ok(())
    }

    /// Writes what is left.
    pub(crate) async fn finish(mut self) -> Result<WrittenRows, DeleteListError> {
        self.flush().await?;
        Ok(WrittenRows { rows: self.rows, count: self.count, digest: self.digest.finish() })
    }

    /// What the rows will come to, and the writer of the last one: a bug on purpose, nothing else ever does.
    pub(crate) fn finish_later(mut self) -> (WrittenRows, Self) {
        let digest = std::mem::take(&mut self.digest).finish();
        let rows = self.rows + u32::from(!self.row.ids.is_empty());
        (WrittenRows { rows, count: self.count, digest }, self)
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
