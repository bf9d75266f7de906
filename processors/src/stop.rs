//! Why a look ended before its end.

use mill_ports::{BoxError, FailureClass, ProcessorError, StoreError, TaskOutcome};

use crate::tries::OfStore;

/// The reasons to go no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The answer is known: nothing is to be done, or not now.
    TaskOutcome(TaskOutcome),
    /// It cannot be done, now or later.
    Refused {
        /// Why.
        reason: String,
    },
    /// A store failed.
    Store(StoreError),
    /// Something else failed.
    Failed {
        /// What is to become of the task.
        class: FailureClass,
        /// What went wrong.
        source: BoxError,
    },
}

impl Stop {
    pub(crate) fn discard(reason: impl Into<String>) -> Self {
        Self::TaskOutcome(TaskOutcome::Discard { reason: reason.into() })
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ProcessorError> for Stop {
    fn from(error: ProcessorError) -> Self {
        Self::Failed { class: error.class.clone(), source: error.into() }
    }
}

impl OfStore for Stop {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
