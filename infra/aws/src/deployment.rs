//! What a deployment must have: the names, settings and keys that the code assumes, defined once.
//!
//! [`provision`] makes such queues and tables, [`check`] compares a deployment with these definitions, and a test compares
//! the template in `infra/deploy` with them.

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
/// The attribute of a row's version, which each write changes.
pub const VERSION_ATTRIBUTE: &str = "m";

/// The service itself moves a message to the dead-letter queue after this many receives.
pub const RECEIVES_MAX: u32 = 10;

/// How long a queue keeps a message: the longest time that SQS allows.
pub const RETENTION: Duration = Duration::from_hours(14 * 24);

/// The visibility timeout of a receive that sets none. Mill's receives always set one.
pub const VISIBILITY: Duration = Duration::from_mins(1);

/// Most bytes of a message, whoever sends it: no more than a workman can send to the dead letters, and than a row of the
/// dead-letter table holds.
pub const MESSAGE_BYTES_MAX: u32 = 256 * 1024;

/// The names of one installation's queues and tables. They share a prefix, so that several installations can share an
/// account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceNames {
    prefix: String,
    tables: Vec<&'static str>,
}

impl ResourceNames {
    /// Names that begin with `prefix` and a hyphen, of all queues and of these `tables`.
    pub fn new(prefix: impl Into<String>, tables: impl IntoIterator<Item = &'static str>) -> Self {
        Self { prefix: prefix.into(), tables: tables.into_iter().collect() }
    }

    /// A queue's name.
    pub fn queue(&self, queue: QueueName) -> String {
        format!("{}-{queue}", self.prefix)
    }

    /// The name of a table.
    pub fn table(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The tables, without their prefix.
    pub fn tables(&self) -> &[&'static str] {
        &self.tables
    }

    /// The prefix of all names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The settings that a queue must have, except for its redrive policy, which names another queue.
pub fn queue_settings() -> BTreeMap<&'static str, String> {
    let seconds = |duration: Duration| duration.as_secs().to_string();
    BTreeMap::from([
        ("MessageRetentionPeriod", seconds(RETENTION)),
        ("VisibilityTimeout", seconds(VISIBILITY)),
        ("MaximumMessageSize", MESSAGE_BYTES_MAX.to_string()),
        ("DelaySeconds", "0".to_owned()),
    ])
}

/// Whether a queue has a redrive policy: each queue but the dead-letter queue.
pub fn has_redrive(queue: QueueName) -> bool {
    queue != QueueName::DeadLetter
}
