//! How a command ended.

use crate::UsageError;
use crate::stop_tokens::StoppedError;
use crate::wait_limit::NoAnswerError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResultCode {
    /// Done.
    Done,
    /// Done, and nothing had to be changed; only with `--detailed-exit-code`.
    Unchanged,
    /// Done with warnings: something was refused, excluded or held back, or there was nothing to do.
    Warnings,
    /// Done in part: items failed or are missing at the end, a path does not answer, or the run was stopped.
    Partial,
    /// It could not be done.
    Error,
    /// The arguments make no sense.
    BadArguments,
}

impl ResultCode {
    /// How a command ends that returns this error.
    pub fn of_error(error: &anyhow::Error) -> Self {
        match () {
            () if error.is::<UsageError>() => Self::BadArguments,
            () if error.is::<StoppedError>() || error.is::<NoAnswerError>() => Self::Partial,
            () => Self::Error,
        }
    }

    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unchanged => 1,
            Self::Warnings => 2,
            Self::Partial => 50,
            Self::Error => 100,
            Self::BadArguments => 200,
        }
    }
}
