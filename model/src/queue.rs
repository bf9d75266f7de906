//! The seven queues.

use std::fmt;
use std::str::FromStr;

use crate::ids::{IdError, shorten_for_display};

/// The name of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueName {
    /// Changes to log, index and duplicate.
    Audit,
    /// Duplication of what has just changed.
    DuplicationHigh,
    /// Duplication of what the looping producer finds.
    DuplicationLow,
    /// Content items to read again and verify.
    BitIntegrity,
    /// Bit errors to resolve.
    BitError,
    /// Spaces whose checks are complete and can be reported.
    BitReport,
    /// Tasks that failed for good.
    DeadLetter,
}

impl QueueName {
    /// All seven, in the order of the design.
    pub const ALL: [Self; 7] = [
        Self::Audit,
        Self::DuplicationHigh,
        Self::DuplicationLow,
        Self::BitIntegrity,
        Self::BitError,
        Self::BitReport,
        Self::DeadLetter,
    ];

    /// The name in messages and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::DuplicationHigh => "duplication-high",
            Self::DuplicationLow => "duplication-low",
            Self::BitIntegrity => "bit-integrity",
            Self::BitError => "bit-error",
            Self::BitReport => "bit-report",
            Self::DeadLetter => "dead-letter",
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QueueName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == text).ok_or_else(|| IdError {
            what: "queue",
            shown: shorten_for_display(text),
            why: "the queues are audit, duplication-high, duplication-low, bit-integrity, bit-error, bit-report \
                  and dead-letter",
        })
    }
}
