//! The sections that do not depend on the engine. The section of the engine is in `engine_choice`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use mill_model::QueueName;
use serde::Deserialize;

use super::values::{self, QueueMax};

/// Where the policy files are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoliciesConfig {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// The bucket that holds them instead, or `BUCKET/PREFIX`.
    #[serde(deserialize_with = "values::given")]
    pub bucket: Option<String>,
    /// How old a policy in use may be.
    #[serde(deserialize_with = "values::duration")]
    pub refresh: Duration,
}

/// How a producer works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProducerConfig {
    /// From the start of an account's loop to that of its next.
    #[serde(deserialize_with = "values::duration")]
    pub frequency: Duration,
    /// How many tasks the queue may hold.
    #[serde(deserialize_with = "values::parsed")]
    pub queue_max: QueueMax,
    /// Items of a space queued in one turn.
    #[serde(deserialize_with = "values::one_or_more")]
    pub nibble: NonZeroUsize,
}

/// How a workman works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WorkmanConfig {
    /// Items in flight at once; 0 for no limit.
    #[serde(deserialize_with = "values::number")]
    pub workers: u32,
    /// The queues that it serves, highest priority first.
    #[serde(deserialize_with = "values::list")]
    pub queues: Vec<QueueName>,
    /// How long a task in flight stays hidden from others.
    #[serde(deserialize_with = "values::duration")]
    pub visibility: Duration,
    /// Failed executions before a task is dead-lettered.
    #[serde(deserialize_with = "values::number")]
    pub failures_max: u32,
    /// Per cent of workers kept for the lowest queue.
    #[serde(deserialize_with = "values::percent")]
    pub reserved_low: u8,
    /// Per cent of workers kept for the higher queues.
    #[serde(deserialize_with = "values::percent")]
    pub reserved_high: u8,
    /// Pauses of the lower queues while nothing is found.
    #[serde(deserialize_with = "values::durations")]
    pub idle_backoff: Vec<Duration>,
    /// How long a gentle stop waits for items in flight.
    #[serde(deserialize_with = "values::duration")]
    pub grace: Duration,
    /// The program that is called for each new space.
    #[serde(deserialize_with = "values::given")]
    pub new_space_command: Option<String>,
}
