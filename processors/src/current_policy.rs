//! The current policy for a task, which may have been sent under another.

use std::time::Duration;

use mill_model::SpacePair;
use mill_policy::{Coverage, StorePolicy};
use mill_ports::{TaskOutcome, error_chain};
use mill_records::policies::{PolicyError, PolicyRepository};
use tracing::debug;

use crate::early_exit::EarlyExit;

/// How long a task is snoozed whose policy cannot be read: less than a minute, also after the delay was aligned.
const UNKNOWN_DELAY: Duration = Duration::from_secs(52);

/// What the current policy says of a pair.
#[derive(Debug)]
pub(crate) enum CurrentPolicy {
    /// This store policy covers the pair.
    Covers(StorePolicy),
    /// No store policy covers the pair.
    Discard {
        /// Why.
        reason: &'static str,
    },
    /// The policy cannot be read.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Looks up the store policy that covers a pair.
pub(crate) async fn look_up(policies: &PolicyRepository, pair: &SpacePair) -> CurrentPolicy {
    match policies.account(&pair.account).await {
        Ok(account) => match account.coverage(pair) {
            Coverage::Covered(policy) => CurrentPolicy::Covers(policy),
            Coverage::NotCovered => CurrentPolicy::Discard { reason: "no store policy covers it any more" },
            Coverage::Stopped => CurrentPolicy::Unknown { reason: "the policy of its space contradicts itself".into() },
        },
        Err(PolicyError::NotListed { .. }) => CurrentPolicy::Discard { reason: "its account is not listed any more" },
        Err(error) => CurrentPolicy::Unknown { reason: error_chain(&error) },
    }
}

/// Snoozes a task whose policy cannot be read. The task has not failed.
pub(crate) fn snooze_until_known(subject: &impl std::fmt::Display, reason: &str) -> EarlyExit {
    // The repository of policies warns of each fault, once.
    debug!(%subject, reason, "today's policy cannot be told; the task waits");
    EarlyExit::TaskOutcome(TaskOutcome::Snooze { delay: UNKNOWN_DELAY, task: None })
}
