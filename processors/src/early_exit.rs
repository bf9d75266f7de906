//! Why the work on a task ended early.

use mill_ports::{BoxError, FailureClass, ProcessorError, StoreError, TaskOutcome, error_chain};
use mill_records::owners::OwnerError;

use crate::refusals::RefusedDeed;
use crate::retry::HasStoreError;

/// The reasons to end the work on a task early.
#[derive(Debug)]
pub(crate) enum EarlyExit {
    /// The outcome is known: there is nothing to do, or not now.
    TaskOutcome(TaskOutcome),
    /// The task cannot be done, now or later.
    Refused {
        /// What is refused of the item.
        deed: RefusedDeed,
        /// Why.
        reason: String,
    },
    /// A store failed.
    Store(StoreError),
    /// Something else failed.
    Failed {
        /// What becomes of the task.
        class: FailureClass,
        /// What went wrong.
        source: BoxError,
    },
}

impl EarlyExit {
    pub(crate) fn discard(reason: impl Into<String>) -> Self {
        Self::TaskOutcome(TaskOutcome::Discard { reason: reason.into() })
    }
}

impl From<StoreError> for EarlyExit {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ProcessorError> for EarlyExit {
    fn from(error: ProcessorError) -> Self {
        Self::Failed { class: error.class.clone(), source: error.into() }
    }
}

impl From<OwnerError> for EarlyExit {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Table(error) => Self::Failed { class: FailureClass::Retryable, source: error.into() },
            other => Self::Refused { deed: RefusedDeed::Copy, reason: error_chain(&other) },
        }
    }
}

impl HasStoreError for EarlyExit {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
