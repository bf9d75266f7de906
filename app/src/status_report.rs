//! The status of an installation: queues, producers, policies, stores, copies and dead letters.

mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The status of an installation. Times are texts for people and machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// The seven queues.
    pub queues: Vec<QueueStatus>,
    /// The loops of the duplication producer.
    pub duplication_producer: ProducerStatus,
    /// The accounts, their policies and stores.
    pub accounts: Vec<AccountStatus>,
    /// The copies that policies cover.
    pub pairs: Vec<PairStatus>,
    /// How many dead letters wait for a person.
    pub dead_letters_open: u64,
}

/// The depth of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Tasks that are ready.
    pub visible: u64,
    /// Tasks that are in flight.
    pub in_flight: u64,
    /// Tasks that are delayed.
    pub delayed: u64,
    /// The age of the oldest task, if it is known.
    pub oldest_seconds: Option<u64>,
}

/// The status of the loops of all accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProducerStatus {
    /// The loop of the account that is furthest behind.
    #[serde(flatten)]
    pub run: RunStatus,
    /// Whether the loops of all accounts are one: they began together, and all or none have ended.
    pub one_loop: bool,
    /// The loop of each account.
    pub runs: Vec<AccountRunStatus>,
}

/// The status of an account's loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountRunStatus {
    /// The account.
    pub account: String,
    /// Its loop.
    #[serde(flatten)]
    pub run: RunStatus,
}

/// When a loop began and ended, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunStatus {
    /// When the last one began.
    pub run_started: Option<String>,
    /// When it ended.
    pub run_finished: Option<String>,
    /// When the next one is due.
    pub next_run: Option<String>,
    /// How many morsels are left.
    pub morsels_left: usize,
}

/// The status of an account's policy and stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountStatus {
    /// The account; `None` if the policy files cannot be read, so that no account is known.
    pub account: Option<String>,
    /// Which version of its policy is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInUse>,
    /// Why the policy files of today are not in use.
    pub trouble: Option<String>,
    /// Its stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stores: Option<Vec<StoreStatus>>,
}

impl AccountStatus {
    fn unknown(trouble: String) -> Self {
        Self { account: None, policy: None, trouble: Some(trouble), stores: None }
    }
}

/// Which version of an account's policy is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PolicyInUse {
    /// That of today.
    #[serde(rename = "current")]
    Current,
    /// The last one that could be read.
    #[serde(rename = "last good version")]
    LastGood,
    /// None.
    #[serde(rename = "none")]
    Nothing,
}

impl fmt::Display for PolicyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::LastGood => "last good version",
            Self::Nothing => "none",
        })
    }
}

/// Whether a store answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// The store.
    pub store: String,
    /// How many spaces it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spaces: Option<usize>,
    /// Why its spaces are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The status of the copy of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairStatus {
    /// The account.
    pub account: String,
    /// The space.
    pub space: String,
    /// The store that it is copied from.
    pub source: String,
    /// The store that it is copied to.
    pub destination: String,
    /// What the last survey found, if there was one.
    #[serde(flatten)]
    pub survey: Option<SurveyStatus>,
    /// The failed surveys since then, if there were any.
    #[serde(flatten)]
    pub failure: Option<FailureStatus>,
    /// The last verification, or the last one that found faults which no later one has found gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
}

/// What a verification found of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerificationStatus {
    /// Its id among the runs.
    pub run: String,
    /// When it ended.
    pub ended: String,
    /// Per cent of the items whose bytes it read.
    pub sample: u8,
    /// How many items are not as they should be.
    pub faults: u64,
}

/// What the last survey of a space found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SurveyStatus {
    /// When it began.
    pub surveyed: String,
    /// As of when the copy is in sync, if it is.
    pub in_sync_as_of: Option<String>,
    /// How many of the queued items are not proven to be equal.
    pub unproven: u64,
    /// How many deletes are held back.
    pub held: u64,
    /// What it counted, by the counters' names.
    #[serde(flatten)]
    pub counts: BTreeMap<&'static str, u64>,
}

/// The failed surveys of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureStatus {
    /// The first time since the last survey.
    pub failed_since: Option<String>,
    /// The last time.
    pub failed_last: String,
    /// Why.
    pub failed_reason: String,
}
