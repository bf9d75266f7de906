//! What the last runs of an installation or a mirror came to.
//!
//! A run is written down when it begins, and again when it has ended: one that was killed has no end. Each run has two
//! rows: a small one, by which runs are listed, and one with what it named.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mill_model::Timestamp;
use mill_ports::{KeyRange, Rng, RowKey, RowPrecondition, Table, TableError};
use serde::{Deserialize, Serialize};

use crate::stored_rows::json;

/// The partition of runs, in the table of producers.
const PARTITION: &str = "runs";
const HEAD: &str = "head/";
const DETAILS: &str = "details/";

/// Identifies a run: when it began, and a few random digits. Ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// A new id.
    pub fn new(began: Timestamp, rng: &dyn Rng) -> Self {
        let digits: String = began.to_string().chars().filter(char::is_ascii_digit).collect();
        Self(format!("{digits}-{:04x}", rng.next_u64() & 0xffff))
    }

    /// Makes an id from a person's text. Whether there is such a run is not checked.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mill_model::ids::shorten_for_display(&self.0))
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHead {
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// When it ended; `None` for a run that goes on or was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Its closing sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sentence: String,
    /// Its counters that are not zero.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sums: BTreeMap<String, u64>,
    /// What it compared, if it was a verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifiedScope>,
}

/// What a verification compared, and where it found damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedScope {
    /// The account that it was about, if only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The space that it was about, if only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Per cent of the items whose bytes it read.
    pub sample: u8,
    /// The copies with faults, by their names, and how many each has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub damaged: BTreeMap<String, u64>,
    /// Of these faults, how many a later run sets right if it leaves the copy in sync.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mended_by_a_run: BTreeMap<String, u64>,
}

/// What a run named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetails {
    /// Its first remarks.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// How many more there were.
    #[serde(default)]
    pub remarks_more: u64,
    /// The first items that it changed or could not, each as a line.
    #[serde(default)]
    pub items: Vec<String>,
    /// How many more there were.
    #[serde(default)]
    pub items_more: u64,
}

impl RunDetails {
    /// The most bytes of the texts of either list. A row has a limit in some back ends.
    pub const BYTES_MAX: usize = 100_000;

    /// Keeps as many texts as fit, and counts the rest.
    pub fn bounded(remarks: Vec<String>, (items, items_more): (Vec<String>, u64)) -> Self {
        let (remarks, remarks_more) = first_of(remarks);
        let (items, more) = first_of(items);
        Self { remarks, remarks_more, items, items_more: items_more + more }
    }
}

fn first_of(texts: Vec<String>) -> (Vec<String>, u64) {
    let (mut bytes, all) = (0, texts.len());
    let fits = |text: &String| {
        bytes += text.len();
        bytes <= RunDetails::BYTES_MAX
    };
    let first: Vec<String> = texts.into_iter().take_while(fits).collect();
    let more = (all - first.len()) as u64;
    (first, more)
}

/// The runs.
#[derive(Debug, Clone)]
pub struct RunLog {
    table: Arc<dyn Table>,
}

/// A table that failed, or a row that nobody can read.
#[derive(Debug, thiserror::Error)]
pub enum RunLogError {
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A row of a later version, or a damaged one.
    #[error("the row of the run `{run}` cannot be read: a newer mill wrote it, or it is damaged")]
    Unreadable {
        /// The run.
        run: RunId,
    },
}

impl RunLog {
    /// How many runs are kept.
    pub const RUNS_MAX: usize = 100;

    /// The runs in the table of producers.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Writes down that a run begins, and forgets the oldest.
    ///
    /// # Errors
    /// The table's.
    pub async fn begin(&self, run: &RunId, head: &RunHead) -> Result<(), RunLogError> {
        self.table.put(&key(HEAD, run), json(head), RowPrecondition::Always).await?;
        let runs = self.ids().await?;
        for old in runs.iter().take(runs.len().saturating_sub(Self::RUNS_MAX)) {
            // The head comes last: a run without one would stay for ever.
            self.table.delete(&key(DETAILS, old), RowPrecondition::Always).await?;
            self.table.delete(&key(HEAD, old), RowPrecondition::Always).await?;
        }
        Ok(())
    }

