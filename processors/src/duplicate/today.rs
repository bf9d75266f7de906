//! Today's policy for a task, which may have been sent under another.

use std::time::Duration;

use mill_ports::Outcome;
use mill_records::seals::Pair;
use tracing::warn;

use super::stop::Stop;
use crate::stub::{PolicyBook, PolicyError, StorePolicy};

/// How long a task waits whose policy cannot be read.
const UNKNOWN_DELAY: Duration = Duration::from_mins(1);

/// What today's policy says.
#[derive(Debug)]
pub(super) enum Today {
    /// This store policy asks for the pair to be in step.
    Covers(StorePolicy),
    /// None does.
    Discard {
        /// Why.
        reason: &'static str,
    },
    /// Nobody knows.
    Unknown(PolicyError),
}

/// Asks for the store policy that covers a pair.
pub(super) async fn ask(policies: &PolicyBook, pair: &Pair) -> Today {
    match policies.account(&pair.account).await {
        Ok(account) => match account.covering(&pair.space, &pair.source, &pair.destination) {
            Some(policy) => Today::Covers(policy),
            None => Today::Discard { reason: "no store policy covers it any more" },
        },
        Err(PolicyError::NotListed { .. }) => Today::Discard { reason: "its account is not listed any more" },
        Err(error) => Today::Unknown(error),
    }
}

/// Unknown is neither yes nor no: the task waits, and has not failed.
pub(super) fn unknown(subject: &impl std::fmt::Display, error: &PolicyError) -> Stop {
    warn!(%subject, error = %mill_ports::chain(error), "today's policy cannot be read; the task waits");
    Stop::Outcome(Outcome::Snooze { delay: UNKNOWN_DELAY, task: None })
}
