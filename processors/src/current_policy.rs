//! Today's policy for a task, which may have been sent under another.

use std::time::Duration;

use mill_policy::{Coverage, StorePolicy};
use mill_ports::{TaskOutcome, error_chain};
use mill_records::policies::{PolicyError, PolicyRepository};
use mill_records::sync_proofs::SpacePair;
use tracing::debug;

use crate::early_exit::EarlyExit;

/// How long a task waits whose policy cannot be told: with the company that it comes in, less than a minute.
const UNKNOWN_DELAY: Duration = Duration::from_secs(52);

/// What today's policy says.
#[derive(Debug)]
pub(crate) enum CurrentPolicy {
    /// This store policy asks for the pair to be in sync.
    Covers(StorePolicy),
    /// None does.
    Discard {
        /// Why.
        reason: &'static str,
    },
    /// Nobody knows: neither yes nor no.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Asks for the store policy that covers a pair.
pub(crate) async fn ask(policies: &PolicyRepository, pair: &SpacePair) -> CurrentPolicy {
    match policies.account(&pair.account).await {
        Ok(account) => match account.coverage(&pair.space, &pair.source, &pair.destination) {
            Coverage::Covered(policy) => CurrentPolicy::Covers(policy),
            Coverage::NotCovered => CurrentPolicy::Discard { reason: "no store policy covers it any more" },
            Coverage::Stopped => CurrentPolicy::Unknown { reason: "the policy of its space contradicts itself".into() },
        },
        Err(PolicyError::NotListed { .. }) => CurrentPolicy::Discard { reason: "its account is not listed any more" },
        Err(error) => CurrentPolicy::Unknown { reason: error_chain(&error) },
    }
}

/// The task waits, and has not failed.
pub(crate) fn waits(subject: &impl std::fmt::Display, reason: &str) -> EarlyExit {
    // The book of policies warns of each fault, once.
    debug!(%subject, reason, "today's policy cannot be told; the task waits");
    EarlyExit::TaskOutcome(TaskOutcome::Snooze { delay: UNKNOWN_DELAY, task: None })
}