    /// Writes down what a run came to.
    ///
    /// # Errors
    /// The table's.
    pub async fn end(&self, run: &RunId, head: &RunHead, details: &RunDetails) -> Result<(), RunLogError> {
        self.table.put(&key(DETAILS, run), json(details), RowPrecondition::Always).await?;
        self.table.put(&key(HEAD, run), json(head), RowPrecondition::Always).await?;
        Ok(())
    }

    /// All runs, the last one first.
    ///
    /// # Errors
    /// The table's; [`RunLogError::Unreadable`].
    pub async fn list(&self) -> Result<Vec<(RunId, RunHead)>, RunLogError> {
        let mut runs = self.heads(|run, value| Ok((run.clone(), read(&run, value)?))).await?;
        runs.reverse();
        Ok(runs)
    }

    /// A run; `None` if there is none of this id. A run that has not ended names nothing.
    ///
    /// # Errors
    /// The table's; [`RunLogError::Unreadable`].
    pub async fn get(&self, run: &RunId) -> Result<Option<(RunHead, RunDetails)>, RunLogError> {
        let Some(head) = self.table.get(&key(HEAD, run)).await? else { return Ok(None) };
        let details = match self.table.get(&key(DETAILS, run)).await? {
            Some(row) => read(run, &row.value)?,
            None => RunDetails::default(),
        };
        Ok(Some((read(run, &head.value)?, details)))
    }

    async fn ids(&self) -> Result<Vec<RunId>, RunLogError> {
        self.heads(|run, _| Ok(run)).await
    }

    async fn heads<T>(&self, each: impl Fn(RunId, &[u8]) -> Result<T, RunLogError>) -> Result<Vec<T>, RunLogError> {
        let mut range = KeyRange { prefix: HEAD.to_owned(), after: None };
        let mut all = Vec::new();
        loop {
            let page = self.table.query(PARTITION, &range, 1_000).await?;
            for row in &page.rows {
                let id = row.sort.strip_prefix(HEAD).unwrap_or(&row.sort);
                all.push(each(RunId::of_text(id), &row.value)?);
            }
            match page.rows.last() {
                Some(last) if !page.end => range.after = Some(last.sort.clone()),
                _ => return Ok(all),
            }
        }
    }
}

fn key(sort: &str, run: &RunId) -> RowKey {
    RowKey::new(PARTITION, format!("{sort}{}", run.as_str()))
}

fn read<T: for<'d> Deserialize<'d>>(run: &RunId, value: &[u8]) -> Result<T, RunLogError> {
    serde_json::from_slice(value).map_err(|_| RunLogError::Unreadable { run: run.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_table::TestTable;

    #[derive(Debug)]
    struct Digits;

    impl Rng for Digits {
        fn next_u64(&self) -> u64 {
            0xa_beef
        }
    }

    #[tokio::test]
    async fn the_last_hundred_runs_are_kept_and_one_that_was_killed_has_no_end() {
        let log = RunLog::new(Arc::new(TestTable::default()));
        let id = |number: u64| RunId::new(Timestamp::from_millis(1_790_000_000_000 + number * 1_000), &Digits);
        assert_eq!(id(0).as_str(), "20260921141320000-beef");
        for number in 0..103 {
            log.begin(&id(number), &RunHead { began: number, ..RunHead::default() }).await.unwrap();
            let head = RunHead { began: number, ended: Some(number + 1), exit_code: Some(2), ..RunHead::default() };
            let details = RunDetails::bounded(vec!["r".repeat(60_000); 2], (vec![number.to_string()], 7));
            if number < 102 {
                log.end(&id(number), &head, &details).await.unwrap();
            }
        }
        let runs = log.list().await.unwrap();
        assert_eq!((runs.len(), runs[0].0.clone(), runs[99].0.clone()), (100, id(102), id(3)));
        assert_eq!((runs[0].1.ended, runs[1].1.exit_code), (None, Some(2)));
        let (_, details) = log.get(&id(101)).await.unwrap().unwrap();
        assert_eq!((details.remarks.len(), details.remarks_more), (1, 1));
        assert_eq!((details.items, details.items_more), (vec!["101".to_owned()], 7));
        assert_eq!(log.get(&id(2)).await.unwrap(), None);
    }
}
