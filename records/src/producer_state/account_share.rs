//! The row of an account's share of the queue.

use bytes::Bytes;
use mill_model::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use super::rows::Record;
use crate::stored_rows::json;

/// An account's share of a queue that does not report its depth by account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountShare {
    /// The account.
    pub account: AccountId,
    /// The number of tasks sent. It starts with the number of those that had ended by then.
    pub sent: u64,
    /// When a task of the account was last sent, or seen to be received.
    pub since: Timestamp,
    /// The number of its deliveries counted by then.
    pub received: u64,
    /// The number of deliveries of all accounts by then.
    pub received_of_all: u64,
}

#[derive(Serialize, Deserialize)]
struct AccountShareValue {
    epoch: u64,
    sent: u64,
    since: u64,
    received: u64,
    received_of_all: u64,
}

impl Record for AccountShare {
    const PREFIX: &str = "share/";

    fn sort(&self) -> String {
        format!("{}{}", Self::PREFIX, self.account.as_str())
    }

    fn value(&self, epoch: u64) -> Bytes {
        let &Self { sent, since, received, received_of_all, .. } = self;
        json(&AccountShareValue { epoch, sent, since: since.as_millis(), received, received_of_all })
    }

    fn read(sort: &str, value: &[u8]) -> Option<Self> {
        let account = AccountId::new(sort.strip_prefix(Self::PREFIX)?).ok()?;
        let AccountShareValue { sent, since, received, received_of_all, .. } = serde_json::from_slice(value).ok()?;
        Some(Self { account, sent, since: Timestamp::from_millis(since), received, received_of_all })
    }
}
