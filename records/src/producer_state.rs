//! The state of a looping producer: what each account's run still has to do, and how far each part has come.
//!
//! There is one row for each account's run, one for each account with stores that did not list their spaces, one for
//! each morsel, and the rows of one kind of producer ([`PlanRows`]): duplication has one for each missing source space.
//! Rows of finished work are removed, so that an account without them has a finished loop. Five kinds of rows stay: the
//! last run of each account, the last survey of each morsel, what could not be surveyed since, how many tasks the queue
//! may hold, and how many of each account were sent. Each kind of producer has its own partition of the table.
//!
//! Each save is conditional on the row as this producer last wrote or read it, and all rows are written again if the
//! last holder did not release the lease. So a producer whose lease was taken over cannot save any more. It may not
//! change what it reads after that either: a row of a later epoch shows that its lease is over.

mod account_run;
mod account_share;
mod duplication_rows;
mod plan_rows;
mod rows;
mod survey_failure;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt as _};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::AccountId;
use mill_ports::{
    Backoff, Clock, KeyRange, Row, RowKey, RowPrecondition, RowVersion, Table, TableError, TableErrorKind,
};
use tracing::warn;

pub use account_run::{AccountRun, RunOfAllAccounts};
pub use account_share::AccountShare;
pub use duplication_rows::{DeleteProgress, DuplicationRows, MissingSpace, PairMorsel, PairSurvey};
pub use plan_rows::{MorselRow, MorselSubject, PlanRows, SubjectOf, SurveyRow};
pub use rows::{QueueSize, Record, UnansweredStores};
pub use survey_failure::{SurveyFailure, SurveySubject};

use crate::versioned::Versioned;

/// Why the table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProducerStateError {
    /// Another producer has written the row: the lease is lost, or the table was reset.
    #[error("another producer has written the row `{sort}`")]
    TakenOver {
        /// The row.
        sort: String,
    },
    /// The table did not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// All rows of a producer, except its surveys.
#[derive(Debug)]
pub struct ProducerRows<R: PlanRows> {
    /// The current or last run of each account.
    pub runs: Vec<Versioned<AccountRun>>,
    /// The run over all accounts, if an earlier version has written one.
    pub run_of_all: Option<Versioned<RunOfAllAccounts>>,
    /// Accounts with stores that did not list their spaces.
    pub accounts: Vec<Versioned<UnansweredStores>>,
    /// The morsels that are not finished, in order.
    pub morsels: Vec<Versioned<R::Morsel>>,
    /// The rows of this kind of producer.
    pub plan: R,
    /// How many tasks the queue may hold, if the producer has found that out.
    pub queue_size: Option<Versioned<QueueSize>>,
    /// The accounts' shares of the queue, if it does not report them.
    pub shares: Vec<Versioned<AccountShare>>,
    /// What could not be surveyed since its last survey.
    pub failures: Vec<Versioned<SurveyFailure<SubjectOf<R>>>>,
}

/// The rows of an account's run, except the row of the run itself.
#[derive(Debug)]
pub struct AccountRunRows<M> {
    /// The stores that did not list their spaces.
    pub unanswered: Option<Versioned<UnansweredStores>>,
    /// The morsels that are not finished, in order.
    pub morsels: Vec<Versioned<M>>,
}

impl<M> Default for AccountRunRows<M> {
    fn default() -> Self {
        Self { unanswered: None, morsels: Vec::new() }
    }
}

/// The key of the row of a producer's lease.
pub fn lease_key(producer: &str) -> RowKey {
    RowKey::new(producer, "lease")
}

/// The repository of one kind of producer, for one holder of the lease.
#[derive(Debug)]
pub struct ProducerState<R> {
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    partition: String,
    epoch: u64,
    rows: PhantomData<R>,
}

impl<R: PlanRows> ProducerState<R> {
    const TRIES_MAX: u32 = 5;
    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    const PAGE_ROWS: usize = 1_000;
    const WRITES_AT_ONCE: usize = 16;

