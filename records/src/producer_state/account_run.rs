//! The rows of runs.

use bytes::Bytes;
use mill_model::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use super::rows::Record;
use crate::stored_rows::json;

/// A run: one loop over everything that an account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRun {
    /// The account.
    pub account: AccountId,
    /// Its number, unique among all runs of the account (see [`AccountRun::number`]).
    pub number: u64,
    /// When it began. The frequency counts from here.
    pub started: Timestamp,
    /// Whether its morsels are in the table, except those of stores that did not answer.
    pub listed: bool,
    /// When its loop was complete, except for parts that failed.
    pub finished: Option<Timestamp>,
}

/// The run over all accounts at once, as an earlier version wrote it. It is read as the run of each account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOfAllAccounts {
    /// Its number.
    pub number: u64,
    /// When it began.
    pub started: Timestamp,
    /// Whether each account had its row.
    pub listed: bool,
    /// When it was complete.
    pub finished: Option<Timestamp>,
}

impl AccountRun {
    /// The number of the `nth` run that begins under the lease of `epoch`, if `last` is the account's previous run.
    ///
    /// An epoch belongs to one lease, so a producer that was paused cannot have written rows of that number and never
    /// will, even if the row of the previous run is gone or one lease lasts for many runs of an account.
    pub fn number(epoch: u64, nth: u32, last: Option<&Self>) -> u64 {
        let number = epoch.min(u64::from(u32::MAX)) << 32 | u64::from(nth);
        // If the row of the lease was lost, epochs start again.
        last.map_or(number, |last| number.max(last.number.saturating_add(1)))
    }
}

impl RunOfAllAccounts {
    /// The run of one account.
    pub fn of(&self, account: AccountId) -> AccountRun {
        let &Self { number, started, listed, finished } = self;
        AccountRun { account, number, started, listed, finished }
    }
}

#[derive(Serialize, Deserialize)]
struct RunValue {
    epoch: u64,
    number: u64,
    started: u64,
    #[serde(default)]
    listed: bool,
    #[serde(default)]
    finished: Option<u64>,
}

impl RunValue {
    fn new(epoch: u64, run: &RunOfAllAccounts) -> Self {
        let &RunOfAllAccounts { number, started, listed, finished } = run;
        Self { epoch, number, started: started.as_millis(), listed, finished: finished.map(Timestamp::as_millis) }
    }

    fn read(value: &[u8]) -> Option<RunOfAllAccounts> {
        let Self { number, started, listed, finished, .. } = serde_json::from_slice(value).ok()?;
        let (started, finished) = (Timestamp::from_millis(started), finished.map(Timestamp::from_millis));
        Some(RunOfAllAccounts { number, started, listed, finished })
    }
}

impl Record for AccountRun {
    /// An earlier version does not read this prefix as its own row of a run.
    const PREFIX: &str = "account-run/";

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, self.account.as_str())
    }

    fn value(&self, epoch: u64) -> Bytes {
        let &Self { number, started, listed, finished, .. } = self;
        json(&RunValue::new(epoch, &RunOfAllAccounts { number, started, listed, finished }))
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let account = AccountId::new(sort.strip_prefix(Self::PREFIX)?).ok()?;
        Some(RunValue::read(value)?.of(account))
    }
}

impl Record for RunOfAllAccounts {
    const PREFIX: &str = "run";

    fn sort(&self) -> String {
        Self::PREFIX.to_owned()
    }

    fn value(&self, epoch: u64) -> Bytes {
        json(&RunValue::new(epoch, self))
    }

    fn read(_sort: &str, value: &[u8]) -> Option<Self> {
        RunValue::read(value)
    }
}
