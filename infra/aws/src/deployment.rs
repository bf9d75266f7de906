//! What a deployment must have: the names, settings and keys that the code assumes, said once.
//!
//! [`provision`] makes queues and tables that keep it, [`check`] compares it with what is there, and the template in
//! `infra/deploy` is held to it by a test.

mod check;
mod provision;

use std::collections::BTreeMap;
use std::time::Duration;

use mill_model::QueueName;

pub use check::{CheckError, DeploymentSpec, Deviation, check};
pub use provision::{ProvisionError, provision, remove};

/// A table's partition key.
pub const PARTITION_KEY: &str = "p";
/// A table's sort key.
pub const SORT_KEY: &str = "s";
/// The attribute of a row's value.
pub const VALUE_ATTRIBUTE: &str = "v";
/// The attribute of a row's mark, which each write changes.
pub const VERSION_ATTRIBUTE: &str = "m";

/// A message received this often is moved to the dead-letter queue by the service itself.
pub const RECEIVES_MAX: u32 = 10;

/// How long a queue keeps a message: the longest there is.
pub const RETENTION: Duration = Duration::from_hours(14 * 24);

/// How long a message is hidden where a receive does not say; Mill's always do.
pub const VISIBILITY: Duration = Duration::from_mins(1);

/// Most bytes of a message, whoever sends it: no more than a workman can send on among the dead letters, and than a row of
/// their book takes.
pub const MESSAGE_BYTES_MAX: u32 = 256 * 1024;

/// The books of an installation, each a table.
pub const TABLES: [&str; 8] = [
    "producer-state",
    "seals",
    "owners",
    "dead-letters",
    "folder-properties",
    "delete-lists",
    "permits",
    "account-counts",
];

/// The names of one installation's queues and tables: all begin alike, so that several can share an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceNames {
    prefix: String,
}

impl ResourceNames {
    /// Names that begin with `prefix` and a hyphen.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// A queue's name.
    pub fn queue(&self, queue: QueueName) -> String {
        format!("{}-{queue}", self.prefix)
    }

    /// A book's table.
    pub fn table(&self, book: &str) -> String {
        format!("{}-{book}", self.prefix)
    }

    /// What all of them begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The settings that a queue must have. Its redrive apart: that names another queue.
pub fn queue_settings() -> BTreeMap<&'static str, String> {
    let seconds = |duration: Duration| duration.as_secs().to_string();
    BTreeMap::from([
        ("MessageRetentionPeriod", seconds(RETENTION)),
        ("VisibilityTimeout", seconds(VISIBILITY)),
        ("MaximumMessageSize", MESSAGE_BYTES_MAX.to_string()),
        ("DelaySeconds", "0".to_owned()),
    ])
}

/// Whether the service itself moves a queue's messages to the dead-letter queue: all but that one's.
pub fn has_redrive(queue: QueueName) -> bool {
    queue != QueueName::DeadLetter
}