    /// The state of `producer`, written under the lease of `epoch`.
    pub fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>, producer: &str, epoch: u64) -> Self {
        Self { table, clock, partition: producer.to_owned(), epoch, rows: PhantomData }
    }

    /// The state of `producer` for a reader, which holds no lease and writes nothing.
    pub fn to_read(table: Arc<dyn Table>, clock: Arc<dyn Clock>, producer: &str) -> Self {
        Self::new(table, clock, producer, u64::MAX)
    }

    /// The epoch of the lease under which it writes.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Reads all rows. With `claim`, writes each of them first, so that no earlier holder of the lease can save it any
    /// more.
    ///
    /// # Errors
    /// [`ProducerStateError::TakenOver`] when a later holder has written one; the table's own.
    pub async fn load(&self, claim: bool) -> Result<ProducerRows<R>, ProducerStateError> {
        if claim && !is_planted(PlantedBug::RowsNotClaimed) {
            // Of any epoch: if the lease's row was lost, epochs start again.
            let found = self.read(u64::MAX).await?;
            let surveys = self.rows_up_to::<R::Survey>(u64::MAX).await?;
            // After the read: a producer that was paused before it sees what a later holder has written since.
            self.ensure_lease_is_ours().await?;
            self.claim(found.runs).await?;
            self.claim(found.run_of_all.into_iter().collect()).await?;
            self.claim(found.accounts).await?;
            self.claim(found.morsels).await?;
            found.plan.claim(self).await?;
            self.claim(found.queue_size.into_iter().collect()).await?;
            self.claim(surveys).await?;
            self.claim(found.shares).await?;
            self.claim(found.failures).await?;
        }
        self.read(self.epoch).await
    }

    /// Writes rows again as they were read, unless another process has written them since.
    ///
    /// # Errors
    /// As [`Self::save`]; some rows may be claimed then.
    pub async fn claim<K: Record>(&self, rows: Vec<Versioned<K>>) -> Result<(), ProducerStateError> {
        let claims = rows.into_iter().map(Ok);
        let claim = |mut row: Versioned<K>| async move { self.save(&mut row).await };
        stream::iter(claims).try_for_each_concurrent(Self::WRITES_AT_ONCE, claim).await
    }

    /// Checks that no later holder has the lease. If the lease's row was lost, nothing is known.
    async fn ensure_lease_is_ours(&self) -> Result<(), ProducerStateError> {
        let key = lease_key(&self.partition);
        match self.table.get(&key).await? {
            Some(lease) if rows::epoch(&lease.value) != self.epoch => {
                Err(ProducerStateError::TakenOver { sort: key.sort })
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, epoch_max: u64) -> Result<ProducerRows<R>, ProducerStateError> {
        Ok(ProducerRows {
            runs: self.rows_up_to(epoch_max).await?,
            run_of_all: self.rows_up_to(epoch_max).await?.pop(),
            accounts: self.rows_up_to(epoch_max).await?,
            morsels: self.rows_up_to(epoch_max).await?,
            plan: R::read(self, epoch_max).await?,
            queue_size: self.rows_up_to(epoch_max).await?.pop(),
            shares: self.rows_up_to(epoch_max).await?,
            failures: self.rows_up_to(epoch_max).await?,
        })
    }

    /// Saves a row; it is durable when this returns.
    ///
    /// # Errors
    /// [`ProducerStateError::TakenOver`] when another has written it meanwhile.
    pub async fn save<K: Record>(&self, row: &mut Versioned<K>) -> Result<(), ProducerStateError> {
        let (key, value) = self.encode(&row.record);
        let when = row.precondition();
        let when = if is_planted(PlantedBug::UnconditionalSave) { RowPrecondition::Always } else { when };
        let mut tries = 0;
        loop {
            let error = match self.table.put(&key, value.clone(), when.clone()).await {
                Ok(version) => {
                    row.version = Some(version);
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.kind == TableErrorKind::Conflict {
                // An earlier try that got no answer may have been written: then the row equals it, epoch included.
                match self.table.get(&key).await? {
                    Some(found) if found.value == value => {
                        row.version = Some(found.version);
                        return Ok(());
                    }
                    _ => return Err(ProducerStateError::TakenOver { sort: key.sort }),
                }
            }
            self.pause_or_fail(&mut tries, error).await?;
        }
    }

    /// Saves a row as [`Self::save`] does. An unsaved row also replaces what an earlier holder of the lease has written
    /// since.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub async fn save_over_earlier<K: Record>(&self, row: &mut Versioned<K>) -> Result<(), ProducerStateError> {
        if row.is_unsaved() {
            row.version = Some(self.write_unless_later(&row.record).await?);
            return Ok(());
        }
        self.save(row).await
    }

    /// Removes the row of finished work.
    ///
    /// # Errors
    /// [`ProducerStateError::TakenOver`] when another has written it meanwhile.
    pub async fn remove<K: Record>(&self, row: &Versioned<K>) -> Result<(), ProducerStateError> {
        let Some(version) = &row.version else { return Ok(()) };
        let when = RowPrecondition::VersionIs(version.clone());
        let when = if is_planted(PlantedBug::UnconditionalRemoval) { RowPrecondition::Always } else { when };
        let key = RowKey::new(&*self.partition, row.record.sort());
        let mut tries = 0;
        loop {
            let error = match self.table.delete(&key, when.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind == TableErrorKind::Conflict {
                match self.table.get(&key).await? {
                    None => return Ok(()),
                    Some(_) => return Err(ProducerStateError::TakenOver { sort: key.sort }),
                }
            }
            self.pause_or_fail(&mut tries, error).await?;
        }
    }

    /// Removes many rows.
    ///
    /// # Errors
    /// As [`Self::remove`]; some rows may be removed then.
    pub async fn remove_all<K: Record + Sync>(&self, rows: &[Versioned<K>]) -> Result<(), ProducerStateError> {
        let removals = rows.iter().map(|row| Ok(self.remove(row)));
        stream::iter(removals).try_for_each_concurrent(Self::WRITES_AT_ONCE, |removal| removal).await
    }

    /// Saves many rows concurrently, each as [`Self::save_over_earlier`] does.
    ///
    /// # Errors
    /// As [`Self::save`]; some rows may be saved then.
    pub async fn save_all_over_earlier<'a, K: Record + 'a>(
        &self,
        rows: impl Iterator<Item = &'a mut Versioned<K>>,
    ) -> Result<(), ProducerStateError> {
        let saves = rows.map(|row| Ok(self.save_over_earlier(row)));
        stream::iter(saves).try_for_each_concurrent(Self::WRITES_AT_ONCE, |save| save).await
    }

    /// The rows of an account's run, except the row of the run itself and its surveys.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn parts_of(&self, account: &AccountId) -> Result<AccountRunRows<R::Morsel>, ProducerStateError> {
        let mut accounts = self
            .rows::<UnansweredStores>(&format!("{}{}", UnansweredStores::PREFIX, account.as_str()), self.epoch)
            .await?;
        // Another account's name may begin with this one's.
        accounts.retain(|row| row.record.account == *account);
        let morsels = self.rows_of_account(account).await?;
        Ok(AccountRunRows { unanswered: accounts.pop(), morsels })
    }

    /// Adds morsels of one account, and returns all morsels that it has now.
    ///
    /// # Errors
    /// As [`Self::load`]; some morsels may be added then.
    pub async fn add_morsels(
        &self,
        account: &AccountId,
        rows: &[R::Morsel],
    ) -> Result<Vec<Versioned<R::Morsel>>, ProducerStateError> {
        self.add_rows(rows).await?;
        self.rows_of_account(account).await
    }

    /// Saves surveys, over those that earlier holders of the lease made of these morsels.
    ///
    /// # Errors
    /// [`ProducerStateError::TakenOver`] when a later holder has surveyed one; the table's. Some surveys may be saved
    /// then.
    pub async fn note_surveys(&self, surveys: &[R::Survey]) -> Result<(), ProducerStateError> {
        let notes = surveys.iter().map(|survey| Ok(self.write_unless_later(survey)));
        stream::iter(notes).try_for_each_concurrent(Self::WRITES_AT_ONCE, async |note| note.await.map(drop)).await
    }

    /// Adds rows, over those of earlier holders. Few of them are expected to exist.
    async fn add_rows<K: Record>(&self, rows: &[K]) -> Result<(), ProducerStateError> {
        let adds = rows.iter().map(|row| Ok(self.add_row(row)));
        stream::iter(adds).try_for_each_concurrent(Self::WRITES_AT_ONCE, |add| add).await
    }

    async fn add_row(&self, row: &impl Record) -> Result<(), ProducerStateError> {
        let (key, value) = self.encode(row);
        match self.table.put(&key, value, RowPrecondition::Absent).await {
            Ok(_) => Ok(()),
            Err(_) => self.write_unless_later(row).await.map(drop),
        }
    }

    /// Writes a row unless a later holder of the lease has written it.
    async fn write_unless_later(&self, row: &impl Record) -> Result<RowVersion, ProducerStateError> {
        let (key, value) = self.encode(row);
        let mut tries = 0;
        loop {
            let error = match self.write_over_earlier(&key, &value).await {
                Ok(Some(version)) => return Ok(version),
                Ok(None) => return Err(ProducerStateError::TakenOver { sort: key.sort }),
                Err(error) => error,
            };
            // Another process wrote meanwhile: read again to see which epoch it has.
            if error.kind == TableErrorKind::Conflict && tries < Self::TRIES_MAX {
                tries += 1;
                continue;
            }
            self.pause_or_fail(&mut tries, error).await?;
        }
    }

    /// Writes a row unless a later holder of the lease has written it.
    async fn write_over_earlier(&self, key: &RowKey, value: &Bytes) -> Result<Option<RowVersion>, TableError> {
        let when = match self.table.get(key).await? {
            Some(row) if row.value == *value => return Ok(Some(row.version)),
            Some(row) if rows::epoch(&row.value) > self.epoch => return Ok(None),
            Some(row) => RowPrecondition::VersionIs(row.version),
            None => RowPrecondition::Absent,
        };
        self.table.put(key, value.clone(), when).await.map(Some)
    }

    /// The last survey of each morsel of an account.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn surveys_of(&self, account: &AccountId) -> Result<Vec<Versioned<R::Survey>>, ProducerStateError> {
        self.rows_of_account(account).await
    }

    /// The last survey of each morsel.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn surveys(&self) -> Result<Vec<Versioned<R::Survey>>, ProducerStateError> {
        self.rows_up_to(self.epoch).await
    }

    /// What could not be surveyed since its last survey.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn failures(&self) -> Result<Vec<Versioned<SurveyFailure<SubjectOf<R>>>>, ProducerStateError> {
        self.rows_up_to(self.epoch).await
    }

    /// The rows of one kind, in order. Fails if a holder of a later epoch than `epoch_max` wrote one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn rows_up_to<K: Record>(&self, epoch_max: u64) -> Result<Vec<Versioned<K>>, ProducerStateError> {
        self.rows(K::PREFIX, epoch_max).await
    }

    /// The rows of one kind whose keys begin with the account.
    async fn rows_of_account<K: Record>(&self, account: &AccountId) -> Result<Vec<Versioned<K>>, ProducerStateError> {
        self.rows(&format!("{}{}/", K::PREFIX, account.as_str()), self.epoch).await
    }

    async fn rows<K: Record>(&self, prefix: &str, epoch_max: u64) -> Result<Vec<Versioned<K>>, ProducerStateError> {
        let mut out = Vec::new();
        let mut range = KeyRange { prefix: prefix.to_owned(), after: None };
        let mut tries = 0;
        loop {
            let page = match self.table.query(&self.partition, &range, Self::PAGE_ROWS).await {
                Ok(page) => page,
                Err(error) => {
                    self.pause_or_fail(&mut tries, error).await?;
                    continue;
                }
            };
            if let Some(later) = page.rows.iter().find(|row| rows::epoch(&row.value) > epoch_max) {
                return Err(ProducerStateError::TakenOver { sort: later.sort.clone() });
            }
            range.after = page.rows.last().map(|row| row.sort.clone()).or(range.after);
            out.extend(page.rows.into_iter().filter_map(decode));
            if page.end {
                return Ok(out);
            }
        }
    }

    fn encode(&self, row: &impl Record) -> (RowKey, Bytes) {
        (RowKey::new(&*self.partition, row.sort()), row.value(self.epoch))
    }

    async fn pause_or_fail(&self, tries: &mut u32, error: TableError) -> Result<(), ProducerStateError> {
        *tries += 1;
        if !error.kind.is_retryable() || *tries >= Self::TRIES_MAX {
            return Err(error.into());
        }
        self.clock.sleep(Self::BACKOFF.pause(*tries)).await;
        Ok(())
    }
}

fn decode<K: Record>(row: Row) -> Option<Versioned<K>> {
    let read = K::read(&row.sort, &row.value);
    if read.is_none() {
        // Nothing is lost: the next run finds the same work again.
        warn!(sort = row.sort, "a row of the producer's table cannot be read; it is passed over");
    }
    Some(Versioned { record: read?, version: Some(row.version) })
}

#[cfg(test)]
mod tests;
