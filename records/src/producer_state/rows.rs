//! The rows and their written form: ids in the sort key, progress in a JSON value.

use bytes::Bytes;
use mill_model::{AccountId, StoreId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::stored_rows::json;

/// A row of the table.
pub trait Record: Sized + Send + Sync {
    /// The prefix of the sort keys of all rows of this kind, and of no others.
    const PREFIX: &str;

    /// Its sort key. No id in it contains a `/`.
    fn sort(&self) -> String;
    /// Its value: a JSON object whose member `epoch` is the epoch of the lease under which it is written.
    fn value(&self, epoch: u64) -> Bytes;
    /// Reads a row; `None` if it cannot be understood.
    fn read(sort: &str, value: &[u8]) -> Option<Self>;
}

/// An account with stores that did not list their spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnansweredStores {
    /// The account.
    pub account: AccountId,
    /// The run it belongs to.
    pub run: u64,
    /// The stores whose spaces are unknown. Empty in rows of an earlier version: then the spaces of all stores are
    /// unknown.
    pub unanswered: Vec<StoreId>,
}

/// How many tasks the producer lets its queue hold, if it finds that out by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSize {
    /// The maximum.
    pub max: u64,
    /// When the last session stopped because the queue was full, and how many tasks it held then.
    pub full: Option<(Timestamp, u64)>,
}

#[derive(Serialize, Deserialize)]
struct QueueSizeValue {
    epoch: u64,
    max: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    full: Option<(u64, u64)>,
}

impl Record for QueueSize {
    const PREFIX: &str = "queue-size";

    fn sort(&self) -> String {
        Self::PREFIX.to_owned()
    }

    fn value(&self, epoch: u64) -> Bytes {
        let full = self.full.map(|(at, depth)| (at.as_millis(), depth));
        json(&QueueSizeValue { epoch, max: self.max, full })
    }

    fn read(_sort: &str, value: &[u8]) -> Option<Self> {
        let QueueSizeValue { max, full, .. } = serde_json::from_slice(value).ok()?;
        Some(Self { max, full: full.map(|(at, depth)| (Timestamp::from_millis(at), depth)) })
    }
}

/// The epoch under which a row was written; 0 if the row has none.
pub(super) fn epoch(value: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct EpochOnly {
        epoch: u64,
    }
    serde_json::from_slice(value).map_or(0, |written: EpochOnly| written.epoch)
}

#[derive(Serialize, Deserialize)]
struct UnansweredStoresValue {
    epoch: u64,
    run: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<String>,
}

impl Record for UnansweredStores {
    const PREFIX: &str = "account/";

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, self.account.as_str())
    }

    fn value(&self, epoch: u64) -> Bytes {
        let unanswered = self.unanswered.iter().map(|store| store.as_str().to_owned()).collect();
        json(&UnansweredStoresValue { epoch, run: self.run, unanswered })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let account = AccountId::new(sort.strip_prefix(Self::PREFIX)?).ok()?;
        let UnansweredStoresValue { run, unanswered, .. } = serde_json::from_slice(value).ok()?;
        let unanswered = unanswered.into_iter().map(StoreId::new).collect::<Result<_, _>>().ok()?;
        Some(Self { account, run, unanswered })
    }
}
